from libc.stdint cimport int32_t, uint64_t

cdef extern from "biquad.h" nogil:
    enum: EMGD_MAX_SECTIONS

    ctypedef struct emgd_cascade:
        int channels
        int width
        int sections
        double* scale
        double* coef
        double* state
        double* zi
        uint64_t* settle

    emgd_cascade* emgd_cascade_new(int channels, int sections)
    void emgd_cascade_free(emgd_cascade* cascade)
    void emgd_cascade_prime(emgd_cascade* cascade, const int32_t* counts)
    void emgd_cascade_f32(emgd_cascade* cascade, const int32_t* source, float* out, size_t rows)
    void emgd_cascade_f64(emgd_cascade* cascade, const int32_t* source, double* out, size_t rows)


cdef class Cascade:
    cdef emgd_cascade* handle
    cdef void put(self, int channel, int number, section, state) except *
