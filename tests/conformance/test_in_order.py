"""What one channel does has its effect in the order in which it was done, without a confirm in between: the clients'
own suites count on that, since RabbitMQ's queues take a channel's publishes, gets, cancels and declares one by one."""

import itertools

import pytest
from kit import amqp
from kit.wait import eventually


def publish(client, queue, *bodies):
    client.send_bytes(b"".join(client.publish_bytes(1, "", queue, body) for body in bodies))


@pytest.fixture(params=["durable", "exclusive"])
def queue(request, client, name):
    """Declares a queue with these arguments; its name."""
    count = itertools.count()

    def make(**arguments):
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        queue = name(f"q{next(count)}")
        client.declare(1, queue, arguments=arguments, **{request.param: True})
        return queue

    return make


def test_a_get_finds_the_queue_within_its_limit(client, queue):
    limited = queue(x_max_length=3)
    for i in range(20):
        publish(client, limited, b"0", b"1", b"2", b"3")
        got = client.get(1, limited, no_ack=True)
        assert (got.body, got.message_count) == (b"1", 2), f"round {i}"
        client.call(1, "queue.purge", queue=limited)


def test_what_is_returned_to_a_full_queue_leaves_at_its_head(client, queue):
    limited = queue(x_max_length=3)
    for i in range(20):
        publish(client, limited, b"1", b"2", b"3")
        tags = [client.get(1, limited).delivery_tag for _ in range(3)]
        publish(client, limited, b"new 1", b"new 2", b"new 3")
        client.send(1, "basic.nack", delivery_tag=tags[-1], multiple=True, requeue=True)
        assert client.get_all(1, limited) == [b"new 1", b"new 2", b"new 3"], f"round {i}"


def test_a_declare_counts_no_message_that_a_consumer_takes(client, queue):
    consumed = queue()
    client.consume(1, consumed, no_ack=True)
    for i in range(20):
        publish(client, consumed, *[b"m"] * 10)
        client.send(1, "queue.declare", queue=consumed, passive=True)
        # Which comes first, the answer or the deliveries, is open.
        came = [client.recv() for _ in range(11)]
        counts = [answer.message_count for answer in came if answer.name == "queue.declare-ok"]
        assert (len(came), counts) == (11, [0]), f"round {i}"


@pytest.mark.parametrize("no_ack", [True, False])
def test_a_consumer_gets_what_was_published_before_its_cancel(client, queue, no_ack):
    consumed = queue()
    for i in range(10):
        first = client.consume(1, consumed, tag=f"first {i}", no_ack=no_ack)
        second = client.consume(1, consumed, tag=f"second {i}", no_ack=no_ack, arguments={"x-priority": -1})
        publish(client, consumed, *[b"for the first"] * 10)
        client.send(1, "basic.cancel", consumer_tag=first)
        publish(client, consumed, *[b"for the second"] * 10)
        client.send(1, "basic.cancel", consumer_tag=second)
        for tag, body in ((first, b"for the first"), (second, b"for the second")):
            assert [(d.consumer_tag, d.body) for d in client.deliveries(10)] == [(tag, body)] * 10
            assert client.expect("basic.cancel-ok", 1).consumer_tag == tag


def test_a_cancel_leaves_what_its_consumer_has_no_room_for(client, queue):
    consumed = queue()
    client.call(1, "basic.qos", prefetch_count=2)
    tag = client.consume(1, consumed)
    publish(client, consumed, b"1", b"2", b"3", b"4")
    client.send(1, "basic.cancel", consumer_tag=tag)
    assert [d.body for d in client.deliveries(2)] == [b"1", b"2"]
    client.expect("basic.cancel-ok", 1)
    assert client.get_all(1, consumed) == [b"3", b"4"]


def test_a_channel_at_its_limit_keeps_nothing_from_others(client, queue):
    consumed = queue()
    client.call(1, "basic.qos", prefetch_count=1, **{"global": True})
    client.consume(1, consumed)
    publish(client, consumed, b"1", b"2", b"3")
    assert client.expect("basic.deliver", 1).body == b"1"
    client.channel(2)
    assert client.get(2, consumed, no_ack=True).body == b"2"
    assert client.get(1, consumed, no_ack=True).body == b"3", "a get is not limited"


def test_a_channels_new_limit_counts_for_the_consumers_it_has(client, queue):
    consumed = queue()
    client.call(1, "basic.qos", prefetch_count=1, **{"global": True})
    client.consume(1, consumed)
    publish(client, consumed, b"1", b"2", b"3", b"4", b"5")
    client.deliveries(1)
    client.call(1, "basic.qos", prefetch_count=3, **{"global": True})
    assert [d.body for d in client.deliveries(2)] == [b"2", b"3"]
    client.expect_nothing_until(1, "no fourth delivery")
    client.call(1, "basic.qos", prefetch_count=0, **{"global": True})
    assert [d.body for d in client.deliveries(2)] == [b"4", b"5"]


def test_a_channels_limit_holds_up_a_consumer_that_needs_no_acknowledgement(client, queue):
    limited, free = queue(), queue()
    client.call(1, "basic.qos", prefetch_count=1, **{"global": True})
    client.consume(1, limited)
    publish(client, limited, b"held")
    held = client.expect("basic.deliver", 1)
    client.consume(1, free, tag="free", no_ack=True)
    publish(client, free, b"later")
    client.expect_nothing_until(1, "no delivery while the channel is at its limit")
    client.send(1, "basic.ack", delivery_tag=held.delivery_tag)
    assert client.expect("basic.deliver", 1).body == b"later"


def test_declaring_a_queue_again_keeps_it_from_expiring(client, queue):
    leased = queue(x_expires=1500)
    rounds = iter(range(12))
    # Each of these waits is shorter than the time to live, all of them together are longer.
    eventually(lambda: client.ready(1, leased) == 0 and next(rounds) == 11, "it was declared again and again", every_s=0.25)


def test_nothing_is_answered_behind_a_publish_that_closes_its_channel(client):
    refused = client.publish_bytes(1, "no such exchange", "", b"m")
    text = "NOT_FOUND - no exchange 'no such exchange' in vhost '/'"
    for behind in (
        [("basic.qos", {"prefetch_count": 1})],
        [("confirm.select", {})],
        [("tx.select", {})],
        [("basic.cancel", {"consumer_tag": "none"})],
        [("basic.recover", {"requeue": True})],
        [("basic.ack", {"delivery_tag": 7})],
        [("basic.qos", {"prefetch_count": 1}), ("confirm.select", {}), ("queue.declare", {"exclusive": True})],
    ):
        methods = b"".join(
            amqp.frame(amqp.FRAME_METHOD, 1, amqp.encode_method(name, **given)) for name, given in behind
        )
        client.send_bytes(refused + methods)
        client.expect_channel_close(1, 404, text, "basic.publish")
        # Nothing came before, and nothing comes after.
        client.channel(1)


def test_what_no_queue_takes_comes_back_before_the_channel_closes(client, name):
    for _ in range(10):
        client.send_bytes(client.publish_bytes(1, "", name("none"), b"m", mandatory=True))
        client.send(1, "channel.close", reply_code=200, reply_text="")
        assert client.expect("basic.return", 1).body == b"m"
        client.expect("channel.close-ok", 1)
        client.channel(1)


@pytest.mark.parametrize("asks", ["get", "declare"])
@pytest.mark.parametrize("dies", ["rejected", "maxlen", "expired", "delivery_limit"])
def test_what_died_is_in_the_queue_of_the_dead_when_its_client_looks(client, name, dies, asks):
    dead = name("dead")
    client.declare(1, dead, durable=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    if dies == "maxlen":
        arguments["x-max-length"] = 1
    if dies == "delivery_limit":
        arguments |= {"x-queue-type": "quorum", "x-delivery-limit": 0}
    source = name("source")
    client.declare(1, source, durable=True, arguments=arguments)
    for i in range(20):
        if dies == "expired":
            client.publish(1, "", source, b"%d" % i, expiration="0")
        else:
            client.publish(1, "", source, b"%d" % i)
        if dies in ("rejected", "delivery_limit"):
            tag = client.get(1, source).delivery_tag
            client.send(1, "basic.reject", delivery_tag=tag, requeue=dies == "delivery_limit")
        if dies == "maxlen":
            client.publish(1, "", source, b"the next")
        if asks == "get":
            assert client.get(1, dead, no_ack=True) is not None, f"round {i}"
            if dies == "maxlen":
                client.call(1, "queue.purge", queue=source)
        else:
            assert client.ready(1, dead) == (2 * i + 1 if dies == "maxlen" else i + 1), f"round {i}"


def test_what_is_acknowledged_behind_a_publish_that_closes_its_channel_is_not_acknowledged(client, queue):
    made = queue()
    text = "NOT_FOUND - no exchange 'no such exchange' in vhost '/'"
    for name in ("basic.ack", "basic.reject", "basic.nack"):
        client.publish(1, "", made, name.encode())
        got = client.get(1, made)
        settled = {"delivery_tag": got.delivery_tag} | ({} if name == "basic.ack" else {"requeue": False})
        client.send_bytes(
            client.publish_bytes(1, "no such exchange", "", b"m")
            + amqp.frame(amqp.FRAME_METHOD, 1, amqp.encode_method(name, **settled))
        )
        client.expect_channel_close(1, 404, text, "basic.publish")
        client.channel(1)
        again = client.get(1, made, no_ack=True)
        assert (again.body, again.redelivered) == (name.encode(), True)


def test_what_is_acknowledged_behind_a_publish_that_is_routed_is(client, queue):
    made, other = queue(), queue()
    client.publish(1, "", made, b"m")
    got = client.get(1, made)
    client.send_bytes(
        client.publish_bytes(1, "", other, b"answer")
        + amqp.frame(amqp.FRAME_METHOD, 1, amqp.encode_method("basic.ack", delivery_tag=got.delivery_tag))
    )
    assert client.get(1, other, no_ack=True).body == b"answer"
    client.call(1, "basic.recover", requeue=True)
    assert client.ready(1, made) == 0
