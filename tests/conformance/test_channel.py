"""A channel's life, flow and the old access class."""

from kit import amqp


def test_a_channel_number_can_be_used_again_at_once(client):
    for _ in range(20):
        client.call(1, "channel.close", reply_code=200)
        client.channel(1)


def test_a_channel_error_closes_that_channel_only(client):
    client.channel(2)
    client.send(1, "queue.declare", queue="no-such-queue-here", passive=True)
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'no-such-queue-here' in vhost '/'", "queue.declare")
    client.call(2, "basic.qos", prefetch_count=1)
    client.channel(1)


def test_what_follows_a_channel_error_is_dropped_until_close_ok(client, name):
    never = name("never")
    m = amqp.encode_method
    client.send_bytes(
        amqp.frame(1, 1, m("queue.declare", queue="no-such-queue-here", passive=True))
        + amqp.frame(1, 1, m("queue.declare", queue=never))
        + client.publish_bytes(1, "", never, b"dropped")
        + amqp.frame(1, 1, m("basic.ack", delivery_tag=77))
    )
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'no-such-queue-here' in vhost '/'", "queue.declare")
    client.channel(1)
    client.send(1, "queue.declare", queue=never, passive=True)
    client.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{never}' in vhost '/'", "queue.declare")


def test_a_close_that_crosses_the_brokers_close_is_answered(client):
    client.send(1, "queue.declare", queue="no-such-queue-here", passive=True)
    client.send(1, "channel.close", reply_code=200)
    client.expect_channel_close(
        1, 404, "NOT_FOUND - no queue 'no-such-queue-here' in vhost '/'", "queue.declare", confirm=False
    )
    client.expect("channel.close-ok", 1)
    client.send(1, "channel.close-ok")
    client.channel(1)


def test_a_channel_that_closes_gives_its_messages_back_in_place(client, name):
    queue = name()
    client.declare(1, queue)
    for body in (b"1", b"2", b"3"):
        client.publish(1, "", queue, body)
    client.channel(2)
    assert [client.get(2, queue).body for _ in range(2)] == [b"1", b"2"]
    client.call(2, "channel.close", reply_code=200)
    got = [client.get(1, queue, no_ack=True) for _ in range(3)]
    assert [(g.body, g.redelivered) for g in got] == [(b"1", True), (b"2", True), (b"3", False)]


def test_flow_on_is_answered(client):
    assert client.call(1, "channel.flow", active=True).active is True


def test_flow_off_is_not_implemented(client):
    client.send(1, "channel.flow", active=False)
    client.expect_connection_close(540, "NOT_IMPLEMENTED - active=false", "channel.flow")


def test_the_old_access_request_is_answered_with_a_ticket(client):
    assert client.call(1, "access.request", realm="/data").ticket == 1


def test_an_answer_names_the_channel_that_asked(connect, name):
    client = connect()
    for number in (7, 300, 2):
        client.channel(number)
        assert client.declare(number, name(f"c{number}")).channel == number


def test_channels_interleave_their_frames_freely(client, name):
    client.channel(2)
    queue = name()
    client.declare(1, queue)
    one = client.publish_bytes(1, "", queue, b"a" * 30, frame_payload=10)
    two = client.publish_bytes(2, "", queue, b"b" * 30, frame_payload=10)

    def frames(data):
        while data:
            size = 8 + int.from_bytes(data[3:7], "big")
            yield data[:size]
            data = data[size:]

    for a, b in zip(frames(one), frames(two), strict=True):
        client.send_bytes(a + b)
    client.call(2, "basic.qos")
    assert sorted(client.get_all(1, queue)) == [b"a" * 30, b"b" * 30]
