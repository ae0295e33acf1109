/* The inside of the gate: how time passes, and the ways down. Used by gate.c and shot.c alone.
 *
 * Every call that carries a time lets that time pass first (`emgd_advance`), so that nothing is judged in a state that should have ended. */
#ifndef EMGD_GATE_PASS_H
#define EMGD_GATE_PASS_H

#include "gate_rules.h"

/*@ requires \valid_read(g);
    assigns \nothing;
    ensures \result == 0 || \result == 1;
    ensures \result != 0 <==> IS_ARMED(g);
 */
int emgd_armed(const emgd_gate *g);

/* Why no shot may be asked for in this state. */
/*@ requires \valid_read(g) && EMGD_OFF <= g->state <= EMGD_FAULT && (g->state == EMGD_FAULT ==> g->faults != 0);
    assigns \nothing;
    ensures \result == 0 <==> g->state == EMGD_ARMED;
 */
uint64_t emgd_not_ready(const emgd_gate *g);

/* Nothing is kept of what was armed; `why` the gate did that by itself. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_DROPS;
    EMGD_SOUND(ensures)
    ensures g->state == (\old(IS_ARMED(g)) ? EMGD_IDLE : \old(g->state));
    ensures NOTHING_KEPT(g) && g->retry_ua == EMGD_MAX_CURRENT_UA && g->shot.left == 0 && g->dropped == why;
 */
void emgd_drop(emgd_gate *g, uint64_t why);

/*@ requires \valid(g) && causes != 0;
    EMGD_SOUND(requires)
    assigns EMGD_FAULTS;
    EMGD_SOUND(ensures)
    ensures g->state == EMGD_FAULT;
 */
void emgd_latch(emgd_gate *g, uint64_t causes);

/* COOLDOWN ends when a shot could begin and the last one is fully read back. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns g->state;
    EMGD_SOUND(ensures)
    ensures g->state == \old(g->state) || (\old(g->state) == EMGD_COOLDOWN && g->state == EMGD_ARMED);
 */
void emgd_settle(emgd_gate *g);

/* What ends now that it is `now_ns`: any bit means that the gate is not armed any more, or that a lease ended. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> g->now_ns == now_ns && now_ns >= \old(g->now_ns);
    ensures stays: IS_ARMED(g) ==> \result == 0 && \old(IS_ARMED(g));
    ensures keeps: IS_ARMED(g) ==> g->holder == \old(g->holder) && g->site == \old(g->site) &&
        g->operator_id == \old(g->operator_id) && g->last_ua == \old(g->last_ua) &&
        g->confirmed_ua == \old(g->confirmed_ua) && g->retry_ua == \old(g->retry_ua) &&
        g->awaited_count == \old(g->awaited_count) && g->sample_ns == \old(g->sample_ns) && g->faults == 0;
    ensures fires_on: g->state == EMGD_FIRING ==> \old(g->state) == EMGD_FIRING && g->shot.left == \old(g->shot.left);
    ensures g->state == EMGD_IDLE && \result == 0 ==> \old(g->state) == EMGD_IDLE;
    ensures \old(g->state) == EMGD_FAULT ==> g->state == EMGD_FAULT;
    ensures g->state != EMGD_FAULT ==> g->awaited_count == \old(g->awaited_count);
    ensures g->holder == \old(g->holder) || g->holder == 0;
    ensures g->state != EMGD_OFF && g->state != EMGD_FAULT ==> \old(g->state) != EMGD_OFF && \old(g->state) != EMGD_FAULT;
 */
uint64_t emgd_advance(emgd_gate *g, int64_t now_ns);

/* What stands against output in what is seen of the amplifier. */
/*@ requires \valid_read(g) && NUMBERS_SOUND(g);
    assigns \nothing;
    ensures \result == 0 ==> g->stamped == 1 && IS_FRESH(g, g->now_ns);
 */
uint64_t emgd_judge_stream(const emgd_gate *g);

#endif
