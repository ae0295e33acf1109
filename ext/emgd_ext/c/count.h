/* Which number does a sample have, when its device counts in few bits, or does not count what it left out? */
#ifndef EMGD_COUNT_H
#define EMGD_COUNT_H

#include <stdint.h>

/* A counter of `bits` bits that steps once each `period_ns`, unwrapped to 64 bits with the help of host time. */
typedef struct {
    uint32_t bits;
    double nominal_ns;
    double period_ns; /* measured once it can be */
    int started;
    uint64_t raw; /* what the counter said last ... */
    int64_t last; /* ... and the number that it meant */
    double due_ns; /* host time at which `last` would have been here, had nothing held it up; relative to zero_ns */
    int64_t zero_ns;
    int64_t first_settled; /* two instants far apart give the period */
    double first_settled_ns;
    int settled;
} emgd_count;

enum { EMGD_COUNT_FORWARD = 0, EMGD_COUNT_BACK = 1, EMGD_COUNT_BY_TIME = 2 };

typedef struct {
    int64_t value;
    int kind; /* EMGD_COUNT_*; BACK: seen before, nothing was remembered; BY_TIME: what the device counts was no help */
} emgd_counted;

void emgd_count_init(emgd_count *count, uint32_t bits, double period_ns);

/* The counter stands before 0 at `host_ns`: the device is about to be started. */
void emgd_count_start(emgd_count *count, int64_t host_ns);

/* The counter said `raw`, which was here at `host_ns` with `behind` more counts after it in the same delivery.
 * `begun_anew`: the device may have set its counter to zero since. */
emgd_counted emgd_count_next(emgd_count *count, uint64_t raw, int64_t host_ns, uint32_t behind, int begun_anew);

/* Conversions on a grid of device ticks: a device that reads its converter too late misses conversions, and counts only those that
 * it read. Ticks are taken when it reads, so they are late by anything up to a period, but never early. */
typedef struct {
    double period; /* ticks from one conversion to the next, followed as it drifts */
    double nominal;
    double at; /* when the last conversion was, relative to `tick` */
    int64_t tick; /* of the last one read */
    int started;
} emgd_grid;

void emgd_grid_init(emgd_grid *grid, double period);

/* How many conversions on from the last one is the one read at `tick`, when the device counted `counted` readings on? */
int64_t emgd_grid_step(emgd_grid *grid, int64_t tick, int64_t counted);

#endif
