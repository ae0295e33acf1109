/* Sequence rules. C, pure (no clock, no I/O, no allocation), so that the very code that runs in the loop is also fuzzed and
 * tested alone: promise 2 hangs on it. */
#include "sequence.h"

#include <string.h>

static uint32_t damage_cause(int status) {
    return status == EMGD_FRAME_TRUNCATED ? EMGD_CAUSE_TRUNCATED : EMGD_CAUSE_CORRUPT;
}

static void add_gap(emgd_verdict *verdict, uint64_t seq, uint64_t count, uint32_t causes) {
    emgd_gap *gap = &verdict->gaps[verdict->gap_count++];
    gap->seq = seq;
    gap->count = count;
    gap->causes = causes;
}

/* Frames that `samples` missing samples would fill. */
static uint64_t frames_in(uint64_t samples, uint32_t frame_samples) {
    return frame_samples ? (samples + frame_samples - 1) / frame_samples : samples;
}

/* Why `missing_frames` frames are not here. Unreadable frames account for as many of them as there were. */
static uint32_t causes_of(const emgd_sequence *s, uint64_t missing_frames, int overflowed) {
    uint32_t causes = overflowed ? EMGD_CAUSE_OVERFLOW : 0;
    if (missing_frames > s->damaged) causes |= EMGD_CAUSE_LOST;
    if (missing_frames && s->damaged) causes |= s->damaged_causes;
    return causes ? causes : EMGD_CAUSE_OVERFLOW; /* no frame is missing: the device left samples out */
}

static void forget_damage(emgd_sequence *s) {
    s->damaged = 0;
    s->damaged_causes = 0;
}

emgd_verdict emgd_sequence_accept(emgd_sequence *s, const emgd_frame *frame) {
    emgd_verdict verdict;
    memset(&verdict, 0, sizeof verdict);
    if (!frame->known || frame->first > s->expected + EMGD_MAX_GAP_SAMPLES) {
        s->damaged++;
        s->damaged_causes |= damage_cause(frame->status);
        verdict.unreadable = 1;
        verdict.skip = frame->count;
        return verdict;
    }
    uint64_t end = frame->first + frame->count;
    uint32_t skipped_frames = frame->frame_seq - s->next_frame; /* modulo 2^32: the counter may wrap */
    if (s->started && (end < s->expected || (frame->count && end == s->expected))) {
        verdict.repeated = 1;
        verdict.restarted = (frame->flags & EMGD_FLAG_START) && frame->tick != s->start_tick;
        verdict.skip = frame->count;
        return verdict;
    }
    if (frame->count && frame->status == EMGD_FRAME_GOOD) s->frame_samples = frame->count;
    uint64_t begin = frame->first > s->expected ? frame->first : s->expected;
    if (frame->first > s->expected) {
        uint64_t missing = frame->first - s->expected;
        int overflowed = (frame->flags & EMGD_FLAG_OVERFLOW) != 0;
        uint64_t frames = s->started ? skipped_frames : frame->flags & EMGD_FLAG_START ? 0 : frames_in(missing, s->frame_samples);
        add_gap(&verdict, s->expected, missing, causes_of(s, frames, overflowed));
    }
    if (frame->status == EMGD_FRAME_GOOD) {
        verdict.skip = (uint32_t)(begin - frame->first);
    } else {
        verdict.skip = frame->count;
        if (end > begin) add_gap(&verdict, begin, end - begin, damage_cause(frame->status));
    }
    verdict.ended = frame->status == EMGD_FRAME_GOOD && (frame->flags & EMGD_FLAG_END) != 0;
    if (!s->started) s->start_tick = frame->tick;
    s->started = 1;
    s->expected = end;
    s->next_frame = frame->frame_seq + 1;
    forget_damage(s);
    return verdict;
}

void emgd_sequence_resume(emgd_sequence *s, uint64_t expected) {
    s->started = 0;
    s->expected = expected;
    forget_damage(s);
}

emgd_verdict emgd_sequence_finish(emgd_sequence *s, uint64_t total) {
    emgd_verdict verdict;
    memset(&verdict, 0, sizeof verdict);
    verdict.ended = 1;
    if (total > s->expected) {
        uint64_t missing = total - s->expected;
        add_gap(&verdict, s->expected, missing, causes_of(s, frames_in(missing, s->frame_samples), 0));
        s->expected = total;
    }
    forget_damage(s);
    return verdict;
}
