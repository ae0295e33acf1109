"""Control requests of an emg8 over any carrier: what a refusal means is asked for and put into words."""

from abc import abstractmethod
from typing import Final

from emgd_drivers.api import DeviceRefusedError, Transport
from emgd_drivers.emg8.protocol import ERROR_TEXTS, STATUS, Direction, LastError, Request, Setup, Status, request_name

STATUS_REQUEST: Final = Setup(Direction.IN, Request.GET_STATUS, 0, 0, STATUS.size)


class Stall(Exception):  # noqa: N818 - USB's own word for a refused request
    """The device refuses a control request; GET_STATUS tells why."""


class Emg8Exchange(Transport):
    """Base of the transports: a carrier says how one request is answered, the rest is here."""

    def control_in(self, request: int, value: int, index: int, length: int) -> bytes:
        """Vendor request, device to host: at most `length` bytes."""
        return self._request(Setup(Direction.IN, request, value, index, length), b"")

    def control_out(self, request: int, value: int, index: int, data: bytes = b"") -> None:
        """Vendor request, host to device."""
        self._request(Setup(Direction.OUT, request, value, index, len(data)), data)

    def _request(self, setup: Setup, data: bytes) -> bytes:
        try:
            return self._exchange(setup, data)
        except Stall:
            text = f"the device refused {request_name(setup.request)}: {self._reason()}"
            raise DeviceRefusedError(text) from None

    def _reason(self) -> str:
        """Why the device refused what it refused last."""
        try:
            status = Status.unpack(self._exchange(STATUS_REQUEST, b""))
        except Stall:
            return ERROR_TEXTS[LastError.NONE]
        return ERROR_TEXTS[status.last_error]

    @abstractmethod
    def _exchange(self, setup: Setup, data: bytes) -> bytes:
        """One control request and its answer. Raises Stall, or DeviceLostError."""
