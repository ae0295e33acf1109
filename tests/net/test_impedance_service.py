"""The impedance check through the real service: simulated skin -> device bytes -> ring -> stream, and what may not go
wrong on the way."""

import subprocess
import sys
import time

import msgpack
import numpy as np
import pytest
from service import RefusedError, service
from test_main_path import Listener, of_kind

FLAG = 16
CHECK_S = 6.0
SKIN = ["0:E1=dry", "3=bridge", "5:E2=off"]
FAST_HZ = 4000
FAST = f"rate_hz = {FAST_HZ}\nspeed = 2\n"
"""A check takes half of the time, for what has nothing to do with time. Few samples: a busy machine keeps up."""

LIGHT = f"rate_hz = {FAST_HZ}\n"
"""Few samples in real time, for what the fourth second or so has to find at work."""

GOOD_OHM, DRY_OHM = 3398.7, 40108.3  # worked out in tests/unit/test_sim_electrodes.py
BRIDGED_OHM = 3398.7 * 300 / (2 * 3398.7 + 300)


def configuration(tmp_path, *, electrodes=(), faults=(), more=""):
    path = tmp_path / "emgd.toml"
    path.write_text(
        f"[device]\nelectrodes = {list(electrodes)!r}\nfaults = {list(faults)!r}\n{more}[stream]\nqueue_s = 60\n"
    )
    return path


def told(heard):
    return [msgpack.unpackb(payload) for _, payload in of_kind(heard, "impedance")]


def is_over(check=1):
    def over(_topic, header, payload):
        if header["kind"] != "impedance":
            return False
        body = msgpack.unpackb(payload)
        return body["check"] == check and body["state"] in ("done", "aborted")

    return over


def current_is(value):
    """The device says from which sample on its current goes so."""

    def came(_topic, header, payload):
        body = msgpack.unpackb(payload) if header["kind"] == "mark" else {}
        return (body.get("code"), body.get("value")) == ("impedance", value)

    return came


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """One check of eight channels, seen by a subscriber of everything: messages, status, how long it took."""
    path = configuration(tmp_path_factory.mktemp("skin"), electrodes=SKIN)
    with service("run", "--config", path) as running, Listener(running, "amp0/") as listener:
        heard = listener.until(lambda _t, header, _p: header["kind"] == "raw" and header["seq"] > 24_000)
        begun = time.monotonic()
        accepted = running.ask("impedance")
        heard += listener.until(is_over())
        took_s = time.monotonic() - begun
        end = told(heard)[-1]["windows"][-1]
        heard += listener.until(
            lambda _t, header, _p: header["kind"] == "filtered" and header["seq"] > sum(end[1:]) + 24_000
        )
        return heard, accepted, running.ask("status"), took_s


def test_each_electrode_is_found_as_it_is(checked):
    heard, accepted, status, took_s = checked
    assert (accepted["accepted"], accepted["check"], accepted["channels"]) == (True, 1, list(range(8)))
    final = told(heard)[-1]
    assert final["state"] == "done"
    assert took_s > CHECK_S
    states = {r["channel"]: (r["e1"]["state"], r["e2"]["state"], r["bridge"]) for r in final["results"]}
    assert states == {
        **dict.fromkeys(range(8), ("good", "good", False)),
        0: ("dry", "good", False),
        3: ("bridge", "bridge", True),
        5: ("good", "off", False),
    }
    truths = dict.fromkeys(range(8), (GOOD_OHM, GOOD_OHM))
    truths |= {0: (DRY_OHM, GOOD_OHM), 3: (BRIDGED_OHM, BRIDGED_OHM), 5: (GOOD_OHM, None)}
    for result in final["results"]:
        for electrode, truth in zip((result["e1"], result["e2"]), truths[result["channel"]], strict=True):
            if truth is None:
                assert electrode["ohm"] is None
            else:
                assert abs(electrode["ohm"] - truth) < 5 * electrode["sigma_ohm"] + 1e-3 * truth, result
    resting = final["results"][7]
    assert resting["e1"]["sigma_ohm"] < 2
    assert resting["between_ohm"] == pytest.approx(2 * GOOD_OHM, abs=10)
    assert status["impedance"]["last"] == final
    assert (status["impedance"]["offered"], status["impedance"]["state"]) == (True, "done")


def test_what_is_told_on_the_way_is_what_the_protocol_says(checked):
    heard, *_ = checked
    bodies = told(heard)
    assert [b["state"] for b in bodies] == ["idle"] + ["settling", "measuring"] * 3 + ["ending", "done"]
    assert bodies[0]["check"] == 0
    header = of_kind(heard, "impedance")[-1][0]
    windows = bodies[-1]["windows"]
    assert [(side, count) for side, _, count in windows] == [("e1", 76_800), ("e2", 76_800), ("both", 76_800)]
    assert (header["seq"], header["seq"] + header["count"]) == (windows[0][1], sum(windows[-1][1:]))


@pytest.mark.parametrize("kind", ["raw", "filtered"])
def test_no_sample_is_missing_and_the_flag_lies_exactly_on_the_samples_with_current(checked, kind):
    heard, _, status, _ = checked
    marks = [msgpack.unpackb(payload) for _, payload in of_kind(heard, "mark")]
    changes = [(m["seq"], m["value"], m["channel"]) for m in marks if m["code"] == "impedance"]
    assert [(value, channel) for _, value, channel in changes] == [(v, 65535) for v in (1, 2, 3, 0)]
    begin, end = changes[0][0], changes[-1][0]
    blocks = [header for header, _ in of_kind(heard, kind)]
    assert [b["seq"] for b in blocks] == list(range(blocks[0]["seq"], blocks[-1]["seq"] + 1, 96))
    assert blocks[0]["seq"] + 96 < begin < end < blocks[-1]["seq"]
    for block in blocks:
        carries = block["seq"] < end and block["seq"] + block["count"] > begin
        assert bool(block["flags"] & FLAG) == carries, block
        assert [bool(flags & FLAG) for flags in block["channel_flags"]] == [carries] * 8
    assert status["samples"]["missing"] == 0
    for _, first, count in told(heard)[-1]["windows"]:
        assert begin < first < first + count <= end, "measured only while it flowed"


def test_the_current_is_in_the_samples_between_the_marks_and_nowhere_else(checked):
    heard, *_ = checked
    final = told(heard)[-1]
    blocks = of_kind(heard, "raw")
    rest = {h["seq"]: np.frombuffer(p, "<i4").reshape(-1, 8)[:, 7] for h, p in blocks}
    spread = {seq: np.ptp(counts * 0.0476837158203125) for seq, counts in rest.items() if len(counts) == 96}
    begin, end = final["windows"][0][1], sum(final["windows"][-1][1:])
    assert max(abs(rest[seq]).max() for seq in rest if begin < seq < end - 96) * 0.0476837 > 150, (
        "81 µV, twice for both"
    )
    after = [value for seq, value in spread.items() if seq > end + 4800]
    assert max(after) < 40, "3 µV of noise"


def abort_by(tmp_path, act, *, faults=(), state="aborted"):
    """Begin a check, `act` once the current flows; the last message, and whether its end was marked."""
    path = configuration(tmp_path, faults=faults, more=LIGHT)
    with service("run", "--config", path) as running, Listener(running, "amp0/impedance", "amp0/mark") as listener:
        listener.until(lambda _t, header, _p: header["kind"] == "impedance")
        running.ask("impedance")
        heard = listener.until(current_is(1))
        act(running)
        if not any(is_over()(*message) for message in heard):
            heard += listener.until(is_over())
        status = running.ask("status")
        codes = [msgpack.unpackb(payload) for _, payload in of_kind(heard, "mark")]
        ended = [mark for mark in codes if mark["code"] == "impedance" and mark["value"] == 0]
        last = told(heard)[-1]
        assert (last["state"], last["results"]) == (state, [])
        assert status["impedance"]["last"] == last
        return last, ended, codes


def test_a_stimulus_in_the_stream_ends_the_current_within_a_moment(tmp_path):
    # From the fourth second on a stimulus every millisecond, whenever the check began.
    last, ended, marks = abort_by(tmp_path, lambda _: None, faults=["stimulus@4000+600000"])
    assert last["reason"] == "stimulus"
    first = next(mark for mark in marks if mark["code"] == "stimulus")
    assert last["text"].startswith("a stimulus at sample ")
    assert ended
    assert ended[0]["seq"] > first["seq"]


def test_a_client_ends_it(tmp_path):
    last, ended, _ = abort_by(tmp_path, lambda running: running.ask("impedance", action="stop"))
    assert (last["reason"], bool(ended)) == ("client", True)


def test_an_unplugged_device_ends_it(tmp_path):
    last, _, _ = abort_by(tmp_path, lambda _: None, faults=["unplug@5000"])
    assert last["reason"] == "device_lost"


def test_a_gap_in_the_window_has_it_measured_again(tmp_path):
    # The gap comes 1.6 s after the check has begun: its first window is open then. Frames are of a millisecond.
    path = configuration(tmp_path, faults=["drop@7000+50"], more=FAST)
    with service("run", "--config", path) as running, Listener(running, "amp0/impedance", "amp0/gap") as listener:
        listener.until(lambda _t, header, _p: header["kind"] == "impedance")
        while running.ask("status")["samples"]["head"] < 5.4 * FAST_HZ:
            time.sleep(0.01)
        head = running.ask("status")["samples"]["head"]
        running.ask("impedance", channels=[7])
        heard = listener.until(is_over())
        final = told(heard)[-1]
    gap = msgpack.unpackb(of_kind(heard, "gap")[0][1])
    assert final["state"] == "done"
    for _, seq, count in final["windows"]:
        assert seq >= gap["seq"] + gap["count"] or seq + count <= gap["seq"], "no window has the gap in it"
    if head < 5.9 * FAST_HZ:  # the machine did not stall: the gap fell into the first window
        assert 2 in [body["attempt"] for body in told(heard)]


def test_of_two_clients_that_ask_at_once_one_is_served_and_both_see_the_result(tmp_path):
    path = configuration(tmp_path, more=FAST)
    with service("run", "--config", path) as running, Listener(running, "amp0/impedance") as listener:
        listener.until(lambda _t, header, _p: header["kind"] == "impedance")
        assert running.ask("impedance", channels=[7])["check"] == 1
        for _ in range(5):
            with pytest.raises(RefusedError) as refused:
                running.ask("impedance")
            assert refused.value.error["code"] == "busy"
        with Listener(running, "amp0/impedance") as other:
            assert told(other.until(is_over()))[-1]["state"] == "done"
        bodies = told(listener.until(is_over()))
        assert bodies[-1]["state"] == "done"
        assert max(body["attempt"] for body in bodies) == 1, "a request that is refused disturbs nothing"
        assert running.ask("impedance", channels=[0], action="start")["check"] == 2
        assert running.ask("impedance", action="stop") == {"accepted": True}
        assert running.ask("impedance", action="stop") == {"accepted": False}


def test_what_cannot_be_checked_is_refused_with_its_reason(tmp_path):
    np.save(tmp_path / "short.npy", np.zeros((4000, 2), np.int16))
    (tmp_path / "short.json").write_text('{"rate_hz": 4000, "uv_per_count": 0.1}')
    with service("replay", tmp_path / "short.npy") as running:
        with pytest.raises(RefusedError) as refused:
            running.ask("impedance")
        assert refused.value.error["code"] == "not_offered"
        assert running.ask("status")["impedance"]["offered"] is False
    path = configuration(tmp_path)
    path.write_text(path.read_text() + "wait = true\n")
    with service("run", "--config", path) as running:
        for args, code, field in [
            ({}, "not_streaming", None),
            ({"channels": [8]}, "bad_value", "args.channels"),
            ({"channels": []}, "bad_value", "args.channels"),
            ({"action": "pause"}, "bad_value", "args.action"),
        ]:
            with pytest.raises(RefusedError) as refused:
                running.ask("impedance", **args)
            assert (refused.value.error["code"], refused.value.error["field"]) == (code, field)


def test_emgctl_ends_with_0_for_good_electrodes_and_with_1_for_others(tmp_path):
    path = configuration(tmp_path, electrodes=SKIN, more=FAST)
    with service("run", "--config", path) as running:
        command = [sys.executable, "-m", "emgd_client.emgctl", "impedance", "--runtime-dir", str(running.directory)]
        for channels, code, words in [("7", 0, "good"), ("3,7", 1, "bridge between E1 and E2")]:
            done = subprocess.run(
                [*command, "--channels", channels], capture_output=True, text=True, timeout=60, check=False
            )
            assert (done.returncode, done.stderr) == (code, "")
            assert words in done.stdout


def test_a_service_that_ends_ends_the_check():
    with service("run") as running, Listener(running, "amp0/impedance", "amp0/mark") as listener:
        listener.until(lambda _t, header, _p: header["kind"] == "impedance")
        running.ask("impedance")
        listener.until(current_is(1))
    # `service` has seen a clean exit; what the device was told is in tests/unit/test_impedance.py.
