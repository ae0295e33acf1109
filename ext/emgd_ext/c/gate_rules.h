/* What the proofs of the gate speak of: what holds of a gate between two calls, and what must hold of a pulse that goes out.
 *
 * No code: ACSL, for scripts/prove. docs/safety/proof.md says in plain words what follows. Where the same could be said by a predicate or
 * by a macro, it is a macro where callers prove it (the prover then sees which field a write cannot touch) and a predicate where they only
 * pass it on. */
#ifndef EMGD_GATE_RULES_H
#define EMGD_GATE_RULES_H

#include "gate_state.h"

/* --- between two calls */

#define IS_ARMED(g) ((g)->state == EMGD_ARMED || (g)->state == EMGD_FIRING || (g)->state == EMGD_COOLDOWN)

#define IS_FRESH(g, when_ns) ((when_ns) - EMGD_STALE_NS <= (g)->sample_ns && (g)->sample_ns <= (when_ns) + EMGD_STALE_NS)

/* gate_limits.h has the reason of each number. That a valid table is within them is proven in emgd_limits_check. */
#define LIMITS_SOUND(g) NUMBERS_IN_RANGE((g)->limits.value)

/* Numbers stay where sums of them cannot overflow. */
#define NUMBERS_SOUND(g)                                                                                              \
    (0 <= (g)->now_ns <= EMGD_MAX_TIME_NS && EMGD_LONG_AGO_NS <= (g)->last_ns <= EMGD_MAX_TIME_NS + EMGD_AHEAD_NS &&  \
     EMGD_LONG_AGO_NS <= (g)->fast_ns <= EMGD_MAX_TIME_NS + EMGD_AHEAD_NS)

#define CURRENTS_SOUND(g)                                                                                             \
    (0 <= (g)->last_ua <= EMGD_MAX_CURRENT_UA && 0 <= (g)->confirmed_ua <= EMGD_MAX_CURRENT_UA &&                     \
     0 <= (g)->retry_ua <= EMGD_MAX_CURRENT_UA)

#define ONE_AWAITED_SOUND(a) (1 <= (a).current_ua <= EMGD_MAX_CURRENT_UA && 1 <= (a).width_us <= EMGD_MAX_WIDTH_US)

#define AWAITED_SOUND(g)                                                                                              \
    (0 <= (g)->awaited_count <= EMGD_AWAITED && ((g)->awaited_count >= 1 ==> ONE_AWAITED_SOUND((g)->awaited[0])) &&   \
     ((g)->awaited_count >= 2 ==> ONE_AWAITED_SOUND((g)->awaited[1])))

#define SHOT_SOUND(g)                                                                                                 \
    (1 <= (g)->shot.left <= (g)->shot.count <= EMGD_MAX_TRAIN_PULSES &&                                               \
     1 <= (g)->shot.current_ua <= (g)->limits.value[EMGD_CURRENT_UA] &&                                               \
     1 <= (g)->shot.width_us <= (g)->limits.value[EMGD_WIDTH_US] &&                                                   \
     ((g)->shot.kind == EMGD_SINGLE || (g)->shot.kind == EMGD_PAIR || (g)->shot.kind == EMGD_TRAIN) &&                \
     0 <= (g)->shot.interval_us <= EMGD_MAX_TRAIN_DURATION_MS * 1000 &&                                               \
     0 <= (g)->shot.first_ns <= (g)->now_ns + EMGD_AHEAD_NS && 0 <= (g)->shot.due_ns <= (g)->now_ns + 11 * EMGD_AHEAD_NS)

/* Armed means: somebody holds a lease that is alive, named a site and is known, sees the amplifier, was active, and the
 * device's own limits are within ours. */
#define LEASE_SOUND(g) ((g)->limits_set == 1 && (g)->holder != 0 && (g)->now_ns < (g)->lease_until_ns)
#define SITE_SOUND(g) ((g)->site != 0 && (g)->operator_id != 0)
#define SEEN_SOUND(g)                                                                                                 \
    (IS_FRESH(g, (g)->now_ns) && (g)->active_ns > (g)->now_ns - (g)->limits.value[EMGD_IDLE_RESET_MS] * EMGD_MS)
#define DEVICE_SOUND(g)                                                                                               \
    (1 <= (g)->compliance_v <= (g)->limits.value[EMGD_COMPLIANCE_V] &&                                                \
     1 <= (g)->device_current_ua <= (g)->limits.value[EMGD_CURRENT_UA] &&                                             \
     1 <= (g)->device_width_us <= (g)->limits.value[EMGD_WIDTH_US])
#define ARMING_SOUND(g) (LEASE_SOUND(g) && SITE_SOUND(g) && SEEN_SOUND(g) && DEVICE_SOUND(g))

/* Disarmed means: nothing to restore. */
#define NOTHING_KEPT(g) ((g)->site == 0 && (g)->operator_id == 0 && (g)->last_ua == 0 && (g)->confirmed_ua == 0)

/* What holds of a gate between any two calls, clause by clause: provers want small goals. */
#define EMGD_SOUND(clause)                                                                                            \
    clause limits_sound: LIMITS_SOUND(g);                                                                             \
    clause numbers_sound: NUMBERS_SOUND(g);                                                                           \
    clause currents_sound: CURRENTS_SOUND(g);                                                                         \
    clause state_known: EMGD_OFF <= g->state <= EMGD_FAULT;                                                           \
    clause faults_latched: g->state == EMGD_FAULT <==> g->faults != 0;                                                \
    clause awaited_sound: AWAITED_SOUND(g);                                                                           \
    clause awaits_nothing: g->state == EMGD_FAULT || g->state == EMGD_OFF ==> g->awaited_count == 0;                  \
    clause armed_leased: IS_ARMED(g) ==> LEASE_SOUND(g);                                                              \
    clause armed_site: IS_ARMED(g) ==> SITE_SOUND(g);                                                                 \
    clause armed_seen: IS_ARMED(g) ==> SEEN_SOUND(g);                                                                 \
    clause armed_device: IS_ARMED(g) ==> DEVICE_SOUND(g);                                                             \
    clause disarmed_bare: !IS_ARMED(g) ==> NOTHING_KEPT(g);                                                           \
    clause firing_sound: g->state == EMGD_FIRING ==> SHOT_SOUND(g);                                                   \
    clause quiet: g->state != EMGD_FIRING ==> g->shot.left == 0;

/* What a call may change on its way, by the passing of time alone. Never what went out (dose, last_ns, fast_ns, next_seq). */
#define EMGD_DROPS                                                                                                    \
    g->state, g->site, g->operator_id, g->last_ua, g->confirmed_ua, g->retry_ua, g->shot.left, g->dropped
#define SHOT_FIELDS                                                                                                   \
    g->shot.kind, g->shot.current_ua, g->shot.width_us, g->shot.count, g->shot.interval_us, g->shot.left,             \
    g->shot.due_ns, g->shot.first_ns
#define EMGD_FAULTS EMGD_DROPS, g->faults, g->awaited_count
#define EMGD_PASSES EMGD_FAULTS, g->now_ns, g->holder, g->sample_ns, g->saturated

/* --- of a pulse that goes out */

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

    // The root mean square current through the smaller electrode, where its area is known.
    logic integer rms_ua(emgd_gate *g) = (g->limits.value[EMGD_RMS_UA_PER_CM2] * g->area_mm2) / 100;

    predicate rms_holds(emgd_gate *g, integer current_ua, integer width_us, integer at_ns, integer more) =
        g->area_mm2 == 0 ||
        squares_since(&g->dose.pulse[0], EMGD_BOOKED, at_ns - EMGD_MEAN_WINDOW_NS) * EMGD_SQUARE_UNIT +
            more * (current_ua * width_us * current_ua) <= rms_ua(g) * rms_ua(g) * EMGD_MEAN_WINDOW_US;

    predicate may_go(emgd_gate *g, integer current_ua, integer width_us, integer at_ns, integer more) =
        size_holds(g, current_ua, width_us) && load_holds(g, current_ua, width_us) &&
        dose_holds(g, current_ua, width_us, at_ns, more) && rms_holds(g, current_ua, width_us, at_ns, more) &&
        step_holds(g, current_ua);

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

/* What `fire` changes, and what it promises. \old and Pre: as things stood when it was called. */
#define AWAITED_CELL(i) g->awaited[i].seq, g->awaited[i].at_ns, g->awaited[i].current_ua, g->awaited[i].width_us
#define EMGD_BOOKS                                                                                                    \
    g->state, g->shot.left, g->shot.first_ns, g->shot.due_ns, g->dose.pulse[0 .. EMGD_BOOKED - 1], g->last_ns, g->fast_ns, g->next_seq,\
    g->active_ns, g->awaited_count, AWAITED_CELL(0), AWAITED_CELL(1)

#define NO_PULSE(p)                                                                                                   \
    ((p).seq == 0 && (p).at_ns == 0 && (p).current_ua == 0 && (p).width_us == 0 && (p).index == 0 && (p).count == 0)

/* The pulse is the next one of the shot that was granted. */
#define PULSE_OF_SHOT(ua, us, number)                                                                                 \
    ((ua) == \old(g->shot.current_ua) && (us) == \old(g->shot.width_us) && (number) == \old(g->shot.count - g->shot.left))

#define SAME_BOOKED(k)                                                                                                \
    (g->dose.pulse[k].at_ns == \old(g->dose.pulse[k].at_ns) && g->dose.pulse[k].site == \old(g->dose.pulse[k].site) &&\
     g->dose.pulse[k].charge_pc == \old(g->dose.pulse[k].charge_pc) &&                                                \
     g->dose.pulse[k].squares == \old(g->dose.pulse[k].squares))

/* It is remembered with all that later limits look back at, in the place of a pulse that no limit looks back at. */
#define PULSE_BOOKED(at, ua, us)                                                                                      \
    \exists integer k; 0 <= k < EMGD_BOOKED &&                                                                        \
        \old(g->dose.pulse[k].at_ns) <= (at) - EMGD_SITE_WINDOW_NS &&                                                 \
        g->dose.pulse[k].at_ns == (at) && g->dose.pulse[k].site == \old(g->site) &&                                   \
        g->dose.pulse[k].charge_pc == (ua) * (us) &&                                                                  \
        (ua) * (us) * (ua) <= g->dose.pulse[k].squares * EMGD_SQUARE_UNIT &&                                          \
        \forall integer i; 0 <= i < EMGD_BOOKED && i != k ==> SAME_BOOKED(i)

#define PULSE_COUNTED(at)                                                                                             \
    (g->last_ns == (at) && g->shot.left == \old(g->shot.left) - 1 &&                                                  \
     g->next_seq == (uint64_t)(\old(g->next_seq) + 1) && g->awaited_count == \old(g->awaited_count) + 1 &&            \
     g->state == (\old(g->shot.left) == 1 ? EMGD_COOLDOWN : EMGD_FIRING))

/* Its readback is waited for. */
#define AWAITED_IN(i, at, ua, us)                                                                                     \
    (g->awaited[i].seq == \old(g->next_seq) && g->awaited[i].at_ns == (at) &&                                         \
     g->awaited[i].current_ua == (ua) && g->awaited[i].width_us == (us))
#define PULSE_AWAITED(at, ua, us)                                                                                     \
    ((\old(g->awaited_count) == 0 ==> AWAITED_IN(0, at, ua, us)) && (\old(g->awaited_count) == 1 ==> AWAITED_IN(1, at, ua, us)))

#define NOTHING_WENT_OUT                                                                                              \
    (g->next_seq == \old(g->next_seq) && g->last_ns == \old(g->last_ns) && g->fast_ns == \old(g->fast_ns))

/* The rules as things stood, written out: the prover then sees that time alone changes none of it. */
#define OLD_LIMIT(limit) \old(g->limits.value[limit])
#define OLD_GAP(gap_ns)                                                                                               \
    ((gap_ns) >= 1000 * OLD_LIMIT(EMGD_INTERVAL_US) && (gap_ns) * OLD_LIMIT(EMGD_RATE_MHZ) >= 1000000000000)
#define BEGUN_WELL(at)                                                                                                \
    (OLD_GAP((at) - \old(g->last_ns)) && (at) - \old(g->last_ns) >= EMGD_FAST_NS &&                                  \
     (at) - \old(g->fast_ns) >= EMGD_MS * OLD_LIMIT(EMGD_TRAIN_REST_MS))
#define FOLLOWED_WELL(at)                                                                                             \
    ((at) - \old(g->shot.first_ns) + 1000 * \old(g->shot.width_us) <= EMGD_MS * OLD_LIMIT(EMGD_TRAIN_DURATION_MS) &&  \
     (\old(g->shot.kind) == EMGD_PAIR ? (at) - \old(g->last_ns) >= 1000 * OLD_LIMIT(EMGD_PAIR_INTERVAL_US)            \
                                      : OLD_GAP((at) - \old(g->last_ns))))
#define SIZED_WELL(ua, us)                                                                                            \
    ((ua) <= OLD_LIMIT(EMGD_CURRENT_UA) && (ua) <= \old(g->device_current_ua) && (us) <= OLD_LIMIT(EMGD_WIDTH_US) &&  \
     (us) <= \old(g->device_width_us) && (ua) * (us) <= 1000 * OLD_LIMIT(EMGD_CHARGE_NC) &&                           \
     (ua) * (us) * (ua) <= 1000000000 * OLD_LIMIT(EMGD_ENERGY_UJ))
#define LOADED_WELL(ua, us)                                                                                           \
    (1 <= \old(g->load_ohm) <= OLD_LIMIT(EMGD_IMPEDANCE_OHM) &&                                                       \
     (ua) * (us) * (ua) * \old(g->load_ohm) <= 1000000000000 * OLD_LIMIT(EMGD_LOAD_ENERGY_UJ) &&                      \
     (ua) * \old(g->load_ohm) * 100 <= EMGD_HEADROOM_PERCENT * 1000000 * \old(g->compliance_v))
#define STEPPED_WELL(ua)                                                                                              \
    ((ua) <= \old(g->retry_ua) &&                                                                                     \
     (\old(g->last_ua) == 0 ? (ua) <= OLD_LIMIT(EMGD_FIRST_SHOT_UA)                                                   \
                            : (ua) <= \old(g->confirmed_ua) ||                                                        \
                              (ua) <= \old(g->last_ua) +                                                              \
                                  smaller(OLD_LIMIT(EMGD_STEP_UA), greater(EMGD_FREE_STEP_UA, \old(g->last_ua) / 4))))

#define EMGD_FIRE_PROMISES(why, at, ua, us, number)                                                                   \
    ensures refused_no_trace: (why) != 0 ==> NOTHING_WENT_OUT;                                                        \
    ensures refused_no_dose: (why) != 0 ==> \forall integer i; 0 <= i < EMGD_BOOKED ==> SAME_BOOKED(i);               \
    ensures fired_from_firing: (why) == 0 ==> \old(g->state) == EMGD_FIRING && g->faults == 0;                        \
    ensures fired_armed: (why) == 0 ==> ARMING_SOUND(g) && g->stamped == 1 && (at) < g->lease_until_ns;               \
    ensures fired_on_time: (why) == 0 ==> g->now_ns <= (at) <= g->now_ns + EMGD_LEAD_NS &&                            \
        \old(g->shot.due_ns) >= g->now_ns - EMGD_OLD_NS && (at) >= \old(g->shot.due_ns);                              \
    ensures fired_of_shot: (why) == 0 ==> PULSE_OF_SHOT(ua, us, number);                                              \
    ensures fired_size: (why) == 0 ==> SIZED_WELL(g->shot.current_ua, g->shot.width_us);                              \
    ensures fired_load: (why) == 0 ==> LOADED_WELL(g->shot.current_ua, g->shot.width_us);                             \
    ensures fired_step: (why) == 0 ==> STEPPED_WELL(ua);                                                              \
    ensures fired_dose: (why) == 0 ==>                                                                                \
        dose_holds{Pre}(g, (ua), (us), (at), 1);                                                                      \
    ensures fired_heat: (why) == 0 ==> rms_holds{Pre}(g, (ua), (us), (at), 1);                                        \
    ensures fired_first: (why) == 0 && (number) == 0 ==> BEGUN_WELL(at);                                              \
    ensures fired_next: (why) == 0 && (number) != 0 ==> FOLLOWED_WELL(at);                                            \
    ensures fired_booked: (why) == 0 ==> PULSE_BOOKED(g->last_ns, g->shot.current_ua, g->shot.width_us);              \
    ensures fired_counted: (why) == 0 ==> PULSE_COUNTED(at);                                                          \
    ensures fired_awaited: (why) == 0 ==> PULSE_AWAITED(at, ua, us);

/* --- of a readback */

#define WITHIN(off, asked, percent, tolerance) ((off) <= (tolerance) || (off) * 100 <= (asked) * (percent))
#define AGREES(asked, reading, percent, tolerance)                                                                    \
    (0 <= (reading) <= EMGD_MAX_READING && WITHIN((reading) - (asked), asked, percent, tolerance) &&                  \
     WITHIN((asked) - (reading), asked, percent, tolerance))

#define READBACK_AGREES(g, r)                                                                                         \
    (AGREES((g)->awaited[0].current_ua, (r).current_ua, (g)->limits.value[EMGD_READBACK_CURRENT_PERCENT],            \
            (g)->limits.value[EMGD_READBACK_CURRENT_UA]) &&                                                           \
     AGREES((g)->awaited[0].width_us, (r).width_us, (g)->limits.value[EMGD_READBACK_WIDTH_PERCENT],                  \
            (g)->limits.value[EMGD_READBACK_WIDTH_US]) &&                                                             \
     (r).limited == 0)

#endif
