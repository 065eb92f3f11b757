"""Consumers, prefetch and get."""

import re

import pytest


@pytest.fixture
def queue(client, name):
    made = name()
    client.declare(1, made)
    return made


def publish(client, queue, *bodies):
    client.send_bytes(b"".join(client.publish_bytes(1, "", queue, b) for b in bodies))


def numbers(first, last):
    return [b"%d" % i for i in range(first, last + 1)]


def test_consume_ok_comes_before_the_first_delivery(client, queue):
    publish(client, queue, b"m")
    tag = client.consume(1, queue)
    got = client.expect("basic.deliver", 1)
    assert (got.consumer_tag, got.delivery_tag, got.redelivered, got.body) == (tag, 1, False, b"m")
    assert (got.exchange, got.routing_key) == ("", queue)


def test_an_empty_tag_is_replaced_by_a_generated_one(client, queue):
    one, two = client.consume(1, queue), client.consume(1, queue)
    assert re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", one)
    assert one != two


def test_a_tag_is_unique_on_its_channel_only(client, queue):
    client.consume(1, queue, tag="same")
    client.channel(2)
    client.consume(2, queue, tag="same")
    client.send(1, "basic.consume", queue=queue, consumer_tag="same")
    client.expect_connection_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'same'", "basic.consume")


def test_deliveries_come_in_the_queues_order(client, queue):
    publish(client, queue, *numbers(1, 300))
    client.consume(1, queue, no_ack=True)
    publish(client, queue, *numbers(301, 600))
    assert [d.body for d in client.deliveries(600)] == numbers(1, 600)


def test_tags_count_every_delivery_of_the_channel(client, queue):
    publish(client, queue, *numbers(1, 4))
    assert client.get(1, queue, no_ack=True).delivery_tag == 1
    assert client.get(1, queue).delivery_tag == 2
    client.consume(1, queue, no_ack=True)
    assert [d.delivery_tag for d in client.deliveries(2)] == [3, 4]


def test_no_delivery_follows_cancel_ok(client, queue):
    tag = client.consume(1, queue)
    client.call(1, "basic.cancel", consumer_tag=tag)
    publish(client, queue, b"m")
    client.expect_nothing_until(1, "no delivery")
    assert client.ready(1, queue) == 1


def test_a_cancelled_consumer_keeps_what_it_holds(client, queue):
    publish(client, queue, b"1", b"2")
    client.call(1, "basic.qos", prefetch_count=1)
    tag = client.consume(1, queue)
    held = client.expect("basic.deliver", 1)
    client.call(1, "basic.cancel", consumer_tag=tag)
    assert client.get(1, queue, no_ack=True).body == b"2"
    assert client.get(1, queue) is None
    client.send(1, "basic.ack", delivery_tag=held.delivery_tag)
    client.expect_nothing_until(1)


def test_cancelling_an_unknown_tag_succeeds(client):
    assert client.call(1, "basic.cancel", consumer_tag="never-heard-of").consumer_tag == "never-heard-of"


def test_no_ack_settles_on_delivery(connect, name):
    queue = name()
    one, two = connect(), connect()
    one.channel(1)
    two.channel(1)
    one.declare(1, queue)
    publish(one, queue, *numbers(1, 100))
    two.consume(1, queue, no_ack=True)
    two.deliveries(100)
    two.close()
    assert one.ready(1, queue) == 0


def test_consumers_take_turns(client, queue):
    for number in (2, 3, 4):
        client.channel(number)
        client.consume(number, queue, no_ack=True)
    got = []
    for body in numbers(1, 12):
        publish(client, queue, body)
        got.append(client.expect("basic.deliver"))
    assert [g.body for g in got] == numbers(1, 12)
    for start in range(0, 12, 3):
        assert {g.channel for g in got[start : start + 3]} == {2, 3, 4}


def test_consumers_on_different_nodes_take_turns(connect, name):
    queue = name()
    writer = connect()
    writer.confirm_channel(1)
    writer.declare(1, queue)
    readers = [connect() for _ in range(3)]
    for reader in readers:
        reader.channel(1)
        reader.consume(1, queue, no_ack=True)
    writer.publish_confirmed(1, "", queue, *numbers(1, 30))
    bodies = [[d.body for d in reader.deliveries(10)] for reader in readers]
    assert sorted(int(b) for each in bodies for b in each) == list(range(1, 31))
    assert all(each == sorted(each, key=int) for each in bodies)


def test_prefetch_limits_what_a_consumer_holds(client, queue):
    client.call(1, "basic.qos", prefetch_count=3)
    publish(client, queue, *numbers(1, 10))
    client.consume(1, queue)
    assert [d.body for d in client.deliveries(3)] == numbers(1, 3)
    client.expect_nothing_until(1, "no fourth delivery")
    client.send(1, "basic.ack", delivery_tag=2)
    assert client.expect("basic.deliver", 1).body == b"4"
    client.send(1, "basic.ack", delivery_tag=4, multiple=True)
    assert [d.body for d in client.deliveries(3)] == numbers(5, 7)
    client.send(1, "basic.reject", delivery_tag=5, requeue=False)
    assert client.expect("basic.deliver", 1).body == b"8"


def test_prefetch_counts_for_each_consumer(client, queue):
    client.call(1, "basic.qos", prefetch_count=2)
    one, two = client.consume(1, queue), client.consume(1, queue)
    publish(client, queue, *numbers(1, 10))
    held = [d.consumer_tag for d in client.deliveries(4)]
    assert sorted(held) == sorted([one, one, two, two])
    client.send(1, "basic.qos", prefetch_count=2)
    client.expect("basic.qos-ok", 1)


def test_prefetch_applies_to_consumers_started_later(client, queue):
    early = client.consume(1, queue, tag="early")
    client.call(1, "basic.qos", prefetch_count=1)
    publish(client, queue, *numbers(1, 20))
    assert {d.consumer_tag for d in client.deliveries(20)} == {early}


def test_a_global_prefetch_is_shared_by_the_channels_consumers(client, queue, name):
    """As up to RabbitMQ 4.2; 4.3 took it as a prefetch per consumer."""
    client.call(1, "basic.qos", prefetch_count=3, **{"global": True})
    client.consume(1, queue, tag="one")
    client.consume(1, queue, tag="two")
    publish(client, queue, *numbers(1, 10))
    client.deliveries(3)
    client.call(1, "queue.declare", queue=queue, passive=True)
    client.send(1, "basic.ack", delivery_tag=3, multiple=True)
    assert [d.delivery_tag for d in client.deliveries(3)] == [4, 5, 6]


def test_prefetch_zero_is_no_limit(client, queue):
    client.call(1, "basic.qos", prefetch_count=0)
    client.consume(1, queue)
    publish(client, queue, *numbers(1, 3000))
    assert [d.body for d in client.deliveries(3000)] == numbers(1, 3000)


def test_a_prefetch_size_is_not_implemented(client):
    client.send(1, "basic.qos", prefetch_size=1)
    client.expect_connection_close(540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)", "basic.qos")


def test_the_free_worker_gets_the_next_message(client, queue):
    for number in (2, 3):
        client.channel(number)
        client.call(number, "basic.qos", prefetch_count=1)
        client.consume(number, queue)
    publish(client, queue, *numbers(1, 6))
    held = {}
    for _ in range(2):
        got = client.expect("basic.deliver")
        held[got.channel] = got
    assert set(held) == {2, 3}
    for _ in range(4):  # channel 2 keeps what it has
        client.send(3, "basic.ack", delivery_tag=held[3].delivery_tag)
        held[3] = client.expect("basic.deliver", 3)
    assert held[3].body == b"6"


def test_get_says_how_many_remain(client, queue):
    publish(client, queue, *numbers(1, 3))
    got = [client.get(1, queue) for _ in range(3)]
    assert [(g.body, g.message_count, g.redelivered) for g in got] == [
        (b"1", 2, False), (b"2", 1, False), (b"3", 0, False)
    ]  # fmt: skip
    assert client.get(1, queue) is None


def test_get_is_not_limited_by_prefetch(client, queue):
    client.call(1, "basic.qos", prefetch_count=1)
    publish(client, queue, *numbers(1, 5))
    assert [client.get(1, queue).body for _ in range(5)] == numbers(1, 5)


def test_get_without_ack_settles_at_once(client, queue):
    publish(client, queue, b"m")
    client.channel(2)
    assert client.get(2, queue, no_ack=True).body == b"m"
    client.call(2, "channel.close", reply_code=200)
    assert client.get(1, queue) is None


def test_an_exclusive_consumer_excludes_others_both_ways(client, queue):
    client.channel(2)
    tag = client.consume(1, queue, exclusive=True)
    client.send(2, "basic.consume", queue=queue)
    text = f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    client.expect_channel_close(2, 403, text, "basic.consume")
    client.channel(2)
    client.call(1, "basic.cancel", consumer_tag=tag)
    client.consume(2, queue)
    client.send(1, "basic.consume", queue=queue, exclusive=True)
    client.expect_channel_close(1, 403, text, "basic.consume")


def test_one_connection_may_consume_from_many_queues(client, name):
    queues = [name(f"q{i}") for i in range(30)]
    tags = {}
    for i, queue in enumerate(queues):
        client.declare(1, queue, durable=i % 2 == 0)
        tags[client.consume(1, queue, no_ack=True)] = queue
    for queue in queues:
        publish(client, queue, queue.encode())
    for got in client.deliveries(30):
        assert tags[got.consumer_tag].encode() == got.body


def test_a_slow_reader_gets_everything_in_order(connect, name):
    """More than sockets hold: the broker must wait and must not lose or reorder."""
    queue = name()
    writer, reader = connect(), connect()
    writer.confirm_channel(1)
    writer.declare(1, queue)
    reader.channel(1)
    reader.consume(1, queue, no_ack=True)
    body = b"x" * 20_000
    for start in range(0, 1000, 100):
        writer.publish_confirmed(1, "", queue, *(b"%d:" % i + body for i in range(start, start + 100)))
    assert [int(d.body.split(b":")[0]) for d in reader.deliveries(1000)] == list(range(1000))
