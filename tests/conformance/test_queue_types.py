"""What differs between classic queues, quorum queues and streams. Each text is RabbitMQ's."""

import pytest
from kit.wait import eventually

MODULES = {"classic": "rabbit_classic_queue", "quorum": "rabbit_quorum_queue", "stream": "rabbit_stream_queue"}


@pytest.mark.parametrize("kind, key, value", [
    ("classic", "x-delivery-limit", 5), ("classic", "x-quorum-initial-group-size", 3), ("classic", "x-max-age", "1h"),
    ("classic", "x-dead-letter-strategy", "at-most-once"), ("quorum", "x-max-priority", 5), ("quorum", "x-queue-mode", "lazy"),
    ("quorum", "x-max-age", "1h"), ("stream", "x-quorum-initial-group-size", 3), ("stream", "x-max-in-memory-length", 5),
    ("stream", "x-max-priority", 5), ("stream", "x-message-ttl", 5),
])  # fmt: skip
def test_an_argument_of_another_type_is_refused(client, name, kind, key, value):
    queue = name()
    client.send(1, "queue.declare", queue=queue, durable=True, arguments={"x-queue-type": kind, key: value})
    text = f"PRECONDITION_FAILED - invalid arg '{key}' for queue '{queue}' in vhost '/' of queue type {MODULES[kind]}"
    client.expect_channel_close(1, 406, text, "queue.declare")


@pytest.mark.parametrize("kind", ["quorum", "stream"])
@pytest.mark.parametrize("options, wrong", [
    ({"durable": True, "auto_delete": True}, "auto-delete"), ({"durable": True, "exclusive": True}, "exclusive-owner"), ({}, "non-durable"),
])  # fmt: skip
def test_replicated_types_are_durable_shared_and_lasting(client, name, kind, options, wrong):
    queue = name()
    client.send(1, "queue.declare", queue=queue, arguments={"x-queue-type": kind}, **options)
    text = f"PRECONDITION_FAILED - invalid property '{wrong}' for queue '{queue}' in vhost '/'"
    client.expect_channel_close(1, 406, text, "queue.declare")


def test_the_server_names_no_quorum_queue(client):
    client.send(1, "queue.declare", queue="", durable=True, arguments={"x-queue-type": "quorum"})
    text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue"
    client.expect_channel_close(1, 406, text, "queue.declare")


def test_declaring_again_compares_only_arguments_of_the_type(client, name):
    queue = name()
    client.declare(1, queue, durable=True, arguments={"x-max-length": 5})
    client.declare(1, queue, durable=True, arguments={"x-max-length": 5, "x-delivery-limit": 4})
    client.send(1, "queue.declare", queue=queue, durable=True, arguments={"x-max-length": 6})
    text = f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{queue}' in vhost '/': received '6' but current is '5'"
    client.expect_channel_close(1, 406, text, "queue.declare")


@pytest.mark.parametrize("kind, key, value", [
    ("classic", "x-stream-offset", "first"), ("quorum", "x-stream-filter", "a"), ("stream", "x-priority", 1),
])  # fmt: skip
def test_a_consumers_argument_of_another_type_is_refused(client, name, kind, key, value):
    queue = name()
    client.declare(1, queue, durable=True, arguments={"x-queue-type": kind})
    client.call(1, "basic.qos", prefetch_count=5)
    client.send(1, "basic.consume", queue=queue, consumer_tag="c", arguments={key: value})
    text = f"PRECONDITION_FAILED - invalid arg '{key}' for queue '{queue}' in vhost '/' of queue type {MODULES[kind]}"
    client.expect_channel_close(1, 406, text, "basic.consume")


def test_quorum_queues_do_not_know_exclusive_consumers(client, connect, name):
    queue = name()
    client.declare(1, queue, durable=True, arguments={"x-queue-type": "quorum"})
    client.consume(1, queue, "one", exclusive=True)
    client.consume(1, queue, "two", exclusive=True)
    other = connect()
    other.channel(1)
    other.consume(1, queue, "three")
    assert client.declare(1, queue, passive=True).consumer_count == 3


def test_a_quorum_queue_with_a_single_active_consumer_cannot_be_polled(client, name):
    queue = name()
    client.declare(1, queue, durable=True, arguments={"x-queue-type": "quorum", "x-single-active-consumer": True})
    client.consume(1, queue, "c", exclusive=True)
    client.send(1, "basic.get", queue=queue)
    text = (
        f"RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get operations are not "
        "supported by quorum queues with single active consumer"
    )
    client.expect_channel_close(1, 405, text, "basic.get")


@pytest.mark.parametrize("flag", ["if_unused", "if_empty"])
def test_a_quorum_queue_is_deleted_without_conditions(client, name, flag):
    queue = name()
    client.declare(1, queue, durable=True, arguments={"x-queue-type": "quorum"})
    client.send(1, "queue.delete", queue=queue, **{flag: True})
    text = (
        f"NOT_IMPLEMENTED - cannot delete queue '{queue}' in vhost '/'. queue.delete operations with "
        f"{flag.replace('_', '-')} flag set are not supported by quorum queues"
    )
    client.expect_connection_close(540, text, "queue.delete")


def test_a_stream_is_deleted_whatever_the_conditions_and_counts_no_readers(client, name):
    queue = name()
    client.declare(1, queue, durable=True, arguments={"x-queue-type": "stream"})
    client.call(1, "basic.qos", prefetch_count=5)
    client.consume(1, queue, "c", arguments={"x-stream-offset": -1})
    assert client.declare(1, queue, passive=True).consumer_count == 0
    client.send(1, "queue.delete", queue=queue, if_unused=True, if_empty=True)
    assert {client.recv().name, client.recv().name} == {"basic.cancel", "queue.delete-ok"}


@pytest.mark.parametrize("kind, told", [
    ("classic", [(None, None)] * 4), ("quorum", [(None, None), (1, None), (2, 1), (3, 1)]),
])  # fmt: skip
def test_only_quorum_queues_tell_how_often_a_message_came_back_and_failed(client, name, kind, told):
    queue = name()
    client.declare(1, queue, durable=True, arguments={"x-queue-type": kind})
    client.publish(1, "", queue, b"m")
    seen = []
    for method in ("basic.nack", "basic.reject", "basic.nack", "basic.reject"):
        got = []
        eventually(lambda got=got: got.append(client.get(1, queue)) or got[-1] is not None, "the message is there")
        headers = got[-1].content.properties.get("headers", {})
        seen.append((headers.get("x-acquired-count"), headers.get("x-delivery-count")))
        client.send(1, method, delivery_tag=got[-1].delivery_tag, requeue=True)
    assert seen == told


def test_not_empty_is_said_before_in_use(client, name):
    queue = name()
    client.declare(1, queue, durable=True)
    client.call(1, "basic.qos", prefetch_count=1)
    client.consume(1, queue, "c")
    client.publish(1, "", queue, b"held")
    assert client.expect("basic.deliver", 1).body == b"held"
    client.publish(1, "", queue, b"waits")
    eventually(lambda: client.ready(1, queue) == 1, "the second waits")
    client.send(1, "queue.delete", queue=queue, if_unused=True, if_empty=True)
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty", "queue.delete")


def test_looking_at_a_quorum_queue_does_not_use_it(client, connect, name):
    queue = name()
    client.declare(1, queue, durable=True, arguments={"x-queue-type": "quorum", "x-expires": 500})

    def is_gone():
        other = connect()
        other.channel(1)
        other.send(1, "queue.declare", queue=queue, passive=True)
        return other.recv().name == "channel.close"

    eventually(is_gone, "the queue went", every_s=0.05)
