"""Exchanges of type `x-delayed-message`, as the community plugin has them."""

import time

import pytest
from kit.amqp import Typed
from kit.wait import eventually


@pytest.fixture(autouse=True)
def ours(broker):
    if broker.reference:
        pytest.skip("needs the plugin there")


@pytest.fixture
def exchange(client, name):
    def exchange(kind="direct"):
        made = name()
        arguments = {"x-delayed-type": kind}
        client.call(
            1, "exchange.declare", exchange=made, type="x-delayed-message", durable=True, arguments=arguments
        )
        return made

    return exchange


@pytest.fixture
def bound(client, name, exchange):
    """An exchange with delays and a durable queue behind it."""
    source, queue = exchange(), name("q")
    client.declare(1, queue, durable=True)
    client.call(1, "queue.bind", queue=queue, exchange=source, routing_key="k")
    client.confirm_channel(2)
    return source, queue


def publish(client, exchange, body, delay, key="k", **properties):
    client.publish_confirmed(2, exchange, key, body, headers={"x-delay": delay}, **properties)


def ready(client, queue):
    return client.declare(1, queue, passive=True).message_count


def test_a_message_comes_after_its_delay_and_says_so(client, bound):
    exchange, queue = bound
    began = time.monotonic()
    publish(client, exchange, b"late", Typed(b"I", 1000), priority=3)
    assert ready(client, queue) == 0
    client.consume(1, queue, "c", no_ack=True)
    got = client.expect("basic.deliver", 1)
    assert 0.9 < time.monotonic() - began < 3
    assert (got.body, got.exchange, got.routing_key, got.redelivered) == (b"late", exchange, "k", False)
    assert got.content.properties["headers"]["x-delay"] == -1000
    assert got.content.properties["priority"] == 3


def test_the_shorter_delay_comes_first(client, bound):
    exchange, queue = bound
    client.consume(1, queue, "c", no_ack=True)
    for body, delay in [(b"3", 900), (b"1", 300), (b"2", 600)]:
        publish(client, exchange, body, Typed(b"I", delay))
    assert [got.body for got in client.deliveries(3, 1)] == [b"1", b"2", b"3"]


@pytest.mark.parametrize(
    "delay", [0, -5, "soon", True, Typed(b"l", 1 << 32)], ids=["0", "negative", "text", "bool", "too long"]
)
def test_what_is_no_delay_does_not_delay(client, bound, delay):
    exchange, queue = bound
    publish(client, exchange, b"now", Typed(b"I", delay) if type(delay) is int else delay)
    assert client.get(1, queue, no_ack=True).body == b"now"


def test_without_the_header_it_is_a_plain_exchange(client, bound):
    exchange, queue = bound
    client.publish_confirmed(2, exchange, "k", b"now")
    assert client.get(1, queue, no_ack=True).body == b"now"


@pytest.mark.parametrize("delay", [Typed(b"l", 400), Typed(b"s", 400), "400"], ids=["long", "short", "digits"])
def test_any_number_is_a_delay(client, bound, delay):
    exchange, queue = bound
    publish(client, exchange, b"late", delay)
    assert ready(client, queue) == 0
    eventually(lambda: ready(client, queue) == 1, "it is due", timeout_s=10)


def test_it_routes_as_the_type_that_it_names(client, name, exchange):
    topic, queue = exchange("topic"), name("q")
    client.declare(1, queue, exclusive=True)
    client.call(1, "queue.bind", queue=queue, exchange=topic, routing_key="a.*")
    client.confirm_channel(2)
    publish(client, topic, b"yes", Typed(b"I", 200), key="a.b")
    publish(client, topic, b"no", Typed(b"I", 200), key="b.a")
    eventually(lambda: ready(client, queue) == 1, "it is due", timeout_s=10)
    assert client.get(1, queue, no_ack=True).body == b"yes"


def test_a_plain_exchange_looks_at_no_delay(client, name):
    queue = name()
    client.declare(1, queue, durable=True)
    client.confirm_channel(2)
    publish(client, "", b"now", Typed(b"I", 60_000), key=queue)
    assert client.get(1, queue, no_ack=True).body == b"now"


def test_priorities_count_when_it_is_due(client, name, exchange):
    source, queue = exchange(), name("q")
    client.declare(1, queue, durable=True, arguments={"x-max-priority": 5})
    client.call(1, "queue.bind", queue=queue, exchange=source, routing_key="k")
    client.confirm_channel(2)
    publish(client, source, b"low", Typed(b"I", 200), priority=1)
    publish(client, source, b"high", Typed(b"I", 300), priority=5)
    eventually(lambda: ready(client, queue) == 2, "both are due", timeout_s=10)
    assert client.get_all(1, queue) == [b"high", b"low"]


def test_the_time_to_live_begins_when_it_is_due(client, name, exchange):
    source, queue = exchange(), name("q")
    client.declare(1, queue, durable=True, arguments={"x-message-ttl": 700})
    client.call(1, "queue.bind", queue=queue, exchange=source, routing_key="k")
    client.confirm_channel(2)
    publish(client, source, b"late", Typed(b"I", 1000))
    eventually(lambda: ready(client, queue) == 1, "it is due", timeout_s=10)
    eventually(lambda: ready(client, queue) == 0, "it has expired", timeout_s=10)


@pytest.mark.parametrize("arguments", [{}, {"x-delayed-type": "nonsense"}, {"x-delayed-type": "x-delayed-message"}])
def test_it_must_name_another_type(client, name, arguments):
    client.send(
        1, "exchange.declare", exchange=name(), type="x-delayed-message", durable=True, arguments=arguments
    )
    text = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"
    client.expect_channel_close(1, 406, text, "exchange.declare")


def test_a_transaction_delays_too(client, bound):
    exchange, queue = bound
    client.channel(3)
    client.call(3, "tx.select")
    client.publish(3, exchange, "k", b"late", headers={"x-delay": Typed(b"I", 500)})
    client.call(3, "tx.commit")
    assert ready(client, queue) == 0
    eventually(lambda: ready(client, queue) == 1, "it is due", timeout_s=10)
