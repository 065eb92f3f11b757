"""What the clients of one run did and saw. Threads only append, so no lock is needed; `checker` judges the result.

A message is published once, whatever becomes of it, so that its number stands for one message in the broker. Times are
`time.monotonic()` of the one process that all clients run in.
"""

import itertools
import struct
import time
import zlib
from dataclasses import dataclass, field

_HEAD = struct.Struct(">IQI")  # publisher, number, CRC of all the rest


def make_body(publisher, number, size):
    """The body of a message, at least as long as its head."""
    filler = struct.pack(">IQ", publisher, number) * (size // 12 + 1)
    return _HEAD.pack(publisher, number, zlib.crc32(filler)) + filler


def read_body(body):
    """(publisher, number), or None when the body is none that `make_body` made."""
    if len(body) < _HEAD.size:
        return None
    publisher, number, crc = _HEAD.unpack_from(body)
    filler = body[_HEAD.size :]
    honest = filler == struct.pack(">IQ", publisher, number) * (len(filler) // 12) and zlib.crc32(filler) == crc
    return (publisher, number) if honest and filler else None


@dataclass(frozen=True)
class Delivery:
    """One `basic.deliver` as its client got it."""

    at: float
    message: tuple
    queue: str
    consumer: str
    connection: int
    redelivered: bool


@dataclass(frozen=True)
class Connection:
    """A client's connection, and the node that it is to."""

    number: int
    client: str
    node: str
    at: float


@dataclass
class Fault:
    """Something that was done to the cluster. `nodes` are those that cannot be trusted to reach the others meanwhile."""

    kind: str
    nodes: frozenset
    start: float
    end: float = float("inf")
    # Whether a majority stayed whole: only then may one expect service to come back before the fault ends.
    majority: bool = True


@dataclass
class History:
    """Everything recorded in one run."""

    published: dict = field(default_factory=dict)  # message -> (time, queue, connection)
    confirmed: dict = field(default_factory=dict)  # message -> time
    nacked: dict = field(default_factory=dict)  # message -> time
    deliveries: list = field(default_factory=list)
    acks: list = field(default_factory=list)  # (time, message, connection): sent, nothing more
    requeues: list = field(default_factory=list)  # (time, message, connection)
    synced: list = field(default_factory=list)  # (asked, answered, connection): the node has read all before `asked`
    connections: dict = field(default_factory=dict)  # number -> Connection
    ended: dict = field(default_factory=dict)  # number -> time
    faults: list = field(default_factory=list)
    corrupt: list = field(default_factory=list)  # (time, queue, consumer): bodies that nobody sent
    unexpected: list = field(default_factory=list)  # (time, client, text)
    blocked: list = field(default_factory=list)  # (time, client, reason or None)
    healed: float = float("inf")
    drain: str = "drain"
    _numbers: object = field(default_factory=lambda: itertools.count(1))

    def connect(self, client, node):
        """A connection stands; returns its number."""
        number = next(self._numbers)
        self.connections[number] = Connection(number, client, node, time.monotonic())
        return number

    def disconnect(self, number):
        """It is over, by whomever."""
        self.ended.setdefault(number, time.monotonic())

    def fault(self, kind, nodes, majority=True):
        """A fault begins; its end is set by who began it."""
        made = Fault(kind, frozenset(nodes), time.monotonic(), majority=majority)
        self.faults.append(made)
        return made
