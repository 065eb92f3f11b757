"""Publishers that give more than is taken, or take nothing of what they are told."""

import struct
import time

import pytest
from flood import KIB, MIB, closing, delete, fill, half_message, login, methods, pour, together

pytestmark = pytest.mark.limit(600)
MARK = b"\x00<stamp>\x00"


def stamped(client, queue, size=KIB):
    """64 publishes in one piece, and where in it a time is to be written."""
    one = client.publish_bytes(1, "", queue, MARK + b"\0" * 8 + b"x" * (size - len(MARK) - 8), delivery_mode=1)
    piece = bytearray(one * 64)
    return piece, [i * len(one) + one.index(MARK) + len(MARK) for i in range(64)]


def pour_stamped(client, queue, seconds):
    piece, places = stamped(client, queue)
    deadline, sent = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        now = struct.pack(">d", time.monotonic())
        for at in places:
            piece[at : at + 8] = now
        client.socket.settimeout(100)
        client.socket.sendall(piece)
        sent += 64
    return sent


def latencies(client, seconds):
    """How old the first message of each read is."""
    ages, deadline, buffer = [], time.monotonic() + seconds, b""
    while time.monotonic() < deadline:
        client.socket.settimeout(0.5)
        try:
            data = client.socket.recv(MIB)
        except TimeoutError:
            continue
        buffer = buffer[-64:] + data
        at = buffer.find(MARK)
        if 0 <= at <= len(buffer) - len(MARK) - 8:
            ages.append(time.monotonic() - struct.unpack_from(">d", buffer, at + len(MARK))[0])
    return ages


def test_publisher_without_flow_control_and_a_consumer(lab):
    seconds = lab.size(5, 20)
    with lab.watch(grows_mib=400, what=f"for {seconds} s") as _:
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (publisher, consumer):
            publisher.declare(1, "flood", durable=True)
            consumer.consume(1, "flood", no_ack=True)
            sent, ages = together(
                lambda: pour_stamped(publisher, "flood", seconds), lambda: latencies(consumer, seconds + 1)
            )
            print(f"{sent / seconds:.0f} messages/s; oldest delivery {max(ages):.2f} s, last {ages[-1]:.2f} s")
        delete(lab.nodes[0], "flood")


def test_publisher_without_flow_control_and_no_consumer(lab):
    seconds = lab.size(5, 20)
    with lab.watch(grows_mib=400, what=f"for {seconds} s"):
        with closing([login(lab.nodes[1])]) as (publisher,):
            publisher.declare(1, "flood", durable=True)
            sent, _ = pour(publisher, publisher.publish_bytes(1, "", "flood", b"x" * KIB, delivery_mode=1) * 512, seconds)
            print(f"{sent / seconds / MIB:.0f} MiB/s")
        delete(lab.nodes[0], "flood")


def test_publisher_that_never_reads_its_confirms(lab):
    # Some 600,000 messages a second come on a release build: what is under way at the peak, and 40 octets a message of the backlog.
    with lab.watch(grows_mib=600):
        with closing([login(lab.nodes[0])]) as (publisher,):
            publisher.declare(1, "deaf", durable=True)
            publisher.call(1, "confirm.select")
            pour(publisher, publisher.publish_bytes(1, "", "deaf", b"", delivery_mode=1) * 2000, lab.size(5, 30))
        delete(lab.nodes[0], "deaf")


def test_publisher_that_never_reads_what_is_returned(lab):
    with lab.watch(grows_mib=100), closing([login(lab.nodes[0])]) as (publisher,):
        one = publisher.publish_bytes(1, "", "there is no such queue", b"x" * 32 * KIB, mandatory=True)
        sent, full = pour(publisher, one * 64, lab.size(5, 20))
        assert full, f"all of {sent} octets was taken from a client that reads nothing"


@pytest.mark.parametrize(
    "method, arguments",
    [("basic.qos", {"prefetch_count": 1}), ("queue.declare", {"queue": "bystander", "passive": True}),
     ("channel.flow", {"active": True}), ("exchange.declare", {"exchange": "amq.direct", "type": "direct", "passive": True})],
)  # fmt: skip
def test_client_that_asks_and_never_reads_an_answer(lab, method, arguments):
    with lab.watch(grows_mib=60, what=method), closing([login(lab.nodes[0])]) as (client,):
        pour(client, methods(20_000, 1, method, **arguments), lab.size(3, 20))


def test_messages_that_are_begun_on_many_connections_and_never_ended(lab):
    """16 MiB each but for an octet, up to what one connection may hold."""
    connections, each = lab.size((6, 10), (40, 15))
    with lab.watch(grows_mib=lab.size(1500, 5000), left_mib=1000, what=f"{connections} x {each} x 16 MiB"):
        with closing([]) as clients:
            for _ in range(connections):
                clients.append(client := login(lab.nodes[0]))
                for channel in range(2, each + 2):
                    client.channel(channel)

            body = b"x" * (16 * MIB - 1)

            def hold(client):
                for channel in range(2, each + 2):
                    pour_once(client, half_message(channel, 16 * MIB, body))

            together(*[lambda c=c: hold(c) for c in clients])
            time.sleep(1)


def pour_once(client, data, patience_s=3.0):
    """Sends it, unless the socket takes nothing for so long."""
    client.socket.settimeout(patience_s)
    try:
        client.socket.sendall(data)
    except OSError:
        return False
    return True


def test_transactions_on_many_connections_that_are_never_committed(lab):
    connections, mib = lab.size((6, 150), (40, 240))
    with lab.watch(grows_mib=lab.size(1500, 5000), left_mib=1000, what=f"{connections} x {mib} MiB"):
        with closing([login(lab.nodes[0]) for _ in range(connections)]) as clients:
            for client in clients:
                client.call(1, "tx.select")
            one = clients[0].publish_bytes(1, "", "bystander", b"x" * MIB)

            def hold(client):
                for _ in range(mib):
                    if not pour_once(client, one):
                        break

            together(*[lambda c=c: hold(c) for c in clients])
            time.sleep(1)


def test_many_publishers_of_the_largest_messages(lab):
    publishers, each = lab.size((10, 2), (100, 3))
    with lab.watch(grows_mib=1200, left_mib=500, what=f"{publishers} x {each} x 16 MiB"):
        with closing([login(lab.nodes[i % 3]) for i in range(publishers)]) as clients:
            clients[0].declare(1, "large", durable=True)
            body = b"x" * 16 * MIB
            together(*[lambda c=c: fill(c, "large", body, each) for c in clients])
        delete(lab.nodes[0], "large")


def test_publishers_while_no_majority_is_there(lab):
    """Two of three nodes stand still: nothing can be made safe, so nothing more than some is taken."""
    nodes = lab.nodes
    with closing([login(nodes[0]) for _ in range(4)]) as clients:
        clients[0].declare(1, "stuck", durable=True)
        one = clients[0].publish_bytes(1, "", "stuck", b"", delivery_mode=2) * 4000
        with lab.watch(grows_mib=600, bystander=False):
            for node in nodes[1:]:
                node.pause()
            together(*[lambda c=c: pour(c, one, lab.size(8, 30)) for c in clients])
            for node in nodes[1:]:
                node.resume()
            delete(nodes[0], "stuck")


def test_one_connection_that_floods_all_its_channels(lab):
    channels = 2047
    with lab.watch(grows_mib=400):
        with closing([login(lab.nodes[0])]) as (client,):
            client.declare(1, "channels", durable=True)
            client.send_bytes(b"".join(methods(1, n, "channel.open") for n in range(2, channels + 1)))
            for number in range(2, channels + 1):
                client.expect("channel.open-ok", number)
            data = b"".join(client.publish_bytes(n, "", "channels", b"x" * 100) for n in range(1, channels + 1))
            pour(client, data, lab.size(4, 20))
        delete(lab.nodes[0], "channels")
