"""Streams over AMQP 0-9-1: `x-queue-type: stream`."""

import time

import pytest
from kit.amqp import Typed
from kit.wait import eventually

STREAM = {"x-queue-type": "stream"}


@pytest.fixture(autouse=True)
def ours(broker):
    if broker.reference:
        pytest.skip("RabbitMQ reads whole chunks: other offsets")


@pytest.fixture
def stream(client, name):
    def stream(**arguments):
        made = name()
        arguments = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        client.declare(1, made, durable=True, arguments={**STREAM, **arguments})
        return made

    client.confirm_channel(2)
    return stream


def publish(client, stream, *bodies):
    client.publish_confirmed(2, "", stream, *(body.encode() for body in bodies))


def reader(connect, stream, offset=None, prefetch=100):
    made = connect()
    made.channel(1)
    made.call(1, "basic.qos", prefetch_count=prefetch)
    made.consume(1, stream, "r", no_ack=False, arguments={} if offset is None else {"x-stream-offset": offset})
    return made


def read(client, count):
    return [(got.body.decode(), got.content.properties["headers"]["x-stream-offset"]) for got in client.deliveries(count, 1)]


def test_each_reader_gets_everything_with_its_offset(client, connect, stream):
    queue = stream()
    publish(client, queue, "a", "b")
    readers = [reader(connect, queue, "first") for _ in range(3)]
    publish(client, queue, "c")
    for one in readers:
        assert read(one, 3) == [("a", 0), ("b", 1), ("c", 2)]
    assert client.declare(1, queue, passive=True).message_count == 3


@pytest.mark.parametrize(
    "offset, wanted",
    [
        ("first", ["a", "b", "c", "new"]),
        ("last", ["c", "new"]),
        ("next", ["new"]),
        (None, ["new"]),
        (Typed(b"l", 1), ["b", "c", "new"]),
        (Typed(b"l", 1000), ["new"]),
        ("1h", ["a", "b", "c", "new"]),
    ],
    ids=str,
)
def test_a_reader_begins_where_it_says(client, connect, stream, offset, wanted):
    queue = stream()
    publish(client, queue, "a", "b", "c")
    one = reader(connect, queue, offset)
    publish(client, queue, "new")
    assert [body for body, _ in read(one, len(wanted))] == wanted


def test_a_reader_may_begin_at_a_time(client, connect, stream):
    queue = stream()
    publish(client, queue, "old")
    time.sleep(2.1)
    publish(client, queue, "new")
    one = reader(connect, queue, Typed(b"T", int(time.time()) - 1))
    assert read(one, 1) == [("new", 1)]


def test_an_ack_is_room_for_more(client, connect, stream):
    queue = stream()
    publish(client, queue, *"abcd")
    one = reader(connect, queue, "first", prefetch=2)
    first = one.deliveries(2, 1)
    one.expect_nothing_until(1)
    one.send(1, "basic.ack", delivery_tag=first[1].delivery_tag, multiple=True)
    assert [got.body for got in one.deliveries(2, 1)] == [b"c", b"d"]


def test_a_reject_too_and_nothing_comes_back(client, connect, stream):
    queue = stream()
    publish(client, queue, *"abc")
    one = reader(connect, queue, "first", prefetch=1)
    for wanted in (b"a", b"b", b"c"):
        got = one.expect("basic.deliver", 1)
        assert (got.body, got.redelivered) == (wanted, False)
        one.send(1, "basic.reject", delivery_tag=got.delivery_tag, requeue=True)


def test_it_keeps_so_many_bytes(client, connect, stream):
    queue = stream(max_length_bytes=1000)
    publish(client, queue, *(f"{number:03}" + "x" * 97 for number in range(100)))
    eventually(lambda: client.declare(1, queue, passive=True).message_count == 10, "the rest goes", timeout_s=10)
    one = reader(connect, queue, "first")
    assert [offset for _, offset in read(one, 10)] == list(range(90, 100))


def test_it_keeps_them_for_so_long(client, stream):
    queue = stream(max_age="2s")
    publish(client, queue, "old", "older than the next")
    time.sleep(2.1)
    publish(client, queue, "new")
    eventually(lambda: client.declare(1, queue, passive=True).message_count == 1, "the old ones go", timeout_s=20)


def test_two_readers_on_one_connection_are_independent(client, connect, stream):
    queue = stream()
    publish(client, queue, "a", "b")
    one = connect()
    first = {}
    for channel in (1, 3):
        one.channel(channel)
        one.call(channel, "basic.qos", prefetch_count=1)
        one.consume(channel, queue, "r", no_ack=False, arguments={"x-stream-offset": "first"})
        # Taken before the next channel is opened: with a prefetch of one nothing else comes meanwhile.
        first[channel] = one.expect("basic.deliver", channel)
        assert first[channel].body == b"a"
    one.send(1, "basic.ack", delivery_tag=first[1].delivery_tag)
    assert one.expect("basic.deliver", 1).body == b"b"


@pytest.mark.parametrize(
    "options, text",
    [
        ({"durable": False}, "invalid property 'non-durable'"),
        ({"durable": True, "exclusive": True}, "invalid property 'exclusive-owner'"),
        ({"durable": True, "auto_delete": True}, "invalid property 'auto-delete'"),
    ],
)
def test_it_must_be_durable_and_shared(client, name, options, text):
    queue = name()
    client.send(1, "queue.declare", queue=queue, arguments=STREAM, **options)
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - {text} for queue '{queue}' in vhost '/'", "queue.declare")


def test_arguments_of_other_queues_are_refused(client, name):
    queue = name()
    client.send(1, "queue.declare", queue=queue, durable=True, arguments={**STREAM, "x-message-ttl": 1})
    text = f"invalid arg 'x-message-ttl' for queue '{queue}' in vhost '/' of queue type rabbit_stream_queue"
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - {text}", "queue.declare")


def test_the_server_names_no_stream(client):
    client.send(1, "queue.declare", queue="", durable=True, arguments=STREAM)
    text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_stream_queue"
    client.expect_channel_close(1, 406, text, "queue.declare")


def test_a_reader_needs_a_prefetch(client, stream):
    queue = stream()
    client.send(1, "basic.consume", queue=queue, consumer_tag="c")
    text = f"PRECONDITION_FAILED - consumer prefetch count is not set for stream queue '{queue}' in vhost '/'"
    client.expect_channel_close(1, 406, text, "basic.consume")


def test_a_reader_must_acknowledge(client, stream):
    queue = stream()
    client.call(1, "basic.qos", prefetch_count=1)
    client.send(1, "basic.consume", queue=queue, consumer_tag="c", no_ack=True)
    text = f"NOT_IMPLEMENTED - automatic acknowledgement not supported by stream queue '{queue}' in vhost '/'"
    client.expect_connection_close(540, text, "basic.consume")


@pytest.mark.parametrize("method", ["basic.get", "queue.purge"])
def test_what_takes_messages_away_does_not_work(client, stream, method):
    queue = stream()
    client.send(1, method, queue=queue)
    text = f"NOT_IMPLEMENTED - {method} not supported by stream queues queue '{queue}' in vhost '/'"
    client.expect_connection_close(540, text, method)


def test_an_offset_that_is_none_is_refused(client, stream):
    queue = stream()
    client.call(1, "basic.qos", prefetch_count=1)
    client.send(1, "basic.consume", queue=queue, consumer_tag="c", arguments={"x-stream-offset": "zzz"})
    text = f"invalid arg 'x-stream-offset' for queue '{queue}' in vhost '/': {{invalid_stream_offset_arg,{{longstr,<<\"zzz\">>}}}}"
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - {text}", "basic.consume")


@pytest.mark.parametrize("arguments, wanted", [
    ({"x-stream-filter": "a"}, [b"a1", b"a2"]), ({"x-stream-filter": ["b", "c"]}, [b"b1"]),
    ({"x-stream-filter": "b", "x-stream-match-unfiltered": True}, [b"b1", b"none"]), ({}, [b"a1", b"b1", b"none", b"a2"]),
])  # fmt: skip
def test_a_reader_with_a_filter_gets_what_it_asked_for(client, connect, stream, arguments, wanted):
    queue = stream()
    publisher = connect()
    publisher.confirm_channel(1)
    for body, value in ((b"a1", "a"), (b"b1", "b"), (b"none", None), (b"a2", "a")):
        headers = {"x-stream-filter-value": value} if value else {"other": 1}
        publisher.publish_confirmed(1, "", queue, body, headers=headers)
    client.call(1, "basic.qos", prefetch_count=10)
    client.consume(1, queue, "c", arguments={"x-stream-offset": "first", **arguments})
    assert [got.body for got in client.deliveries(len(wanted), 1)] == wanted
    # What comes later is filtered, too.
    publisher.publish_confirmed(1, "", queue, b"a3", headers={"x-stream-filter-value": "a"})
    publisher.publish_confirmed(1, "", queue, b"b2", headers={"x-stream-filter-value": "b"})
    later = client.expect("basic.deliver", 1).body
    assert later == (b"a3" if arguments.get("x-stream-filter", "a") == "a" else b"b2")
