"""Ten minutes of the simulated amplifier with four subscribers: is anything lost, and what does it cost?

    python benchmarks/soak.py [--seconds 600] [--channels 8] [--rate-hz 48000] [--subscribers 4] [--json]

Everything runs as shipped: the service and the simulated device in processes of their own, each subscriber a process
that knows pyzmq and msgpack only and checks that sample numbers follow each other. Exit status 1 when a sample is
missing.
"""

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import msgpack
import zmq

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SETTLE_S = 3.0
"""Start-up is not what is measured."""


def subscribe(stream: str, stop: Event, results: Any) -> None:
    """Follow `raw` and count what comes, what is missing by gaps, and what was dropped for us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.connect(stream)
    socket.subscribe(b"amp0/raw")
    samples = missing = dropped = 0
    expected = None
    latencies_us = []
    while not stop.is_set():
        if not socket.poll(100):
            continue
        _, packed, payload = socket.recv_multipart()
        now_ns = time.monotonic_ns()
        header = msgpack.unpackb(packed)
        if header["kind"] != "raw":
            continue
        if expected is not None:
            missing += header["gap_before"]
            dropped += header["seq"] - header["gap_before"] - expected
        expected = header["seq"] + header["count"]
        samples += header["count"]
        assert len(payload) == header["count"] * header["channels"] * 4
        latencies_us.append((now_ns - header["host_time_ns"]) / 1000)
    latencies_us.sort()
    results.put(
        {
            "samples": samples,
            "missing": missing,
            "dropped": dropped,
            "age_p50_us": round(latencies_us[len(latencies_us) // 2]),
            "age_p99_us": round(latencies_us[len(latencies_us) * 99 // 100]),
        }
    )


def cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def children(pid: int) -> list[int]:
    """Direct children of a process: the simulated device."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def memory(pid: int) -> dict[str, int]:
    """Resident bytes, private and shared (the touched part of the ring)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    found = {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmRSS", "RssShmem"))
    }
    return {"rss_bytes": found["VmRSS"], "ring_touched_bytes": found["RssShmem"]}


def ask_status(control: str) -> dict[str, Any]:
    """The service's own figures."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(control)
        socket.send(msgpack.packb({"v": 1, "verb": "status"}))
        result: dict[str, Any] = msgpack.unpackb(socket.recv())["result"]
        return result


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Run it; returns all figures."""
    with tempfile.TemporaryDirectory(prefix="emgd-") as home:
        config = Path(home) / "soak.toml"
        config.write_text(f"[device]\nchannels = {options.channels}\nrate_hz = {options.rate_hz}\n", encoding="ascii")
        command = [sys.executable, "-m", "emgd.main", "run", "--runtime-dir", home, "--config", str(config)]
        service = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert service.stdout is not None
        service.stdout.readline()
        try:
            return measure(options, service.pid, home)
        finally:
            service.send_signal(signal.SIGINT)
            service.wait(timeout=10)


def measure(options: argparse.Namespace, pid: int, home: str) -> dict[str, Any]:
    """Subscribe, wait, and read off what happened in between."""
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    stream, control = f"ipc://{home}/stream.sock", f"ipc://{home}/control.sock"
    readers = [
        multiprocessing.Process(target=subscribe, args=(stream, stop, results)) for _ in range(options.subscribers)
    ]
    for reader in readers:
        reader.start()
    time.sleep(SETTLE_S)
    device = children(pid)[0]
    before = {"service": cpu_s(pid), "device": cpu_s(device), "at": time.monotonic(), "memory": memory(pid)}
    while (elapsed := time.monotonic() - before["at"]) < options.seconds:
        if not options.json:
            print(f"\r{elapsed:5.0f} of {options.seconds} s", end="", file=sys.stderr, flush=True)
        time.sleep(min(1.0, options.seconds - elapsed))
    elapsed = time.monotonic() - before["at"]
    figures = {
        "seconds": round(elapsed, 1),
        "channels": options.channels,
        "rate_hz": options.rate_hz,
        "subscribers": options.subscribers,
        "service_cpu_percent": round(100 * (cpu_s(pid) - before["service"]) / elapsed, 2),
        "device_cpu_percent": round(100 * (cpu_s(device) - before["device"]) / elapsed, 2),
        "memory_at_start": before["memory"],
        "memory_at_end": memory(pid),
        "status": {key: value for key, value in ask_status(control).items() if key in ("samples", "wire", "clock")},
    }
    stop.set()
    figures["readers"] = [results.get(timeout=10) for _ in readers]
    for reader in readers:
        reader.join()
    return figures


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description="Is anything lost in ten minutes, and what does it cost?")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--channels", type=int, default=8)
    parser.add_argument("--rate-hz", type=float, default=48_000.0)
    parser.add_argument("--subscribers", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    options = parser.parse_args()
    figures = soak(options)
    lost = figures["status"]["samples"]["missing"] + sum(r["missing"] + r["dropped"] for r in figures["readers"])
    if options.json:
        print(json.dumps(figures, indent=2))
        return 1 if lost else 0
    end, start = figures["memory_at_end"], figures["memory_at_start"]
    own = [(m["rss_bytes"] - m["ring_touched_bytes"]) / 1e6 for m in (start, end)]
    ages = ", ".join(f"{r['age_p50_us']}/{r['age_p99_us']}" for r in figures["readers"])
    samples = figures["status"]["samples"]
    load = f"{options.channels} channels at {options.rate_hz:g} Hz, {options.subscribers} subscribers"
    print(f"\r{figures['seconds']} s, {load}")
    for what, value in (
        ("missing in the service", f"{samples['missing']} of {samples['head']} samples"),
        ("dropped for subscribers", sum(reader["dropped"] for reader in figures["readers"])),
        ("CPU of the service", f"{figures['service_cpu_percent']} % of one core"),
        ("CPU of the device model", f"{figures['device_cpu_percent']} %"),
        ("resident without ring", f"{own[0]:.1f} MB at the start, {own[1]:.1f} MB at the end"),
        ("ring, touched", f"{end['ring_touched_bytes'] / 1e6:.0f} MB"),
        ("age on arrival, p50/p99", f"{ages} µs; 2000 µs of it is the block itself"),
    ):
        print(f"  {what:<25}{value}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
