"""What ends a message's life in a queue: limits, time, failures, and where the dead go. As pika sees it."""

import time

import pika
import pika.exceptions
import pytest
from kit.wait import eventually

KINDS = [{"durable": True}, {"durable": True, "type": "quorum"}, {"exclusive": True}]
kinds = pytest.mark.parametrize("kind", KINDS, ids=["durable", "quorum", "exclusive"])


@pytest.fixture
def channel(broker):
    host, port = broker.addresses[0]
    connection = pika.BlockingConnection(pika.ConnectionParameters(host=host, port=port))
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    if connection.is_open:
        connection.close()


@pytest.fixture
def declare(channel, name):
    def declare(suffix="q", kind=None, **arguments):
        queue, kind = name(suffix), dict(kind or {"durable": True})
        arguments = {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        if queue_type := kind.pop("type", None):
            arguments["x-queue-type"] = queue_type
        channel.queue_declare(queue, arguments=arguments, **kind)
        return queue

    return declare


def publish(channel, queue, *bodies, **properties):
    for body in bodies:
        channel.basic_publish("", queue, body, pika.BasicProperties(**properties))


def get_all(channel, queue):
    got = []
    while (message := channel.basic_get(queue, auto_ack=True))[0]:
        got.append(message)
    return got


def bodies(channel, queue):
    return [body for _, _, body in get_all(channel, queue)]


def eventually_get(channel, queue):
    got = []

    def probe():
        got[:] = channel.basic_get(queue, auto_ack=True)
        return got[0] is not None

    eventually(probe, f"a message in {queue}", timeout_s=10)
    return got


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


@kinds
def test_over_its_length_a_queue_drops_its_oldest(channel, declare, kind):
    queue = declare(kind=kind, max_length=2)
    publish(channel, queue, b"a", b"b", b"c")
    assert count(channel, queue) == 2
    assert bodies(channel, queue) == [b"b", b"c"]


def test_the_limit_in_bytes_counts_bodies(channel, declare):
    queue = declare(max_length_bytes=5)
    publish(channel, queue, b"123", b"45", b"6", message_id="does not count")
    assert bodies(channel, queue) == [b"45", b"6"]


def test_a_queue_that_refuses_nacks(channel, declare):
    queue = declare(kind={"durable": True}, max_length=1, overflow="reject-publish")
    publish(channel, queue, b"a")
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, queue, b"b")
    assert bodies(channel, queue) == [b"a"]
    publish(channel, queue, b"c")


def test_a_refusal_keeps_a_message_out_of_no_other_queue(channel, declare, name):
    full, open_ = declare("full", max_length=0, overflow="reject-publish"), declare("open")
    exchange = name("x")
    channel.exchange_declare(exchange, "fanout")
    for queue in (full, open_):
        channel.queue_bind(queue, exchange)
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish(exchange, "", b"m")
    assert (bodies(channel, full), bodies(channel, open_)) == ([], [b"m"])


@kinds
def test_messages_expire_from_the_queue(channel, declare, kind):
    queue = declare(kind=kind, message_ttl=200)
    publish(channel, queue, b"a")
    assert count(channel, queue) == 1
    time.sleep(0.3)
    assert count(channel, queue) == 0
    assert channel.basic_get(queue) == (None, None, None)


def test_a_message_expires_by_its_own_time(channel, declare):
    queue = declare()
    publish(channel, queue, b"goes", expiration="100")
    publish(channel, queue, b"stays")
    time.sleep(0.3)
    assert bodies(channel, queue) == [b"stays"]


@kinds
def test_a_message_expires_though_one_ahead_of_it_stays(channel, declare, kind):
    """RabbitMQ looks at a queue's head only: there it is counted, and not dead-lettered, until all ahead of it is gone."""
    dead = declare("dead")
    queue = declare(kind=kind, dead_letter_exchange="", dead_letter_routing_key=dead)
    publish(channel, queue, b"stays")
    publish(channel, queue, b"goes second", expiration="300")
    publish(channel, queue, b"goes first", expiration="100")
    publish(channel, queue, b"stays too", expiration="60000")
    eventually(lambda: count(channel, dead) == 2, "two have expired")
    assert count(channel, queue) == 2
    assert bodies(channel, dead) == [b"goes first", b"goes second"]
    assert bodies(channel, queue) == [b"stays", b"stays too"]


def test_time_to_live_0_is_for_who_waits(channel, declare):
    queue = declare(message_ttl=0)
    publish(channel, queue, b"nobody waits")
    assert count(channel, queue) == 0
    seen = []
    channel.basic_consume(queue, lambda *delivery: seen.append(delivery[3]), auto_ack=True)
    publish(channel, queue, b"m")
    channel.connection.process_data_events(0.5)
    assert seen == [b"m"]


def test_an_unused_queue_goes(channel, declare):
    queue = declare(expires=400)
    time.sleep(1.5)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare(queue, passive=True)
    assert caught.value.reply_code == 404


def test_a_used_queue_stays(channel, declare):
    queue = declare(expires=500)
    channel.basic_consume(queue, lambda *_: None)
    channel.connection.process_data_events(1.5)
    assert channel.queue_declare(queue, passive=True).method.consumer_count == 1


@kinds
def test_a_rejected_message_is_dead_lettered_with_its_story(channel, declare, name, kind):
    dead, exchange = declare("dead"), name("dlx")
    channel.exchange_declare(exchange, "direct")
    channel.queue_bind(dead, exchange, "bury")
    queue = declare(kind=kind, dead_letter_exchange=exchange, dead_letter_routing_key="bury")
    publish(channel, queue, b"m", headers={"mine": 1}, expiration="60000", message_id="id")
    method, _, _ = channel.basic_get(queue)
    channel.basic_reject(method.delivery_tag, requeue=False)
    method, properties, body = eventually_get(channel, dead)
    assert (body, method.exchange, method.routing_key) == (b"m", exchange, "bury")
    assert (properties.message_id, properties.expiration) == ("id", None)
    headers = properties.headers
    [death] = headers["x-death"]
    assert death["time"] is not None
    del death["time"]
    assert death == {
        "count": 1, "reason": "rejected", "queue": queue, "exchange": "", "routing-keys": [queue],
        "original-expiration": "60000",
    }  # fmt: skip
    for when in ("first", "last"):
        assert headers[f"x-{when}-death-queue"] == queue
        assert headers[f"x-{when}-death-reason"] == "rejected"
        assert headers[f"x-{when}-death-exchange"] == ""
    assert headers["mine"] == 1


def test_expired_and_surplus_messages_are_dead_lettered(channel, declare):
    dead = declare("dead")
    dlx = {"dead_letter_exchange": "", "dead_letter_routing_key": dead}
    short, brief = declare("short", max_length=1, **dlx), declare("brief", message_ttl=100, **dlx)
    publish(channel, short, b"surplus", b"stays")
    assert eventually_get(channel, dead)[1].headers["x-first-death-reason"] == "maxlen"
    publish(channel, brief, b"old")
    _, properties, body = eventually_get(channel, dead)
    assert (body, properties.headers["x-first-death-reason"]) == (b"old", "expired")
    assert bodies(channel, short) == [b"stays"]


def test_a_message_that_fails_too_often_is_dead_lettered(channel, declare):
    dead = declare("dead")
    queue = declare(
        kind={"durable": True, "type": "quorum"}, delivery_limit=2,
        dead_letter_exchange="", dead_letter_routing_key=dead,
    )  # fmt: skip
    publish(channel, queue, b"m")
    counts = []
    for _ in range(3):
        method, properties, _ = eventually_get_unacked(channel, queue)
        counts.append((properties.headers or {}).get("x-delivery-count"))
        channel.basic_reject(method.delivery_tag, requeue=True)
    assert counts == [None, 1, 2]
    assert eventually_get(channel, dead)[1].headers["x-first-death-reason"] == "delivery_limit"
    assert count(channel, queue) == 0


def eventually_get_unacked(channel, queue):
    got = []

    def probe():
        got[:] = channel.basic_get(queue)
        return got[0] is not None

    eventually(probe, f"a message in {queue}", timeout_s=10)
    return got


def test_the_retry_pattern_counts_the_rounds(channel, declare, name):
    work, wait = name("work"), name("wait")
    channel.queue_declare(
        work, durable=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait}
    )
    arguments = {"x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work}
    channel.queue_declare(wait, durable=True, arguments=arguments)
    publish(channel, work, b"m")
    for rounds in range(3):
        method, properties, _ = eventually_get_unacked(channel, work)
        deaths = {d["queue"]: d["count"] for d in (properties.headers or {}).get("x-death", [])}
        assert deaths == ({work: rounds, wait: rounds} if rounds else {})
        channel.basic_nack(method.delivery_tag, requeue=False)


def test_a_circle_without_a_rejection_ends(channel, declare, name):
    queue = name("loop")
    arguments = {"x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
    channel.queue_declare(queue, durable=True, arguments=arguments)
    publish(channel, queue, b"m")
    time.sleep(0.4)
    assert count(channel, queue) == 0


def test_without_an_exchange_of_that_name_the_dead_are_dropped(channel, declare):
    queue = declare(message_ttl=50, dead_letter_exchange="no-such-exchange")
    publish(channel, queue, b"m")
    time.sleep(0.3)
    assert count(channel, queue) == 0
    publish(channel, queue, b"again")


@pytest.mark.parametrize("going", ["deleted", "purged", "expired"])
def test_a_queue_that_goes_dead_letters_nothing(channel, declare, going):
    graveyard = declare("dead")
    expires = {"expires": 100} if going == "expired" else {}
    queue = declare("mortal", dead_letter_exchange="", dead_letter_routing_key=graveyard, **expires)
    publish(channel, queue, b"1", b"2")
    if going == "deleted":
        channel.queue_delete(queue)
    elif going == "purged":
        channel.queue_purge(queue)
        channel.queue_delete(queue)
    else:
        # Who asks for the queue uses it: a publish to it does not, and comes back when it is gone.
        def gone():
            try:
                channel.basic_publish("", queue, b"3", mandatory=True)
            except pika.exceptions.UnroutableError:
                return True
            return False

        eventually(gone, "the queue expires")
    # What had died would have been there before this.
    publish(channel, graveyard, b"last")
    method, _, body = channel.basic_get(graveyard, auto_ack=True)
    assert (method.message_count, body) == (0, b"last")
