/* The stimulus safety gate: what came of a pulse. C, pure: what runs is what is proven; see gate.h. */
#include "gate.h"
#include "gate_pass.h"

/* Does a reading agree? Then 0; else the bit, and FAR when it is beyond any tolerance, or no instrument reads that. */
/*@ requires 1 <= asked <= EMGD_MAX_CURRENT_UA && 1 <= percent <= 20 && 1 <= tolerance <= 500 && bit != 0;
    assigns \nothing;
    ensures \result == 0 ==> AGREES(asked, reading, percent, tolerance);
    ensures AGREES(asked, reading, percent, tolerance) ==> \result == 0;
 */
static uint64_t judge_reading(int32_t asked, int64_t reading, int64_t percent, int64_t tolerance, uint64_t bit) {
    if (reading < 0 || reading > EMGD_MAX_READING) return bit | EMGD_WHY_READBACK_FAR;
    int64_t off = reading > asked ? reading - asked : asked - reading;
    //@ assert 0 <= asked * percent <= asked * 20;
    int64_t allowed = asked * percent;
    if (off <= tolerance || off * 100 <= allowed) return 0;
    return off * 100 > (int64_t)asked * EMGD_FAR_PERCENT ? bit | EMGD_WHY_READBACK_FAR : bit;
}

/* What in a readback differs from what was asked. */
/*@ requires \valid_read(g) && LIMITS_SOUND(g) && g->awaited_count >= 1 && AWAITED_SOUND(g);
    assigns \nothing;
    ensures \result == 0 <==> READBACK_AGREES(g, readback);
 */
static uint64_t judge_readback(const emgd_gate *g, emgd_readback readback) {
    const int64_t *limit = g->limits.value;
    uint64_t marks = judge_reading(g->awaited[0].current_ua, readback.current_ua, limit[EMGD_READBACK_CURRENT_PERCENT],
                                   limit[EMGD_READBACK_CURRENT_UA], emgd_limit_bit(EMGD_READBACK_CURRENT_PERCENT));
    marks |= judge_reading(g->awaited[0].width_us, readback.width_us, limit[EMGD_READBACK_WIDTH_PERCENT],
                           limit[EMGD_READBACK_WIDTH_US], emgd_limit_bit(EMGD_READBACK_WIDTH_PERCENT));
    return readback.limited ? marks | EMGD_WHY_HEADROOM : marks;
}

/* What of it is a fault. */
/*@ requires \valid_read(g) && LIMITS_SOUND(g);
    assigns \nothing;
    ensures \result == 0 ==> -g->limits.value[EMGD_DC_UA] <= readback.dc_ua <= g->limits.value[EMGD_DC_UA];
    ensures \result == 0 && marks != 0 ==> g->good >= EMGD_RECENT;
 */
static uint64_t judge_faults(const emgd_gate *g, emgd_readback readback, uint64_t marks) {
    int64_t allowed_ua = g->limits.value[EMGD_DC_UA];
    uint64_t faults = marks & EMGD_WHY_READBACK_FAR;
    if (marks && g->good < EMGD_RECENT) faults |= EMGD_WHY_READBACK_OFTEN;
    if (readback.dc_ua > allowed_ua || readback.dc_ua < -allowed_ua) faults |= emgd_limit_bit(EMGD_DC_UA);
    return faults;
}

/* What was given at the last: that is where the next step begins. */
/*@ requires 1 <= asked_ua <= EMGD_MAX_CURRENT_UA;
    assigns \nothing;
    ensures 0 <= \result <= asked_ua;
 */
static int32_t given(int32_t asked_ua, int64_t reading_ua, uint64_t marks) {
    if (!marks || reading_ua >= asked_ua) return asked_ua;
    return reading_ua < 0 ? 0 : (int32_t)reading_ua;
}

/* The oldest pulse that is out is out no more. */
/*@ requires \valid(g) && g->awaited_count >= 1;
    EMGD_SOUND(requires)
    assigns g->awaited_count, AWAITED_CELL(0);
    EMGD_SOUND(ensures)
    ensures g->awaited_count == \old(g->awaited_count) - 1;
 */
static void forget_oldest(emgd_gate *g) {
    g->awaited[0].seq = g->awaited[1].seq;
    g->awaited[0].at_ns = g->awaited[1].at_ns;
    g->awaited[0].current_ua = g->awaited[1].current_ua;
    g->awaited[0].width_us = g->awaited[1].width_us;
    g->awaited_count--;
}

/* What a readback means for the next step. */
/*@ requires \valid(g) && IS_ARMED(g) && 0 <= given_ua <= EMGD_MAX_CURRENT_UA;
    EMGD_SOUND(requires)
    assigns g->last_ua, g->retry_ua, g->confirmed_ua;
    EMGD_SOUND(ensures)
    ensures g->last_ua == given_ua;
    ensures marks != 0 ==> g->retry_ua == given_ua && g->confirmed_ua == 0;
 */
static void note_given(emgd_gate *g, int32_t given_ua, uint64_t marks) {
    g->last_ua = given_ua;
    g->retry_ua = marks ? given_ua : EMGD_MAX_CURRENT_UA;
    if (marks) g->confirmed_ua = 0;
}

/* The oldest pulse that is out was read back. */
/*@ requires \valid(g) && g->awaited_count >= 1;
    EMGD_SOUND(requires)
    assigns EMGD_FAULTS, g->load_ohm, g->good, AWAITED_CELL(0);
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> \old(READBACK_AGREES(g, readback));
    ensures \result == 0 ==> -g->limits.value[EMGD_DC_UA] <= readback.dc_ua <= g->limits.value[EMGD_DC_UA];
    ensures !\old(READBACK_AGREES(g, readback)) && IS_ARMED(g) ==>
        g->confirmed_ua == 0 && g->retry_ua == g->last_ua && g->last_ua <= \old(g->awaited[0].current_ua);
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
    ensures g->load_ohm == readback.load_ohm;
 */
static uint64_t take_readback(emgd_gate *g, emgd_readback readback) {
    uint64_t marks = judge_readback(g, readback);
    uint64_t faults = judge_faults(g, readback, marks);
    int32_t given_ua = given(g->awaited[0].current_ua, readback.current_ua, marks);
    g->load_ohm = readback.load_ohm;
    forget_oldest(g);
    if (marks) {
        g->good = 0;
    } else if (g->good < EMGD_RECENT) {
        g->good++;
    }
    if (emgd_armed(g)) note_given(g, given_ua, marks);
    if (faults) {
        emgd_latch(g, faults);
        return marks | faults;
    }
    emgd_settle(g);
    return marks;
}

/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_FAULTS, g->load_ohm, g->good, AWAITED_CELL(0);
    EMGD_SOUND(ensures)
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
    ensures \result == 0 ==> \old(g->awaited_count) >= 1 && \old(g->awaited[0].seq) == readback.seq &&
        \old(READBACK_AGREES(g, readback));
    ensures \result == 0 ==> -g->limits.value[EMGD_DC_UA] <= readback.dc_ua <= g->limits.value[EMGD_DC_UA];
 */
static uint64_t match_readback(emgd_gate *g, emgd_readback readback) {
    if (g->state == EMGD_FAULT || g->state == EMGD_OFF) return emgd_not_ready(g);
    if (!g->awaited_count || g->awaited[0].seq != readback.seq) {
        emgd_latch(g, EMGD_WHY_READBACK_UNEXPECTED);
        return EMGD_WHY_READBACK_UNEXPECTED;
    }
    return take_readback(g, readback);
}

uint64_t emgd_gate_readback(emgd_gate *g, const emgd_readback *readback, int64_t now_ns) {
    emgd_readback said = *readback; /* by value: nothing that a caller changes meanwhile counts */
    uint64_t why = emgd_advance(g, now_ns);
    return why | match_readback(g, said);
}
