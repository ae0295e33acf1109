/* The ring. C because writer and readers share memory and need exact memory order, without the GIL on either side. */
#include "ring.h"

#include <string.h>

#define CACHE_LINE 64

static uint64_t align(uint64_t offset) { return (offset + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE; }

static uint64_t load(const uint64_t *from) { return __atomic_load_n(from, __ATOMIC_ACQUIRE); }

static void store(uint64_t *to, uint64_t value) { __atomic_store_n(to, value, __ATOMIC_RELEASE); }

static uint8_t *at(const emgd_ring *ring, uint64_t offset) { return (uint8_t *)(uintptr_t)ring + offset; }

uint64_t emgd_ring_format(emgd_ring *ring, uint32_t channels, uint32_t block_samples, uint64_t capacity, uint64_t block_slots,
                          uint64_t event_slots) {
    emgd_ring layout;
    memset(&layout, 0, sizeof layout);
    layout.magic = EMGD_RING_MAGIC;
    layout.version = EMGD_RING_VERSION;
    layout.channels = channels;
    layout.block_samples = block_samples;
    layout.capacity = capacity;
    layout.block_slots = block_slots;
    layout.event_slots = event_slots;
    uint64_t offset = align(sizeof layout);
    layout.raw_offset = offset;
    offset = align(offset + capacity * channels * sizeof(int32_t));
    layout.filtered_offset = offset;
    offset = align(offset + capacity * channels * sizeof(float));
    layout.blocks_offset = offset;
    offset = align(offset + block_slots * sizeof(emgd_block));
    layout.channel_flags_offset = offset;
    offset = align(offset + block_slots * channels);
    layout.events_offset = offset;
    offset = align(offset + event_slots * sizeof(emgd_event));
    layout.total_bytes = offset;
    if (ring) *ring = layout;
    return offset;
}

int32_t *emgd_ring_reserve(emgd_ring *ring, uint64_t seq, uint64_t rows, float **filtered) {
    __atomic_store_n(&ring->reserved, seq + rows, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* a reader that sees new samples must also see that they were announced */
    uint64_t index = seq % ring->capacity * ring->channels;
    *filtered = (float *)at(ring, ring->filtered_offset) + index;
    return (int32_t *)at(ring, ring->raw_offset) + index;
}

void emgd_ring_commit(emgd_ring *ring, uint64_t head) { store(&ring->head, head); }

void emgd_ring_add_block(emgd_ring *ring, const emgd_block *block, const uint8_t *channel_flags) {
    uint64_t slot = ring->block_head % ring->block_slots;
    memcpy(at(ring, ring->blocks_offset + slot * sizeof *block), block, sizeof *block);
    memcpy(at(ring, ring->channel_flags_offset + slot * ring->channels), channel_flags, ring->channels);
    store(&ring->block_head, ring->block_head + 1);
}

void emgd_ring_add_event(emgd_ring *ring, const emgd_event *event) {
    uint64_t slot = ring->event_head % ring->event_slots;
    memcpy(at(ring, ring->events_offset + slot * sizeof *event), event, sizeof *event);
    store(&ring->event_head, ring->event_head + 1);
}

uint64_t emgd_ring_head(const emgd_ring *ring) { return load(&ring->head); }

uint64_t emgd_ring_block_head(const emgd_ring *ring) { return load(&ring->block_head); }

uint64_t emgd_ring_event_head(const emgd_ring *ring) { return load(&ring->event_head); }

uint64_t emgd_ring_floor(const emgd_ring *ring) {
    uint64_t reserved = load(&ring->reserved);
    return reserved > ring->capacity ? reserved - ring->capacity : 0;
}

/* The slot after the newest may be in writing: it belongs to the entry one below the floor. */
static uint64_t slot_floor(uint64_t head, uint64_t slots) { return head >= slots ? head - slots + 1 : 0; }

uint64_t emgd_ring_block_floor(const emgd_ring *ring) { return slot_floor(load(&ring->block_head), ring->block_slots); }

uint64_t emgd_ring_event_floor(const emgd_ring *ring) { return slot_floor(load(&ring->event_head), ring->event_slots); }

int emgd_ring_get_block(const emgd_ring *ring, uint64_t index, emgd_block *block, uint8_t *channel_flags) {
    if (index >= load(&ring->block_head)) return -1;
    uint64_t slot = index % ring->block_slots;
    memcpy(block, at(ring, ring->blocks_offset + slot * sizeof *block), sizeof *block);
    if (channel_flags) memcpy(channel_flags, at(ring, ring->channel_flags_offset + slot * ring->channels), ring->channels);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return index >= emgd_ring_block_floor(ring) ? 0 : -1;
}

int emgd_ring_get_event(const emgd_ring *ring, uint64_t index, emgd_event *event) {
    if (index >= load(&ring->event_head)) return -1;
    memcpy(event, at(ring, ring->events_offset + index % ring->event_slots * sizeof *event), sizeof *event);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return index >= emgd_ring_event_floor(ring) ? 0 : -1;
}

const void *emgd_ring_rows(const emgd_ring *ring, int plane, uint64_t seq) {
    uint64_t base = plane == EMGD_PLANE_RAW ? ring->raw_offset : ring->filtered_offset;
    return at(ring, base + seq % ring->capacity * ring->channels * sizeof(int32_t));
}

int emgd_ring_copy(const emgd_ring *ring, int plane, uint64_t seq, uint64_t rows, void *out) {
    if (rows > ring->capacity || seq + rows > load(&ring->head)) return -1;
    uint64_t row_bytes = (uint64_t)ring->channels * sizeof(int32_t);
    uint64_t until_wrap = ring->capacity - seq % ring->capacity;
    uint64_t first = rows < until_wrap ? rows : until_wrap;
    memcpy(out, emgd_ring_rows(ring, plane, seq), first * row_bytes);
    if (rows > first) memcpy((uint8_t *)out + first * row_bytes, emgd_ring_rows(ring, plane, 0), (rows - first) * row_bytes);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return seq >= emgd_ring_floor(ring) ? 0 : -1;
}
