"""Device ticks to host time: which CLOCK_MONOTONIC instant is this tick?

Not Python because every block is stamped in the sample loop, without the GIL.

Two kinds of observation bound the truth from two sides. A frame *arrives* after its last sample was taken, never
before: over half a second of arrivals the earliest one is late by almost nothing, whatever the jitter of the rest. A
*probe* latches the device's clock between two host times; the earlier one is a bound from below. A decayed regression
through the earliest arrivals gives the rate and the upper envelope; the tightest lower bound of the recent probes
says how far below it the truth can lie; stamps follow the middle and the remaining doubt is published as sigma.

Residual = host time minus what the nominal tick rate would give, counted from the first observation. Stamps never go
back: a new fit is approached by slewing, never by stepping backwards.
"""

from libc.math cimport exp, fabs, llround, sqrt
from libc.stdint cimport int64_t, uint64_t


cdef extern from *:
    void fence "__sync_synchronize"() nogil

cdef double WINDOW_NS = 0.5e9
cdef double FIRST_WINDOW_NS = 0.1e9     # the first ten, so that the rate is known after a second
cdef int FIRST_WINDOWS = 10
cdef int WINDOW_ARRIVALS = 8            # a slow device's window lasts until it has these: fewer make no envelope
cdef double DECAY_NS = 10e9             # weight of an old window falls by e in this time
cdef int LINE_WINDOWS = 4               # fewer windows than this give no rate
cdef double PRIOR_SLOPE = 100e-6        # crystals are within 100 ppm; holds the rate while there is little data
cdef double SCATTER_FLOOR_NS = 500.0    # no host reads its clock better than this
cdef double LATE_SCATTERS = 4.0         # outlier: later than the fit by so many scatters ...
cdef double LATE_MARGIN_NS = 5e3        # ... and this much
cdef double PROBE_MARGIN_NS = 5e6       # outlier: a probe that contradicts the envelope by this much
cdef double SLEW_NS = 1e9               # a new fit is reached within about this time
cdef double SLEW_LIMIT = 1e-3           # the fastest approach: one part in a thousand
cdef double STEP_NS = 50e6              # further ahead than this the stamps step forward (the host slept)
cdef double UNPROBED_NS = 1e6           # without probes the fastest delivery is unknown; USB takes less than this
cdef double WALK = 2e-6                 # holdover: what a crystal may do unobserved
cdef double HOLDOVER_NS = 1e9


cdef class ClockModel:
    """Clock of one device. `tick_hz` nominal ticks per second; `virtual`: ticks say nothing about real time, count
    them instead.
    """

    def __cinit__(self, double tick_hz, *, bint virtual=False):
        if not tick_hz > 0:
            raise ValueError(f"tick_hz is {tick_hz}; it must be positive")
        self.tick_hz = tick_hz
        self.ns_per_tick = 1e9 / tick_hz
        self.virtual = virtual

    # --- observations

    cdef double nominal_ns(self, uint64_t tick) noexcept nogil:
        return <double> <int64_t> (tick - self.tick_origin) * self.ns_per_tick

    cdef void start(self, uint64_t tick, int64_t host_ns) noexcept nogil:
        self.started = True
        self.tick_origin = tick
        self.host_origin_ns = host_ns
        self.scatter_ns = UNPROBED_NS
        self.fit_sigma_ns = UNPROBED_NS
        self.slope_sigma = PRIOR_SLOPE

    cdef void arrival(self, uint64_t tick, int64_t host_ns) noexcept nogil:
        """A frame whose last sample was taken at `tick` was here at `host_ns`."""
        if not self.started:
            self.start(tick, host_ns)
        cdef double x = self.nominal_ns(tick)
        cdef double r = <double> (host_ns - self.host_origin_ns) - x
        self.version += 1
        fence()
        self.observations += 1
        self.last_host_ns = host_ns
        if not self.virtual:
            if self.open_arrivals == 0:
                self.open_start_x = x
            if self.open_arrivals == 0 or r - self.fit.slope * x < self.open_best_r - self.fit.slope * self.open_best_x:
                self.open_best_x = x
                self.open_best_r = r
            self.open_arrivals += 1
            if self.open_arrivals >= WINDOW_ARRIVALS and x - self.open_start_x >= self.window_ns():
                self.close_window()
                self.refit(x)
            elif not self.out_set:
                self.refit(x)
        self.version += 1
        fence()

    cdef double window_ns(self) noexcept nogil:
        return FIRST_WINDOW_NS if self.windows_closed < <uint64_t> FIRST_WINDOWS else WINDOW_NS

    cdef void close_window(self) noexcept nogil:
        if (
            self.window_count >= LINE_WINDOWS
            and self.open_best_r - self.fit_at(self.open_best_x) > LATE_SCATTERS * self.scatter_ns + LATE_MARGIN_NS
        ):
            self.rejected += 1      # kept all the same: if it goes on like this, the fit will follow
        self.window_x[self.window_next] = self.open_best_x
        self.window_r[self.window_next] = self.open_best_r
        self.window_next = (self.window_next + 1) % CLOCK_WINDOWS
        self.window_count = min(self.window_count + 1, <int> CLOCK_WINDOWS)
        self.windows_closed += 1
        self.open_arrivals = 0

    cdef void probe(self, int64_t before_ns, uint64_t tick, int64_t after_ns) noexcept nogil:
        """The device's clock stood at `tick` some time between two host times."""
        if self.virtual or after_ns < before_ns:
            return
        if not self.started:
            self.start(tick, before_ns + (after_ns - before_ns) // 2)
        cdef double x = self.nominal_ns(tick)
        cdef double low = <double> (before_ns - self.host_origin_ns) - x
        cdef double high = <double> (after_ns - self.host_origin_ns) - x
        self.version += 1
        fence()
        if self.window_count >= LINE_WINDOWS and low > self.fit_at(x) + PROBE_MARGIN_NS:
            self.rejected += 1
        else:
            self.observations += 1
            self.last_host_ns = max(self.last_host_ns, after_ns)
            self.probe_x[self.probe_next] = x
            self.probe_low[self.probe_next] = low
            self.probe_high[self.probe_next] = high
            self.probe_next = (self.probe_next + 1) % CLOCK_PROBES
            self.probe_count = min(self.probe_count + 1, <int> CLOCK_PROBES)
            self.refit(x)
        self.version += 1
        fence()

    # --- the fit

    cdef double fit_at(self, double x) noexcept nogil:
        return self.fit.value_ns + self.fit.slope * (x - self.fit.at_ns)

    cdef void refit(self, double x) noexcept nogil:
        if self.window_count >= LINE_WINDOWS:
            self.fit_line(x)
        else:
            self.fit_constant(x)
        self.centre()
        self.steer(x)

    cdef void fit_constant(self, double x) noexcept nogil:
        """Too little for a rate: the tightest upper bound of all, held constant."""
        cdef int i
        cdef bint any_bound = False
        cdef double low = 0.0
        for i in range(self.window_count):
            low = min(low, self.window_r[i]) if any_bound else self.window_r[i]
            any_bound = True
        for i in range(self.probe_count):
            low = min(low, self.probe_high[i]) if any_bound else self.probe_high[i]
            any_bound = True
        if self.open_arrivals:
            low = min(low, self.open_best_r) if any_bound else self.open_best_r
        self.fit.at_ns = x
        self.fit.value_ns = low
        self.fit.slope = 0.0

    cdef void fit_line(self, double x) noexcept nogil:
        """Decayed regression through the earliest arrivals, without the windows that were late as a whole."""
        cdef double weight[CLOCK_WINDOWS]
        cdef double late[CLOCK_WINDOWS]
        cdef double sw = 0.0, sx, sr, sxx = 0.0, sxr, mx = 0.0, mr = 0.0
        cdef double slope = self.fit.slope, scatter = self.scatter_ns
        cdef int i, _turn, kept, n = self.window_count
        for i in range(n):
            weight[i] = exp((self.window_x[i] - x) / DECAY_NS)
            late[i] = 0.0
        for _turn in range(3):
            sw = sx = sr = sxx = sxr = 0.0
            kept = 0
            for i in range(n):
                if late[i] <= LATE_SCATTERS * scatter + LATE_MARGIN_NS:
                    sw += weight[i]
                    sx += weight[i] * (self.window_x[i] - x)
                    sr += weight[i] * self.window_r[i]
                    kept += 1
            if kept < LINE_WINDOWS:     # the whole level moved: begin with all again
                scatter = 1e12
                continue
            mx = sx / sw
            mr = sr / sw
            for i in range(n):
                if late[i] <= LATE_SCATTERS * scatter + LATE_MARGIN_NS:
                    sxx += weight[i] * (self.window_x[i] - x - mx) ** 2
                    sxr += weight[i] * (self.window_x[i] - x - mx) * (self.window_r[i] - mr)
            slope = sxr / (sxx + (scatter / PRIOR_SLOPE) ** 2)
            for i in range(n):
                late[i] = self.window_r[i] - (mr + slope * (self.window_x[i] - x - mx))
            scatter = max(SCATTER_FLOOR_NS, 1.4826 * median_magnitude(late, n))
        self.fit.at_ns = x
        self.fit.value_ns = mr - slope * mx
        self.fit.slope = slope
        self.scatter_ns = scatter
        self.slope_sigma = scatter / sqrt(sxx + (scatter / PRIOR_SLOPE) ** 2)
        self.fit_sigma_ns = sqrt(scatter * scatter / sw + (self.slope_sigma * mx) ** 2)

    cdef void centre(self) noexcept nogil:
        """Between the envelope and the tightest lower bound of the probes."""
        cdef double low = 0.0
        cdef double high = 0.0
        cdef double line
        cdef int i
        if self.probe_count == 0:
            self.middle_ns = -UNPROBED_NS / 2
            self.half_width_ns = UNPROBED_NS / 2
            return
        for i in range(self.probe_count):
            line = self.fit_at(self.probe_x[i])
            low = self.probe_low[i] - line if i == 0 else max(low, self.probe_low[i] - line)
            high = min(high, self.probe_high[i] - line)
        self.middle_ns = (low + high) / 2
        self.half_width_ns = fabs(high - low) / 2

    # --- the line that stamps follow

    cdef double out_at(self, double x) noexcept nogil:
        cdef double slewing = min(x, self.out_slew_end) - self.out.at_ns
        return self.out.value_ns + self.out.slope * (x - self.out.at_ns) + self.out_slew * slewing

    cdef void steer(self, double x) noexcept nogil:
        cdef double target = self.fit_at(x) + self.middle_ns
        cdef double now = target
        cdef double error
        if self.out_set:
            now = self.out_at(x)
        error = target - now
        if error > STEP_NS:
            now = target
            error = 0.0
        self.out.at_ns = x
        self.out.value_ns = now
        self.out.slope = self.fit.slope
        self.out_slew = max(-SLEW_LIMIT, min(SLEW_LIMIT, error / SLEW_NS))
        self.out_slew_end = x + SLEW_NS
        self.out_set = True

    cdef uint64_t stamp(self, uint64_t tick) noexcept nogil:
        cdef double x = self.nominal_ns(tick)
        return <uint64_t> (self.host_origin_ns + llround(x + (self.out_at(x) if self.out_set else 0.0)))

    cdef uint64_t stamp_next(self, uint64_t tick) noexcept nogil:
        """Stamp of the next block: later than the one before, by construction and then once more by comparison."""
        cdef uint64_t stamp = self.stamp(tick)
        self.last_stamp_ns = max(stamp, self.last_stamp_ns + 1)
        return self.last_stamp_ns

    cdef double sigma(self, double age_ns) noexcept nogil:
        cdef double behind = self.fit_at(self.out.at_ns) + self.middle_ns - self.out.value_ns
        cdef double drifted = age_ns * (WALK + self.slope_sigma)
        return sqrt(
            self.fit_sigma_ns ** 2 + self.scatter_ns ** 2 + self.half_width_ns ** 2 / 3.0 + behind ** 2 + drifted ** 2
        )

    # --- for tests, tools and the supervising thread

    def observe_arrival(self, uint64_t tick, int64_t host_ns):
        """A frame whose last sample was taken at `tick` was here at `host_ns`."""
        self.arrival(tick, host_ns)

    def observe_probe(self, int64_t before_ns, uint64_t tick, int64_t after_ns):
        """The device's clock stood at `tick` some time between two host times."""
        self.probe(before_ns, tick, after_ns)

    def host_time_ns(self, uint64_t tick):
        """CLOCK_MONOTONIC ns of `tick`."""
        return self.stamp(tick)

    def snapshot(self, int64_t now_ns):
        """The model as published on `<device>/clock` (docs/protocol.md)."""
        cdef uint64_t before
        while True:
            before = self.version
            fence()
            age_ns = max(0, now_ns - self.last_host_ns) if self.started else 0
            found = {
                "state": self.state(age_ns),
                "offset_ns": self.out_at(self.out.at_ns) if self.out_set else 0.0,
                "drift_ppm": self.fit.slope * 1e6,
                "sigma_ns": 0.0 if self.virtual else self.sigma(age_ns),
                "age_ns": age_ns,
                "observations": self.observations,
                "rejected": self.rejected,
            }
            fence()
            if before == self.version and before % 2 == 0:
                return found

    cdef str state(self, int64_t age_ns):
        if self.virtual:
            return "virtual"
        if self.window_count < LINE_WINDOWS:
            return "unlocked"
        return "holdover" if age_ns > HOLDOVER_NS else "locked"


cdef double median_magnitude(const double* values, int n) noexcept nogil:
    cdef double sorted_values[CLOCK_WINDOWS]
    cdef double value
    cdef int i, j
    for i in range(n):
        value = fabs(values[i])
        j = i
        while j > 0 and sorted_values[j - 1] > value:
            sorted_values[j] = sorted_values[j - 1]
            j -= 1
        sorted_values[j] = value
    return sorted_values[n // 2]
