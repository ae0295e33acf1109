/* Limits of a stimulus. C, pure: what runs is what is proven; see gate_limits.h. */
#include "gate_limits.h"

/* Every ceiling with its reason. `end` is where a table stops making sense: most likely milliamperes were written where
 * microamperes are meant, or seconds for milliseconds. Sources: docs/safety/limits.md. */
const emgd_range emgd_ranges[EMGD_LIMITS] = {
    [EMGD_CURRENT_UA] = {EMGD_MAX_CURRENT_UA, 1000},    /* 100 mA: device class; 1 mA: below it, mA were meant */
    [EMGD_WIDTH_US] = {EMGD_MAX_WIDTH_US, 10},          /* 1 ms: device class; 10 us: what devices resolve */
    [EMGD_CHARGE_NC] = {100000, 10},                    /* both ceilings above at once */
    [EMGD_ENERGY_UJ] = {10000, 1},                      /* a fifth of the 50 mJ of IEC 60601-2-40 */
    [EMGD_LOAD_ENERGY_UJ] = {10000, 1},                 /* the same, whatever the load */
    [EMGD_COMPLIANCE_V] = {400, 10},                    /* device class */
    [EMGD_RATE_MHZ] = {50000, 10},                      /* 50 Hz: fast repetitive stimulation; 10 mHz: one in 100 s */
    [EMGD_INTERVAL_US] = {1000, 60000000},              /* 1 ms: relays need it, nerves are refractory; 1 min */
    [EMGD_PAIR_INTERVAL_US] = {1000, 60000000},         /* the same */
    [EMGD_TRAIN_PULSES] = {EMGD_MAX_TRAIN_PULSES, 1},   /* 10 s at 50 Hz; 1: neither trains nor pairs */
    [EMGD_TRAIN_DURATION_MS] = {EMGD_MAX_TRAIN_DURATION_MS, 1}, /* pain, tetany */
    [EMGD_TRAIN_REST_MS] = {10000, 3600000},            /* 10 s: fatigue, pain; 1 h */
    [EMGD_MEAN_CURRENT_UA] = {1000, 1},                 /* skin: acts like direct current */
    [EMGD_RMS_UA_PER_CM2] = {10000, 100},               /* five times what IEC 60601-2-10 wants attention for */
    [EMGD_SITE_PULSES] = {120, 1},                      /* burn, pain: two a second for a minute */
    [EMGD_STEP_UA] = {10000, 100},                      /* surprise: 10 mA; 0.1 mA: what devices resolve */
    [EMGD_FIRST_SHOT_UA] = {10000, 100},                /* start low; 0.1 mA: the same */
    [EMGD_IMPEDANCE_OHM] = {EMGD_MAX_IMPEDANCE_OHM, 100}, /* electrode off or dry; 100 Ohm: less is a short circuit */
    [EMGD_READBACK_CURRENT_PERCENT] = {20, 1},          /* IEC 60601-2-10 allows 20 % */
    [EMGD_READBACK_CURRENT_UA] = {500, 1},              /* for small currents, where a percentage is below resolution */
    [EMGD_READBACK_WIDTH_PERCENT] = {20, 1},            /* IEC 60601-2-10 allows 20 % */
    [EMGD_READBACK_WIDTH_US] = {10, 1},                 /* what devices resolve */
    [EMGD_DC_UA] = {50, 1},                             /* patient auxiliary current, single fault (IEC 60601-1) */
    [EMGD_LEASE_MS] = {2000, 100},                      /* as long as device watchdogs; 0.1 s: no program renews faster */
    [EMGD_IDLE_RESET_MS] = {300000, 1000},              /* forgetting: 5 min */
};

uint64_t emgd_limit_bit(int limit) { return (uint64_t)1 << limit; }

int emgd_limit_is_most(int limit) { return emgd_ranges[limit].ceiling > emgd_ranges[limit].end; }

int emgd_limit_no_looser(int limit, int64_t value, int64_t bound) {
    return emgd_limit_is_most(limit) ? value <= bound : value >= bound;
}

int emgd_limit_in_range(int limit, int64_t value) {
    return emgd_limit_no_looser(limit, value, emgd_ranges[limit].ceiling) &&
           emgd_limit_no_looser(limit, emgd_ranges[limit].end, value);
}

uint64_t emgd_limits_check(const int64_t *value) {
    uint64_t wrong = 0;
    /*@ loop invariant 0 <= i <= EMGD_LIMITS;
        loop invariant wrong == 0 ==> \forall integer j; 0 <= j < i ==> in_range(j, value[j]);
        loop invariant (\forall integer j; 0 <= j < i ==> in_range(j, value[j])) ==> wrong == 0;
        loop assigns i, wrong;
        loop variant EMGD_LIMITS - i;
     */
    for (int i = 0; i < EMGD_LIMITS; i++) {
        if (!emgd_limit_in_range(i, value[i])) wrong |= emgd_limit_bit(i);
    }
    if (value[EMGD_PAIR_INTERVAL_US] <= value[EMGD_WIDTH_US]) {
        wrong |= emgd_limit_bit(EMGD_WIDTH_US) | emgd_limit_bit(EMGD_PAIR_INTERVAL_US);
    }
    return wrong;
}

void emgd_limits_at_ceiling(emgd_limits *limits) {
    /*@ loop invariant 0 <= i <= EMGD_LIMITS;
        loop invariant \forall integer j; 0 <= j < i ==> limits->value[j] == emgd_ranges[j].ceiling;
        loop invariant \forall integer j; 0 <= j < i ==> in_range(j, limits->value[j]);
        loop invariant \forall integer j; 0 <= j < i ==> limits->layer[j] == EMGD_LAYER_HARD;
        loop assigns i, limits->value[0 .. EMGD_LIMITS - 1], limits->layer[0 .. EMGD_LIMITS - 1];
        loop variant EMGD_LIMITS - i;
     */
    for (int i = 0; i < EMGD_LIMITS; i++) {
        limits->value[i] = emgd_ranges[i].ceiling;
        limits->layer[i] = EMGD_LAYER_HARD;
    }
}

void emgd_limits_at_end(emgd_limits *limits) {
    /*@ loop invariant 0 <= i <= EMGD_LIMITS;
        loop invariant \forall integer j; 0 <= j < i ==> limits->value[j] == emgd_ranges[j].end;
        loop invariant \forall integer j; 0 <= j < i ==> in_range(j, limits->value[j]);
        loop assigns i, limits->value[0 .. EMGD_LIMITS - 1], limits->layer[0 .. EMGD_LIMITS - 1];
        loop variant EMGD_LIMITS - i;
     */
    for (int i = 0; i < EMGD_LIMITS; i++) {
        limits->value[i] = emgd_ranges[i].end;
        limits->layer[i] = EMGD_LAYER_HARD;
    }
}

/* A bit for each limit that a layer states out of its range. */
/*@ requires \valid_read(layer);
    assigns \nothing;
    ensures \result == 0 <==> \forall integer i; is_limit(i) && layer->given[i] != 0 ==> in_range(i, layer->value[i]);
 */
static uint64_t out_of_range(const emgd_layer *layer) {
    uint64_t wrong = 0;
    /*@ loop invariant 0 <= i <= EMGD_LIMITS;
        loop invariant wrong == 0 <==>
            \forall integer j; 0 <= j < i && layer->given[j] != 0 ==> in_range(j, layer->value[j]);
        loop assigns i, wrong;
        loop variant EMGD_LIMITS - i;
     */
    for (int i = 0; i < EMGD_LIMITS; i++) {
        if (layer->given[i] && !emgd_limit_in_range(i, layer->value[i])) wrong |= emgd_limit_bit(i);
    }
    return wrong;
}

uint64_t emgd_limits_merge(emgd_limits *limits, const emgd_layer *layer, int32_t name, uint64_t *looser) {
    uint64_t wrong = out_of_range(layer);
    *looser = 0;
    if (wrong) return wrong;
    /*@ loop invariant 0 <= i <= EMGD_LIMITS;
        loop invariant all_in_range(&limits->value[0]);
        loop invariant \forall integer j; 0 <= j < EMGD_LIMITS ==>
            no_looser(j, limits->value[j], \at(limits->value[j], Pre));
        loop invariant \forall integer j; 0 <= j < i && layer->given[j] != 0 ==>
            no_looser(j, limits->value[j], layer->value[j]);
        loop invariant \forall integer j; 0 <= j < EMGD_LIMITS ==>
            (limits->value[j] == \at(limits->value[j], Pre) && limits->layer[j] == \at(limits->layer[j], Pre)) ||
            (layer->given[j] != 0 && limits->value[j] == layer->value[j] && limits->layer[j] == name);
        loop assigns i, limits->value[0 .. EMGD_LIMITS - 1], limits->layer[0 .. EMGD_LIMITS - 1], *looser;
        loop variant EMGD_LIMITS - i;
     */
    for (int i = 0; i < EMGD_LIMITS; i++) {
        if (!layer->given[i]) continue;
        if (!emgd_limit_no_looser(i, layer->value[i], limits->value[i])) {
            *looser |= emgd_limit_bit(i);
        } else if (layer->value[i] != limits->value[i]) {
            limits->value[i] = layer->value[i];
            limits->layer[i] = name;
        }
    }
    return 0;
}
