"""Queues that live in the memory of one node, and what becomes of them with it."""

import pytest
from kit import amqp


@pytest.mark.limit(240)
def test_publishes_to_a_transient_queue_whose_node_died_are_answered(cluster):
    host, other = cluster.addresses()[0], cluster.addresses()[1]
    owner = amqp.Client(*host)
    owner.login()
    owner.channel(1)
    owner.declare(1, "in-memory")
    publisher = amqp.Client(*other, timeout_s=90)
    publisher.login()
    publisher.confirm_channel(1)
    publisher.publish_confirmed(1, "", "in-memory", b"before")
    cluster.nodes[0].kill()
    publisher.send_bytes(b"".join(publisher.publish_bytes(1, "", "in-memory", b"%d" % i) for i in range(10)))
    answered, nacked = 1, 0
    while answered < 11:
        got = publisher.recv()
        assert got.name in ("basic.ack", "basic.nack"), got
        nacked += got.name == "basic.nack"
        answered = max(answered, got.delivery_tag) if got.multiple else answered + 1
    assert nacked, "what was on its way to a dead node's memory cannot be safe"
    publisher.close()


def test_a_question_to_a_transient_queue_whose_node_died_is_answered_by_its_new_node(cluster):
    host, other = cluster.nodes[0], cluster.nodes[1]
    owner = amqp.Client(*host.address)
    owner.login()
    owner.channel(1)
    owner.declare(1, "in-memory")
    asker = amqp.Client(*other.address, timeout_s=25)
    asker.login()
    asker.channel(1)
    assert asker.ready(1, "in-memory") == 0
    host.kill()
    assert asker.get(1, "in-memory") is None
    asker.close()
