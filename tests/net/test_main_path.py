"""The main path, whole: recording -> device bytes -> service process -> ZeroMQ -> a client that knows only the
protocol."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq
from service import RefusedError, service

READER = Path(__file__).parent / "protocol_reader.py"
SLOW_CLIENT = Path(__file__).parent / "slow_client.py"
UNLIKE = {"session", "host_time_ns"}  # the only header fields in which two replays may differ


def reassembled(running, out, stream="amp0/raw"):
    """What the stranger's reader makes of the whole stream."""
    command = [
        sys.executable,
        str(READER),
        "--runtime-dir",
        str(running.directory),
        "--stream",
        stream,
        "--out",
        str(out),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(out), done.stdout


def counts_of(recordings, name):
    if name == "emg_healthy":
        return recordings / "emgdb/emg_healthy.hea", np.fromfile(recordings / "emgdb/emg_healthy.dat", "<i2")[:, None]
    path = recordings / "hdsemg/otb_vastus_lateralis_12s_24s.npz"
    counts = np.load(path)["emg_counts"]
    return path, counts if counts.shape[0] > counts.shape[1] else counts.T


def play_and_compare(recordings, tmp_path, name, speed):
    path, counts = counts_of(recordings, name)
    sidecar = []
    if name == "hdsemg":  # the file holds force and motor units too
        (tmp_path / "hdsemg.json").write_text('{"key": "emg_counts"}')
        sidecar = ["--sidecar", tmp_path / "hdsemg.json"]
    with service("replay", path, "--speed", speed, *sidecar) as running:
        samples, told = reassembled(running, tmp_path / f"{name}-{speed}.npy")
    assert samples.dtype == np.int32
    assert samples.shape == counts.shape
    assert (samples == counts).all()
    assert "gaps 0" in told


@pytest.mark.parametrize("name", ["emg_healthy", "hdsemg"])
def test_a_recording_as_fast_as_possible_arrives_count_by_count(recordings, tmp_path, name):
    play_and_compare(recordings, tmp_path, name, "max")


def test_recordings_in_real_time_arrive_count_by_count(recordings, tmp_path):
    # 13 s each, so side by side.
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(play_and_compare, recordings, tmp_path, n, "1") for n in ("emg_healthy", "hdsemg")]:
            done.result()


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A recording of one second, three channels at 4 kHz, whose counts tell which they are."""
    counts = (np.arange(4000)[:, None] * 5 + np.array([0, 1, 2])).astype(np.int16)
    path = tmp_path_factory.mktemp("short") / "short.npy"
    np.save(path, counts)
    path.with_suffix(".json").write_text(json.dumps({"rate_hz": 4000, "uv_per_count": 0.1}))
    return path, counts


@pytest.fixture(scope="module")
def shared():
    """One service on the simulated amplifier, for tests that leave it as it was."""
    with service("run") as running:
        yield running


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """A configuration with queues so deep that a test's subscriber loses nothing."""
    path = tmp_path_factory.mktemp("roomy") / "roomy.toml"
    path.write_text("[stream]\nqueue_s = 60\n")
    return path


class Listener:
    """A plain subscriber that keeps all it hears."""

    def __init__(self, running, *topics):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.SUB)
        self.socket.rcvhwm = 0
        self.socket.linger = 0
        self.socket.connect(running.stream)
        for topic in topics:
            self.socket.subscribe(topic)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.context.term()

    def until(self, enough, timeout_s=20):
        """Messages as (topic, header, payload) until one is `enough`."""
        heard, give_up = [], time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            if self.socket.poll(100):
                topic, header, payload = self.socket.recv_multipart()
                heard.append((topic.decode(), msgpack.unpackb(header), payload))
                if enough(*heard[-1]):
                    return heard
        raise AssertionError(f"not heard within {timeout_s} s; last: {heard[-3:]}")

    def until_ended(self):
        """All messages of a recording, also those that were under way when it ended."""
        heard = self.until(is_state("ended"))
        while self.socket.poll(300):
            topic, header, payload = self.socket.recv_multipart()
            heard.append((topic.decode(), msgpack.unpackb(header), payload))
        return heard


def is_state(state):
    return lambda topic, _header, payload: topic == "amp0/state" and msgpack.unpackb(payload)["state"] == state


def of_kind(heard, kind):
    return [(header, payload) for topic, header, payload in heard if header["kind"] == kind]


@pytest.mark.requirement("REQ-096")
def test_two_replays_publish_the_same_bytes(recordings, roomy):
    def play():
        path = recordings / "emgdb/emg_healthy.hea"
        faults = [
            "--fault",
            "drop@300",
            "--fault",
            "corrupt@700:60",
            "--fault",
            "electrode@900:0",
            "--fault",
            "jitter=0..0.1ms",
        ]
        topics = ["amp0/raw", "amp0/filtered", "amp0/gap", "amp0/mark", "amp0/state"]
        with (
            service("replay", path, "--speed", "max", "--wait", "--config", roomy, *faults) as running,
            Listener(running, *topics) as listener,
        ):
            return listener.until_ended()

    once, again = play(), play()
    for kind in ("raw", "filtered", "gap", "mark"):
        first, second = of_kind(once, kind), of_kind(again, kind)
        assert len(first) == len(second) > 0, kind
        for (header_a, payload_a), (header_b, payload_b) in zip(first, second, strict=True):
            assert payload_a == payload_b
            assert set(header_a) == set(header_b)
            assert {k: v for k, v in header_a.items() if k not in UNLIKE} == {
                k: v for k, v in header_b.items() if k not in UNLIKE
            }
    blocks = [header for header, _ in of_kind(once, "raw")]
    assert sum(b["count"] + b["gap_before"] for b in blocks) == 50_860, (
        "nothing may be dropped, or this compares too little"
    )


FAULTS = {
    # frames of a 4 kHz recording hold 4 samples
    "drop@10": [(40, 4, ["lost"])],
    "drop@10+3": [(40, 12, ["lost"])],
    "repeat@10": [],
    "truncate@10:20": [(40, 4, ["truncated"])],
    "truncate@10:60": [(40, 4, ["truncated"])],
    "corrupt@10:5": [(40, 4, ["corrupt"])],
    "corrupt@10:50": [(40, 4, ["corrupt"])],
    "stall@10:100ms": [],
    "wrap": [],
    "drop@0": [(0, 4, ["lost"])],
    "drop@999": [(3996, 4, ["lost"])],
    "drop@999+2": [(3996, 4, ["lost"])],  # the END frame too
}


@pytest.fixture(scope="module")
def played(short, roomy):
    """For each fault what is heard of the short recording, and the status after it, as a future.

    A service takes seconds to start and end, much of which it waits: two at a time.
    """

    def play(fault):
        with service("replay", short[0], "--speed", "4", "--wait", "--config", roomy, "--fault", fault) as running:
            with Listener(running, "amp0/") as listener:
                heard = listener.until_ended()
            return heard, running.ask("status")

    with ThreadPoolExecutor(2) as pool:
        yield {fault: pool.submit(play, fault) for fault in FAULTS}


@pytest.mark.requirement("REQ-090")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_on_the_wire_is_published_with_range_and_cause(short, played, fault):
    _, counts = short
    gaps = FAULTS[fault]
    heard, status = played[fault].result()
    told = [msgpack.unpackb(payload) for _, payload in of_kind(heard, "gap")]
    assert [(gap["seq"], gap["count"], gap["causes"]) for gap in told] == gaps
    missing = {seq for first, count, _ in gaps for seq in range(first, first + count)}
    rows = {}
    for header, payload in of_kind(heard, "raw"):
        block = np.frombuffer(payload, "<i4").reshape(header["count"], header["channels"])
        for offset, row in enumerate(block):
            assert header["seq"] + offset not in rows, "twice"
            rows[header["seq"] + offset] = row
    assert sorted(rows) == [seq for seq in range(4000) if seq not in missing]
    assert all((row == counts[seq]).all() for seq, row in rows.items())
    assert status["samples"]["missing"] == len(missing)
    assert status["device"]["state"] == "ended"


def test_a_device_that_says_nothing_is_silent_and_not_ended(short, roomy):
    path, _ = short
    with service("replay", path, "--wait", "--config", roomy, "--fault", "stall@100:30s") as running:
        with Listener(running, "amp0/") as listener:
            listener.until(is_state("silent"))
        assert running.ask("status")["device"]["state"] == "silent"


def test_unplugging_is_said_at_once_and_the_history_stays(short, roomy):
    path, counts = short
    with service("replay", path, "--wait", "--config", roomy, "--fault", "unplug@500") as running:
        with Listener(running, "amp0/") as listener:
            heard = listener.until(is_state("lost"))
        result, payload = running.ask("history", stream="amp0/raw", seq=0, count=4000)
        assert result["newest"] == 2000
        assert (np.frombuffer(payload, "<i4").reshape(-1, 3) == counts[:2000]).all()
        said = msgpack.unpackb(of_kind(heard, "state")[-1][1])["text"]
        assert "REPLAY-short" in said or "gone" in said


@pytest.mark.requirement("REQ-095")
def test_a_late_joiner_gets_description_and_state_at_once(short):
    path, _ = short
    with service("replay", path, "--speed", "max") as running:
        time.sleep(1.2)
        with Listener(running, "amp0/raw", "amp0/state") as listener:
            heard = listener.until(is_state("ended"), timeout_s=2)
        described = msgpack.unpackb(of_kind(heard, "description")[0][1])
        assert described["stream"] == "amp0/raw"
        assert described["rate_hz"] == 4000
        assert described["speed"] == 0
        assert [channel["uv_per_count"] for channel in described["channels"]] == [0.1] * 3
        assert described == running.ask("streams")["streams"][0]


def test_the_end_is_told_again_to_those_who_lost_it(short):
    with service("replay", short[0], "--speed", "max") as running, Listener(running, "amp0/state") as listener:
        heard = listener.until(is_state("ended"))
        heard += listener.until(is_state("ended"))
    ends = [header["seq"] for _, header, payload in heard if b"ended" in payload]
    assert ends == [4000, 4000]


def test_looping_goes_on_counting(short, roomy):
    path, counts = short
    with (
        service("replay", path, "--speed", "10", "--loop", "--wait", "--config", roomy) as running,
        Listener(running, "amp0/raw") as listener,
    ):
        heard = listener.until(lambda _t, header, _p: header["kind"] == "raw" and header["seq"] >= 9000)
    for header, payload in of_kind(heard, "raw"):
        wanted = counts[np.arange(header["seq"], header["seq"] + header["count"]) % 4000]
        assert (np.frombuffer(payload, "<i4").reshape(-1, 3) == wanted).all()


@pytest.mark.requirement("REQ-093")
def test_a_stopped_subscriber_harms_nobody_and_gets_everything_back(tmp_path):
    # A short queue overflows soon. The one who keeps reading gets along with it: his own holds all.
    path = tmp_path / "short_queue.toml"
    path.write_text("[stream]\nqueue_s = 1\n")
    with service("run", "--config", path) as running, Listener(running, "amp0/raw") as listener:
        listener.until(lambda _t, header, _p: header["kind"] == "raw")
        before = running.ask("status")
        command = [sys.executable, str(SLOW_CLIENT), str(running.directory)]
        slow = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert slow.stdout.readline().strip() == "receiving"
        slow.send_signal(signal.SIGSTOP)
        heard = listener.until(lambda _t, header, _p: header["seq"] > before["samples"]["head"] + 7 * 48_000)
        while_stopped = running.ask("status")
        slow.send_signal(signal.SIGCONT)
        said = json.loads(slow.stdout.readline())
        blocks = [h for h, _ in of_kind(heard, "raw")]
        assert [b["seq"] for b in blocks] == list(range(blocks[0]["seq"], blocks[-1]["seq"] + 1, 96)), (
            "others lose nothing"
        )
        assert said["dropped"] > 48_000, "it learns what it lost"
        assert said["backfilled"] == said["dropped"], "and fetches all of it"
        assert said["in_order"]
        assert said["exact"]
        ring = before["memory"]["ring_bytes"]
        assert while_stopped["memory"]["rss_bytes"] < ring + 200e6, "memory stays bounded"
        shown = next(client for client in running.ask("status")["clients"] if client["name"] == "slow")
        assert shown["streams"]["amp0/raw"]["dropped"] == said["dropped"]
        slow.communicate("\n", timeout=20)
        assert slow.returncode == 0


def test_a_service_that_stood_still_says_exactly_what_it_missed():
    with service("run") as running, Listener(running, "amp0/state") as listener:
        time.sleep(0.5)
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(6.5)  # longer than the device waits for a sign of life
        running.process.send_signal(signal.SIGCONT)
        heard = listener.until(is_state("stopped"))
        said = msgpack.unpackb(heard[-1][2])["text"]
        assert "it had not heard of this machine for 5 s" in said
        samples = running.ask("status")["samples"]
        assert samples["missing"] == samples["causes"]["overflow"] > 3 * 48_000
        assert samples["head"] == heard[-1][1]["seq"]
        result = running.ask("history", stream="amp0/raw", seq=0, count=samples["head"])[0]
        told = sum(count for _, count, *_ in result["blocks"]) + sum(count for _, count, _ in result["gaps"])
        assert told == result["count"]


def test_a_topic_that_nobody_wants_is_not_sent():
    with service("run") as running:
        time.sleep(0.5)
        assert running.ask("status")["publisher"]["blocks"] == 0


def test_the_filter_can_be_changed_while_samples_flow(shared):
    with Listener(shared, "amp0/filtered") as listener:
        listener.until(lambda _t, header, _p: header["kind"] == "filtered")
        result = shared.ask("filter", stream="amp0/filtered", channels=[1, 2], preset="surface", notch_hz=50)
        changed = lambda _t, h, p: h["kind"] == "description" and b"surface" in p  # noqa: E731 - a predicate, used once
        heard = listener.until(changed)
        heard += listener.until(lambda _t, header, _p: header["seq"] > result["from_seq"])
    assert result["channels"][1]["preset"] == "surface"
    assert result["channels"][0]["preset"] == "off"
    settling = {h["seq"]: h["channel_flags"] for h, _ in of_kind(heard, "filtered")}
    assert settling[max(settling)][1] & 4
    with pytest.raises(RefusedError) as refused:
        shared.ask("filter", stream="amp0/filtered", low_pass_hz=30_000)
    assert refused.value.error["code"] == "bad_value"
    assert refused.value.error["field"] == "args.low_pass_hz"
    with pytest.raises(RefusedError) as refused:
        shared.ask("filter", stream="amp0/filtered", channels=[8], preset="off")
    assert refused.value.error["allowed"] == "0 to 7"


def test_nonsense_on_the_control_socket_disturbs_nobody(shared):
    before = shared.ask("status")["control"]["errors"]
    with Listener(shared, "amp0/raw") as listener, zmq.Context() as context:
        heard = listener.until(lambda _t, header, _p: header["kind"] == "raw")
        first = heard[-1][1]["seq"]
        nonsense = [
            [os.urandom(50)],
            [b""],
            [b"", b"", b""],
            [b"x"] * 20,
            [msgpack.packb({"v": 9})],
            [b"\x91" * 9999],
        ]
        with context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(shared.control)
            for frames in nonsense * 50:
                socket.send_multipart(frames)
            for _ in range(len(nonsense) * 50):
                assert socket.poll(5000), "every message gets a reply"
                assert msgpack.unpackb(socket.recv_multipart()[-1])["ok"] is False
        heard = listener.until(lambda _t, header, _p: header["seq"] >= first + 48_000)
    blocks = [h for h, _ in of_kind(heard, "raw")]
    assert all(b["gap_before"] == 0 for b in blocks)
    assert [b["seq"] for b in blocks] == list(range(blocks[0]["seq"], blocks[-1]["seq"] + 1, 96))
    errors = shared.ask("status")["control"]["errors"]
    assert errors == before | {"bad_message": 250, "bad_version": 50}


def test_a_second_service_is_refused_and_the_first_goes_on(shared):
    second = [sys.executable, "-m", "emgd.main", "run", "--runtime-dir", str(shared.directory)]
    done = subprocess.run(second, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"another service runs there (process {shared.process.pid})" in done.stderr
    assert shared.ask("ping")["host_time_ns"] > 0


@pytest.mark.requirement("REQ-053")
def test_sockets_are_open_to_owner_and_group_only(shared):
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in shared.directory.glob("*.sock")}
    assert modes == {"stream.sock": "0o660", "control.sock": "0o660"}


def test_more_subscriptions_than_the_publisher_remembers_are_served_all_the_same():
    # A service of its own: from then on it sends whether anybody listens or not.
    with service("run") as running, Listener(running, *[f"nothing/{number}" for number in range(300)]) as listener:
        listener.socket.subscribe("amp0/raw")
        assert listener.until(lambda _t, header, _p: header["kind"] == "raw")


def test_leaving_ends_the_sending(shared):
    with Listener(shared, "amp0/raw") as listener:
        listener.until(lambda _t, header, _p: header["kind"] == "raw")
    time.sleep(0.3)
    blocks = shared.ask("status")["publisher"]["blocks"]
    time.sleep(0.3)
    assert shared.ask("status")["publisher"]["blocks"] == blocks > 0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.symlink_to(d.rename(d.parent / "real")), "is a symbolic link"),
        (lambda d: d.chmod(0o777), "anybody may write there"),
    ],
)
def test_a_runtime_directory_that_cannot_be_trusted_is_refused(tmp_path, spoil, message):
    directory = tmp_path / "run"
    directory.mkdir()
    spoil(directory)
    command = [sys.executable, "-m", "emgd.main", "run", "--runtime-dir", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
