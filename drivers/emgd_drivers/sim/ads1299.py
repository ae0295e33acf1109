"""The converter of both simulated serial amplifiers: registers and samples of an ADS1299.

Written after its data sheet (TI, SBAS499). What a register does not change here is said at `Ads1299`.
"""

from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from emgd_drivers.emg8.protocol import Samples
from emgd_drivers.sim.signal import ChannelSetting, Signal, TunableSignal

CHANNELS: Final = 8
VREF_UV: Final = 4.5e6
MAX_COUNT: Final = 2**23 - 1

GAINS: Final = (1, 2, 4, 6, 8, 12, 24)
"""By bits 6 to 4 of CHnSET; the eighth pattern is reserved and taken for 24."""

RATES_HZ: Final = (16_000, 8000, 4000, 2000, 1000, 500, 250)
"""By bits 2 to 0 of CONFIG1."""


class Register(IntEnum):
    """Addresses; channel n, from 0, is set at CH1SET + n."""

    ID = 0x00
    CONFIG1 = 0x01
    CONFIG2 = 0x02
    CONFIG3 = 0x03
    LOFF = 0x04
    CH1SET = 0x05
    LOFF_SENSP = 0x0F
    LOFF_SENSN = 0x10
    GPIO = 0x14
    CONFIG4 = 0x17


RESET_VALUES: Final = bytes.fromhex("3e 96 c0 60 00 61 61 61 61 61 61 61 61 00 00 00 00 00 00 00 0f 00 00 00")
"""All inputs are shorted after a reset, gain 24, 250 Hz."""

POWER_DOWN: Final = 0x80
MUX_BITS: Final = 0x07
MUX_NORMAL: Final = 0
MUX_SHORTED: Final = 1
MUX_TEST: Final = 5

INTERNAL_TEST: Final = 0x10
TEST_TWICE: Final = 0x04
TEST_UV: Final = VREF_UV / 2400
TEST_HZ: Final = (2.048e6 / 2**21, 2.048e6 / 2**20)

LEAD_OFF_AMPERE: Final = (6e-9, 24e-9, 6e-6, 24e-6)
"""By bits 3 and 2 of LOFF."""

LEAD_OFF_HZ: Final = 31.5
"""As the Cyton's makers give it, for bits 1 and 0 of LOFF = 2; the data sheet says 31.2, its clock divides to 31.25."""

LEAD_OFF_SLOW_HZ: Final = 7.8

ELECTRODE_OHM: Final = 5000.0
"""Between the pins of the converter's input and the tissue, on each side, resistors of the board included."""


class Ads1299:
    """A converter that measures `signal`, 8 channels in µV, at any rate when the signal is tunable.

    Modelled: rate, power, gain, inputs (normal, shorted, internal test signal), alternating test current, status word.
    `electrodes_off` are channels, from 0, that the status word reports where LOFF_SENSP and LOFF_SENSN let it.
    Not: direct test current, bias, SRB1 and SRB2, the filter's bandwidth, temperature and supply inputs (they read 0).
    """

    def __init__(self, signal: Signal) -> None:
        if signal.channels != CHANNELS:
            raise ValueError(f"the signal has {signal.channels} channels; this amplifier has {CHANNELS}")
        self.registers = bytearray(RESET_VALUES)
        self.electrodes_off: set[int] = set()
        self.lead_off_hz = LEAD_OFF_HZ
        self.electrode_ohm = ELECTRODE_OHM
        self._signal = signal

    def reset(self) -> None:
        """All registers as after power-up."""
        self.registers[:] = RESET_VALUES

    def read(self, address: int) -> int:
        """A register; 0 where there is none."""
        return self.registers[address] if address < len(self.registers) else 0

    def write(self, address: int, value: int) -> None:
        """Set a register; the identity and what does not exist stay."""
        if Register.ID < address < len(self.registers):
            self.registers[address] = value

    @property
    def rate_hz(self) -> int:
        """Conversions per second."""
        return RATES_HZ[min(self.registers[Register.CONFIG1] & 7, len(RATES_HZ) - 1)]

    def gain(self, channel: int) -> int:
        """Gain of a channel, from 0."""
        return GAINS[min(self.registers[Register.CH1SET + channel] >> 4 & 7, len(GAINS) - 1)]

    @property
    def uv_per_count(self) -> npt.NDArray[np.float64]:
        """µV per count of each channel, shape (8,)."""
        return VREF_UV / (np.array([self.gain(channel) for channel in range(CHANNELS)]) * MAX_COUNT)

    @property
    def status(self) -> int:
        """The 24 bits in front of each sample: 1100, electrodes off (positive, negative side), GPIO."""
        off = sum(1 << channel for channel in self.electrodes_off)
        positive, negative = (off & self.registers[address] for address in (Register.LOFF_SENSP, Register.LOFF_SENSN))
        return 0xC << 20 | positive << 12 | negative << 4 | self.registers[Register.GPIO] >> 4

    def counts(self, first: int, count: int) -> Samples:
        """Conversions `first` and on since the start, as int32 of shape (count, 8)."""
        at_s = np.arange(first, first + count) / self.rate_hz
        uv = np.zeros((count, CHANNELS))
        measured = self._signal_uv(first, count)
        for channel in range(CHANNELS):
            setting = self.registers[Register.CH1SET + channel]
            if setting & POWER_DOWN:
                continue
            if setting & MUX_BITS == MUX_NORMAL:
                uv[:, channel] = measured[:, channel] + self._test_current_uv(channel, at_s)
            elif setting & MUX_BITS == MUX_TEST:
                uv[:, channel] = self._test_signal_uv(at_s)
        return np.clip(np.rint(uv / self.uv_per_count), -MAX_COUNT - 1, MAX_COUNT).astype(np.int32)

    def packed(self, first: int, count: int) -> list[bytes]:
        """The same as they stand in a frame: 8 x 24 bits, big endian, for each conversion."""
        raw = self.counts(first, count).astype(">i4").view(np.uint8).reshape(count, CHANNELS, 4)[:, :, 1:].tobytes()
        size = 3 * CHANNELS
        return [raw[begin : begin + size] for begin in range(0, len(raw), size)]

    def _signal_uv(self, first: int, count: int) -> npt.NDArray[np.float64]:
        """What is at the electrodes; silence after the end of a signal that ends."""
        if self._signal.rate_hz != self.rate_hz and isinstance(self._signal, TunableSignal):
            # Finest steps of the source, so that its rounding stays below this converter's.
            self._signal = self._signal.tuned(self.rate_hz, [ChannelSetting(gain=GAINS[-1])] * CHANNELS)
        uv = np.zeros((count, CHANNELS))
        length = self._signal.length
        there = count if length is None else max(0, min(count, length - first))
        if there:
            uv[:there] = self._signal.read(first, there) * np.array(self._signal.uv_per_count)
        return uv

    def _test_current_uv(self, channel: int, at_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | float:
        """What the alternating test current of the lead-off detection adds: both sides add up."""
        sides = sum(self.registers[at] >> channel & 1 for at in (Register.LOFF_SENSP, Register.LOFF_SENSN))
        setting = self.registers[Register.LOFF]
        frequency_hz = (0.0, LEAD_OFF_SLOW_HZ, self.lead_off_hz, self.rate_hz / 4)[setting & 3]
        if not sides or not frequency_hz:
            return 0.0
        amplitude_uv = sides * LEAD_OFF_AMPERE[setting >> 2 & 3] * self.electrode_ohm * 1e6
        sine: npt.NDArray[np.float64] = amplitude_uv * np.sin(2 * np.pi * frequency_hz * at_s)
        return sine

    def _test_signal_uv(self, at_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | float:
        """The internal test signal, a square wave; 0 when it is switched off."""
        setting = self.registers[Register.CONFIG2]
        if not setting & INTERNAL_TEST:
            return 0.0
        amplitude_uv = TEST_UV * (2 if setting & TEST_TWICE else 1)
        if setting & 3 > 1:
            return amplitude_uv
        square: npt.NDArray[np.float64] = amplitude_uv * np.where(at_s * TEST_HZ[setting & 3] % 1 < 0.5, 1.0, -1.0)
        return square
