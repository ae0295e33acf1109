"""The end of a simulated device's process, for those who started it."""

import subprocess
from typing import Any


def end(process: subprocess.Popen[Any], timeout_s: float) -> None:
    """Close its standard input, which tells it to end; kill it when it does not. Harmless when called again."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
