"""Queues with an order, a delay, a memory or readers of their own: what is promised of them when their leader is killed."""

import time

import pytest
from kit import amqp
from kit.wait import eventually


def connected(cluster):
    for node in cluster.running():
        try:
            client = amqp.Client(*node.address)
            client.login()
            client.channel(1)
            client.call(1, "confirm.select")
            return client
        except OSError:
            continue
    raise OSError("no node answers")


def ready(client, queue):
    return client.declare(1, queue, passive=True).message_count


@pytest.mark.limit(300)
def test_a_queue_keeps_its_priorities_though_its_leader_is_killed(cluster):
    client = connected(cluster)
    client.declare(1, "urgent", durable=True, arguments={"x-max-priority": 5})
    for priority in (1, 5, 0, 3):
        bodies = [f"{priority}:{number:03}".encode() for number in range(100)]
        client.publish_confirmed(1, "", "urgent", *bodies, priority=priority)
    client.close()
    leader = cluster.leader_of("urgent")
    leader.kill()
    client = connected(cluster)
    eventually(lambda: ready(client, "urgent") == 400, "all messages at the next leader", timeout_s=60)
    client.publish_confirmed(1, "", "urgent", b"4:000", priority=4)
    wanted = [f"{priority}:{number:03}" for priority in (5, 4, 3, 1, 0) for number in range(1 if priority == 4 else 100)]
    assert [body.decode() for body in client.get_all(1, "urgent")] == wanted
    leader.start()
    leader.wait_ready()


@pytest.mark.limit(300)
def test_a_delayed_message_comes_once_and_not_early_though_its_leader_is_killed(cluster):
    client = connected(cluster)
    arguments = {"x-delayed-type": "fanout"}
    client.call(
        1, "exchange.declare", exchange="later", type="x-delayed-message", durable=True, arguments=arguments
    )
    client.declare(1, "late", durable=True)
    client.call(1, "queue.bind", queue="late", exchange="later", routing_key="")
    delays = [1500 + 10 * number for number in range(600)]
    began = time.monotonic()
    for delay in delays:
        headers = {"x-delay": amqp.Typed(b"I", delay)}
        client.send_bytes(client.publish_bytes(1, "later", "", str(delay).encode(), headers=headers))
    confirmed = 0
    while confirmed < len(delays):
        ack = client.expect("basic.ack", 1)
        confirmed = ack.delivery_tag if ack.multiple else confirmed + 1
    published = time.monotonic()
    client.close()
    # Some are due before the leader dies, some while nobody leads, some after.
    time.sleep(max(0.0, 3.0 - (time.monotonic() - began)))
    leader = cluster.leader_of("late")
    leader.kill()
    client = connected(cluster)
    got = []

    def all_came():
        for body in client.get_all(1, "late"):
            assert time.monotonic() - began >= int(body) / 1000 - 0.1, f"{body} came early"
            got.append(int(body))
        return len(got) >= len(delays)

    eventually(all_came, "every delayed message", timeout_s=60)
    assert sorted(got) == delays, f"published within {published - began:.1f} s"
    leader.start()
    leader.wait_ready()


@pytest.mark.limit(300)
def test_a_queue_knows_what_it_has_had_though_its_leader_is_killed(cluster):
    client = connected(cluster)
    client.declare(1, "once", durable=True, arguments={"x-message-deduplication": True, "x-cache-size": 500})

    def publish(numbers):
        for number in numbers:
            headers = {"x-deduplication-header": f"key {number}"}
            client.publish_confirmed(1, "", "once", str(number).encode(), headers=headers)

    publish(range(600))
    assert len(client.get_all(1, "once")) == 600
    client.close()
    # There is no reply to an acknowledgement: it is recorded some milliseconds later.
    time.sleep(0.2)
    leader = cluster.leader_of("once")
    leader.kill()
    client = connected(cluster)
    # The last 500 are remembered; the first of all are not.
    publish([*range(550, 650), 0])
    assert [int(body) for body in client.get_all(1, "once")] == [*range(600, 650), 0]
    leader.start()
    leader.wait_ready()


@pytest.mark.limit(300)
def test_readers_of_a_stream_miss_nothing_though_its_leader_is_killed(cluster):
    client = connected(cluster)
    client.declare(1, "stream", durable=True, arguments={"x-queue-type": "stream"})
    leader = cluster.leader_of("stream")
    client.close()
    others = [node for node in cluster.running() if node is not leader]
    readers = []
    for node in others:
        reader = amqp.Client(*node.address)
        reader.login()
        reader.channel(1)
        reader.call(1, "basic.qos", prefetch_count=50)
        reader.consume(1, "stream", "r", no_ack=False, arguments={"x-stream-offset": "next"})
        readers.append(reader)
    publisher = amqp.Client(*others[0].address)
    publisher.login()
    publisher.channel(1)
    publisher.call(1, "confirm.select")

    def read(reader, numbers):
        for number in numbers:
            got = reader.expect("basic.deliver", 1, timeout_s=60)
            assert (int(got.body), got.content.properties["headers"]["x-stream-offset"]) == (number, number)
            reader.send(1, "basic.ack", delivery_tag=got.delivery_tag)

    publisher.publish_confirmed(1, "", "stream", *(str(number).encode() for number in range(500)))
    read(readers[0], range(300))
    read(readers[1], range(10))
    leader.kill()
    publisher.publish_confirmed(1, "", "stream", *(str(number).encode() for number in range(500, 1000)))
    read(readers[0], range(300, 1000))
    read(readers[1], range(10, 1000))
    leader.start()
    leader.wait_ready()
    late = connected(cluster)
    late.call(1, "basic.qos", prefetch_count=50)
    late.consume(1, "stream", "late", no_ack=False, arguments={"x-stream-offset": "first"})
    read(late, range(1000))


@pytest.mark.limit(400)
def test_what_an_exchange_remembers_outlives_the_kill_of_each_node_and_of_all(cluster):
    client = connected(cluster)
    client.call(1, "exchange.declare", exchange="news", type="x-recent-history", durable=True)
    published = []

    def publish(count):
        for _ in range(count):
            published.append(str(len(published)).encode())
            client.publish_confirmed(1, "news", "k", published[-1])

    def remembered(queue):
        client.declare(1, queue, durable=True)
        client.call(1, "queue.bind", queue=queue, exchange="news")
        return client.get_all(1, queue)

    publish(30)
    # One of them leads where the history is.
    for number, node in enumerate(list(cluster.nodes)):
        client.close()
        node.kill()
        client = connected(cluster)
        assert remembered(f"after-{number}") == published[-20:]
        publish(5)
        assert remembered(f"later-{number}") == published[-20:]
        node.start()
        node.wait_ready()
    client.close()
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes:
        node.start()
    cluster.wait_ready()
    client = connected(cluster)
    assert remembered("after-all") == published[-20:]
