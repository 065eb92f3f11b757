"""Acknowledgement, rejection, requeue and recover."""

import pytest
from kit.wait import eventually


@pytest.fixture
def queue(client, name):
    """A queue with the messages 1 to 5."""
    made = name()
    client.declare(1, made)
    client.send_bytes(b"".join(client.publish_bytes(1, "", made, b"%d" % i) for i in range(1, 6)))
    return made


def take(client, queue, count=5, channel=1):
    return [client.get(channel, queue) for _ in range(count)]


def rest(client, queue):
    """What is in the queue as (body, redelivered), taken."""
    found = []
    while (got := client.get(1, queue, no_ack=True)) is not None:
        found.append((got.body.decode(), got.redelivered))
    return found


def test_an_acknowledged_message_is_gone(connect, client, queue):
    held = take(client, queue, 2)
    for got in held:
        client.send(1, "basic.ack", delivery_tag=got.delivery_tag)
    client.call(1, "channel.close", reply_code=200)
    client.channel(1)
    assert rest(client, queue) == [("3", False), ("4", False), ("5", False)]


def test_ack_multiple_covers_all_up_to_the_tag(client, queue):
    take(client, queue)
    client.send(1, "basic.ack", delivery_tag=3, multiple=True)
    client.call(1, "channel.close", reply_code=200)
    client.channel(1)
    assert rest(client, queue) == [("4", True), ("5", True)]


def test_tag_0_with_multiple_means_all(client, queue):
    client.send(1, "basic.ack", delivery_tag=0, multiple=True)  # none is held: no error
    take(client, queue)
    client.send(1, "basic.ack", delivery_tag=0, multiple=True)
    client.call(1, "channel.close", reply_code=200)
    client.channel(1)
    assert rest(client, queue) == []


@pytest.mark.parametrize("method", ["basic.ack", "basic.nack", "basic.reject"])
def test_an_unknown_tag_closes_the_channel_and_gives_back_what_it_held(client, queue, method):
    client.channel(2)
    take(client, queue, 1, channel=2)
    client.send(2, method, delivery_tag=99)
    client.expect_channel_close(2, 406, "PRECONDITION_FAILED - unknown delivery tag 99", method)
    eventually(lambda: client.ready(1, queue) == 5, "what it held is ready again")
    assert rest(client, queue)[0] == ("1", True)


def test_a_tag_can_be_settled_once(client, queue):
    take(client, queue, 2)
    client.send(1, "basic.ack", delivery_tag=1)
    client.send(1, "basic.ack", delivery_tag=1)
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", "basic.ack")


def test_tag_0_without_multiple_is_unknown(client, queue):
    take(client, queue, 1)
    client.send(1, "basic.ack", delivery_tag=0)
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 0", "basic.ack")


def test_another_channels_tag_is_unknown(client, queue):
    client.channel(2)
    take(client, queue, 1, channel=2)
    client.send(1, "basic.ack", delivery_tag=1)
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", "basic.ack")
    client.send(2, "basic.ack", delivery_tag=1)
    client.expect_nothing_until(2)


def test_a_no_ack_delivery_cannot_be_acknowledged(client, queue):
    got = client.get(1, queue, no_ack=True)
    client.send(1, "basic.ack", delivery_tag=got.delivery_tag)
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", "basic.ack")


def test_multiple_needs_its_tag_to_be_outstanding(client, queue):
    take(client, queue, 3)
    client.send(1, "basic.ack", delivery_tag=3)
    client.send(1, "basic.ack", delivery_tag=3, multiple=True)
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 3", "basic.ack")


@pytest.mark.parametrize("method", ["basic.nack", "basic.reject"])
def test_a_requeued_message_returns_to_its_place_redelivered(client, queue, method):
    take(client, queue, 3)
    client.send(1, method, delivery_tag=2, requeue=True)
    client.send(1, "basic.ack", delivery_tag=1)
    client.send(1, "basic.ack", delivery_tag=3)
    assert rest(client, queue) == [("2", True), ("4", False), ("5", False)]


def test_messages_requeued_in_any_order_are_in_their_old_order(client, queue):
    take(client, queue, 4)
    for tag in (3, 1, 4, 2):
        client.send(1, "basic.nack", delivery_tag=tag, requeue=True)
    assert rest(client, queue) == [("1", True), ("2", True), ("3", True), ("4", True), ("5", False)]


def test_nack_multiple_requeues_all_up_to_the_tag(client, queue):
    take(client, queue)
    client.send(1, "basic.nack", delivery_tag=3, multiple=True, requeue=True)
    assert rest(client, queue) == [("1", True), ("2", True), ("3", True)]


def test_nack_of_tag_0_with_multiple_requeues_all(client, queue):
    take(client, queue)
    client.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert len(rest(client, queue)) == 5


@pytest.mark.parametrize("method", ["basic.nack", "basic.reject"])
def test_without_requeue_the_message_is_gone(client, queue, method):
    take(client, queue, 2)
    client.send(1, method, delivery_tag=1, requeue=False)
    client.call(1, "channel.close", reply_code=200)
    client.channel(1)
    assert [body for body, _ in rest(client, queue)] == ["2", "3", "4", "5"]


def test_a_requeued_message_goes_back_to_the_only_consumer(client, name):
    queue = name()
    client.declare(1, queue)
    client.consume(1, queue)
    client.publish(1, "", queue, b"m")
    for i in range(5):
        got = client.expect("basic.deliver", 1)
        assert (got.body, got.delivery_tag, got.redelivered) == (b"m", i + 1, i > 0)
        client.send(1, "basic.nack", delivery_tag=got.delivery_tag, requeue=True)


def test_recover_requeues_all_of_the_channel_and_then_answers(client, queue):
    take(client, queue, 3)
    client.call(1, "basic.recover", requeue=True)
    assert rest(client, queue) == [("1", True), ("2", True), ("3", True), ("4", False), ("5", False)]


def test_recover_async_has_no_answer(client, queue):
    take(client, queue, 2)
    client.send(1, "basic.recover-async", requeue=True)
    client.expect_nothing_until(1, "no recover-ok")
    assert rest(client, queue)[0] == ("1", True)


def test_recover_without_requeue_is_not_implemented(client):
    client.send(1, "basic.recover", requeue=False)
    client.expect_connection_close(540, "NOT_IMPLEMENTED - requeue=false", "basic.recover")


def test_a_recovered_consumer_gets_its_messages_again_in_order(client, queue):
    client.consume(1, queue)
    assert [d.body for d in client.deliveries(5)] == [b"1", b"2", b"3", b"4", b"5"]
    client.send(1, "basic.recover", requeue=True)
    seen, answered = [], False
    while len(seen) < 5 or not answered:
        got = client.recv()
        if got.name == "basic.recover-ok":
            answered = True
        else:
            seen.append((got.body, got.redelivered, got.delivery_tag))
    assert seen == [(b"%d" % i, True, i + 5) for i in range(1, 6)]


@pytest.mark.parametrize("ending", ["channel", "connection", "vanish"])
def test_messages_of_a_consumer_that_ends_go_to_the_next_redelivered(connect, name, ending):
    queue = name()
    writer, first, second = connect(), connect(), connect()
    writer.confirm_channel(1)
    writer.declare(1, queue, durable=True)
    writer.publish_confirmed(1, "", queue, *(b"%d" % i for i in range(1, 6)))
    first.channel(1)
    first.consume(1, queue)
    held = first.deliveries(5)
    first.send(1, "basic.ack", delivery_tag=held[2].delivery_tag)
    second.channel(1)
    second.consume(1, queue)
    if ending == "channel":
        first.call(1, "channel.close", reply_code=200)
    elif ending == "connection":
        first.close()
    else:
        first.call(1, "basic.qos")  # so that the acknowledgement is on its way before the end
        first.abort()
    got = second.deliveries(4)
    assert [(d.body, d.redelivered) for d in got] == [(b"1", True), (b"2", True), (b"4", True), (b"5", True)]


def test_acks_on_a_queue_that_was_deleted_are_ignored(client, queue):
    take(client, queue, 2)
    client.channel(2)
    client.call(2, "queue.delete", queue=queue)
    client.send(1, "basic.ack", delivery_tag=2, multiple=True)
    client.expect_nothing_until(1)


def test_unacknowledged_messages_are_not_ready(client, queue):
    take(client, queue, 2)
    assert client.ready(1, queue) == 3
    client.send(1, "basic.nack", delivery_tag=2, multiple=True, requeue=True)
    eventually(lambda: client.ready(1, queue) == 5, "all are ready again")


def test_acks_of_a_thousand_messages_one_by_one_settle_all(connect, name):
    queue = name()
    one, two = connect(), connect()
    one.confirm_channel(1)
    one.declare(1, queue, durable=True)
    one.publish_confirmed(1, "", queue, *(b"m" for _ in range(1000)))
    two.channel(1)
    two.call(1, "basic.qos", prefetch_count=50)
    two.consume(1, queue)
    for _ in range(1000):
        got = two.expect("basic.deliver", 1)
        two.send(1, "basic.ack", delivery_tag=got.delivery_tag)
    two.close()
    assert one.declare(1, queue, durable=True).message_count == 0
