from libc.stdint cimport int64_t, uint64_t

cdef enum:
    CLOCK_WINDOWS = 48  # 24 s of half-second windows: long against jitter, short against a crystal's walk
    CLOCK_PROBES = 64   # 16 s at four a second


cdef struct Line:
    # residual in ns at `at_ns` of nominal time, and its slope
    double at_ns
    double value_ns
    double slope


cdef class ClockModel:
    cdef readonly double tick_hz
    cdef readonly bint virtual
    cdef double ns_per_tick
    cdef bint started
    cdef uint64_t tick_origin
    cdef int64_t host_origin_ns
    # windows: earliest arrivals, as (nominal time, residual)
    cdef double window_x[CLOCK_WINDOWS]
    cdef double window_r[CLOCK_WINDOWS]
    cdef int window_count
    cdef int window_next
    cdef double open_start_x
    cdef double open_best_x
    cdef double open_best_r
    cdef int open_arrivals
    cdef uint64_t windows_closed
    # probes: the latch lies between these residuals
    cdef double probe_x[CLOCK_PROBES]
    cdef double probe_low[CLOCK_PROBES]
    cdef double probe_high[CLOCK_PROBES]
    cdef int probe_count
    cdef int probe_next
    # the fit and the line that stamps follow
    cdef Line fit
    cdef double scatter_ns
    cdef double fit_sigma_ns
    cdef double slope_sigma
    cdef double middle_ns
    cdef double half_width_ns
    cdef Line out
    cdef double out_slew
    cdef double out_slew_end
    cdef bint out_set
    cdef uint64_t last_stamp_ns
    # for the outside
    cdef uint64_t version
    cdef int64_t last_host_ns
    cdef uint64_t observations
    cdef uint64_t rejected

    cdef double nominal_ns(self, uint64_t tick) noexcept nogil
    cdef void start(self, uint64_t tick, int64_t host_ns) noexcept nogil
    cdef void arrival(self, uint64_t tick, int64_t host_ns) noexcept nogil
    cdef void probe(self, int64_t before_ns, uint64_t tick, int64_t after_ns) noexcept nogil
    cdef double window_ns(self) noexcept nogil
    cdef void close_window(self) noexcept nogil
    cdef double fit_at(self, double x) noexcept nogil
    cdef double out_at(self, double x) noexcept nogil
    cdef void refit(self, double x) noexcept nogil
    cdef void fit_constant(self, double x) noexcept nogil
    cdef void fit_line(self, double x) noexcept nogil
    cdef void centre(self) noexcept nogil
    cdef void steer(self, double x) noexcept nogil
    cdef double sigma(self, double age_ns) noexcept nogil
    cdef uint64_t stamp(self, uint64_t tick) noexcept nogil
    cdef uint64_t stamp_next(self, uint64_t tick) noexcept nogil
    cdef str state(self, int64_t age_ns)
