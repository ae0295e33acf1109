"""From a clinical preset or numbers to second-order sections, and what a user should know of them.

High-pass and low-pass are designed apart (never one wide band-pass, which loses digits below 2 Hz), Butterworth,
causal. Designed by SciPy (filter_design.py), run by
emgd_ext.cascade.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from emgd import filter_design
from emgd_drivers.fields import Field, FieldError, Problem
from emgd_ext.cascade import Cascade

MAX_BAND_EDGE: Final = 0.45
"""Highest cut-off as a share of the sample rate: closer to one half the bilinear transform bends a filter out of
shape."""

LOWEST_HZ: Final = 0.02
HIGHEST_HIGH_PASS_HZ: Final = 5000.0
MAX_ORDER: Final = 4
SETTLED: Final = 1e-3
"""A filter counts as settled when its slowest response has fallen to this share."""

GROUP_DELAY_AT_HZ: Final = (20.0, 100.0, 500.0, 1000.0, 3000.0)
"""Where the group delay is stated: where hum, surface EMG, MUAP spikes and fast fibres have their energy."""


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """Filter of one channel; None = that part is off."""

    preset: str | None = None
    high_pass_hz: float | None = None
    high_pass_order: int = 1
    low_pass_hz: float | None = None
    low_pass_order: int = 2
    notch_hz: float | None = None
    notch_q: float = 30.0


def _preset(name: str, high_pass_hz: float, low_pass_hz: float, orders: tuple[int, int] = (1, 2)) -> FilterSpec:
    return FilterSpec(name, high_pass_hz, orders[0], low_pass_hz, orders[1])


# Bands from the table of recording settings by test that the project works from (AANEM/IFCN-style practice). Where
# practice gives a range, the low cut is the lower end for tests that read amplitude or duration off the wave. The low
# cut is of first order and the high cut of second, as in clinical amplifiers: a steeper low cut adds a false late
# phase to a CMAP. The notch is off everywhere.
PRESETS: Final[dict[str, FilterSpec]] = {
    spec.preset: spec
    for spec in (
        FilterSpec("off"),
        _preset("needle_rest", 20, 10_000),
        _preset("needle_muap", 5, 10_000),
        _preset("needle_full", 20, 10_000),
        _preset("muap_quant", 2, 10_000),
        _preset("interference", 20, 10_000),
        _preset("motor", 2, 10_000),
        _preset("sensory", 20, 2_000),
        _preset("f_wave", 20, 10_000),
        _preset("h_reflex", 2, 10_000),
        _preset("rns", 2, 10_000),
        _preset("blink", 10, 10_000),
        _preset("sfemg", 500, 10_000, (2, 2)),
        _preset("jitter_concentric", 1_000, 10_000, (2, 2)),
        _preset("surface", 20, 450, (2, 4)),
    )
    if spec.preset
}

FIELDS: Final = (
    Field("preset", str, "named clinical setting", None, choices=tuple(PRESETS)),
    Field("high_pass_hz", float, "low cut; 0 = off", None, 0, HIGHEST_HIGH_PASS_HZ),
    Field("high_pass_order", int, "6 dB per octave each", None, 1, MAX_ORDER),
    Field("low_pass_hz", float, "high cut; 0 = off", None, 0, 50_000),
    Field("low_pass_order", int, "6 dB per octave each", None, 1, MAX_ORDER),
    Field("notch_hz", float, "mains notch; 0 = off", None, 0, 1000),
    Field("notch_q", float, "sharpness of the notch", None, 1, 100),
)
"""What configuration and the `filter` verb take; a number beside a preset replaces the preset's."""


def spec_from(values: dict[str, Any]) -> FilterSpec:
    """A spec from checked FIELDS: the preset, if any, with the numbers that were given beside it."""
    spec = PRESETS[values.get("preset") or "off"]
    given = {key: value for key, value in values.items() if key != "preset" and value is not None}
    changes: dict[str, Any] = {key: (value or None if key.endswith("_hz") else value) for key, value in given.items()}
    if changes:
        spec = replace(spec, **changes, preset=values.get("preset"))
    return spec


@dataclass(frozen=True, slots=True)
class Designed:
    """A spec made real at one sample rate: sections (n, 6), their states zi (n, 2), and what to publish."""

    spec: FilterSpec
    sections: npt.NDArray[np.float64]
    zi: npt.NDArray[np.float64]
    settle_samples: int
    group_delay_us: dict[str, float]
    note: str

    def as_map(self) -> dict[str, Any]:
        """The `filter` map of a description (docs/protocol.md)."""
        spec = self.spec
        return {
            "preset": spec.preset,
            "high_pass_hz": spec.high_pass_hz,
            "high_pass_order": spec.high_pass_order if spec.high_pass_hz else None,
            "low_pass_hz": spec.low_pass_hz,
            "low_pass_order": spec.low_pass_order if spec.low_pass_hz else None,
            "notch_hz": spec.notch_hz,
            "notch_q": spec.notch_q if spec.notch_hz else None,
            "settle_samples": self.settle_samples,
            "group_delay_us": self.group_delay_us,
            "note": self.note,
        }


def design(spec: FilterSpec, rate_hz: float) -> Designed:
    """Make a spec real at `rate_hz`.

    FieldError when a cut-off is too high for the rate; a preset's low-pass is left out instead, and `note` says so:
    at a low rate the converter's own band limit has done that work already.
    """
    fitted, note = _fit_to_rate(spec, rate_hz)
    return _designed(fitted, note, rate_hz, filter_design.design(_task(fitted, rate_hz)))


class Designer:
    """Designs at one sample rate without SciPy in this process; remembers what it made, all presets from the start."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._made: dict[FilterSpec, Designed] = {}
        self.design([spec for spec in PRESETS.values() if _fits(spec, rate_hz)])

    def design(self, specs: Sequence[FilterSpec]) -> list[Designed]:
        """As `design`, for several specs; what is new takes most of a second, together."""
        fitted = {spec: _fit_to_rate(spec, self._rate_hz) for spec in specs if spec not in self._made}
        if fitted:
            tasks = [_task(spec, self._rate_hz) for spec, _ in fitted.values()]
            for asked, made in zip(fitted, filter_design.design_elsewhere(tasks), strict=True):
                self._made[asked] = _designed(*fitted[asked], self._rate_hz, made)
        return [self._made[spec] for spec in specs]


def _task(spec: FilterSpec, rate_hz: float) -> filter_design.Task:
    return filter_design.Task(
        rate_hz,
        spec.high_pass_hz,
        spec.high_pass_order,
        spec.low_pass_hz,
        spec.low_pass_order,
        spec.notch_hz,
        spec.notch_q,
    )


def _designed(spec: FilterSpec, note: str, rate_hz: float, made: filter_design.Sections) -> Designed:
    if len(made.sections) == 0:
        return Designed(spec, made.sections, made.zi, 0, {}, note)
    settle_samples = _settle_samples(made.sections)
    return Designed(spec, made.sections, made.zi, settle_samples, _group_delay_us(made.sections, rate_hz), note)


def _fit_to_rate(spec: FilterSpec, rate_hz: float) -> tuple[FilterSpec, str]:
    edge = MAX_BAND_EDGE * rate_hz
    note = ""
    if spec.preset and spec.low_pass_hz == PRESETS[spec.preset].low_pass_hz and (spec.low_pass_hz or 0) > edge:
        note = f"low-pass at {spec.low_pass_hz:g} Hz left out: above {MAX_BAND_EDGE:g} of the rate {rate_hz:g} Hz"
        spec = replace(spec, low_pass_hz=None)
    for name in ("high_pass_hz", "low_pass_hz", "notch_hz"):
        value = getattr(spec, name)
        if value is not None and not LOWEST_HZ <= value <= edge:
            raise FieldError(
                Problem.BAD,
                name,
                f"{name} cannot be {value:g} at {rate_hz:g} Hz",
                f"number, {LOWEST_HZ:g} to {edge:g}, or 0 = off",
            )
    if spec.high_pass_hz and spec.low_pass_hz and spec.high_pass_hz >= spec.low_pass_hz:
        raise FieldError(
            Problem.BAD,
            "high_pass_hz",
            f"high_pass_hz {spec.high_pass_hz:g} leaves nothing below low_pass_hz {spec.low_pass_hz:g}",
            f"number below {spec.low_pass_hz:g}",
        )
    return spec, note


def _fits(spec: FilterSpec, rate_hz: float) -> bool:
    try:
        _fit_to_rate(spec, rate_hz)
    except FieldError:
        return False
    return True


def _settle_samples(sections: npt.NDArray[np.float64]) -> int:
    """Until the slowest pole's response has fallen to SETTLED."""
    radius = max(float(np.abs(np.roots(section[3:])).max(initial=0.0)) for section in sections)
    return int(np.ceil(np.log(SETTLED) / np.log(radius))) if 0 < radius < 1 else 0


def _group_delay_us(sections: npt.NDArray[np.float64], rate_hz: float) -> dict[str, float]:
    """-d(phase)/d(omega), by central difference of the exact response."""
    delays = {}
    for frequency in GROUP_DELAY_AT_HZ:
        if frequency > MAX_BAND_EDGE * rate_hz:
            continue
        step = frequency * 1e-4
        z = np.exp(-2j * np.pi * np.array([frequency - step, frequency + step]) / rate_hz)
        response = np.ones(2, complex)
        for b0, b1, b2, a0, a1, a2 in sections:
            response *= (b0 + b1 * z + b2 * z**2) / (a0 + a1 * z + a2 * z**2)
        delay_s = -float(np.angle(response[1] / response[0])) / (2 * np.pi * 2 * step)
        delays[f"{frequency:g}"] = round(delay_s * 1e6, 1)
    return delays


def cascade_of(filters: Sequence[Designed], uv_per_count: Sequence[float]) -> Cascade:
    """The running filter of all channels: counts in, µV out."""
    return Cascade(
        list(uv_per_count),
        [designed.sections for designed in filters],
        [designed.zi for designed in filters],
        [designed.settle_samples for designed in filters],
    )
