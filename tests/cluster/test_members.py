"""Nodes come and go after the cluster has formed: replicas, leaders and votes follow, and clients see nothing of it."""

import shutil
import time

import pytest
from kit import amqp
from kit import cluster as clusters
from kit.load import Consumer, Publisher, check_books
from kit.wait import eventually

QUEUES = [f"members-{n}" for n in range(4)]


@pytest.fixture
def five(binary, tmp_path):
    with clusters.Cluster(binary, tmp_path, size=5) as made:
        yield made


def client_of(node):
    client = amqp.Client(*node.address)
    client.login()
    client.channel(1)
    client.confirm_channel(2)
    return client


def declare(node, queues=QUEUES):
    client = client_of(node)
    for queue in queues:
        client.declare(1, queue, durable=True)
    client.close()


class Load:
    """A publisher and a consumer for each queue, on one node that stays: whatever they notice is an error."""

    def __init__(self, node, queues=QUEUES):
        self.publishers = [Publisher(n, [node.address], queue, 10**9, window=20) for n, queue in enumerate(queues)]
        self.consumers = [Consumer(n, [node.address], queue) for n, queue in enumerate(queues)]
        for thread in self.consumers + self.publishers:
            thread.start()

    def confirmed(self):
        return sum(len(p.confirmed) for p in self.publishers)

    def must_go_on(self):
        before = self.confirmed()
        eventually(lambda: self.confirmed() >= before + 50, "confirms go on", timeout_s=60)
        for thread in self.publishers + self.consumers:
            assert not thread.errors, thread.errors

    def finish(self):
        for publisher in self.publishers:
            publisher.count = 0
        for publisher in self.publishers:
            publisher.join(60)
            assert not publisher.errors, publisher.errors
        wanted = {(p.number, message) for p in self.publishers for message in p.confirmed}

        def all_received():
            return wanted <= {(p, m) for c in self.consumers for p, _, m, _, _ in c.received}

        try:
            eventually(all_received, "every confirmed message received", timeout_s=60)
        except AssertionError:
            pass  # check_books says which are missing
        for consumer in self.consumers:
            consumer.stopping.set()
        for consumer in self.consumers:
            consumer.join(30)
            assert not consumer.errors, consumer.errors
        check_books(self.publishers, self.consumers)
        return len(wanted)


def wait_settled(cluster, replicas, timeout_s=180):
    def settled():
        shards = cluster.shards()
        return all(s["settled"] and len(s["members"]) == replicas and s["leader"] in s["members"] for s in shards)

    eventually(settled, f"every shard is settled on {replicas} nodes", timeout_s, every_s=0.5)


def wait_spread(cluster, nodes):
    def spread():
        held = {node: 0 for node in nodes}
        for shard in cluster.shards():
            for member in shard["members"]:
                held[member] = held.get(member, 0) + 1
        return max(held.values()) - min(held.values()) <= 1 and sum(held.values()) == 48

    eventually(spread, f"replicas are spread over {nodes}", 180, every_s=0.5)


def remove(asked, node):
    status, said = asked.ask("nodes", "remove", node.name, "--wait", "150", timeout_s=170)
    assert status == 0, said
    assert node.process.wait(timeout=60) != 0
    assert "was removed from its cluster" in node.log_tail(20)


@pytest.mark.limit(900)
def test_a_cluster_grows_from_one_to_five_and_shrinks_to_one_under_load_and_nobody_notices(single):
    first = single.nodes[0]
    declare(first)
    load = Load(first)
    load.must_go_on()
    for size in (3, 5):
        while len(single.nodes) < size:
            single.add_node()
        single.wait_ready()
        wait_settled(single, 3)
        wait_spread(single, [node.name for node in single.nodes])
        wait_settled(single, 3)
        load.must_go_on()
        print(f"{size} nodes, {load.confirmed()} confirmed")
    metadata = {n["name"]: n["metadata_voter"] for n in first.http("/api/nodes")}
    assert all(metadata.values()) and len(metadata) == 5, metadata
    for number in (4, 3, 2, 1):
        remove(first, single.nodes[number])
        load.must_go_on()
        wait_settled(single, min(3, number))
        print(f"{number} nodes, {load.confirmed()} confirmed")
    assert [n["name"] for n in first.http("/api/nodes")] == ["n1"]
    print(f"{load.finish()} messages, none lost")
    first.stop()
    first.start()
    first.wait_ready()


@pytest.mark.limit(300)
def test_with_more_nodes_than_replicas_every_node_serves_every_queue_also_when_its_leader_has_died(five):
    declare(five.nodes[0])
    for node in five.nodes:
        client = client_of(node)
        for queue in QUEUES:
            client.publish_confirmed(2, "", queue, b"before", delivery_mode=2)
        client.close()
    leader = five.leader_of(QUEUES[0])
    clients = {node: client_of(node) for node in five.nodes if node is not leader}
    leader.kill()
    killed = time.monotonic()
    for node, client in clients.items():
        client.publish_confirmed(2, "", QUEUES[0], b"after", delivery_mode=2)
        print(f"{node} confirmed {time.monotonic() - killed:.2f} s after the kill of {leader}")
    for client in clients.values():
        assert client.get(1, QUEUES[0], no_ack=True) is not None
        client.close()


@pytest.mark.limit(300)
def test_a_drained_node_leads_nothing_and_an_undrained_one_leads_again(cluster):
    # Also the catalogue.
    name = eventually(
        lambda: next((n["name"] for n in cluster.ask("/api/nodes") if n["metadata_leader"]), None), "the catalogue has a leader"
    )
    asked = next(node for node in cluster.nodes if node.name != name)
    declare(asked)
    load = Load(asked)
    status, said = asked.ask("nodes", "drain", name)
    assert status == 0, said
    node = next(n for n in cluster.ask("/api/nodes") if n["name"] == name)
    assert not node["metadata_leader"], node
    assert node["duty"] == "drained" and node["being_drained"] and node["shards_led"] == 0, node
    assert node["replicas"] == 16, "there is nowhere else to go to"
    load.must_go_on()
    status, said = asked.ask("nodes", "undrain", name)
    assert status == 0, said

    def leads():
        return next(n for n in cluster.ask("/api/nodes") if n["name"] == name)["shards_led"] > 3

    eventually(leads, "it leads again", timeout_s=90, every_s=0.5)
    load.finish()
    assert asked.ask("nodes", "drain", "nobody")[0] == 4
    status, said = asked.ask("nodes", "replace", "n3")
    assert status == 1 and "start a new node first" in said, said
    assert asked.ask("nodes", "drain")[0] == 2


@pytest.mark.limit(300)
def test_a_node_that_comes_back_without_its_data_replaces_its_former_self(cluster):
    declare(cluster.nodes[0])
    load = Load(cluster.nodes[0])
    load.must_go_on()
    lost = cluster.nodes[2]
    before = {n["node_id"] for n in cluster.ask("/api/nodes")}
    lost.kill()
    lost.wipe()
    load.must_go_on()
    lost.start()
    lost.wait_ready()

    def replaced():
        nodes = cluster.ask("/api/nodes")
        return len(nodes) == 3 and len(before - {n["node_id"] for n in nodes}) == 1

    eventually(replaced, "its former self is gone", timeout_s=120, every_s=0.5)
    wait_settled(cluster, 3)
    load.must_go_on()
    load.finish()
    # What it holds counts: the other two go one after the other.
    for node in cluster.nodes[:2]:
        node.kill()
        node.start()
        node.wait_ready()
    assert client_of(lost).ready(1, QUEUES[0]) == 0


@pytest.mark.limit(300)
def test_a_dead_node_is_removed_and_is_told_so_when_it_comes_back(cluster):
    first, second, dead = cluster.nodes
    declare(first)
    client = client_of(first)
    client.publish_confirmed(2, "", QUEUES[0], *[b"%d" % n for n in range(50)], delivery_mode=2)
    dead.kill()
    eventually(lambda: not next(n for n in first.http("/api/nodes") if n["name"] == "n3")["running"], "seen as gone")
    status, said = first.ask("nodes", "remove", "n3")
    assert status == 0, said
    wait_settled(cluster, 2)
    dead.start()
    assert dead.process.wait(timeout=60) != 0
    assert "was removed from its cluster" in dead.log_tail(20)
    # Without the second there is no majority: removing it as well would lose what only the two have.
    second.kill()

    def refused():
        status, said = first.ask("nodes", "remove", "n2")
        return status == 1 and "no majority without it" in said

    eventually(refused, "refused", timeout_s=20)
    second.start()
    second.wait_ready()
    assert sorted(client_of(second).get_all(1, QUEUES[0])) == sorted(b"%d" % n for n in range(50))


@pytest.mark.limit(300)
def test_a_copied_data_directory_is_refused_while_the_original_runs(cluster):
    third = cluster.nodes[2]
    third.stop()
    copy = clusters.Node(cluster, "copy", cluster.directory)
    shutil.copytree(third.data_path, copy.data_path)
    third.start()
    third.wait_ready()
    copy.start()
    try:
        assert copy.process.wait(timeout=60) != 0
        assert "is a copy of its" in copy.log_tail(20)
    finally:
        if copy.running:
            copy.kill()
    assert third.is_ready()


@pytest.mark.limit(300)
def test_a_planned_stop_hands_leaders_over_without_a_pause(cluster):
    declare(cluster.nodes[0], QUEUES[:1])
    gaps = []
    for _ in range(3):
        leader = cluster.leader_of(QUEUES[0])
        other = next(node for node in cluster.nodes if node is not leader)
        client = client_of(other)
        stopping, worst, last = False, 0.0, time.monotonic()
        began = time.monotonic()
        while time.monotonic() - began < 6:
            client.publish_confirmed(2, "", QUEUES[0], b"tick", delivery_mode=2)
            now = time.monotonic()
            if stopping:
                worst = max(worst, now - last)
            last = now
            if not stopping and now - began > 1:
                leader.process.terminate()
                stopping = True
        client.close()
        assert leader.process.wait(timeout=60) == 0
        gaps.append(worst)
        leader.start()
        cluster.wait_ready()
    print("longest wait for a confirm around a planned stop: " + ", ".join(f"{gap * 1000:.0f} ms" for gap in gaps))
    assert min(gaps) < 1.0, gaps


@pytest.mark.limit(300)
def test_replicas_are_spread_over_zones(binary, tmp_path):
    cluster = clusters.Cluster(binary, tmp_path, size=4)
    zones = {"n1": "a", "n2": "a", "n3": "b", "n4": "c"}
    for node in cluster.nodes:
        node.options = ["--zone", zones[node.name]]
    with cluster:
        assert {n["name"]: n["zone"] for n in cluster.ask("/api/nodes")} == zones
        for shard in cluster.shards():
            assert len({zones[member] for member in shard["members"]}) == 3, shard
