"""`x-single-active-consumer`: one consumer at a time, the others wait for it to go."""

import pytest
from kit.amqp import Typed
from kit.wait import eventually


@pytest.fixture
def queue(client, name):
    made = name()
    client.declare(1, made, durable=True, arguments={"x-single-active-consumer": True})
    return made


def consumer(connect, queue, prefetch=0, **options):
    made = connect()
    made.channel(1)
    made.call(1, "basic.qos", prefetch_count=prefetch)
    made.consume(1, queue, "c", no_ack=False, **options)
    return made


def publish(client, queue, *bodies):
    for body in bodies:
        client.publish(1, "", queue, body)


def test_only_the_first_consumer_gets_messages_and_all_are_counted(client, connect, queue):
    first, second = consumer(connect, queue, prefetch=1), consumer(connect, queue)
    publish(client, queue, b"1", b"2")
    got = first.expect("basic.deliver", 1)
    assert got.body == b"1"
    second.expect_nothing_until(1)
    assert client.declare(1, queue, passive=True).consumer_count == 2
    first.send(1, "basic.ack", delivery_tag=got.delivery_tag)
    assert first.expect("basic.deliver", 1).body == b"2"
    second.expect_nothing_until(1)


@pytest.mark.parametrize("how", ["cancel", "channel", "connection", "socket"])
def test_the_next_one_takes_over_when_the_active_one_goes(client, connect, queue, how):
    first, second, third = (consumer(connect, queue) for _ in range(3))
    publish(client, queue, b"1")
    assert first.expect("basic.deliver", 1).body == b"1"
    match how:
        case "cancel":
            first.call(1, "basic.cancel", consumer_tag="c")
        case "channel":
            first.call(1, "channel.close", reply_code=200, reply_text="", class_id=0, method_id=0)
        case "connection":
            first.close()
        case "socket":
            first.abort()
    publish(client, queue, b"2")
    wanted = [b"2"] if how == "cancel" else [b"1", b"2"]
    assert [got.body for got in second.deliveries(len(wanted), 1)] == wanted
    third.expect_nothing_until(1)


def test_in_a_classic_queue_a_higher_priority_does_not_take_over(client, connect, queue):
    first = consumer(connect, queue)
    second = consumer(connect, queue, arguments={"x-priority": Typed(b"I", 10)})
    publish(client, queue, b"1")
    assert first.expect("basic.deliver", 1).body == b"1"
    second.expect_nothing_until(1)


@pytest.fixture
def quorum(client, name):
    made = name()
    arguments = {"x-queue-type": "quorum", "x-single-active-consumer": True}
    client.declare(1, made, durable=True, arguments=arguments)
    return made


def higher(connect, queue, priority=10):
    return consumer(connect, queue, arguments={"x-priority": Typed(b"I", priority)})


def test_in_a_quorum_queue_a_higher_priority_takes_over_when_the_active_one_holds_nothing(client, connect, quorum):
    first = consumer(connect, quorum)
    publish(client, quorum, b"1", b"2")
    held = [got.delivery_tag for got in first.deliveries(2, 1)]
    second = higher(connect, quorum)
    publish(client, quorum, b"3")
    first.expect_nothing_until(1)
    first.send(1, "basic.ack", delivery_tag=held[0])
    second.expect_nothing_until(1)
    first.send(1, "basic.reject", delivery_tag=held[1], requeue=True)
    assert [got.body for got in second.deliveries(2, 1)] == [b"2", b"3"]
    first.expect_nothing_until(1)


def test_in_a_quorum_queue_the_highest_of_those_that_wait_follows(client, connect, quorum):
    first, low, high = higher(connect, quorum, 10), higher(connect, quorum, 1), higher(connect, quorum, 5)
    first.close()
    publish(client, quorum, b"1")
    assert high.expect("basic.deliver", 1).body == b"1"
    low.expect_nothing_until(1)


def test_an_exclusive_consumer_is_refused(client, queue):
    client.send(1, "basic.consume", queue=queue, consumer_tag="c", exclusive=True)
    client.expect_channel_close(
        1, 403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", "basic.consume"
    )


def test_a_get_takes_a_message_besides_the_active_consumer(client, connect, queue):
    active = consumer(connect, queue, prefetch=1)
    publish(client, queue, b"1", b"2")
    active.expect("basic.deliver", 1)
    assert client.get(1, queue, no_ack=True).body == b"2"


def test_who_is_active_is_told_over_http_at_any_node(own_broker, connect, queue):
    consumers = [consumer(connect, queue) for _ in range(2)]
    told = ("consumer_tag", "active", "activity_status")

    def listed():
        every = own_broker.cluster.ask("/api/consumers/%2F")
        return sorted(tuple(one[key] for key in told) for one in every if one["queue"]["name"] == queue)

    eventually(lambda: listed() == [("c", False, "waiting"), ("c", True, "single_active")], "one is active")
    shown = own_broker.cluster.queue(queue)
    assert (shown["single_active_consumer_tag"], len(shown["consumer_details"])) == ("c", 2)
    consumers[0].close()
    eventually(lambda: listed() == [("c", True, "single_active")], "the other one is active")
