/* The stimulus safety gate: may this pulse go out now?
 *
 * C, pure: state + request + now -> verdict. No clock, no I/O, no allocation, no globals, integers only (uA, us, pC, ns), so that the code
 * that runs is the code that is proven for all inputs (docs/safety/proof.md). It is not thread-safe: one thread owns a gate.
 *
 * The way of a stimulus:
 *
 *     init, set_limits           OFF      no device
 *     connect                    IDLE     device reset, 0 uA
 *     take, renew, renew ...              one holder of the lease
 *     stream, load                        what is seen of the amplifier and of the electrodes
 *     arm                        ARMED    a site, an operator, the device's own limits read back
 *     request                    FIRING   a shot (single, pair, train), judged as a whole
 *     fire, readback                      each pulse, judged again; ONLY a fire that returns 0 permits output, and of one pulse
 *                                COOLDOWN until the next shot may begin, then ARMED
 *     tick                                at least every 50 ms: leases, time-outs
 *     disarm, release, disconnect, fault, stop                always accepted
 *
 * A verdict is a set of bits that names everything that stands against: 0 is yes, anything else is no. Limits and rules:
 * docs/safety/limits.md. */
#ifndef EMGD_GATE_H
#define EMGD_GATE_H

#include "gate_rules.h"

/* Everything off, no limits, nothing remembered. Returns 0, or TIME with that fault latched. */
/*@ requires \valid(g);
    assigns *g;
    EMGD_SOUND(ensures)
    ensures g->state == EMGD_OFF || g->state == EMGD_FAULT;
 */
uint64_t emgd_gate_init(emgd_gate *g, int64_t now_ns);

/* The limits from now on. Only while OFF or IDLE; refused as a whole, with the bits of what is wrong, when not valid. */
/*@ requires \valid(g) && \valid_read(limits) && \separated(g, limits);
    EMGD_SOUND(requires)
    assigns g->limits, g->limits_set;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> limits_valid(&limits->value[0]) && g->limits_set == 1;
    ensures \result == 0 ==> \forall integer i; is_limit(i) ==> g->limits.value[i] == limits->value[i];
    ensures \result != 0 ==> \forall integer i; is_limit(i) ==> g->limits.value[i] == \old(g->limits.value[i]);
    ensures IS_ARMED(g) ==> \result != 0;
 */
uint64_t emgd_gate_set_limits(emgd_gate *g, const emgd_limits *limits);

/* The device is there, was reset and gives nothing: IDLE. Also after each reconnect. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->load_ohm;
    EMGD_SOUND(ensures)
    ensures !IS_ARMED(g);
    ensures \result == 0 ==> g->state == EMGD_IDLE;
 */
uint64_t emgd_gate_connect(emgd_gate *g, int64_t now_ns);

/* The device is gone. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_DROPS, g->awaited_count, g->load_ohm;
    EMGD_SOUND(ensures)
    ensures g->state == (\old(g->state) == EMGD_FAULT ? EMGD_FAULT : EMGD_OFF);
 */
void emgd_gate_disconnect(emgd_gate *g);

/* Take a lease that nobody holds; it lives for EMGD_LEASE_MS. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->nonce, g->lease_until_ns;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> holder != 0 && g->holder == holder && g->nonce == nonce;
    ensures \result == 0 ==> g->lease_until_ns == g->now_ns + g->limits.value[EMGD_LEASE_MS] * EMGD_MS;
 */
uint64_t emgd_gate_take(emgd_gate *g, uint64_t holder, uint64_t nonce, int64_t now_ns);

/* Keep it; `nonce` must be higher than the one before. A lease that ended cannot be renewed. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->nonce, g->lease_until_ns;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> holder != 0 && g->holder == holder && \old(g->holder) == holder;
    ensures \result == 0 ==> g->nonce == nonce && nonce > \old(g->nonce);
    ensures \result == 0 ==> g->lease_until_ns == g->now_ns + g->limits.value[EMGD_LEASE_MS] * EMGD_MS;
    ensures \result != 0 ==> g->lease_until_ns == \old(g->lease_until_ns) && g->nonce == \old(g->nonce);
 */
uint64_t emgd_gate_renew(emgd_gate *g, uint64_t holder, uint64_t nonce, int64_t now_ns);

/* Give it back, or lose it: its client is gone. Disarms. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_DROPS, g->holder;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> g->holder == 0 && !IS_ARMED(g);
    ensures \result == 0 <==> \old(g->holder) == holder && holder != 0;
 */
uint64_t emgd_gate_release(emgd_gate *g, uint64_t holder);

/* The newest sample of the amplifier, by host time; `saturated`: every channel is, now; `stamped`: a pulse could be timed. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->saturated_ns, g->stamped;
    EMGD_SOUND(ensures)
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
 */
uint64_t emgd_gate_stream(emgd_gate *g, int64_t sample_ns, int32_t saturated, int32_t stamped, int64_t now_ns);

/* Impedance of the stimulation loop as just measured; 0 or less: open, unknown. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->load_ohm;
    EMGD_SOUND(ensures)
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
 */
uint64_t emgd_gate_load(emgd_gate *g, int64_t load_ohm, int64_t now_ns);

/* Arm one site: from IDLE only. Begins at the first-shot limit, whatever was before. */
/*@ requires \valid(g) && \valid_read(arming) && \separated(g, arming);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->compliance_v, g->device_current_ua, g->device_width_us, g->area_mm2, g->active_ns, g->load_ohm;
    EMGD_SOUND(ensures)
    ensures IS_ARMED(g) && !\old(IS_ARMED(g)) ==> \result == 0;
    ensures \result == 0 ==> IS_ARMED(g) && !\old(IS_ARMED(g)) && \old(g->state) == EMGD_IDLE;
    ensures \result == 0 ==> g->holder == arming->holder && g->site == arming->site &&
        g->operator_id == arming->operator_id && arming->isolated == 1;
    ensures \result == 0 ==> g->last_ua == 0 && g->confirmed_ua == 0;
    ensures \result == 0 ==> 1 <= g->load_ohm <= g->limits.value[EMGD_IMPEDANCE_OHM];
 */
uint64_t emgd_gate_arm(emgd_gate *g, const emgd_arming *arming, int64_t now_ns);

/* Lift the step rule up to a current that the operator confirmed by name. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->active_ns;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> g->confirmed_ua == ceiling_ua && IS_ARMED(g) && g->holder == holder &&
        1 <= ceiling_ua <= g->limits.value[EMGD_CURRENT_UA];
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
 */
uint64_t emgd_gate_confirm(emgd_gate *g, uint64_t holder, int64_t ceiling_ua, int64_t now_ns);

/* Ask for a shot: judged as a whole. 0: it may be fired, pulse by pulse. Permits no output by itself. */
/*@ requires \valid(g) && \valid_read(request) && \separated(g, request);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->active_ns, SHOT_FIELDS;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> g->state == EMGD_FIRING && g->holder == request->holder && g->site == request->site;
    ensures \result == 0 ==> g->shot.left == request->count && g->shot.current_ua == request->current_ua &&
        g->shot.width_us == request->width_us;
    ensures \result == 0 ==> g->now_ns - EMGD_OLD_NS <= request->asked_ns <= g->now_ns;
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
 */
uint64_t emgd_gate_request(emgd_gate *g, const emgd_request *request, int64_t now_ns);

/* What such a request would be judged by, in the unit of each limit. */
/*@ requires \valid_read(g) && \valid_read(request);
    EMGD_SOUND(requires)
    assigns \nothing;
 */
emgd_figures emgd_gate_figures(const emgd_gate *g, const emgd_request *request);

/* Give up the pulses that are still to go; stays armed. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns g->state, g->shot.left;
    EMGD_SOUND(ensures)
    ensures g->state != EMGD_FIRING && (IS_ARMED(g) <==> \old(IS_ARMED(g)));
 */
void emgd_gate_cancel(emgd_gate *g);

/* The next pulse of the shot: judged again, now. `why` 0 and only 0: `pulse` may go out at `pulse.at_ns`, once. With nothing but bits
 * of EMGD_WHY_WAIT the shot stands and may be asked for again; with any other bit the rest of it is given up. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, EMGD_BOOKS;
    EMGD_SOUND(ensures)
    ensures refused_no_pulse: \result.why != 0 ==> NO_PULSE(\result.pulse);
    ensures fired_seq: \result.why == 0 && \old(g->next_seq) < UINT64_MAX ==> \result.pulse.seq == \old(g->next_seq);
    ensures fired_count: \result.why == 0 ==> \result.pulse.count == \old(g->shot.count);
    EMGD_FIRE_PROMISES(\result.why, \result.pulse.at_ns, \result.pulse.current_ua, \result.pulse.width_us, \result.pulse.index)
    ensures fired_now: \result.why == 0 ==> g->now_ns == now_ns;
 */
emgd_fired emgd_gate_fire(emgd_gate *g, int64_t now_ns);

/* What the device says it delivered. 0: as asked; bits of limits: outside the tolerance, marked; latching bits: a fault. */
/*@ requires \valid(g) && \valid_read(readback) && \separated(g, readback);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->load_ohm, g->good, AWAITED_CELL(0);
    EMGD_SOUND(ensures)
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
    ensures \result == 0 ==> \old(g->awaited_count) >= 1 && \old(g->awaited[0].seq) == \old(readback->seq) &&
        \old(READBACK_AGREES(g, *readback));
    ensures \result == 0 ==> -g->limits.value[EMGD_DC_UA] <= \old(readback->dc_ua) <= g->limits.value[EMGD_DC_UA];
 */
uint64_t emgd_gate_readback(emgd_gate *g, const emgd_readback *readback, int64_t now_ns);

/* Time passes: what ended by it? Call it at least every 50 ms. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES;
    EMGD_SOUND(ensures)
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
    ensures \result == 0 ==> g->now_ns == now_ns;
 */
uint64_t emgd_gate_tick(emgd_gate *g, int64_t now_ns);

/* Back to 0 uA and IDLE; the lease stays. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_DROPS;
    EMGD_SOUND(ensures)
    ensures !IS_ARMED(g);
 */
void emgd_gate_disarm(emgd_gate *g);

/* Emergency stop: from every state, by anybody. Latches. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_FAULTS;
    EMGD_SOUND(ensures)
    ensures g->state == EMGD_FAULT;
 */
void emgd_gate_stop(emgd_gate *g);

/* Something that others noticed: bits of EMGD_WHY_EXTERNAL; anything else counts as DEVICE. Latches. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_FAULTS;
    EMGD_SOUND(ensures)
    ensures g->state == EMGD_FAULT;
 */
void emgd_gate_fault(emgd_gate *g, uint64_t causes);

/* The operator has seen the fault; `present` are the causes that are still there. 0: nothing is latched any more, the state is OFF
 * and the device must be connected anew. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->good;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> g->state != EMGD_FAULT;
    ensures \old(g->state) == EMGD_FAULT ==> g->state == EMGD_FAULT || (g->state == EMGD_OFF && operator_id != 0);
    ensures IS_ARMED(g) ==> \old(IS_ARMED(g));
 */
uint64_t emgd_gate_acknowledge(emgd_gate *g, uint64_t operator_id, uint64_t present, int64_t now_ns);

/* Bits of EMGD_WARN_...: what an operator should know though it stops nothing. */
/*@ requires \valid_read(g);
    EMGD_SOUND(requires)
    assigns \nothing;
 */
uint64_t emgd_gate_warnings(const emgd_gate *g);

#endif
