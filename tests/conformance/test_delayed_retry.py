"""`x-delayed-retry-type`: what comes back to a quorum queue rests before it is delivered again (RabbitMQ 4.3)."""

import itertools
import time

import pytest
from kit.http import http

LONG = {"x-delayed-retry-min": 1000, "x-delayed-retry-max": 1500}


@pytest.fixture(autouse=True)
def ours(broker):
    if broker.reference:
        pytest.skip("of 4.3")


@pytest.fixture
def queue(client, name):
    count = itertools.count()

    def queue(**arguments):
        made = name(f"q{next(count)}")
        client.declare(1, made, durable=True, arguments={"x-queue-type": "quorum"} | arguments)
        client.publish(1, "", made, b"m")
        return made

    return queue


def again(client, queue, method="basic.reject", **how):
    """Gives the message back and tells after how long it comes again."""
    got = client.get(1, queue)
    began = time.monotonic()
    client.send(1, method, delivery_tag=got.delivery_tag, requeue=True, **how)
    client.channel(9)
    client.consume(9, queue, "c")
    client.expect("basic.deliver", 9)
    client.call(9, "channel.close", reply_code=200, reply_text="")
    return time.monotonic() - began


def test_a_rejected_message_rests_and_is_told_apart_from_ready_ones(client, queue):
    made = queue(**LONG | {"x-delayed-retry-type": "failed"})
    got = client.get(1, made)
    client.send(1, "basic.reject", delivery_tag=got.delivery_tag, requeue=True)
    assert client.ready(1, made) == 0
    assert client.get(1, made) is None
    client.consume(1, made, "c")
    began = time.monotonic()
    delivered = client.expect("basic.deliver", 1)
    assert time.monotonic() - began > 0.8
    assert (delivered.body, delivered.redelivered) == (b"m", True)
    assert delivered.content.properties["headers"] == {"x-acquired-count": 1, "x-delivery-count": 1}


def test_what_does_not_rest_comes_at_once(client, queue):
    # Whoever waited for these would wait in vain.
    rest = {"x-delayed-retry-min": 600_000}
    again(client, queue(**rest | {"x-delayed-retry-type": "failed"}), "basic.nack")
    again(client, queue(**rest | {"x-delayed-retry-type": "disabled"}))
    again(client, queue(**rest | {"x-delayed-retry-type": "returned"}))
    again(client, queue(**{"x-delayed-retry-type": "all"}))


def test_what_rests_counts_to_the_length_and_is_purged(client, queue):
    rest = {"x-delayed-retry-type": "all", "x-delayed-retry-min": 600_000}
    made = queue(**rest | {"x-max-length": 1, "x-overflow": "reject-publish"})
    client.call(1, "confirm.select")
    got = client.get(1, made)
    client.send(1, "basic.nack", delivery_tag=got.delivery_tag, requeue=True)
    client.publish(1, "", made, b"another")
    client.expect("basic.nack", 1)
    assert client.call(1, "queue.purge", queue=made).message_count == 1
    client.publish_confirmed(1, "", made, b"another")
    assert client.get(1, made).body == b"another"


def test_a_policy_asks_for_it_too(own_broker, client, name):
    made, node = name(), own_broker.cluster.nodes[0]
    definition = {"delayed-retry-type": "all", "delayed-retry-min": 1000}
    policy = f"/policies/%2F/{made}"
    assert http(node, "PUT", policy, {"pattern": f"^{made}$", "definition": definition})[0] == 201
    client.declare(1, made, durable=True, arguments={"x-queue-type": "quorum"})
    client.publish(1, "", made, b"m")
    assert again(client, made, "basic.nack") > 0.9
    assert http(node, "DELETE", policy)[0] == 204


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"x-delayed-retry-type": "sometimes"}, "invalid_delayed_retry_type"),
        ({"x-delayed-retry-min": -1}, "{value_negative,-1}"),
    ],
)
def test_what_cannot_be_is_refused(client, name, arguments, reason):
    made = name()
    client.send(1, "queue.declare", queue=made, durable=True, arguments={"x-queue-type": "quorum"} | arguments)
    text = f"invalid arg '{next(iter(arguments))}' for queue '{made}' in vhost '/': {reason}"
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - {text}", "queue.declare")
