"""A node that is short of disk or memory stops publishers everywhere, before anything is full; they go on by themselves."""

import json
import time
import urllib.error

import pytest
from kit import amqp
from kit.wait import eventually

QUEUE = "alarms"
# More than any disk of a test has.
UNREACHABLE = "1000000GB"


def restart(node, monkeypatch, **settings):
    """Starts the node again with these settings and without those of the last time."""
    node.stop()
    for key, value in settings.items():
        monkeypatch.setenv(key, value)
    node.start()
    for key in settings:
        monkeypatch.delenv(key)
    node.wait_ready()


def connect(node, **options):
    client = amqp.Client(*node.address).login(**options)
    client.channel(1)
    return client


def alarms(node, which="alarms"):
    """What the node's health check says is raised, as (node, resource)."""
    try:
        assert node.http(f"/api/health/checks/{which}") == {"status": "ok"}
        return []
    except urllib.error.HTTPError as error:
        assert error.code == 503
        return [(a["node"], a["resource"]) for a in json.load(error)["alarms"]]


@pytest.mark.limit(300)
@pytest.mark.parametrize(
    "setting, value, reason, resource",
    [
        ("WARREN_DISK_FREE_LIMIT", UNREACHABLE, "low on disk", "disk"),
        ("WARREN_MEMORY_HIGH_WATERMARK", "1MB", "low on memory", "memory"),
    ],
)
def test_an_alarm_of_one_node_stops_publishers_of_all_until_it_is_over(
    cluster, monkeypatch, setting, value, reason, resource
):
    short, other, third = cluster.nodes
    publisher, consumer = connect(other), connect(third)
    publisher.declare(1, QUEUE, durable=True)
    publisher.call(1, "confirm.select")
    consumer.consume(1, QUEUE)
    publisher.publish(1, "", QUEUE, b"before")
    publisher.expect("basic.ack", 1)
    assert consumer.expect("basic.deliver", 1).body == b"before"

    restart(short, monkeypatch, **{setting: value})
    eventually(lambda: alarms(other) == [(short.name, resource)], "the alarm is known everywhere")
    assert alarms(short, "local-alarms") == [(short.name, resource)] and alarms(other, "local-alarms") == []
    shown = {node["name"]: node for node in other.http("/api/nodes")}
    flag = {"disk": "disk_free_alarm", "memory": "mem_alarm"}[resource]
    assert [name for name, node in shown.items() if node[flag]] == [short.name]

    # Who publishes is stopped and told; what it was about to publish counts.
    publisher.publish(1, "", QUEUE, b"at hand")
    got = [publisher.recv(), publisher.recv()]
    assert {g.name for g in got} == {"connection.blocked", "basic.ack"}
    assert next(g for g in got if g.name == "connection.blocked").reason == reason
    assert consumer.expect("basic.deliver", 1).body == b"at hand"
    publisher.publish(1, "", QUEUE, b"waits")
    publisher.expect_silence(1.0)
    states = {c["state"] for c in other.http("/api/connections")}
    assert "blocked" in states

    # Who cannot understand that is stopped without a word.
    simple = connect(other, capabilities={})
    simple.call(1, "confirm.select")
    simple.publish(1, "", QUEUE, b"simple")
    simple.expect("basic.ack", 1)
    simple.publish(1, "", QUEUE, b"simple waits")
    simple.expect_silence(1.0)
    assert consumer.expect("basic.deliver", 1).body == b"simple"

    # Who does not publish does not notice, and goes on declaring, acknowledging and asking.
    consumer.send(1, "basic.ack", delivery_tag=0, multiple=True)
    assert consumer.declare(1, QUEUE, passive=True).message_count == 0

    restart(short, monkeypatch)
    publisher.expect("connection.unblocked", 0)
    publisher.expect("basic.ack", 1)
    simple.expect("basic.ack", 1)
    assert {consumer.expect("basic.deliver", 1).body for _ in range(2)} == {b"waits", b"simple waits"}
    assert alarms(other) == []
    for client in (publisher, consumer, simple):
        client.close()


@pytest.mark.limit(240)
def test_a_blocked_client_that_goes_is_noticed_and_a_waiting_one_keeps_its_heartbeats(single, monkeypatch):
    (node,) = single.nodes
    restart(node, monkeypatch, WARREN_DISK_FREE_LIMIT=UNREACHABLE)
    eventually(lambda: alarms(node) != [], "the alarm is on")
    client = connect(node, heartbeat=1)
    client.declare(1, QUEUE, durable=True)
    client.publish(1, "", QUEUE, b"x")
    client.expect("connection.blocked", 0)
    # It is not read, so its silence is no reason to drop it; it hears that the broker lives.
    until = time.monotonic() + 4
    before = client.heartbeats_seen
    while time.monotonic() < until:
        with pytest.raises(TimeoutError):
            client.recv(timeout_s=1.0)
    assert client.heartbeats_seen > before
    client.abort()
    eventually(lambda: node.http("/api/connections") == [], "the connection is gone", timeout_s=60)
