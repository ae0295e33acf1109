"""Which devices can be on the bus, in one table, and how they are written on the command line."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from emgd_drivers.emg8.protocol import MAX_CHANNELS
from emgd_drivers.fields import Field, FieldError, check_fields
from emgd_drivers.ncs1 import protocol as ncs1
from emgd_drivers.sim.bus.cdc_device import CdcAcmDevice, UsbIdentity
from emgd_drivers.sim.bus.emg8_device import Emg8UsbDevice
from emgd_drivers.sim.bus.port import Bus, BusError
from emgd_drivers.sim.bus.usb_device import UsbDevice
from emgd_drivers.sim.device import build, signal_of
from emgd_drivers.sim.driver import MAX_SPEED
from emgd_drivers.sim.faults import ALLOWED_FORMS, MAX_DRIFT_PPM
from emgd_drivers.sim.spec import DeviceSpec

Make = Callable[[int], UsbDevice]
"""Builds a device that is powered up at a time (ns)."""

TRUTHS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

NAME_FIELD: Final = Field("name", str, "what the control socket calls it; else its serial number", "", 0, 64)
NAME_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
"""A name is one word on the control socket and part of a file's name."""


@dataclass(frozen=True, slots=True)
class DeviceKind:
    """A kind of device: its options, and how it is made from them. `prepare` raises BusError in one line."""

    text: str
    fields: tuple[Field, ...]
    prepare: Callable[[Mapping[str, Any]], Make]


EMG8_FIELDS: Final = (
    Field("serial", str, "serial number", "EMG8-000001", 1, 32),
    Field("channels", int, "how many channels", 8, 1, MAX_CHANNELS),
    Field("rate_hz", float, "samples per second and channel", 48_000.0, 1000, 100_000),
    Field("triggers", bool, "a trigger mark once a second", False),
    Field("length", int, "samples after which the signal ends; 0 = never", 0, 0),
    Field("recording", str, "play this file instead of made-up EMG (docs/replay.md)", ""),
    Field("sidecar", str, "rate, unit and labels that the recording does not tell; else the file beside it", ""),
    Field("loop", bool, "begin the recording again at its end", False),
    Field("speed", float, "times real time; 0 = as fast as possible", 1.0, 0, MAX_SPEED),
    Field(
        "drift_ppm",
        float,
        "error of the crystal; positive = its ticks are too long",
        0.0,
        -MAX_DRIFT_PPM,
        MAX_DRIFT_PPM,
    ),
    Field("fifo_bytes", int, "size of the sample FIFO; 0 = a quarter of a second", 0, 0),
    Field("faults", list, f"may be given again; one of {ALLOWED_FORMS}", (), 0, 1000),
)


def _emg8(options: Mapping[str, Any]) -> Make:
    faults = tuple(options["faults"])
    if options["drift_ppm"]:
        faults = (*faults, f"drift={options['drift_ppm']:.9f}ppm")
    spec = DeviceSpec(
        signal="recording" if options["recording"] else "synthetic",
        channels=options["channels"],
        rate_hz=options["rate_hz"],
        triggers=options["triggers"],
        length=options["length"] or None,
        path=options["recording"],
        sidecar=options["sidecar"] or None,
        loop=options["loop"],
        speed=options["speed"],
        serial=options["serial"],
        faults=faults,
        fifo_bytes=options["fifo_bytes"] or None,
    )
    signal = signal_of(spec)  # Once: a recording takes a while to read, and each plug shall be quick.
    build(spec, signal, 0)  # Refuses what cannot be now, instead of at the next plug.
    return lambda now_ns: Emg8UsbDevice(build(spec, signal, now_ns))


def _serial_kind(text: str, identity: UsbIdentity, module: str) -> DeviceKind:
    """A serial model as a CDC-ACM device. Its module has FIELDS, with a serial number, and
    `make_model(options, now_ns) -> SerialModel`.
    """
    found = import_module(module)

    def prepare(options: Mapping[str, Any]) -> Make:
        found.make_model(options, 0)  # Refuses what cannot be now, instead of at the next plug.
        return lambda now_ns: CdcAcmDevice(found.make_model(options, now_ns), identity, options["serial"])

    return DeviceKind(f"{text}, {identity.vendor:04x}:{identity.product:04x}", tuple(found.FIELDS), prepare)


_HERE: Final = "emgd_drivers.sim.bus"
_DUE: Final = UsbIdentity(0x2341, 0x003E, "Arduino LLC", "Arduino Due")
_DONGLE: Final = UsbIdentity(0x1209, 0x0004, "emgd project", "Cyton dongle")
"""The real dongle has an FTDI chip, which is not CDC-ACM; behind its port the bytes are the same."""

_NCS1: Final = UsbIdentity(ncs1.VENDOR, ncs1.PRODUCT, "emgd project", "ncs1")
_TEST_SERIAL: Final = UsbIdentity(0x1209, 0x0003, "emgd project", "loopback")

KINDS: Final[dict[str, DeviceKind]] = {
    "emg8": DeviceKind("the reference amplifier, vendor bulk, 1209:0001", EMG8_FIELDS, _emg8),
    "hackeeg": _serial_kind("HackEEG on an Arduino Due, CDC-ACM", _DUE, "emgd_drivers.sim.hackeeg"),
    "cyton": _serial_kind("OpenBCI Cyton, as CDC-ACM", _DONGLE, "emgd_drivers.sim.cyton"),
    "ncs1": _serial_kind("the reference stimulator, CDC-ACM", _NCS1, "emgd_drivers.sim.stimulator"),
    "loopback": _serial_kind("a CDC-ACM port that sends back what it gets", _TEST_SERIAL, f"{_HERE}.loopback"),
}
"""Kind as written on the command line -> what it is."""


def add_device(bus: Bus, text: str, now_ns: int) -> None:
    """Put a device on the bus as it is written on the command line, such as `emg8,serial=EMG8-000002,channels=4`.

    BusError in one line for what cannot be.
    """
    kind_name, _, rest = text.partition(",")
    kind = KINDS.get(kind_name)
    if kind is None:
        raise BusError(f"there is no kind of device {kind_name!r}; choose {', '.join(KINDS)}")
    fields = (*kind.fields, NAME_FIELD)
    try:
        options = check_fields(fields, _given(fields, rest))
        make = kind.prepare(options)
        name = options["name"] or re.sub(r"[^A-Za-z0-9._-]", "-", options["serial"])
        if not NAME_PATTERN.fullmatch(name):
            raise BusError(f"{text}: name is {name!r}; write letters, digits, dots, dashes and underscores")
        bus.add(name, kind_name, make, now_ns)
    except (FieldError, ValueError, OSError) as error:
        raise BusError(f"{text}: {error}") from None


def _given(fields: Sequence[Field], text: str) -> dict[str, Any]:
    """KEY=VALUE,… as values of the kinds that the fields have."""
    known = {field.name: field for field in fields}
    given: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        field = known.get(name)
        if not equals:
            raise BusError(f"{part!r} is no option; write NAME=VALUE with NAME one of {', '.join(known)}")
        if field is not None and field.kind is list:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise BusError(f"{name} is given twice")
        else:
            given[name] = value if field is None else _value(field, value)
    return given


def _value(field: Field, text: str) -> Any:
    """A text as the field's kind; as it is when it cannot be read as such, so that the field says what is allowed."""
    try:
        if field.kind in (int, float):
            return field.kind(text)
    except ValueError:
        return text
    return TRUTHS.get(text, text) if field.kind is bool else text
