"""What a client can ask of the stimulus thread, as values, and the numbers by which the gate knows words."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any, TypeAlias


def number_of(*words: str) -> int:
    """A number for some words, never 0: the gate compares numbers, people say words. Case and spaces do not count."""
    said = "\0".join(" ".join(word.casefold().split()) for word in words)
    # 63 bits, so that it is an integer in every language.
    return int.from_bytes(blake2b(said.encode(), digest_size=8).digest(), "big") >> 1 or 1


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks: `number` is what the gate compares, `name` is for people and the audit."""

    number: int
    name: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where the stimulating electrodes are; in other words it is another site."""

    side: str
    limb: str
    nerve: str
    electrodes: str

    @property
    def number(self) -> int:
        """For the gate."""
        return number_of(self.side, self.limb, self.nerve, self.electrodes)

    @property
    def id(self) -> str:
        """For clients."""
        return f"{self.number:016x}"

    def as_map(self) -> dict[str, str]:
        """For clients and the audit."""
        return {"id": self.id, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Status:
    """How is everything?"""


@dataclass(frozen=True, slots=True)
class Table:
    """Which limits are in force?"""


@dataclass(frozen=True, slots=True)
class Take:
    """Take the lease."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Renew:
    """Keep the lease."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Release:
    """Give the lease back."""


@dataclass(frozen=True, slots=True)
class Leave:
    """The client is gone; so is its lease, if it had one."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Arm for one site. `load_ohm` where the stimulator cannot measure it; `acknowledged` where the profile asks for
    the operator's word.
    """

    profile: str
    site: Site
    operator: str
    limits: Mapping[str, int] = field(default_factory=dict)
    area_mm2: int = 0
    load_ohm: int | None = None
    acknowledged: bool = False


@dataclass(frozen=True, slots=True)
class Confirm:
    """Steps up to this current are wanted."""

    current_ua: int


@dataclass(frozen=True, slots=True)
class Fire:
    """A shot. `site` is the id of what is armed; `asked_ns` is when the operator asked."""

    site: str
    kind: str
    current_ua: int
    width_us: int
    count: int
    interval_us: int
    asked_ns: int
    begin_ns: int


@dataclass(frozen=True, slots=True)
class Disarm:
    """Nothing more may be given."""


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The cause of a fault is removed, says this operator."""

    operator: str


Command: TypeAlias = Status | Table | Take | Renew | Release | Leave | Arm | Confirm | Fire | Disarm | Acknowledge


def as_map(command: Command) -> dict[str, Any]:
    """For the audit."""
    return {"command": type(command).__name__.lower(), "asked": asdict(command)}
