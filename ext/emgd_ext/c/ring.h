/* The ring: one writer, many readers, in shared memory. This header is its layout.
 *
 * The ring holds the last `capacity` samples of two planes (raw counts and filtered microvolts), the blocks they were published in, and
 * the last events (gaps, marks). It lies in a memfd, so it *is* the history window.
 *
 *   sample seq   row seq % capacity of a plane; `channels` numbers, all channels of one instant
 *   block  k     slot k % block_slots: which samples, when, flags; channel_flags has `channels` bytes for it
 *   event  k     slot k % event_slots
 *
 * The writer never waits. A reader copies, then asks whether what it copied may have been overwritten meanwhile (the functions
 * below do both). `capacity` is a multiple of `block_samples`, and blocks never straddle a multiple of it: a block is contiguous.
 * A sample inside a gap has no row of its own: only samples named by a block exist. */
#ifndef EMGD_RING_H
#define EMGD_RING_H

#include <stddef.h>
#include <stdint.h>

#include "frame.h"

#define EMGD_RING_MAGIC 0x52474d45u /* "EMGR" */
#define EMGD_RING_VERSION 1u

enum { EMGD_PLANE_RAW = 0, EMGD_PLANE_FILTERED = 1 };

typedef struct {
    uint64_t seq;
    uint64_t gap_before;
    uint64_t host_time_ns;
    uint32_t count;
    uint32_t flags;
} emgd_block;

enum { EMGD_EVENT_GAP = 1, EMGD_EVENT_MARK = 2 };

typedef struct {
    uint64_t seq;
    uint64_t count;
    uint64_t host_time_ns;
    uint64_t before_block; /* published ahead of this block */
    int32_t value;         /* mark */
    uint16_t kind;         /* EMGD_EVENT_* */
    uint16_t channel;      /* mark */
    uint32_t code;         /* gap: set of causes; mark: EMGD_MARK_* */
    uint32_t reserved;
} emgd_event;

typedef struct {
    uint32_t magic, version;
    uint32_t channels, block_samples;
    uint64_t capacity, block_slots, event_slots;
    uint64_t raw_offset, filtered_offset, blocks_offset, channel_flags_offset, events_offset, total_bytes;
    /* Written by the one writer. Each on a cache line of its own: readers poll them. */
    _Alignas(64) uint64_t head;       /* samples below are written */
    _Alignas(64) uint64_t reserved;   /* rows of samples below reserved - capacity may be in writing */
    _Alignas(64) uint64_t block_head; /* blocks below are complete */
    _Alignas(64) uint64_t event_head; /* events below are complete */
} emgd_ring;

/* Fill in `ring` (its first member must lie at the start of total_bytes zeroed bytes). Returns the bytes needed; with ring == NULL only that. */
uint64_t emgd_ring_format(emgd_ring *ring, uint32_t channels, uint32_t block_samples, uint64_t capacity, uint64_t block_slots,
                          uint64_t event_slots);

/* --- writer --- */

/* Room for rows [seq, seq+rows), which must not cross a multiple of capacity. Announces the overwriting first. */
int32_t *emgd_ring_reserve(emgd_ring *ring, uint64_t seq, uint64_t rows, float **filtered);
void emgd_ring_commit(emgd_ring *ring, uint64_t head);
void emgd_ring_add_block(emgd_ring *ring, const emgd_block *block, const uint8_t *channel_flags);
void emgd_ring_add_event(emgd_ring *ring, const emgd_event *event);

/* --- readers --- */

uint64_t emgd_ring_head(const emgd_ring *ring);
uint64_t emgd_ring_block_head(const emgd_ring *ring);
uint64_t emgd_ring_event_head(const emgd_ring *ring);

/* First sample that cannot have been overwritten yet. */
uint64_t emgd_ring_floor(const emgd_ring *ring);
/* First block and event whose slots cannot have been overwritten yet. */
uint64_t emgd_ring_block_floor(const emgd_ring *ring);
uint64_t emgd_ring_event_floor(const emgd_ring *ring);

/* Copies; 0, or -1 when it was overwritten or has not been written. */
int emgd_ring_get_block(const emgd_ring *ring, uint64_t index, emgd_block *block, uint8_t *channel_flags);
int emgd_ring_get_event(const emgd_ring *ring, uint64_t index, emgd_event *event);
/* Rows [seq, seq+rows) of a plane, which must lie within blocks, to `out` (4 bytes a number). */
int emgd_ring_copy(const emgd_ring *ring, int plane, uint64_t seq, uint64_t rows, void *out);

/* Where a block's samples lie. Valid only while seq stays at or above emgd_ring_floor(). */
const void *emgd_ring_rows(const emgd_ring *ring, int plane, uint64_t seq);

#endif
