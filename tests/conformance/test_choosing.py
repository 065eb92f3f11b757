"""Exchanges that send each message to one of their queues. RabbitMQ has most of these as plugins."""

import itertools

import pytest

pytestmark = pytest.mark.usefixtures("own_broker")


@pytest.fixture
def exchange(client, name):
    """Declares an exchange of a type, with queues bound by these keys; their names."""

    count = itertools.count()

    def make(kind, *keys, durable=False, **arguments):
        number = next(count)
        made, queues = name(f"x{number}"), []
        client.call(1, "exchange.declare", exchange=made, type=kind, durable=True, arguments=arguments)
        for i, key in enumerate(keys):
            queues.append(name(f"q{number}-{i}"))
            client.declare(1, queues[-1], durable=durable)
            client.call(1, "queue.bind", queue=queues[-1], exchange=made, routing_key=key)
        return made, queues

    return make


def shares(client, queues):
    return [len(client.get_all(1, queue)) for queue in queues]


def test_a_consistent_hash_shares_messages_by_weight_and_keeps_a_key_together(client, exchange):
    made, queues = exchange("x-consistent-hash", "1", "1", "2")
    for i in range(400):
        client.publish(1, made, f"key-{i}", b"m")
    one, two, double = shares(client, queues)
    assert one + two + double == 400
    assert 50 < one < 150 and 50 < two < 150 and 140 < double < 260
    for _ in range(20):
        client.publish(1, made, "always the same", b"m")
    assert sorted(shares(client, queues)) == [0, 0, 20]


def test_a_key_goes_to_the_same_queue_from_every_node(connect, client, exchange):
    made, queues = exchange("x-consistent-hash", "1", "1", "1")
    for node in range(3):
        publisher = connect(node=node)
        publisher.confirm_channel(1)
        for i in range(20):
            publisher.publish_confirmed(1, made, f"key-{i}", f"{i}".encode())
        publisher.close()
    for queue in queues:
        bodies = client.get_all(1, queue)
        assert all(bodies.count(body) == 3 for body in bodies)


def test_a_consistent_hash_may_be_of_a_header_or_a_property(client, exchange):
    made, queues = exchange("x-consistent-hash", "1", "1", "1", **{"hash-header": "customer"})
    for i in range(30):
        client.publish(1, made, f"{i}", b"m", headers={"customer": "ann"})
    assert sorted(shares(client, queues)) == [0, 0, 30]
    made, queues = exchange("x-consistent-hash", "1", "1", "1", **{"hash-property": "message_id"})
    for i in range(60):
        client.publish(1, made, "k", b"m", message_id=f"id-{i}")
    assert min(shares(client, queues)) > 5


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"hash-header": "h", "hash-property": "timestamp"}, "hash-header and hash-property are mutually exclusive"),
        ({"hash-property": "priority"}, "Unsupported property: priority"),
    ],
)
def test_what_a_consistent_hash_cannot_hash_is_refused(client, name, arguments, text):
    client.send(1, "exchange.declare", exchange=name("x"), type="x-consistent-hash", arguments=arguments)
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - {text}", "exchange.declare")


@pytest.mark.parametrize(
    "key, text",
    [
        ("0", "The binding key must be greater than 0"),
        ("10001", "The binding key must not exceed 10000"),
        ("x", 'The binding key must be an integer: <<"x">>'),
    ],
)
def test_a_weight_is_an_integer_in_its_range(client, name, exchange, key, text):
    made, _ = exchange("x-consistent-hash")
    queue = name("q")
    client.declare(1, queue)
    client.send(1, "queue.bind", queue=queue, exchange=made, routing_key=key)
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - {text}", "queue.bind")


def test_a_modulus_hash_keeps_a_key_together(client, exchange):
    made, queues = exchange("x-modulus-hash", "", "", "")
    for i in range(60):
        client.publish(1, made, f"key-{i}", b"m")
    assert min(shares(client, queues)) > 5
    for _ in range(10):
        client.publish(1, made, "one", b"m")
    assert sorted(shares(client, queues)) == [0, 0, 10]


def test_random_gives_each_message_to_one_queue_and_none_is_left_out(client, exchange):
    made, queues = exchange("x-random", "a", "b", "c")
    for _ in range(90):
        client.publish(1, made, "the same", b"m")
    found = shares(client, queues)
    assert sum(found) == 90 and min(found) > 5


def test_local_random_takes_queues_of_the_publishers_node_only(connect, exchange, client, name):
    made, _ = exchange("x-local-random")
    queues = []
    for node in range(2):
        there = connect(node=node)
        there.channel(1)
        queues.append(name(f"n{node}"))
        there.declare(1, queues[-1])  # transient: it lives where it is declared
        there.call(1, "queue.bind", queue=queues[-1], exchange=made, routing_key="")
    for node, expected in ((0, [5, 0]), (1, [0, 5])):
        publisher = connect(node=node)
        publisher.confirm_channel(1)
        publisher.publish_confirmed(1, made, "k", *[b"m"] * 5)
        assert shares(client, queues) == expected
    publisher = connect(node=2)
    publisher.confirm_channel(1)
    publisher.publish(1, made, "k", b"nobody", mandatory=True)
    publisher.expect("basic.return", 1, reply_code=312)


def test_local_random_is_bound_without_a_key_and_to_classic_queues(client, exchange, name):
    made, _ = exchange("x-local-random")
    queue = name("q")
    client.declare(1, queue)
    client.send(1, "queue.bind", queue=queue, exchange=made, routing_key="k")
    client.expect_channel_close(
        1, 406, "PRECONDITION_FAILED - Non empty binding 'k' key not permitted", "queue.bind"
    )
    client.channel(1)
    quorum = name("quorum")
    client.declare(1, quorum, durable=True, arguments={"x-queue-type": "quorum"})
    client.send(1, "queue.bind", queue=quorum, exchange=made, routing_key="")
    text = "PRECONDITION_FAILED - Queue type quorum not valid for this exchange type"
    client.expect_channel_close(1, 406, text, "queue.bind")
