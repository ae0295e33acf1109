/* Sample numbers from narrow counters and from ticks. C, pure (no clock, no I/O), so that it is also tested alone: a wrong
 * number is a sample at a wrong time. */
#include "count.h"

#include <math.h>
#include <string.h>

/* A crystal is off by less than a thousandth, the free-running oscillator of a converter by up to a fortieth. */
#define MAX_RATE_ERROR (1.0 / 32)

/* Nothing arrives before it was taken. What seems to is an error of our idea of the clock: so much at once ... */
#define EARLY_NS 64e6
/* ... and MAX_RATE_ERROR of the time since the last count, up to half a turn of the counter. */

#define SETTLE_NS 2e9  /* after so long the earliest arrivals are known */
#define MEASURE_NS 10e9 /* over so long they give the period to a ten thousandth */

void emgd_count_init(emgd_count *c, uint32_t bits, double period_ns) {
    memset(c, 0, sizeof *c);
    c->bits = bits;
    c->nominal_ns = c->period_ns = period_ns;
}

void emgd_count_start(emgd_count *c, int64_t host_ns) {
    emgd_count_init(c, c->bits, c->nominal_ns);
    c->started = 1;
    c->last = -1;
    c->raw = ~(uint64_t)0;
    c->zero_ns = host_ns;
}

static void measure_period(emgd_count *c) {
    if (!c->settled) {
        if (c->due_ns < SETTLE_NS) return;
        c->settled = 1;
        c->first_settled = c->last;
        c->first_settled_ns = c->due_ns;
    } else if (c->due_ns - c->first_settled_ns > MEASURE_NS) {
        double period_ns = (c->due_ns - c->first_settled_ns) / (double)(c->last - c->first_settled);
        if (fabs(period_ns / c->nominal_ns - 1) < MAX_RATE_ERROR) c->period_ns = period_ns;
    }
}

static void accept(emgd_count *c, uint64_t raw, int64_t value, double here_ns) {
    double step_ns = (double)(value - c->last) * c->period_ns;
    c->raw = raw;
    c->last = value;
    /* The earliest arrival of late, forgotten as fast as an oscillator may be slow. */
    c->due_ns = fmin(c->due_ns + step_ns * (1 + MAX_RATE_ERROR), here_ns);
    measure_period(c);
}

emgd_counted emgd_count_next(emgd_count *c, uint64_t raw, int64_t host_ns, uint32_t behind, int begun_anew) {
    emgd_counted counted = {(int64_t)raw, EMGD_COUNT_FORWARD};
    if (!c->started) {
        c->started = 1;
        c->raw = raw;
        c->last = (int64_t)raw;
        c->zero_ns = host_ns;
        c->due_ns = -(double)behind * c->period_ns;
        return counted;
    }
    double here_ns = (double)(host_ns - c->zero_ns) - (double)behind * c->period_ns;
    double since = (here_ns - c->due_ns) / c->period_ns; /* counts since the last one, if this one was not held up */
    int64_t latest = c->last + (int64_t)floor(since);
    int64_t turn = (int64_t)1 << c->bits;
    int64_t step = (int64_t)((raw - c->raw) & (uint64_t)(turn - 1));
    if (begun_anew && step != 1) {
        counted.value = latest > c->last ? latest : c->last + 1;
        counted.kind = EMGD_COUNT_BY_TIME;
        accept(c, raw, counted.value, here_ns);
        return counted;
    }
    /* Of all numbers that look like `raw`, the highest one that can be here by now: up to a turn may be late, little early. */
    double early = EARLY_NS / c->period_ns + fmax(since, 0) * MAX_RATE_ERROR;
    int64_t bound = latest + (int64_t)fmin(early, (double)(turn / 2));
    int64_t value = c->last + step;
    value += (bound - value) / turn * turn;
    if (value > bound) value -= turn;
    /* A small step forward is one, whatever the clock says: who repeats bytes repeats few of them. */
    if (value <= c->last && step > 0 && step <= turn / 4) value = c->last + step;
    counted.value = value;
    if (value <= c->last)
        counted.kind = EMGD_COUNT_BACK;
    else
        accept(c, raw, value, here_ns);
    return counted;
}

#define GRID_FOLLOW (1.0 / 1024)   /* weight of one reading in the mean period */
#define GRID_LATE 0.75             /* later than this part of a period a reading is taken for the next conversion's */
#define GRID_FORGET MAX_RATE_ERROR /* the grid gives way to readings that are late for long, a little each time */

void emgd_grid_init(emgd_grid *g, double period) {
    memset(g, 0, sizeof *g);
    g->period = g->nominal = period;
}

int64_t emgd_grid_step(emgd_grid *g, int64_t tick, int64_t counted) {
    if (!g->started) {
        g->started = 1;
        g->tick = tick;
        return counted;
    }
    double passed = (double)(tick - g->tick);
    double since = passed - g->at; /* since the last conversion; `at` is never positive */
    int64_t by_ticks = (int64_t)floor(since / g->period + 1 - GRID_LATE);
    /* Over a gap believe the device's own count, unless ticks say more than its rate may be off. */
    int64_t step = (double)by_ticks > (double)counted * (1 + MAX_RATE_ERROR) ? by_ticks : counted;
    double at = g->at + (double)step * g->period * (step == counted ? 1 + GRID_FORGET : 1);
    if (step == 1) {
        double period = g->period + (passed - g->period) * GRID_FOLLOW;
        if (fabs(period / g->nominal - 1) < MAX_RATE_ERROR) g->period = period;
    }
    g->at = fmax(fmin(at - passed, 0), -GRID_LATE * g->period);
    g->tick = tick;
    return step;
}
