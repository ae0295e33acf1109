/* The arithmetic of the gate: numbers of a pulse or a shot against the limits in force. Used inside the gate alone.
 *
 * C, pure: nothing here changes a gate. Every function returns a set of bits, 0 when nothing stands against. */
#ifndef EMGD_JUDGE_H
#define EMGD_JUDGE_H

#include "gate_rules.h"

/* Is a request one shot at all, and does it lie below the hard ceilings? Only then can the rest be computed. */
/*@ requires \valid_read(request);
    assigns \nothing;
    ensures \result == 0 <==> shape_holds(request);
 */
uint64_t emgd_judge_shape(const emgd_request *request);

/* The rhythm of a shot whose shape is right. */
/*@ requires \valid_read(g) && \valid_read(request) && shape_holds(request);
    requires 1 <= g->limits.value[EMGD_RATE_MHZ] <= 50000;
    assigns \nothing;
    ensures \result == 0 <==> request->kind == EMGD_SINGLE || rhythm_holds(g, request);
 */
uint64_t emgd_judge_rhythm(const emgd_gate *g, const emgd_request *request);

/* May a shot begin at `at_ns`, that long after the last pulse? */
/*@ requires \valid_read(g) && time_sound(at_ns) && past_sound(g->last_ns) && past_sound(g->fast_ns);
    requires 1 <= g->limits.value[EMGD_RATE_MHZ] <= 50000;
    requires 1 <= g->limits.value[EMGD_INTERVAL_US] <= 60000000 && 1 <= g->limits.value[EMGD_TRAIN_REST_MS] <= 3600000;
    assigns \nothing;
    ensures \result == 0 <==> may_begin(g, at_ns);
 */
uint64_t emgd_judge_begin(const emgd_gate *g, int64_t at_ns);

/* May the next pulse of the shot that is going on go at `at_ns`? */
/*@ requires \valid_read(g) && time_sound(at_ns) && past_sound(g->last_ns);
    requires 1 <= g->limits.value[EMGD_RATE_MHZ] <= 50000;
    requires 1 <= g->limits.value[EMGD_INTERVAL_US] <= 60000000;
    requires 1 <= g->limits.value[EMGD_PAIR_INTERVAL_US] <= 60000000;
    requires 1 <= g->shot.width_us <= EMGD_MAX_WIDTH_US && time_sound(g->shot.first_ns);
    assigns \nothing;
    ensures \result == 0 ==> may_follow(g, at_ns);
    ensures at_ns >= g->shot.first_ns && may_follow(g, at_ns) ==> \result == 0;
 */
uint64_t emgd_judge_next(const emgd_gate *g, int64_t at_ns);

/* May `more` pulses of this size go from `at_ns` on? Exact for one; for several it counts all of them into one window, which is never
 * less than what any window will hold. */
/*@ requires \valid_read(g) && pulse_sound(current_ua, width_us) && time_sound(at_ns);
    requires 1 <= more <= EMGD_MAX_TRAIN_PULSES;
    requires 0 <= g->limits.value[EMGD_RMS_UA_PER_CM2] <= 10000;
    requires g->limits.value[EMGD_IMPEDANCE_OHM] <= EMGD_MAX_IMPEDANCE_OHM;
    assigns \nothing;
    ensures \result == 0 ==> may_go(g, current_ua, width_us, at_ns, more);
 */
uint64_t emgd_judge_pulse(const emgd_gate *g, int64_t current_ua, int64_t width_us, int64_t at_ns, int64_t more);

/* A pulse as the dose remembers it. */
/*@ requires pulse_sound(current_ua, width_us);
    assigns \nothing;
    ensures \result.at_ns == at_ns && \result.site == site && \result.charge_pc == current_ua * width_us;
    ensures \result.squares >= 1;
    ensures current_ua * width_us * current_ua <= \result.squares * EMGD_SQUARE_UNIT;
 */
emgd_booked emgd_judge_booked(int64_t current_ua, int64_t width_us, int64_t at_ns, uint64_t site);

/* What the request asks for, should it begin at `at_ns`: for people who want to know why it was refused. */
/*@ requires \valid_read(g) && \valid_read(request);
    requires time_sound(at_ns) && past_sound(g->last_ns) && past_sound(g->fast_ns);
    assigns \nothing;
 */
emgd_figures emgd_judge_figures(const emgd_gate *g, const emgd_request *request, int64_t at_ns);

#endif
