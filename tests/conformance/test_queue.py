"""Queues: declare, delete, purge, and who may see them."""

import re

import pytest
from kit.amqp import Typed
from kit.wait import eventually


def test_a_declare_is_idempotent_and_counts_messages_and_consumers(client, name):
    queue = name()
    first = client.declare(1, queue, durable=True)
    assert (first.queue, first.message_count, first.consumer_count) == (queue, 0, 0)
    client.publish(1, "", queue, b"1")
    client.publish(1, "", queue, b"2")
    client.channel(2)
    assert client.get(2, queue).body == b"1"  # unacked messages do not count
    client.consume(2, queue, no_ack=True)
    assert client.expect("basic.deliver", 2).body == b"2"
    again = client.declare(1, queue, durable=True)
    assert (again.message_count, again.consumer_count) == (0, 1)


def test_an_empty_name_is_replaced_by_a_generated_one(client):
    one, two = client.declare(1, exclusive=True).queue, client.declare(1, exclusive=True).queue
    assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", one)
    assert one != two


def test_an_empty_name_afterwards_means_the_last_queue_declared_here(client, name):
    queue = name()
    client.declare(1, name("earlier"))
    client.declare(1, queue)
    client.call(1, "queue.bind", queue="", exchange="amq.direct", routing_key=f"to-{queue}")
    client.publish(1, "amq.direct", f"to-{queue}", b"m")
    assert client.get(1, "", no_ack=True).body == b"m"
    client.publish(1, "", queue, b"purged")
    assert client.call(1, "queue.purge", queue="").message_count == 1
    client.consume(1, "", tag="c")
    client.publish(1, "", queue, b"consumed")
    assert client.expect("basic.deliver", 1).body == b"consumed"
    assert client.call(1, "queue.delete", queue="").message_count == 0


def test_an_empty_key_with_an_empty_queue_name_means_that_queue_too(client, name):
    queue = name()
    client.declare(1, queue)
    client.call(1, "queue.bind", queue="", exchange="amq.direct", routing_key="")
    client.publish(1, "amq.direct", queue, b"m")
    assert client.get_all(1, queue) == [b"m"]


@pytest.mark.parametrize("method, options", [
    ("queue.bind", {"exchange": "amq.direct"}), ("basic.consume", {}), ("basic.get", {}), ("queue.purge", {}),
    ("queue.delete", {}),
])  # fmt: skip
def test_an_empty_name_before_any_declare_is_an_error(client, method, options):
    client.send(1, method, queue="", **options)
    client.expect_channel_close(1, 404, "NOT_FOUND - no previously declared queue", method)


def test_a_conflicting_declare_names_the_property(client, name):
    queue = name()
    client.declare(1, queue)
    for options, argument, received, current in (
        ({"durable": True}, "durable", "true", "false"),
        ({"auto_delete": True}, "auto_delete", "true", "false"),
    ):
        client.send(1, "queue.declare", queue=queue, **options)
        client.expect_channel_close(
            1, 406,
            f"PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{queue}' in vhost '/': "
            f"received '{received}' but current is '{current}'", "queue.declare",
        )  # fmt: skip
        client.channel(1)


def test_a_conflicting_declare_names_the_argument(client, name):
    plain, limited = name("plain"), name("limited")
    client.declare(1, plain)
    client.declare(1, limited, arguments={"x-max-length": 5})
    client.declare(1, limited, arguments={"x-max-length": Typed(b"l", 5)})  # of another width, but equal
    for queue, arguments, text in (
        (limited, {"x-max-length": 6}, "received '6' but current is '5'"),
        (limited, {}, "received none but current is the value '5' of type 'signedint'"),
        (plain, {"x-max-length": 6}, "received the value '6' of type 'signedint' but current is none"),
    ):
        client.send(1, "queue.declare", queue=queue, arguments=arguments)
        client.expect_channel_close(
            1, 406,
            f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{queue}' in vhost '/': {text}",
            "queue.declare",
        )  # fmt: skip
        client.channel(1)


def test_unknown_arguments_are_kept_and_not_compared(client, name):
    queue = name()
    client.declare(1, queue, arguments={"x-unknown": "a", "other": [1, {"deep": True}]})
    client.declare(1, queue)


def test_a_reserved_name_is_refused(client):
    client.send(1, "queue.declare", queue="amq.mine")
    client.expect_channel_close(
        1, 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'", "queue.declare"
    )


def test_passive_asks_only_for_existence(client, name):
    queue = name()
    client.declare(1, queue)
    client.declare(1, queue, passive=True, durable=True, auto_delete=True)
    client.send(1, "queue.declare", queue="no-such-queue", passive=True)
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'no-such-queue' in vhost '/'", "queue.declare")


def test_no_wait_suppresses_every_ok(client, name):
    queue = name()
    client.send(1, "queue.declare", queue=queue, no_wait=True)
    client.send(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key=queue, no_wait=True)
    client.publish(1, "amq.direct", queue, b"purged")
    client.send(1, "queue.purge", queue=queue, no_wait=True)
    client.publish(1, "amq.direct", queue, b"m")
    client.send(1, "basic.consume", queue=queue, consumer_tag="c", no_wait=True, no_ack=True)
    assert client.expect("basic.deliver", 1).body == b"m"
    client.send(1, "basic.cancel", consumer_tag="c", no_wait=True)
    client.send(1, "queue.delete", queue=queue, no_wait=True)
    client.send(1, "confirm.select", no_wait=True)
    client.send(1, "queue.declare", queue=queue, passive=True)
    client.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", "queue.declare")


def test_no_wait_does_not_suppress_errors(client):
    client.send(1, "queue.declare", queue="no-such-queue", passive=True, no_wait=True)
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'no-such-queue' in vhost '/'", "queue.declare")


def test_newlines_are_removed_from_names(client, name):
    queue = name()
    assert client.declare(1, f"\r\n{queue}\n").queue == queue


LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could be originally "
    "declared on another connection or the exclusive property value does not match that of the original declaration."
)


@pytest.mark.parametrize("method, options", [
    ("queue.declare", {}), ("queue.declare", {"exclusive": True}), ("queue.declare", {"passive": True}),
    ("basic.consume", {}), ("basic.get", {}), ("queue.purge", {}), ("queue.delete", {}),
    ("queue.bind", {"exchange": "amq.direct", "routing_key": "k"}),
])  # fmt: skip
def test_an_exclusive_queue_is_locked_for_other_connections(connect, name, method, options):
    owner, other = connect(), connect()
    queue = name()
    owner.channel(1)
    owner.declare(1, queue, exclusive=True)
    other.channel(1)
    other.send(1, method, queue=queue, **options)
    text = LOCKED.format(queue)
    if len(text) > 255:
        text = text[:252] + "..."
    other.expect_channel_close(1, 405, text, method)
    owner.declare(1, queue, exclusive=True)


def test_an_exclusive_queue_is_open_to_all_channels_of_its_connection(client, name):
    queue = name()
    client.declare(1, queue, exclusive=True)
    client.channel(2)
    client.declare(2, queue, exclusive=True)
    client.consume(2, queue)


def test_others_may_publish_to_an_exclusive_queue(connect, name):
    owner, other = connect(), connect()
    queue = name()
    owner.channel(1)
    owner.declare(1, queue, exclusive=True)
    owner.consume(1, queue, no_ack=True)
    other.confirm_channel(1)
    other.publish_confirmed(1, "", queue, b"m")
    assert owner.expect("basic.deliver", 1).body == b"m"


def test_durable_and_exclusive_is_stored_as_not_durable(client, broker, name):
    if broker.reference:
        pytest.skip("RabbitMQ 3.10 compares the flags; 4.3 and we store it as not durable")
    queue = name()
    client.declare(1, queue, exclusive=True, durable=True)
    client.declare(1, queue, exclusive=True, durable=False)


def test_an_auto_delete_queue_stays_until_it_had_a_consumer(client, name):
    queue = name()
    client.declare(1, queue, auto_delete=True)
    client.declare(1, queue, auto_delete=True)
    client.channel(2)
    one, two = client.consume(1, queue), client.consume(2, queue)
    client.call(1, "basic.cancel", consumer_tag=one)
    client.declare(1, queue, passive=True)
    client.call(2, "basic.cancel", consumer_tag=two)
    client.send(1, "queue.declare", queue=queue, passive=True)
    client.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", "queue.declare")


@pytest.mark.parametrize("ending", ["channel", "connection", "vanish"])
def test_an_auto_delete_queue_goes_when_its_last_consumer_ends_in_any_way(connect, name, ending):
    queue = name()
    one, two = connect(), connect()
    one.channel(1)
    one.declare(1, queue, auto_delete=True)
    one.consume(1, queue)
    if ending == "channel":
        one.call(1, "channel.close", reply_code=200)
    elif ending == "connection":
        one.close()
    else:
        one.abort()
    numbers = iter(range(1, 2000))

    def gone():
        number = two.channel(next(numbers))
        two.send(number, "queue.declare", queue=queue, passive=True)
        got = two.recv()
        if got.name == "channel.close":
            two.send(number, "channel.close-ok")
        return got.name == "channel.close" and got.reply_code == 404

    eventually(gone, "the queue is gone")


def test_auto_delete_queues_are_declared_anew_while_the_old_ones_go(connect, name):
    """As clients do that connect again: a declare gets no queue that its last consumer has left."""
    queues = [name(str(i)) for i in range(40)]
    one, two = connect(0), connect(0)
    one.channel(1)
    two.channel(1)
    for queue in queues:
        one.declare(1, queue, durable=True, auto_delete=True)
        one.consume(1, queue)
    one.close()
    for queue in queues:
        assert two.declare(1, queue, durable=True, auto_delete=True).consumer_count == 0
        two.call(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)
        two.consume(1, queue)
    for queue in queues:
        two.publish(1, "amq.direct", queue, b"of the new one")
        assert two.expect("basic.deliver", 1).body == b"of the new one"


def test_delete_counts_what_was_ready(client, name):
    queue = name()
    client.declare(1, queue)
    for _ in range(3):
        client.publish(1, "", queue, b"m")
    assert client.call(1, "queue.delete", queue=queue).message_count == 3


def test_deleting_what_is_not_there_succeeds(client):
    assert client.call(1, "queue.delete", queue="no-such-queue").message_count == 0


def test_delete_if_empty_and_if_unused_refuse(client, name):
    queue = name()
    client.declare(1, queue)
    client.publish(1, "", queue, b"m")
    client.send(1, "queue.delete", queue=queue, if_empty=True)
    client.expect_channel_close(
        1, 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty", "queue.delete"
    )
    client.channel(1)
    client.channel(2)
    client.consume(2, queue)
    client.expect("basic.deliver", 2)
    client.send(1, "queue.delete", queue=queue, if_unused=True)
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use", "queue.delete")
    client.call(2, "channel.close", reply_code=200)
    client.channel(1)
    client.call(1, "queue.purge", queue=queue)
    client.call(1, "queue.delete", queue=queue, if_unused=True, if_empty=True)


def test_a_deleted_queue_cancels_its_consumers_aloud(connect, name):
    queue = name()
    consumer, other = connect(), connect()
    consumer.channel(1)
    consumer.declare(1, queue)
    tag = consumer.consume(1, queue)
    other.channel(1)
    other.call(1, "queue.delete", queue=queue)
    consumer.expect("basic.cancel", 1, consumer_tag=tag, no_wait=True)
    consumer.call(1, "basic.qos")


def test_a_deleted_queue_cancels_silently_without_the_capability(raw, connect, name):
    queue = name()
    consumer = raw().login(capabilities={"authentication_failure_close": True})
    consumer.channel(1)
    consumer.declare(1, queue)
    consumer.consume(1, queue)
    other = connect()
    other.channel(1)
    other.call(1, "queue.delete", queue=queue)
    consumer.expect_nothing_until(1, "no cancel")


def test_a_queue_declared_again_after_its_delete_is_another_queue(client, name):
    queue = name()
    client.declare(1, queue)
    client.publish(1, "", queue, b"old")
    client.call(1, "queue.delete", queue=queue)
    assert client.declare(1, queue, durable=True).message_count == 0
    client.publish(1, "", queue, b"new")
    assert client.get_all(1, queue) == [b"new"]


def test_purge_removes_what_is_ready_and_keeps_what_is_held(client, name):
    queue = name()
    client.declare(1, queue)
    for body in (b"held", b"1", b"2"):
        client.publish(1, "", queue, body)
    held = client.get(1, queue)
    assert client.call(1, "queue.purge", queue=queue).message_count == 2
    assert client.get(1, queue) is None
    client.send(1, "basic.nack", delivery_tag=held.delivery_tag, requeue=True)
    assert client.get_all(1, queue) == [b"held"]


@pytest.mark.parametrize("method", ["queue.purge", "basic.get", "basic.consume"])
def test_a_missing_queue_is_not_found(client, method):
    client.send(1, method, queue="no-such-queue")
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'no-such-queue' in vhost '/'", method)


def test_names_of_255_octets_and_of_any_script_are_accepted(client, name):
    for queue in (name("q" * 200), name("очередь ☃ 'quoted' \"x\"")):
        assert client.declare(1, queue).queue == queue
        client.publish(1, "", queue, b"m")
        assert client.get_all(1, queue) == [b"m"]


def test_a_queue_declared_on_one_node_is_known_on_the_others_at_once(connect, name):
    one, two, three = connect(), connect(), connect()
    for each in (one, two, three):
        each.channel(1)
    for i in range(20):
        queue = name(f"q{i}")
        one.declare(1, queue, durable=True)
        two.declare(1, queue, passive=True)
        three.declare(1, queue, durable=True)


def test_what_is_not_bound_is_unbound_from_a_locked_queue_too(connect, name):
    owner, other = connect(), connect()
    queue = name()
    owner.channel(1)
    owner.declare(1, queue, exclusive=True)
    owner.call(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key=f"bound-{queue}")
    other.channel(1)
    other.call(1, "queue.unbind", queue=queue, exchange="amq.direct", routing_key="never")
    other.send(1, "queue.unbind", queue=queue, exchange="amq.direct", routing_key=f"bound-{queue}")
    got = other.expect("channel.close", 1)
    assert got.reply_code == 405
