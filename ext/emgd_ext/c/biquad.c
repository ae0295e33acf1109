/* Cascade of biquads. C because it is five multiplications per sample and section, four channels to a register.
 *
 * Double precision throughout: single puts a 50 Hz notch in the wrong place at 48 kHz and breaks at 2 Hz. Samples are the outer loop and
 * sections the inner one, so that the recurrences of several sections overlap in the processor. */
#include "biquad.h"

#include <stdlib.h>
#include <string.h>

#define LANES 4
typedef double vec __attribute__((vector_size(LANES * sizeof(double))));
typedef float vecf __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t ints __attribute__((vector_size(LANES * sizeof(int32_t))));

#if defined(__x86_64__) && defined(__GLIBC__)
#define CLONES __attribute__((target_clones("avx2", "default")))
#else
#define CLONES
#endif

/* By pointer: a vector returned by value would have one ABI with AVX and another without. */
static inline __attribute__((always_inline)) void load(vec *to, const double *from) { memcpy(to, from, sizeof *to); }

static inline __attribute__((always_inline)) void store(double *to, const vec *from) { memcpy(to, from, sizeof *from); }

#define OUT float
#define VEC_OUT vecf
#define RUN(name) name##_f32
#include "biquad_run.h"
#undef OUT
#undef VEC_OUT
#undef RUN

#define OUT double
#define VEC_OUT vec
#define RUN(name) name##_f64
#include "biquad_run.h"

void emgd_cascade_f32(emgd_cascade *cascade, const int32_t *in, float *out, size_t rows) {
    dispatch_f32(cascade, in, out, rows);
}

void emgd_cascade_f64(emgd_cascade *cascade, const int32_t *in, double *out, size_t rows) {
    dispatch_f64(cascade, in, out, rows);
}

void emgd_cascade_prime(emgd_cascade *h, const int32_t *counts) {
    for (int i = 0; i < 2 * h->sections; i++)
        for (int c = 0; c < h->channels; c++) {
            size_t at = (size_t)i * (size_t)h->width + (size_t)c;
            h->state[at] = h->zi[at] * (counts[c] * h->scale[c]);
        }
}

emgd_cascade *emgd_cascade_new(int channels, int sections) {
    if (channels < 1 || sections < 1 || sections > EMGD_MAX_SECTIONS) return NULL;
    int width = (channels + LANES - 1) / LANES * LANES;
    size_t doubles = (size_t)width * (size_t)(1 + sections * (5 + 2 + 2));
    emgd_cascade *h = calloc(1, sizeof *h);
    double *memory = calloc(doubles, sizeof *memory);
    uint64_t *settle = calloc((size_t)channels, sizeof *settle);
    if (!h || !memory || !settle) {
        free(h);
        free(memory);
        free(settle);
        return NULL;
    }
    h->channels = channels;
    h->width = width;
    h->sections = sections;
    h->settle = settle;
    h->scale = memory;
    h->coef = h->scale + width;
    h->state = h->coef + (size_t)sections * 5 * (size_t)width;
    h->zi = h->state + (size_t)sections * 2 * (size_t)width;
    for (int c = 0; c < width; c++) h->scale[c] = 1.0;
    for (int s = 0; s < sections; s++)
        for (int c = 0; c < width; c++) h->coef[((size_t)s * 5) * (size_t)width + (size_t)c] = 1.0;
    return h;
}

void emgd_cascade_free(emgd_cascade *cascade) {
    if (!cascade) return;
    free(cascade->scale);
    free(cascade->settle);
    free(cascade);
}
