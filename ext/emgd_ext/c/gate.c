/* The stimulus safety gate: its states. C, pure: what runs is what is proven; see gate.h. Shots are in shot.c. */
#include "gate.h"
#include "gate_pass.h"

uint64_t emgd_gate_tick(emgd_gate *g, int64_t now_ns) { return emgd_advance(g, now_ns); }

/* --- life */

uint64_t emgd_gate_init(emgd_gate *g, int64_t now_ns) {
    emgd_dose_clear(&g->dose);
    emgd_limits_at_end(&g->limits);
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
    g->site = 0;
    g->operator_id = 0;
    g->last_ua = 0;
    g->confirmed_ua = 0;
    g->retry_ua = EMGD_MAX_CURRENT_UA;
    g->shot.left = 0;
    g->dropped = 0;
    return emgd_advance(g, now_ns);
}

uint64_t emgd_gate_set_limits(emgd_gate *g, const emgd_limits *limits) {
    if (g->state != EMGD_OFF && g->state != EMGD_IDLE) {
        return g->state == EMGD_FAULT ? emgd_not_ready(g) : EMGD_WHY_BUSY;
    }
    uint64_t wrong = emgd_limits_check(limits->value);
    if (wrong) return wrong;
    /*@ loop invariant 0 <= i <= EMGD_LIMITS;
        loop invariant \forall integer j; 0 <= j < EMGD_LIMITS ==> limits->value[j] == \at(limits->value[j], Pre);
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
    emgd_advance(g, now_ns);
    if (g->state == EMGD_FAULT) return emgd_not_ready(g);
    if (!g->limits_set) return EMGD_WHY_NO_LIMITS;
    emgd_drop(g, 0);
    g->awaited_count = 0;
    g->load_ohm = 0;
    g->state = EMGD_IDLE;
    return 0;
}

void emgd_gate_disconnect(emgd_gate *g) {
    emgd_drop(g, 0);
    g->awaited_count = 0;
    g->load_ohm = 0;
    if (g->state != EMGD_FAULT) g->state = EMGD_OFF;
}

/* --- lease */

/*@ requires \valid_read(g) && LIMITS_SOUND(g) && NUMBERS_SOUND(g);
    assigns \nothing;
    ensures \result == g->now_ns + g->limits.value[EMGD_LEASE_MS] * EMGD_MS;
    ensures \result > g->now_ns;
 */
static int64_t lease_end_ns(const emgd_gate *g) { return g->now_ns + g->limits.value[EMGD_LEASE_MS] * EMGD_MS; }

uint64_t emgd_gate_take(emgd_gate *g, uint64_t holder, uint64_t nonce, int64_t now_ns) {
    emgd_advance(g, now_ns);
    if (!holder || g->holder) return EMGD_WHY_HOLDER;
    g->holder = holder;
    g->nonce = nonce;
    g->lease_until_ns = lease_end_ns(g);
    return 0;
}

uint64_t emgd_gate_renew(emgd_gate *g, uint64_t holder, uint64_t nonce, int64_t now_ns) {
    emgd_advance(g, now_ns);
    if (!g->holder) return emgd_limit_bit(EMGD_LEASE_MS);
    if (g->holder != holder) return EMGD_WHY_HOLDER;
    if (nonce <= g->nonce) return EMGD_WHY_NONCE;
    g->nonce = nonce;
    g->lease_until_ns = lease_end_ns(g);
    return 0;
}

uint64_t emgd_gate_release(emgd_gate *g, uint64_t holder) {
    if (!holder || g->holder != holder) return EMGD_WHY_HOLDER;
    emgd_drop(g, 0);
    g->holder = 0;
    return 0;
}

/* --- what is seen */

uint64_t emgd_gate_stream(emgd_gate *g, int64_t sample_ns, int32_t saturated, int32_t stamped, int64_t now_ns) {
    uint64_t why = emgd_advance(g, now_ns);
    if (sample_ns > g->sample_ns && sample_ns <= g->now_ns + EMGD_STALE_NS) g->sample_ns = sample_ns;
    if (saturated && !g->saturated) g->saturated_ns = g->now_ns;
    g->saturated = saturated != 0;
    g->stamped = stamped == 1;
    return why;
}

uint64_t emgd_gate_load(emgd_gate *g, int64_t load_ohm, int64_t now_ns) {
    uint64_t why = emgd_advance(g, now_ns);
    g->load_ohm = load_ohm;
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

/*@ requires \valid_read(g) && \valid_read(arming) && \separated(g, arming) && NUMBERS_SOUND(g);
    assigns \nothing;
    ensures \result == 0 ==> arming->holder != 0 && g->holder == arming->holder && arming->operator_id != 0 &&
        arming->site != 0 && arming->isolated == 1 && g->awaited_count == 0 && IS_FRESH(g, g->now_ns) &&
        1 <= arming->load_ohm <= g->limits.value[EMGD_IMPEDANCE_OHM] &&
        1 <= arming->compliance_v <= g->limits.value[EMGD_COMPLIANCE_V] &&
        1 <= arming->device_current_ua <= g->limits.value[EMGD_CURRENT_UA] &&
        1 <= arming->device_width_us <= g->limits.value[EMGD_WIDTH_US];
 */
static uint64_t judge_arming(const emgd_gate *g, const emgd_arming *arming) {
    const int64_t *limit = g->limits.value;
    uint64_t why = emgd_judge_stream(g);
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
    uint64_t why = emgd_advance(g, now_ns);
    if (emgd_armed(g)) why |= EMGD_WHY_BUSY;
    if (g->state == EMGD_OFF || g->state == EMGD_FAULT) why |= emgd_not_ready(g);
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
    emgd_settle(g);
    return 0;
}

uint64_t emgd_gate_confirm(emgd_gate *g, uint64_t holder, int64_t ceiling_ua, int64_t now_ns) {
    uint64_t why = emgd_advance(g, now_ns);
    if (g->state != EMGD_COOLDOWN) why |= emgd_not_ready(g);
    if (!holder || g->holder != holder) why |= EMGD_WHY_HOLDER;
    if (ceiling_ua < 1) why |= EMGD_WHY_SHAPE;
    if (ceiling_ua > g->limits.value[EMGD_CURRENT_UA]) why |= emgd_limit_bit(EMGD_CURRENT_UA);
    if (ceiling_ua > g->device_current_ua) why |= EMGD_WHY_DEVICE_LIMITS;
    if (why) return why;
    g->confirmed_ua = (int32_t)ceiling_ua;
    g->active_ns = g->now_ns;
    return 0;
}

void emgd_gate_disarm(emgd_gate *g) { emgd_drop(g, 0); }

/* --- faults */

void emgd_gate_stop(emgd_gate *g) { emgd_latch(g, EMGD_WHY_STOPPED); }

void emgd_gate_fault(emgd_gate *g, uint64_t causes) {
    uint64_t known = causes & EMGD_WHY_EXTERNAL;
    emgd_latch(g, known ? known : EMGD_WHY_DEVICE);
}

uint64_t emgd_gate_acknowledge(emgd_gate *g, uint64_t operator_id, uint64_t present, int64_t now_ns) {
    uint64_t why = emgd_advance(g, now_ns);
    if (g->state != EMGD_FAULT) return 0;
    if (!operator_id) why |= EMGD_WHY_OPERATOR;
    if (g->faults & present) why |= EMGD_WHY_PRESENT;
    if (why) return why | emgd_not_ready(g);
    g->faults = 0;
    g->good = EMGD_RECENT;
    g->state = EMGD_OFF;
    return 0;
}
