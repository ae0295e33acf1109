/* What was given in the last minute: every pulse that was let through, for the limits that look back.
 *
 * C, pure (no clock, no I/O, no allocation): it is part of what is proven. Memory is bounded and the sums are exact all the same: a
 * pulse's place is used again only when the pulse is older than every window, and where no place is left no pulse is let
 * through. The order of the places means nothing, so a clock that went backwards cannot hide a pulse. */
#ifndef EMGD_DOSE_H
#define EMGD_DOSE_H

#include "gate_limits.h"

#ifndef EMGD_BOOKED
#define EMGD_BOOKED 256 /* more than twice what the ceiling of pulses per site and minute allows */
#endif

#define EMGD_MEAN_WINDOW_NS 10000000000 /* mean and root mean square current: any 10 s */
#define EMGD_MEAN_WINDOW_US 10000000    /* the same */
#define EMGD_SITE_WINDOW_NS 60000000000 /* pulses per site: any 60 s; the longest window */

#define EMGD_MAX_TIME_NS 4000000000000000000 /* 126 years of uptime; later times are nonsense and would overflow sums */
#define EMGD_LONG_AGO_NS (-7200000000000)     /* 2 h before time began: longer than any rest or window */

#define EMGD_MAX_CHARGE_PC ((int64_t)EMGD_MAX_CURRENT_UA * EMGD_MAX_WIDTH_US)
#define EMGD_MAX_SQUARE (EMGD_MAX_CHARGE_PC * EMGD_MAX_CURRENT_UA) /* uA uA us */
#define EMGD_SQUARE_UNIT 10000 /* squares are kept in this unit, rounded up: then 32 bits hold the largest */

/* A pulse that was let through. The narrow types are a safety measure: no sum over them can overflow, whatever they hold. */
typedef struct {
    int64_t at_ns; /* when it goes out */
    uint64_t site;
    uint32_t charge_pc; /* current x width, uA us */
    uint32_t squares;   /* current x current x width, in EMGD_SQUARE_UNIT uA uA us */
} emgd_booked;

typedef struct {
    emgd_booked pulse[EMGD_BOOKED];
} emgd_dose;

/* What lies in the windows that end at some instant. */
typedef struct {
    int64_t charge_pc;   /* in 10 s, anywhere */
    int64_t squares;     /* in 10 s, anywhere */
    int64_t site_pulses; /* in 60 s, at one site */
    int64_t room;        /* places for more pulses */
} emgd_dose_sums;

/*@ logic integer charge_since(emgd_booked *p, integer n, integer since) =
        n <= 0 ? 0 : charge_since(p, n - 1, since) + (p[n - 1].at_ns > since ? p[n - 1].charge_pc : 0);

    logic integer squares_since(emgd_booked *p, integer n, integer since) =
        n <= 0 ? 0 : squares_since(p, n - 1, since) + (p[n - 1].at_ns > since ? p[n - 1].squares : 0);

    logic integer pulses_since(emgd_booked *p, integer n, integer since, integer site) =
        n <= 0 ? 0 : pulses_since(p, n - 1, since, site) + (p[n - 1].at_ns > since && p[n - 1].site == site ? 1 : 0);

    logic integer room_since(emgd_booked *p, integer n, integer since) =
        n <= 0 ? 0 : room_since(p, n - 1, since) + (p[n - 1].at_ns > since ? 0 : 1);
 */

/* Nothing was given yet. */
/*@ requires \valid(dose);
    assigns dose->pulse[0 .. EMGD_BOOKED - 1];
    ensures \forall integer i; 0 <= i < EMGD_BOOKED ==>
        dose->pulse[i].at_ns == EMGD_LONG_AGO_NS && dose->pulse[i].charge_pc == 0;
 */
void emgd_dose_clear(emgd_dose *dose);

/* The sums over the windows that end at `at_ns`: a pulse exactly as old as a window is outside. */
/*@ requires \valid_read(dose) && 0 <= at_ns;
    assigns \nothing;
    ensures \result.charge_pc == charge_since(&dose->pulse[0], EMGD_BOOKED, at_ns - EMGD_MEAN_WINDOW_NS);
    ensures \result.squares == squares_since(&dose->pulse[0], EMGD_BOOKED, at_ns - EMGD_MEAN_WINDOW_NS);
    ensures \result.site_pulses == pulses_since(&dose->pulse[0], EMGD_BOOKED, at_ns - EMGD_SITE_WINDOW_NS, site);
    ensures \result.room == room_since(&dose->pulse[0], EMGD_BOOKED, at_ns - EMGD_SITE_WINDOW_NS);
    ensures 0 <= \result.charge_pc <= EMGD_BOOKED * UINT32_MAX;
    ensures 0 <= \result.squares <= EMGD_BOOKED * UINT32_MAX;
    ensures 0 <= \result.site_pulses <= EMGD_BOOKED;
    ensures 0 <= \result.room <= EMGD_BOOKED;
 */
emgd_dose_sums emgd_dose_measure(const emgd_dose *dose, uint64_t site, int64_t at_ns);

/* Note a pulse in the place of one that is out of every window. There must be one. */
/*@ requires \valid(dose) && \valid_read(pulse) && \separated(dose, pulse);
    requires 0 <= pulse->at_ns;
    requires room_since(&dose->pulse[0], EMGD_BOOKED, pulse->at_ns - EMGD_SITE_WINDOW_NS) >= 1;
    assigns dose->pulse[0 .. EMGD_BOOKED - 1];
    ensures \exists integer k; 0 <= k < EMGD_BOOKED &&
        \old(dose->pulse[k].at_ns) <= pulse->at_ns - EMGD_SITE_WINDOW_NS &&
        dose->pulse[k].at_ns == pulse->at_ns && dose->pulse[k].charge_pc == pulse->charge_pc &&
        dose->pulse[k].squares == pulse->squares && dose->pulse[k].site == pulse->site &&
        \forall integer i; 0 <= i < EMGD_BOOKED && i != k ==>
            dose->pulse[i].at_ns == \old(dose->pulse[i].at_ns) && dose->pulse[i].site == \old(dose->pulse[i].site) &&
            dose->pulse[i].charge_pc == \old(dose->pulse[i].charge_pc) &&
            dose->pulse[i].squares == \old(dose->pulse[i].squares);
 */
void emgd_dose_book(emgd_dose *dose, const emgd_booked *pulse);

#endif
