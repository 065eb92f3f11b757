"""Publishing: routing failures, checks, bodies and properties."""

import os

import pytest
from kit import amqp
from kit.amqp import Typed, encode_properties

MIB = 1 << 20

EVERY_PROPERTY = {
    "content_type": "text/plain", "content_encoding": "utf-8", "delivery_mode": 2, "priority": 9,
    "correlation_id": "c-1", "reply_to": "r", "expiration": "600000", "message_id": "m-1",
    "timestamp": 1_700_000_000, "type": "kind", "user_id": "guest", "app_id": "app", "cluster_id": "cl",
}  # fmt: skip
SORTED_HEADERS = {
    "array": [1, "two", [True, None]], "bool": True, "bytes": Typed(b"x", b"\x00\xff"), "decimal": Typed(b"D", (2, 314)),
    "double": 2.5, "float": Typed(b"f", 0.5), "i16": Typed(b"s", -5), "i32": -70000, "i64": 1 << 40, "i8": Typed(b"b", -1),
    "nested": {"deep": {"deeper": "x"}}, "text": "täxt", "time": Typed(b"T", 1_700_000_000), "u16": Typed(b"u", 60000),
    "u32": Typed(b"i", 4_000_000_000), "u8": Typed(b"B", 200), "void": None,
}  # fmt: skip


@pytest.fixture
def queue(client, name):
    made = name()
    client.declare(1, made)
    return made


def test_an_unroutable_message_is_dropped_in_silence(client):
    client.publish(1, "", "no-such-queue", b"m")
    client.expect_nothing_until(1)


def test_a_publish_to_a_missing_queue_does_not_create_it(client):
    client.publish(1, "", "no-such-queue", b"m")
    client.send(1, "queue.declare", queue="no-such-queue", passive=True)
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'no-such-queue' in vhost '/'", "queue.declare")


def test_an_unroutable_mandatory_message_comes_back_as_it_was(client):
    body = os.urandom(200_000)
    client.publish(1, "amq.direct", "nobody-bound-this", body, mandatory=True, **EVERY_PROPERTY, headers=SORTED_HEADERS)
    got = client.expect("basic.return", 1)
    assert (got.reply_code, got.reply_text) == (312, "NO_ROUTE")
    assert (got.exchange, got.routing_key) == ("amq.direct", "nobody-bound-this")
    assert got.body == body
    assert got.content.raw_properties == encode_properties(**EVERY_PROPERTY, headers=SORTED_HEADERS)


def test_a_return_comes_before_its_confirm(client):
    client.call(1, "confirm.select")
    for _ in range(3):
        client.publish(1, "", "no-such-queue", b"m", mandatory=True)
    confirmed = returned = 0
    while confirmed < 3:
        got = client.recv()
        if got.name == "basic.return":
            returned += 1
        else:
            assert got.name == "basic.ack"
            assert got.delivery_tag <= returned
            confirmed = got.delivery_tag
    assert returned == 3


def test_a_routable_mandatory_message_is_not_returned(client, queue):
    client.publish(1, "", queue, b"m", mandatory=True)
    assert client.get_all(1, queue) == [b"m"]


def test_immediate_is_not_implemented(client, queue):
    client.publish(1, "", queue, b"m", immediate=True)
    client.expect_connection_close(540, "NOT_IMPLEMENTED - immediate=true", "basic.publish")


def test_an_unknown_exchange_closes_the_channel(client):
    client.publish(1, "no-such-exchange", "k", b"m")
    client.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'", "basic.publish")
    client.channel(1)


def test_a_body_may_come_in_any_number_of_frames(client, queue):
    body = os.urandom(1000)
    for step in (1, 7, 999, 1000, 5000):
        client.publish(1, "", queue, body, frame_payload=step)
    assert client.get_all(1, queue) == [body] * 5


def test_an_empty_body_has_no_body_frame(client, queue):
    client.publish(1, "", queue, b"")
    got = client.get(1, queue, no_ack=True)
    assert (got.body, got.content.body_frame_sizes) == (b"", [])


def test_an_empty_body_frame_inside_a_body_is_harmless(client, queue):
    client.send(1, "basic.publish", routing_key=queue)
    client.send_frame(2, 1, b"\x00\x3c\x00\x00" + (4).to_bytes(8, "big") + b"\x00\x00")
    for piece in (b"ab", b"", b"cd"):
        client.send_frame(3, 1, piece)
    assert client.get_all(1, queue) == [b"abcd"]


@pytest.mark.parametrize("extra", [-9, -8, -7, 0, 1])
def test_bodies_around_the_frame_size_arrive_whole(client, queue, extra):
    body = os.urandom(client.frame_max + extra)
    client.publish(1, "", queue, body)
    assert client.get_all(1, queue) == [body]


@pytest.mark.parametrize("frame_max", [4096, 8192])
def test_delivered_frames_keep_to_the_size_that_this_client_negotiated(raw, connect, name, frame_max):
    queue, body = name(), os.urandom(100_000)
    writer = connect()
    writer.confirm_channel(1)
    writer.declare(1, queue)
    writer.publish_confirmed(1, "", queue, body)
    reader = raw().login(frame_max=frame_max)
    reader.channel(1)
    assert reader.get(1, queue, no_ack=True).body == body
    assert reader.largest_frame <= frame_max


def test_five_mebibytes_arrive_whole_by_deliver_and_get(connect, name):
    queue, body = name(), os.urandom(5 * MIB)
    one, two = connect(), connect()
    one.confirm_channel(1)
    one.declare(1, queue, durable=True)
    one.publish_confirmed(1, "", queue, body, body, delivery_mode=2)
    two.channel(1)
    assert two.get(1, queue, no_ack=True).body == body
    two.consume(1, queue, no_ack=True)
    assert two.expect("basic.deliver", 1).body == body


def test_sixteen_mebibytes_are_the_limit(client, queue):
    client.publish(1, "", queue, b"x" * (16 * MIB))
    got = client.get(1, queue, no_ack=True)
    assert len(got.body) == 16 * MIB
    client.publish(1, "", queue, b"x" * (16 * MIB + 1))
    got = client.expect("channel.close", 1, reply_code=406, class_id=60, method_id=40)
    size = 16 * MIB + 1
    assert got.reply_text == f"PRECONDITION_FAILED - message size {size} is larger than configured max size {16 * MIB}"


def test_every_property_arrives_octet_for_octet(client, queue):
    client.publish(1, "", queue, b"m", **EVERY_PROPERTY)
    got = client.get(1, queue, no_ack=True)
    assert got.content.raw_properties == encode_properties(**EVERY_PROPERTY)


def test_headers_of_every_type_arrive_octet_for_octet(client, queue):
    client.publish(1, "", queue, b"m", headers=SORTED_HEADERS)
    got = client.get(1, queue, no_ack=True)
    assert got.content.raw_properties == encode_properties(headers=SORTED_HEADERS)


def test_absent_properties_stay_absent_and_empty_ones_stay_empty(client, queue):
    for properties in ({}, {"headers": {}}, {"content_type": ""}, {"delivery_mode": 1}, {"priority": 0}):
        client.publish(1, "", queue, b"m", **properties)
        assert client.get(1, queue, no_ack=True).content.raw_properties == encode_properties(**properties)


def test_properties_arrive_octet_for_octet_through_a_durable_queue_of_another_node(connect, name):
    queue = name()
    one, two = connect(), connect()
    one.confirm_channel(1)
    one.declare(1, queue, durable=True)
    one.publish_confirmed(1, "", queue, b"m", **EVERY_PROPERTY, headers=SORTED_HEADERS)
    two.channel(1)
    got = two.get(1, queue, no_ack=True)
    assert got.content.raw_properties == encode_properties(**EVERY_PROPERTY, headers=SORTED_HEADERS)


@pytest.mark.parametrize(
    "expiration, reason",
    [("abc", "no_integer"), ("", "no_integer"), ("1a", '{leftover_string,"a"}'), ("-1", "{value_negative,-1}")],
)
def test_an_expiration_that_is_no_number_is_refused(client, queue, expiration, reason):
    client.publish(1, "", queue, b"m", expiration=expiration)
    client.expect_channel_close(
        1, 406, f"PRECONDITION_FAILED - invalid expiration '{expiration}': {reason}", "basic.publish"
    )


def test_another_users_id_is_refused(client, queue):
    client.publish(1, "", queue, b"m", user_id="bob")
    client.expect_channel_close(
        1, 406, "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'",
        "basic.publish",
    )  # fmt: skip


def test_a_reply_to_without_a_reply_consumer_is_refused(client, queue):
    client.publish(1, "", queue, b"m", reply_to="amq.rabbitmq.reply-to")
    client.expect_channel_close(
        1, 406, "PRECONDITION_FAILED - fast reply consumer does not exist", "basic.publish"
    )


def test_messages_of_one_channel_keep_their_order(client, queue):
    client.send_bytes(b"".join(client.publish_bytes(1, "", queue, b"%d" % i) for i in range(1000)))
    assert client.get_all(1, queue) == [b"%d" % i for i in range(1000)]


def test_a_declare_after_publishes_counts_them(client, broker, queue):
    if broker.reference:
        pytest.skip("RabbitMQ's queue answers a declare before publishes that wait in its mailbox")
    for round_number in range(1, 6):
        client.send_bytes(b"".join(client.publish_bytes(1, "", queue, b"m") for _ in range(50)))
        assert client.ready(1, queue) == 50 * round_number


def test_a_publish_cut_into_single_octets_on_the_wire_arrives(client, queue):
    for octet in client.publish_bytes(1, "", queue, b"slow"):
        client.send_bytes(bytes([octet]))
    assert client.get_all(1, queue) == [b"slow"]


def test_a_half_published_message_dies_with_its_channel(client, queue):
    client.channel(2)
    client.send(2, "basic.publish", routing_key=queue)
    client.send_frame(2, 2, b"\x00\x3c\x00\x00" + (4).to_bytes(8, "big") + b"\x00\x00")
    client.send_frame(3, 2, b"ab")
    client.send(1, "basic.qos")
    client.expect("basic.qos-ok", 1)
    client.abort()
    assert amqp.METHODS["basic.publish"].has_content


def test_nothing_behind_a_publish_that_closes_its_channel_happens(connect, name):
    exchange, never, kept = name("missing"), name("never"), name("kept")
    for _ in range(20):
        client = connect()
        client.channel(1)
        client.declare(1, kept, durable=True)
        client.send_bytes(
            client.publish_bytes(1, exchange, "k", b"m")
            + amqp.frame(amqp.FRAME_METHOD, 1, amqp.encode_method("queue.declare", queue=never))
            + amqp.frame(amqp.FRAME_METHOD, 1, amqp.encode_method("queue.delete", queue=kept))
        )
        client.expect_channel_close(1, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", "basic.publish")
        client.channel(1)
        client.declare(1, kept, passive=True)
        client.send(1, "queue.declare", queue=never, passive=True)
        client.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{never}' in vhost '/'", "queue.declare")
