"""Named values that come from outside (configuration, verbs, driver options), each described once in a table.

One description gives the check, the error text with what is allowed, and the help.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final


class Required:
    """Marks a field without default."""


REQUIRED: Final = Required()


_HOLDERS: Final = (list, dict)
_NOUNS: Final[Mapping[type, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    list: "list",
    dict: "map",
}


class Problem(StrEnum):
    """What is wrong with a field; the values are error codes of the control socket."""

    MISSING = "missing_field"
    UNKNOWN = "unknown_field"
    BAD = "bad_value"


class FieldError(ValueError):
    """A value from outside that is refused: which field, why, and what is allowed."""

    def __init__(self, problem: Problem, field: str, text: str, allowed: str) -> None:
        super().__init__(f"{text} (allowed: {allowed})")
        self.problem = problem
        self.field = field
        self.text = text
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class Field:
    """One value. `kind` is str, int, float, bool, Path, list or dict; a float field also takes an int.

    `least` and `most` bound numbers, and the length of strings, lists and dicts; `items` is the kind of what is in a
    list, or behind the names of a dict.
    """

    name: str
    kind: type
    text: str
    default: Any = REQUIRED
    least: float | None = None
    most: float | None = None
    choices: tuple[str | int, ...] = ()
    items: type = str

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        noun = _NOUNS[self.kind]
        if self.kind in _HOLDERS:
            noun = f"{noun} of { ({str: 'strings', int: 'integers'}[self.items]) }"
        what = " characters" if self.kind is str else " items" if self.kind in _HOLDERS else ""
        if self.least is not None and self.most is not None:
            return f"{noun}, {_shown(self.least)} to {_shown(self.most)}{what}"
        if self.least is not None:
            return f"{noun}, {_shown(self.least)}{what} or more"
        if self.most is not None:
            return f"{noun}, at most {_shown(self.most)}{what}"
        return noun

    def check(self, value: Any) -> Any:
        """The value as the field's kind; FieldError when it is not allowed."""
        if not self._has_kind(value):
            raise self._refuse(value)
        if self.kind in _HOLDERS:
            held = value.values() if self.kind is dict else value
            if not all(_is(element, self.items) for element in held):
                raise self._refuse(value)
        measured = len(value) if self.kind in (str, *_HOLDERS) else value
        if self.kind in (str, *_HOLDERS, int, float):
            # NaN compares false with everything, so ask for what must hold.
            if self.least is not None and not measured >= self.least:
                raise self._refuse(value)
            if self.most is not None and not measured <= self.most:
                raise self._refuse(value)
        if self.choices and value not in self.choices:
            raise self._refuse(value)
        return Path(value) if self.kind is Path else float(value) if self.kind is float else value

    def _has_kind(self, value: Any) -> bool:
        if self.kind is float:
            return _is(value, float) or _is(value, int)
        return _is(value, str) if self.kind is Path else _is(value, self.kind)

    def _refuse(self, value: Any) -> FieldError:
        shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
        return FieldError(Problem.BAD, self.name, f"{self.name} cannot be {shown}", self.allowed)


def _shown(number: float) -> str:
    """A bound in full: a limit of 64-bit numbers is not 9.2e+18."""
    return str(number) if isinstance(number, int) else f"{number:g}"


def _is(value: Any, kind: type) -> bool:
    """isinstance, but true and false are no numbers."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def check_fields(fields: Sequence[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """All fields with their values, given or default; FieldError for the first that is unknown, missing or bad."""
    known = {field.name: field for field in fields}
    for name in given:
        if name not in known:
            allowed = ", ".join(known) or "none"
            raise FieldError(Problem.UNKNOWN, name, f"there is no {name!r} here", allowed)
    values: dict[str, Any] = {}
    for field in fields:
        if field.name in given:
            values[field.name] = field.check(given[field.name])
        elif isinstance(field.default, Required):
            raise FieldError(Problem.MISSING, field.name, f"{field.name} is missing", field.allowed)
        else:
            values[field.name] = field.default
    return values
