"""Which of several mistakes in one method is named: RabbitMQ's order."""

from kit.http import http

LOCKED = (
    "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be originally declared"
    " on another connection or the exclusive property value does not match that of the original declaration."
)


def test_a_missing_exchange_is_named_before_the_lock_of_the_queue(connect, name):
    owner, other = connect(), connect()
    owner.channel(1)
    queue = owner.declare(1, name(), exclusive=True).queue
    other.channel(1)
    other.send(1, "queue.bind", queue=queue, exchange="no-such-exchange")
    other.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'", "queue.bind")
    other.channel(1)
    other.send(1, "queue.bind", queue=queue, exchange="amq.direct")
    other.expect_channel_close(1, 405, LOCKED.format(queue=queue)[:255], "queue.bind")


def test_which_queue_is_meant_comes_before_the_consumers_tag(client, connect, name):
    other = connect()
    other.channel(1)
    queue = other.declare(1, name()).queue
    client.consume(1, queue, tag="c")
    client.send(1, "basic.consume", queue="", consumer_tag="c")
    client.expect_channel_close(1, 404, "NOT_FOUND - no previously declared queue", "basic.consume")


def test_a_quorum_queue_names_its_dead_letter_exchange_before_its_time_to_live(client, name):
    told = {"x-dead-letter-exchange": "", "x-message-ttl": 60_000}
    text = "PRECONDITION_FAILED - inequivalent arg '{}' for queue '{}' in vhost '/': received the value '{}' of type '{}' but current is none"
    for kind, *first in (("classic", "x-message-ttl", "60000", "signedint"), ("quorum", "x-dead-letter-exchange", "", "longstr")):
        queue = client.declare(1, name(kind), durable=True, arguments={"x-queue-type": kind}).queue
        client.send(1, "queue.declare", queue=queue, durable=True, arguments={"x-queue-type": kind, **told})
        argument, value, type_ = first
        client.expect_channel_close(1, 406, text.format(argument, queue, value, type_), "queue.declare")
        client.channel(1)


def test_what_is_no_argument_of_a_queues_type_is_not_compared(client, name):
    queue = client.declare(1, name(), durable=True, arguments={"x-queue-type": "quorum"}).queue
    client.send(1, "queue.declare", queue=queue, durable=True, arguments={"x-queue-type": "quorum", "x-max-priority": 5, "x-overflow": "reject-publish"})
    text = f"PRECONDITION_FAILED - inequivalent arg 'x-overflow' for queue '{queue}' in vhost '/': received the value 'reject-publish' of type 'longstr' but current is none"
    client.expect_channel_close(1, 406, text, "queue.declare")
    client.channel(1)
    client.declare(1, queue, durable=True, arguments={"x-queue-type": "quorum", "x-max-priority": 5})


def test_a_generated_name_is_not_declared_again_but_passively(client):
    queue = client.declare(1, exclusive=True).queue
    assert client.declare(1, queue, passive=True).queue == queue
    client.send(1, "queue.declare", queue=queue, exclusive=True)
    client.expect_channel_close(1, 403, f"ACCESS_REFUSED - queue name '{queue}' contains reserved prefix 'amq.*'", "queue.declare")


def test_a_type_that_does_not_exist_is_named_before_the_default_exchange(client, broker):
    client.send(1, "exchange.declare", exchange="", type="no-such-type")
    if broker.reference:
        client.expect_connection_close(503, "COMMAND_INVALID - unknown exchange type 'no-such-type'", "exchange.declare")
    else:
        client.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown exchange type 'no-such-type'", "exchange.declare")


def test_permissions_are_looked_at_after_reserved_names_and_before_the_default_exchange(nodes, place, enter):
    nothing = {"configure": "^none$", "write": "^none$", "read": "^none$"}
    assert http(nodes[0], "PUT", f"/permissions/{place}/{place}", nothing)[0] == 204
    client = enter(0)
    refused = "{} access to {} in vhost '%s' refused for user '%s'" % (place, place)
    for method, arguments, text in (
        ("exchange.delete", {"exchange": "amq.direct"}, f"deletion of system exchange 'amq.direct' in vhost '{place}' not allowed"),
        ("queue.declare", {"queue": "amq.mine"}, "queue name 'amq.mine' contains reserved prefix 'amq.*'"),
        ("queue.bind", {"queue": "q", "exchange": ""}, refused.format("write", "queue 'q'")),
        ("queue.unbind", {"queue": "q", "exchange": ""}, refused.format("write", "queue 'q'")),
        ("exchange.bind", {"destination": "", "source": "amq.direct"}, refused.format("write", "exchange 'amq.default'")),
        ("exchange.declare", {"exchange": "amq.mine", "type": "direct"}, refused.format("configure", "exchange 'amq.mine'")),
    ):
        client.channel(1)
        client.send(1, method, **arguments)
        client.expect_channel_close(1, 403, f"ACCESS_REFUSED - {text}", method)


def test_the_dead_letter_exchange_is_asked_for_before_the_other_arguments(nodes, place, enter):
    mine = {"configure": ".*", "write": "^mine", "read": ".*"}
    assert http(nodes[0], "PUT", f"/permissions/{place}/{place}", mine)[0] == 204
    client = enter(0)
    for exchange, code, text in (
        ("theirs", 403, f"ACCESS_REFUSED - write access to exchange 'theirs' in vhost '{place}' refused for user '{place}'"),
        ("mine", 406, f"PRECONDITION_FAILED - invalid arg 'x-max-length' for queue 'q' in vhost '{place}': {{value_negative,-1}}"),
    ):
        client.channel(1)
        client.send(1, "queue.declare", queue="q", arguments={"x-dead-letter-exchange": exchange, "x-max-length": -1})
        client.expect_channel_close(1, code, text, "queue.declare")
