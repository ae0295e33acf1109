"""Configuration: one TOML file, every key described in a table, every mistake with file and line.

The service does not start on an unknown key or a value that is not allowed; `emgd config` prints the effective values.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emgd import filters, limits
from emgd_drivers.fields import Field, FieldError, check_fields
from emgd_drivers.registry import driver_fields, driver_names, stimulator_fields, stimulator_names

SERVICE_FIELDS: Final = (
    Field("runtime_dir", Path, "where the sockets lie; default: see docs/protocol.md, section 1", None),
    Field("log_level", str, "how much is logged", "info", choices=("debug", "info", "warning", "error")),
)

STREAM_FIELDS: Final = (
    Field("block_ms", float, "length of a published block: shorter is sooner, longer is cheaper", 2.0, 0.1, 100),
    Field("history_s", float, "how far back clients can fetch samples", 60.0, 1, 3600),
    Field("history_max_mb", int, "memory bound of the history, whatever history_s says", 1024, 1, 65536),
    Field("queue_s", float, "how far a subscriber may fall behind before it loses blocks", 2.0, 0.1, 60),
    Field("wait", bool, "start the device only when somebody has subscribed", default=False),
)

CHANNELS_FIELD: Final = Field(
    "channels", list, "channels the filter is for, counted from 0; default: all", None, 1, 1024, items=int
)

NO_STIMULATOR: Final = "none"

STIMULATOR_FIELDS: Final = (
    Field("enabled_profiles", list, "profiles that may be used; extended has to be named to be", limits.ENABLED),
    Field("audit_file", Path, "where all of stimulation is logged; default: docs/safety/audit.md", None),
)
"""Of [stimulator], whatever the driver; a driver's own options stand beside them."""

SECTIONS: Final = ("service", "device", "stream", "filters", "stimulator", "limits")


class ConfigError(ValueError):
    """A configuration that is refused; the text begins with file and line."""


@dataclass(frozen=True, slots=True)
class FilterRule:
    """A filter for some channels (None: all); later rules win."""

    channels: tuple[int, ...] | None
    spec: filters.FilterSpec


@dataclass(frozen=True, slots=True)
class StimulatorConfig:
    """[stimulator]: the driver (None: there is no stimulator), its options, and what holds for all drivers."""

    driver: str | None
    options: dict[str, Any]
    enabled_profiles: tuple[str, ...]
    audit_file: Path | None


@dataclass(frozen=True, slots=True)
class Config:
    """The effective configuration."""

    service: dict[str, Any]
    driver: str
    device: dict[str, Any]
    stream: dict[str, Any]
    filters: tuple[FilterRule, ...]
    stimulator: StimulatorConfig
    limits: limits.SiteLimits


def load(path: Path | None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Config:
    """Read and check a configuration file (None: defaults only); `overrides` come from the command line and win.

    ConfigError names file, line, key, value and what is allowed.
    """
    text = ""
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    for section, values in (overrides or {}).items():
        document[section] = {**document.get(section, {}), **values}
    return _Reader(path, text, frozenset(f"{s}.{k}" for s, v in (overrides or {}).items() for k in v)).read(document)


class _Reader:
    """Checks one document; knows where its lines are."""

    def __init__(self, path: Path | None, text: str, overridden: frozenset[str]) -> None:
        self.path = path
        self.lines = text.splitlines()
        self.overridden = overridden

    def read(self, document: dict[str, Any]) -> Config:
        for section, values in document.items():
            if section not in SECTIONS:
                raise self._error(section, None, 0, f"there is no section {section!r}", ", ".join(SECTIONS))
            if not isinstance(values, list if section == "filters" else dict):
                shape = "[[filters]] tables" if section == "filters" else f"a [{section}] table"
                raise self._error(section, None, 0, f"{section} is not a table", shape)
        device = dict(document.get("device", {}))
        driver = self._check(
            "device", [Field("driver", str, "", "sim", choices=driver_names())], {"driver": device.pop("driver", "sim")}
        )
        stimulator = self._stimulator(dict(document.get("stimulator", {})))
        return Config(
            service=self._check("service", SERVICE_FIELDS, document.get("service", {})),
            driver=driver["driver"],
            device=self._check("device", driver_fields(driver["driver"]), device),
            stream=self._check("stream", STREAM_FIELDS, document.get("stream", {})),
            filters=tuple(self._rule(number, rule) for number, rule in enumerate(document.get("filters", []))),
            stimulator=stimulator,
            limits=self._limits(document.get("limits", {}), stimulator.enabled_profiles),
        )

    def _stimulator(self, given: dict[str, Any]) -> StimulatorConfig:
        choice = Field("driver", str, "", NO_STIMULATOR, choices=(NO_STIMULATOR, *stimulator_names()))
        driver = self._check("stimulator", [choice], {"driver": given.pop("driver", NO_STIMULATOR)})["driver"]
        own = () if driver == NO_STIMULATOR else stimulator_fields(driver)
        values = self._check("stimulator", (*STIMULATOR_FIELDS, *own), given)
        enabled, audit_file = tuple(values.pop("enabled_profiles")), values.pop("audit_file")
        for name in enabled:
            if name not in limits.PROFILES:
                allowed = ", ".join(limits.PROFILES)
                raise self._error("stimulator", "enabled_profiles", 0, f"there is no profile {name!r}", allowed)
        return StimulatorConfig(None if driver == NO_STIMULATOR else driver, values, enabled, audit_file)

    def _limits(self, given: Mapping[str, Any], enabled: tuple[str, ...]) -> limits.SiteLimits:
        try:
            return limits.site_limits(given, enabled)
        except limits.SiteLimitError as error:
            raise self._error(error.table, error.key, 0, error.text, error.allowed) from None

    def _rule(self, number: int, rule: Any) -> FilterRule:
        if not isinstance(rule, dict):
            raise self._error("filters", None, number, "filters is not a list of tables", "[[filters]] tables")
        values = self._check("filters", (CHANNELS_FIELD, *filters.FIELDS), rule, number)
        channels = values.pop("channels")
        return FilterRule(None if channels is None else tuple(channels), filters.spec_from(values))

    def _check(
        self, section: str, fields: Sequence[Field], values: Mapping[str, Any], number: int = 0
    ) -> dict[str, Any]:
        try:
            return check_fields(fields, values)
        except FieldError as error:
            raise self._error(section, error.field, number, error.text, error.allowed) from None

    def _error(self, section: str, key: str | None, number: int, text: str, allowed: str) -> ConfigError:
        if f"{section}.{key}" in self.overridden:
            where = "command line"
        elif self.path is None:
            where = "defaults"
        else:
            line = self._line_of(section, key, number)
            where = f"{self.path}:{line}" if line else str(self.path)
        name = f"[{section}]" + (f" {key}" if key else "")
        return ConfigError(f"{where}: {name}: {text}; allowed: {allowed}")

    def _line_of(self, section: str, key: str | None, number: int) -> int:
        """Line of a key in the `number`-th table of its section. tomllib keeps no positions, so look for it as a
        reader would: below its header, else as a dotted key or an inline table in a table around it.
        """
        parts = section.split(".") if key is None else [*section.split("."), key]
        for split in range(len(parts) - 1, -1, -1):
            for length in range(len(parts) - split, 0, -1):
                line = self._find(".".join(parts[:split]), ".".join(parts[split : split + length]), number)
                if line:
                    return line
        return 0 if key else self._find(section, None, number)

    def _find(self, section: str, key: str | None, number: int) -> int:
        """Line of `key =` below the `number`-th header of a section ("": before any header), or of the header."""
        header = re.compile(rf"\s*\[\[?\s*{_dotted(section)}\s*\]")
        assignment = re.compile(rf"\s*{_dotted(key)}\s*=") if key else None
        seen, inside = -1, not section
        for index, line in enumerate(self.lines, 1):
            if line.lstrip().startswith("["):
                inside = bool(section and header.match(line))
                seen += inside
                if inside and seen == number and assignment is None:
                    return index
            elif assignment and inside and (seen == number or not section) and assignment.match(line):
                return index
        return 0


def _dotted(path: str) -> str:
    """A pattern for a TOML key of parts, each of which may stand in quotes."""
    return r"\s*\.\s*".join(rf"[\"']?{re.escape(part)}[\"']?" for part in path.split("."))


def effective(config: Config) -> dict[str, Any]:
    """All values, for `emgd config`."""
    return {
        "service": {key: _plain(value) for key, value in config.service.items()},
        "device": {"driver": config.driver, **{key: _plain(value) for key, value in config.device.items()}},
        "stream": dict(config.stream),
        "filters": [
            {
                "channels": None if rule.channels is None else list(rule.channels),
                **{field.name: getattr(rule.spec, field.name) for field in filters.FIELDS},
            }
            for rule in config.filters
        ],
        "stimulator": {
            "driver": config.stimulator.driver or NO_STIMULATOR,
            **{key: _plain(value) for key, value in config.stimulator.options.items()},
            "enabled_profiles": list(config.stimulator.enabled_profiles),
            "audit_file": _plain(config.stimulator.audit_file),
        },
        "limits": {name: dict(values) for name, values in config.limits.profiles.items()},
        "tightened": [one.text for one in config.limits.tightened],
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
