"""Profiles: the limits that a kind of test needs and no more. docs/safety/limits.md is the table with reasons.

A profile states every limit. A site's configuration can tighten it; nothing can loosen it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits for a kind of test. `acknowledge`: what an operator has to confirm before it is armed; empty: nothing."""

    name: str
    text: str
    limits: Mapping[str, int]
    acknowledge: str = ""


_DEFAULT: Final[dict[str, int]] = {
    "current_ua": 50_000,
    "width_us": 200,
    "charge_nc": 20_000,
    "energy_uj": 2_000,
    # 80 mA at 90 % of 300 V reach 4.3 mJ, whatever the load.
    "load_energy_uj": 5_000,
    "compliance_v": 300,
    "rate_mhz": 1_000,
    "interval_us": 100_000,
    "pair_interval_us": 5_000,
    "train_pulses": 10,
    "train_duration_ms": 4_000,
    "train_rest_ms": 30_000,
    "mean_current_ua": 100,
    "rms_ua_per_cm2": 10_000,
    "site_pulses": 30,
    "step_ua": 5_000,
    "first_shot_ua": 5_000,
    "impedance_ohm": 10_000,
    "readback_current_percent": 10,
    "readback_current_ua": 500,
    "readback_width_percent": 5,
    "readback_width_us": 10,
    "dc_ua": 10,
    "lease_ms": 1_000,
    "idle_reset_ms": 60_000,
}


def _profile(name: str, text: str, acknowledge: str = "", **changes: int) -> Profile:
    return Profile(name, text, MappingProxyType(_DEFAULT | changes), acknowledge)


_ALL: Final = (
    _profile("motor", "motor conduction: supramaximal single shocks", current_ua=80_000),
    _profile("sensory", "sensory and mixed conduction", current_ua=40_000, first_shot_ua=2_000),
    _profile("f_wave", "F-waves: single shocks, at most one in 2 s", rate_mhz=500),
    _profile(
        "h_reflex",
        "H-reflex: long, weak shocks, at most one in 2 s",
        current_ua=40_000,
        width_us=1_000,
        charge_nc=40_000,
        energy_uj=1_600,
        # Long pulses into a dry electrode: the corner into 5 kOhm, where the operator is warned.
        load_energy_uj=8_000,
        rate_mhz=500,
        first_shot_ua=2_000,
    ),
    _profile("rns", "slow repetitive stimulation: trains of up to 10 at 3 Hz", current_ua=80_000, rate_mhz=3_000),
    # One in 7.14 s: the blink reflex gets used to anything faster.
    _profile("blink", "blink reflex: a nerve of the face", current_ua=30_000, rate_mhz=140, first_shot_ua=2_000),
    _profile(
        "sfemg",
        "stimulated single-fibre EMG: needle cathode, up to 10 Hz",
        current_ua=5_000,
        width_us=100,
        rate_mhz=10_000,
        train_pulses=100,
        train_duration_ms=10_000,
        # Weak currents: the shortest rest there is.
        train_rest_ms=10_000,
        site_pulses=120,
        step_ua=1_000,
        first_shot_ua=1_000,
    ),
    _profile(
        "extended",
        "oedema, obesity, severe neuropathy: stronger and longer single shocks",
        "This nerve could not be stimulated with the ordinary profile, and I mean to go above it.",
        current_ua=100_000,
        width_us=500,
        charge_nc=50_000,
        energy_uj=5_000,
        load_energy_uj=10_000,
        train_pulses=1,
    ),
    _profile(
        "cardiac",
        "a patient with a pacemaker, a defibrillator or a catheter near the heart: short, rare, never a train",
        "The stimulator is 15 cm or more from any lead and catheter, no current crosses the chest, the ECG is watched.",
        current_ua=40_000,
        train_pulses=1,
        first_shot_ua=2_000,
    ),
)

PROFILES: Final[Mapping[str, Profile]] = MappingProxyType({profile.name: profile for profile in _ALL})

ENABLED: Final = tuple(name for name in PROFILES if name != "extended")
"""What may be used where a site says nothing: `extended` is off."""
