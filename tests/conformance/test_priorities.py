"""Priorities: `x-max-priority` of classic queues, and the 32 levels that quorum queues always have."""

import time

import pytest
from kit.amqp import Typed


@pytest.fixture
def declare(client, name):
    def declare(**arguments):
        made = name()
        arguments = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        client.declare(1, made, durable=True, arguments=arguments)
        return made

    return declare


def publish(client, queue, *messages):
    client.confirm_channel(2) if not getattr(client, "confirms", False) else None
    client.confirms = True
    for body, priority in messages:
        properties = {} if priority is None else {"priority": priority}
        client.publish_confirmed(2, "", queue, body.encode(), **properties)


def bodies(client, queue):
    return [body.decode() for body in client.get_all(1, queue)]


MIXED = [("a1", 1), ("none", None), ("a3", 3), ("b1", 1), ("b3", 3), ("far above", 200)]


def test_the_highest_goes_first_and_in_order_among_equals(client, declare):
    queue = declare(max_priority=3)
    publish(client, queue, *MIXED)
    assert bodies(client, queue) == ["a3", "b3", "far above", "a1", "b1", "none"]


def test_without_the_argument_all_are_equal(client, declare):
    queue = declare()
    publish(client, queue, *MIXED)
    assert bodies(client, queue) == [body for body, _ in MIXED]


def test_a_transient_queue_has_them_too(client, name):
    queue = name()
    client.declare(1, queue, exclusive=True, arguments={"x-max-priority": 5})
    publish(client, queue, ("low", 1), ("high", 5))
    assert bodies(client, queue) == ["high", "low"]


def test_a_quorum_queue_has_levels_without_asking(client, broker, declare):
    if broker.reference:
        pytest.skip("since RabbitMQ 4.3")
    queue = declare(queue_type="quorum")
    publish(client, queue, ("none", None), ("3", 3), ("4", 4), ("5", 5))
    assert bodies(client, queue) == ["5", "none", "4", "3"]


def test_what_comes_back_is_behind_what_is_more_urgent(client, declare):
    queue = declare(max_priority=9)
    publish(client, queue, ("5", 5), ("5b", 5))
    got = client.get(1, queue)
    publish(client, queue, ("6", 6))
    client.send(1, "basic.nack", delivery_tag=got.delivery_tag, multiple=False, requeue=True)
    assert bodies(client, queue) == ["6", "5", "5b"]


def test_a_consumer_with_a_prefetch_of_1_gets_the_most_urgent_of_each_moment(client, connect, declare):
    queue = declare(max_priority=9)
    publish(client, queue, ("1", 1), ("2", 2))
    consumer = connect()
    consumer.channel(1)
    consumer.call(1, "basic.qos", prefetch_count=1)
    consumer.consume(1, queue, "c", no_ack=False)
    first = consumer.expect("basic.deliver", 1)
    publish(client, queue, ("9", 9))
    consumer.send(1, "basic.ack", delivery_tag=first.delivery_tag)
    second = consumer.expect("basic.deliver", 1)
    assert (first.body, second.body) == (b"2", b"9")


def test_over_its_length_the_most_urgent_is_dropped(client, declare):
    queue = declare(max_priority=9, max_length=2)
    publish(client, queue, ("1", 1), ("9", 9), ("2", 2))
    assert bodies(client, queue) == ["2", "1"]


def test_time_to_live_works_with_them(client, declare):
    queue = declare(max_priority=9, message_ttl=100)
    publish(client, queue, ("1", 1), ("9", 9))
    time.sleep(0.3)
    assert bodies(client, queue) == []


@pytest.mark.parametrize(
    "value, reason",
    [(Typed(b"I", 256), "{max_value_exceeded,256}"), (Typed(b"I", -1), "{value_negative,-1}")],
    ids=["256", "-1"],
)
def test_a_maximum_out_of_range_is_refused(client, name, value, reason):
    queue = name()
    client.send(1, "queue.declare", queue=queue, durable=True, arguments={"x-max-priority": value})
    text = f"PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue '{queue}' in vhost '/': {reason}"
    client.expect_channel_close(1, 406, text, "queue.declare")


def test_a_purge_counts_all_of_them(client, declare):
    queue = declare(max_priority=9)
    publish(client, queue, *MIXED)
    assert client.call(1, "queue.purge", queue=queue).message_count == len(MIXED)
    assert bodies(client, queue) == []
