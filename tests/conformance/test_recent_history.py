"""Exchanges of type `x-recent-history`, as RabbitMQ's plugin has them: who is bound later gets the last messages."""

import pytest
from kit.amqp import Typed

pytestmark = pytest.mark.usefixtures("own_broker")


@pytest.fixture
def exchange(client, name):
    def exchange(**arguments):
        made = name()
        client.call(
            1, "exchange.declare", exchange=made, type="x-recent-history", durable=True, arguments=arguments
        )
        client.confirm_channel(2)
        return made

    return exchange


def bodies(count, first=0):
    return [str(number).encode() for number in range(first, first + count)]


def test_a_queue_that_is_bound_gets_the_last_twenty(client, name, exchange):
    made, queue = exchange(), name("q")
    client.publish_confirmed(2, made, "k", *bodies(50))
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=made)
    assert client.get_all(1, queue) == bodies(20, 30)


def test_as_many_as_the_exchange_is_told_on_every_node(connect, client, name, exchange):
    made = exchange(**{"x-recent-history-length": Typed(b"l", 300)})
    client.publish_confirmed(2, made, "k", *bodies(500))
    for node in range(3):
        queue, other = name(f"q{node}"), connect(node)
        other.channel(1)
        other.declare(1, queue, durable=True)
        other.call(1, "queue.bind", queue=queue, exchange=made)
        assert other.get_all(1, queue) == bodies(300, 200)


def test_what_came_by_the_binding_is_not_all_there_was(client, name, exchange):
    made, early, late = exchange(), name("early"), name("late")
    client.declare(1, early)
    client.call(1, "queue.bind", queue=early, exchange=made)
    client.publish_confirmed(2, made, "k", b"a", b"b")
    client.declare(1, late)
    client.call(1, "queue.bind", queue=late, exchange=made)
    client.publish_confirmed(2, made, "k", b"c")
    assert client.get_all(1, early) == client.get_all(1, late) == [b"a", b"b", b"c"]


def test_a_message_comes_as_it_was_published(client, name, exchange):
    made, queue = exchange(), name("q")
    client.publish_confirmed(2, made, "key", b"x", headers={"h": 1}, message_id="m")
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=made)
    got = client.get(1, queue, no_ack=True)
    assert (got.exchange, got.routing_key, got.redelivered) == (made, "key", False)
    assert (got.content.properties["headers"], got.content.properties["message_id"]) == ({"h": 1}, "m")


def test_what_asks_not_to_be_kept_is_delivered_and_not_kept(client, name, exchange):
    made, early, late = exchange(), name("early"), name("late")
    client.declare(1, early)
    client.call(1, "queue.bind", queue=early, exchange=made)
    client.publish_confirmed(2, made, "k", b"secret", headers={"x-recent-history-no-store": True})
    client.publish_confirmed(2, made, "k", b"kept", headers={"x-recent-history-no-store": False})
    client.declare(1, late)
    client.call(1, "queue.bind", queue=late, exchange=made)
    assert client.get_all(1, early) == [b"secret", b"kept"]
    assert client.get_all(1, late) == [b"kept"]


def test_only_a_new_binding_brings_the_history(client, name, exchange):
    made, queue = exchange(), name("q")
    client.publish_confirmed(2, made, "k", b"a")
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=made)
    client.call(1, "queue.bind", queue=queue, exchange=made)
    assert client.get_all(1, queue) == [b"a"]
    client.call(1, "queue.bind", queue=queue, exchange=made, routing_key="other")
    assert client.get_all(1, queue) == [b"a"]


def test_an_exchange_that_is_bound_routes_the_history(client, name, exchange):
    made, target, queue = exchange(), name("target"), name("q")
    for key in ("a", "b", "a"):
        client.publish_confirmed(2, made, key, key.encode())
    client.call(1, "exchange.declare", exchange=target, type="direct")
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=target, routing_key="a")
    client.call(1, "exchange.bind", destination=target, source=made)
    assert client.get_all(1, queue) == [b"a", b"a"]


def test_a_mandatory_message_that_is_only_kept_is_returned(client, name, exchange):
    made, queue = exchange(), name("q")
    client.publish(2, made, "k", b"m", mandatory=True)
    returned = client.expect("basic.return", 2)
    assert (returned.reply_code, returned.body) == (312, b"m")
    client.expect("basic.ack", 2)
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=made)
    assert client.get_all(1, queue) == [b"m"]


def test_what_a_transaction_published_is_kept(client, name, exchange):
    made, queue = exchange(), name("q")
    client.channel(3)
    client.call(3, "tx.select")
    client.publish(3, made, "k", b"t")
    client.call(3, "tx.commit")
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=made)
    assert client.get_all(1, queue) == [b"t"]


@pytest.mark.parametrize("value", [0, -1, "5", True])
def test_a_length_that_is_none_is_refused(client, name, value):
    shown = {"5": '<<"5">>', True: "true"}.get(value, value)
    client.send(
        1,
        "exchange.declare",
        exchange=name(),
        type="x-recent-history",
        arguments={"x-recent-history-length": value},
    )
    text = f"Invalid argument {shown}, 'x-recent-history-length' must be a positive integer"
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - {text}", "exchange.declare")


def test_a_deleted_exchange_is_forgotten_with_what_it_kept(client, name, exchange):
    made, queue = exchange(), name("q")
    client.publish_confirmed(2, made, "k", b"old")
    client.call(1, "exchange.delete", exchange=made)
    client.call(1, "exchange.declare", exchange=made, type="x-recent-history", durable=True)
    client.publish_confirmed(2, made, "k", b"new")
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=made)
    assert client.get_all(1, queue) == [b"new"]


def test_where_a_history_is_kept_nobody_can_use_as_a_queue(client, name, exchange):
    made = exchange()
    client.publish_confirmed(2, made, "k", b"m")
    hidden = f"amq.rabbitmq.recent-history.{made}"
    client.send(1, "queue.declare", queue=hidden, passive=True)
    client.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{hidden}' in vhost '/'", "queue.declare")
    client.publish(2, "", hidden, b"m", mandatory=True)
    client.expect("basic.return", 2)
