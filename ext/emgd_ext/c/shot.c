/* The stimulus safety gate: its shots, pulse by pulse. C, pure: what runs is what is proven; see gate.h. The arithmetic is in judge.c. */
#include "gate.h"
#include "gate_pass.h"
#include "judge.h"

/* Of the first `i` places, one of the sums that the dose is judged by: as it was when the function was called. */
#define PAST_UNCHANGED(sum, window, i)                                                                                \
    sum{Pre}(&g->dose.pulse[0], i, at_ns - EMGD_##window##_WINDOW_NS) ==                                              \
        sum(&g->dose.pulse[0], i, at_ns - EMGD_##window##_WINDOW_NS)
#define SITE_UNCHANGED(i)                                                                                             \
    pulses_since{Pre}(&g->dose.pulse[0], i, at_ns - EMGD_SITE_WINDOW_NS, \at(g->site, Pre)) ==                        \
        pulses_since(&g->dose.pulse[0], i, at_ns - EMGD_SITE_WINDOW_NS, g->site)

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

uint64_t emgd_gate_request(emgd_gate *g, const emgd_request *request, int64_t now_ns) {
    uint64_t why = emgd_advance(g, now_ns);
    why |= emgd_not_ready(g);
    why |= emgd_judge_stream(g);
    why |= judge_when(g, request);
    why |= judge_shot(g, request);
    if (!request->holder || g->holder != request->holder) {
        why |= EMGD_WHY_HOLDER;
    } else if (emgd_armed(g) && g->site != request->site) {
        why |= EMGD_WHY_SITE; /* the holder is somewhere else: what is armed is not what is meant */
        emgd_drop(g, why);
    }
    if (why) return why;
    g->shot.kind = request->kind;
    g->shot.current_ua = request->current_ua;
    g->shot.width_us = request->width_us;
    g->shot.count = request->count;
    g->shot.interval_us = request->interval_us;
    g->shot.left = request->count;
    g->shot.due_ns = begin_ns(g, request);
    g->shot.first_ns = g->shot.due_ns;
    g->active_ns = g->now_ns;
    g->state = EMGD_FIRING;
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

/* Note the next pulse as gone, and tell it. */
/*@ requires \valid(g) && \valid(pulse) && \separated(g, pulse) && g->state == EMGD_FIRING;
    EMGD_SOUND(requires)
    requires g->now_ns <= at_ns <= g->now_ns + EMGD_LEAD_NS && g->awaited_count < EMGD_AWAITED;
    requires room_since(&g->dose.pulse[0], EMGD_BOOKED, at_ns - EMGD_SITE_WINDOW_NS) >= 1;
    assigns EMGD_BOOKS;
    EMGD_SOUND(ensures)
    ensures pulse->at_ns == at_ns;
    ensures PULSE_OF_SHOT;
    ensures PULSE_BOOKED;
    ensures PULSE_COUNTED;
    ensures PULSE_AWAITED;
 */
static void book(emgd_gate *g, int64_t at_ns, emgd_pulse *pulse) {
    emgd_shot *shot = &g->shot;
    emgd_booked booked = emgd_judge_booked(shot->current_ua, shot->width_us, at_ns, g->site);
    emgd_awaited *awaited = &g->awaited[g->awaited_count];
    emgd_dose_book(&g->dose, &booked);
    pulse->seq = g->next_seq;
    pulse->at_ns = at_ns;
    pulse->current_ua = shot->current_ua;
    pulse->width_us = shot->width_us;
    pulse->index = shot->count - shot->left;
    pulse->count = shot->count;
    awaited->seq = g->next_seq;
    awaited->at_ns = at_ns;
    awaited->current_ua = (int32_t)shot->current_ua;
    awaited->width_us = (int32_t)shot->width_us;
    g->awaited_count++;
    g->next_seq++;
    g->last_ns = at_ns;
    if (shot->kind == EMGD_TRAIN && shot->interval_us * 1000 < EMGD_FAST_NS) g->fast_ns = at_ns;
    if (shot->left == shot->count) shot->first_ns = at_ns;
    shot->due_ns = at_ns + shot->interval_us * 1000;
    g->active_ns = g->now_ns;
    shot->left--;
    if (!shot->left) g->state = EMGD_COOLDOWN;
}

/* The next pulse at `at_ns`, if nothing stands against it. */
/*@ requires \valid(g) && \valid(pulse) && \separated(g, pulse) && g->state == EMGD_FIRING;
    EMGD_SOUND(requires)
    requires g->now_ns <= at_ns <= g->now_ns + EMGD_LEAD_NS && NO_PULSE(pulse);
    assigns EMGD_BOOKS;
    EMGD_SOUND(ensures)
    EMGD_FIRE_PROMISES
    ensures \result == 0 ==> pulse->at_ns == at_ns;
 */
static uint64_t shoot(emgd_gate *g, int64_t at_ns, emgd_pulse *pulse) {
    uint64_t why = judge_now(g, at_ns);
    if (why) {
        emgd_gate_cancel(g);
        return why;
    }
    if (g->awaited_count == EMGD_AWAITED) return EMGD_WHY_READBACK_DUE;
    book(g, at_ns, pulse);
    return 0;
}

uint64_t emgd_gate_fire(emgd_gate *g, int64_t now_ns, emgd_pulse *pulse) {
    pulse->seq = 0;
    pulse->at_ns = 0;
    pulse->current_ua = 0;
    pulse->width_us = 0;
    pulse->index = 0;
    pulse->count = 0;
    uint64_t why = emgd_advance(g, now_ns);
    if (g->state != EMGD_FIRING) return why | EMGD_WHY_NO_SHOT | (emgd_armed(g) ? 0 : emgd_not_ready(g));
    int64_t at_ns = g->shot.due_ns > g->now_ns ? g->shot.due_ns : g->now_ns;
    if (at_ns > g->now_ns + EMGD_LEAD_NS) return EMGD_WHY_EARLY;
    /* For the proof alone: what went out is the same as when we were called. */
    /*@ ghost
        int i = 0;
        /@ loop invariant 0 <= i <= EMGD_BOOKED;
           loop invariant PAST_UNCHANGED(charge_since, MEAN, i);
           loop invariant PAST_UNCHANGED(squares_since, MEAN, i);
           loop invariant PAST_UNCHANGED(room_since, SITE, i);
           loop invariant SITE_UNCHANGED(i);
           loop assigns i;
           loop variant EMGD_BOOKED - i;
         @/
        while (i < EMGD_BOOKED) i++;
     */
    return shoot(g, at_ns, pulse);
}
