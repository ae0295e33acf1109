"""The byte-level model of an emg8 device: answers control requests and emits frames as the firmware would.

It knows no clock: host time (CLOCK_MONOTONIC, ns) comes in with every call and may go in steps of any size. Whatever
falls between two calls happens in its order and at its own instant, so that the bytes do not depend on the steps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from emgd_drivers.api import DeviceLostError, Mode, RunState, Side
from emgd_drivers.emg8.exchange import Stall
from emgd_drivers.emg8.protocol import (
    ALL_CHANNELS,
    CHANNEL_SETTING,
    GAINS,
    LATCH,
    MAX_MARKS,
    MAX_SERIAL_CHARACTERS,
    RATE,
    TICK_HZ,
    Capability,
    Channel,
    Direction,
    Info,
    LastError,
    Request,
    Setup,
    Status,
    frame_bytes,
    frame_samples,
    pack_impedance_test,
)
from emgd_drivers.sim.electrodes import TEST, CurrentSource, parse_electrodes
from emgd_drivers.sim.faults import FaultKind, FaultPlan
from emgd_drivers.sim.fifo import Fifo, Send
from emgd_drivers.sim.frames import FrameMaker
from emgd_drivers.sim.oscillator import Oscillator
from emgd_drivers.sim.signal import ChannelSetting, Signal, TunableSignal

SERIAL: Final = "EMG8-SIM001"
FIRMWARE: Final = "sim-1.0"

MIN_FIFO_BYTES: Final = 256 * 1024
FIFO_S: Final = 0.25
"""The FIFO holds a quarter of a second, and no less than the reference hardware's 256 KiB."""

FREE_RUN_FRAMES: Final = 64
"""As fast as possible, so many frames at a time: control requests are answered in between."""

NS_PER_MS: Final = 1_000_000

MAX_MARK_VALUE: Final = 2**31 - 1
"""A mark's value has 31 bits and a sign."""

TUNABLE_MODES: Final = (Mode.NORMAL, Mode.SHORT, Mode.TEST)


class _Refusal(Exception):  # noqa: N818 - an answer on its way to `control`, not an error
    """A handler's reason to refuse."""

    def __init__(self, error: LastError) -> None:
        self.error = error


@dataclass(frozen=True, slots=True)
class _Row:
    """What a request needs and which method answers it; `data_bytes` is the length of its data (OUT)."""

    direction: Direction
    answer: Callable[[Any, Setup, bytes, int], bytes]
    data_bytes: int = 0
    uses_value: bool = False
    uses_index: bool = False
    only_idle: bool = False
    needs_clock: bool = False
    needs_electrodes: bool = False


class Emg8Model:
    """An emg8 device that measures `signal`, powered up at `now_ns`.

    `speed` N lets its clock run N times as fast, 0 = as fast as the host takes it, without a clock that can be
    latched. `electrodes` are the strings of sim/electrodes.py. `fifo_bytes` is the size of its sample FIFO, None = a
    quarter of a second. Frames leave `trigger_hold_ns` after their last sample: as much may news of the trigger line
    be late, and still find its sample. ValueError for a plan or electrodes that name a channel which the signal does
    not have, a bad speed or serial, or a FIFO that holds not even one frame.
    """

    def __init__(
        self,
        signal: Signal,
        plan: FaultPlan | None = None,
        *,
        speed: float = 1.0,
        serial: str = SERIAL,
        electrodes: Sequence[str] = (),
        fifo_bytes: int | None = None,
        trigger_hold_ns: int = 0,
        now_ns: int = 0,
    ) -> None:
        self._plan = plan or FaultPlan()
        _check(signal, self._plan, speed, serial, fifo_bytes)
        self._signal = signal
        self.serial: Final = serial
        self._settings = [ChannelSetting()] * signal.channels
        self._pairs = parse_electrodes(electrodes, signal.channels)
        self._free_running = speed == 0
        self._hold_ns = trigger_hold_ns
        self._oscillator = Oscillator(
            round(TICK_HZ * (speed or 1)),
            origin_ns=now_ns,
            drift_ppm=self._plan.drift_ppm,
            walk_ppm_per_min=self._plan.walk_ppm_per_min,
            seed=self._plan.seed,
        )
        self._fifo = Fifo(fifo_bytes or _usual_fifo_bytes(signal, speed), self._plan)
        self._arrived: list[bytes] = []
        self._send: Send = self._gather
        self._frames = self._new_frames(0)
        self._state = RunState.IDLE
        self._last_error = LastError.NONE
        self._overflowed_samples = 0
        self._frame_done_ns = 0
        self._keep_alive_ms = 0
        self._deadline_ns = 0

    @property
    def saturation_counts(self) -> tuple[int, ...]:
        """Absolute count from which each channel is saturated: known to the signal, not told on the wire."""
        return self._signal.saturation_counts

    @property
    def notes(self) -> tuple[str, ...]:
        """What should be known of the signal, one sentence each; not told on the wire either."""
        return self._signal.notes

    @property
    def unplugged(self) -> bool:
        """Has the cable gone dead?"""
        return self._fifo.unplugged

    @property
    def blocked(self) -> bool:
        """Does a transfer wait only for the host to take it?"""
        return self._fifo.blocked

    @property
    def discarded_frames(self) -> int:
        """How many frames since START were thrown away for want of room; GET_STATUS tells the samples only."""
        return self._frames.discarded_frames

    def connect(self, send: Send) -> None:
        """Hand transfers to `send` from now on, instead of gathering them for `poll`."""
        self._send = send

    def poll(self, now_ns: int) -> list[bytes]:
        """Transfers that were delivered since the last call, in order. For a host that always takes what comes."""
        self.run(now_ns)
        arrived, self._arrived = self._arrived, []
        return arrived

    def run(self, now_ns: int) -> None:
        """Let time pass."""
        if self.unplugged:
            return
        self._fifo.blocked = False
        if self._state is RunState.STREAMING and self._keep_alive_ms and self._deadline_ns <= now_ns:
            self._advance(self._deadline_ns)
            if self._state is RunState.STREAMING:
                self._stop(self._deadline_ns)
                self._last_error = LastError.KEEP_ALIVE_EXPIRED
        self._advance(now_ns)

    def reset(self, now_ns: int) -> None:
        """USB bus reset: the stream is over without an END, what waits is forgotten; clock and settings stay."""
        self.run(now_ns)
        self._fifo.clear()
        self._frames = self._new_frames(0)
        self._state = RunState.IDLE
        self._last_error = LastError.NONE
        self._overflowed_samples = 0
        self._keep_alive_ms = 0

    def next_event_ns(self) -> int | None:
        """When to call `run` next; long past = at once, None = not before the host does something."""
        if self.unplugged:
            return None
        events = []
        head_ns = self._fifo.next_ns()
        if head_ns is not None and not self._fifo.blocked:
            events.append(head_ns)
        if self._state is RunState.STREAMING:
            if not self._free_running:
                events.append(self._frame_done_ns)
            elif head_ns is None:
                events.append(0)
            if self._keep_alive_ms:
                events.append(self._deadline_ns)
        return min(events, default=None)

    def trigger(self, at_ns: int, number: int) -> None:
        """The trigger line rose at `at_ns`, for pulse `number`: a mark of code 2 at the first sample from then on."""
        if self._state is RunState.STREAMING and not self._free_running:
            self._frames.rise(self._oscillator.tick(at_ns), number & MAX_MARK_VALUE)

    def true_host_ns(self, seq: int) -> int:
        """When sample `seq` of the present stream is truly taken (ns): what a clock model is held against."""
        return self._oscillator.host_ns(self._frames.tick_of(seq))

    def control(self, setup: bytes, data: bytes, now_ns: int) -> bytes:
        """Answer a control request: 8 bytes of setup and, for OUT, its data. Raises Stall, or DeviceLostError."""
        self.run(now_ns)
        if self.unplugged:
            raise DeviceLostError(f"emg8 {self.serial} is unplugged; plug it in again")
        try:
            return self._answer(Setup.unpack(setup), data, now_ns)
        except _Refusal as refusal:
            self._last_error = refusal.error
            raise Stall(refusal.error.name) from None

    def _answer(self, setup: Setup, data: bytes, now_ns: int) -> bytes:
        row = self._ROWS.get(setup.request)
        if row is None or setup.direction != row.direction or (row.needs_clock and self._free_running):
            raise _Refusal(LastError.UNKNOWN_REQUEST)
        if row.needs_electrodes and not self._has_electrodes:
            raise _Refusal(LastError.UNKNOWN_REQUEST)
        if row.only_idle and self._state is RunState.STREAMING:
            raise _Refusal(LastError.NOT_NOW)
        if (setup.value and not row.uses_value) or (setup.index and not row.uses_index):
            raise _Refusal(LastError.BAD_VALUE)
        if row.direction is Direction.OUT and not setup.length == len(data) == row.data_bytes:
            raise _Refusal(LastError.BAD_LENGTH)
        return row.answer(self, setup, data, now_ns)[: setup.length]

    # What each request does: (setup, data, now_ns) -> answer.

    def _get_info(self, _setup: Setup, _data: bytes, _now_ns: int) -> bytes:
        capabilities = Capability.TRIGGER | Capability.ELECTRODE_OFF | Capability.KEEP_ALIVE
        if self._has_electrodes:
            capabilities |= Capability.TEST_SIGNAL | Capability.IMPEDANCE
        if not self._free_running:
            capabilities |= Capability.CLOCK_LATCH
        low_hz, high_hz = _rate_bounds_hz(self._signal)
        channels = self._signal.channels
        return Info(
            channels=channels,
            capabilities=capabilities,
            lowest_rate_hz=low_hz,
            highest_rate_hz=high_hz,
            rate_hz=self._signal.rate_hz,
            tick_hz=self._oscillator.tick_hz,
            fifo_bytes=self._fifo.capacity_bytes,
            firmware=FIRMWARE,
            max_frame_bytes=frame_bytes(frame_samples(high_hz, channels), channels, MAX_MARKS),
        ).pack()

    def _get_serial(self, _setup: Setup, _data: bytes, _now_ns: int) -> bytes:
        return self.serial.encode("ascii")

    def _start(self, _setup: Setup, _data: bytes, now_ns: int) -> bytes:
        # Without a clock ticks count samples alone, so that every run gives the same bytes.
        start_tick = 0 if self._free_running else self._oscillator.tick(now_ns)
        self._fifo.clear()
        self._frames = self._new_frames(start_tick)
        self._state = RunState.STREAMING
        self._last_error = LastError.NONE
        self._overflowed_samples = 0
        self._deadline_ns = now_ns + self._keep_alive_ms * NS_PER_MS
        self._schedule(now_ns)
        return b""

    def _stop_request(self, _setup: Setup, _data: bytes, now_ns: int) -> bytes:
        if self._state is RunState.STREAMING:
            self._stop(now_ns)
        return b""

    def _set_rate(self, _setup: Setup, data: bytes, _now_ns: int) -> bytes:
        (rate_hz,) = RATE.unpack(data)
        low_hz, high_hz = _rate_bounds_hz(self._signal)
        if not low_hz <= rate_hz <= high_hz:
            raise _Refusal(LastError.BAD_VALUE)
        if isinstance(self._signal, TunableSignal):
            self._signal = self._signal.tuned(rate_hz, self._settings)
        return b""

    def _get_rate(self, _setup: Setup, _data: bytes, _now_ns: int) -> bytes:
        return RATE.pack(self._signal.rate_hz)

    def _set_channel(self, setup: Setup, data: bytes, _now_ns: int) -> bytes:
        gain, mode, reserved = CHANNEL_SETTING.unpack(data)
        tunable = self._signal if isinstance(self._signal, TunableSignal) else None
        # A recording was amplified when it was made.
        gains, modes = (GAINS, TUNABLE_MODES) if tunable else ((1,), (Mode.NORMAL,))
        if setup.index >= self._signal.channels and setup.index != ALL_CHANNELS:
            raise _Refusal(LastError.BAD_CHANNEL)
        if gain not in gains or mode not in modes or reserved:
            raise _Refusal(LastError.BAD_VALUE)
        if tunable:
            every = range(self._signal.channels)
            for channel in every if setup.index == ALL_CHANNELS else [setup.index]:
                self._settings[channel] = ChannelSetting(gain, Mode(mode))
            self._signal = tunable.tuned(self._signal.rate_hz, self._settings)
        return b""

    def _get_channel(self, setup: Setup, _data: bytes, _now_ns: int) -> bytes:
        channel = setup.index
        if channel >= self._signal.channels:
            raise _Refusal(LastError.BAD_CHANNEL)
        return Channel(
            gain=self._settings[channel].gain,
            mode=self._settings[channel].mode,
            uv_per_count=self._signal.uv_per_count[channel],
            label=self._signal.labels[channel],
            electrode_off=channel in self._frames.current.off_channels,
            saturated=bool(self._frames.saturated_channels()[channel]),
            test_current=self._frames.current.sides(channel),
        ).pack()

    def _latch_clock(self, _setup: Setup, _data: bytes, now_ns: int) -> bytes:
        return LATCH.pack(self._oscillator.tick(now_ns), self._samples_taken(now_ns))

    def _keep_alive(self, setup: Setup, _data: bytes, now_ns: int) -> bytes:
        self._keep_alive_ms = setup.value
        self._deadline_ns = now_ns + setup.value * NS_PER_MS
        return b""

    def _get_status(self, _setup: Setup, _data: bytes, now_ns: int) -> bytes:
        samples = self._samples_taken(now_ns)
        tick = self._frames.tick_of(samples) if self._free_running else self._oscillator.tick(now_ns)
        counts = (self._fifo.frames_sent, samples, self._overflowed_samples, tick)
        return Status(self._state, self._last_error, *counts).pack()

    def _impedance_test(self, setup: Setup, _data: bytes, now_ns: int) -> bytes:
        if setup.index >= self._signal.channels and setup.index != ALL_CHANNELS:
            raise _Refusal(LastError.BAD_CHANNEL)
        if setup.value > Side.BOTH:
            raise _Refusal(LastError.BAD_VALUE)
        streaming = self._state is RunState.STREAMING
        seq = self._samples_taken(now_ns)
        if not self._frames.current.switch(seq, setup.index, Side(setup.value), streaming=streaming):
            raise _Refusal(LastError.NOT_NOW)
        return b""

    def _get_impedance_test(self, _setup: Setup, _data: bytes, _now_ns: int) -> bytes:
        return pack_impedance_test(TEST)

    _ROWS: ClassVar[dict[int, _Row]] = {
        Request.GET_INFO: _Row(Direction.IN, _get_info),
        Request.GET_SERIAL: _Row(Direction.IN, _get_serial),
        Request.START: _Row(Direction.OUT, _start),
        Request.STOP: _Row(Direction.OUT, _stop_request),
        Request.SET_RATE: _Row(Direction.OUT, _set_rate, data_bytes=RATE.size, only_idle=True),
        Request.GET_RATE: _Row(Direction.IN, _get_rate),
        Request.SET_CHANNEL: _Row(
            Direction.OUT, _set_channel, data_bytes=CHANNEL_SETTING.size, uses_index=True, only_idle=True
        ),
        Request.GET_CHANNEL: _Row(Direction.IN, _get_channel, uses_index=True),
        Request.LATCH_CLOCK: _Row(Direction.IN, _latch_clock, needs_clock=True),
        Request.KEEP_ALIVE: _Row(Direction.OUT, _keep_alive, uses_value=True),
        Request.GET_STATUS: _Row(Direction.IN, _get_status),
        Request.IMPEDANCE_TEST: _Row(
            Direction.OUT, _impedance_test, uses_value=True, uses_index=True, needs_electrodes=True
        ),
        Request.GET_IMPEDANCE_TEST: _Row(Direction.IN, _get_impedance_test, needs_electrodes=True),
    }

    # Streaming.

    def _new_frames(self, start_tick: int) -> FrameMaker:
        """A stream that begins, without test current."""
        connected = [setting.mode is Mode.NORMAL for setting in self._settings]
        current = CurrentSource(self._signal, self._pairs, connected)
        return FrameMaker(self._signal, self._plan, start_tick, current)

    @property
    def _has_electrodes(self) -> bool:
        """A recording was made long ago: no current goes through its electrodes."""
        return isinstance(self._signal, TunableSignal)

    def _advance(self, now_ns: int) -> None:
        """Take and deliver all that belongs before `now_ns`, in order."""
        if self._free_running:
            self._fifo.drain(now_ns, self._send)
            for _ in range(FREE_RUN_FRAMES):
                if self._state is not RunState.STREAMING or self._fifo.next_ns() is not None:
                    break
                self._take_frame(now_ns)
                self._fifo.drain(now_ns, self._send)
            return
        while self._state is RunState.STREAMING and self._frame_done_ns <= now_ns:
            done_ns = self._frame_done_ns
            self._fifo.drain(done_ns, self._send)
            if self.unplugged:
                break
            self._take_frame(done_ns)
        self._fifo.drain(now_ns, self._send)

    def _take_frame(self, done_ns: int) -> None:
        """The converter has finished the samples of the next frame."""
        self._take_samples(self._frames.due(), done_ns)
        self._schedule(done_ns)

    def _take_samples(self, count: int, done_ns: int) -> None:
        if self._fifo.has_room(frame_bytes(count, self._signal.channels, 0)):
            index = self._frames.frames
            self._fifo.push(self._frames.data(count), index, done_ns)
        else:
            self._frames.discard(count)
            self._overflowed_samples += count

    def _schedule(self, now_ns: int) -> None:
        """Work out when the next frame is complete, or end with the signal."""
        count = self._frames.due()
        if count == 0:
            self._end(now_ns)
        else:
            last = self._frames.next_sample + count - 1
            self._frame_done_ns = self._oscillator.host_ns(self._frames.tick_of(last)) + self._hold_ns

    def _stop(self, at_ns: int) -> None:
        """Send what was taken by now, however little, then END."""
        taken = self._samples_taken(at_ns)
        # More than one frame where frames are held back.
        while (left := taken - self._frames.next_sample) > 0:
            self._take_samples(min(left, self._frames.due()), at_ns)
        self._end(at_ns)

    def _end(self, at_ns: int) -> None:
        index = self._frames.frames
        self._fifo.push(self._frames.end(), index, at_ns)
        self._frames.current.end()
        self._state = RunState.ENDED

    def _samples_taken(self, now_ns: int) -> int:
        if self._state is not RunState.STREAMING or self._free_running:
            return self._frames.next_sample
        return self._frames.taken_by(self._oscillator.tick(now_ns))

    def _gather(self, transfer: bytes) -> bool:
        self._arrived.append(transfer)
        return True


def _rate_bounds_hz(signal: Signal) -> tuple[float, float]:
    """Lowest and highest rate at which a device with this signal can be set."""
    return signal.rate_bounds_hz if isinstance(signal, TunableSignal) else (signal.rate_hz, signal.rate_hz)


def _usual_fifo_bytes(signal: Signal, speed: float) -> int:
    """Room for a quarter of a second of frames."""
    samples = frame_samples(signal.rate_hz, signal.channels)
    frames_per_s = signal.rate_hz * speed / samples
    return max(MIN_FIFO_BYTES, round(FIFO_S * frames_per_s * frame_bytes(samples, signal.channels, 0)))


def _check(signal: Signal, plan: FaultPlan, speed: float, serial: str, fifo_bytes: int | None) -> None:
    """Refuse what could only surprise later."""
    if not (1 <= len(serial) <= MAX_SERIAL_CHARACTERS and serial.isascii() and serial.isprintable()):
        raise ValueError(f"serial is {serial!r}; choose 1 to {MAX_SERIAL_CHARACTERS} printable ASCII characters")
    if not 0 <= speed <= 1e6:
        raise ValueError(f"speed is {speed:g}; choose up to 1e6, or 0 for as fast as possible")
    longest = frame_bytes(frame_samples(_rate_bounds_hz(signal)[1], signal.channels), signal.channels, 0)
    if fifo_bytes is not None and fifo_bytes < longest:
        raise ValueError(f"fifo_bytes is {fifo_bytes}; one frame has {longest} bytes, so choose at least that")
    for fault in plan.faults:
        with_channel = fault.kind in {FaultKind.SATURATE, FaultKind.ELECTRODE}
        if with_channel and fault.channel >= signal.channels:
            which = f"{fault.kind}@{fault.frame}"
            raise ValueError(f"fault {which} names channel {fault.channel}; choose 0 to {signal.channels - 1}")
