/* What a decoder hands to the sample loop: frames and marks, whatever the device.
 *
 * Plain structs so that decoders (Cython), the sequence rules (C) and their fuzzers share one definition. */
#ifndef EMGD_FRAME_H
#define EMGD_FRAME_H

#include <stdint.h>

/* Was the frame sound? Order as in docs/devices/emg8.md. */
enum { EMGD_FRAME_GOOD = 0, EMGD_FRAME_CORRUPT = 1, EMGD_FRAME_TRUNCATED = 2 };

/* Frame flags; the numbers are emg8's, other decoders translate. */
enum { EMGD_FLAG_START = 1, EMGD_FLAG_OVERFLOW = 2, EMGD_FLAG_END = 4 };

/* Causes of a gap, as a set; position of the bit = index in emgd_wire.kinds.CAUSES. */
enum {
    EMGD_CAUSE_LOST = 1,
    EMGD_CAUSE_CORRUPT = 2,
    EMGD_CAUSE_TRUNCATED = 4,
    EMGD_CAUSE_OVERFLOW = 8,
    EMGD_CAUSE_DEVICE_LOST = 16,
    EMGD_CAUSE_SETS = 32 /* how many different sets there are */
};

/* Mark codes; number = index in emgd_wire.kinds.MARK_CODES. */
enum {
    EMGD_MARK_UNKNOWN = 0,
    EMGD_MARK_TRIGGER,
    EMGD_MARK_STIMULUS,
    EMGD_MARK_FOOTSWITCH,
    EMGD_MARK_ELECTRODE,
    EMGD_MARK_IMPEDANCE, /* value: electrodes that carry the test current from this sample on, 0 = none */
    EMGD_MARK_CODES
};

enum { EMGD_MARK_ALL_CHANNELS = 0xFFFF }; /* channel of an impedance mark */

typedef struct {
    uint64_t seq;
    int32_t value;
    uint16_t channel;
    uint8_t code;
} emgd_mark;

typedef struct {
    int status;    /* EMGD_FRAME_* */
    int known;     /* header sound: the fields below may be believed */
    uint32_t type; /* the device's own type */
    uint32_t flags;
    uint32_t frame_seq;
    uint32_t count; /* samples */
    uint64_t first; /* number of the first sample, as the device counts */
    uint64_t tick;  /* device tick of the first sample */
    int64_t host_ns; /* when its last byte was here; 0: just now, in the newest transfer */
    uint32_t mark_count;
    const uint8_t *samples; /* packed, as the device sent them; NULL unless good */
    const uint8_t *marks;
} emgd_frame;

#endif
