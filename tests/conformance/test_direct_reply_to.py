"""Direct reply-to: answers without a queue of the requester's."""

import pytest
from kit.wait import eventually

PSEUDO = "amq.rabbitmq.reply-to"


def request(client, queue, tag="answers"):
    """Channel 1 of `client` awaits answers and sends one request; returns what its `reply-to` became."""
    client.consume(1, PSEUDO, tag, no_ack=True)
    client.publish(1, "", queue, b"request", reply_to=PSEUDO)

    def arrived():
        got = client.get(1, queue, no_ack=True)
        return got.content.properties["reply_to"] if got is not None else None

    return eventually(arrived, "the request arrives")


@pytest.fixture
def queue(client, name):
    made = name()
    client.declare(1, made)
    return made


def test_an_answer_sent_through_another_node_reaches_the_channel_that_asked(client, connect, queue):
    address = request(client, queue)
    assert address.startswith(PSEUDO + ".")
    server = connect()
    server.channel(1)
    for body in (b"one", b"two"):
        server.publish(1, "", address, body, correlation_id="7")
    for body in (b"one", b"two"):
        answer = client.expect("basic.deliver", 1, consumer_tag="answers", exchange="", routing_key=address)
        assert (answer.body, answer.content.properties["correlation_id"]) == (body, "7")


def test_many_answers_in_a_row_keep_their_order(client, connect, queue):
    address = request(client, queue)
    server = connect()
    server.channel(1)
    server.send_bytes(b"".join(server.publish_bytes(1, "", address, b"%d" % i) for i in range(500)))
    assert [got.body for got in client.deliveries(500, 1)] == [b"%d" % i for i in range(500)]


def test_a_reply_consumer_cannot_acknowledge(client):
    client.send(1, "basic.consume", queue=PSEUDO, consumer_tag="c")
    client.expect_channel_close(
        1, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge", "basic.consume"
    )


def test_a_channel_has_one_reply_consumer(client):
    client.consume(1, PSEUDO, "one", no_ack=True)
    client.send(1, "basic.consume", queue=PSEUDO, consumer_tag="two", no_ack=True)
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - reply consumer already set", "basic.consume")


def test_a_request_must_be_sent_on_the_channel_of_the_reply_consumer(client, queue):
    client.consume(1, PSEUDO, no_ack=True)
    client.channel(2)
    client.publish(2, "", queue, b"m", reply_to=PSEUDO)
    client.expect_channel_close(
        2, 406, "PRECONDITION_FAILED - fast reply consumer does not exist", "basic.publish"
    )


def test_after_the_reply_consumer_is_cancelled_requests_are_refused_and_another_may_begin(client, queue):
    client.consume(1, PSEUDO, "one", no_ack=True)
    client.call(1, "basic.cancel", consumer_tag="one")
    assert request(client, queue, "two")
    client.call(1, "basic.cancel", consumer_tag="two")
    client.publish(1, "", queue, b"m", reply_to=PSEUDO)
    client.expect_channel_close(
        1, 406, "PRECONDITION_FAILED - fast reply consumer does not exist", "basic.publish"
    )


@pytest.mark.parametrize("how", ["cancel", "channel", "connection", "socket"])
def test_an_answer_to_a_requester_that_is_gone_is_unroutable(client, connect, queue, how):
    requester = connect()
    requester.channel(1)
    address = request(requester, queue)
    match how:
        case "cancel":
            requester.call(1, "basic.cancel", consumer_tag="answers")
        case "channel":
            requester.call(1, "channel.close", reply_code=200, reply_text="", class_id=0, method_id=0)
        case "connection":
            requester.close()
        case "socket":
            requester.abort()

    def unroutable():
        client.publish(1, "", address, b"late", mandatory=True)
        client.send(1, "basic.qos", prefetch_count=0)
        got = client.recv()
        if got.name == "basic.return":
            assert (got.reply_code, got.reply_text, got.routing_key) == (312, "NO_ROUTE", address)
            client.expect("basic.qos-ok", 1)
            return True
        assert got.name == "basic.qos-ok"
        return False

    eventually(unroutable, "answers come back")


def test_declaring_an_address_tells_whether_its_requester_is_there(client, connect, queue):
    address = request(client, queue)
    other = connect()
    other.channel(1)
    declared = other.call(1, "queue.declare", queue=address, passive=True)
    assert (declared.queue, declared.message_count, declared.consumer_count) == (address, 0, 1)
    declared = other.call(1, "queue.declare", queue=PSEUDO)
    assert (declared.queue, declared.message_count, declared.consumer_count) == (PSEUDO, 0, 1)
    gone = PSEUDO + ".nobody"
    other.send(1, "queue.declare", queue=gone, passive=True)
    other.expect_channel_close(1, 404, f"NOT_FOUND - no queue '{gone}' in vhost '/'", "queue.declare")


@pytest.mark.parametrize("method", ["basic.consume", "basic.get", "queue.purge"])
def test_nobody_reads_from_an_address_by_its_name(client, connect, queue, broker, method):
    if broker.reference:
        pytest.skip("older texts")
    address = request(client, queue)
    for thief in (client, connect()):
        thief.channel(2)
        thief.send(2, method, queue=address)
        thief.expect_channel_close(2, 404, f"NOT_FOUND - no queue '{address}' in vhost '/'", method)


def test_an_address_cannot_be_bound(client, queue, broker):
    if broker.reference:
        pytest.skip("since 4.3")
    address = request(client, queue)
    client.send(1, "queue.bind", queue=address, exchange="amq.fanout")
    client.expect_channel_close(
        1, 403, "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue", "queue.bind"
    )
