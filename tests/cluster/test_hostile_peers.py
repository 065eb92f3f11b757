"""The cluster port: only nodes with the cluster's secret come in, and whoever else comes harms nobody."""

import os
import secrets
import socket
import time

import pytest
from kit import amqp
from kit import cluster as clusters
from kit.wait import eventually

pytestmark = pytest.mark.limit(300)


def serves(cluster, queue="hostile-peers"):
    """A confirmed publish through every node."""
    for address in cluster.addresses():
        client = amqp.Client(*address).login()
        client.channel(1)
        client.declare(1, queue, durable=True)
        client.call(1, "confirm.select")
        client.publish(1, "", queue, b"still here")
        client.expect("basic.ack", 1)
        client.close()


def joins(cluster, directory, secret):
    """Starts a fourth node that asks the cluster to take it in, with another secret or none."""
    other = clusters.Cluster(cluster.binary, directory, size=1, secured=False)
    node = other.nodes[0]
    if secret:
        node.options += ["--cluster-secret-file", str(secret)]
    node.options += ["--seeds", ",".join(f"127.0.0.1:{n.cluster_port}" for n in cluster.nodes)]
    node.start()
    return other


def test_a_node_without_the_secret_is_not_taken_in_and_both_sides_say_why(cluster, tmp_path):
    wrong = tmp_path / "wrong.secret"
    wrong.write_text(secrets.token_hex(32))
    for secret, said_there in ((wrong, "another secret"), (None, "cluster secret")):
        other = joins(cluster, tmp_path / f"other-{bool(secret)}", secret)
        try:
            eventually(lambda: said_there in other.nodes[0].log_path.read_text(), f"{said_there} in the stranger's log")
            assert not other.nodes[0].is_ready()
            assert len(cluster.nodes[0].http("/api/nodes")) == 3
        finally:
            other.destroy()
    logs = [n.log_path.read_text() for n in cluster.nodes]
    assert any("refused a connection" in log for log in logs), logs[0][-2000:]
    # Two strangers that tried ten times a second for seconds: a line in ten seconds at most.
    assert all(log.count("refused a connection") < 10 for log in logs)
    serves(cluster)


def test_garbage_floods_and_silence_on_the_cluster_port_stop_nobody(cluster):
    serves(cluster)
    leader = cluster.leader_of("hostile-peers")
    target = "127.0.0.1", leader.cluster_port
    before = leader.resident_bytes()
    silent = [socket.create_connection(target) for _ in range(600)]
    for size in (1, 5, 100, 100_000):
        for start in (b"", b"\x16\x03\x01\x40\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", amqp.PROTOCOL_HEADER):
            stranger = socket.create_connection(target)
            try:
                stranger.sendall(start + os.urandom(size))
            except OSError:
                pass
            stranger.close()
    for _ in range(2000):
        socket.create_connection(target).close()
    serves(cluster)
    assert all(n.running for n in cluster.nodes)
    assert leader.resident_bytes() < before + 100 * 1024 * 1024
    for stranger in silent:
        stranger.close()
    assert cluster.leader_of("hostile-peers") is leader, "no election for want of heartbeats"


def test_the_secret_is_exchanged_on_a_running_cluster(cluster):
    old = cluster.secret_path.read_text().strip()
    for number, node in enumerate(cluster.nodes):
        node.secret_path = cluster.directory / f"secret-{number}"
        node.secret_path.write_text(old)
        node.stop()
        node.start()
        node.wait_ready()
    new = secrets.token_hex(32)
    for text in (f"{new}\n{old}\n", f"{new}\n"):
        for node in cluster.nodes:
            lines = node.log_path.read_text().count("read anew")
            node.secret_path.write_text(text)
            eventually(lambda: node.log_path.read_text().count("read anew") > lines, "the file is read", timeout_s=30)
        serves(cluster)
    # Every connection is made again, now with the new secret alone.
    for node in cluster.nodes:
        node.kill()
        node.start()
        node.wait_ready()
    serves(cluster)


def test_nodes_that_prove_and_encrypt_nothing_still_form_a_cluster_on_loopback(binary, tmp_path):
    with clusters.Cluster(binary, tmp_path, secured=False) as cluster:
        serves(cluster)


def test_nodes_may_prove_themselves_and_talk_in_plain(binary, tmp_path):
    cluster = clusters.Cluster(binary, tmp_path)
    for node in cluster.nodes:
        node.options = ["--cluster-encrypt", "false"]
    with cluster:
        serves(cluster)
        began = time.monotonic()
        leader = cluster.leader_of("hostile-peers")
        leader.kill()
        for node in cluster.running():
            client = amqp.Client(*node.address).login()
            client.channel(1)
            client.call(1, "confirm.select")
            client.publish(1, "", "hostile-peers", b"after")
            client.expect("basic.ack", 1)
            client.close()
        assert time.monotonic() - began < 60
