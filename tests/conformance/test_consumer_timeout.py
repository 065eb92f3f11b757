"""`x-consumer-timeout`: what is held too long goes back to its queue."""

import pytest
from kit.amqp import Typed
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
    assert got.reply_text.startswith("PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out")


def test_what_is_acknowledged_in_time_keeps_its_consumer(client, connect, queue):
    quick = connect(capabilities=CANCELS)
    quick.channel(1)
    quick.consume(1, queue, "quick")
    for got in quick.deliveries(2, 1):
        quick.send(1, "basic.ack", delivery_tag=got.delivery_tag)
    quick.expect_silence(3)
    client.publish(1, "", queue, b"3")
    assert quick.expect("basic.deliver", 1).body == b"3"
