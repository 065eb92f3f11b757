"""Policies and definitions: what an operator says on one node, every node follows, also after a restart."""

import json
import subprocess

import pytest
from kit import amqp
from kit.wait import eventually


def warren(node, *arguments, code=0, stdin=""):
    """Runs an operator's command against a node; what it printed."""
    command = [node.cluster.binary, *arguments, "--node", f"http://127.0.0.1:{node.http_port}", "-o", "json"]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, f"{arguments}: {done.returncode}, {done.stderr}"
    return json.loads(done.stdout) if done.stdout.strip() else done.stderr


def client_of(node, **login):
    client = amqp.Client(*node.address)
    client.login(**login)
    client.channel(1)
    return client


def policy_of(node, queue):
    shown = node.http(f"/api/queues/%2F/{queue}")
    return shown["policy"], shown["operator_policy"], shown["effective_policy_definition"]


def test_an_alternate_exchange_by_policy_takes_what_nothing_else_does_on_every_node(cluster):
    one, other = cluster.nodes[0], cluster.nodes[1]
    client = client_of(other)
    client.confirm_channel(2)
    client.declare(1, "lost", durable=True)
    client.call(1, "exchange.declare", exchange="orders", type="direct", durable=True)
    client.call(1, "queue.bind", queue="lost", exchange="amq.fanout", routing_key="")
    client.publish_confirmed(2, "orders", "nobody", b"before")
    warren(one, "policies", "set", "ae", "^orders$", '{"alternate-exchange":"amq.fanout"}', "--apply-to", "exchanges")
    eventually(lambda: other.http("/api/exchanges/%2F/orders").get("policy") == "ae", "the other node knows the policy")
    client.publish_confirmed(2, "orders", "nobody", b"during")
    warren(one, "policies", "delete", "ae")
    eventually(lambda: "policy" not in other.http("/api/exchanges/%2F/orders"), "the other node forgets the policy")
    client.publish_confirmed(2, "orders", "nobody", b"after")
    assert client.get_all(1, "lost") == [b"during"]
    client.close()


def test_the_policy_that_counts_is_shown_and_survives_a_restart(single):
    node = single.nodes[0]
    client = client_of(node)
    client.declare(1, "jobs", durable=True)
    client.close()
    assert policy_of(node, "jobs") == (None, None, {})
    warren(node, "policies", "set", "low", "^j", '{"expires":60000}')
    warren(node, "policies", "set", "high", "obs$", '{"max-length":10}', "--priority", "1")
    warren(node, "policies", "set", "cap", "", '{"max-length":5}', "--apply-to", "queues", "--operator")
    shown = ("high", "cap", {"max-length": 5})
    assert policy_of(node, "jobs") == shown
    refused = warren(node, "policies", "set", "bad", "", '{"max-length":-1}', code=1)
    assert "-1 is not a valid maximum length" in refused
    node.stop()
    node.start()
    node.wait_ready()
    assert policy_of(node, "jobs") == shown
    warren(node, "policies", "delete", "high")
    assert policy_of(node, "jobs") == ("low", "cap", {"expires": 60000, "max-length": 5})
    assert [policy["name"] for policy in warren(node, "policies", "list")] == ["low"]


def test_definitions_move_everything_to_another_cluster_and_importing_twice_is_importing_once(single, binary, tmp_path):
    from kit.cluster import Cluster

    node, file = single.nodes[0], tmp_path / "definitions.json"
    warren(node, "vhosts", "add", "shop")
    warren(node, "users", "add", "app", "--tags", "management", stdin="s3cret\n")
    warren(node, "users", "add", "app", code=1, stdin="other\n")
    warren(node, "permissions", "set", "app", "--configure", ".*", "--write", ".*", "--read", ".*", "-p", "shop")
    warren(node, "policies", "set", "p", "^q", '{"max-length":7}', "-p", "shop")
    client = client_of(node, user="app", password="s3cret", vhost="shop")
    client.declare(1, "q", durable=True, arguments={"x-queue-type": "quorum"})
    client.call(1, "exchange.declare", exchange="x", type="topic", durable=True)
    client.call(1, "queue.bind", queue="q", exchange="x", routing_key="a.#")
    client.close()
    warren(node, "definitions", "export", str(file))
    exported = json.loads(file.read_text())
    assert [queue["name"] for queue in exported["queues"]] == ["q"]

    with Cluster(binary, tmp_path / "second", size=1) as second:
        for _ in range(2):
            warren(second.nodes[0], "definitions", "import", str(file))
            assert warren(second.nodes[0], "definitions", "export") == exported
        client = client_of(second.nodes[0], user="app", password="s3cret", vhost="shop")
        client.confirm_channel(2)
        client.publish_confirmed(2, "x", "a.b", b"moved")
        assert client.get_all(1, "q") == [b"moved"]
        client.close()


@pytest.mark.parametrize("arguments", [["users", "delete", "none"], ["vhosts", "delete", "none"], ["policies", "delete", "none"]])
def test_deleting_what_is_not_there_says_so(single, arguments):
    assert "not found" in warren(single.nodes[0], *arguments, code=4)


def test_a_queue_follows_a_policy_at_once_and_an_operators_limit_holds(single):
    node = single.nodes[0]
    client = client_of(node)
    client.confirm_channel(2)
    client.declare(1, "short", durable=True, arguments={"x-max-length": 4})
    client.publish_confirmed(2, "", "short", *[b"%d" % i for i in range(6)])
    eventually(lambda: client.ready(1, "short") == 4, "the argument's limit holds")
    warren(node, "policies", "set", "p", "^short$", '{"max-length":3}')
    eventually(lambda: client.ready(1, "short") == 3, "the policy's smaller limit holds")
    warren(node, "policies", "set", "cap", "", '{"max-length":2}', "--apply-to", "queues", "--operator")
    eventually(lambda: client.ready(1, "short") == 2, "the operator's limit holds")
    assert client.get_all(1, "short") == [b"4", b"5"]
    client.close()
