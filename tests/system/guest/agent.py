"""The hand of the tests inside the guest: runs what the host asks for and tells what came of it.

A request is one line of JSON on the virtual serial port, `{"id", "command", "timeout_s"}`, and so is the answer,
`{"id", "status", "output", "errors"}`; status None = it did not end in time. Requests run side by side. The first line,
without an id, says that the agent is there. Only the standard library: the guest's own Python runs it.
"""

import json
import os
import subprocess
import threading

PORT = "/dev/virtio-ports/emgd.agent"


def carry_out(request):
    """Run a command of the shell; the answer."""
    process = subprocess.Popen(
        ["/bin/bash", "-c", request["command"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # Nothing that a command prints may stop the agent.
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=request["timeout_s"])
        status = process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        # Its children may hold the pipes open for ever.
        subprocess.run(["/usr/bin/pkill", "-KILL", "-s", str(process.pid)], check=False)
        output, errors = process.communicate()
        status = None
    return {"id": request["id"], "status": status, "output": output, "errors": errors}


def main():
    """Serve until the machine goes down."""
    lock = threading.Lock()
    # Once, for both ways: the port refuses a second open.
    port = os.open(PORT, os.O_RDWR | os.O_CLOEXEC)

    def say(answer):
        data = json.dumps(answer).encode() + b"\n"
        with lock:
            while data:
                data = data[os.write(port, data) :]

    say({"id": None})
    pending = b""
    while data := os.read(port, 65536):
        *lines, pending = (pending + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            threading.Thread(target=lambda request=request: say(carry_out(request)), daemon=True).start()


if __name__ == "__main__":
    main()
