/* Packed 24-bit samples to int32 and back, and the check for saturation. */
#ifndef EMGD_UNPACK_H
#define EMGD_UNPACK_H

#include <stddef.h>
#include <stdint.h>

/* `n` little-endian 24-bit two's complement numbers to int32. Reads exactly 3*n bytes. */
void emgd_unpack24le(const uint8_t *in, int32_t *out, size_t n);

/* The portable way, whatever the machine can do: for tests of the above. */
void emgd_unpack24le_portable(const uint8_t *in, int32_t *out, size_t n);

/* The low 24 bits of `n` int32 numbers, little endian. */
void emgd_pack24le(const int32_t *in, uint8_t *out, size_t n);

/* hit[c] becomes non-zero where any of `rows` samples of channel c has |count| >= limit[c]. */
void emgd_saturation(const int32_t *samples, size_t rows, size_t channels, const int32_t *limit, uint32_t *hit);

#endif
