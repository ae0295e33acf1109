"""The `emgd` command: run the service, play a recording through it, show the configuration."""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from emgd import config, logq
from emgd_drivers.api import DeviceError
from emgd_drivers.fields import FieldError
from emgd_wire.paths import runtime_dir
from emgd_wire.version import PROTOCOL, VERSION

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2

EXAMPLES: Final = """\
examples:
  emgd run                                   simulated amplifier, 8 channels at 48 kHz
  emgd run --config /etc/emgd/emgd.toml
  emgd replay needle.hea --speed 10 --loop   a recording, ten times as fast, for ever
  emgd config --config emgd.toml             check a file and print every effective value
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 well, 1 failed (one line on standard error says why), 2 usage."""
    options = _parser().parse_args(argv)
    if options.command == "completion":
        return _complete(options.shell)
    try:
        loaded = config.load(options.config, _overrides(options))
        if options.command == "config":
            print(json.dumps(config.effective(loaded), indent=2))
            return 0
        return _serve(loaded)
    except (config.ConfigError, DeviceError, FieldError) as error:
        print(f"emgd: {error}", file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "emgd",
        description="Host service of a clinical EMG cart: amplifier in, timed and filtered sample streams out.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"emgd {VERSION}, protocol {PROTOCOL}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", type=Path, metavar="FILE", help="configuration (TOML); default: built-in values")
    common.add_argument("--runtime-dir", type=Path, metavar="DIR", help="where the sockets lie")
    common.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="default: info")
    commands.add_parser("run", parents=[common], help="run the service", description="Run the service until Ctrl-C.")
    replay = commands.add_parser(
        "replay",
        parents=[common],
        help="play a recording as if an amplifier sent it",
        description="Run the service with a recording as its amplifier (docs/replay.md lists the formats).",
    )
    replay.add_argument("recording", type=Path, metavar="FILE", help="WFDB, EDF/BDF, WAV, CSV, NPY or NPZ")
    replay.add_argument(
        "--speed", type=_speed, default=1.0, metavar="N|max", help="times real time, or max (default: 1)"
    )
    replay.add_argument("--loop", action="store_true", help="begin again at the end; sample numbers run on")
    replay.add_argument(
        "--sidecar", type=Path, metavar="JSON", help="rate, unit and labels that the file does not tell"
    )
    replay.add_argument("--wait", action="store_true", help="begin when the first subscriber is there")
    replay.add_argument(
        "--fault", action="append", default=None, metavar="FAULT", help="put a fault on the wire, such as drop@100"
    )
    commands.add_parser(
        "config",
        parents=[common],
        help="check the configuration and print it",
        description="Print every effective value as JSON.",
    )
    completion = commands.add_parser("completion", help="print a completion script for a shell (needs shtab)")
    completion.add_argument("shell", choices=["bash", "zsh"])
    return parser


def _complete(shell: str) -> int:
    try:
        import shtab  # noqa: PLC0415 - optional, and only needed here
    except ImportError:
        print("emgd: completion scripts are made by shtab: pip install 'emgd[completion]'", file=sys.stderr)
        return EXIT_FAILED
    print(shtab.complete(_parser(), shell))
    return 0


def _speed(text: str) -> float:
    if text == "max":
        return 0.0
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0 < speed <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number up to 1000 nor max")
    return speed


def _overrides(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the command line says, in the shape of the configuration."""
    service = {"runtime_dir": options.runtime_dir, "log_level": options.log_level}
    found: dict[str, dict[str, Any]] = {
        "service": {key: str(value) for key, value in service.items() if value is not None}
    }
    if options.command == "replay":
        device = {"driver": "replay", "recording": str(options.recording), "speed": options.speed, "loop": options.loop}
        if options.sidecar:
            device["sidecar"] = str(options.sidecar)
        if options.fault:
            device["faults"] = options.fault
        found["device"] = device
        if options.wait:
            found["stream"] = {"wait": True}
    return found


def _serve(loaded: config.Config) -> int:
    from emgd.service import Service, ServiceError  # noqa: PLC0415 - ZeroMQ and NumPy are not needed to say `--help`

    listener = logq.start(loaded.service["log_level"])
    try:
        service = Service(loaded)
        service.start()
        try:
            service.run(lambda: _say_ready(service.directory, service.device_map()))
        finally:
            service.close()
    except (ServiceError, ValueError) as error:
        print(f"emgd: {error}", file=sys.stderr)
        return EXIT_FAILED
    finally:
        listener.stop()
    return 0


def _say_ready(directory: Path, device: dict[str, Any]) -> None:
    print(
        f"emgd {VERSION}: {_device_line(device)}\n"
        f"  streams  ipc://{directory}/stream.sock\n"
        f"  control  ipc://{directory}/control.sock\n"
        f"Next, in another terminal:  {_emgctl()} watch{_where(directory)}\n"
        "Ctrl-C ends the service.",
        flush=True,
    )


def _device_line(device: dict[str, Any]) -> str:
    if device["channels"] is None:
        return f"{device['driver']} is {device['state']}: {device['text']}"
    speed = "as fast as possible" if device["speed"] == 0 else f"{device['speed']:g} x real time"
    return (
        f"{device['serial']} ({device['driver']}), {device['channels']} channels at {device['rate_hz']:g} Hz, {speed}"
    )


def _emgctl() -> str:
    """How to call emgctl from here: by its bare name where the shell finds it, else by its path."""
    beside = Path(sys.executable).parent / "emgctl"
    if shutil.which("emgctl") or not beside.exists():
        return "emgctl"
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def _where(directory: Path) -> str:
    """The option that a client needs to find us; none where it looks by itself."""
    return "" if directory == runtime_dir() else f" --runtime-dir {directory}"


if __name__ == "__main__":
    sys.exit(main())
