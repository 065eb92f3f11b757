"""Many connections, and those that are no clients."""

import os
import socket
import ssl
import time

import pytest
from flood import KIB, closing, connect, login, methods, pour, together
from kit import amqp
from kit.certificates import Authority
from kit.cluster import free_port
from kit.wait import eventually

pytestmark = pytest.mark.limit(900)
HELLO = bytes.fromhex("16030100c8010000c40303")  # TLS begins so


def test_idle_connections(lab):
    count = lab.size(1500, 9000)
    with lab.watch(grows_mib=lab.size(150, 400), left_mib=lab.size(100, 250), what=str(count)):
        with closing([]) as clients:
            for number in range(count):
                clients.append(login(lab.nodes[number % 3], heartbeat=0))
            eventually(lambda: len(lab.nodes[0].http("/api/connections", timeout_s=30)) >= count, "all are there", timeout_s=60)


def test_connections_that_are_made_and_closed_without_end(lab):
    """Some at once, some after the login, some without a word."""
    seconds = lab.size(4, 30)

    def storm(node, step):
        deadline, count = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            count += 1
            try:
                if step == "connect":
                    socket.create_connection(node.address, timeout=30).close()
                elif step == "login":
                    login(node).abort()
                else:
                    login(node).close()
            except (OSError, amqp.ClosedByPeer):
                time.sleep(0.01)
        return count

    with lab.watch(grows_mib=150):
        print(together(*[lambda n=n, s=s: storm(n, s) for n in lab.nodes for s in ("connect", "login", "close")]))


def test_logins_that_fail_without_end(lab):
    deadline_s = lab.size(3, 20)

    def storm(node):
        deadline = time.monotonic() + deadline_s
        while time.monotonic() < deadline:
            client = amqp.Client(*node.address)
            try:
                client.start()
                client.start_ok("guest", os.urandom(8).hex())
                client.recv()
            except (OSError, amqp.ClosedByPeer):
                pass
            client.abort()

    with lab.watch(grows_mib=100):
        together(*[lambda n=n: storm(n) for n in lab.nodes for _ in range(3)])


def test_handshakes_that_stand_still_are_ended(lab):
    """At each stage; the limit is 10 s."""
    count = lab.size(150, 2000)
    with lab.watch(grows_mib=100):
        with closing([]) as clients:
            for number in range(count):
                clients.append(client := amqp.Client(*lab.nodes[number % 3].address, timeout_s=60))
                if number % 4 == 1:
                    client.send_bytes(amqp.PROTOCOL_HEADER[: number % 8])
                elif number % 4 == 2:
                    client.start()
                    client.send_bytes(b"\x01\x00\x00\x00\x00\x10\x00" + b"x" * 100)
                elif number % 4 == 3:
                    client.start()
                    client.start_ok()
                    client.expect("connection.tune", 0)
            for client in clients:
                client.read_to_eof(timeout_s=60)


def test_connections_that_trickle(lab):
    """An octet now and then: it does not make the handshake longer, and costs nobody anything."""
    with lab.watch(grows_mib=60), closing([connect(lab.nodes[i % 3].amqp_port) for i in range(150)]) as sockets:
        deadline = time.monotonic() + 15
        left = list(sockets)
        while left and time.monotonic() < deadline:
            for one in list(left):
                try:
                    one.sendall(b"A")
                except OSError:
                    left.remove(one)
            time.sleep(0.5)
        assert not left, f"{len(left)} that never said who they are are still there"


def noise(port, seconds, start=b""):
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        count += 1
        try:
            with connect(port) as one:
                one.sendall(start + os.urandom(1 << (count % 18)))
                one.settimeout(0.05)
                one.recv(100)
        except OSError:
            pass
    return count


def test_random_octets_on_every_port(lab):
    seconds = lab.size(4, 30)
    starts = (b"", amqp.PROTOCOL_HEADER, HELLO, b"GET /api/overview HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    ports = [p for n in lab.nodes for p in (n.amqp_port, n.http_port, n.metrics_port, n.cluster_port)]
    with lab.watch(grows_mib=150):
        together(*[lambda p=p, s=s: noise(p, seconds, s) for p in ports for s in starts])


def test_tls_handshakes_that_fail_stand_still_or_are_made_again_and_again(own_lab, tmp_path):
    certificate, key = Authority(tmp_path).issue("server", "/CN=server")
    port, https = free_port(), free_port()
    lab = own_lab(options=[
        "--amqps-listen", f"127.0.0.1:{port}", "--https-listen", f"127.0.0.1:{https}",
        "--tls-cert", str(certificate), "--tls-key", str(key),
    ])  # fmt: skip
    seconds = lab.size(4, 30)
    with lab.watch(grows_mib=200):
        with closing([connect(p) for p in (port, https) for _ in range(200)]) as still:
            for number, one in enumerate(still):
                one.sendall(HELLO[: number % 12])
            together(
                *[lambda s=s, p=p: noise(p, seconds, s) for p in (port, https) for s in (b"", HELLO)],
                lambda: shake(port, seconds), lambda: shake(https, seconds),
            )  # fmt: skip


def shake(port, seconds):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    deadline, count = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        try:
            with context.wrap_socket(connect(port)):
                count += 1
        except OSError:
            pass
    return count


def test_channels_that_are_opened_and_closed_without_end(lab):
    data = b"".join(
        methods(1, n, "channel.open") + methods(1, n, "channel.close", reply_code=200) for n in range(2, 1000)
    )
    with lab.watch(grows_mib=100):
        with closing([login(lab.nodes[i % 3]) for i in range(4)]) as clients:
            together(*[lambda c=c: pour(c, data, lab.size(3, 20), reads=True) for c in clients])


def test_all_channels_of_many_connections(lab):
    connections = lab.size(8, 100)
    with lab.watch(grows_mib=lab.size(200, 800), what=f"{connections} x 2047"):
        with closing([login(lab.nodes[i % 3]) for i in range(connections)]) as clients:
            opens = b"".join(methods(1, n, "channel.open") for n in range(2, 2048))
            for client in clients:
                client.send_bytes(opens)
            for client in clients:
                for number in range(2, 2048):
                    client.expect("channel.open-ok", number)


def test_tables_of_every_shape_that_costs(lab):
    """Nested as deep as frames allow, and with as many entries, as arguments and as headers of messages."""
    deep = b"V"
    for _ in range(25_000):
        deep = b"A" + amqp.longstr(deep)
    deep = amqp.longstr(amqp.shortstr("k") + deep)
    wide = amqp.longstr(b"".join(amqp.shortstr(f"{n:05}") + b"V" for n in range(17_000)))
    flat = amqp.longstr(amqp.shortstr("k") + b"S" + amqp.longstr(b"x" * 130_000))
    with lab.watch(grows_mib=200):
        with closing([login(lab.nodes[0])]) as (owner,):
            owner.call(1, "exchange.declare", exchange="tables", type="headers")
            owner.declare(1, "tables", durable=True)
            for number in range(50):
                arguments = {"x-match": "any", **{f"{number}-{i}": i for i in range(200)}}
                owner.call(1, "queue.bind", queue="tables", exchange="tables", arguments=arguments)
            for table in (deep, wide, flat):
                for number in range(lab.size(20, 200)):
                    with closing([login(lab.nodes[number % 3])]) as (client,):
                        client.send(1, "queue.declare", queue="tables-own", exclusive=True, arguments=table)
                        try:
                            client.recv()
                        except amqp.ClosedByPeer:
                            pass
                    with closing([login(lab.nodes[number % 3])]) as (client,):
                        raw = b"\x20\x00" + table  # the flag of `headers`
                        if len(raw) < 131_000:
                            client.send_bytes(client.publish_bytes(1, "tables", "", b"x", raw_properties=raw) * 20)
                        client.send(1, "channel.flow", active=True)
                        try:
                            client.recv()
                        except amqp.ClosedByPeer:
                            pass
            owner.call(1, "exchange.delete", exchange="tables")
            owner.call(1, "queue.delete", queue="tables")


def test_reader_of_its_own_flood(lab):
    """One connection that publishes to a queue and consumes from it as fast as it can, in both directions at once."""
    # A transient queue is in memory: its backlog is bounded by the alarm alone.
    with lab.watch(grows_mib=lab.size(2500, 8000)):
        with closing([login(lab.nodes[0])]) as (client,):
            client.declare(1, "own", exclusive=True)
            client.consume(1, "own", no_ack=True)
            pour(client, client.publish_bytes(1, "", "own", b"x" * KIB) * 512, lab.size(4, 20), reads=True)
