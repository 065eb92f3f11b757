"""The firehose: copies of what is published and delivered in a virtual host that is traced."""

import pytest
from kit.http import http
from kit.wait import eventually


@pytest.fixture
def traced(nodes, place, enter):
    """A connection to a vhost that is traced, with a queue of copies and the queue `work`."""
    assert http(nodes[0], "PUT", f"/vhosts/{place}", {"tracing": True})[0] == 204
    assert http(nodes[0], "GET", f"/vhosts/{place}")[1]["tracing"] is True
    client = enter(0)
    client.channel(1)
    client.declare(1, "copies", durable=True)
    client.declare(1, "work", durable=True)
    client.call(1, "queue.bind", queue="copies", exchange="amq.rabbitmq.trace", routing_key="#")
    return client


def copy(client):
    """The next copy, with its headers."""
    got = eventually(lambda: client.get(1, "copies", no_ack=True), "a copy comes")
    return got, got.content.properties["headers"]


def test_a_publish_is_told_with_where_it_went(traced, place):
    traced.publish(1, "", "work", b"body", headers={"h": 1}, priority=3, message_id="m")
    got, headers = copy(traced)
    assert (got.exchange, got.routing_key, got.body) == ("amq.rabbitmq.trace", "publish.", b"body")
    assert headers["exchange_name"] == ""
    assert headers["routing_keys"] == ["work"]
    assert headers["routed_queues"] == ["work"]
    assert (headers["user"], headers["vhost"]) == (place, place)
    assert headers["channel"] == 1
    assert " -> " in headers["connection"]
    assert headers["node"]
    assert headers["properties"] == {"headers": {"h": 1}, "priority": 3, "message_id": "m"}


def test_a_message_that_no_queue_takes_is_told_too(traced):
    traced.publish(1, "amq.topic", "nowhere", b"lost", mandatory=True)
    traced.expect("basic.return", 1)
    got, headers = copy(traced)
    assert (got.routing_key, headers["routed_queues"]) == ("publish.amq.topic", [])


def test_deliveries_and_gets_are_told(traced):
    traced.publish(1, "", "work", b"one")
    assert copy(traced)[0].routing_key == "publish."
    got = eventually(lambda: traced.get(1, "work"), "it is there")
    traced.send(1, "basic.reject", delivery_tag=got.delivery_tag, requeue=True)
    told, headers = copy(traced)
    assert (told.routing_key, told.body, headers["redelivered"]) == ("deliver.work", b"one", 0)
    traced.channel(2)
    traced.consume(2, "work", no_ack=True)
    traced.expect("basic.deliver", 2)
    told, headers = copy(traced)
    assert (told.routing_key, headers["redelivered"], headers["channel"]) == ("deliver.work", 1, 2)
    # What comes out of the queue of copies is not told again.
    assert traced.get(1, "copies") is None


def test_a_transaction_is_told_when_it_is_committed(traced):
    traced.call(1, "tx.select")
    traced.publish(1, "", "work", b"in tx")
    traced.call(1, "tx.commit")
    assert copy(traced)[0].body == b"in tx"


def test_where_nothing_is_traced_nothing_is_told(traced, nodes, place):
    assert http(nodes[0], "PUT", f"/vhosts/{place}", {"tracing": False})[0] == 204
    assert http(nodes[0], "GET", f"/vhosts/{place}")[1]["tracing"] is False
    traced.publish(1, "", "work", b"quiet")
    eventually(lambda: traced.get(1, "work", no_ack=True), "it came")
    assert traced.get(1, "copies") is None


def test_what_is_published_and_got_over_http_is_told_too(traced, nodes, place):
    message = {"properties": {"message_id": "m"}, "routing_key": "work", "payload": "over http", "payload_encoding": "string"}
    assert http(nodes[0], "POST", f"/exchanges/{place}/amq.default/publish", message)[1] == {"routed": True}
    got, headers = copy(traced)
    assert (got.routing_key, got.body, headers["routed_queues"]) == ("publish.", b"over http", ["work"])
    assert headers["user"] == "guest"
    assert headers["properties"] == {"message_id": "m"}
    get = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}
    assert http(nodes[0], "POST", f"/queues/{place}/work/get", get)[1][0]["payload"] == "over http"
    got, headers = copy(traced)
    assert (got.routing_key, got.body, headers["user"]) == ("deliver.work", b"over http", "guest")
    assert (headers["channel"], headers["redelivered"]) == (1, 0)
