"""The HackEEG's model: samples to the byte, commands in text and JSON lines, numbering, time, losses and faults."""

import base64
import itertools
import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serial_rig import MS, FixedSignal, S, SerialHost, values

from emgd_drivers.sim.hackeeg import FIELDS, HackEegModel, make_model

HEAD = bytes.fromhex("82a143ccc8a144c423")
OK = b'{"STATUS_CODE":200,"STATUS_TEXT":"Ok"}\r\n'
GAINS = (1, 2, 4, 6, 8, 12, 24)


def board(rate_hz=1000.0, room=None, **options):
    """A board in JSON lines."""
    host = SerialHost(HackEegModel(FixedSignal(rate_hz), **options), room=room)
    host.say("jsonlines\n")
    return host


def command(name, *parameters):
    return json.dumps({"COMMAND": name, "PARAMETERS": parameters}) + "\n"


def configure(host, rate_bits=0x04, channel_bits=0x60):
    host.say(command("sdatac"))
    assert host.say(command("wreg", 1, 0x90 | rate_bits)) == OK
    for channel in range(8):
        host.say(command("wreg", 5 + channel, channel_bits))


def stream(host):
    assert host.say(command("messagepack")) == OK
    assert host.say(command("start")) == OK
    assert host.say(command("rdatac")) == OK


def samples(data):
    """(µs, number, status, channels) of each sample."""
    assert len(data) % 44 == 0
    found = []
    for at in range(0, len(data), 44):
        assert data[at : at + 9] == HEAD
        micros, number = struct.unpack_from("<II", data, at + 9)
        found.append((micros, number, data[at + 17 : at + 20].hex(), values(data[at + 20 : at + 44])))
    return found


def test_sample_to_the_byte():
    host = board()
    configure(host)
    host.say(command("wreg", 5, 0x00))  # channel 1: gain 1, 0.536 µV per count
    host.say(command("wreg", 12, 0xE0))  # channel 8: powered down
    host.wait(10 * MS)
    stream(host)
    heard = host.wait(2 * MS)
    first, second = heard[:44].hex(), heard[44:].hex()
    # 11000 µs, number 0; 0 to 6 µV in steps of 0.02235 µV
    expected = "82a143ccc8a144c423 f82a0000 00000000 c00000 000000 00002d 000059 000086 0000b3 0000e0 00010c 000000"
    assert first == expected.replace(" ", "")
    # 12000 µs, number 1; 100 µV at gain 1 = 186 counts
    expected = "82a143ccc8a144c423 e02e0000 01000000 c00000 0000ba 0011a7 0011d3 001200 00122d 00125a 001286 000000"
    assert second == expected.replace(" ", "")


def test_text_after_power_up():
    host = SerialHost(HackEegModel(FixedSignal()))
    assert host.say("nop\r\n") == b"Ready\r\n200 Ok\r\n"
    assert host.say("version\n") == b"200 v0.3.0\r\n"
    assert host.say("bogus\n") == b"406 Error: Unrecognized command.\r\n\r\n"
    assert host.say("serialnumber\n") == b"501 Not Implemented\r\n"
    assert host.say("rdatac\n") == b"502 No Active Channels\r\n"
    assert host.say("rreg 0\n") == b"200 Ok (Read Register 00) \r\n3E\r\n\r\n"
    assert host.say("wreg 05 60\n") == b"200 Ok (Write Register 05 60) \r\n\r\n"
    assert host.say("rreg 05\n") == b"200 Ok (Read Register 05) \r\n60\r\n\r\n"
    assert host.say("wreg 05\n") == b"404 Error: value argument missing.\r\n\r\n"
    assert host.say("rreg\n") == b"403 Error: register argument missing.\r\n\r\n"
    assert host.say("rreg xy\n").startswith(b"402 Error")
    assert b"Max channels: 8\r\nNumber of active channels: 1\r\n\r\n" in host.say("status\n")
    host.wait(3 * MS)
    assert host.say("micros\n") == b"200 Ok\r\n3000\r\n"
    assert host.say("jsonlines\n") == OK


def test_samples_in_text_and_json_lines():
    host = SerialHost(HackEegModel(FixedSignal()))
    host.say("wreg 05 60\n")
    host.say("hex\n")
    host.say("rdatac\n")
    payload = bytes.fromhex(host.wait(4 * MS).decode())
    assert len(payload) == 35
    assert payload[:8] == struct.pack("<II", 4000, 0)
    host.say("base64\n")
    assert base64.b64decode(host.wait(4 * MS))[:8] == struct.pack("<II", 8000, 1)
    host.say("jsonlines\n")
    sample = json.loads(host.wait(4 * MS))
    assert sample["C"] == 200
    assert base64.b64decode(sample["D"])[:8] == struct.pack("<II", 12000, 2)


@pytest.mark.parametrize(
    ("said", "code", "text"),
    [
        ("{", 400, "Bad Request"),
        ("[]", 406, "Unrecognized command"),
        ('{"COMMAND":"eat"}', 406, "Unrecognized command"),
        ('{"COMMAND":["nop"]}', 406, "Unrecognized command"),
        ('{"COMMAND":"serialnumber"}', 501, "Not Implemented"),
        ('{"COMMAND":"rdatac"}', 502, "No Active Channels"),
        ('{"COMMAND":"version"}', 200, "v0.3.0"),
        *((json.dumps({"COMMAND": name}), 200, "Ok") for name in ("nop", "stop", "sdatac", "start", "messagepack")),
        *((json.dumps({"COMMAND": name}), 200, "Ok") for name in ("ledon", "ledoff", "boardledon", "boardledoff")),
    ],
)
def test_answers_in_json_lines(said, code, text):
    answer = board().say(said + "\n")
    assert json.loads(answer) == {"STATUS_CODE": code, "STATUS_TEXT": text}
    assert answer.endswith(b"}\r\n")


def test_status_and_registers():
    host = board()
    assert json.loads(host.say(command("status")))["DATA"] == {
        "driver_version": "v0.3.0",
        "board_name": "HackEEG",
        "maker_name": "Starcat LLC",
        "hardware_type": "ADS1299",
        "max_channels": 8,
        "active_channels": 0,
    }
    assert json.loads(host.say(command("rreg", 0)))["DATA"] == 0x3E
    host.say(command("wreg", 0, 0))
    assert json.loads(host.say(command("rreg", 0)))["DATA"] == 0x3E
    assert json.loads(host.say(command("rreg", 5)))["DATA"] == 0x61
    host.say(command("wreg", 5, 0x60))
    assert json.loads(host.say(command("status")))["DATA"]["active_channels"] == 1
    assert json.loads(host.say(command("rreg", 200)))["DATA"] == 0


def test_reset_takes_its_time_and_shorts_all_inputs():
    host = board()
    configure(host)
    assert host.say(command("reset")) == b""
    assert host.wait(1100 * MS) == b""
    assert host.wait(10 * MS) == OK
    assert json.loads(host.say(command("rdatac")))["STATUS_CODE"] == 502
    assert json.loads(host.say(command("rreg", 1)))["DATA"] == 0x96
    assert json.loads(host.say(command("rreg", 3)))["DATA"] == 0xE0


@pytest.mark.parametrize(("bits", "rate_hz"), list(enumerate((16_000, 8000, 4000, 2000, 1000, 500, 250))))
def test_rate_and_time_stamps_are_exact(bits, rate_hz):
    options = {field.name: field.default for field in FIELDS}
    host = SerialHost(make_model(options, 0))
    host.say("jsonlines\n")
    configure(host, bits)
    stream(host)
    got = samples(host.wait(S // 2))
    assert [number for _, number, _, _ in got] == list(range(rate_hz // 2))
    assert [micros for micros, *_ in got] == [(number + 1) * 1_000_000 // rate_hz for number in range(rate_hz // 2)]
    assert all(np.ptp([sample[3][channel] for sample in got]) > 10 for channel in range(8))


def test_micros_wrap_and_drift():
    host = board(drift_ppm=100.0)
    configure(host)
    host.now_ns = 4_294_967_296_000 * 10_001 // 10_000 - 5 * MS
    stream(host)
    stamps = [micros for micros, *_ in samples(host.wait(10 * MS))]
    assert stamps[0] > 2**32 - 5000
    assert stamps[-1] < 5000
    steps = {(after - before) % 2**32 for before, after in itertools.pairwise(stamps)}
    assert steps == {1000}
    assert len(stamps) == 9


@pytest.mark.parametrize(("bits", "gain"), list(enumerate(GAINS)))
def test_counts_equal_the_signal_at_each_gain(bits, gain):
    host = board()
    configure(host, channel_bits=bits << 4)
    stream(host)
    scale = 4.5e6 / gain / (2**23 - 1)
    sent = np.array([channels for *_, channels in samples(host.wait(50 * MS))])
    np.testing.assert_allclose(sent * scale, 100 * np.arange(50)[:, np.newaxis] + np.arange(8), atol=scale / 2)


def test_shorted_and_test_inputs():
    host = board()
    configure(host)
    host.say(command("wreg", 5, 0x61))
    host.say(command("wreg", 6, 0x05))
    host.say(command("wreg", 7, 0x05))
    host.say(command("wreg", 2, 0xD0))
    stream(host)
    got = [channels for *_, channels in samples(host.wait(1024 * MS))]
    assert {channels[0] for channels in got} == {0}
    assert {channels[1] for channels in got} == {3495, -3495}  # 1.875 mV at gain 1
    assert got[0][2] == -got[600][2]


def test_start_sets_the_number_to_zero_and_stop_ends():
    host = board()
    configure(host)
    stream(host)
    assert len(samples(host.wait(5 * MS))) == 5
    assert host.say(command("stop")) == OK
    assert host.wait(100 * MS) == b""
    assert host.model.next_event_ns() is None
    assert host.say(command("start")) == OK  # still continuous
    assert [number for _, number, _, _ in samples(host.wait(2 * MS))] == [0, 1]
    host.say(command("sdatac"))
    assert host.wait(100 * MS) == b""


def test_registers_do_not_move_while_it_streams():
    host = board()
    configure(host)
    stream(host)
    assert host.say(command("wreg", 5, 0x00)) == OK
    assert host.model.chip.gain(0) == 24


def test_status_word():
    host = board()
    configure(host)
    host.say(command("wreg", 0x0F, 0xFF))
    host.say(command("wreg", 0x10, 0x01))
    host.say(command("boardledon"))
    host.model.chip.electrodes_off |= {0, 7}
    stream(host)
    ((_, _, status, _),) = samples(host.wait(1 * MS))
    assert status == "c81018"  # P 10000001, N 00000001, GPIO 1000


def late(host):
    """Numbers and times after a host that took nothing for a while."""
    configure(host)
    stream(host)
    host.read()
    host.room = 0
    host.wait(20 * MS)
    host.room = None
    return samples(host.wait(1 * MS))


def test_host_that_reads_late_loses_whole_samples_and_the_number_tells():
    host = board(buffer_bytes=440)
    got = late(host)
    assert host.model.lost_frames == 10
    assert [number for _, number, _, _ in got] == [*range(10), 20]


def test_firmware_that_counts_what_it_sends_tells_by_time_alone():
    host = board(buffer_bytes=440)
    host.model.lost_are_numbered = False
    got = late(host)
    assert [number for _, number, _, _ in got] == list(range(11))
    assert [micros for micros, *_ in got] == [*range(1000, 11_000, 1000), 21_000]


def test_faults():
    host = board(faults=["drop@1", "lose@2:5", "noise@3:7", "unplug@5"])
    configure(host)
    stream(host)
    heard = host.wait(10 * MS)
    assert len(heard) == 44 + 39 + 7 + 44 + 44
    assert [number for _, number, _, _ in samples(heard[90:])] == [3, 4]
    assert host.model.unplugged


@given(st.binary(max_size=60))
def test_no_bytes_upset_it(data):
    host = board()
    host.say(data + b"\n")
    host.wait(2 * S)
    host.say(command("text"))
    host.say("text\n")
    host.wait(2 * S)
    assert host.say("nop\n").endswith(b"200 Ok\r\n")
