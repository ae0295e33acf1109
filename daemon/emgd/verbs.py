"""What clients can ask on the control socket: one table, one function per verb. The text is docs/protocol.md, section
6.
"""

import os
import time
from typing import Any, Final, Protocol

from emgd import filters, history
from emgd.acquisition import FLAG_MASKS, STREAMS, Acquisition
from emgd.clients import Clients, Progress, TooManyClientsError
from emgd.deferred import Deferred
from emgd.electrodes import Electrodes
from emgd.impedance import BusyError, InterlockError, NotStreamingError
from emgd.publish import PLANES, Publishing
from emgd.stim_commands import Command
from emgd.stim_verbs import StimVerbs
from emgd.verb import Answer, Caller, Verb
from emgd_drivers.fields import Field, FieldError, Problem, Required
from emgd_wire.codec import WireError
from emgd_wire.kinds import REPORT_INTERVAL_S, ErrorCode, Kind
from emgd_wire.version import PROTOCOL, VERSION

SEQ_MOST: Final = 2**63 - 1
NAME_MOST: Final = 64


class Service(Protocol):
    """What the verbs need of the service."""

    session: str
    started_ns: int
    acquisition: Acquisition | None
    publishing: Publishing
    clients: Clients
    electrodes: Electrodes | None

    def device_map(self) -> dict[str, Any]:
        """The `device` map of `status`."""

    def control_map(self) -> dict[str, Any]:
        """The `control` map of `status`."""

    def realtime_offset_ns(self) -> int:
        """What to add to host time to get UTC."""

    def describe_streams(self) -> None:
        """Publish the descriptions anew."""

    def start_check(self, channels: list[int] | None, now_ns: int) -> dict[str, Any]:
        """Begin an impedance check. NotStreamingError, BusyError, InterlockError."""

    def stop_check(self, now_ns: int) -> bool:
        """Give the impedance check up for a client; False when none runs."""

    def ask_stimulus(self, caller: Caller, command: Command) -> Deferred:
        """Have a command obeyed by the stimulus thread. WireError where there is no stimulator."""

    def leave_stimulus(self, caller: Caller) -> None:
        """A client is gone, and its lease with it."""

    def stimulus_map(self) -> dict[str, Any] | None:
        """The `stimulator` map of `status`."""


_STREAM: Final = Field("stream", str, "stream id, such as amp0/raw", least=1, most=NAME_MOST)


class Verbs:
    """The verbs, bound to a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.table: dict[str, Verb] = {
            "hello": Verb(
                "say your name, so that lag and drops are shown by it",
                (
                    Field("name", str, "what to call you", least=1, most=NAME_MOST),
                    Field("pid", int, "your process", None, 1, 2**31),
                ),
                self.hello,
            ),
            "ping": Verb("is anybody there?", (), self.ping),
            "help": Verb("this list", (), self.help),
            "version": Verb("versions of software and protocol", (), self.version),
            "status": Verb("every figure of the service", (), self.status),
            "streams": Verb("descriptions of all data streams", (), self.streams),
            "history": Verb(
                "samples by number, as far as they are still there",
                (
                    _STREAM,
                    Field("seq", int, "first sample", least=0, most=SEQ_MOST),
                    Field("count", int, "how many", least=1, most=SEQ_MOST),
                ),
                self.history,
            ),
            "report": Verb(
                "say how far you are",
                (
                    _STREAM,
                    Field("next_seq", int, "sample after the last you have", least=0, most=SEQ_MOST),
                    Field("dropped", int, "samples dropped for you so far", 0, 0, SEQ_MOST),
                    Field("backfilled", int, "how many of these you fetched", 0, 0, SEQ_MOST),
                ),
                self.report,
            ),
            "filter": Verb(
                "another filter, from the next block on",
                (
                    _STREAM,
                    Field("channels", list, "channel numbers; default: all", None, 1, 1024, items=int),
                    *filters.FIELDS,
                ),
                self.filter,
            ),
            "impedance": Verb(
                "check the electrodes: a small test current flows through them for some seconds",
                (
                    Field("action", str, "what to do", "start", choices=("start", "stop")),
                    Field("channels", list, "channel numbers; default: all", None, 1, 1024, items=int),
                ),
                self.impedance,
            ),
            **StimVerbs(service).table,
            "bye": Verb("forget my name", (), self.bye),
        }

    # --- about the service

    def ping(self, caller: Caller, _args: dict[str, Any]) -> Answer:
        """Is anybody there?"""
        return Answer({"host_time_ns": caller.now_ns})

    def version(self, _caller: Caller, _args: dict[str, Any]) -> Answer:
        """Versions of software and protocol."""
        return Answer({"version": VERSION, "protocol": PROTOCOL})

    def help(self, _caller: Caller, _args: dict[str, Any]) -> Answer:
        """Every verb with its arguments."""
        return Answer(
            {
                "verbs": [
                    {
                        "verb": name,
                        "text": verb.text,
                        "args": [
                            {
                                "name": field.name,
                                "type": field.kind.__name__,
                                "required": isinstance(field.default, Required),
                                "allowed": field.allowed,
                                "text": field.text,
                            }
                            for field in verb.fields
                        ],
                    }
                    for name, verb in self.table.items()
                ]
            }
        )

    def status(self, caller: Caller, _args: dict[str, Any]) -> Answer:
        """Every figure of the service."""
        service = self._service
        acquisition = service.acquisition
        service.clients.forget_silent(caller.now_ns)
        stats = acquisition.loop.stats() if acquisition else None
        heads = dict.fromkeys(acquisition.stream_ids(), acquisition.ring.head) if acquisition else {}
        return Answer(
            {
                "version": VERSION,
                "protocol": PROTOCOL,
                "session": service.session,
                "pid": os.getpid(),
                "host_time_ns": caller.now_ns,
                "uptime_s": (caller.now_ns - service.started_ns) / 1e9,
                "device": service.device_map(),
                "samples": acquisition.samples() if acquisition else None,
                "wire": stats[0] if stats else None,
                "transport": acquisition.transport() if acquisition else None,
                "clock": acquisition.clock.snapshot(time.monotonic_ns()) if acquisition else None,
                "impedance": service.electrodes.as_map() if service.electrodes else None,
                "stimulator": service.stimulus_map(),
                "publisher": service.publishing.stats(),
                "clients": service.clients.as_list(caller.now_ns, heads),
                "control": service.control_map(),
                "memory": {"rss_bytes": _rss_bytes(), "ring_bytes": acquisition.ring.total_bytes if acquisition else 0},
            }
        )

    def streams(self, _caller: Caller, _args: dict[str, Any]) -> Answer:
        """Descriptions of all data streams."""
        offset = self._service.realtime_offset_ns()
        acquisition = self._service.acquisition
        return Answer({"streams": [acquisition.describe(kind, offset) for kind in STREAMS] if acquisition else []})

    # --- samples

    def history(self, _caller: Caller, args: dict[str, Any]) -> Answer:
        """Samples by number."""
        acquisition, kind = self._stream(args["stream"])
        try:
            found = history.fetch(
                acquisition.ring, PLANES[kind], args["seq"], args["count"], acquisition.sample_ns, FLAG_MASKS[kind]
            )
        except history.NotInHistoryError as gone:
            raise WireError(
                ErrorCode.NOT_IN_HISTORY,
                f"samples {args['seq']} to {args['seq'] + args['count'] - 1} are not in the history",
                field="args.seq",
                allowed=f"{gone.oldest} to {gone.newest - 1}" if gone.newest > gone.oldest else "nothing yet",
            ) from None
        return Answer(
            {
                "stream": args["stream"],
                "session": self._service.session,
                "dtype": STREAMS[kind][0],
                "channels": acquisition.info.channel_count,
                **found.as_map(),
            },
            found.payload,
        )

    def filter(self, _caller: Caller, args: dict[str, Any]) -> Answer:
        """Another filter, from the next block on."""
        acquisition, kind = self._stream(args["stream"])
        if kind is not Kind.FILTERED:
            raise FieldError(Problem.BAD, "stream", f"{args['stream']} is not filtered", f"{acquisition.name}/filtered")
        check_channels(acquisition, args["channels"])
        wanted = {field.name: args[field.name] for field in filters.FIELDS}
        if all(value is None for value in wanted.values()):
            raise FieldError(Problem.MISSING, "preset", "which filter?", "preset, or numbers such as high_pass_hz")
        from_seq = acquisition.set_filter(args["channels"], filters.spec_from(wanted))
        self._service.describe_streams()
        return Answer({"from_seq": from_seq, "channels": [designed.as_map() for designed in acquisition.designed]})

    # --- electrodes

    def impedance(self, caller: Caller, args: dict[str, Any]) -> Answer:
        """Begin an impedance check, or give it up."""
        service = self._service
        acquisition, electrodes = service.acquisition, service.electrodes
        if acquisition is None or electrodes is None:
            raise WireError(ErrorCode.NOT_STREAMING, "the device was not there yet", allowed="while the device streams")
        if electrodes.test is None:
            raise WireError(ErrorCode.NOT_OFFERED, f"{acquisition.info.serial} has no impedance test", field="verb")
        if args["action"] == "stop":
            return Answer({"accepted": service.stop_check(caller.now_ns)})
        check_channels(acquisition, args["channels"])
        try:
            return Answer(service.start_check(args["channels"], caller.now_ns))
        except NotStreamingError as error:
            raise WireError(ErrorCode.NOT_STREAMING, str(error), allowed="while the device streams") from None
        except BusyError as error:
            raise WireError(ErrorCode.BUSY, str(error), allowed="wait for its end, or action stop") from None
        except InterlockError as error:
            raise WireError(ErrorCode.INTERLOCK, str(error), allowed="never beside a stimulus") from None

    # --- about the caller

    def hello(self, caller: Caller, args: dict[str, Any]) -> Answer:
        """Say your name."""
        if not args["name"].isprintable():
            raise FieldError(Problem.BAD, "name", "name has characters that cannot be printed", "printable characters")
        try:
            client = self._service.clients.hello(caller.routing_id, args["name"], args["pid"], caller.now_ns)
        except TooManyClientsError as error:
            raise WireError(ErrorCode.TOO_MANY_CLIENTS, str(error)) from None
        return Answer(
            {
                "session": self._service.session,
                "version": VERSION,
                "protocol": PROTOCOL,
                "client": client.number,
                "report_interval_s": REPORT_INTERVAL_S,
            }
        )

    def report(self, caller: Caller, args: dict[str, Any]) -> Answer:
        """Say how far you are."""
        acquisition, _ = self._stream(args["stream"])
        progress = Progress(args["next_seq"], args["dropped"], args["backfilled"])
        self._service.clients.heard(caller.routing_id, caller.now_ns)
        known = self._service.clients.report(caller.routing_id, args["stream"], progress)
        return Answer({"head": acquisition.ring.head, "known": known})

    def bye(self, caller: Caller, _args: dict[str, Any]) -> Answer:
        """Forget my name."""
        self._service.leave_stimulus(caller)
        self._service.clients.bye(caller.routing_id)
        return Answer({})

    def _stream(self, stream: str) -> tuple[Acquisition, Kind]:
        """Whose stream it is, and of which kind."""
        acquisition = self._service.acquisition
        streams = acquisition.stream_ids() if acquisition else {}
        if acquisition is None or stream not in streams:
            raise WireError(
                ErrorCode.UNKNOWN_STREAM,
                f"there is no stream {stream!r}",
                field="args.stream",
                allowed=", ".join(streams) or "none before the device was there",
            )
        return acquisition, streams[stream]


def check_channels(acquisition: Acquisition, channels: list[int] | None) -> None:
    """FieldError when one of them is not there."""
    count = acquisition.info.channel_count
    for channel in channels or ():
        if not 0 <= channel < count:
            raise FieldError(Problem.BAD, "channels", f"there is no channel {channel}", f"0 to {count - 1}")


def _rss_bytes() -> int:
    """Resident memory of this process, the touched part of the ring included."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123 - one read of a pseudo file
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
