"""Nodes die; nothing that was confirmed does."""

import itertools
import struct
import time

import pytest
from kit import amqp
from kit.load import Consumer, Publisher, check_books
from kit.wait import eventually

QUEUE = "failover"


def declare(cluster, queue=QUEUE):
    client = amqp.Client(*cluster.addresses()[0])
    client.login()
    client.channel(1)
    client.declare(1, queue, durable=True)
    client.close()


def progress(publishers):
    return sum(len(p.confirmed) for p in publishers)


def finish(publishers, consumers, timeout_s=300):
    for publisher in publishers:
        publisher.join(timeout_s)
        assert not publisher.is_alive(), f"stuck after {len(publisher.confirmed)} confirms: {publisher.errors}"
        assert not publisher.errors, publisher.errors
    wanted = {(p.number, message) for p in publishers for message in p.confirmed}

    def all_received():
        return wanted <= {(p, m) for c in consumers for p, _, m, _, _ in c.received}

    try:
        eventually(all_received, "every confirmed message received", timeout_s=60)
    except AssertionError:
        pass  # check_books says which are missing
    for consumer in consumers:
        consumer.stopping.set()
    for consumer in consumers:
        consumer.join(30)
        assert not consumer.errors, consumer.errors


@pytest.mark.limit(600)
def test_every_confirmed_message_survives_two_kills_of_the_queues_leader(cluster):
    declare(cluster)
    addresses = cluster.addresses()
    publishers = [Publisher(n, addresses, QUEUE, 25_000) for n in range(2)]
    consumers = [Consumer(n, addresses, QUEUE) for n in range(2)]
    for thread in consumers + publishers:
        thread.start()
    for kills_at in (10_000, 30_000):
        eventually(lambda: progress(publishers) >= kills_at, f"{kills_at} confirms", timeout_s=120)
        leader = cluster.leader_of(QUEUE)
        leader.kill()
        before, killed = progress(publishers), time.monotonic()
        eventually(lambda: progress(publishers) > before, "a confirm after the kill", timeout_s=60)
        print(f"first confirm {time.monotonic() - killed:.2f} s after the kill of {leader}")
        leader.start()
        leader.wait_ready()
    finish(publishers, consumers)
    check_books(publishers, consumers)


@pytest.mark.limit(600)
def test_clients_of_surviving_nodes_see_no_error_and_no_duplicate(cluster):
    declare(cluster)
    leader = cluster.leader_of(QUEUE)
    survivors = [node.address for node in cluster.nodes if node is not leader]
    publishers = [Publisher(n, [survivors[n]], QUEUE, 10_000) for n in range(2)]
    consumers = [Consumer(n, [survivors[n]], QUEUE) for n in range(2)]
    for thread in consumers + publishers:
        thread.start()
    eventually(lambda: progress(publishers) >= 5_000, "confirms", timeout_s=120)
    leader.kill()
    finish(publishers, consumers)
    check_books(publishers, consumers)


def test_deliveries_held_across_a_failover_stay_held_and_their_acks_count(cluster):
    declare(cluster)
    leader = cluster.leader_of(QUEUE)
    survivor = next(node for node in cluster.nodes if node is not leader)
    client = amqp.Client(*survivor.address)
    client.login()
    client.confirm_channel(1)
    client.publish_confirmed(1, "", QUEUE, *[b"%d" % n for n in range(100)], delivery_mode=2)
    client.channel(2)
    client.call(2, "basic.qos", prefetch_count=50)
    client.consume(2, QUEUE)
    held = client.deliveries(50, 2)
    leader.kill()
    # The rest is still there, and comes only when the held ones are acknowledged.
    client.send(2, "basic.ack", delivery_tag=held[-1].delivery_tag, multiple=True)
    rest = client.deliveries(50, 2)
    assert [m.body for m in held + rest] == [b"%d" % n for n in range(100)]
    client.send(2, "basic.ack", delivery_tag=0, multiple=True)
    client.close()
    other = amqp.Client(*survivor.address)
    other.login()
    other.channel(1)
    eventually(lambda: other.ready(1, QUEUE) == 0, "an empty queue", timeout_s=20)
    assert other.get(1, QUEUE) is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[::2])
def test_nothing_confirmed_is_lost_when_all_nodes_are_killed_and_started_in_any_order(cluster, order):
    declare(cluster)
    client = amqp.Client(*cluster.addresses()[0])
    client.login()
    client.confirm_channel(1)
    bodies = [b"%d" % n for n in range(500)]
    client.publish_confirmed(1, "", QUEUE, *bodies, delivery_mode=2)
    for node in cluster.nodes:
        node.kill()
    for index in order:
        cluster.nodes[index].start()
    cluster.wait_ready()
    client = amqp.Client(*cluster.addresses()[order[0]])
    client.login()
    client.channel(1)
    assert client.get_all(1, QUEUE) == bodies


def test_a_node_cut_off_from_both_others_confirms_nothing(cluster):
    declare(cluster)
    alone = cluster.leader_of(QUEUE)
    others = [node for node in cluster.nodes if node is not alone]
    client = amqp.Client(*alone.address)
    client.login()
    client.confirm_channel(1)
    client.publish_confirmed(1, "", QUEUE, b"before", delivery_mode=2)
    for node in others:
        node.pause()
    try:
        client.publish(1, "", QUEUE, b"alone", delivery_mode=2)
        client.expect_silence(4)
        eventually(lambda: not alone.is_ready(), "not ready any more", timeout_s=20)
    finally:
        for node in others:
            node.resume()
    # They are back: now it is confirmed.
    client.expect("basic.ack", 1, timeout_s=30)
    client.close()


def test_a_killed_node_comes_back_by_itself_and_catches_up(cluster):
    declare(cluster)
    follower = next(node for node in cluster.nodes if node is not cluster.leader_of(QUEUE))
    follower.kill()
    client = amqp.Client(*cluster.leader_of(QUEUE).address)
    client.login()
    client.confirm_channel(1)
    client.publish_confirmed(1, "", QUEUE, *[struct.pack(">I", n) for n in range(200)], delivery_mode=2)
    follower.start()
    cluster.wait_ready()
    # The others go: what the returned node has caught up with must do together with one of them.
    leader = cluster.leader_of(QUEUE)
    leader.kill()
    client = amqp.Client(*follower.address)
    client.login()
    client.channel(1)
    eventually(lambda: client.ready(1, QUEUE) == 200, "200 messages", timeout_s=30)
