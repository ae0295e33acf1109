/* Frames of fixed length. C, pure, so that the very code that looks at every byte of a stream is also tested and fuzzed alone. */
#include "layout.h"

#include <string.h>

int emgd_layout_fits(const emgd_layout *layout, const uint8_t *frame) {
    if (memcmp(frame, layout->header, layout->header_bytes) != 0 || !layout->ends[frame[layout->length - 1]]) return 0;
    for (uint32_t i = 0; i < layout->constant_count; i++) {
        const emgd_constant *constant = &layout->constants[i];
        if ((frame[constant->offset] & constant->mask) != constant->value) return 0;
    }
    return 1;
}

int emgd_layout_prefix(const uint8_t *pattern, size_t size, const uint8_t *data, size_t available) {
    size_t common = size < available ? size : available;
    return memcmp(pattern, data, common) == 0 ? (int)common : -1;
}

uint64_t emgd_layout_number(const emgd_field *field, const uint8_t *frame) {
    const uint8_t *p = frame + field->offset;
    uint64_t number = 0;
    for (uint32_t i = 0; i < field->bytes; i++) {
        uint32_t at = field->big_endian ? i : field->bytes - 1 - i;
        number = number << 8 | p[at];
    }
    return number;
}

void emgd_layout_unpack(const emgd_layout *layout, const uint8_t *frame, int32_t *out) {
    uint32_t bytes = layout->samples.bytes;
    int unused_bits = 32 - 8 * (int)bytes;
    const uint8_t *p = frame + layout->samples.offset;
    for (uint32_t channel = 0; channel < layout->channels; channel++, p += bytes) {
        uint32_t bits = 0;
        for (uint32_t i = 0; i < bytes; i++) bits = bits << 8 | p[layout->samples.big_endian ? i : bytes - 1 - i];
        out[channel] = (int32_t)(bits << unused_bits) >> unused_bits; /* the sign fills what is free above */
    }
}
