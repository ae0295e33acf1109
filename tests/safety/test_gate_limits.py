"""The tables of limits: their compiled-in ranges, what makes one valid, how layers tighten each other."""

import gate_c
import pytest
from gate_rules import RANGES
from gate_world import WIDE

from emgd_ext.gate import BOOKED, LAYER_NAMES, LIMIT_NAMES, SQUARES_PER_UA2, Gate, Limits, bit, names_in, ranges


def test_ranges_are_those_that_were_written_down():
    assert tuple(RANGES) == LIMIT_NAMES
    assert {name: tuple(limit) for name, limit in ranges().items()} == RANGES
    assert (BOOKED, SQUARES_PER_UA2) == (256, 1_000)


def check(table):
    _, lib = gate_c.foreign()
    return set(names_in(lib.emgd_limits_check(gate_c.limits_of(table).value)))


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_a_table_is_checked_even_when_no_layer_made_it(name):
    ceiling, end = RANGES[name]
    looser = 1 if ceiling > end else -1
    wide = {**WIDE, "pair_interval_us": 1_001} if name == "width_us" else {**WIDE, "width_us": 10}
    assert check({**wide, name: ceiling}) == check({**wide, name: end}) == set()
    assert name in check({**wide, name: ceiling + looser})
    assert name in check({**wide, name: end - looser})
    assert name in check({**wide, name: 2**63 - 1}) & check({**wide, name: -(2**63)})


def test_two_pulses_of_a_pair_never_touch():
    assert check({**WIDE, "width_us": 999, "pair_interval_us": 1_000}) == set()
    assert check({**WIDE, "width_us": 1_000, "pair_interval_us": 1_000}) == {"width_us", "pair_interval_us"}
    limits = Limits()
    assert limits.check() == ("width_us", "pair_interval_us")
    gate = Gate(0)
    assert names_in(gate.set_limits(limits)) == ("width_us", "pair_interval_us")
    assert names_in(gate.connect(0)) == ("no_limits",)


def test_a_new_gate_has_the_tightest_limits_and_takes_over_all_of_a_table():
    ffi, lib = gate_c.foreign()
    gate = ffi.new("emgd_gate *")
    ffi.memmove(gate, b"\xff" * ffi.sizeof("emgd_gate"), ffi.sizeof("emgd_gate"))
    assert lib.emgd_gate_init(gate, 5) == 0
    assert list(gate.limits.value) == [end for _, end in RANGES.values()]
    assert set(gate.limits.layer) == {lib.EMGD_LAYER_HARD}
    limits = gate_c.limits_of(WIDE)
    for number in range(len(LIMIT_NAMES)):
        limits.layer[number] = number
    assert lib.emgd_gate_set_limits(gate, limits) == 0
    assert (list(gate.limits.value), list(gate.limits.layer)) == (list(WIDE.values()), list(range(len(WIDE))))


def test_a_new_gate_remembers_nothing_whatever_lay_in_its_memory():
    ffi, lib = gate_c.foreign()
    images = []
    for filler in (b"\x00", b"\xff"):
        gate = ffi.new("emgd_gate *")
        ffi.memmove(gate, filler * ffi.sizeof("emgd_gate"), ffi.sizeof("emgd_gate"))
        assert lib.emgd_gate_init(gate, 5) == 0
        images.append(fields_of(gate[0]))
    assert images[0] == images[1]
    assert images[0]["now_ns"] == 5
    remembered = {
        name: value for name, value in images[0].items() if value not in (0, [0] * 25) and "limits" not in name
    }
    long_ago = -7_200_000_000_000
    for number in range(BOOKED):
        assert remembered.pop(f"dose.pulse.{number}.at_ns") == long_ago
    assert remembered == {
        "now_ns": 5,
        "sample_ns": long_ago,
        "last_ns": long_ago,
        "fast_ns": long_ago,
        "retry_ua": 100_000,
        "good": 4,
    }


def fields_of(value, prefix=""):
    """All numbers of a structure by name, without the padding between them."""
    ffi, _ = gate_c.foreign()
    found = {}
    if ffi.typeof(value).kind == "struct":
        children = [(f".{name}" if prefix else name, getattr(value, name)) for name, _ in ffi.typeof(value).fields]
    else:
        children = [(f".{place}", item) for place, item in enumerate(value)]
    for name, child in children:
        if isinstance(child, int):
            found[prefix + name] = child
        else:
            found |= fields_of(child, prefix + name)
    return found


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_a_layer_tightens_and_is_named_and_never_loosens(name):
    ceiling, end = RANGES[name]
    inward = -1 if ceiling > end else 1
    limits = Limits()
    assert limits.layers[name] == "hard"
    assert limits.merge({name: ceiling}, "device") == ((), ())
    assert limits.layers[name] == "hard"  # nothing was changed
    assert limits.merge({name: ceiling + 2 * inward}, "profile") == ((), ())
    assert limits.merge({name: ceiling + inward}, "session") == ((), (name,))
    assert limits.merge({name: ceiling + 2 * inward}, "session") == ((), ())
    assert (limits.values[name], limits.layers[name]) == (ceiling + 2 * inward, "profile")
    assert limits.merge({name: end}, "session") == ((), ())
    assert (limits.values[name], limits.layers[name]) == (end, "session")
    others = {key: value for key, value in limits.values.items() if key != name}
    assert others == {key: value for key, (value, _) in RANGES.items() if key != name}


@pytest.mark.parametrize("name", LIMIT_NAMES)
def test_a_layer_with_one_value_out_of_range_changes_nothing(name):
    ceiling, end = RANGES[name]
    other = LIMIT_NAMES[0] if name != LIMIT_NAMES[0] else LIMIT_NAMES[1]
    for value in (ceiling + (1 if ceiling > end else -1), end - (1 if ceiling > end else -1)):
        limits = Limits()
        before = limits.values
        assert limits.merge({name: value, other: RANGES[other][1]}, "profile") == ((name,), ())
        assert limits.values == before


def test_all_that_is_out_of_range_and_all_that_would_loosen_is_named():
    limits = Limits()
    assert limits.merge(
        {name: ceiling + (1 if ceiling > end else -1) for name, (ceiling, end) in RANGES.items()}, "device"
    ) == (
        LIMIT_NAMES,
        (),
    )
    assert limits.merge({name: end for name, (_, end) in RANGES.items()}, "device") == ((), ())
    assert limits.merge({name: ceiling for name, (ceiling, _) in RANGES.items()}, "session") == ((), LIMIT_NAMES)
    assert limits.values == {name: end for name, (_, end) in RANGES.items()}
    assert set(limits.layers.values()) == {"device"}


def test_what_a_merge_would_loosen_is_told_afresh():
    ffi, lib = gate_c.foreign()
    limits, looser = gate_c.limits_of(WIDE), ffi.new("uint64_t *", 99)
    assert lib.emgd_limits_merge(limits, ffi.new("emgd_layer *"), lib.EMGD_LAYER_SESSION, looser) == 0
    assert looser[0] == 0
    layer = ffi.new("emgd_layer *", {"given": [1], "value": [100_001]})
    looser[0] = 99
    assert lib.emgd_limits_merge(limits, layer, lib.EMGD_LAYER_SESSION, looser) == bit("current_ua")
    assert looser[0] == 0


def test_helpers_of_a_limit():
    _, lib = gate_c.foreign()
    least = {"interval_us", "pair_interval_us", "train_rest_ms"}
    for number, name in enumerate(LIMIT_NAMES):
        assert lib.emgd_limit_bit(number) == bit(name)
        assert lib.emgd_limit_is_most(number) == (name not in least)
        assert lib.emgd_limit_no_looser(number, 5, 5) == 1
        assert lib.emgd_limit_no_looser(number, 4, 5) == (name not in least)
        assert lib.emgd_limit_no_looser(number, 6, 5) == (name in least)
    assert LAYER_NAMES == ("hard", "device", "profile", "session")


@pytest.mark.parametrize("filler", [0, 255])
@pytest.mark.parametrize("name", ["emgd_limits_at_ceiling", "emgd_limits_at_end"])
def test_the_outermost_table_is_filled_and_nothing_beside_it(name, filler):
    ffi, lib = gate_c.foreign()
    row, size = ffi.new("emgd_limits[3]"), ffi.sizeof("emgd_limits")
    ffi.memmove(row, bytes([filler]) * 3 * size, 3 * size)
    getattr(lib, name)(row + 1)
    assert list(row[1].value) == [limit[name == "emgd_limits_at_end"] for limit in RANGES.values()]
    assert set(row[1].layer) == {lib.EMGD_LAYER_HARD}
    used = 8 * len(LIMIT_NAMES) + 4 * len(LIMIT_NAMES)  # what follows is padding
    assert set(bytes(ffi.buffer(row))[:size] + bytes(ffi.buffer(row))[size + used :]) == {filler}


def test_a_table_is_taken_over_and_nothing_beside_it():
    ffi, lib = gate_c.foreign()
    row, size = ffi.new("emgd_limits[3]"), ffi.sizeof("emgd_limits")
    ffi.memmove(row, b"\xff" * 3 * size, 3 * size)
    gate = ffi.new("emgd_gate *")
    assert lib.emgd_gate_init(gate, 5) == 0
    for number, name in enumerate(LIMIT_NAMES):
        row[1].value[number], row[1].layer[number] = WIDE[name], 0
    used = 8 * len(LIMIT_NAMES) + 4 * len(LIMIT_NAMES)
    start = ffi.offsetof("emgd_gate", "limits")
    before = bytearray(ffi.buffer(gate))
    assert lib.emgd_gate_set_limits(gate, row + 1) == 0
    before[start : start + used] = bytes(ffi.buffer(row + 1))[:used]
    assert gate.limits_set == 1
    gate.limits_set = 0
    assert bytes(ffi.buffer(gate)) == bytes(before)


@pytest.mark.parametrize("behind", [0, -1, 2**31 - 1, -(2**31)])
def test_what_lies_behind_a_table_is_not_read(behind):
    ffi, lib = gate_c.foreign()
    limits = gate_c.limits_of(WIDE)
    for number in range(len(LIMIT_NAMES)):
        limits.layer[number] = behind
    assert lib.emgd_limits_check(limits.value) == 0
    layer, looser = ffi.new("emgd_layer *"), ffi.new("uint64_t *")
    ffi.memmove(layer, bytes([behind & 255]) * ffi.sizeof("emgd_layer"), ffi.sizeof("emgd_layer"))
    layer.given = [0] * len(LIMIT_NAMES)
    before = bytes(ffi.buffer(limits))
    assert (lib.emgd_limits_merge(limits, layer, 3, looser), looser[0]) == (0, 0)
    assert bytes(ffi.buffer(limits)) == before


def test_all_that_is_wrong_with_a_table_is_named():
    wrong = {**WIDE, "current_ua": 100_001, "width_us": 1_000, "pair_interval_us": 1_000, "dc_ua": 0}
    assert check(wrong) == {"current_ua", "width_us", "pair_interval_us", "dc_ua"}
