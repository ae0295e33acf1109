"""A shell in the guest, for people: `scripts/test-system shell [stock|rt]`.

The service is installed and the emulated bus is there, its control socket outside: amplifier plugged in, the rest not.
"""

import sys

import image
import software
from cart import LOGS, Cart

HINTS = """
The console of the guest follows; root is logged in. Ctrl-A X ends it, and so does `poweroff`.
The service is installed once it is up: emgctl status, journalctl -fu emgd
From another terminal on this machine:
    echo "unplug EMG8-000001" | socat - UNIX-CONNECT:{control}
"""


def main():
    guest = image.folder()
    LOGS.mkdir(parents=True, exist_ok=True)
    disks = [software.installed_disk(guest), software.checkout_disk(LOGS / "checkout.ext4")]
    with Cart(sys.argv[1], guest, disks, console_shell=True) as cart:
        print(HINTS.format(control=cart.bus.control), flush=True)
        cart.machine.wait_until_up()
        cart.install()
        cart.machine.wait(None)


if __name__ == "__main__":
    main()
