"""Exchanges and how they route."""

import pytest
from kit.amqp import Typed


@pytest.fixture
def routed(client, name):
    """Publishes one message through an exchange and names the queues that got it."""

    def bound(exchange, *bindings):
        queues = []
        for i, (key, arguments) in enumerate(bindings):
            queue = name(f"b{i}")
            client.declare(1, queue)
            client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key=key, arguments=arguments)
            queues.append(queue)

        def publish(key, **properties):
            client.publish(1, exchange, key, b"m", **properties)
            return [i for i, queue in enumerate(queues) if client.get_all(1, queue)]

        return publish

    return bound


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_the_standard_types_can_be_declared(client, name, kind):
    exchange = name(kind)
    for _ in range(2):
        client.call(1, "exchange.declare", exchange=exchange, type=kind, durable=True)


@pytest.mark.parametrize("exchange", ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"])
def test_the_standard_exchanges_are_there(client, exchange):
    client.call(1, "exchange.declare", exchange=exchange, passive=True)


def test_a_standard_exchange_may_be_declared_as_it_is(client):
    client.call(1, "exchange.declare", exchange="amq.direct", type="direct", durable=True)


def test_direct_routes_by_the_whole_key(client, name, routed):
    exchange = name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    publish = routed(exchange, ("a", {}), ("b", {}), ("a", {}), ("a.b", {}), ("", {}))
    assert publish("a") == [0, 2]
    assert publish("b") == [1]
    assert publish("") == [4]
    assert publish("a.b") == [3]
    assert publish("c") == []


def test_fanout_ignores_the_key(client, name, routed):
    exchange = name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="fanout")
    publish = routed(exchange, ("", {}), ("whatever", {}))
    assert publish("a") == [0, 1]


@pytest.mark.parametrize(
    "pattern, matching, others",
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "", "A.b", "a..b"]),
        ("*", ["a", ""][:1], ["a.b", "a."]),
        ("*.*", ["a.b", "a.", ".b", "."], ["a", "a.b.c", ""]),
        ("#", ["", "a", "a.b", "..", "a.b.c.d"], []),
        ("a.#", ["a", "a.b", "a.b.c", "a."], ["", "b", "ab"]),
        ("#.a", ["a", "b.a", "c.b.a", ".a"], ["", "a.b"]),
        ("a.*.c", ["a.b.c", "a..c"], ["a.c", "a.b.b.c"]),
        ("a.#.c", ["a.c", "a.b.c", "a.b.b.c", "a..c"], ["a", "c", "a.c.d"]),
        ("#.b.#", ["b", "a.b", "b.c", "a.b.c", "b.b"], ["", "a", "a.c"]),
        ("*.#", ["a", "a.b", "."], [""][:0]),
        ("#.*", ["a", "a.b"], []),
        ("#.#", ["", "a", "a.b"], []),
        ("", [""], ["a", "."]),
        ("a*", ["a*"], ["ab", "a"]),
        ("a.#b", ["a.#b"], ["a.b", "a.xb"]),
    ],
)
def test_topic_star_is_one_word_and_hash_is_any_number(client, name, routed, pattern, matching, others):
    exchange = name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="topic")
    publish = routed(exchange, (pattern, {}))
    assert {key: publish(key) for key in matching} == {key: [0] for key in matching}
    assert {key: publish(key) for key in others} == {key: [] for key in others}


@pytest.mark.parametrize(
    "arguments, headers, matches",
    [
        ({"x-match": "all", "a": 1, "b": "two"}, {"a": 1, "b": "two", "c": 3}, True),
        ({"x-match": "all", "a": 1, "b": "two"}, {"a": 1}, False),
        ({"a": 1}, {"a": 1}, True),  # all is the default
        ({"a": 1}, {"a": 2}, False),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": Typed(b"l", 1)}, True),  # integers compare across widths
        ({"x-match": "any", "a": 1, "b": 2}, {"b": 2}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 2, "b": 1}, False),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"x-match": "all"}, {"a": 1}, True),
        ({"x-match": "all", "a": None}, {"a": "present"}, True),  # void matches presence
        ({"x-match": "all", "a": None}, {"b": 1}, False),
        ({"x-match": "all", "x-other": 1, "a": 1}, {"a": 1}, True),  # x- keys do not count
        ({"x-match": "any", "x-other": 1}, {"x-other": 1}, False),
        ({"x-match": "all", "a": True}, {"a": True}, True),
        ({"x-match": "all", "a": True}, {"a": False}, False),
    ],
)
def test_headers_match_all_or_any(client, name, routed, arguments, headers, matches):
    exchange = name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="headers")
    assert routed(exchange, ("", arguments))("ignored", headers=headers) == ([0] if matches else [])


@pytest.mark.parametrize("kind, matches", [("all-with-x", True), ("any-with-x", True)])
def test_headers_with_x_count_x_keys(client, broker, name, routed, kind, matches):
    exchange = name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="headers")
    publish = routed(exchange, ("", {"x-match": kind, "x-a": 1}))
    assert publish("", headers={"x-a": 1}) == [0]
    assert publish("", headers={"x-a": 2}) == []


def test_an_unknown_x_match_is_refused(client, name):
    exchange, queue = name("x"), name()
    client.call(1, "exchange.declare", exchange=exchange, type="headers")
    client.declare(1, queue)
    client.send(1, "queue.bind", queue=queue, exchange=exchange, arguments={"x-match": "some"})
    got = client.expect("channel.close", 1, reply_code=406, class_id=50, method_id=20)
    assert "x-match" in got.reply_text


def test_a_queue_bound_twice_gets_one_copy(client, name):
    exchange, queue = name("x"), name()
    client.call(1, "exchange.declare", exchange=exchange, type="topic")
    client.declare(1, queue)
    for key in ("#", "a.*", "a.b", "a.b"):
        client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key=key)
    client.publish(1, exchange, "a.b", b"m")
    assert client.get_all(1, queue) == [b"m"]


def test_the_default_exchange_routes_to_the_queue_of_that_name(client, name):
    queue = name()
    client.declare(1, queue)
    client.publish(1, "", queue, b"m")
    got = client.get(1, queue, no_ack=True)
    assert (got.exchange, got.routing_key, got.body) == ("", queue, b"m")


def test_cc_and_bcc_add_routing_keys_and_bcc_is_removed(client, name):
    queues = [name(f"q{i}") for i in range(3)]
    for queue in queues:
        client.declare(1, queue)
    headers = {"CC": [queues[1]], "BCC": [queues[2]]}
    client.publish(1, "", queues[0], b"m", headers=headers)
    for queue in queues:
        got = client.get(1, queue, no_ack=True)
        assert got.body == b"m"
        assert got.routing_key == queues[0]
        assert got.content.properties["headers"] == {"CC": [queues[1]]}


@pytest.mark.parametrize("header", ["CC", "BCC"])
@pytest.mark.parametrize(("value", "kind"), [("x", "longstr"), (None, "void"), (Typed(b"I", 5), "signedint"), ({}, "table")])
def test_a_cc_or_bcc_that_is_no_array_is_refused(client, name, header, value, kind):
    queue = name()
    client.declare(1, queue)
    client.publish(1, "", queue, b"m", headers={header: value})
    reason = f'{{unacceptable_type_in_header,"{header}",{kind}}}'
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - invalid message: {reason}", "basic.publish")


@pytest.mark.parametrize("value", [[], [Typed(b"I", 1)]])
def test_a_bcc_that_names_nobody_is_removed_too(client, name, value):
    queue = name()
    client.declare(1, queue)
    client.publish(1, "", queue, b"m", headers={"BCC": value, "k": "v"})
    assert client.get(1, queue, no_ack=True).content.properties["headers"] == {"k": "v"}


def test_exchanges_bind_to_exchanges(client, name):
    source, middle, queue = name("source"), name("middle"), name()
    client.call(1, "exchange.declare", exchange=source, type="topic")
    client.call(1, "exchange.declare", exchange=middle, type="direct")
    client.declare(1, queue)
    client.call(1, "exchange.bind", destination=middle, source=source, routing_key="a.#")
    client.call(1, "queue.bind", queue=queue, exchange=middle, routing_key="a.b")
    client.publish(1, source, "a.b", b"through")
    client.publish(1, source, "a.c", b"stopped by the second")
    client.publish(1, source, "b.b", b"stopped by the first")
    got = client.get(1, queue, no_ack=True)
    assert (got.body, got.exchange, got.routing_key) == (b"through", source, "a.b")
    assert client.get(1, queue) is None
    client.call(1, "exchange.unbind", destination=middle, source=source, routing_key="a.#")
    client.publish(1, source, "a.b", b"no more")
    assert client.get(1, queue) is None


def test_exchanges_bound_in_a_circle_deliver_once(client, name):
    one, two, queue = name("one"), name("two"), name()
    for exchange in (one, two):
        client.call(1, "exchange.declare", exchange=exchange, type="fanout")
    client.declare(1, queue)
    client.call(1, "exchange.bind", destination=two, source=one)
    client.call(1, "exchange.bind", destination=one, source=two)
    client.call(1, "queue.bind", queue=queue, exchange=one)
    client.call(1, "queue.bind", queue=queue, exchange=two)
    client.publish(1, one, "", b"m")
    assert client.get_all(1, queue) == [b"m"]


def test_an_alternate_exchange_takes_what_was_not_routed(client, name):
    exchange, alternate, queue = name("x"), name("ae"), name()
    client.call(1, "exchange.declare", exchange=alternate, type="fanout")
    client.call(1, "exchange.declare", exchange=exchange, type="direct", arguments={"alternate-exchange": alternate})
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=alternate)
    client.publish(1, exchange, "nobody", b"m", mandatory=True)
    assert client.get_all(1, queue) == [b"m"]


def test_an_internal_exchange_refuses_publishes_and_takes_bindings(client, name):
    source, internal, queue = name("source"), name("internal"), name()
    client.call(1, "exchange.declare", exchange=source, type="fanout")
    client.call(1, "exchange.declare", exchange=internal, type="fanout", internal=True)
    client.declare(1, queue)
    client.call(1, "exchange.bind", destination=internal, source=source)
    client.call(1, "queue.bind", queue=queue, exchange=internal)
    client.publish(1, source, "", b"m")
    assert client.get_all(1, queue) == [b"m"]
    client.publish(1, internal, "", b"m")
    client.expect_channel_close(
        1, 403, f"ACCESS_REFUSED - cannot publish to internal exchange '{internal}' in vhost '/'", "basic.publish"
    )


def test_a_conflicting_declare_names_the_argument(client, name):
    exchange = name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    conflicts = [
        ({"type": "fanout"}, "type", "'fanout'", "'direct'"),
        ({"type": "direct", "durable": True}, "durable", "'true'", "'false'"),
        ({"type": "direct", "auto_delete": True}, "auto_delete", "'true'", "'false'"),
        ({"type": "direct", "internal": True}, "internal", "'true'", "'false'"),
    ]
    for options, argument, received, current in conflicts:
        client.send(1, "exchange.declare", exchange=exchange, **options)
        client.expect_channel_close(
            1, 406,
            f"PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange '{exchange}' in vhost '/': "
            f"received {received} but current is {current}", "exchange.declare",
        )  # fmt: skip
        client.channel(1)


def test_an_unknown_type_is_refused(client, broker, name):
    client.send(1, "exchange.declare", exchange=name("x"), type="no-such-type")
    if broker.reference:
        client.expect_connection_close(503, "COMMAND_INVALID - unknown exchange type 'no-such-type'", "exchange.declare")
        return
    client.expect_channel_close(
        1, 406, "PRECONDITION_FAILED - unknown exchange type 'no-such-type'", "exchange.declare"
    )


def test_a_reserved_name_is_refused(client):
    client.send(1, "exchange.declare", exchange="amq.mine", type="direct")
    client.expect_channel_close(
        1, 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'", "exchange.declare"
    )


def test_passive_asks_only_for_existence(client, name):
    exchange = name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.call(1, "exchange.declare", exchange=exchange, type="fanout", durable=True, passive=True)
    client.send(1, "exchange.declare", exchange="no-such-exchange", type="direct", passive=True)
    client.expect_channel_close(
        1, 404, "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'", "exchange.declare"
    )


@pytest.mark.parametrize("method, options", [
    ("exchange.declare", {"exchange": "", "type": "direct"}),
    ("exchange.delete", {"exchange": ""}),
])  # fmt: skip
def test_the_default_exchange_cannot_be_changed(client, method, options):
    client.send(1, method, **options)
    client.expect_channel_close(1, 403, "ACCESS_REFUSED - operation not permitted on the default exchange", method)


def test_the_default_exchange_cannot_be_bound(client, name):
    queue = name()
    client.declare(1, queue)
    client.send(1, "queue.bind", queue=queue, exchange="", routing_key="k")
    client.expect_channel_close(
        1, 403, "ACCESS_REFUSED - operation not permitted on the default exchange", "queue.bind"
    )


def test_a_standard_exchange_cannot_be_deleted(client):
    client.send(1, "exchange.delete", exchange="amq.direct")
    client.expect_channel_close(
        1, 403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed", "exchange.delete"
    )


def test_deleting_what_is_not_there_succeeds(client):
    client.call(1, "exchange.delete", exchange="no-such-exchange")


def test_delete_if_unused_refuses_while_it_is_a_source(client, name):
    exchange, queue = name("x"), name()
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key="k")
    client.send(1, "exchange.delete", exchange=exchange, if_unused=True)
    client.expect_channel_close(
        1, 406, f"PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use", "exchange.delete"
    )
    client.channel(1)
    client.call(1, "queue.unbind", queue=queue, exchange=exchange, routing_key="k")
    client.call(1, "exchange.delete", exchange=exchange, if_unused=True)


def test_an_auto_delete_exchange_goes_with_its_last_binding(client, name):
    exchange, queue = name("x"), name()
    client.call(1, "exchange.declare", exchange=exchange, type="direct", auto_delete=True)
    client.declare(1, queue)
    for key in ("a", "b"):
        client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key=key)
    client.call(1, "queue.unbind", queue=queue, exchange=exchange, routing_key="a")
    client.call(1, "exchange.declare", exchange=exchange, passive=True)
    client.call(1, "queue.unbind", queue=queue, exchange=exchange, routing_key="b")
    client.send(1, "exchange.declare", exchange=exchange, passive=True)
    client.expect_channel_close(1, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", "exchange.declare")


def test_an_auto_delete_exchange_goes_with_the_queue_it_was_bound_to(client, name):
    exchange, queue = name("x"), name()
    client.call(1, "exchange.declare", exchange=exchange, type="direct", auto_delete=True)
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key="a")
    client.call(1, "queue.delete", queue=queue)
    client.send(1, "exchange.declare", exchange=exchange, passive=True)
    client.expect_channel_close(1, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", "exchange.declare")


def test_a_deleted_exchange_takes_its_bindings_with_it(client, name):
    exchange, queue = name("x"), name()
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.declare(1, queue)
    client.call(1, "queue.bind", queue=queue, exchange=exchange, routing_key="k")
    client.call(1, "exchange.delete", exchange=exchange)
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.publish(1, exchange, "k", b"m")
    assert client.get(1, queue) is None


def test_no_wait_declares_without_an_answer(client, name):
    exchange = name("x")
    client.send(1, "exchange.declare", exchange=exchange, type="direct", no_wait=True)
    client.call(1, "exchange.declare", exchange=exchange, passive=True)
    client.send(1, "exchange.delete", exchange=exchange, no_wait=True)
    client.send(1, "exchange.declare", exchange=exchange, passive=True)
    client.expect_channel_close(1, 404, f"NOT_FOUND - no exchange '{exchange}' in vhost '/'", "exchange.declare")


def test_a_binding_to_what_is_missing_names_the_exchange_first(client, name):
    queue, exchange = name(), name("x")
    client.send(1, "queue.bind", queue="no-such-queue", exchange="no-such-exchange")
    client.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'", "queue.bind")
    client.channel(1)
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.send(1, "queue.bind", queue="no-such-queue", exchange=exchange)
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'no-such-queue' in vhost '/'", "queue.bind")
    client.channel(1)
    client.declare(1, queue)
    client.send(1, "queue.bind", queue=queue, exchange="no-such-exchange")
    client.expect_channel_close(1, 404, "NOT_FOUND - no exchange 'no-such-exchange' in vhost '/'", "queue.bind")


def test_unbinding_what_is_not_bound_succeeds(client, name):
    queue, exchange = name(), name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="direct")
    client.declare(1, queue)
    client.call(1, "queue.unbind", queue=queue, exchange=exchange, routing_key="never")
    client.call(1, "queue.unbind", queue="no-such-queue", exchange=exchange, routing_key="k")
    client.call(1, "queue.unbind", queue=queue, exchange="no-such-exchange", routing_key="k")
    client.call(1, "exchange.unbind", destination="no-such-exchange", source=exchange, routing_key="k")


def test_bindings_with_other_arguments_are_other_bindings(client, name):
    exchange, queue = name("x"), name()
    client.call(1, "exchange.declare", exchange=exchange, type="headers")
    client.declare(1, queue)
    for colour in ("red", "blue"):
        client.call(1, "queue.bind", queue=queue, exchange=exchange, arguments={"colour": colour})
    client.call(1, "queue.unbind", queue=queue, exchange=exchange, arguments={"colour": "red"})
    client.publish(1, exchange, "", b"red", headers={"colour": "red"})
    client.publish(1, exchange, "", b"blue", headers={"colour": "blue"})
    assert client.get_all(1, queue) == [b"blue"]


def test_an_exchange_declared_on_one_node_is_usable_on_the_next_at_once(connect, name):
    one, two = connect(), connect()
    exchange, queue = name("x"), name()
    one.channel(1)
    two.channel(1)
    one.call(1, "exchange.declare", exchange=exchange, type="fanout")
    two.declare(1, queue)
    two.call(1, "queue.bind", queue=queue, exchange=exchange)
