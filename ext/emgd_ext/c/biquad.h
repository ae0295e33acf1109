/* A cascade of biquads per channel: counts in, microvolts out. */
#ifndef EMGD_BIQUAD_H
#define EMGD_BIQUAD_H

#include <stddef.h>
#include <stdint.h>

#define EMGD_MAX_SECTIONS 8 /* high-pass 2 + low-pass 2 + notch 1 is the usual 5 or less; order 4 each + notch fits */

/* All arrays are laid out for neighbouring channels in one vector register: index (section*k + coefficient)*width + channel, where
 * `width` is the channel count rounded up to a multiple of 4. A channel with fewer sections has identity sections. */
typedef struct {
    int channels;
    int width;
    int sections;
    double *scale; /* [width]                uV per count, applied first */
    double *coef;  /* [sections*5*width]     b0 b1 b2 a1 a2, a0 = 1 */
    double *state; /* [sections*2*width]     transposed direct form II */
    double *zi;    /* [sections*2*width]     state after an endless input of 1 uV, for priming */
    uint64_t *settle; /* [channels]          samples that the output needs to settle after priming */
} emgd_cascade;

/* NULL when memory ran out or a size is out of range. All filters start as identity with scale 1. */
emgd_cascade *emgd_cascade_new(int channels, int sections);
void emgd_cascade_free(emgd_cascade *cascade);

/* State as if the first row of `counts` had been there for ever. */
void emgd_cascade_prime(emgd_cascade *cascade, const int32_t *counts);

/* `rows` rows of counts through the cascade; arithmetic and state in double precision. */
void emgd_cascade_f32(emgd_cascade *cascade, const int32_t *in, float *out, size_t rows);
void emgd_cascade_f64(emgd_cascade *cascade, const int32_t *in, double *out, size_t rows);

#endif
