"""The reader that docs/protocol.md points at, run as the program it is against the small service."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from fake_service import STREAM, FakeService, sample_values

READER = Path(__file__).with_name("protocol_reader.py")


def read(directory: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(READER), "--runtime-dir", str(directory)]
    return subprocess.run(
        [*command, "--stream", STREAM, "--out", str(out)], capture_output=True, text=True, timeout=30, check=False
    )


def existing(service: FakeService) -> np.ndarray:
    return np.concatenate([sample_values(block["seq"], block["count"], 2) for block in service.blocks])


def test_reader_reassembles_a_stream_with_gaps_and_drops(tmp_path: Path) -> None:
    service = FakeService(tmp_path / "run")
    service.reply_samples = 200
    service.drop_blocks(5)
    service.gap(230)
    service.drop_blocks(2)

    def play(fake: FakeService) -> None:
        fake.send_blocks(3)
        fake.drop_blocks(4)
        fake.gap(33)
        fake.send_blocks(2)
        fake.drop_blocks(2)
        fake.gap(10)
        fake.say_state("ended")

    service.on_subscribe = play
    with service:
        done = read(service.directory, tmp_path / "x.npy")
    assert (done.returncode, done.stderr) == (0, "")
    expected = existing(service)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)
    assert done.stdout.startswith(f"samples {len(expected)}, gaps 3 (273 samples), fetched ")


def test_reader_fetches_all_of_a_stream_that_has_ended_before_it_came(tmp_path: Path) -> None:
    service = FakeService(tmp_path / "run")
    service.drop_blocks(20)
    service.say_state("ended")
    with service:
        done = read(service.directory, tmp_path / "x.npy")
    assert done.stdout == f"samples {20 * 96}, gaps 0 (0 samples), fetched {20 * 96}\n"
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), existing(service))


def test_reader_says_so_when_samples_are_gone(tmp_path: Path) -> None:
    service = FakeService(tmp_path / "run")
    service.drop_blocks(20)
    service.expire(96)
    service.say_state("ended")
    with service:
        done = read(service.directory, tmp_path / "x.npy")
    assert done.returncode == 1
    assert done.stderr == "96 samples from 0 on are no longer in the history\n"
    assert not (tmp_path / "x.npy").exists()
