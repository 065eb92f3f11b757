"""`x-consumer-timeout`: what is held too long goes back to its queue."""

import pytest
from kit.amqp import Typed
from kit.http import http
from kit.wait import eventually

CANCELS = {"consumer_cancel_notify": True}


@pytest.fixture
def queue(client, name, broker):
    if broker.reference:
        pytest.skip("looks once a minute, and closes the channel")
    made = name()
    client.declare(1, made, durable=True, arguments={"x-consumer-timeout": Typed(b"I", 1500)})
    for body in (b"1", b"2"):
        client.publish(1, "", made, body)
    return made


def test_the_consumer_ends_and_its_deliveries_go_to_others(client, connect, queue):
    slow = connect(capabilities=CANCELS)
    slow.channel(1)
    slow.consume(1, queue, "slow")
    tags = [got.delivery_tag for got in slow.deliveries(2, 1)]
    slow.expect("basic.cancel", 1, consumer_tag="slow", timeout_s=10)
    eventually(lambda: client.ready(1, queue) == 2, "both are ready again")
    again = [client.get(1, queue, no_ack=True) for _ in range(2)]
    assert [(got.body, got.redelivered) for got in again] == [(b"1", True), (b"2", True)]
    # It may still acknowledge them, to no effect.
    slow.send(1, "basic.ack", delivery_tag=tags[1], multiple=True)
    slow.expect_nothing_until(1)


def test_a_client_that_does_not_know_cancels_loses_its_channel(connect, queue):
    slow = connect(capabilities={})
    slow.channel(1)
    slow.consume(1, queue, "slow")
    slow.deliveries(2, 1)
    got = slow.expect("channel.close", 1, reply_code=406, timeout_s=10)
    text = "delivery acknowledgement on channel 1 timed out. Timeout value used: 1500 ms. This timeout value can be "
    assert got.reply_text == f"PRECONDITION_FAILED - {text}configured, see consumers doc guide to learn more"


def test_what_was_got_is_taken_back_in_time_too(client, connect, queue):
    slow = connect(capabilities=CANCELS)
    slow.channel(1)
    assert slow.get(1, queue).body == b"1"
    slow.expect("channel.close", 1, reply_code=406, timeout_s=10)
    eventually(lambda: client.ready(1, queue) == 2, "both are ready again")


def test_what_is_acknowledged_in_time_keeps_its_consumer(client, connect, queue):
    quick = connect(capabilities=CANCELS)
    quick.channel(1)
    quick.consume(1, queue, "quick")
    for got in quick.deliveries(2, 1):
        quick.send(1, "basic.ack", delivery_tag=got.delivery_tag)
    quick.expect_silence(3)
    client.publish(1, "", queue, b"3")
    assert quick.expect("basic.deliver", 1).body == b"3"


def test_a_consumer_may_hold_as_long_as_it_says_itself(client, connect, queue):
    slow = connect(capabilities=CANCELS)
    slow.channel(1)
    slow.consume(1, queue, "slow", arguments={"x-consumer-timeout": Typed(b"I", 60_000)})
    slow.deliveries(2, 1)
    slow.expect_silence(4)
    assert client.ready(1, queue) == 0


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_policy_says_how_long_and_the_shorter_of_policy_and_argument_counts(
    own_broker, client, connect, name, kind
):
    made = name()
    node = own_broker.cluster.nodes[0]
    policy = f"/policies/%2F/{made}"
    definition = {"consumer-timeout": 1500}
    status, _ = http(node, "PUT", policy, {"pattern": f"^{made}$", "definition": definition, "apply-to": "queues"})
    assert status == 201
    arguments = {"x-queue-type": kind, "x-consumer-timeout": Typed(b"I", 600_000)}
    client.declare(1, made, durable=True, arguments=arguments)
    client.publish(1, "", made, b"m")
    slow = connect(capabilities=CANCELS)
    slow.channel(1)
    slow.consume(1, made, "slow")
    slow.deliveries(1, 1)
    slow.expect("basic.cancel", 1, consumer_tag="slow", timeout_s=10)
    eventually(lambda: client.ready(1, made) == 1, "it is ready again")
    assert http(node, "DELETE", policy)[0] == 204
