"""Units of voltage: how files spell them, and what each is in µV."""

from typing import Final

UV_PER_UNIT: Final = {"nV": 1e-3, "uV": 1.0, "mV": 1e3, "V": 1e6}
"""µV in one of each unit."""

COUNT: Final = "count"
"""In a sidecar: the values are bare counts, shown as 1 µV each because nobody knows better."""

_SPELLINGS: Final = {
    spelling: unit
    for unit, spellings in {
        "nV": ("nv", "nanovolt", "nanovolts"),
        # Case folding turns the micro sign into the Greek letter.
        "uV": ("uv", "\N{GREEK SMALL LETTER MU}v", "microvolt", "microvolts"),
        "mV": ("mv", "millivolt", "millivolts"),
        "V": ("v", "volt", "volts"),
    }.items()
    for spelling in spellings
}


def volt_unit(spelling: str) -> str | None:
    """The key of UV_PER_UNIT for a unit as a file spells it, in any case of letters; None for what is not a voltage."""
    return _SPELLINGS.get(spelling.strip().casefold())
