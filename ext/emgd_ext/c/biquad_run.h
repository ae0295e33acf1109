/* Body of the cascade for one output type: OUT, and RUN(name). Included twice by biquad.c. */

static inline __attribute__((always_inline)) void RUN(tile)(emgd_cascade *h, const int32_t *in, OUT *out, size_t rows,
                                                             int channel, int lanes, int sections) {
    const size_t width = (size_t)h->width, stride = (size_t)h->channels;
    vec coef[5 * EMGD_MAX_SECTIONS], state[2 * EMGD_MAX_SECTIONS];
    vec scale;
    load(&scale, h->scale + channel);
    for (int i = 0; i < 5 * sections; i++) load(&coef[i], h->coef + (size_t)i * width + channel);
    for (int i = 0; i < 2 * sections; i++) load(&state[i], h->state + (size_t)i * width + channel);
    in += channel;
    out += channel;
    for (size_t row = 0; row < rows; row++, in += stride, out += stride) {
        ints counts = {0};
        memcpy(&counts, in, (size_t)lanes * sizeof *in);
        vec x = __builtin_convertvector(counts, vec) * scale;
#pragma GCC unroll 8
        for (int s = 0; s < sections; s++) {
            const vec *k = coef + 5 * s;
            vec *z = state + 2 * s;
            vec y = k[0] * x + z[0];
            z[0] = k[1] * x - k[3] * y + z[1];
            z[1] = k[2] * x - k[4] * y;
            x = y;
        }
        VEC_OUT result = __builtin_convertvector(x, VEC_OUT);
        memcpy(out, &result, (size_t)lanes * sizeof *out);
    }
    for (int i = 0; i < 2 * sections; i++) store(h->state + (size_t)i * width + channel, &state[i]);
}

static inline __attribute__((always_inline)) void RUN(all)(emgd_cascade *h, const int32_t *in, OUT *out, size_t rows,
                                                            int sections) {
    int channel = 0;
    for (; channel + LANES <= h->channels; channel += LANES) RUN(tile)(h, in, out, rows, channel, LANES, sections);
    if (channel < h->channels) RUN(tile)(h, in, out, rows, channel, h->channels - channel, sections);
}

/* A constant section count lets the compiler keep a whole cascade in registers. */
CLONES static void RUN(dispatch)(emgd_cascade *h, const int32_t *in, OUT *out, size_t rows) {
    switch (h->sections) {
        case 1: RUN(all)(h, in, out, rows, 1); break;
        case 2: RUN(all)(h, in, out, rows, 2); break;
        case 3: RUN(all)(h, in, out, rows, 3); break;
        case 4: RUN(all)(h, in, out, rows, 4); break;
        case 5: RUN(all)(h, in, out, rows, 5); break;
        default: RUN(all)(h, in, out, rows, h->sections); break;
    }
}
