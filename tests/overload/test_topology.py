"""Exchanges, queues and bindings in numbers and shapes that cost most."""

import time

import pytest
from flood import KIB, MIB, closing, fill, login, methods, pour, together
from kit import amqp

pytestmark = pytest.mark.limit(900)


def request(channel, name, **arguments):
    return amqp.frame(amqp.FRAME_METHOD, channel, amqp.encode_method(name, **arguments))


def ask_all(client, requests, answer):
    """Sends them in one piece and takes as many answers."""
    client.send_bytes(b"".join(requests))
    for _ in requests:
        client.expect(answer, 1)


def test_one_queue_that_ten_connections_declare_and_delete_without_end(lab):
    data = request(1, "queue.declare", queue="storm", durable=True) + request(1, "queue.delete", queue="storm")
    with lab.watch(grows_mib=200):
        with closing([login(lab.nodes[i % 3]) for i in range(10)]) as clients:
            together(*[lambda c=c: pour(c, data * 100, lab.size(4, 30), reads=True) for c in clients])


def test_bindings_that_are_made_and_taken_away_without_end(lab):
    with lab.watch(grows_mib=200):
        with closing([login(lab.nodes[i % 3]) for i in range(6)]) as clients:
            clients[0].declare(1, "bound", durable=True)
            clients[0].call(1, "exchange.declare", exchange="bound", type="topic", durable=True)
            tasks = []
            for number, client in enumerate(clients):
                key = {"queue": "bound", "exchange": "bound", "routing_key": f"a.{number}.#"}
                data = request(1, "queue.bind", **key) + request(1, "queue.unbind", **key)
                tasks.append(lambda c=client, d=data: pour(c, d * 100, lab.size(4, 30), reads=True))
            together(*tasks)
        clean(lab, ["bound"], ["bound"])


def clean(lab, queues=(), exchanges=()):
    with closing([login(lab.nodes[0])]) as (client,):
        if exchanges:
            ask_all(client, [request(1, "exchange.delete", exchange=e) for e in exchanges], "exchange.delete-ok")
        if queues:
            ask_all(client, [request(1, "queue.delete", queue=q) for q in queues], "queue.delete-ok")


def test_many_queues(lab):
    names = [f"many-{n}" for n in range(lab.size(1000, 20_000))]
    with lab.watch(grows_mib=lab.size(150, 1000), what=str(len(names))):
        with closing([login(lab.nodes[0])]) as (client,):
            ask_all(client, [request(1, "queue.declare", queue=n, durable=True) for n in names], "queue.declare-ok")
        clean(lab, names)


def test_many_bindings_and_a_flood_through_them(lab):
    count = lab.size(3000, 50_000)
    with lab.watch(grows_mib=lab.size(200, 800), what=str(count)):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (client, publisher):
            client.declare(1, "bound", durable=True)
            client.call(1, "exchange.declare", exchange="bound", type="topic", durable=True)
            keys = [f"{'#.' * (n % 2)}{n}.*.#" for n in range(count)]
            binds = [request(1, "queue.bind", queue="bound", exchange="bound", routing_key=k) for k in keys]
            ask_all(client, binds, "queue.bind-ok")
            data = b"".join(
                publisher.publish_bytes(1, "bound", ".".join(["x"] * 60 + [str(n)]), b"x") for n in range(100)
            )
            pour(publisher, data, lab.size(3, 20))
        clean(lab, ["bound"], ["bound"])


def test_exchanges_in_circles_and_ladders(lab):
    """Each of 30 is bound to all others: every publish would go every way."""
    count = 30
    names = [f"circle-{n}" for n in range(count)]
    with lab.watch(grows_mib=200):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (client, publisher):
            ask_all(client, [request(1, "exchange.declare", exchange=n, type="fanout") for n in names], "exchange.declare-ok")
            binds = [request(1, "exchange.bind", destination=a, source=b) for a in names for b in names]
            ask_all(client, binds, "exchange.bind-ok")
            client.declare(1, "circle", durable=True)
            client.call(1, "queue.bind", queue="circle", exchange=names[-1])
            # Each with a key of its own, so that no route is remembered.
            data = b"".join(publisher.publish_bytes(1, names[0], f"k{n}", b"x") for n in range(5000))
            pour(publisher, data, lab.size(3, 20))
        clean(lab, ["circle"], names)


def test_large_messages_to_very_many_queues(lab):
    names = [f"fan-{n}" for n in range(1000)]
    with lab.watch(grows_mib=700, left_mib=500, what="1 MiB to 1000"):
        with closing([login(lab.nodes[0])]) as (client,):
            ask_all(client, [request(1, "queue.declare", queue=n, durable=True) for n in names], "queue.declare-ok")
            ask_all(client, [request(1, "queue.bind", queue=n, exchange="amq.fanout") for n in names], "queue.bind-ok")
            fill(client, "", b"x" * MIB, lab.size(10, 50), exchange="amq.fanout")
        clean(lab, names)


def test_headers_exchange_with_very_many_large_bindings(lab):
    bindings = lab.size(500, 5000)
    with lab.watch(grows_mib=400, what=f"{bindings} of 100 headers"):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (client, publisher):
            client.call(1, "exchange.declare", exchange="headers", type="headers")
            client.declare(1, "headers", durable=True)
            tables = [{"x-match": "all", **{f"h{i}": n + i for i in range(100)}} for n in range(bindings)]
            binds = [request(1, "queue.bind", queue="headers", exchange="headers", arguments=t) for t in tables]
            ask_all(client, binds, "queue.bind-ok")
            data = b"".join(publisher.publish_bytes(1, "headers", "", b"x", headers=t) for t in tables[:100])
            pour(publisher, data, lab.size(3, 20))
        clean(lab, ["headers"], ["headers"])


def test_queues_that_come_and_go_with_their_connections(lab):
    with lab.watch(grows_mib=200):
        deadline = time.monotonic() + lab.size(4, 30)

        def storm(node):
            while time.monotonic() < deadline:
                with closing([login(node)]) as (client,):
                    ask_all(client, [request(1, "queue.declare", exclusive=True)] * 20, "queue.declare-ok")

        together(*[lambda n=n: storm(n) for n in lab.nodes])


def test_messages_that_expire_overflow_and_die_in_masses(lab):
    with lab.watch(grows_mib=400):
        with closing([login(lab.nodes[i % 3]) for i in range(3)]) as clients:
            clients[0].declare(1, "dead", durable=True, arguments={"x-max-length": 1000})
            dies = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
            clients[0].declare(1, "short", durable=True, arguments={**dies, "x-message-ttl": 50})
            clients[0].declare(1, "small", durable=True, arguments={**dies, "x-max-length": 10})
            clients[0].declare(
                1, "ranked", durable=True, arguments={**dies, "x-max-priority": 9, "x-max-length": 10, "x-message-ttl": 1000}
            )
            tasks = []
            for client, queue in zip(clients, ("short", "small", "ranked"), strict=True):
                data = client.publish_bytes(1, "", queue, b"x" * KIB, priority=3)
                tasks.append(lambda c=client, d=data: pour(c, d * 500, lab.size(5, 30)))
            together(*tasks)
        clean(lab, ["short", "small", "ranked", "dead"])


def test_methods_that_wait_for_nobody(lab):
    """`no-wait` declares, binds and consumes: there is no answer that would slow the client."""
    with lab.watch(grows_mib=300):
        with closing([login(lab.nodes[0])]) as (client,):
            data = b"".join(request(1, "queue.declare", queue=f"nowait-{n}", exclusive=True, no_wait=True) for n in range(1000))
            data += b"".join(
                request(1, "queue.bind", queue=f"nowait-{n}", exchange="amq.topic", routing_key=f"{n}", no_wait=True)
                for n in range(1000)
            )
            data += b"".join(request(1, "queue.delete", queue=f"nowait-{n}", no_wait=True) for n in range(1000))
            pour(client, data, lab.size(4, 30))
            pour(client, methods(1, 1, "channel.flow", active=True), 0.1)
