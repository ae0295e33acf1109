/* Limits of a stimulus: their hard ceilings, what makes a table valid, how layers tighten each other.
 *
 * C, pure (no clock, no I/O, no allocation, no state), so that the code that runs is the code that is proven
 * (docs/safety/proof.md). The contracts in the comments are ACSL and are proven by scripts/prove. */
#ifndef EMGD_LIMITS_H
#define EMGD_LIMITS_H

#include <stdint.h>

/* A limit's number is also its bit in a verdict. Names and units: docs/safety/limits.md. */
enum emgd_limit {
    EMGD_CURRENT_UA,
    EMGD_WIDTH_US,
    EMGD_CHARGE_NC,       /* of one pulse: current x width */
    EMGD_ENERGY_UJ,       /* of one pulse, into 1 kOhm */
    EMGD_LOAD_ENERGY_UJ,  /* of one pulse, into the measured load */
    EMGD_COMPLIANCE_V,    /* output voltage that the device is set up for */
    EMGD_RATE_MHZ,        /* of trains, and of shots that follow each other */
    EMGD_INTERVAL_US,     /* least, between any two pulses but the two of a pair */
    EMGD_PAIR_INTERVAL_US, /* least, between the two of a pair */
    EMGD_TRAIN_PULSES,
    EMGD_TRAIN_DURATION_MS,
    EMGD_TRAIN_REST_MS,   /* least, after a fast train */
    EMGD_MEAN_CURRENT_UA, /* mean rectified current in any 10 s */
    EMGD_RMS_UA_PER_CM2,  /* root mean square in any 10 s, where the electrode's area is known */
    EMGD_SITE_PULSES,     /* at one site in any 60 s */
    EMGD_STEP_UA,         /* up from the last delivered current, without confirmation */
    EMGD_FIRST_SHOT_UA,   /* first current after arming */
    EMGD_IMPEDANCE_OHM,   /* of the stimulation loop */
    EMGD_READBACK_CURRENT_PERCENT, /* delivered may differ by this much ... */
    EMGD_READBACK_CURRENT_UA,      /* ... or by this much */
    EMGD_READBACK_WIDTH_PERCENT,
    EMGD_READBACK_WIDTH_US,
    EMGD_DC_UA, /* current that flows between pulses */
    EMGD_LEASE_MS,
    EMGD_IDLE_RESET_MS,
    EMGD_LIMITS
};

/* Hard ceilings that other code computes with: figures are judged only for what lies below them, so nothing overflows. */
#define EMGD_MAX_CURRENT_UA 100000   /* the device class: 100 mA */
#define EMGD_MAX_WIDTH_US 1000       /* the device class; keeps 100 mA below a fifth of 50 mJ */
#define EMGD_MAX_TRAIN_PULSES 500    /* 10 s at 50 Hz: repetitive stimulation */
#define EMGD_MAX_TRAIN_DURATION_MS 10000 /* pain, tetany */
#define EMGD_MAX_IMPEDANCE_OHM 20000 /* an electrode that is off or dry */

/* Layers, the outer ones first. */
enum emgd_layer_name { EMGD_LAYER_HARD, EMGD_LAYER_DEVICE, EMGD_LAYER_PROFILE, EMGD_LAYER_SESSION, EMGD_LAYERS };

/* One layer: the limits that it states. */
typedef struct {
    int64_t value[EMGD_LIMITS];
    uint8_t given[EMGD_LIMITS]; /* 0: this layer says nothing of that limit */
} emgd_layer;

/* The limits in force, and which layer set each. */
typedef struct {
    int64_t value[EMGD_LIMITS];
    int32_t layer[EMGD_LIMITS];
} emgd_limits;

/* `ceiling`: nothing looser is ever accepted. `end`: nothing tighter makes sense; such a value is a mistake of units.
 * Most limits are the most that is allowed (ceiling above end), some the least (ceiling below end). */
typedef struct {
    int64_t ceiling, end;
} emgd_range;

extern const emgd_range emgd_ranges[EMGD_LIMITS];

/* The ranges of gate_limits.c once more, as numbers that other proofs use. That both agree is proven in emgd_limits_check. A macro: the
 * prover then sees which fields a write cannot touch. */
#define NUMBERS_IN_RANGE(value)                                                                                       \
    (1000 <= (value)[EMGD_CURRENT_UA] <= EMGD_MAX_CURRENT_UA && 10 <= (value)[EMGD_WIDTH_US] <= EMGD_MAX_WIDTH_US &&  \
     10 <= (value)[EMGD_COMPLIANCE_V] <= 400 && 10 <= (value)[EMGD_RATE_MHZ] <= 50000 &&                              \
     1000 <= (value)[EMGD_INTERVAL_US] <= 60000000 && 1000 <= (value)[EMGD_PAIR_INTERVAL_US] <= 60000000 &&           \
     10000 <= (value)[EMGD_TRAIN_REST_MS] <= 3600000 && 100 <= (value)[EMGD_RMS_UA_PER_CM2] <= 10000 &&               \
     100 <= (value)[EMGD_STEP_UA] <= 10000 && 100 <= (value)[EMGD_LEASE_MS] <= 2000 &&                                \
     1000 <= (value)[EMGD_IDLE_RESET_MS] <= 300000 && 100 <= (value)[EMGD_IMPEDANCE_OHM] <= EMGD_MAX_IMPEDANCE_OHM && \
     1 <= (value)[EMGD_READBACK_CURRENT_PERCENT] <= 20 && 1 <= (value)[EMGD_READBACK_CURRENT_UA] <= 500 &&            \
     1 <= (value)[EMGD_READBACK_WIDTH_PERCENT] <= 20 && 1 <= (value)[EMGD_READBACK_WIDTH_US] <= 10 &&                 \
     1 <= (value)[EMGD_DC_UA] <= 50)

/*@ predicate is_limit(integer limit) = 0 <= limit < EMGD_LIMITS;

    // A list of names, not an interval: the prover then needs no case distinction.
    predicate is_most(integer limit) =
        limit != EMGD_INTERVAL_US && limit != EMGD_PAIR_INTERVAL_US && limit != EMGD_TRAIN_REST_MS;

    predicate no_looser(integer limit, integer value, integer bound) =
        is_most(limit) ? value <= bound : value >= bound;

    predicate in_range(integer limit, integer value) =
        is_most(limit) ? emgd_ranges[limit].end <= value <= emgd_ranges[limit].ceiling
                       : emgd_ranges[limit].ceiling <= value <= emgd_ranges[limit].end;

    predicate all_in_range(int64_t *value) = \forall integer limit; is_limit(limit) ==> in_range(limit, value[limit]);

    // Two pulses of a pair may never touch: that would be a long pulse.
    predicate consistent(int64_t *value) = value[EMGD_PAIR_INTERVAL_US] > value[EMGD_WIDTH_US];

    predicate limits_valid(int64_t *value) = all_in_range(value) && consistent(value);
 */

/* The bit of a limit in a verdict. */
/*@ requires is_limit(limit);
    assigns \nothing;
    ensures \result != 0;
 */
uint64_t emgd_limit_bit(int limit);

/* 1 for a limit that is the most allowed, 0 for one that is the least. */
/*@ requires is_limit(limit);
    assigns \nothing;
    ensures \result == 0 || \result == 1;
    ensures \result == 1 <==> is_most(limit);
 */
int emgd_limit_is_most(int limit);

/* 1 when `value` is no looser than `bound`. */
/*@ requires is_limit(limit);
    assigns \nothing;
    ensures \result == 0 || \result == 1;
    ensures \result == 1 <==> no_looser(limit, value, bound);
 */
int emgd_limit_no_looser(int limit, int64_t value, int64_t bound);

/* 1 when `value` lies between a limit's ceiling and its end. */
/*@ requires is_limit(limit);
    assigns \nothing;
    ensures \result == 0 || \result == 1;
    ensures \result == 1 <==> in_range(limit, value);
 */
int emgd_limit_in_range(int limit, int64_t value);

/* What is wrong with a table: a bit for each limit out of its range; the bits of width and pair interval when two pulses
 * of a pair could touch. 0: the table is valid. */
/*@ requires \valid_read(value + (0 .. EMGD_LIMITS - 1));
    assigns \nothing;
    ensures \result == 0 ==> limits_valid(value);
    ensures \result == 0 ==> NUMBERS_IN_RANGE(value);
    ensures limits_valid(value) ==> \result == 0;
 */
uint64_t emgd_limits_check(const int64_t *value);

/* The outermost layer: every limit at its ceiling. Not a table to stimulate with. */
/*@ requires \valid(limits);
    assigns limits->value[0 .. EMGD_LIMITS - 1], limits->layer[0 .. EMGD_LIMITS - 1];
    ensures all_in_range(&limits->value[0]);
    ensures \forall integer i; is_limit(i) ==> limits->value[i] == emgd_ranges[i].ceiling;
    ensures \forall integer i; is_limit(i) ==> limits->layer[i] == EMGD_LAYER_HARD;
 */
void emgd_limits_at_ceiling(emgd_limits *limits);

/* The tightest table there is: every limit at its end. Valid. */
/*@ requires \valid(limits);
    assigns limits->value[0 .. EMGD_LIMITS - 1], limits->layer[0 .. EMGD_LIMITS - 1];
    ensures limits_valid(&limits->value[0]);
    ensures NUMBERS_IN_RANGE(limits->value);
    ensures \forall integer i; is_limit(i) ==> limits->value[i] == emgd_ranges[i].end;
 */
void emgd_limits_at_end(emgd_limits *limits);

/* Tighten `limits` by a layer named `name`. Returns a bit for each limit that the layer states out of its range: then
 * nothing was changed. Else each limit is the tighter of the two, named after the layer where that changed it, and
 * `looser` has a bit for each limit that the layer would have loosened and did not. */
/*@ requires \valid(limits) && \valid_read(layer) && \valid(looser) && \separated(limits, layer, looser);
    requires all_in_range(&limits->value[0]);
    assigns limits->value[0 .. EMGD_LIMITS - 1], limits->layer[0 .. EMGD_LIMITS - 1], *looser;
    ensures all_in_range(&limits->value[0]);
    ensures \result == 0 <==> \forall integer i; is_limit(i) && layer->given[i] != 0 ==> in_range(i, layer->value[i]);
    ensures \result != 0 ==> \forall integer i; is_limit(i) ==>
        limits->value[i] == \old(limits->value[i]) && limits->layer[i] == \old(limits->layer[i]);
    ensures \forall integer i; is_limit(i) ==> no_looser(i, limits->value[i], \old(limits->value[i]));
    ensures \result == 0 ==> \forall integer i; is_limit(i) && layer->given[i] != 0 ==>
        no_looser(i, limits->value[i], layer->value[i]);
    ensures \forall integer i; is_limit(i) ==>
        (limits->value[i] == \old(limits->value[i]) && limits->layer[i] == \old(limits->layer[i])) ||
        (layer->given[i] != 0 && limits->value[i] == layer->value[i] && limits->layer[i] == name);
    ensures \old(consistent(&limits->value[0])) ==> consistent(&limits->value[0]);
 */
uint64_t emgd_limits_merge(emgd_limits *limits, const emgd_layer *layer, int32_t name, uint64_t *looser);

#endif
