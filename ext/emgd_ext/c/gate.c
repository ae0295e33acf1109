/* The stimulus safety gate: its states. C, pure: what runs is what is proven; see gate.h. The arithmetic is in judge.c.
 *
 * Every call that carries a time lets that time pass first (`advance`), so that nothing is judged in a state that should have ended. */
#include "judge.h"

/*@ requires \valid_read(g);
    assigns \nothing;
    ensures \result != 0 <==> is_armed(g);
 */
static int armed(const emgd_gate *g) {
    return g->state == EMGD_ARMED || g->state == EMGD_FIRING || g->state == EMGD_COOLDOWN;
}

/*@ requires \valid_read(g) && EMGD_OFF <= g->state <= EMGD_FAULT && (g->state == EMGD_FAULT ==> g->faults != 0);
    assigns \nothing;
    ensures \result == 0 <==> g->state == EMGD_ARMED;
 */
static uint64_t not_ready(const emgd_gate *g) {
    switch (g->state) {
    case EMGD_ARMED: return 0;
    case EMGD_OFF: return EMGD_WHY_OFF;
    case EMGD_IDLE: return EMGD_WHY_DISARMED;
    case EMGD_FIRING: return EMGD_WHY_BUSY;
    case EMGD_COOLDOWN: return EMGD_WHY_COOLDOWN;
    default: return EMGD_WHY_FAULT | g->faults;
    }
}

/* --- the ways down */

/* Nothing is kept of what was armed; `why` the gate did that by itself. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_DROPS;
    EMGD_SOUND(ensures)
    ensures !is_armed(g);
    ensures \old(is_armed(g)) ==> g->state == EMGD_IDLE;
    ensures !\old(is_armed(g)) ==> g->state == \old(g->state);
 */
static void drop(emgd_gate *g, uint64_t why) {
    if (armed(g)) g->state = EMGD_IDLE;
    g->dropped = why;
    g->site = 0;
    g->operator_id = 0;
    g->last_ua = 0;
    g->confirmed_ua = 0;
    g->retry_ua = EMGD_MAX_CURRENT_UA;
    g->shot.left = 0;
}

/*@ requires \valid(g) && causes != 0;
    EMGD_SOUND(requires)
    assigns EMGD_FAULTS;
    EMGD_SOUND(ensures)
    ensures g->state == EMGD_FAULT;
 */
static void latch(emgd_gate *g, uint64_t causes) {
    drop(g, causes);
    g->faults |= causes;
    g->awaited_count = 0;
    g->state = EMGD_FAULT;
}

/* --- time */

/*@ requires \valid_read(g) && 0 <= now_ns <= EMGD_MAX_TIME_NS;
    assigns \nothing;
    ensures \result != 0 <==> now_ns - EMGD_STALE_NS <= g->sample_ns <= now_ns + EMGD_STALE_NS;
 */
static int fresh(const emgd_gate *g, int64_t now_ns) {
    return g->sample_ns >= now_ns - EMGD_STALE_NS && g->sample_ns <= now_ns + EMGD_STALE_NS;
}

/* COOLDOWN ends when a shot could begin and the last one is fully read back. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns g->state;
    EMGD_SOUND(ensures)
    ensures g->state == \old(g->state) || (\old(g->state) == EMGD_COOLDOWN && g->state == EMGD_ARMED);
 */
static void settle(emgd_gate *g) {
    if (g->state == EMGD_COOLDOWN && !g->awaited_count && !emgd_judge_begin(g, g->now_ns)) g->state = EMGD_ARMED;
}

/* What ends now that it is `now_ns`: any bit means that the gate is not armed any more, or that a lease ended. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> g->now_ns == now_ns && now_ns >= \old(g->now_ns);
    ensures is_armed(g) ==> \result == 0 && \old(is_armed(g)) && g->holder == \old(g->holder) && g->site == \old(g->site);
    ensures g->state == EMGD_FIRING ==> \old(g->state) == EMGD_FIRING;
    ensures g->state == EMGD_FIRING ==> g->shot.left == \old(g->shot.left);
    ensures g->state == EMGD_IDLE && \result == 0 ==> \old(g->state) == EMGD_IDLE;
    ensures \old(g->state) == EMGD_FAULT ==> g->state == EMGD_FAULT;
    ensures g->holder == \old(g->holder) || g->holder == 0;
    ensures g->state != EMGD_OFF && g->state != EMGD_FAULT ==> \old(g->state) != EMGD_OFF && \old(g->state) != EMGD_FAULT;
 */
static uint64_t advance(emgd_gate *g, int64_t now_ns) {
    if (now_ns < g->now_ns || now_ns > EMGD_MAX_TIME_NS) {
        latch(g, EMGD_WHY_TIME);
        g->holder = 0; /* no lease can be timed by such a clock */
        g->sample_ns = EMGD_LONG_AGO_NS;
        if (now_ns >= 0 && now_ns <= EMGD_MAX_TIME_NS) g->now_ns = now_ns;
        return EMGD_WHY_TIME;
    }
    uint64_t why = 0;
    int jumped = now_ns - g->now_ns > EMGD_JUMP_NS;
    if (g->holder && now_ns >= g->lease_until_ns) why |= emgd_limit_bit(EMGD_LEASE_MS);
    if (armed(g)) {
        if (jumped) why |= EMGD_WHY_TIME;
        if (!fresh(g, now_ns)) why |= EMGD_WHY_STALE;
        if (g->active_ns <= now_ns - g->limits.value[EMGD_IDLE_RESET_MS] * EMGD_MS) {
            why |= emgd_limit_bit(EMGD_IDLE_RESET_MS);
        }
    }
    if (why && armed(g)) drop(g, why);
    if (g->holder && now_ns >= g->lease_until_ns) g->holder = 0;
    g->now_ns = now_ns;
    if (g->awaited_count && g->awaited[0].at_ns < now_ns - EMGD_READBACK_NS) {
        why |= EMGD_WHY_READBACK_MISSING;
        latch(g, EMGD_WHY_READBACK_MISSING);
    }
    settle(g);
    return why;
}

uint64_t emgd_gate_tick(emgd_gate *g, int64_t now_ns) { return advance(g, now_ns); }

/* --- life */

uint64_t emgd_gate_init(emgd_gate *g, int64_t now_ns) {
    g->state = EMGD_OFF;
    g->limits_set = 0;
    g->faults = 0;
    g->now_ns = 0;
    g->holder = 0;
    g->nonce = 0;
    g->lease_until_ns = 0;
    g->compliance_v = 0;
    g->device_current_ua = 0;
    g->device_width_us = 0;
    g->area_mm2 = 0;
    g->active_ns = 0;
    g->load_ohm = 0;
    g->sample_ns = EMGD_LONG_AGO_NS;
    g->saturated_ns = 0;
    g->saturated = 0;
    g->stamped = 0;
    g->shot.kind = 0;
    g->shot.current_ua = 0;
    g->shot.width_us = 0;
    g->shot.count = 0;
    g->shot.interval_us = 0;
    g->shot.first_ns = 0;
    g->shot.due_ns = 0;
    g->last_ns = EMGD_LONG_AGO_NS;
    g->fast_ns = EMGD_LONG_AGO_NS;
    g->next_seq = 0;
    g->good = EMGD_RECENT;
    g->awaited_count = 0;
    /*@ loop invariant 0 <= i <= EMGD_AWAITED;
        loop assigns i, g->awaited[0 .. EMGD_AWAITED - 1];
        loop variant EMGD_AWAITED - i;
     */
    for (int i = 0; i < EMGD_AWAITED; i++) {
        g->awaited[i].seq = 0;
        g->awaited[i].at_ns = 0;
        g->awaited[i].current_ua = 0;
        g->awaited[i].width_us = 0;
    }
    emgd_dose_clear(&g->dose);
    emgd_limits_at_end(&g->limits);
    drop(g, 0);
    return advance(g, now_ns);
}

uint64_t emgd_gate_set_limits(emgd_gate *g, const emgd_limits *limits) {
    if (g->state != EMGD_OFF && g->state != EMGD_IDLE) {
        return g->state == EMGD_FAULT ? not_ready(g) : EMGD_WHY_BUSY;
    }
    uint64_t wrong = emgd_limits_check(limits->value);
    if (wrong) return wrong;
    /*@ loop invariant 0 <= i <= EMGD_LIMITS;
        loop invariant \forall integer j; 0 <= j < i ==> g->limits.value[j] == limits->value[j];
        loop assigns i, g->limits.value[0 .. EMGD_LIMITS - 1], g->limits.layer[0 .. EMGD_LIMITS - 1];
        loop variant EMGD_LIMITS - i;
     */
    for (int i = 0; i < EMGD_LIMITS; i++) {
        g->limits.value[i] = limits->value[i];
        g->limits.layer[i] = limits->layer[i];
    }
    g->limits_set = 1;
    return 0;
}

uint64_t emgd_gate_connect(emgd_gate *g, int64_t now_ns) {
    advance(g, now_ns);
    if (g->state == EMGD_FAULT) return not_ready(g);
    if (!g->limits_set) return EMGD_WHY_NO_LIMITS;
    drop(g, 0);
    g->awaited_count = 0;
    g->load_ohm = 0;
    g->state = EMGD_IDLE;
    return 0;
}

void emgd_gate_disconnect(emgd_gate *g) {
    drop(g, 0);
    g->awaited_count = 0;
    g->load_ohm = 0;
    if (g->state != EMGD_FAULT) g->state = EMGD_OFF;
}

/* --- lease */

/*@ requires \valid_read(g) && numbers_in_range(&g->limits.value[0]) && numbers_sound(g);
    assigns \nothing;
    ensures \result == g->now_ns + g->limits.value[EMGD_LEASE_MS] * EMGD_MS;
    ensures \result > g->now_ns;
 */
static int64_t lease_end_ns(const emgd_gate *g) { return g->now_ns + g->limits.value[EMGD_LEASE_MS] * EMGD_MS; }

uint64_t emgd_gate_take(emgd_gate *g, uint64_t holder, uint64_t nonce, int64_t now_ns) {
    advance(g, now_ns);
    if (!holder || g->holder) return EMGD_WHY_HOLDER;
    g->holder = holder;
    g->nonce = nonce;
    g->lease_until_ns = lease_end_ns(g);
    return 0;
}

uint64_t emgd_gate_renew(emgd_gate *g, uint64_t holder, uint64_t nonce, int64_t now_ns) {
    advance(g, now_ns);
    if (!g->holder) return emgd_limit_bit(EMGD_LEASE_MS);
    if (g->holder != holder) return EMGD_WHY_HOLDER;
    if (nonce <= g->nonce) return EMGD_WHY_NONCE;
    g->nonce = nonce;
    g->lease_until_ns = lease_end_ns(g);
    return 0;
}

uint64_t emgd_gate_release(emgd_gate *g, uint64_t holder) {
    if (!holder || g->holder != holder) return EMGD_WHY_HOLDER;
    drop(g, 0);
    g->holder = 0;
    return 0;
}

/* --- what is seen */

uint64_t emgd_gate_stream(emgd_gate *g, int64_t sample_ns, int32_t saturated, int32_t stamped, int64_t now_ns) {
    uint64_t why = advance(g, now_ns);
    if (sample_ns > g->sample_ns && sample_ns <= g->now_ns + EMGD_STALE_NS) g->sample_ns = sample_ns;
    if (saturated && !g->saturated) g->saturated_ns = g->now_ns;
    g->saturated = saturated != 0;
    g->stamped = stamped == 1;
    return why;
}

uint64_t emgd_gate_load(emgd_gate *g, int64_t load_ohm, int64_t now_ns) {
    uint64_t why = advance(g, now_ns);
    g->load_ohm = load_ohm;
    return why;
}

/*@ requires \valid_read(g) && numbers_sound(g);
    assigns \nothing;
    ensures \result == 0 ==> g->stamped == 1 && is_fresh(g);
 */
static uint64_t judge_stream(const emgd_gate *g) {
    uint64_t why = fresh(g, g->now_ns) ? 0 : EMGD_WHY_STALE;
    if (g->saturated && g->saturated_ns < g->now_ns - EMGD_SATURATED_NS) why |= EMGD_WHY_SATURATED;
    if (g->stamped != 1) why |= EMGD_WHY_UNSTAMPED;
    return why;
}

/* --- arming */

/* One of the device's own limits, as read back from it: set, and no looser than ours. */
/*@ assigns \nothing;
    ensures \result == 0 <==> 1 <= own <= allowed;
 */
static uint64_t judge_own(int64_t own, int64_t allowed, uint64_t bit) {
    return own >= 1 && own <= allowed ? 0 : bit | EMGD_WHY_DEVICE_LIMITS;
}

/*@ requires \valid_read(g) && \valid_read(arming) && \separated(g, arming) && numbers_sound(g);
    assigns \nothing;
    ensures \result == 0 ==> arming->holder != 0 && g->holder == arming->holder && arming->operator_id != 0 &&
        arming->site != 0 && arming->isolated == 1 && g->awaited_count == 0 && is_fresh(g) &&
        1 <= arming->load_ohm <= g->limits.value[EMGD_IMPEDANCE_OHM] &&
        1 <= arming->compliance_v <= g->limits.value[EMGD_COMPLIANCE_V] &&
        1 <= arming->device_current_ua <= g->limits.value[EMGD_CURRENT_UA] &&
        1 <= arming->device_width_us <= g->limits.value[EMGD_WIDTH_US];
 */
static uint64_t judge_arming(const emgd_gate *g, const emgd_arming *arming) {
    const int64_t *limit = g->limits.value;
    uint64_t why = judge_stream(g);
    if (!arming->holder || g->holder != arming->holder) why |= EMGD_WHY_HOLDER;
    if (!arming->operator_id) why |= EMGD_WHY_OPERATOR;
    if (!arming->site) why |= EMGD_WHY_SITE;
    if (arming->isolated != 1) why |= EMGD_WHY_NOT_ISOLATED;
    if (g->awaited_count) why |= EMGD_WHY_READBACK_DUE;
    if (arming->load_ohm < 1) why |= EMGD_WHY_LOAD;
    if (arming->load_ohm > limit[EMGD_IMPEDANCE_OHM]) why |= emgd_limit_bit(EMGD_IMPEDANCE_OHM);
    why |= judge_own(arming->compliance_v, limit[EMGD_COMPLIANCE_V], emgd_limit_bit(EMGD_COMPLIANCE_V));
    why |= judge_own(arming->device_current_ua, limit[EMGD_CURRENT_UA], emgd_limit_bit(EMGD_CURRENT_UA));
    why |= judge_own(arming->device_width_us, limit[EMGD_WIDTH_US], emgd_limit_bit(EMGD_WIDTH_US));
    return why;
}

uint64_t emgd_gate_arm(emgd_gate *g, const emgd_arming *arming, int64_t now_ns) {
    uint64_t why = advance(g, now_ns);
    if (armed(g)) why |= EMGD_WHY_BUSY;
    if (g->state == EMGD_OFF || g->state == EMGD_FAULT) why |= not_ready(g);
    why |= judge_arming(g, arming);
    if (why) return why;
    g->dropped = 0;
    g->site = arming->site;
    g->operator_id = arming->operator_id;
    g->compliance_v = arming->compliance_v;
    g->device_current_ua = arming->device_current_ua;
    g->device_width_us = arming->device_width_us;
    g->area_mm2 = arming->area_mm2;
    g->load_ohm = arming->load_ohm;
    g->active_ns = g->now_ns;
    g->state = EMGD_COOLDOWN;
    settle(g);
    return 0;
}

uint64_t emgd_gate_confirm(emgd_gate *g, uint64_t holder, int64_t ceiling_ua, int64_t now_ns) {
    uint64_t why = advance(g, now_ns);
    if (g->state != EMGD_COOLDOWN) why |= not_ready(g);
    if (!holder || g->holder != holder) why |= EMGD_WHY_HOLDER;
    if (ceiling_ua < 1) why |= EMGD_WHY_SHAPE;
    if (ceiling_ua > g->limits.value[EMGD_CURRENT_UA]) why |= emgd_limit_bit(EMGD_CURRENT_UA);
    if (ceiling_ua > g->device_current_ua) why |= EMGD_WHY_DEVICE_LIMITS;
    if (why) return why;
    g->confirmed_ua = (int32_t)ceiling_ua;
    g->active_ns = g->now_ns;
    return 0;
}

void emgd_gate_disarm(emgd_gate *g) { drop(g, 0); }

/* --- shots */

/* When a shot would begin. */
/*@ requires \valid_read(g) && \valid_read(request) && numbers_sound(g);
    assigns \nothing;
    ensures g->now_ns <= \result <= g->now_ns + EMGD_AHEAD_NS;
 */
static int64_t begin_ns(const emgd_gate *g, const emgd_request *request) {
    if (request->begin_ns < g->now_ns) return g->now_ns;
    return request->begin_ns > g->now_ns + EMGD_AHEAD_NS ? g->now_ns + EMGD_AHEAD_NS : request->begin_ns;
}

/*@ requires \valid_read(g) && \valid_read(request) && numbers_sound(g);
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
/*@ requires \valid_read(g) && \valid_read(request) && numbers_sound(g) && numbers_in_range(&g->limits.value[0]);
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
    uint64_t why = advance(g, now_ns);
    why |= not_ready(g);
    why |= judge_stream(g);
    why |= judge_when(g, request);
    why |= judge_shot(g, request);
    if (!request->holder || g->holder != request->holder) {
        why |= EMGD_WHY_HOLDER;
    } else if (armed(g) && g->site != request->site) {
        why |= EMGD_WHY_SITE; /* the holder is somewhere else: what is armed is not what is meant */
        drop(g, why);
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
/*@ requires \valid_read(g) && numbers_sound(g) && numbers_in_range(&g->limits.value[0]) && shot_sound(g);
    requires g->now_ns <= at_ns <= g->now_ns + EMGD_AHEAD_NS;
    assigns \nothing;
    ensures \result == 0 ==> may_go(g, g->shot.current_ua, g->shot.width_us, at_ns, 1);
    ensures \result == 0 && g->shot.left == g->shot.count ==> may_begin(g, at_ns);
    ensures \result == 0 && g->shot.left != g->shot.count ==> may_follow(g, at_ns);
    ensures \result == 0 ==> at_ns < g->lease_until_ns && g->stamped == 1 && is_fresh(g) &&
        g->shot.due_ns >= g->now_ns - EMGD_OLD_NS;
 */
static uint64_t judge_now(const emgd_gate *g, int64_t at_ns) {
    uint64_t why = judge_stream(g);
    if (g->shot.due_ns < g->now_ns - EMGD_OLD_NS) why |= EMGD_WHY_OLD;
    if (at_ns >= g->lease_until_ns) why |= emgd_limit_bit(EMGD_LEASE_MS);
    why |= g->shot.left == g->shot.count ? emgd_judge_begin(g, at_ns) : emgd_judge_next(g, at_ns);
    why |= emgd_judge_pulse(g, g->shot.current_ua, g->shot.width_us, at_ns, 1);
    return why;
}

/* Note the next pulse as gone, and tell it. */
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

uint64_t emgd_gate_fire(emgd_gate *g, int64_t now_ns, emgd_pulse *pulse) {
    pulse->seq = 0;
    pulse->at_ns = 0;
    pulse->current_ua = 0;
    pulse->width_us = 0;
    pulse->index = 0;
    pulse->count = 0;
    uint64_t why = advance(g, now_ns);
    if (g->state != EMGD_FIRING) return why | EMGD_WHY_NO_SHOT | (armed(g) ? 0 : not_ready(g));
    int64_t at_ns = g->shot.due_ns > g->now_ns ? g->shot.due_ns : g->now_ns;
    if (at_ns > g->now_ns + EMGD_LEAD_NS) return EMGD_WHY_EARLY;
    why = judge_now(g, at_ns);
    if (why) {
        emgd_gate_cancel(g);
        return why;
    }
    if (g->awaited_count == EMGD_AWAITED) return EMGD_WHY_READBACK_DUE;
    book(g, at_ns, pulse);
    return 0;
}

/* --- what came of it */

/* How far a reading is from what was asked; a reading that no instrument gives is very far. */
/*@ assigns \nothing;
    ensures 0 <= \result <= (int64_t)EMGD_MAX_READING + INT32_MAX + 1;
 */
static int64_t deviation(int32_t asked, int64_t reading) {
    if (reading < 0 || reading > EMGD_MAX_READING) return EMGD_MAX_READING;
    return reading > asked ? reading - asked : asked - reading;
}

/* Does a reading agree? Then 0; else the bit, and FAR when it is beyond any tolerance. */
/*@ requires 0 <= percent <= 100;
    assigns \nothing;
 */
static uint64_t judge_reading(int32_t asked, int64_t reading, int64_t percent, int64_t tolerance, uint64_t bit) {
    int64_t off = deviation(asked, reading);
    if (off <= tolerance || off * 100 <= asked * percent) return 0;
    return off * 100 > (int64_t)asked * EMGD_FAR_PERCENT ? bit | EMGD_WHY_READBACK_FAR : bit;
}

/* The oldest pulse that is out was read back. */
static uint64_t take_readback(emgd_gate *g, const emgd_readback *readback) {
    const int64_t *limit = g->limits.value;
    int32_t asked_ua = g->awaited[0].current_ua;
    uint64_t marks = judge_reading(asked_ua, readback->current_ua, limit[EMGD_READBACK_CURRENT_PERCENT],
                                   limit[EMGD_READBACK_CURRENT_UA], emgd_limit_bit(EMGD_READBACK_CURRENT_PERCENT));
    marks |= judge_reading(g->awaited[0].width_us, readback->width_us, limit[EMGD_READBACK_WIDTH_PERCENT],
                           limit[EMGD_READBACK_WIDTH_US], emgd_limit_bit(EMGD_READBACK_WIDTH_PERCENT));
    if (readback->limited) marks |= EMGD_WHY_HEADROOM;
    uint64_t faults = marks & EMGD_WHY_READBACK_FAR;
    if (marks && g->good < EMGD_RECENT) faults |= EMGD_WHY_READBACK_OFTEN;
    if (readback->dc_ua > limit[EMGD_DC_UA] || readback->dc_ua < -limit[EMGD_DC_UA]) faults |= emgd_limit_bit(EMGD_DC_UA);
    /* What was given at the last: that is where the next step begins. */
    int32_t given_ua = marks && readback->current_ua < asked_ua ? (int32_t)readback->current_ua : asked_ua;

    g->load_ohm = readback->load_ohm;
    g->awaited[0] = g->awaited[1];
    g->awaited_count--;
    if (marks) {
        g->good = 0;
    } else if (g->good < EMGD_RECENT) {
        g->good++;
    }
    if (armed(g)) {
        g->last_ua = given_ua;
        g->retry_ua = marks ? given_ua : EMGD_MAX_CURRENT_UA;
        if (marks) g->confirmed_ua = 0;
    }
    if (faults) latch(g, faults);
    settle(g);
    return marks | faults;
}

uint64_t emgd_gate_readback(emgd_gate *g, const emgd_readback *readback, int64_t now_ns) {
    uint64_t why = advance(g, now_ns);
    if (g->state == EMGD_FAULT || g->state == EMGD_OFF) return why | not_ready(g);
    if (!g->awaited_count || g->awaited[0].seq != readback->seq) {
        latch(g, EMGD_WHY_READBACK_UNEXPECTED);
        return why | EMGD_WHY_READBACK_UNEXPECTED;
    }
    return why | take_readback(g, readback);
}

/* --- faults */

void emgd_gate_stop(emgd_gate *g) { latch(g, EMGD_WHY_STOPPED); }

void emgd_gate_fault(emgd_gate *g, uint64_t causes) {
    uint64_t known = causes & EMGD_WHY_EXTERNAL;
    latch(g, known ? known : EMGD_WHY_DEVICE);
}

uint64_t emgd_gate_acknowledge(emgd_gate *g, uint64_t operator_id, uint64_t present, int64_t now_ns) {
    uint64_t why = advance(g, now_ns);
    if (g->state != EMGD_FAULT) return 0;
    if (!operator_id) why |= EMGD_WHY_OPERATOR;
    if (g->faults & present) why |= EMGD_WHY_PRESENT;
    if (why) return why | not_ready(g);
    g->faults = 0;
    g->good = EMGD_RECENT;
    g->state = EMGD_OFF;
    return 0;
}
