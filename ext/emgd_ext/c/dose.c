/* What was given in the last minute. C, pure: what runs is what is proven; see dose.h. */
#include "dose.h"

void emgd_dose_clear(emgd_dose *dose) {
    /*@ loop invariant 0 <= i <= EMGD_BOOKED;
        loop invariant \forall integer j; 0 <= j < i ==>
            dose->pulse[j].at_ns == EMGD_LONG_AGO_NS && dose->pulse[j].charge_pc == 0;
        loop assigns i, dose->pulse[0 .. EMGD_BOOKED - 1];
        loop variant EMGD_BOOKED - i;
     */
    for (int i = 0; i < EMGD_BOOKED; i++) {
        dose->pulse[i].at_ns = EMGD_LONG_AGO_NS;
        dose->pulse[i].charge_pc = 0;
        dose->pulse[i].squares = 0;
        dose->pulse[i].site = 0;
    }
}

emgd_dose_sums emgd_dose_measure(const emgd_dose *dose, uint64_t site, int64_t at_ns) {
    int64_t mean_since_ns = at_ns - EMGD_MEAN_WINDOW_NS;
    int64_t site_since_ns = at_ns - EMGD_SITE_WINDOW_NS;
    emgd_dose_sums sums = {0, 0, 0, 0};
    /*@ loop invariant 0 <= i <= EMGD_BOOKED;
        loop invariant sums.charge_pc == charge_since(&dose->pulse[0], i, mean_since_ns);
        loop invariant sums.squares == squares_since(&dose->pulse[0], i, mean_since_ns);
        loop invariant sums.site_pulses == pulses_since(&dose->pulse[0], i, site_since_ns, site);
        loop invariant sums.room == room_since(&dose->pulse[0], i, site_since_ns);
        loop invariant 0 <= sums.charge_pc <= i * UINT32_MAX;
        loop invariant 0 <= sums.squares <= i * UINT32_MAX;
        loop invariant 0 <= sums.site_pulses <= i;
        loop invariant 0 <= sums.room <= i;
        loop assigns i, sums;
        loop variant EMGD_BOOKED - i;
     */
    for (int i = 0; i < EMGD_BOOKED; i++) {
        const emgd_booked *pulse = &dose->pulse[i];
        if (pulse->at_ns > mean_since_ns) {
            sums.charge_pc += pulse->charge_pc;
            sums.squares += pulse->squares;
        }
        if (pulse->at_ns > site_since_ns) {
            if (pulse->site == site) sums.site_pulses++;
        } else {
            sums.room++;
        }
    }
    return sums;
}

void emgd_dose_book(emgd_dose *dose, const emgd_booked *pulse) {
    int i = 0;
    /*@ loop invariant 0 <= i < EMGD_BOOKED;
        loop invariant room_since(&dose->pulse[0], i, pulse->at_ns - EMGD_SITE_WINDOW_NS) == 0;
        loop assigns i;
        loop variant EMGD_BOOKED - i;
     */
    while (i < EMGD_BOOKED - 1 && dose->pulse[i].at_ns > pulse->at_ns - EMGD_SITE_WINDOW_NS) i++;
    //@ assert dose->pulse[i].at_ns <= pulse->at_ns - EMGD_SITE_WINDOW_NS;
    dose->pulse[i].at_ns = pulse->at_ns;
    dose->pulse[i].charge_pc = pulse->charge_pc;
    dose->pulse[i].squares = pulse->squares;
    dose->pulse[i].site = pulse->site;
}
