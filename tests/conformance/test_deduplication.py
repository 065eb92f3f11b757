"""`x-message-deduplication`: messages with a key that a queue has had among its last ones are confirmed and dropped."""

import time

import pytest
from kit.amqp import Typed


@pytest.fixture(autouse=True)
def ours(broker):
    if broker.reference:
        pytest.skip("RabbitMQ has it as a community plugin only")


@pytest.fixture
def declare(client, name):
    client.confirm_channel(2)

    def declare(**arguments):
        made = name()
        arguments = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        client.declare(1, made, durable=True, arguments={"x-message-deduplication": True, **arguments})
        return made

    return declare


def publish(client, queue, *messages, header="x-deduplication-header"):
    for body, key in messages:
        client.publish_confirmed(2, "", queue, body.encode(), headers={header: key})


def bodies(client, queue):
    return [body.decode() for body in client.get_all(1, queue)]


def test_a_repeated_message_is_confirmed_and_dropped(client, declare):
    queue = declare()
    publish(client, queue, ("a", "1"), ("b", "2"), ("a again", "1"))
    assert bodies(client, queue) == ["a", "b"]
    publish(client, queue, ("a again, though it is consumed", "1"))
    assert bodies(client, queue) == []


def test_numbers_are_keys_whatever_their_width(client, declare):
    queue = declare()
    publish(client, queue, ("a", Typed(b"I", 1)), ("again", Typed(b"l", 1)), ("text", "1"))
    assert bodies(client, queue) == ["a", "text"]


def test_without_a_key_nothing_is_dropped(client, declare):
    queue = declare()
    client.publish_confirmed(2, "", queue, b"a", b"a")
    assert bodies(client, queue) == ["a", "a"]


def test_the_window_has_a_size(client, declare):
    queue = declare(cache_size=2)
    publish(client, queue, ("1", "1"), ("2", "2"), ("3", "3"), ("2 again", "2"), ("1 again", "1"))
    assert bodies(client, queue) == ["1", "2", "3", "1 again"]


def test_the_window_has_a_time(client, declare):
    queue = declare(cache_ttl=1000)
    publish(client, queue, ("a", "1"), ("again", "1"))
    time.sleep(1.2)
    publish(client, queue, ("later", "1"))
    assert bodies(client, queue) == ["a", "later"]


def test_the_header_can_be_another(client, declare):
    queue = declare(deduplication_header="id")
    publish(client, queue, ("a", "1"), ("b", "1"))
    publish(client, queue, ("c", "1"), ("c again", "1"), header="id")
    assert bodies(client, queue) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "key, value, reason",
    [
        ("x-message-deduplication", "yes", "{unacceptable_type,longstr}"),
        ("x-cache-size", 0, "{value_zero,0}"),
        ("x-cache-size", 1_000_001, "{max_value_exceeded,1000001}"),
        ("x-cache-ttl", 0, "{value_zero,0}"),
    ],
)
def test_arguments_out_of_range_are_refused(client, name, key, value, reason):
    queue = name()
    client.send(1, "queue.declare", queue=queue, durable=True, arguments={key: value})
    text = f"PRECONDITION_FAILED - invalid arg '{key}' for queue '{queue}' in vhost '/': {reason}"
    client.expect_channel_close(1, 406, text, "queue.declare")
