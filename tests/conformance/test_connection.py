"""A running connection: heartbeats, limits and the end."""

import pytest
from kit import amqp
from kit.wait import eventually


def test_heartbeats_come_when_the_broker_has_nothing_to_say(raw):
    client = raw().login(heartbeat=1)
    for _ in range(3):
        assert client.recv_frame(timeout_s=10) == (8, 0, b"")
        client.send_frame(8, 0, b"")


def test_a_client_that_sends_heartbeats_stays(raw):
    client = raw().login(heartbeat=1)
    seen = 0
    while seen < 8:  # twice the time after which a silent client is dropped
        assert client.recv_frame(timeout_s=10) == (8, 0, b"")
        client.send_frame(8, 0, b"")
        seen += 1
    client.channel(1)


def test_a_client_that_misses_its_heartbeats_is_dropped_without_a_close(raw):
    client = raw().login(heartbeat=1)
    with pytest.raises(amqp.ClosedByPeer):
        while True:
            assert client.recv_frame(timeout_s=20) == (8, 0, b"")


def test_a_dropped_silent_client_gives_its_messages_back(raw, connect, name):
    queue = name()
    other = connect()
    other.confirm_channel(1)
    other.declare(1, queue)
    other.publish_confirmed(1, "", queue, b"held")
    silent = raw().login(heartbeat=1)
    silent.channel(1)
    assert silent.get(1, queue).body == b"held"
    got = eventually(lambda: other.get(1, queue, no_ack=True), "the message came back")
    assert (got.body, got.redelivered) == (b"held", True)


def test_heartbeat_0_means_none(raw):
    client = raw().login(heartbeat=0)
    client.expect_silence(3)
    client.channel(1)


def test_a_client_that_only_publishes_is_alive(raw, name):
    client = raw().login(heartbeat=1)
    client.channel(1)
    seen = 0
    while seen < 8:
        assert client.recv_frame(timeout_s=10) == (8, 0, b"")
        client.publish(1, "", "nowhere-at-all", b"x")
        seen += 1


def test_close_ok_is_the_last_frame(connect):
    connect().close()


def test_a_close_with_channels_and_consumers_open_is_answered(connect, name):
    client = connect()
    queue = name()
    for number in range(1, 6):
        client.channel(number)
        client.declare(number, queue)
        client.consume(number, queue)
    client.close()


def test_publishes_right_before_a_close_are_not_lost(connect, name):
    queue = name()
    reader = connect()
    reader.channel(1)
    reader.declare(1, queue)
    writer = connect()
    writer.channel(1)
    frames = b"".join(writer.publish_bytes(1, "", queue, b"%d" % i) for i in range(500))
    writer.send_bytes(frames + amqp.frame(1, 0, amqp.encode_method("connection.close", reply_code=200)))
    writer.expect("connection.close-ok", 0)
    writer.end()
    eventually(lambda: reader.ready(1, queue) == 500, "all 500 are ready")
    assert reader.get_all(1, queue) == [b"%d" % i for i in range(500)]


def test_frames_after_our_close_are_ignored(client):
    close = amqp.frame(1, 0, amqp.encode_method("connection.close", reply_code=200))
    client.send_bytes(close + amqp.frame(1, 1, amqp.encode_method("queue.declare", queue="never")))
    client.expect("connection.close-ok", 0)


def test_an_exclusive_queue_is_gone_before_close_ok(connect, name):
    queue = name()
    owner, other = connect(0), connect(0)
    owner.channel(1)
    owner.declare(1, queue, exclusive=True)
    owner.close()
    other.channel(1)
    other.declare(1, queue, exclusive=True)


def test_an_exclusive_queue_is_gone_on_every_node_soon_after_its_connection(connect, name):
    queue = name()
    owner, other = connect(), connect()
    owner.channel(1)
    owner.declare(1, queue, exclusive=True)
    owner.close()
    other.channel(1)
    other.declare(1, queue, exclusive=True)


def test_an_exclusive_queue_goes_with_a_connection_that_vanishes(connect, name):
    queue = name()
    owner, other = connect(), connect()
    owner.channel(1)
    owner.declare(1, queue, exclusive=True)
    owner.abort()
    numbers = iter(range(1, 2000))

    def free():
        number = other.channel(next(numbers))
        other.send(number, "queue.declare", queue=queue, exclusive=True)
        return other.recv().name == "queue.declare-ok"

    eventually(free, "the name is free")


def test_a_thousand_channels_may_be_open(connect):
    client = connect()
    numbers = range(1, 1001)
    for number in numbers:
        client.send(number, "channel.open")
    assert sorted(client.expect("channel.open-ok").channel for _ in numbers) == list(numbers)
    for number in (1000, 1, 500):
        client.call(number, "basic.qos", prefetch_count=1)
    client.close()


def test_one_channel_more_than_negotiated_is_refused(raw):
    client = raw().login(channel_max=3)
    for number in (3, 1, 2):
        client.channel(number)
    client.send(4, "channel.open")
    client.expect_connection_close(
        530, "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)", ""
    )


def test_a_channel_number_may_be_above_channel_max_in_any_order(raw):
    client = raw().login(channel_max=2)
    client.channel(2)
    client.channel(1)
    client.call(2, "channel.close", reply_code=200)
    client.channel(2)


def test_one_who_closes_again_is_answered_again(connect):
    client = connect()
    for _ in range(2):
        client.send(0, "connection.close", reply_code=200, reply_text="Goodbye")
    for _ in range(2):
        client.expect("connection.close-ok", 0)
    client.send(0, "connection.close", reply_code=200, reply_text="Goodbye")
    client.expect("connection.close-ok", 0)
    client.end()


def test_exclusive_queues_are_gone_before_the_broker_says_that_it_closes(connect, name):
    queue = name()
    for node in range(6):
        client = connect(node)
        client.channel(1)
        client.declare(1, queue, exclusive=True)
        client.send(1, "channel.open")
        client.expect("connection.close", 0, reply_code=504)
        other = connect(node + 1)
        other.channel(1)
        other.declare(1, queue, exclusive=True)
        other.close()
