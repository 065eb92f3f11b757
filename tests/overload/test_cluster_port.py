"""The port of the nodes among themselves: with a secret nobody comes in, without one (loopback only) HTTP/2 is spoken."""

import os
import struct
import time

import pytest
from flood import MIB, closing, connect, login, pour, together
from test_connections import HELLO, noise

pytestmark = pytest.mark.limit(600)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def h2(kind, flags, stream, payload=b""):
    """A frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value):
    assert len(value) < 127
    return bytes([len(value)]) + value.encode()


def headers(path, more=()):
    """A header block without any table: `:method: POST`, `:scheme: http` are in the static one."""
    block = b"\x83\x86" + b"\x04" + text(path) + b"\x01" + text("x")
    for name, value in (("content-type", "application/grpc"), ("te", "trailers"), *more):
        block += b"\x00" + text(name) + text(value)
    return block


START = PREFACE + h2(4, 0, 0)
CALL = "/warren.member.v1.Member/Call"


def opened(port):
    one = connect(port)
    one.sendall(START)
    return one


class Stranger:
    """As `flood.pour` wants it."""

    def __init__(self, port):
        self.socket = opened(port)

    def abort(self):
        self.socket.close()


def streams(first, count, path=CALL, body=None, end=True):
    out = []
    for number in range(first, first + 2 * count, 2):
        out.append(h2(1, 4 | (1 if end and body is None else 0), number, headers(path)))
        if body is not None:
            out.append(h2(0, 1 if end else 0, number, body))
    return b"".join(out)


def test_strangers_without_the_secret(lab):
    """Garbage, TLS that stops half way, connections that say nothing, and many of each."""
    ports = [n.cluster_port for n in lab.nodes]
    seconds = lab.size(4, 30)
    with lab.watch(grows_mib=200):
        with closing([connect(p) for p in ports for _ in range(500)]):
            together(*[lambda p=p, s=s: noise(p, seconds, s) for p in ports for s in (b"", HELLO, START)])
        assert lab.cluster.leader_of("bystander").running


FLOODS = {
    "settings": lambda: h2(4, 0, 0, struct.pack(">HI", 1, 4096)) * 1000,
    "pings": lambda: h2(6, 0, 0, b"12345678") * 1000,
    "window updates": lambda: h2(8, 0, 0, struct.pack(">I", 1)) * 1000,
    "priorities": lambda: h2(2, 0, 1, struct.pack(">IB", 0, 1)) * 1000,
    "rapid resets": lambda: b"".join(streams(n, 1, end=False) + h2(3, 0, n, struct.pack(">I", 8)) for n in range(1, 4001, 2)),
    "continuations": lambda: h2(1, 0, 1, headers(CALL)) + h2(9, 0, 1, b"\x00\x01a\x01b" * 3000) * 200,
    "unknown frames": lambda: h2(0x77, 0, 0, b"x" * 16_000) * 100,
    "empty data": lambda: streams(1, 1, end=False) + h2(0, 0, 1) * 5000,
    "octets": lambda: os.urandom(MIB),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_floods_of_http_2_where_no_secret_is_asked_for(open_lab, flood):
    data = FLOODS[flood]()
    deadline = time.monotonic() + open_lab.size(2, 20)

    def storm(port):
        while time.monotonic() < deadline:
            try:
                with closing([Stranger(port)]) as (stranger,):
                    pour(stranger, data, 0.5)
            except OSError:
                time.sleep(0.01)

    with open_lab.watch(grows_mib=250, what=flood):
        together(*[lambda n=n: storm(n.cluster_port) for n in open_lab.nodes for _ in range(2)])


def test_calls_that_announce_more_than_they_send(open_lab):
    """Each stream says that 500 MiB come."""
    announced = b"\0" + struct.pack(">I", 500 * MIB) + b"x" * 1000
    with open_lab.watch(grows_mib=300):
        with closing([opened(open_lab.nodes[0].cluster_port) for _ in range(20)]) as sockets:
            for one in sockets:
                one.sendall(streams(1, 100, body=announced, end=False))
            time.sleep(open_lab.size(2, 10))


def test_streams_that_are_opened_and_left(open_lab):
    with open_lab.watch(grows_mib=300):
        with closing([opened(open_lab.nodes[0].cluster_port) for _ in range(20)]) as sockets:
            for one in sockets:
                for path in ("/warren.member.v1.Member/Session", "/warren.rpc.Member/Append", "/warren.rpc.Member/Liveness"):
                    one.settimeout(5)
                    try:
                        one.sendall(streams(1, 300, path, b"\0\0\0\0\2\x0a\0", end=False))
                    except OSError:
                        break
            time.sleep(open_lab.size(2, 10))
        with closing([login(open_lab.nodes[0])]) as (client,):
            client.declare(1, "bystander", durable=True)
