# The gate for code that runs without the GIL: the C functions as they are, and the class that owns one gate.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint64_t

cdef extern from "gate.h" nogil:
    enum:
        EMGD_LIMITS
        EMGD_WHYS
        EMGD_LAYERS
        EMGD_SQUARE_UNIT
        EMGD_BOOKED

    const uint64_t EMGD_WHY_WAIT

    ctypedef struct emgd_range:
        int64_t ceiling
        int64_t end

    const emgd_range emgd_ranges[EMGD_LIMITS]

    ctypedef struct emgd_layer:
        int64_t value[EMGD_LIMITS]
        uint8_t given[EMGD_LIMITS]

    ctypedef struct emgd_limits:
        int64_t value[EMGD_LIMITS]
        int32_t layer[EMGD_LIMITS]

    ctypedef struct emgd_arming:
        uint64_t holder
        uint64_t operator_id
        uint64_t site
        int64_t load_ohm
        int64_t compliance_v
        int64_t device_current_ua
        int64_t device_width_us
        uint16_t area_mm2
        int32_t isolated

    ctypedef struct emgd_request:
        uint64_t holder
        uint64_t site
        int64_t current_ua
        int64_t width_us
        int64_t count
        int64_t interval_us
        int64_t asked_ns
        int64_t begin_ns
        int32_t kind

    ctypedef struct emgd_figures:
        int64_t asked[EMGD_LIMITS]
        int64_t step_allowed_ua
        int64_t squares

    ctypedef struct emgd_pulse:
        uint64_t seq
        int64_t at_ns
        int64_t current_ua
        int64_t width_us
        int64_t index
        int64_t count

    ctypedef struct emgd_fired:
        uint64_t why
        emgd_pulse pulse

    ctypedef struct emgd_readback:
        uint64_t seq
        int64_t current_ua
        int64_t width_us
        int64_t load_ohm
        int64_t dc_ua
        int32_t limited

    ctypedef struct emgd_shot:
        int64_t left
        int64_t due_ns

    ctypedef struct emgd_gate:
        int32_t state
        uint64_t faults
        uint64_t dropped
        int64_t now_ns
        uint64_t holder
        uint64_t nonce
        int64_t lease_until_ns
        uint64_t site
        uint64_t operator_id
        int64_t compliance_v
        int64_t load_ohm
        int32_t last_ua
        int32_t confirmed_ua
        int32_t retry_ua
        emgd_shot shot
        uint64_t next_seq
        int32_t awaited_count
        emgd_limits limits

    int emgd_limit_is_most(int limit)
    uint64_t emgd_limits_check(const int64_t* value)
    void emgd_limits_at_ceiling(emgd_limits* limits)
    uint64_t emgd_limits_merge(emgd_limits* limits, const emgd_layer* layer, int32_t name, uint64_t* looser)

    uint64_t emgd_gate_init(emgd_gate* g, int64_t now_ns)
    uint64_t emgd_gate_set_limits(emgd_gate* g, const emgd_limits* limits)
    uint64_t emgd_gate_connect(emgd_gate* g, int64_t now_ns)
    void emgd_gate_disconnect(emgd_gate* g)
    uint64_t emgd_gate_take(emgd_gate* g, uint64_t holder, uint64_t nonce, int64_t now_ns)
    uint64_t emgd_gate_renew(emgd_gate* g, uint64_t holder, uint64_t nonce, int64_t now_ns)
    uint64_t emgd_gate_release(emgd_gate* g, uint64_t holder)
    uint64_t emgd_gate_stream(emgd_gate* g, int64_t sample_ns, int32_t saturated, int32_t stamped, int64_t now_ns)
    uint64_t emgd_gate_load(emgd_gate* g, int64_t load_ohm, int64_t now_ns)
    uint64_t emgd_gate_arm(emgd_gate* g, const emgd_arming* arming, int64_t now_ns)
    uint64_t emgd_gate_confirm(emgd_gate* g, uint64_t holder, int64_t ceiling_ua, int64_t now_ns)
    uint64_t emgd_gate_request(emgd_gate* g, const emgd_request* request, int64_t now_ns)
    emgd_figures emgd_gate_figures(const emgd_gate* g, const emgd_request* request)
    void emgd_gate_cancel(emgd_gate* g)
    emgd_fired emgd_gate_fire(emgd_gate* g, int64_t now_ns)
    uint64_t emgd_gate_readback(emgd_gate* g, const emgd_readback* readback, int64_t now_ns)
    uint64_t emgd_gate_tick(emgd_gate* g, int64_t now_ns)
    void emgd_gate_disarm(emgd_gate* g)
    void emgd_gate_stop(emgd_gate* g)
    void emgd_gate_fault(emgd_gate* g, uint64_t causes)
    uint64_t emgd_gate_acknowledge(emgd_gate* g, uint64_t operator_id, uint64_t present, int64_t now_ns)
    uint64_t emgd_gate_warnings(const emgd_gate* g)


cdef class Gate:
    cdef emgd_gate gate
