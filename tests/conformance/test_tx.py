"""Transactions."""

import pytest


@pytest.fixture
def queue(client, name):
    made = name()
    client.declare(1, made)
    client.channel(2)  # looks on
    return made


def test_publishes_are_seen_after_the_commit(client, queue):
    client.call(1, "tx.select")
    for i in range(5):
        client.publish(1, "", queue, b"%d" % i)
    assert client.get(2, queue) is None
    client.call(1, "tx.commit")
    assert client.get_all(2, queue) == [b"%d" % i for i in range(5)]


def test_rolled_back_publishes_never_happened(client, queue):
    client.call(1, "tx.select")
    client.publish(1, "", queue, b"never")
    client.call(1, "tx.rollback")
    client.publish(1, "", queue, b"later")
    client.call(1, "tx.commit")
    assert client.get_all(2, queue) == [b"later"]


def test_acks_count_after_the_commit(client, queue):
    for i in range(3):
        client.publish(2, "", queue, b"%d" % i)
    client.call(1, "tx.select")
    for _ in range(3):
        client.get(1, queue)
    client.send(1, "basic.ack", delivery_tag=2, multiple=True)
    client.call(1, "tx.commit")
    client.call(1, "channel.close", reply_code=200)
    got = client.get(2, queue, no_ack=True)
    assert (got.body, got.redelivered) == (b"2", True)
    assert client.get(2, queue) is None


def test_rolled_back_acks_leave_the_messages_held(client, queue):
    client.publish(2, "", queue, b"m")
    client.call(1, "tx.select")
    client.get(1, queue)
    client.send(1, "basic.ack", delivery_tag=1)
    client.call(1, "tx.rollback")
    assert client.get(2, queue) is None  # not redelivered by the rollback
    client.send(1, "basic.ack", delivery_tag=1)  # and still to be acknowledged
    client.call(1, "tx.commit")
    client.call(1, "channel.close", reply_code=200)
    assert client.get(2, queue) is None


def test_what_is_not_committed_dies_with_the_channel(client, queue):
    client.call(1, "tx.select")
    client.publish(1, "", queue, b"never")
    client.call(1, "channel.close", reply_code=200)
    assert client.get(2, queue) is None


def test_a_nack_requeues_at_the_commit(client, queue):
    client.publish(2, "", queue, b"m")
    client.call(1, "tx.select")
    client.get(1, queue)
    client.send(1, "basic.nack", delivery_tag=1, requeue=True)
    assert client.get(2, queue) is None
    client.call(1, "tx.commit")
    assert client.get(2, queue, no_ack=True).redelivered


def test_selecting_twice_is_harmless(client):
    client.call(1, "tx.select")
    client.call(1, "tx.select")


@pytest.mark.parametrize("method", ["tx.commit", "tx.rollback"])
def test_without_a_select_it_is_refused(client, method):
    client.send(1, method)
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - channel is not transactional", method)


def test_an_unknown_exchange_fails_at_the_publish(client, queue):
    client.call(1, "tx.select")
    client.publish(1, "no-such-exchange", "k", b"m")
    client.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'", "basic.publish")


def test_an_unroutable_mandatory_message_comes_back_before_commit_ok(client, queue):
    client.call(1, "tx.select")
    client.publish(1, "", "no-such-queue", b"m", mandatory=True)
    client.send(1, "tx.commit")
    client.expect("basic.return", 1, reply_code=312)
    client.expect("tx.commit-ok", 1)


def test_where_a_publish_goes_is_settled_when_it_is_published(client, name):
    exchange, queue = name("e"), name("q")
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.declare(1, queue)
    bound = {"queue": queue, "exchange": exchange, "routing_key": "k"}
    client.call(1, "queue.bind", **bound)
    client.call(1, "tx.select")
    # Rolled back: it counts for nothing.
    client.publish(1, exchange, "other", b"0", mandatory=True)
    client.call(1, "tx.rollback")
    client.publish(1, exchange, "k", b"1")
    client.call(1, "queue.unbind", **bound)
    client.publish(1, exchange, "k", b"2", mandatory=True)
    client.call(1, "queue.bind", **bound)
    client.publish(1, exchange, "k", b"3")
    client.call(1, "exchange.delete", exchange=exchange)
    client.send(1, "tx.commit")
    assert client.expect("basic.return", 1, reply_code=312).body == b"2"
    client.expect("tx.commit-ok", 1)
    assert client.get_all(1, queue) == [b"1", b"3"]


def test_a_committed_transaction_over_durable_queues_is_seen_on_another_node(connect, name):
    queues = [name(f"q{i}") for i in range(4)]
    one, two = connect(), connect()
    one.channel(1)
    for queue in queues:
        one.declare(1, queue, durable=True)
    one.call(1, "tx.select")
    for queue in queues:
        one.publish(1, "", queue, b"m", delivery_mode=2)
    one.call(1, "tx.commit")
    two.channel(1)
    assert [two.get_all(1, queue) for queue in queues] == [[b"m"]] * 4
