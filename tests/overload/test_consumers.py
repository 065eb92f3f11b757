"""Consumers that take nothing, hold everything, or give everything back."""

import time

import pytest
from flood import KIB, MIB, closing, delete, fill, login, methods, pour, together
from kit import amqp
from kit.wait import eventually

pytestmark = pytest.mark.limit(900)


def drop_input(client, seconds, octets_per_read=MIB, pause_s=0.0):
    """Reads for so long and looks at nothing; returns the octets."""
    deadline, got = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        client.socket.settimeout(0.2)
        try:
            data = client.socket.recv(octets_per_read)
        except TimeoutError:
            continue
        except OSError:
            break
        if not data:
            break
        got += len(data)
        time.sleep(pause_s)
    return got


@pytest.mark.parametrize("no_ack", [True, False])
def test_consumer_that_never_reads_and_a_fast_publisher(lab, no_ack):
    seconds = lab.size(4, 20)
    with lab.watch(grows_mib=400, what="without acks" if no_ack else "with acks"):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (publisher, consumer):
            publisher.declare(1, "deaf", durable=True)
            consumer.consume(1, "deaf", no_ack=no_ack)
            pour(publisher, publisher.publish_bytes(1, "", "deaf", b"x" * KIB, delivery_mode=1) * 512, seconds)
        delete(lab.nodes[0], "deaf")


def test_consumers_on_many_channels_that_never_read_large_messages(lab):
    """Each consumer may have some megabytes under way to it."""
    consumers, messages = lab.size((100, 250), (2000, 3000))
    with lab.watch(grows_mib=600, left_mib=300, what=f"{consumers} consumers"):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (publisher, consumer):
            publisher.declare(1, "deaf", durable=True)
            for number in range(2, consumers + 2):
                consumer.channel(number)
                consumer.consume(number, "deaf", no_ack=True)
            together(lambda: fill(publisher, "deaf", b"x" * MIB, messages))
            time.sleep(2)
        delete(lab.nodes[0], "deaf")


def test_slow_reader_of_huge_messages(lab):
    with lab.watch(grows_mib=400, left_mib=250):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (publisher, consumer):
            publisher.declare(1, "huge", durable=True)
            fill(publisher, "huge", b"x" * 15 * MIB, lab.size(6, 40))
            consumer.consume(1, "huge", no_ack=True)
            drop_input(consumer, lab.size(4, 30), 64 * KIB, 0.02)
        delete(lab.nodes[0], "huge")


def test_consumer_without_prefetch_that_never_acknowledges(lab):
    count = lab.size(60_000, 1_000_000)
    with lab.watch(grows_mib=lab.size(300, 700), what=f"{count} messages"):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (publisher, consumer):
            publisher.declare(1, "hoard", durable=True)
            consumer.consume(1, "hoard")
            done = []

            def publish():
                fill(publisher, "hoard", b"x" * 100, count)
                done.append(True)

            def take():
                while drop_input(consumer, 1.0) or not done:
                    pass

            together(publish, take)
            eventually(lambda: lab.cluster.queue("hoard")["messages_unacknowledged"] == count, "all are held", timeout_s=60)
        delete(lab.nodes[0], "hoard")


def test_unacknowledged_messages_on_many_channels(lab):
    channels, each = lab.size((200, 100), (1000, 100))
    with lab.watch(grows_mib=300, what=f"{channels} x {each}"):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (publisher, consumer):
            publisher.declare(1, "hoard", durable=True)
            fill(publisher, "hoard", b"x" * 100, channels * each)
            for number in range(2, channels + 2):
                consumer.channel(number)
                consumer.call(number, "basic.qos", prefetch_count=each)
            for number in range(2, channels + 2):
                consumer.send(number, "basic.consume", queue="hoard")
            while drop_input(consumer, 1.0):
                pass
            eventually(
                lambda: lab.cluster.queue("hoard")["messages_unacknowledged"] == channels * each, "all are held", timeout_s=60
            )
        delete(lab.nodes[0], "hoard")


def test_gets_without_end(lab):
    with lab.watch(grows_mib=150):
        with closing([login(lab.nodes[i % 3]) for i in range(6)]) as clients:
            clients[0].declare(1, "got", durable=True)
            fill(clients[0], "got", b"x" * KIB, 2000)
            gets = methods(1000, 1, "basic.get", queue="got", no_ack=False)
            together(*[lambda c=c: pour(c, gets, lab.size(3, 20), reads=True) for c in clients])
        delete(lab.nodes[0], "got")


def test_gets_of_large_messages_by_a_client_that_reads_nothing(lab):
    with lab.watch(grows_mib=300, left_mib=250):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (publisher, taker):
            publisher.declare(1, "large", durable=True)
            fill(publisher, "large", b"x" * 4 * MIB, lab.size(60, 500))
            pour(taker, methods(1000, 1, "basic.get", queue="large"), lab.size(4, 20))
        delete(lab.nodes[0], "large")


@pytest.mark.parametrize("method", ["basic.reject", "basic.nack", "basic.recover"])
def test_messages_that_go_round_without_end(lab, method):
    with lab.watch(grows_mib=200, what=method):
        with closing([login(lab.nodes[i % 3]) for i in range(3)]) as clients:
            clients[0].declare(1, "poison", durable=True)
            fill(clients[0], "poison", b"x" * KIB, 500)

            def reject(client):
                client.call(1, "basic.qos", prefetch_count=100)
                client.consume(1, "poison")
                deadline, got = time.monotonic() + lab.size(3, 20), 0
                while time.monotonic() < deadline:
                    try:
                        delivery = client.recv(timeout_s=0.3)
                    except TimeoutError:
                        continue
                    if delivery.name != "basic.deliver":
                        continue
                    got += 1
                    if method == "basic.recover":
                        if got % 100 == 0:
                            client.send(1, method, requeue=True)
                    else:
                        client.send(1, method, delivery_tag=delivery.delivery_tag, requeue=True)
                return got

            print(together(*[lambda c=c: reject(c) for c in clients]), "deliveries")
        eventually(lambda: lab.cluster.queue("poison")["messages"] == 500, "none is lost", timeout_s=60)
        delete(lab.nodes[0], "poison")


def test_dead_letters_that_come_back_to_their_queue_without_end(lab):
    """A cycle with a rejection in it is no cycle that ends by itself: the consumer keeps it going."""
    with lab.watch(grows_mib=200):
        with closing([login(lab.nodes[0]), login(lab.nodes[1])]) as (publisher, consumer):
            publisher.declare(
                1, "cycle", durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "cycle"}
            )
            fill(publisher, "cycle", b"x" * KIB, 200)
            consumer.call(1, "basic.qos", prefetch_count=100)
            consumer.consume(1, "cycle")
            deadline = time.monotonic() + lab.size(3, 20)
            while time.monotonic() < deadline:
                try:
                    got = consumer.recv(timeout_s=0.3)
                except TimeoutError:
                    continue
                consumer.send(1, "basic.reject", delivery_tag=got.delivery_tag, requeue=False)
        delete(lab.nodes[0], "cycle")


def test_consumers_that_come_and_go_without_end(lab):
    with lab.watch(grows_mib=150):
        with closing([login(lab.nodes[i % 3]) for i in range(4)]) as clients:
            clients[0].declare(1, "coming", durable=True)
            fill(clients[0], "coming", b"x" * KIB, 1000)
            data = b"".join(
                amqp.frame(1, 1, amqp.encode_method("basic.consume", queue="coming", consumer_tag=f"t{i}", no_wait=True))
                + amqp.frame(1, 1, amqp.encode_method("basic.cancel", consumer_tag=f"t{i}", no_wait=True))
                for i in range(500)
            )
            together(*[lambda c=c: pour(c, data, lab.size(3, 20), reads=True) for c in clients])
        delete(lab.nodes[0], "coming")
