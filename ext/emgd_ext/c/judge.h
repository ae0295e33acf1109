/* The arithmetic of the gate: numbers of a pulse or a shot against the limits in force. Used by gate.c alone.
 *
 * C, pure: nothing here changes a gate. Every function returns a set of bits, 0 when nothing stands against. */
#ifndef EMGD_JUDGE_H
#define EMGD_JUDGE_H

#include "gate.h"

/*@ logic integer smaller(integer a, integer b) = a < b ? a : b;
    logic integer greater(integer a, integer b) = a > b ? a : b;

    // The most by which a current may exceed the one delivered last.
    logic integer step_allowed(emgd_gate *g) =
        smaller(g->limits.value[EMGD_STEP_UA], greater(EMGD_FREE_STEP_UA, g->last_ua / 4));

    predicate step_holds(emgd_gate *g, integer current_ua) =
        current_ua <= g->retry_ua &&
        (g->last_ua == 0 ? current_ua <= g->limits.value[EMGD_FIRST_SHOT_UA]
                         : current_ua <= g->last_ua + step_allowed(g) || current_ua <= g->confirmed_ua);

    predicate size_holds(emgd_gate *g, integer current_ua, integer width_us) =
        current_ua <= g->limits.value[EMGD_CURRENT_UA] && current_ua <= g->device_current_ua &&
        width_us <= g->limits.value[EMGD_WIDTH_US] && width_us <= g->device_width_us &&
        current_ua * width_us <= 1000 * g->limits.value[EMGD_CHARGE_NC] &&
        current_ua * width_us * current_ua <= 1000000000 * g->limits.value[EMGD_ENERGY_UJ];

    predicate load_holds(emgd_gate *g, integer current_ua, integer width_us) =
        1 <= g->load_ohm <= g->limits.value[EMGD_IMPEDANCE_OHM] &&
        current_ua * width_us * current_ua * g->load_ohm <= 1000000000000 * g->limits.value[EMGD_LOAD_ENERGY_UJ] &&
        current_ua * g->load_ohm * 100 <= EMGD_HEADROOM_PERCENT * 1000000 * g->compliance_v;

    // `more` pulses from now on, on top of all that went out in the windows that end at the first of them.
    predicate dose_holds(emgd_gate *g, integer current_ua, integer width_us, integer at_ns, integer more) =
        charge_since(&g->dose.pulse[0], EMGD_BOOKED, at_ns - EMGD_MEAN_WINDOW_NS) + more * (current_ua * width_us) <=
            g->limits.value[EMGD_MEAN_CURRENT_UA] * EMGD_MEAN_WINDOW_US &&
        pulses_since(&g->dose.pulse[0], EMGD_BOOKED, at_ns - EMGD_SITE_WINDOW_NS, g->site) + more <=
            g->limits.value[EMGD_SITE_PULSES] &&
        room_since(&g->dose.pulse[0], EMGD_BOOKED, at_ns - EMGD_SITE_WINDOW_NS) >= more;

    predicate may_go(emgd_gate *g, integer current_ua, integer width_us, integer at_ns, integer more) =
        size_holds(g, current_ua, width_us) && load_holds(g, current_ua, width_us) &&
        dose_holds(g, current_ua, width_us, at_ns, more) && step_holds(g, current_ua);

    predicate gap_holds(emgd_gate *g, integer gap_ns) =
        gap_ns >= 1000 * g->limits.value[EMGD_INTERVAL_US] &&
        gap_ns * g->limits.value[EMGD_RATE_MHZ] >= 1000000000000;

    predicate may_begin(emgd_gate *g, integer at_ns) =
        gap_holds(g, at_ns - g->last_ns) && at_ns - g->last_ns >= EMGD_FAST_NS &&
        at_ns - g->fast_ns >= EMGD_MS * g->limits.value[EMGD_TRAIN_REST_MS];

    predicate may_follow(emgd_gate *g, integer at_ns) =
        at_ns - g->shot.first_ns + 1000 * g->shot.width_us <= EMGD_MS * g->limits.value[EMGD_TRAIN_DURATION_MS] &&
        (g->shot.kind == EMGD_PAIR ? at_ns - g->last_ns >= 1000 * g->limits.value[EMGD_PAIR_INTERVAL_US]
                                   : gap_holds(g, at_ns - g->last_ns));

    predicate shape_holds(emgd_request *r) =
        1 <= r->current_ua <= EMGD_MAX_CURRENT_UA && 1 <= r->width_us <= EMGD_MAX_WIDTH_US &&
        1 <= r->count <= EMGD_MAX_TRAIN_PULSES && 0 <= r->interval_us <= EMGD_MAX_TRAIN_DURATION_MS * 1000 &&
        ((r->kind == EMGD_SINGLE && r->count == 1 && r->interval_us == 0) ||
         (r->kind == EMGD_PAIR && r->count == 2 && r->interval_us >= 1) ||
         (r->kind == EMGD_TRAIN && r->count >= 2 && r->interval_us >= 1));

    predicate rhythm_holds(emgd_gate *g, emgd_request *r) =
        r->count <= g->limits.value[EMGD_TRAIN_PULSES] &&
        (r->count - 1) * r->interval_us + r->width_us <= 1000 * g->limits.value[EMGD_TRAIN_DURATION_MS] &&
        (r->kind == EMGD_PAIR
             ? r->interval_us >= g->limits.value[EMGD_PAIR_INTERVAL_US]
             : r->interval_us >= g->limits.value[EMGD_INTERVAL_US] &&
               r->interval_us * g->limits.value[EMGD_RATE_MHZ] >= 1000000000);

    predicate time_sound(integer at_ns) = 0 <= at_ns <= EMGD_MAX_TIME_NS + EMGD_AHEAD_NS;

    predicate past_sound(integer then_ns) = EMGD_LONG_AGO_NS <= then_ns <= EMGD_MAX_TIME_NS + EMGD_AHEAD_NS;

    predicate pulse_sound(integer current_ua, integer width_us) =
        1 <= current_ua <= EMGD_MAX_CURRENT_UA && 1 <= width_us <= EMGD_MAX_WIDTH_US;
 */

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
    assigns \nothing;
    ensures \result == 0 ==> may_go(g, current_ua, width_us, at_ns, more);
 */
uint64_t emgd_judge_pulse(const emgd_gate *g, int64_t current_ua, int64_t width_us, int64_t at_ns, int64_t more);

/* A pulse as the dose remembers it. */
/*@ requires pulse_sound(current_ua, width_us);
    assigns \nothing;
    ensures \result.at_ns == at_ns && \result.site == site && \result.charge_pc == current_ua * width_us;
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
