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

#include "dose.h"

enum emgd_gate_state { EMGD_OFF, EMGD_IDLE, EMGD_ARMED, EMGD_FIRING, EMGD_COOLDOWN, EMGD_FAULT };

enum emgd_shot_kind { EMGD_SINGLE = 1, EMGD_PAIR = 2, EMGD_TRAIN = 3 };

/* Reasons beside the limits (whose bits are below EMGD_LIMITS). The names are those of docs/safety/limits.md. */
#define EMGD_WHY(number) ((uint64_t)1 << (number))
#define EMGD_WHY_NO_LIMITS EMGD_WHY(25)
#define EMGD_WHY_OFF EMGD_WHY(26)
#define EMGD_WHY_DISARMED EMGD_WHY(27)
#define EMGD_WHY_BUSY EMGD_WHY(28)     /* not while armed, or not while a shot is going on */
#define EMGD_WHY_COOLDOWN EMGD_WHY(29)
#define EMGD_WHY_FAULT EMGD_WHY(30)    /* latched; the causes stand beside it */
#define EMGD_WHY_NO_SHOT EMGD_WHY(31)
#define EMGD_WHY_TIME EMGD_WHY(32)     /* time went backwards (a fault) or jumped */
#define EMGD_WHY_STALE EMGD_WHY(33)    /* no fresh samples from the amplifier */
#define EMGD_WHY_SATURATED EMGD_WHY(34)
#define EMGD_WHY_UNSTAMPED EMGD_WHY(35) /* the recorder could not time the pulse */
#define EMGD_WHY_OLD EMGD_WHY(36)
#define EMGD_WHY_EARLY EMGD_WHY(37)
#define EMGD_WHY_HOLDER EMGD_WHY(38)   /* somebody else, or nobody, holds the lease */
#define EMGD_WHY_NONCE EMGD_WHY(39)
#define EMGD_WHY_SITE EMGD_WHY(40)
#define EMGD_WHY_OPERATOR EMGD_WHY(41)
#define EMGD_WHY_SHAPE EMGD_WHY(42)    /* numbers that make no sense, alone or together */
#define EMGD_WHY_LOAD EMGD_WHY(43)     /* nobody knows the electrodes' impedance */
#define EMGD_WHY_HEADROOM EMGD_WHY(44) /* current x load is above 90 % of the device's voltage */
#define EMGD_WHY_DEVICE_LIMITS EMGD_WHY(45) /* the device's own limits: not set, too loose, or exceeded */
#define EMGD_WHY_NOT_ISOLATED EMGD_WHY(46)
#define EMGD_WHY_TOO_SOON EMGD_WHY(47) /* a shot less than 200 ms after the last pulse: only trains are that fast */
#define EMGD_WHY_HISTORY EMGD_WHY(48)  /* no room to remember another pulse */
#define EMGD_WHY_RETRY EMGD_WHY(49)    /* above what was delivered at the last mismatch */
#define EMGD_WHY_READBACK_DUE EMGD_WHY(50)
#define EMGD_WHY_PRESENT EMGD_WHY(51)  /* the cause of the fault is still there */
/* These latch. */
#define EMGD_WHY_READBACK_MISSING EMGD_WHY(52)
#define EMGD_WHY_READBACK_UNEXPECTED EMGD_WHY(53)
#define EMGD_WHY_READBACK_FAR EMGD_WHY(54)   /* delivered more than 20 % off */
#define EMGD_WHY_READBACK_OFTEN EMGD_WHY(55) /* two mismatches among five pulses */
#define EMGD_WHY_STOPPED EMGD_WHY(56)        /* emergency stop */
#define EMGD_WHY_DEVICE EMGD_WHY(57)         /* the device or its driver reports an error */
#define EMGD_WHY_MARK EMGD_WHY(58)           /* trigger mark missing, displaced or without a pulse */
#define EMGD_WHYS 59                         /* bits in use */
#define EMGD_WHY_EXTERNAL (EMGD_WHY_DEVICE | EMGD_WHY_MARK) /* what others may report */
/* `fire` with nothing but these: the shot stands, ask again. */
#define EMGD_WHY_WAIT (EMGD_WHY_EARLY | EMGD_WHY_READBACK_DUE)

/* Warnings stop nothing. */
#define EMGD_WARN_IMPEDANCE 1 /* the load is above EMGD_WARN_LOAD_OHM */
#define EMGD_WARN_RMS 2       /* root mean square current density above EMGD_WARN_RMS_UA_PER_CM2 */
#define EMGD_WARN_LOAD_OHM 5000
#define EMGD_WARN_RMS_UA_PER_CM2 2000

/* Fixed rules (docs/safety/limits.md, "Fixed rules", has the reasons). */
#define EMGD_MS ((int64_t)1000000)
#define EMGD_STALE_NS (100 * EMGD_MS)
#define EMGD_SATURATED_NS (1000 * EMGD_MS)
#define EMGD_OLD_NS (100 * EMGD_MS)
#define EMGD_READBACK_NS (200 * EMGD_MS)
#define EMGD_JUMP_NS (500 * EMGD_MS)
#define EMGD_LEAD_NS (20 * EMGD_MS)    /* a pulse may be handed to the device this long before it is due */
#define EMGD_AHEAD_NS (1000 * EMGD_MS) /* a shot may be asked for this long before it begins */
#define EMGD_FAST_NS (200 * EMGD_MS)   /* pulses closer than this are a fast train */
#define EMGD_FREE_STEP_UA 500          /* a quarter of a small current is below what devices resolve */
#define EMGD_HEADROOM_PERCENT 90
#define EMGD_FAR_PERCENT 20
#define EMGD_MAX_READING 1000000000 /* no instrument reads more: the number is garbage */
#define EMGD_AWAITED 2              /* pulses that may be out and not yet read back */
#define EMGD_RECENT 4               /* good readbacks that make a mismatch old */

typedef struct {
    uint64_t holder, operator_id, site; /* 0: none. The site stands for limb, side, electrodes and montage: any change is a new site */
    int64_t load_ohm;                   /* measured loop impedance */
    int64_t compliance_v, device_current_ua, device_width_us; /* the device's own limits, as read back from it */
    uint16_t area_mm2;                  /* of the smaller electrode; 0: unknown */
    int32_t isolated;                   /* 1: every connected device may be connected to a person */
} emgd_arming;

typedef struct {
    uint64_t holder, site;
    int64_t current_ua, width_us;
    int64_t count;        /* 1 for a single, 2 for a pair */
    int64_t interval_us;  /* from onset to onset; 0 for a single */
    int64_t asked_ns;     /* when the operator asked */
    int64_t begin_ns;     /* when it shall begin; 0: now */
    int32_t kind;
} emgd_request;

/* What a request asks for, in the unit of each limit, so that a refusal can be explained; 0 where a limit does not apply. */
typedef struct {
    int64_t asked[EMGD_LIMITS];
    int64_t step_allowed_ua; /* the step rule as it stands now: at most the limit */
    int64_t squares;         /* in 10 s, in EMGD_SQUARE_UNIT uA uA us: a thousandth of it is the square of the mean root, in uA */
} emgd_figures;

/* The one pulse that a `fire` permits. */
typedef struct {
    uint64_t seq;
    int64_t at_ns, current_ua, width_us;
    int64_t index, count; /* which of the shot's pulses, from 0 */
} emgd_pulse;

/* What the device says of a pulse. */
typedef struct {
    uint64_t seq;
    int64_t current_ua, width_us, load_ohm, dc_ua; /* load 0: open */
    int32_t limited;                               /* 1: the device reached its voltage limit */
} emgd_readback;

/* A pulse that is out and not read back. Narrow types: percentages of them cannot overflow. */
typedef struct {
    uint64_t seq;
    int64_t at_ns;
    int32_t current_ua, width_us;
} emgd_awaited;

typedef struct {
    int64_t current_ua, width_us, count, interval_us;
    int64_t left;     /* pulses to go, 0 outside FIRING */
    int64_t first_ns; /* when the first went */
    int64_t due_ns;   /* when the next is due */
    int32_t kind;
} emgd_shot;

typedef struct {
    int32_t state;
    int32_t limits_set;
    uint64_t faults;  /* causes, while in FAULT */
    uint64_t dropped; /* why the gate disarmed itself last, since it was armed */
    int64_t now_ns;   /* of the last call */
    /* lease */
    uint64_t holder, nonce;
    int64_t lease_until_ns;
    /* what was armed */
    uint64_t operator_id, site;
    int64_t compliance_v, device_current_ua, device_width_us;
    uint16_t area_mm2;
    int64_t active_ns; /* last thing the holder did */
    /* what is seen */
    int64_t load_ohm; /* below 1: unknown */
    int64_t sample_ns, saturated_ns; /* newest sample; since when all channels are saturated, while `saturated` */
    int32_t saturated, stamped;      /* 1 or 0 */
    /* what a shot may be */
    int32_t last_ua;      /* delivered last since armed, 0: nothing */
    int32_t confirmed_ua; /* confirmed ceiling of the step rule, 0: none */
    int32_t retry_ua;     /* no higher until a readback agrees */
    emgd_shot shot;
    /* what went out */
    int64_t last_ns, fast_ns; /* last pulse, last pulse of a fast train */
    uint64_t next_seq;
    int32_t good; /* readbacks that agreed since the last that did not, up to EMGD_RECENT */
    int32_t awaited_count;
    emgd_awaited awaited[EMGD_AWAITED]; /* oldest first */
    emgd_limits limits;
    emgd_dose dose;
} emgd_gate;

/*@ predicate is_armed(emgd_gate *g) =
        g->state == EMGD_ARMED || g->state == EMGD_FIRING || g->state == EMGD_COOLDOWN;

    predicate is_fresh(emgd_gate *g) =
        g->now_ns - EMGD_STALE_NS <= g->sample_ns <= g->now_ns + EMGD_STALE_NS;

    // Numbers stay where sums of them cannot overflow.
    predicate numbers_sound(emgd_gate *g) =
        0 <= g->now_ns <= EMGD_MAX_TIME_NS && 0 <= g->awaited_count <= EMGD_AWAITED &&
        EMGD_LONG_AGO_NS <= g->last_ns <= EMGD_MAX_TIME_NS + EMGD_AHEAD_NS &&
        EMGD_LONG_AGO_NS <= g->fast_ns <= EMGD_MAX_TIME_NS + EMGD_AHEAD_NS;

    predicate shot_sound(emgd_gate *g) =
        1 <= g->shot.left <= g->shot.count <= EMGD_MAX_TRAIN_PULSES &&
        1 <= g->shot.current_ua <= g->limits.value[EMGD_CURRENT_UA] &&
        1 <= g->shot.width_us <= g->limits.value[EMGD_WIDTH_US] &&
        (g->shot.kind == EMGD_SINGLE || g->shot.kind == EMGD_PAIR || g->shot.kind == EMGD_TRAIN) &&
        (g->shot.kind == EMGD_SINGLE ==> g->shot.count == 1) &&
        0 <= g->shot.interval_us <= EMGD_MAX_TRAIN_DURATION_MS * 1000 &&
        0 <= g->shot.first_ns <= g->now_ns + EMGD_AHEAD_NS &&
        0 <= g->shot.due_ns <= g->now_ns + 11 * EMGD_AHEAD_NS;

    // Armed means: somebody holds a lease that is alive, named a site and is known, sees the amplifier, was active, and
    // the device's own limits are within ours.
    predicate arming_sound(emgd_gate *g) =
        g->limits_set == 1 && g->holder != 0 && g->now_ns < g->lease_until_ns && g->site != 0 && g->operator_id != 0 &&
        is_fresh(g) &&
        g->active_ns > g->now_ns - g->limits.value[EMGD_IDLE_RESET_MS] * EMGD_MS &&
        1 <= g->compliance_v <= g->limits.value[EMGD_COMPLIANCE_V] &&
        1 <= g->device_current_ua <= g->limits.value[EMGD_CURRENT_UA] &&
        1 <= g->device_width_us <= g->limits.value[EMGD_WIDTH_US];

    // Disarmed means: nothing to restore.
    predicate nothing_kept(emgd_gate *g) =
        g->site == 0 && g->operator_id == 0 && g->last_ua == 0 && g->confirmed_ua == 0;

    predicate is_known_state(emgd_gate *g) = EMGD_OFF <= g->state <= EMGD_FAULT;
    predicate faults_sound(emgd_gate *g) = g->state == EMGD_FAULT <==> g->faults != 0;
    predicate awaits_sound(emgd_gate *g) = g->state == EMGD_FAULT || g->state == EMGD_OFF ==> g->awaited_count == 0;
    predicate armed_sound(emgd_gate *g) = is_armed(g) ==> arming_sound(g);
    predicate disarmed_sound(emgd_gate *g) = !is_armed(g) ==> nothing_kept(g);
    predicate firing_sound(emgd_gate *g) = g->state == EMGD_FIRING ==> shot_sound(g);
    predicate quiet_sound(emgd_gate *g) = g->state != EMGD_FIRING ==> g->shot.left == 0;
 */

/* What holds of a gate between any two calls, clause by clause: provers want small goals. */
#define EMGD_SOUND(clause)                                                                                            \
    clause numbers_in_range(&g->limits.value[0]);                                                                     \
    clause numbers_sound(g);                                                                                          \
    clause is_known_state(g);                                                                                         \
    clause faults_sound(g);                                                                                           \
    clause awaits_sound(g);                                                                                           \
    clause armed_sound(g);                                                                                            \
    clause disarmed_sound(g);                                                                                         \
    clause firing_sound(g);                                                                                           \
    clause quiet_sound(g);

/* What a call may change on its way, by the passing of time alone. Never what went out (dose, last_ns, fast_ns, next_seq). */
#define EMGD_DROPS                                                                                                    \
    g->state, g->site, g->operator_id, g->last_ua, g->confirmed_ua, g->retry_ua, g->shot.left, g->dropped
#define EMGD_FAULTS EMGD_DROPS, g->faults, g->awaited_count
#define EMGD_PASSES EMGD_FAULTS, g->now_ns, g->holder, g->sample_ns

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
    ensures is_armed(g) ==> \result != 0;
 */
uint64_t emgd_gate_set_limits(emgd_gate *g, const emgd_limits *limits);

/* The device is there, was reset and gives nothing: IDLE. Also after each reconnect. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->load_ohm;
    EMGD_SOUND(ensures)
    ensures !is_armed(g);
    ensures \result == 0 <==> g->state == EMGD_IDLE;
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
    ensures \result == 0 ==> g->holder == 0 && !is_armed(g);
    ensures \result == 0 <==> \old(g->holder) == holder && holder != 0;
 */
uint64_t emgd_gate_release(emgd_gate *g, uint64_t holder);

/* The newest sample of the amplifier, by host time; `saturated`: every channel is, now; `stamped`: a pulse could be timed. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->saturated_ns, g->saturated, g->stamped;
    EMGD_SOUND(ensures)
    ensures is_armed(g) ==> \old(is_armed(g));
 */
uint64_t emgd_gate_stream(emgd_gate *g, int64_t sample_ns, int32_t saturated, int32_t stamped, int64_t now_ns);

/* Impedance of the stimulation loop as just measured; 0 or less: open, unknown. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->load_ohm;
    EMGD_SOUND(ensures)
    ensures is_armed(g) ==> \old(is_armed(g));
 */
uint64_t emgd_gate_load(emgd_gate *g, int64_t load_ohm, int64_t now_ns);

/* Arm one site: from IDLE only. Begins at the first-shot limit, whatever was before. */
/*@ requires \valid(g) && \valid_read(arming) && \separated(g, arming);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->compliance_v, g->device_current_ua, g->device_width_us, g->area_mm2, g->active_ns, g->load_ohm;
    EMGD_SOUND(ensures)
    ensures is_armed(g) && !\old(is_armed(g)) ==> \result == 0;
    ensures \result == 0 ==> is_armed(g) && !\old(is_armed(g)) && \old(g->state) == EMGD_IDLE;
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
    ensures \result == 0 ==> g->confirmed_ua == ceiling_ua && is_armed(g) && g->holder == holder &&
        1 <= ceiling_ua <= g->limits.value[EMGD_CURRENT_UA];
    ensures is_armed(g) ==> \old(is_armed(g));
 */
uint64_t emgd_gate_confirm(emgd_gate *g, uint64_t holder, int64_t ceiling_ua, int64_t now_ns);

/* Ask for a shot: judged as a whole. 0: it may be fired, pulse by pulse. Permits no output by itself. */
/*@ requires \valid(g) && \valid_read(request) && \separated(g, request);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->shot, g->active_ns;
    EMGD_SOUND(ensures)
    ensures \result == 0 ==> g->state == EMGD_FIRING && g->holder == request->holder && g->site == request->site &&
        g->shot.left == request->count && g->shot.current_ua == request->current_ua &&
        g->shot.width_us == request->width_us;
    ensures \result == 0 ==> g->now_ns - EMGD_OLD_NS <= request->asked_ns <= g->now_ns;
    ensures is_armed(g) ==> \old(is_armed(g));
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
    ensures g->state != EMGD_FIRING && (is_armed(g) <==> \old(is_armed(g)));
 */
void emgd_gate_cancel(emgd_gate *g);

/* The next pulse of the shot: judged again, now. 0 and only 0: `pulse` may go out at `pulse->at_ns`, once. With nothing but bits
 * of EMGD_WHY_WAIT the shot stands and may be asked for again; with any other bit the rest of it is given up. */
/*@ requires \valid(g) && \valid(pulse) && \separated(g, pulse);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, *pulse, g->shot, g->dose, g->last_ns, g->fast_ns, g->next_seq, g->active_ns,
        g->awaited[0 .. EMGD_AWAITED - 1];
    EMGD_SOUND(ensures)
    ensures \result != 0 ==> pulse->current_ua == 0 && pulse->width_us == 0 && g->next_seq == \old(g->next_seq);
    ensures \result == 0 ==> \old(g->state) == EMGD_FIRING && (g->state == EMGD_FIRING || g->state == EMGD_COOLDOWN);
    ensures \result == 0 ==> g->faults == 0 && arming_sound(g);
    ensures \result == 0 ==> 1 <= pulse->current_ua <= g->limits.value[EMGD_CURRENT_UA] &&
        1 <= pulse->width_us <= g->limits.value[EMGD_WIDTH_US];
    ensures \result == 0 ==> g->now_ns == now_ns && now_ns <= pulse->at_ns <= now_ns + EMGD_LEAD_NS &&
        pulse->at_ns < g->lease_until_ns && g->last_ns == pulse->at_ns;
    ensures \result == 0 ==> g->stamped == 1 && g->awaited_count >= 1;
    ensures \result == 0 ==> g->shot.left == \old(g->shot.left) - 1;
 */
uint64_t emgd_gate_fire(emgd_gate *g, int64_t now_ns, emgd_pulse *pulse);

/* What the device says it delivered. 0: as asked; bits of limits: outside the tolerance, marked; latching bits: a fault. */
/*@ requires \valid(g) && \valid_read(readback) && \separated(g, readback);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES, g->load_ohm, g->good, g->awaited[0 .. EMGD_AWAITED - 1];
    EMGD_SOUND(ensures)
    ensures is_armed(g) ==> \old(is_armed(g));
 */
uint64_t emgd_gate_readback(emgd_gate *g, const emgd_readback *readback, int64_t now_ns);

/* Time passes: what ended by it? Call it at least every 50 ms. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_PASSES;
    EMGD_SOUND(ensures)
    ensures is_armed(g) ==> \old(is_armed(g));
    ensures \result == 0 ==> g->now_ns == now_ns;
 */
uint64_t emgd_gate_tick(emgd_gate *g, int64_t now_ns);

/* Back to 0 uA and IDLE; the lease stays. */
/*@ requires \valid(g);
    EMGD_SOUND(requires)
    assigns EMGD_DROPS;
    EMGD_SOUND(ensures)
    ensures !is_armed(g);
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
    ensures is_armed(g) ==> \old(is_armed(g));
 */
uint64_t emgd_gate_acknowledge(emgd_gate *g, uint64_t operator_id, uint64_t present, int64_t now_ns);

/* Bits of EMGD_WARN_...: what an operator should know though it stops nothing. */
/*@ requires \valid_read(g);
    EMGD_SOUND(requires)
    assigns \nothing;
 */
uint64_t emgd_gate_warnings(const emgd_gate *g);

#endif
