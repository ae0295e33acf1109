"""The client library of emgd: sample streams, history and requests, blocking here and for asyncio in `emgd_client.aio`.

Pure Python on pyzmq, msgpack and numpy. Begin with docs/quickstart.md.
"""

from emgd_client.assembler import Tally
from emgd_client.client import Client, connect
from emgd_client.emergency import emergency_stop
from emgd_client.errors import (
    ClientError,
    NoAnswerError,
    NotStoppedError,
    RefusedError,
    ServiceNotRunningError,
)
from emgd_client.messages import (
    Block,
    Channel,
    Clock,
    Delivered,
    Description,
    Electrode,
    ElectrodePair,
    Gap,
    Impedance,
    Mark,
    Message,
    Pulse,
    Site,
    State,
    StimulatorState,
)
from emgd_client.session import FilterSettings, Pong
from emgd_client.stimulator import Shot
from emgd_wire.codec import WireError
from emgd_wire.kinds import ErrorCode, Flag, Kind

__all__ = [
    "Block",
    "Channel",
    "Client",
    "ClientError",
    "Clock",
    "Delivered",
    "Description",
    "Electrode",
    "ElectrodePair",
    "ErrorCode",
    "FilterSettings",
    "Flag",
    "Gap",
    "Impedance",
    "Kind",
    "Mark",
    "Message",
    "NoAnswerError",
    "NotStoppedError",
    "Pong",
    "Pulse",
    "RefusedError",
    "ServiceNotRunningError",
    "Shot",
    "Site",
    "State",
    "StimulatorState",
    "Tally",
    "WireError",
    "connect",
    "emergency_stop",
]
