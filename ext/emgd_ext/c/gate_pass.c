/* The inside of the gate: time and the ways down. C, pure: what runs is what is proven; see gate_pass.h. */
#include "gate_pass.h"

#include "judge.h"

int emgd_armed(const emgd_gate *g) {
    return g->state == EMGD_ARMED || g->state == EMGD_FIRING || g->state == EMGD_COOLDOWN;
}

uint64_t emgd_not_ready(const emgd_gate *g) {
    switch (g->state) {
    case EMGD_ARMED: return 0;
    case EMGD_OFF: return EMGD_WHY_OFF;
    case EMGD_IDLE: return EMGD_WHY_DISARMED;
    case EMGD_FIRING: return EMGD_WHY_BUSY;
    case EMGD_COOLDOWN: return EMGD_WHY_COOLDOWN;
    default: return EMGD_WHY_FAULT | g->faults;
    }
}

void emgd_drop(emgd_gate *g, uint64_t why) {
    if (emgd_armed(g)) g->state = EMGD_IDLE;
    g->dropped = why;
    g->site = 0;
    g->operator_id = 0;
    g->last_ua = 0;
    g->confirmed_ua = 0;
    g->retry_ua = EMGD_MAX_CURRENT_UA;
    g->shot.left = 0;
}

void emgd_latch(emgd_gate *g, uint64_t causes) {
    emgd_drop(g, causes);
    g->faults |= causes;
    g->awaited_count = 0;
    g->state = EMGD_FAULT;
}

/*@ requires \valid_read(g) && 0 <= now_ns <= EMGD_MAX_TIME_NS;
    assigns \nothing;
    ensures \result != 0 <==> IS_FRESH(g, now_ns);
 */
static int fresh(const emgd_gate *g, int64_t now_ns) {
    return g->sample_ns >= now_ns - EMGD_STALE_NS && g->sample_ns <= now_ns + EMGD_STALE_NS;
}

void emgd_settle(emgd_gate *g) {
    if (g->state == EMGD_COOLDOWN && !g->awaited_count && !emgd_judge_begin(g, g->now_ns)) g->state = EMGD_ARMED;
}

/* Time that no clock gives, or that went backwards. */
/*@ requires \valid(g) && (now_ns < g->now_ns || now_ns > EMGD_MAX_TIME_NS);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES;
    EMGD_SOUND(ensures)
    ensures g->state == EMGD_FAULT && g->holder == 0;
 */
static void distrust(emgd_gate *g, int64_t now_ns) {
    emgd_latch(g, EMGD_WHY_TIME);
    g->holder = 0; /* no lease can be timed by such a clock */
    g->sample_ns = EMGD_LONG_AGO_NS;
    g->saturated = 0; /* nor what was seen before be dated */
    if (now_ns >= 0 && now_ns <= EMGD_MAX_TIME_NS) g->now_ns = now_ns;
}

/* What ends when it is `now_ns`. */
/*@ requires \valid_read(g) && 0 <= g->now_ns <= now_ns <= EMGD_MAX_TIME_NS && LIMITS_SOUND(g);
    assigns \nothing;
    ensures \result == 0 ==> g->holder == 0 || now_ns < g->lease_until_ns;
    ensures \result == 0 && IS_ARMED(g) ==> IS_FRESH(g, now_ns);
    ensures \result == 0 && IS_ARMED(g) ==> g->active_ns > now_ns - g->limits.value[EMGD_IDLE_RESET_MS] * EMGD_MS;
 */
static uint64_t judge_time(const emgd_gate *g, int64_t now_ns) {
    uint64_t why = g->holder && now_ns >= g->lease_until_ns ? emgd_limit_bit(EMGD_LEASE_MS) : 0;
    if (!emgd_armed(g)) return why;
    if (now_ns - g->now_ns > EMGD_JUMP_NS) why |= EMGD_WHY_TIME;
    if (!fresh(g, now_ns)) why |= EMGD_WHY_STALE;
    if (g->active_ns <= now_ns - g->limits.value[EMGD_IDLE_RESET_MS] * EMGD_MS) why |= emgd_limit_bit(EMGD_IDLE_RESET_MS);
    return why;
}

/* The time is `now_ns`, and what had to end by then has ended. */
/*@ requires \valid(g) && g->now_ns <= now_ns <= EMGD_MAX_TIME_NS;
    EMGD_SOUND(requires)
    assigns EMGD_DROPS, g->now_ns, g->holder;
    EMGD_SOUND(ensures)
    ensures g->now_ns == now_ns;
    ensures g->state == (\result != 0 && \old(IS_ARMED(g)) ? EMGD_IDLE : \old(g->state));
    ensures g->holder == \old(g->holder) || g->holder == 0;
    ensures IS_ARMED(g) ==> g->site == \old(g->site) && g->operator_id == \old(g->operator_id) &&
        g->last_ua == \old(g->last_ua) && g->confirmed_ua == \old(g->confirmed_ua) &&
        g->retry_ua == \old(g->retry_ua) && g->shot.left == \old(g->shot.left) && g->holder == \old(g->holder);
 */
static uint64_t pass(emgd_gate *g, int64_t now_ns) {
    uint64_t why = judge_time(g, now_ns);
    if (why && emgd_armed(g)) emgd_drop(g, why);
    if (g->holder && now_ns >= g->lease_until_ns) g->holder = 0;
    g->now_ns = now_ns;
    return why;
}

uint64_t emgd_advance(emgd_gate *g, int64_t now_ns) {
    if (now_ns < g->now_ns || now_ns > EMGD_MAX_TIME_NS) {
        distrust(g, now_ns);
        return EMGD_WHY_TIME;
    }
    uint64_t why = pass(g, now_ns);
    if (g->awaited_count && g->awaited[0].at_ns < now_ns - EMGD_READBACK_NS) {
        emgd_latch(g, EMGD_WHY_READBACK_MISSING);
        return why | EMGD_WHY_READBACK_MISSING;
    }
    emgd_settle(g);
    return why;
}

uint64_t emgd_judge_stream(const emgd_gate *g) {
    uint64_t why = fresh(g, g->now_ns) ? 0 : EMGD_WHY_STALE;
    if (g->saturated && g->saturated_ns < g->now_ns - EMGD_SATURATED_NS) why |= EMGD_WHY_SATURATED;
    if (g->stamped != 1) why |= EMGD_WHY_UNSTAMPED;
    return why;
}
