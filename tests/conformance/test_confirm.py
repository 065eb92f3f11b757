"""Publisher confirms."""

import pytest


def confirmed_tags(client, count):
    """Reads acknowledgements until `count` tags are covered, each exactly once."""
    open_tags = set(range(1, count + 1))
    while open_tags:
        got = client.expect("basic.ack", 1)
        covered = {t for t in open_tags if t <= got.delivery_tag} if got.multiple else {got.delivery_tag}
        assert covered and covered <= open_tags, (got, sorted(open_tags)[:5])
        open_tags -= covered


@pytest.mark.parametrize("durable", [True, False])
def test_every_publish_is_confirmed_once(client, name, durable):
    queue = name()
    client.declare(1, queue, durable=durable)
    client.call(1, "confirm.select")
    client.send_bytes(b"".join(client.publish_bytes(1, "", queue, b"m", delivery_mode=2) for _ in range(2000)))
    confirmed_tags(client, 2000)
    assert client.ready(1, queue) == 2000


def test_selecting_again_keeps_the_count(client, name):
    queue = name()
    client.declare(1, queue)
    client.call(1, "confirm.select")
    client.publish(1, "", queue, b"m")
    client.expect("basic.ack", 1, delivery_tag=1, multiple=False)
    client.call(1, "confirm.select")
    client.publish(1, "", queue, b"m")
    client.expect("basic.ack", 1, delivery_tag=2, multiple=False)


def test_publishes_before_the_select_are_not_confirmed(client, name):
    queue = name()
    client.declare(1, queue)
    client.publish(1, "", queue, b"before")
    client.call(1, "confirm.select")
    client.publish(1, "", queue, b"after")
    client.expect("basic.ack", 1, delivery_tag=1)


def test_an_unroutable_message_is_confirmed_at_once(client):
    client.call(1, "confirm.select")
    client.publish(1, "", "no-such-queue", b"m")
    client.expect("basic.ack", 1, delivery_tag=1, multiple=False)


def test_routable_and_unroutable_messages_are_all_confirmed(client, name):
    queue = name()
    client.declare(1, queue, durable=True)
    client.call(1, "confirm.select")
    client.send_bytes(
        b"".join(client.publish_bytes(1, "", queue if i % 3 else "no-such-queue", b"m") for i in range(300))
    )
    confirmed_tags(client, 300)


def test_a_message_to_several_queues_is_confirmed_once(client, name):
    exchange = name("x")
    client.call(1, "exchange.declare", exchange=exchange, type="fanout")
    queues = [name(f"q{i}") for i in range(8)]
    for i, queue in enumerate(queues):
        client.declare(1, queue, durable=i % 2 == 0)
        client.call(1, "queue.bind", queue=queue, exchange=exchange)
    client.call(1, "confirm.select")
    client.send_bytes(b"".join(client.publish_bytes(1, exchange, "", b"m") for _ in range(100)))
    confirmed_tags(client, 100)
    assert [client.ready(1, queue) for queue in queues] == [100] * 8


def test_a_confirmed_message_is_visible_on_every_node(connect, name):
    queue = name()
    writer, two, three = connect(), connect(), connect()
    writer.confirm_channel(1)
    writer.declare(1, queue, durable=True)
    for reader in (two, three):
        reader.channel(1)
    for i in range(20):
        writer.publish_confirmed(1, "", queue, b"%d" % i)
        reader = (two, three)[i % 2]
        assert reader.get(1, queue, no_ack=True).body == b"%d" % i


def test_each_channel_counts_for_itself(client, name):
    queue = name()
    client.declare(1, queue)
    for number in (2, 3):
        client.confirm_channel(number)
        client.publish(number, "", queue, b"m")
        client.expect("basic.ack", number, delivery_tag=1)


def test_confirms_and_transactions_exclude_each_other(client):
    client.call(1, "confirm.select")
    client.send(1, "tx.select")
    client.expect_channel_close(1, 406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", "tx.select")
    client.channel(1)
    client.call(1, "tx.select")
    client.send(1, "confirm.select")
    client.expect_channel_close(
        1, 406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", "confirm.select"
    )


def test_a_queue_that_is_deleted_leaves_no_publish_unconfirmed(connect, name):
    queue = name()
    writer, other = connect(), connect()
    writer.confirm_channel(1)
    writer.declare(1, queue, durable=True)
    other.channel(1)
    writer.send_bytes(b"".join(writer.publish_bytes(1, "", queue, b"m") for _ in range(500)))
    other.call(1, "queue.delete", queue=queue)
    confirmed_tags(writer, 500)
