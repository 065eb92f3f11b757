"""That no queue takes a message is the cluster's word, not a node's guess."""

import pytest
from kit import amqp


def client_of(node):
    client = amqp.Client(*node.address, timeout_s=60)
    client.login()
    return client


@pytest.mark.limit(240)
def test_a_message_for_which_a_node_without_a_majority_knows_no_queue_is_not_acknowledged(cluster):
    alone, *others = cluster.nodes
    clients = [client_of(alone) for _ in range(3)]
    for client in clients:
        client.confirm_channel(1)
    transaction = client_of(alone)
    transaction.channel(1)
    transaction.call(1, "tx.select")
    for node in others:
        node.pause()
    for client in clients:
        client.send_bytes(client.publish_bytes(1, "", "declared meanwhile", b"m", mandatory=True))
    transaction.send_bytes(transaction.publish_bytes(1, "", "declared meanwhile", b"m"))
    transaction.send(1, "tx.commit")
    for client in clients:
        # Nor is it returned: that would say that no queue takes it.
        client.expect("basic.nack", 1, delivery_tag=1, timeout_s=40)
    assert transaction.expect("connection.close", 0).reply_code == 541
    for node in others:
        node.resume()
    client = clients[0]
    client.send_bytes(client.publish_bytes(1, "", "never declared", b"m", mandatory=True))
    client.expect("basic.return", 1)
    client.expect("basic.ack", 1, delivery_tag=2)


def test_a_transaction_finds_a_queue_that_another_node_has_just_declared(cluster):
    clients = [client_of(node) for node in cluster.nodes]
    for client in clients:
        client.channel(1)
        client.channel(2)
        client.call(2, "tx.select")
    for round in range(15):
        for number, client in enumerate(clients):
            queue = f"new {round} {number}"
            client.declare(1, queue, durable=True)
            other = clients[(number + 1) % len(clients)]
            other.send_bytes(other.publish_bytes(2, "", queue, b"m"))
            other.call(2, "tx.commit")
            assert client.ready(1, queue) == 1, f"{queue}: committed, and nowhere"
