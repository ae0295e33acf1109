/* The stimulus safety gate: its shots, pulse by pulse. C, pure: what runs is what is proven; see gate.h. The arithmetic is in judge.c. */
#include "gate.h"
#include "gate_pass.h"
#include "judge.h"

/* Of the first `i` places, a sum that the dose is judged by: as it was when the function was called. */
#define SUM_UNCHANGED(sum, i)                                                                                         \
    \forall integer since; sum{Pre}(&g->dose.pulse[0], i, since) == sum(&g->dose.pulse[0], i, since)
#define SITE_UNCHANGED(i)                                                                                             \
    \forall integer since, integer site;                                                                              \
        pulses_since{Pre}(&g->dose.pulse[0], i, since, site) == pulses_since(&g->dose.pulse[0], i, since, site)

/* When a shot would begin. */
/*@ requires \valid_read(g) && \valid_read(request) && NUMBERS_SOUND(g);
    assigns \nothing;
    ensures g->now_ns <= \result <= g->now_ns + EMGD_AHEAD_NS;
 */
static int64_t begin_ns(const emgd_gate *g, const emgd_request *request) {
    if (request->begin_ns < g->now_ns) return g->now_ns;
    return request->begin_ns > g->now_ns + EMGD_AHEAD_NS ? g->now_ns + EMGD_AHEAD_NS : request->begin_ns;
}

/*@ requires \valid_read(g) && \valid_read(request) && NUMBERS_SOUND(g);
    assigns \nothing;
    ensures \result == 0 ==> g->now_ns - EMGD_OLD_NS <= request->asked_ns <= g->now_ns;
 */
static uint64_t judge_when(const emgd_gate *g, const emgd_request *request) {
    uint64_t why = 0;
    if (request->asked_ns > g->now_ns || request->begin_ns > g->now_ns + EMGD_AHEAD_NS) why |= EMGD_WHY_EARLY;
    if (request->asked_ns < g->now_ns - EMGD_OLD_NS) why |= EMGD_WHY_OLD;
    if (request->begin_ns && request->begin_ns < g->now_ns - EMGD_OLD_NS) why |= EMGD_WHY_OLD;
    return why;
}

/* The numbers of a shot, as a whole. */
/*@ requires \valid_read(g) && \valid_read(request) && NUMBERS_SOUND(g) && LIMITS_SOUND(g);
    assigns \nothing;
    ensures \result == 0 ==> shape_holds(request) && (request->kind == EMGD_SINGLE || rhythm_holds(g, request)) &&
        size_holds(g, request->current_ua, request->width_us);
 */
static uint64_t judge_shot(const emgd_gate *g, const emgd_request *request) {
    int64_t at_ns = begin_ns(g, request);
    uint64_t why = emgd_judge_shape(request);
    if (why) return why;
    why |= emgd_judge_rhythm(g, request);
    why |= emgd_judge_begin(g, at_ns);
    why |= emgd_judge_pulse(g, request->current_ua, request->width_us, at_ns, request->count);
    return why;
}

/* Everything that stands against a shot. */
/*@ requires \valid_read(g) && \valid_read(request) && \separated(g, request);
    EMGD_SOUND(requires)
    assigns \nothing;
    ensures \result == 0 ==> g->state == EMGD_ARMED && g->holder == request->holder && g->site == request->site;
    ensures \result == 0 ==> g->now_ns - EMGD_OLD_NS <= request->asked_ns <= g->now_ns;
    ensures \result == 0 ==> shape_holds(request) && (request->kind == EMGD_SINGLE || rhythm_holds(g, request));
    ensures \result == 0 ==> size_holds(g, request->current_ua, request->width_us);
 */
static uint64_t judge_request(const emgd_gate *g, const emgd_request *request) {
    uint64_t why = emgd_not_ready(g);
    why |= emgd_judge_stream(g);
    why |= judge_when(g, request);
    why |= judge_shot(g, request);
    if (!request->holder || g->holder != request->holder) return why | EMGD_WHY_HOLDER;
    return emgd_armed(g) && g->site != request->site ? why | EMGD_WHY_SITE : why;
}

/* What was asked for is the shot that goes on. */
/*@ requires \valid(g) && \valid_read(request) && \separated(g, request) && g->state == EMGD_ARMED;
    EMGD_SOUND(requires)
    requires shape_holds(request) && size_holds(g, request->current_ua, request->width_us);
    assigns g->state, g->active_ns, SHOT_FIELDS;
    EMGD_SOUND(ensures)
    ensures g->state == EMGD_FIRING && g->shot.left == request->count && g->shot.count == request->count;
    ensures g->shot.current_ua == request->current_ua && g->shot.width_us == request->width_us;
    ensures g->shot.kind == request->kind && g->shot.interval_us == request->interval_us;
 */
static void begin(emgd_gate *g, const emgd_request *request) {
    int64_t due_ns = begin_ns(g, request);
    g->shot.kind = request->kind;
    g->shot.current_ua = request->current_ua;
    g->shot.width_us = request->width_us;
    g->shot.count = request->count;
    g->shot.interval_us = request->interval_us;
    g->shot.left = request->count;
    g->shot.due_ns = due_ns;
    g->shot.first_ns = due_ns;
    g->active_ns = g->now_ns;
    g->state = EMGD_FIRING;
}

uint64_t emgd_gate_request(emgd_gate *g, const emgd_request *request, int64_t now_ns) {
    uint64_t why = emgd_advance(g, now_ns);
    why |= judge_request(g, request);
    if (why & EMGD_WHY_SITE) emgd_drop(g, why); /* the holder is somewhere else: what is armed is not what is meant */
    if (why) return why;
    begin(g, request);
    return 0;
}

emgd_figures emgd_gate_figures(const emgd_gate *g, const emgd_request *request) {
    return emgd_judge_figures(g, request, begin_ns(g, request));
}

void emgd_gate_cancel(emgd_gate *g) {
    if (g->state == EMGD_FIRING) g->state = EMGD_COOLDOWN;
    g->shot.left = 0;
}

/* Everything that stands against the next pulse going out at `at_ns`. */
/*@ requires \valid_read(g) && NUMBERS_SOUND(g) && LIMITS_SOUND(g) && SHOT_SOUND(g);
    requires g->now_ns <= at_ns <= g->now_ns + EMGD_AHEAD_NS;
    assigns \nothing;
    ensures \result == 0 ==> may_go(g, g->shot.current_ua, g->shot.width_us, at_ns, 1);
    ensures \result == 0 && g->shot.left == g->shot.count ==> may_begin(g, at_ns);
    ensures \result == 0 && g->shot.left != g->shot.count ==> may_follow(g, at_ns);
    ensures \result == 0 ==> at_ns < g->lease_until_ns && g->stamped == 1 && IS_FRESH(g, g->now_ns) &&
        g->shot.due_ns >= g->now_ns - EMGD_OLD_NS;
 */
static uint64_t judge_now(const emgd_gate *g, int64_t at_ns) {
    uint64_t why = emgd_judge_stream(g);
    if (g->shot.due_ns < g->now_ns - EMGD_OLD_NS) why |= EMGD_WHY_OLD;
    if (at_ns >= g->lease_until_ns) why |= emgd_limit_bit(EMGD_LEASE_MS);
    why |= g->shot.left == g->shot.count ? emgd_judge_begin(g, at_ns) : emgd_judge_next(g, at_ns);
    why |= emgd_judge_pulse(g, g->shot.current_ua, g->shot.width_us, at_ns, 1);
    return why;
}

/* The promises of gate.h for the pulse that went out last. */
#define PROMISES_OF_LAST                                                                                              \
    EMGD_FIRE_PROMISES(\result, g->last_ns, g->shot.current_ua, g->shot.width_us, g->shot.count - g->shot.left - 1)

/* Remember the next pulse for the limits that look back. */
/*@ requires \valid(g) && g->state == EMGD_FIRING && g->now_ns <= at_ns <= g->now_ns + EMGD_LEAD_NS;
    EMGD_SOUND(requires)
    requires room_since(&g->dose.pulse[0], EMGD_BOOKED, at_ns - EMGD_SITE_WINDOW_NS) >= 1;
    assigns g->dose.pulse[0 .. EMGD_BOOKED - 1];
    EMGD_SOUND(ensures)
    ensures PULSE_BOOKED(at_ns, g->shot.current_ua, g->shot.width_us);
 */
static void remember(emgd_gate *g, int64_t at_ns) {
    emgd_booked booked = emgd_judge_booked(g->shot.current_ua, g->shot.width_us, at_ns, g->site);
    emgd_dose_book(&g->dose, &booked);
}

/* Wait for the readback of the next pulse. */
/*@ requires \valid(g) && g->state == EMGD_FIRING && g->awaited_count < EMGD_AWAITED;
    EMGD_SOUND(requires)
    assigns g->awaited_count, AWAITED_CELL(0), AWAITED_CELL(1);
    EMGD_SOUND(ensures)
    ensures g->awaited_count == \old(g->awaited_count) + 1;
    ensures PULSE_AWAITED(at_ns, g->shot.current_ua, g->shot.width_us);
 */
static void await(emgd_gate *g, int64_t at_ns) {
    if (g->awaited_count == 0) {
        g->awaited[0].seq = g->next_seq;
        g->awaited[0].at_ns = at_ns;
        g->awaited[0].current_ua = (int32_t)g->shot.current_ua;
        g->awaited[0].width_us = (int32_t)g->shot.width_us;
    } else {
        g->awaited[1].seq = g->next_seq;
        g->awaited[1].at_ns = at_ns;
        g->awaited[1].current_ua = (int32_t)g->shot.current_ua;
        g->awaited[1].width_us = (int32_t)g->shot.width_us;
    }
    g->awaited_count++;
}

/* The next pulse of the shot is gone. */
/*@ requires \valid(g) && g->state == EMGD_FIRING && g->now_ns <= at_ns <= g->now_ns + EMGD_LEAD_NS;
    EMGD_SOUND(requires)
    assigns g->state, g->shot.left, g->shot.first_ns, g->shot.due_ns, g->last_ns, g->fast_ns, g->next_seq, g->active_ns;
    EMGD_SOUND(ensures)
    ensures g->last_ns == at_ns && g->shot.left == \old(g->shot.left) - 1;
    ensures g->next_seq == (uint64_t)(\old(g->next_seq) + 1);
    ensures g->state == (\old(g->shot.left) == 1 ? EMGD_COOLDOWN : EMGD_FIRING);
 */
static void count(emgd_gate *g, int64_t at_ns) {
    int64_t interval_ns = g->shot.interval_us * 1000;
    g->next_seq++;
    g->last_ns = at_ns;
    g->fast_ns = g->shot.kind == EMGD_TRAIN && interval_ns < EMGD_FAST_NS ? at_ns : g->fast_ns;
    g->shot.first_ns = g->shot.left == g->shot.count ? at_ns : g->shot.first_ns;
    g->shot.due_ns = at_ns + interval_ns;
    g->active_ns = g->now_ns;
    g->shot.left--;
    g->state = g->shot.left ? EMGD_FIRING : EMGD_COOLDOWN;
}

/* Note the next pulse as gone. */
/*@ requires \valid(g) && g->state == EMGD_FIRING;
    EMGD_SOUND(requires)
    requires g->now_ns <= at_ns <= g->now_ns + EMGD_LEAD_NS && g->awaited_count < EMGD_AWAITED;
    requires room_since(&g->dose.pulse[0], EMGD_BOOKED, at_ns - EMGD_SITE_WINDOW_NS) >= 1;
    assigns EMGD_BOOKS;
    EMGD_SOUND(ensures)
    ensures PULSE_BOOKED(at_ns, g->shot.current_ua, g->shot.width_us);
    ensures PULSE_COUNTED(at_ns);
    ensures PULSE_AWAITED(at_ns, g->shot.current_ua, g->shot.width_us);
 */
static void book(emgd_gate *g, int64_t at_ns) {
    remember(g, at_ns);
    await(g, at_ns);
    count(g, at_ns);
}

/* The next pulse at `at_ns`, if nothing stands against it. */
/*@ requires \valid(g) && g->state == EMGD_FIRING;
    EMGD_SOUND(requires)
    requires g->now_ns <= at_ns <= g->now_ns + EMGD_LEAD_NS && at_ns >= g->shot.due_ns;
    assigns EMGD_BOOKS;
    EMGD_SOUND(ensures)
    PROMISES_OF_LAST
    ensures \result == 0 ==> g->last_ns == at_ns;
 */
static uint64_t shoot(emgd_gate *g, int64_t at_ns) {
    uint64_t why = judge_now(g, at_ns);
    if (why) {
        emgd_gate_cancel(g);
        return why;
    }
    if (g->awaited_count == EMGD_AWAITED) return EMGD_WHY_READBACK_DUE;
    book(g, at_ns);
    return 0;
}

/* The next pulse, if it is due and nothing stands against it. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_BOOKS;
    EMGD_SOUND(ensures)
    PROMISES_OF_LAST
 */
static uint64_t shoot_due(emgd_gate *g) {
    if (g->state != EMGD_FIRING) return EMGD_WHY_NO_SHOT | (emgd_armed(g) ? 0 : emgd_not_ready(g));
    if (g->shot.due_ns > g->now_ns + EMGD_LEAD_NS) return EMGD_WHY_EARLY;
    return shoot(g, g->shot.due_ns > g->now_ns ? g->shot.due_ns : g->now_ns);
}

/* Time passes first. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, EMGD_BOOKS;
    EMGD_SOUND(ensures)
    PROMISES_OF_LAST
    ensures \result == 0 ==> g->now_ns == now_ns;
    ensures \result == 0 ==> 0 <= g->shot.left < g->shot.count <= EMGD_MAX_TRAIN_PULSES;
 */
static uint64_t shoot_now(emgd_gate *g, int64_t now_ns) {
    uint64_t why = emgd_advance(g, now_ns);
    /* For the proof alone: time changes nothing of what went out. */
    /*@ assert kept_times: \forall integer k; 0 <= k < EMGD_BOOKED ==>
            g->dose.pulse[k].at_ns == \at(g->dose.pulse[k].at_ns, Pre); */
    /*@ assert kept_sites: \forall integer k; 0 <= k < EMGD_BOOKED ==>
            g->dose.pulse[k].site == \at(g->dose.pulse[k].site, Pre); */
    /*@ ghost
        int i = 0;
        /@ loop invariant 0 <= i <= EMGD_BOOKED;
           loop invariant SUM_UNCHANGED(charge_since, i);
           loop invariant SUM_UNCHANGED(squares_since, i);
           loop invariant SUM_UNCHANGED(room_since, i);
           loop invariant SITE_UNCHANGED(i);
           loop assigns i;
           loop variant EMGD_BOOKED - i;
         @/
        while (i < EMGD_BOOKED) i++;
     */
    /*@ assert kept_dose: \forall integer ua, integer us, integer at_ns; g->site == \at(g->site, Pre) ==>
            dose_holds(g, ua, us, at_ns, 1) ==> dose_holds{Pre}(g, ua, us, at_ns, 1); */
    /*@ assert kept_heat: \forall integer ua, integer us, integer at_ns;
            rms_holds(g, ua, us, at_ns, 1) ==> rms_holds{Pre}(g, ua, us, at_ns, 1); */
    uint64_t due = shoot_due(g);
    //@ assert only_in_time: due == 0 ==> why == 0;
    return due ? why | due : 0;
}

/* The pulse that went out last; none when `why` says that none did. */
/*@ requires \valid_read(g);
    requires why == 0 ==> 0 <= g->shot.left < g->shot.count <= EMGD_MAX_TRAIN_PULSES;
    assigns \nothing;
    ensures \result.why == why;
    ensures why != 0 ==> NO_PULSE(\result.pulse);
    ensures why == 0 ==> \result.pulse.at_ns == g->last_ns && \result.pulse.current_ua == g->shot.current_ua;
    ensures why == 0 ==> \result.pulse.width_us == g->shot.width_us && \result.pulse.count == g->shot.count;
    ensures why == 0 ==> \result.pulse.seq == (uint64_t)(g->next_seq - 1);
    ensures why == 0 ==> \result.pulse.index == g->shot.count - g->shot.left - 1;
 */
static emgd_fired told(const emgd_gate *g, uint64_t why) {
    emgd_fired fired;
    fired.why = why;
    fired.pulse.seq = why ? 0 : g->next_seq - 1;
    fired.pulse.at_ns = why ? 0 : g->last_ns;
    fired.pulse.current_ua = why ? 0 : g->shot.current_ua;
    fired.pulse.width_us = why ? 0 : g->shot.width_us;
    fired.pulse.index = why ? 0 : g->shot.count - g->shot.left - 1;
    fired.pulse.count = why ? 0 : g->shot.count;
    return fired;
}

emgd_fired emgd_gate_fire(emgd_gate *g, int64_t now_ns) {
    uint64_t why = shoot_now(g, now_ns);
    return told(g, why);
}
