/* What the stimulus safety gate remembers and is told, and the rules that are fixed. What it does is in gate.h. */
#ifndef EMGD_GATE_STATE_H
#define EMGD_GATE_STATE_H

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

/* What a `fire` says. By value: a caller's memory, written to, could be the gate's. */
typedef struct {
    uint64_t why;     /* 0 and only 0: the pulse may go out */
    emgd_pulse pulse; /* all 0 otherwise */
} emgd_fired;

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

#endif
