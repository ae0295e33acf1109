/* The arithmetic of the gate. C, pure: what runs is what is proven; see judge.h. */
#include "judge.h"

#include "gate.h"

/* a / b, rounded up: what is above a limit by any fraction is above it. */
/*@ requires 0 <= a && 1 <= b;
    assigns \nothing;
    ensures 0 <= \result;
    ensures a <= \result * b;
    ensures (\result - 1) * b < a;
    ensures \result <= a;
 */
static int64_t ceil_div(int64_t a, int64_t b) {
    int64_t whole = a / b;
    return whole * b < a ? whole + 1 : whole;
}

/* The bit of a limit when `asked` is looser than what it allows. */
/*@ requires is_limit(limit);
    assigns \nothing;
    ensures \result == 0 <==> no_looser(limit, asked, allowed);
 */
static uint64_t over(int limit, int64_t asked, int64_t allowed) {
    return emgd_limit_no_looser(limit, asked, allowed) ? 0 : emgd_limit_bit(limit);
}

/* --- quantities */

/*@ requires pulse_sound(current_ua, width_us);
    assigns \nothing;
    ensures \result == current_ua * width_us;
    ensures 1 <= \result <= EMGD_MAX_CHARGE_PC;
 */
static int64_t charge_pc(int64_t current_ua, int64_t width_us) { return current_ua * width_us; }

/*@ requires pulse_sound(current_ua, width_us);
    assigns \nothing;
    ensures \result == current_ua * width_us * current_ua;
    ensures 1 <= \result <= EMGD_MAX_SQUARE;
 */
static int64_t square(int64_t current_ua, int64_t width_us) { return charge_pc(current_ua, width_us) * current_ua; }

/* Of a pulse into a load, rounded up; a square of 10^12 in one ohm is one microjoule. */
/*@ requires 1 <= pulse_square <= EMGD_MAX_SQUARE && 1 <= load_ohm <= EMGD_MAX_IMPEDANCE_OHM;
    assigns \nothing;
    ensures pulse_square * load_ohm <= \result * 1000000000000;
    ensures (\result - 1) * 1000000000000 < pulse_square * load_ohm;
 */
static int64_t energy_uj(int64_t pulse_square, int64_t load_ohm) {
    return ceil_div(pulse_square * load_ohm, 1000000000000);
}

/* Voltage that the device must be set up for to drive a current through a load, rounded up. */
/*@ requires 1 <= current_ua <= EMGD_MAX_CURRENT_UA && 1 <= load_ohm <= EMGD_MAX_IMPEDANCE_OHM;
    assigns \nothing;
    ensures current_ua * load_ohm * 100 <= \result * EMGD_HEADROOM_PERCENT * 1000000;
    ensures (\result - 1) * EMGD_HEADROOM_PERCENT * 1000000 < current_ua * load_ohm * 100;
 */
static int64_t needed_v(int64_t current_ua, int64_t load_ohm) {
    return ceil_div(current_ua * load_ohm * 100, EMGD_HEADROOM_PERCENT * 1000000);
}

/* The same in the unit in which squares are kept, rounded up. */
/*@ requires pulse_sound(current_ua, width_us);
    assigns \nothing;
    ensures current_ua * width_us * current_ua <= \result * EMGD_SQUARE_UNIT;
    ensures 1 <= \result <= 1000000000;
 */
static int64_t squares(int64_t current_ua, int64_t width_us) {
    return ceil_div(square(current_ua, width_us), EMGD_SQUARE_UNIT);
}

/* What was given and what is to come. */
/*@ requires 0 <= past <= EMGD_BOOKED * UINT32_MAX && 1 <= each <= 1000000000;
    requires 1 <= more <= EMGD_MAX_TRAIN_PULSES;
    assigns \nothing;
    ensures \result == past + more * each;
    ensures 0 <= \result <= EMGD_BOOKED * UINT32_MAX + EMGD_MAX_TRAIN_PULSES * 1000000000;
 */
static int64_t total(int64_t past, int64_t more, int64_t each) {
    //@ assert 0 <= more * each <= EMGD_MAX_TRAIN_PULSES * each;
    return past + more * each;
}

/* From onset to onset of a shot's first and last pulse, and the last pulse. */
/*@ requires 1 <= count <= EMGD_MAX_TRAIN_PULSES && 0 <= interval_us <= EMGD_MAX_TRAIN_DURATION_MS * 1000;
    requires 1 <= width_us <= EMGD_MAX_WIDTH_US;
    assigns \nothing;
    ensures \result == (count - 1) * interval_us + width_us;
    ensures 0 <= \result <= EMGD_MAX_TRAIN_PULSES * EMGD_MAX_TRAIN_DURATION_MS * 1000 + EMGD_MAX_WIDTH_US;
 */
static int64_t duration_us(int64_t count, int64_t interval_us, int64_t width_us) {
    return (count - 1) * interval_us + width_us;
}

/* Time since an instant; none when the clock says that it lies ahead. */
/*@ requires past_sound(then_ns) && time_sound(at_ns);
    assigns \nothing;
    ensures \result == (at_ns > then_ns ? at_ns - then_ns : 0);
 */
static int64_t since(int64_t at_ns, int64_t then_ns) { return at_ns > then_ns ? at_ns - then_ns : 0; }

/* Rate of pulses that are `gap` apart, where `unit` of that time make one mHz; rounded up. */
/*@ requires 0 <= gap && 1 <= unit;
    assigns \nothing;
    ensures gap == 0 ==> \result == unit;
    ensures gap >= 1 ==> unit <= \result * gap && (\result - 1) * gap < unit;
 */
static int64_t rate_mhz(int64_t unit, int64_t gap) { return gap ? ceil_div(unit, gap) : unit; }

/*@ requires 0 <= gap && 50001 <= unit && 1 <= allowed_mhz <= 50000;
    assigns \nothing;
    ensures \result == 0 <==> gap * allowed_mhz >= unit;
 */
static uint64_t judge_rate(int64_t unit, int64_t gap, int64_t allowed_mhz) {
    int64_t asked_mhz = rate_mhz(unit, gap);
    //@ assert up: asked_mhz <= allowed_mhz ==> asked_mhz * gap <= allowed_mhz * gap;
    //@ assert down: asked_mhz - 1 >= allowed_mhz ==> (asked_mhz - 1) * gap >= allowed_mhz * gap;
    return over(EMGD_RATE_MHZ, asked_mhz, allowed_mhz);
}

/* --- judgements */

uint64_t emgd_judge_shape(const emgd_request *request) {
    if (request->current_ua < 1 || request->width_us < 1) return EMGD_WHY_SHAPE;
    if (request->kind == EMGD_SINGLE) {
        if (request->count != 1 || request->interval_us != 0) return EMGD_WHY_SHAPE;
    } else if (request->kind == EMGD_PAIR) {
        if (request->count != 2 || request->interval_us < 1) return EMGD_WHY_SHAPE;
    } else if (request->kind == EMGD_TRAIN) {
        if (request->count < 2 || request->interval_us < 1) return EMGD_WHY_SHAPE;
    } else {
        return EMGD_WHY_SHAPE;
    }
    uint64_t why = over(EMGD_CURRENT_UA, request->current_ua, EMGD_MAX_CURRENT_UA);
    why |= over(EMGD_WIDTH_US, request->width_us, EMGD_MAX_WIDTH_US);
    why |= over(EMGD_TRAIN_PULSES, request->count, EMGD_MAX_TRAIN_PULSES);
    why |= over(EMGD_TRAIN_DURATION_MS, request->interval_us, EMGD_MAX_TRAIN_DURATION_MS * 1000);
    return why;
}

uint64_t emgd_judge_rhythm(const emgd_gate *g, const emgd_request *request) {
    const int64_t *limit = g->limits.value;
    if (request->kind == EMGD_SINGLE) return 0;
    int64_t lasts_ms = ceil_div(duration_us(request->count, request->interval_us, request->width_us), 1000);
    uint64_t why = over(EMGD_TRAIN_PULSES, request->count, limit[EMGD_TRAIN_PULSES]);
    why |= over(EMGD_TRAIN_DURATION_MS, lasts_ms, limit[EMGD_TRAIN_DURATION_MS]);
    if (request->kind == EMGD_PAIR) {
        why |= over(EMGD_PAIR_INTERVAL_US, request->interval_us, limit[EMGD_PAIR_INTERVAL_US]);
    } else {
        why |= over(EMGD_INTERVAL_US, request->interval_us, limit[EMGD_INTERVAL_US]);
        why |= judge_rate(1000000000, request->interval_us, limit[EMGD_RATE_MHZ]);
    }
    return why;
}

/*@ requires \valid_read(g) && 0 <= gap_ns;
    requires 1 <= g->limits.value[EMGD_RATE_MHZ] <= 50000;
    assigns \nothing;
    ensures \result == 0 <==> gap_holds(g, gap_ns);
 */
static uint64_t judge_gap(const emgd_gate *g, int64_t gap_ns) {
    uint64_t why = over(EMGD_INTERVAL_US, gap_ns / 1000, g->limits.value[EMGD_INTERVAL_US]);
    why |= judge_rate(1000000000000, gap_ns, g->limits.value[EMGD_RATE_MHZ]);
    return why;
}

uint64_t emgd_judge_begin(const emgd_gate *g, int64_t at_ns) {
    int64_t gap_ns = since(at_ns, g->last_ns);
    uint64_t why = judge_gap(g, gap_ns);
    if (gap_ns < EMGD_FAST_NS) why |= EMGD_WHY_TOO_SOON;
    why |= over(EMGD_TRAIN_REST_MS, since(at_ns, g->fast_ns) / EMGD_MS, g->limits.value[EMGD_TRAIN_REST_MS]);
    return why;
}

uint64_t emgd_judge_next(const emgd_gate *g, int64_t at_ns) {
    int64_t gap_ns = since(at_ns, g->last_ns);
    int64_t lasts_ms = ceil_div(since(at_ns, g->shot.first_ns) + 1000 * g->shot.width_us, EMGD_MS);
    uint64_t why = over(EMGD_TRAIN_DURATION_MS, lasts_ms, g->limits.value[EMGD_TRAIN_DURATION_MS]);
    if (g->shot.kind == EMGD_PAIR) {
        why |= over(EMGD_PAIR_INTERVAL_US, gap_ns / 1000, g->limits.value[EMGD_PAIR_INTERVAL_US]);
    } else {
        why |= judge_gap(g, gap_ns);
    }
    return why;
}

/*@ requires \valid_read(g) && pulse_sound(current_ua, width_us);
    assigns \nothing;
    ensures \result == 0 <==> size_holds(g, current_ua, width_us);
 */
static uint64_t judge_size(const emgd_gate *g, int64_t current_ua, int64_t width_us) {
    const int64_t *limit = g->limits.value;
    int64_t charge_nc = ceil_div(charge_pc(current_ua, width_us), 1000);
    int64_t energy_1k_uj = ceil_div(square(current_ua, width_us), 1000000000); /* into 1000 Ohm */
    uint64_t why = over(EMGD_CURRENT_UA, current_ua, limit[EMGD_CURRENT_UA]);
    why |= over(EMGD_WIDTH_US, width_us, limit[EMGD_WIDTH_US]);
    why |= over(EMGD_CHARGE_NC, charge_nc, limit[EMGD_CHARGE_NC]);
    why |= over(EMGD_ENERGY_UJ, energy_1k_uj, limit[EMGD_ENERGY_UJ]);
    if (current_ua > g->device_current_ua || width_us > g->device_width_us) why |= EMGD_WHY_DEVICE_LIMITS;
    return why;
}

/*@ requires 1 <= pulse_square <= EMGD_MAX_SQUARE && 1 <= load_ohm <= EMGD_MAX_IMPEDANCE_OHM;
    assigns \nothing;
    ensures \result == 0 <==> pulse_square * load_ohm <= 1000000000000 * allowed_uj;
 */
static uint64_t judge_load_energy(int64_t pulse_square, int64_t load_ohm, int64_t allowed_uj) {
    return over(EMGD_LOAD_ENERGY_UJ, energy_uj(pulse_square, load_ohm), allowed_uj);
}

/*@ requires 1 <= current_ua <= EMGD_MAX_CURRENT_UA && 1 <= load_ohm <= EMGD_MAX_IMPEDANCE_OHM;
    assigns \nothing;
    ensures \result == 0 <==> current_ua * load_ohm * 100 <= EMGD_HEADROOM_PERCENT * 1000000 * compliance_v;
 */
static uint64_t judge_headroom(int64_t current_ua, int64_t load_ohm, int64_t compliance_v) {
    return needed_v(current_ua, load_ohm) > compliance_v ? EMGD_WHY_HEADROOM : 0;
}

/*@ requires \valid_read(g) && pulse_sound(current_ua, width_us);
    requires g->limits.value[EMGD_IMPEDANCE_OHM] <= EMGD_MAX_IMPEDANCE_OHM;
    assigns \nothing;
    ensures \result == 0 <==> load_holds(g, current_ua, width_us);
 */
static uint64_t judge_load(const emgd_gate *g, int64_t current_ua, int64_t width_us) {
    if (g->load_ohm < 1) return EMGD_WHY_LOAD;
    if (g->load_ohm > EMGD_MAX_IMPEDANCE_OHM) return emgd_limit_bit(EMGD_IMPEDANCE_OHM);
    return over(EMGD_IMPEDANCE_OHM, g->load_ohm, g->limits.value[EMGD_IMPEDANCE_OHM]) |
           judge_load_energy(square(current_ua, width_us), g->load_ohm, g->limits.value[EMGD_LOAD_ENERGY_UJ]) |
           judge_headroom(current_ua, g->load_ohm, g->compliance_v);
}

/* The root mean square current of `density` uA/cm2 through an area, squared, over 10 s, in the unit of squares. */
/*@ requires 0 <= density <= 10000;
    assigns \nothing;
    ensures \result == (density * area_mm2 / 100) * (density * area_mm2 / 100) * (EMGD_MEAN_WINDOW_US / EMGD_SQUARE_UNIT);
    ensures 0 <= \result <= 42948362250000000;
 */
static int64_t squares_allowed(int64_t density, uint16_t area_mm2) {
    //@ assert 0 <= density * area_mm2 <= 655350000;
    int64_t rms_ua = density * area_mm2 / 100;
    //@ assert 0 <= rms_ua <= 6553500;
    //@ assert 0 <= rms_ua * rms_ua <= 42948362250000;
    return rms_ua * rms_ua * (EMGD_MEAN_WINDOW_US / EMGD_SQUARE_UNIT);
}

/* The heat of what was given in 10 s and is to come, against what the electrode's area allows. */
/*@ requires \valid_read(g) && pulse_sound(current_ua, width_us) && 1 <= more <= EMGD_MAX_TRAIN_PULSES;
    requires 0 <= g->limits.value[EMGD_RMS_UA_PER_CM2] <= 10000 && 0 <= past <= EMGD_BOOKED * UINT32_MAX;
    assigns \nothing;
    ensures \result == 0 ==> g->area_mm2 == 0 ||
        past * EMGD_SQUARE_UNIT + more * (current_ua * width_us * current_ua) <= rms_ua(g) * rms_ua(g) * EMGD_MEAN_WINDOW_US;
 */
static uint64_t judge_heat(const emgd_gate *g, int64_t current_ua, int64_t width_us, int64_t past, int64_t more) {
    int64_t each = squares(current_ua, width_us);
    int64_t sum = total(past, more, each);
    //@ assert more * (current_ua * width_us * current_ua) <= more * (each * EMGD_SQUARE_UNIT);
    if (!g->area_mm2) return 0;
    return sum > squares_allowed(g->limits.value[EMGD_RMS_UA_PER_CM2], g->area_mm2) ? emgd_limit_bit(EMGD_RMS_UA_PER_CM2) : 0;
}

/*@ requires \valid_read(g) && pulse_sound(current_ua, width_us) && time_sound(at_ns);
    requires 1 <= more <= EMGD_MAX_TRAIN_PULSES;
    requires 0 <= g->limits.value[EMGD_RMS_UA_PER_CM2] <= 10000;
    assigns \nothing;
    ensures \result == 0 ==> dose_holds(g, current_ua, width_us, at_ns, more);
    ensures \result == 0 ==> rms_holds(g, current_ua, width_us, at_ns, more);
 */
static uint64_t judge_dose(const emgd_gate *g, int64_t current_ua, int64_t width_us, int64_t at_ns, int64_t more) {
    const int64_t *limit = g->limits.value;
    emgd_dose_sums past = emgd_dose_measure(&g->dose, g->site, at_ns);
    int64_t charge = total(past.charge_pc, more, charge_pc(current_ua, width_us));
    uint64_t why = over(EMGD_MEAN_CURRENT_UA, ceil_div(charge, EMGD_MEAN_WINDOW_US), limit[EMGD_MEAN_CURRENT_UA]);
    why |= over(EMGD_SITE_PULSES, past.site_pulses + more, limit[EMGD_SITE_PULSES]);
    if (past.room < more) why |= EMGD_WHY_HISTORY;
    why |= judge_heat(g, current_ua, width_us, past.squares, more);
    return why;
}

/*@ assigns \nothing;
    ensures \result == smaller(limit_ua, greater(EMGD_FREE_STEP_UA, last_ua / 4));
 */
static int64_t step_allowed_ua(int32_t last_ua, int64_t limit_ua) {
    int64_t allowed_ua = last_ua / 4;
    if (allowed_ua < EMGD_FREE_STEP_UA) allowed_ua = EMGD_FREE_STEP_UA;
    return allowed_ua < limit_ua ? allowed_ua : limit_ua;
}

/*@ requires \valid_read(g) && 1 <= current_ua <= EMGD_MAX_CURRENT_UA;
    assigns \nothing;
    ensures \result == 0 <==> step_holds(g, current_ua);
 */
static uint64_t judge_step(const emgd_gate *g, int64_t current_ua) {
    uint64_t why = current_ua > g->retry_ua ? EMGD_WHY_RETRY : 0;
    if (!g->last_ua) {
        why |= over(EMGD_FIRST_SHOT_UA, current_ua, g->limits.value[EMGD_FIRST_SHOT_UA]);
    } else if (current_ua > g->confirmed_ua) {
        why |= over(EMGD_STEP_UA, current_ua - g->last_ua, step_allowed_ua(g->last_ua, g->limits.value[EMGD_STEP_UA]));
    }
    return why;
}

uint64_t emgd_judge_pulse(const emgd_gate *g, int64_t current_ua, int64_t width_us, int64_t at_ns, int64_t more) {
    return judge_size(g, current_ua, width_us) | judge_load(g, current_ua, width_us) |
           judge_dose(g, current_ua, width_us, at_ns, more) | judge_step(g, current_ua);
}

emgd_booked emgd_judge_booked(int64_t current_ua, int64_t width_us, int64_t at_ns, uint64_t site) {
    emgd_booked booked;
    booked.at_ns = at_ns;
    booked.site = site;
    booked.charge_pc = (uint32_t)charge_pc(current_ua, width_us);
    booked.squares = (uint32_t)squares(current_ua, width_us);
    return booked;
}

/* --- explanation */

emgd_figures emgd_judge_figures(const emgd_gate *g, const emgd_request *request, int64_t at_ns) {
    emgd_figures figures = {{0}, 0, 0};
    int64_t gap_ns = since(at_ns, g->last_ns);
    int64_t current_ua = request->current_ua, width_us = request->width_us;
    figures.asked[EMGD_CURRENT_UA] = current_ua;
    figures.asked[EMGD_WIDTH_US] = width_us;
    figures.asked[EMGD_TRAIN_PULSES] = request->count;
    figures.asked[EMGD_IMPEDANCE_OHM] = g->load_ohm;
    if (emgd_judge_shape(request)) return figures;
    emgd_dose_sums past = emgd_dose_measure(&g->dose, g->site, at_ns);
    int64_t charge = total(past.charge_pc, request->count, charge_pc(current_ua, width_us));
    figures.asked[EMGD_MEAN_CURRENT_UA] = ceil_div(charge, EMGD_MEAN_WINDOW_US);
    figures.asked[EMGD_SITE_PULSES] = past.site_pulses + request->count;
    figures.asked[EMGD_CHARGE_NC] = ceil_div(charge_pc(current_ua, width_us), 1000);
    figures.asked[EMGD_ENERGY_UJ] = ceil_div(square(current_ua, width_us), 1000000000);
    if (g->load_ohm >= 1 && g->load_ohm <= EMGD_MAX_IMPEDANCE_OHM) {
        figures.asked[EMGD_LOAD_ENERGY_UJ] = energy_uj(square(current_ua, width_us), g->load_ohm);
        figures.asked[EMGD_COMPLIANCE_V] = needed_v(current_ua, g->load_ohm);
    }
    figures.asked[g->last_ua ? EMGD_STEP_UA : EMGD_FIRST_SHOT_UA] = current_ua - g->last_ua;
    figures.asked[EMGD_INTERVAL_US] = gap_ns / 1000;
    figures.asked[EMGD_RATE_MHZ] = rate_mhz(1000000000000, gap_ns);
    figures.asked[EMGD_TRAIN_REST_MS] = since(at_ns, g->fast_ns) / EMGD_MS;
    figures.step_allowed_ua = step_allowed_ua(g->last_ua, g->limits.value[EMGD_STEP_UA]);
    figures.squares = total(past.squares, request->count, squares(current_ua, width_us));
    if (request->kind == EMGD_SINGLE) return figures;
    int64_t lasts_us = duration_us(request->count, request->interval_us, width_us);
    figures.asked[EMGD_TRAIN_DURATION_MS] = ceil_div(lasts_us, 1000);
    if (request->kind == EMGD_PAIR) {
        figures.asked[EMGD_PAIR_INTERVAL_US] = request->interval_us;
        return figures;
    }
    int64_t train_mhz = rate_mhz(1000000000, request->interval_us);
    if (request->interval_us < gap_ns / 1000) figures.asked[EMGD_INTERVAL_US] = request->interval_us;
    if (train_mhz > rate_mhz(1000000000000, gap_ns)) figures.asked[EMGD_RATE_MHZ] = train_mhz;
    return figures;
}

uint64_t emgd_gate_warnings(const emgd_gate *g) {
    uint64_t warnings = g->load_ohm > EMGD_WARN_LOAD_OHM ? EMGD_WARN_IMPEDANCE : 0;
    emgd_dose_sums past = emgd_dose_measure(&g->dose, g->site, g->now_ns);
    if (g->area_mm2 && past.squares > squares_allowed(EMGD_WARN_RMS_UA_PER_CM2, g->area_mm2)) warnings |= EMGD_WARN_RMS;
    return warnings;
}
