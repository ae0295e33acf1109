"""The verbs of the stimulus: what they take, as commands for the stimulus thread. The text is docs/protocol.md,
section 10.
"""

from typing import Any, Final, Protocol

from emgd.deferred import Deferred
from emgd.stim_commands import (
    Acknowledge,
    Arm,
    Command,
    Confirm,
    Disarm,
    Fire,
    Release,
    Renew,
    Site,
    Status,
    Table,
    Take,
)
from emgd.verb import Caller, Verb
from emgd_drivers.fields import Field, FieldError, Problem
from emgd_ext.gate import KIND_NAMES

MOST: Final = 2**31 - 1
"""Bound of amounts: the gate judges them, but a number that no instrument has needs no judging."""

TIME_MOST: Final = 2**62
NONCE_MOST: Final = 2**63 - 1
TEXT_MOST: Final = 64
SIDES: Final = ("left", "right", "midline")
KINDS: Final = tuple(name for name in KIND_NAMES if name)

_OPERATOR: Final = Field("operator", str, "who is responsible", least=1, most=TEXT_MOST)
_CURRENT: Final = Field("current_ua", int, "peak current", least=0, most=MOST)

_FIRE: Final = (
    Field("site", str, "id of the armed site", least=1, most=16),
    Field("kind", str, "what is to be given", "single", choices=KINDS),
    _CURRENT,
    Field("width_us", int, "width of each pulse", least=0, most=MOST),
    Field("count", int, "pulses; 1 for a single one, 2 for a pair", 1, 0, MOST),
    Field("interval_us", int, "from the beginning of one pulse to that of the next; 0 for a single one", 0, 0, MOST),
    Field("asked_ns", int, "host time at which the operator asked", least=0, most=TIME_MOST),
    Field("begin_ns", int, "host time at which it shall begin; 0: now", 0, 0, TIME_MOST),
)

_ARM: Final = (
    Field("profile", str, "whose limits hold", least=1, most=TEXT_MOST),
    Field("side", str, "side of the body", choices=SIDES),
    Field("limb", str, "limb or region", "", 0, TEXT_MOST),
    Field("nerve", str, "which nerve", least=1, most=TEXT_MOST),
    Field("electrodes", str, "where on it the stimulating electrodes are", least=1, most=TEXT_MOST),
    _OPERATOR,
    Field("limits", dict, "limits for this arming, each no looser than what holds", None, 0, TEXT_MOST, items=int),
    Field("area_mm2", int, "of the smaller electrode; 0: not known", 0, 0, 65535),
    Field("load_ohm", int, "resistance between the electrodes, where the stimulator cannot measure it", None, 0, MOST),
    Field("acknowledged", bool, "the operator stands for what the profile asks", default=False),
)

_LEASE: Final = (
    Field("action", str, "what to do", choices=("take", "renew", "release")),
    Field("nonce", int, "of a renewal: higher than the last", 0, 0, NONCE_MOST),
)


class Service(Protocol):
    """What these verbs need of the service."""

    def ask_stimulus(self, caller: Caller, command: Command) -> Deferred:
        """Have a command obeyed by the stimulus thread. WireError where there is no stimulator."""


class StimVerbs:
    """The verbs, bound to a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.table: dict[str, Verb] = {
            "stim_status": Verb("how the stimulator is", (), lambda caller, _args: self._ask(caller, Status())),
            "stim_limits": Verb("the limits in force", (), lambda caller, _args: self._ask(caller, Table())),
            "stim_lease": Verb("take, keep or give back the right to stimulate", _LEASE, self.lease),
            "stim_arm": Verb("arm the stimulator for one site", _ARM, self.arm),
            "stim_confirm": Verb("steps up to this current are wanted", (_CURRENT,), self.confirm),
            "stim_fire": Verb("a pulse, a pair or a train", _FIRE, self.fire),
            "stim_disarm": Verb("nothing more may be given; from anybody", (), self.disarm),
            "stim_acknowledge": Verb("the cause of a fault is removed", (_OPERATOR,), self.acknowledge),
        }

    def _ask(self, caller: Caller, command: Command) -> Deferred:
        return self._service.ask_stimulus(caller, command)

    def lease(self, caller: Caller, args: dict[str, Any]) -> Deferred:
        """Take, keep or give back the right to stimulate."""
        action, nonce = args["action"], args["nonce"]
        command: Command = Release()
        if action != "release":
            command = Take(nonce) if action == "take" else Renew(nonce)
        return self._ask(caller, command)

    def arm(self, caller: Caller, args: dict[str, Any]) -> Deferred:
        """Arm for one site."""
        args = dict(args)
        site = Site(*(args.pop(name) for name in ("side", "limb", "nerve", "electrodes")))
        return self._ask(caller, Arm(site=site, **{**args, "limits": args["limits"] or {}}))

    def confirm(self, caller: Caller, args: dict[str, Any]) -> Deferred:
        """Steps up to this current are wanted."""
        return self._ask(caller, Confirm(args["current_ua"]))

    def fire(self, caller: Caller, args: dict[str, Any]) -> Deferred:
        """A pulse, a pair or a train."""
        try:
            int(args["site"], 16)
        except ValueError:
            text = f"site cannot be {args['site']!r}"
            raise FieldError(Problem.BAD, "site", text, "the id that stim_arm gave") from None
        return self._ask(caller, Fire(**args))

    def disarm(self, caller: Caller, _args: dict[str, Any]) -> Deferred:
        """Nothing more may be given."""
        return self._ask(caller, Disarm())

    def acknowledge(self, caller: Caller, args: dict[str, Any]) -> Deferred:
        """The cause of a fault is removed."""
        return self._ask(caller, Acknowledge(args["operator"]))
