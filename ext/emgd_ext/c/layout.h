/* Frames of fixed length: where what lies in them, whether bytes are one, and their samples. */
#ifndef EMGD_LAYOUT_H
#define EMGD_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

enum {
    EMGD_LAYOUT_MAX_BYTES = 512, /* a frame: 128 channels of 24 bits and more */
    EMGD_LAYOUT_HEADER_BYTES = 16,
    EMGD_LAYOUT_CONSTANTS = 4,
    EMGD_LAYOUT_REMARK_BYTES = 64
};

/* An unsigned number of 1 to 8 bytes at `offset`; 0 bytes: there is none. */
typedef struct {
    uint32_t offset;
    uint32_t bytes;
    int big_endian;
} emgd_field;

typedef struct {
    uint32_t offset;
    uint8_t mask;
    uint8_t value;
} emgd_constant;

typedef struct {
    uint32_t length; /* of a frame, bytes */
    uint32_t channels;
    uint32_t header_bytes;
    uint8_t header[EMGD_LAYOUT_HEADER_BYTES];
    uint32_t constant_count;
    emgd_constant constants[EMGD_LAYOUT_CONSTANTS];
    uint8_t ends[256]; /* non-zero where a frame may end with this byte */
    emgd_field counter;
    emgd_field tick;
    emgd_field samples; /* the first sample; the others follow without space between them */
    uint32_t remark_bytes;
    uint8_t remark[EMGD_LAYOUT_REMARK_BYTES]; /* what the device may say between two frames */
} emgd_layout;

/* Do the `length` bytes at `frame` look like a frame: header, constant bits and end? */
int emgd_layout_fits(const emgd_layout *layout, const uint8_t *frame);

/* How many of the first `size` bytes of `pattern` stand at `data`, of which there are `available`? -1 when one differs. */
int emgd_layout_prefix(const uint8_t *pattern, size_t size, const uint8_t *data, size_t available);

uint64_t emgd_layout_number(const emgd_field *field, const uint8_t *frame);

/* All channels of one frame, sign extended. */
void emgd_layout_unpack(const emgd_layout *layout, const uint8_t *frame, int32_t *out);

#endif
