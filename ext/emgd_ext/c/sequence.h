/* Which samples does a frame bring, and which are missing? Rules of docs/devices/emg8.md, "What a host concludes". */
#ifndef EMGD_SEQUENCE_H
#define EMGD_SEQUENCE_H

#include "frame.h"

typedef struct {
    uint64_t expected;      /* number of the next sample */
    uint32_t next_frame;    /* frame sequence of the next frame, once started */
    uint32_t frame_samples; /* samples in a usual frame, 0 until one was seen */
    uint32_t damaged;       /* frames whose header could not be read since the last one that could */
    uint32_t damaged_causes;
    int started;         /* a readable frame was seen */
    uint64_t start_tick; /* tick of the first frame: tells a repeated first frame from a device that started anew */
} emgd_sequence;

/* No honest gap is longer: 2^40 samples are 127 days at 100 kHz. A header that claims more is treated as unreadable. */
#define EMGD_MAX_GAP_SAMPLES (1ull << 40)

typedef struct {
    uint64_t seq, count;
    uint32_t causes;
} emgd_gap;

/* What to do with a frame: first report gaps[0..gap_count), then take rows [skip, count) of it (none when skip == count). */
typedef struct {
    emgd_gap gaps[2]; /* what is missing before the frame; the frame itself, when its body is damaged */
    int gap_count;
    uint32_t skip;
    int unreadable; /* nothing it says may be believed; what it held shows with the next frame */
    int repeated;   /* sent twice: nothing in it is new */
    int restarted; /* the device began to count anew by itself */
    int ended;
} emgd_verdict;

/* Judge the next frame and move on. */
emgd_verdict emgd_sequence_accept(emgd_sequence *sequence, const emgd_frame *frame);

/* The device was away and begins to count frames anew: what was unreadable before says nothing about what comes. */
void emgd_sequence_resume(emgd_sequence *sequence, uint64_t expected);

/* The stream is over after `total` samples, as the device said by other means: what is missing at its end. */
emgd_verdict emgd_sequence_finish(emgd_sequence *sequence, uint64_t total);

#endif
