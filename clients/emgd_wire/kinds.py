"""Names and bits that stand on the wire: kinds of messages, flags, causes of gaps, codes of marks, codes of errors."""

from enum import IntFlag, StrEnum
from typing import Final


class Kind(StrEnum):
    """What a message on the stream socket is."""

    RAW = "raw"
    FILTERED = "filtered"
    MARK = "mark"
    GAP = "gap"
    CLOCK = "clock"
    STATE = "state"
    IMPEDANCE = "impedance"
    PULSE = "pulse"
    DESCRIPTION = "description"


class Flag(IntFlag):
    """Bits of a block's `flags`; all but GAP_BEFORE also appear per channel in `channel_flags`."""

    SATURATED = 1
    ELECTRODE_OFF = 2
    SETTLING = 4
    GAP_BEFORE = 8
    IMPEDANCE = 16


class ErrorCode(StrEnum):
    """Why a request on the control socket was refused (docs/protocol.md, section 7)."""

    BAD_MESSAGE = "bad_message"
    BAD_VERSION = "bad_version"
    UNKNOWN_VERB = "unknown_verb"
    MISSING_FIELD = "missing_field"
    UNKNOWN_FIELD = "unknown_field"
    BAD_VALUE = "bad_value"
    UNKNOWN_STREAM = "unknown_stream"
    NOT_IN_HISTORY = "not_in_history"
    TOO_MANY_CLIENTS = "too_many_clients"
    NOT_OFFERED = "not_offered"
    NOT_STREAMING = "not_streaming"
    BUSY = "busy"
    INTERLOCK = "interlock"
    REFUSED = "refused"
    NO_STIMULATOR = "no_stimulator"
    DEVICE_FAILED = "device_failed"
    AUDIT = "audit"
    NO_ANSWER = "no_answer"
    INTERNAL = "internal"


CAUSES: Final = ("lost", "corrupt", "truncated", "overflow", "device_lost")
"""Causes of a gap; position = bit in the data plane's cause sets (emgd_ext/frame.h)."""

MARK_CODES: Final = ("unknown", "trigger", "stimulus", "footswitch", "electrode", "impedance")
"""Mark codes; position = code on the device's wire (docs/devices/emg8.md)."""

ALL_CHANNELS: Final = 0xFFFF
"""`channel` of an impedance mark that holds for every channel."""

DATA_KINDS: Final = (Kind.RAW, Kind.FILTERED)
"""Kinds whose payload is samples."""

DESCRIPTION_SUFFIX: Final = "/description"
"""Behind a stream id: the topic on which the stream is described."""

DTYPE_EVENT: Final = "msgpack"
"""`dtype` of messages whose payload is a MessagePack map."""

MAX_REQUEST_BYTES: Final = 65536
"""Longest request on the control socket: far above any honest one, far below what could hurt."""

MAX_HISTORY_BYTES: Final = 4 * 1024 * 1024
"""Most sample bytes in one history reply; a longer range is fetched in several."""

REPORT_INTERVAL_S: Final = 1.0
"""How often a client should say where it is."""
