"""`x-dead-letter-strategy: at-least-once`: what goes nowhere, or is refused, stays with its queue and is tried again."""

import pytest
from kit.wait import eventually

LONGEST_S = 40


@pytest.fixture(autouse=True)
def ours(broker):
    if broker.reference:
        pytest.skip("tries again after three minutes")


@pytest.fixture
def exchange(client, name):
    made = name("dead")
    client.call(1, "exchange.declare", exchange=made, type="direct", durable=True)
    return made


def mortal(client, made, exchange, **arguments):
    arguments = {
        "x-queue-type": "quorum", "x-overflow": "reject-publish", "x-message-ttl": 100,
        "x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "dead",
        "x-dead-letter-strategy": "at-least-once",
    } | arguments  # fmt: skip
    client.declare(1, made, durable=True, arguments={key: value for key, value in arguments.items() if value})
    return made


def grave(client, made, exchange, **arguments):
    client.declare(1, made, durable=True, arguments=arguments)
    client.call(1, "queue.bind", queue=made, exchange=exchange, routing_key="dead")
    return made


def test_what_goes_nowhere_comes_when_there_is_a_way(client, name, exchange):
    dying = mortal(client, name("q"), exchange)
    client.call(1, "confirm.select")
    bodies = [b"%d" % number for number in range(600)]
    client.publish_confirmed(1, "", dying, *bodies)
    eventually(lambda: client.ready(1, dying) == 0, "all have expired")
    dead = grave(client, name("dead-queue"), exchange)
    found = set()

    def all_found():
        found.update(client.get_all(1, dead))
        return found == set(bodies)

    eventually(all_found, "every dead message", timeout_s=LONGEST_S)


def test_what_goes_nowhere_counts_to_the_length(client, name, exchange):
    dying = mortal(client, name("q"), exchange, **{"x-max-length": 2})
    client.call(1, "confirm.select")
    client.publish_confirmed(1, "", dying, b"1", b"2")
    eventually(lambda: client.ready(1, dying) == 0, "both have expired")
    client.publish(1, "", dying, b"3")
    client.expect("basic.nack", 1)
    dead = grave(client, name("dead-queue"), exchange)
    eventually(lambda: client.ready(1, dead) == 2, "both are among the dead", timeout_s=LONGEST_S)

    def taken():
        client.publish(1, "", dying, b"4")
        return client.recv().name == "basic.ack"

    eventually(taken, "there is room again")


def test_what_is_refused_comes_when_there_is_room(client, name, exchange):
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    dead = grave(client, name("dead-queue"), exchange, **full)
    dying = mortal(client, name("q"), exchange)
    client.publish(1, "", dying, b"1")
    client.publish(1, "", dying, b"2")
    eventually(lambda: client.ready(1, dead) == 1, "there is room for one")
    found = set()

    def both():
        found.update(client.get_all(1, dead))
        return found == {b"1", b"2"}

    eventually(both, "the other one too", timeout_s=LONGEST_S)


def test_what_is_alive_is_delivered_past_those_that_wait(client, name, exchange):
    dying = mortal(client, name("q"), exchange, **{"x-message-ttl": None})
    for number in range(600):
        client.publish(1, "", dying, b"%d" % number, expiration="1")
    client.publish(1, "", dying, b"alive")
    client.consume(1, dying, "c", no_ack=True)
    bodies = iter(lambda: client.expect("basic.deliver", 1).body, b"alive")
    # Whatever came before it had not expired yet.
    assert len(list(bodies)) < 600


def test_with_drop_head_what_goes_nowhere_is_gone(client, name, exchange):
    dying = mortal(client, name("q"), exchange, **{"x-overflow": None})
    client.publish(1, "", dying, b"1")
    eventually(lambda: client.ready(1, dying) == 0, "it has expired")
    assert client.declare(1, dying, passive=True).message_count == 0
