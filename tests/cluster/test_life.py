"""A cluster's ordinary days: restarts, declarations from two sides, strangers on its ports."""

import os
import socket
import threading

from kit import amqp
from kit.wait import eventually


def client_of(node):
    client = amqp.Client(*node.address)
    client.login()
    client.channel(1)
    return client


def test_a_single_node_keeps_durable_messages_across_a_restart_and_forgets_transient_queues(single):
    node = single.nodes[0]
    client = client_of(node)
    client.confirm_channel(2)
    client.declare(1, "kept", durable=True)
    client.declare(1, "forgotten")
    client.publish_confirmed(2, "", "kept", b"message", delivery_mode=2)
    client.publish_confirmed(2, "", "forgotten", b"message")
    client.close()
    node.stop()
    node.start()
    node.wait_ready()
    client = client_of(node)
    assert client.get_all(1, "kept") == [b"message"]
    client.send(1, "queue.declare", queue="forgotten", passive=True)
    client.expect_channel_close(1, 404, "NOT_FOUND - no queue 'forgotten' in vhost '/'", "queue.declare")


def test_a_killed_single_node_keeps_what_it_confirmed(single):
    node = single.nodes[0]
    client = client_of(node)
    client.confirm_channel(2)
    client.declare(1, "kept", durable=True)
    bodies = [b"%d" % n for n in range(300)]
    client.publish_confirmed(2, "", "kept", *bodies, delivery_mode=2)
    node.kill()
    node.start()
    node.wait_ready()
    assert client_of(node).get_all(1, "kept") == bodies


def test_any_node_serves_any_client_wherever_the_queue_lives(cluster):
    for number, queue in enumerate(f"any-{n}" for n in range(6)):
        producer = client_of(cluster.nodes[number % 3])
        producer.declare(1, queue, durable=True)
        producer.confirm_channel(2)
        producer.publish_confirmed(2, "", queue, b"1", b"2", b"3", delivery_mode=2)
        for node in cluster.nodes:
            consumer = client_of(node)
            got = consumer.get(1, queue, no_ack=True)
            assert got is not None, f"nothing of {queue} through {node}"
            consumer.close()
        assert producer.ready(1, queue) == 0


def test_the_same_declaration_at_the_same_moment_on_two_nodes_gives_one_queue(cluster):
    for number in range(20):
        queue, outcomes = f"race-{number}", []

        def declare(node, durable):
            client = client_of(node)
            client.send(1, "queue.declare", queue=queue, durable=durable)
            outcomes.append(client.recv().name)

        threads = [
            threading.Thread(target=declare, args=(cluster.nodes[n], n < 2 or number % 2 == 0)) for n in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        # Alike: all are told it is declared. One different: whoever came later is refused.
        refused = outcomes.count("channel.close")
        assert len(outcomes) == 3
        assert refused == 0 if number % 2 == 0 else refused in (1, 2), outcomes


def test_random_bytes_on_every_port_harm_nobody(cluster):
    node = cluster.nodes[0]
    for port in (node.cluster_port, node.http_port, node.metrics_port, node.amqp_port):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
                try:
                    stranger.sendall(os.urandom(4096))
                    stranger.settimeout(0.2)
                    stranger.recv(4096)
                except OSError:
                    pass
    eventually(node.is_ready, "ready", timeout_s=10)
    client = client_of(node)
    client.confirm_channel(2)
    client.declare(1, "unharmed", durable=True)
    client.publish_confirmed(2, "", "unharmed", b"message", delivery_mode=2)


def test_a_transient_queue_of_a_lost_node_lives_on_empty_with_its_consumers(cluster):
    home, other = cluster.nodes[0], cluster.nodes[1]
    client_of(home).declare(1, "transient")
    consumer = client_of(other)
    consumer.consume(1, "transient")
    home.kill()
    publisher = client_of(cluster.nodes[2])

    def arrives():
        publisher.publish(1, "", "transient", b"after")
        try:
            return consumer.recv(timeout_s=0.5).body == b"after"
        except TimeoutError:
            return False

    eventually(arrives, "a delivery from the queue's new node", timeout_s=30)
