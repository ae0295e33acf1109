"""The service as shipped, with a thread beside it that makes trouble when a test says so.

`failing_daemon.py SOCKET DESIGNS ARGS`: lines come to the datagram socket. `spin S`: a thread runs Python for S
seconds. `hold S`: one call in C keeps the interpreter lock for S seconds, so that no other Python runs. `step S`: the
wall clock jumps by S seconds. DESIGNS is the folder of remembered_designs.py.
"""

import ctypes
import socket
import sys
import threading
import time
from pathlib import Path

offset_s = 0.0
wall_s, wall_ns = time.time, time.time_ns
# Before the service is imported: whoever reads the wall clock, even by a name of his own, gets this one.
time.time = lambda: wall_s() + offset_s
time.time_ns = lambda: wall_ns() + int(offset_s * 1e9)

libc = ctypes.PyDLL(None)
"""PyDLL does not let go of the interpreter lock while it calls."""


def spin(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def hear(path):
    global offset_s  # noqa: PLW0603 - it is what the two functions above read
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
        door.bind(path)
        while True:
            word, seconds = door.recv(64).decode().split()
            match word:
                case "spin":
                    threading.Thread(target=spin, args=(float(seconds),), daemon=True).start()
                case "hold":
                    libc.usleep(int(float(seconds) * 1e6))
                case "step":
                    offset_s += float(seconds)


if __name__ == "__main__":
    threading.Thread(target=hear, args=(sys.argv[1],), daemon=True).start()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from emgd import filter_design
    from emgd.main import main
    from remembered_designs import remembering

    filter_design.design_elsewhere = remembering(sys.argv[2])
    sys.exit(main(sys.argv[3:]))
