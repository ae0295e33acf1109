"""CRC, packing and saturation against their plain-Python references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgd_ext import kernels, reference

CHECK = b"123456789"
COUNTS = st.lists(st.integers(-(2**23), 2**23 - 1), max_size=70)


@pytest.mark.parametrize("portable", [False, True])
class TestCrc:
    def test_gives_the_published_check_value(self, portable):
        assert kernels.crc32c(CHECK, portable=portable) == 0xE3069283

    def test_gives_the_published_values_of_rfc_3720(self, portable):
        assert kernels.crc32c(bytes(32), portable=portable) == 0x8A9136AA
        assert kernels.crc32c(b"\xff" * 32, portable=portable) == 0x62A8AB43
        assert kernels.crc32c(bytes(range(32)), portable=portable) == 0x46DD794E

    @given(data=st.binary(max_size=200), start=st.integers(0, 200))
    def test_equals_the_reference_and_can_go_on_from_any_point(self, portable, data, start):
        whole = kernels.crc32c(data, portable=portable)
        head, tail = data[:start], data[start:]
        assert whole == reference.crc32c(data)
        assert kernels.crc32c(tail, kernels.crc32c(head, portable=portable), portable=portable) == whole


@pytest.mark.parametrize("portable", [False, True])
@given(counts=COUNTS)
def test_unpacking_undoes_packing_for_any_length(portable, counts):
    samples = np.array(counts, np.int32)
    packed = kernels.pack24(samples)
    assert kernels.unpack24(packed, portable=portable).tolist() == counts
    assert reference.unpack24(packed).tolist() == counts


def test_a_count_beyond_24_bits_is_refused_by_name():
    with pytest.raises(ValueError, match=r"8388608.*24 bits"):
        kernels.pack24(np.array([0, 2**23], np.int32))


def test_a_broken_sample_is_refused():
    with pytest.raises(ValueError, match="4 bytes are not a whole number"):
        kernels.unpack24(b"1234")


@given(rows=st.integers(0, 20), channels=st.integers(1, 19), seed=st.integers(0, 99))
def test_saturation_is_found_in_exactly_the_channels_that_have_it(rows, channels, seed):
    rng = np.random.default_rng(seed)
    samples = rng.integers(-110, 110, (rows, channels)).astype(np.int32)
    limit = rng.integers(90, 110, channels).astype(np.int32)
    expected = (np.abs(samples) >= limit).any(axis=0)
    assert kernels.saturated(samples, limit).tolist() == expected.tolist()


def test_the_most_negative_count_is_saturated():
    samples = np.array([[-(2**31)]], np.int32)
    assert kernels.saturated(samples, np.array([2**23 - 1], np.int32)).tolist() == [True]
