"""An emulated bus in a process of its own, and a USB/IP client that was written after the kernel's document alone."""

import contextlib
import json
import socket
import struct
import subprocess
import sys
import time

PATIENCE_S = 20
"""How long a busy machine may take for what usually takes milliseconds."""


class BusProcess:
    """`python -m emgd_drivers.sim.bus` with sockets in `folder`."""

    def __init__(self, folder, *devices, arguments=()):
        self.control_path = folder / "control.sock"
        self.usbip_path = folder / "usbip.sock"
        command = [sys.executable, "-m", "emgd_drivers.sim.bus", "--control", str(self.control_path)]
        command += ["--usbip-unix", str(self.usbip_path), *arguments]
        for device in devices:
            command += ["--device", device]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        self.ready = self.process.stdout.readline()
        assert self.ready.startswith("ready "), self.process.stderr.read()

    def say(self, line):
        """One line to the control socket, and its answer."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(PATIENCE_S)
            control.connect(str(self.control_path))
            control.sendall(f"{line}\n".encode())
            answer = b""
            while not answer.endswith(b"\n"):
                answer += control.recv(65536)
        return answer.decode().rstrip("\n")

    def status(self, name="1-1"):
        answer = self.say(f"status {name}")
        assert answer.startswith("ok {"), answer
        return json.loads(answer.removeprefix("ok "))

    def until(self, wanted, name="1-1"):
        """The first status that is as wanted."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not wanted(status := self.status(name)):
            assert time.monotonic() < deadline_s, status
            time.sleep(0.005)
        return status

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            _, errors = self.process.communicate(timeout=PATIENCE_S)
        finally:
            self.process.kill()
        return errors


def connect(address):
    """A socket to a path, or to a host and port."""
    found = socket.socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
    found.settimeout(PATIENCE_S)
    found.connect(address if isinstance(address, tuple) else str(address))
    return found


class Clock:
    """Time that goes only when told to."""

    def __init__(self, now_ns=0):
        self.now_ns = now_ns


class Wire:
    """In place of a socket: a conversation within this process, on virtual time. Each byte comes alone if `cut`."""

    def __init__(self, conversation, clock, *, cut=False):
        self.conversation = conversation
        self.clock = clock
        self.unread = b""
        self._cut = cut

    def sendall(self, data):
        for part in [data[at : at + 1] for at in range(len(data))] if self._cut else [data]:
            self.conversation.receive(part, self.clock.now_ns)

    def recv(self, count):
        self.unread += self.conversation.output(self.clock.now_ns)
        if not self.unread and not self.conversation.ended:
            raise BlockingIOError("nothing was said")
        data, self.unread = self.unread[:count], self.unread[count:]
        return data

    def close(self):
        self.conversation.leave(self.clock.now_ns)


class UsbIpError(Exception):
    """A request ended with this error number."""

    def __init__(self, errno, data=b""):
        super().__init__(errno)
        self.errno = errno
        self.data = data


class Peer:
    """The other end of a conversation, over a Wire or a socket."""

    def __init__(self, wire):
        self.socket = wire

    def exactly(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise EOFError(data)
            data += more
        return data

    def until_quiet(self, take):
        """What `take` brings, as long as there is something."""
        found = []
        with contextlib.suppress(BlockingIOError, EOFError):
            while True:
                found.append(take())
        return found


class UsbIpClient(Peer):
    """A USB/IP client that waits for each answer in turn, or keeps requests in flight with `submit` and `reap`."""

    def __init__(self, wire):
        super().__init__(wire)
        self.device_id = 0
        self.seq = 0
        self.directions = {}

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def everything(self):
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while more := self.socket.recv(65536):
                data += more
        return data

    def list(self):
        """The answer to OP_REQ_DEVLIST, all of it."""
        self.socket.sendall(bytes.fromhex("0111 8005 00000000"))
        return self.everything()

    def attach(self, bus_id="1-1"):
        """OP_REQ_IMPORT; the status and, when that is 0, the 312 bytes of the device."""
        self.socket.sendall(bytes.fromhex("0111 8003 00000000") + bus_id.encode().ljust(32, b"\0"))
        version, code, status = struct.unpack(">HHI", self.exactly(8))
        assert (version, code) == (0x0111, 0x0003)
        if status:
            assert self.everything() == b""
            return status, b""
        record = self.exactly(312)
        bus, number = struct.unpack_from(">II", record, 288)
        self.device_id = bus << 16 | number
        return 0, record

    def submit(self, endpoint, length=0, *, data=None, setup=bytes(8)):
        """Send USBIP_CMD_SUBMIT; its number."""
        self.socket.sendall(self.submit_bytes(endpoint, length, data=data, setup=setup))
        return self.seq

    def submit_bytes(self, endpoint, length=0, *, data=None, setup=bytes(8)):
        self.seq += 1
        is_in = data is None
        self.directions[self.seq] = is_in
        count = length if is_in else len(data)
        head = struct.pack(">5I", 1, self.seq, self.device_id, int(is_in), endpoint)
        return head + struct.pack(">Iiiii", 0, count, 0, -1, 0) + setup + (data or b"")

    def unlink(self, victim):
        """Send USBIP_CMD_UNLINK; its number."""
        self.seq += 1
        self.socket.sendall(struct.pack(">6I24x", 2, self.seq, self.device_id, 0, 0, victim))
        return self.seq

    def pending(self):
        """All answers that are there now; for a wire."""
        return self.until_quiet(self.reap)

    def reap(self):
        """The next answer: (command, number, status, data)."""
        command, seq, device_id, direction, endpoint, status, count = struct.unpack_from(
            ">5Iii", head := self.exactly(48)
        )
        assert (device_id, direction, endpoint) == (0, 0, 0)
        if command == 4:
            assert head[24:] == bytes(24)
            return command, seq, status, b""
        assert command == 3
        assert head[28:] == bytes(20)
        return command, seq, status, self.exactly(count) if self.directions.pop(seq) else count

    def rest(self):
        """All answers until the connection ends."""
        answers = []
        with contextlib.suppress(EOFError, ConnectionResetError):
            while True:
                answers.append(self.reap())
        return answers

    def answer(self, seq):
        """The answer to one request, which must come next."""
        command, found, status, data = self.reap()
        assert (command, found) == (3, seq)
        if status:
            raise UsbIpError(-status, data)
        return data

    def control_in(self, request_type, request, value=0, index=0, length=64):
        setup = struct.pack("<BBHHH", request_type, request, value, index, length)
        return self.answer(self.submit(0, length, setup=setup))

    def control_out(self, request_type, request, value=0, index=0, data=b""):
        setup = struct.pack("<BBHHH", request_type, request, value, index, len(data))
        return self.answer(self.submit(0, data=data, setup=setup))

    def bulk_in(self, endpoint=1, length=16384):
        return self.answer(self.submit(endpoint, length))


class RedirClient(Peer):
    """A usbredir guest, as qemu is one, written after the protocol's document. `capabilities` are its hello's bits."""

    ALL = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6

    def __init__(self, wire, *, capabilities=ALL):
        super().__init__(wire)
        self.capabilities = capabilities
        self.wide_ids = False
        self.next_id = 0

    def has(self, bit):
        return bool(self.capabilities & 1 << bit)

    def send(self, kind, body=b"", packet_id=None):
        """One packet; its id."""
        if packet_id is None:
            self.next_id += 1
            packet_id = self.next_id
        self.socket.sendall(struct.pack("<IIQ" if self.wide_ids else "<III", kind, len(body), packet_id) + body)
        return packet_id

    def packet(self):
        """The next packet: (type, id, body)."""
        kind, length, packet_id = struct.unpack(
            "<IIQ" if self.wide_ids else "<III", self.exactly(16 if self.wide_ids else 12)
        )
        return kind, packet_id, self.exactly(length)

    def pending(self):
        """All packets that are there now; for a wire."""
        return self.until_quiet(self.packet)

    def greet(self):
        """Hello both ways; what the device says of itself, as bodies of ep_info, interface_info, device_connect."""
        self.send(0, b"guest".ljust(64, b"\0") + struct.pack("<I", self.capabilities), 0)
        kind, packet_id, body = self.packet()
        assert (kind, packet_id) == (0, 0)
        (offered,) = struct.unpack_from("<I", body, 64)
        assert offered == self.ALL
        self.wide_ids = self.has(5)
        told = [self.packet() for _ in range(3)]
        assert [(kind, packet_id) for kind, packet_id, _ in told] == [(5, 0), (4, 0), (1, 0)]
        return [body for _, _, body in told]

    def control(self, request_type, request, value=0, index=0, length=0, data=b""):
        """Send a control packet; its id."""
        length = length or len(data)
        endpoint = request_type & 0x80
        return self.send(100, struct.pack("<BBBBHHH", endpoint, request, request_type, 0, value, index, length) + data)

    def bulk(self, endpoint, length=0, data=b""):
        """Send a bulk packet; its id."""
        length = length or len(data)
        long = struct.pack("<H", length >> 16) if self.has(6) else b""
        return self.send(101, struct.pack("<BBHI", endpoint, 0, length & 0xFFFF, 0) + long + data)

    def unpack_bulk(self, body):
        """(endpoint, status, length, data) of a bulk packet."""
        endpoint, status, length, stream = struct.unpack_from("<BBHI", body)
        assert stream == 0
        if self.has(6):
            length |= struct.unpack_from("<H", body, 8)[0] << 16
        return endpoint, status, length, body[10 if self.has(6) else 8 :]
