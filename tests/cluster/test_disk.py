"""Disks that lie, fail or forget: a node says so and stops, never goes on with less than it promised, and is rebuilt by the others."""

import shutil
import struct
import subprocess
import time

import pytest
from chaos import damage
from chaos.lab import DISK_MODES, HERE as CHAOS
from kit import amqp
from kit.wait import eventually

QUEUE = "disk"


def confirmed(node, bodies, queue=QUEUE):
    """Publishes these and waits for their confirms."""
    client = amqp.Client(*node.address).login()
    client.channel(1)
    client.declare(1, queue, durable=True)
    client.call(1, "confirm.select")
    for body in bodies:
        client.publish(1, "", queue, body, delivery_mode=2)
    last = 0
    while last < len(bodies):
        last = client.expect("basic.ack", 1).delivery_tag
    client.close()


def contents(node, queue=QUEUE):
    """Everything in the queue, in order."""
    client = amqp.Client(*node.address).login()
    client.channel(1)
    bodies = []
    while (got := client.get(1, queue, no_ack=True)) is not None:
        bodies.append(got.body)
    client.close()
    return bodies


def store(node):
    return node.directory / f"{node.name}-data" / "store"


def newest_wal(node):
    return max((store(node) / "log").glob("*.log"), key=lambda path: int(path.stem, 16))


def refuses(node):
    """Starts the node, which must end by itself, not with success; returns what it says."""
    before = len(node.log_tail(100_000).splitlines())
    node.start()
    status = node.process.wait(timeout=60)
    said = "\n".join(node.log_tail(100_000).splitlines()[before:])
    assert status == 1, f"{status}: {said}"
    return said


@pytest.mark.limit(300)
@pytest.mark.parametrize("way", ["flip", "zero", "current", "all"])
def test_a_damaged_store_that_nobody_can_rebuild_is_refused_with_a_sentence_that_says_what_to_do(single, way):
    (node,) = single.nodes
    confirmed(node, [b"%d" % n * 500 for n in range(200)])
    # Something behind it: a hole in the very last write is taken for one that the power cut short.
    confirmed(node, [b"last"])
    node.kill()
    wal = newest_wal(node)
    data = bytearray(wal.read_bytes())
    middle = data.index(b"100" * 500)
    if way == "flip":
        data[middle] ^= 1
        wal.write_bytes(data)
    elif way == "zero":
        at = middle // 4096 * 4096
        data[at : at + 4096] = bytes(4096)
        wal.write_bytes(data)
    elif way == "current":
        (store(node) / "CURRENT").unlink()
    else:
        shutil.rmtree(store(node))
    said = refuses(node)
    assert "damaged" in said and "move its data directory away" in said, said


BODIES = [b"%d" % n * 500 for n in range(200)]


def spoil(node, way):
    """What a sick disk does to a node that is down."""
    wal = newest_wal(node)
    if way == "flip":
        data = bytearray(wal.read_bytes())
        data[data.index(b"100" * 500)] ^= 1
        wal.write_bytes(data)
    elif way == "current":
        (store(node) / "CURRENT").unlink()
    elif way == "store":
        shutil.rmtree(store(node))
    elif way == "table":
        # Found only when what is in it is read, behind the opening.
        tables = list(store(node).glob("*.sst"))
        assert tables
        for table in tables:
            with open(table, "r+b") as file:
                file.truncate(table.stat().st_size // 2)
    else:
        # As a node leaves it that read something spoilt while it ran.
        (store(node).parent / "damaged").write_text("a value was not what was written\n")


def fill(cluster, queue="disk"):
    confirmed(cluster.nodes[0], BODIES, queue)
    # Something behind it: a hole in the very last write is taken for one that the power cut short.
    confirmed(cluster.nodes[0], [b"last"], queue)


def ids(cluster):
    return {node["node_id"] for node in cluster.ask("/api/nodes")}


@pytest.mark.limit(300)
@pytest.mark.parametrize("way", ["flip", "current", "store", "table", "word"])
def test_a_node_with_a_damaged_store_is_rebuilt_by_the_others(cluster, way):
    fill(cluster)
    sick = cluster.nodes[2]
    eventually(lambda: newest_wal(sick).read_bytes().count(b"100" * 500), "the follower has it, too")
    before = ids(cluster)
    if way == "table":
        sick.stop()
    else:
        sick.kill()
    spoil(sick, way)
    sick.start()
    sick.wait_ready()
    eventually(lambda: len(before - ids(cluster)) == 1 and len(ids(cluster)) == 3, "its former self is gone", 120, 0.5)
    aside = store(sick).parent / "store.damaged"
    eventually(lambda: not aside.exists(), "what was put aside is deleted", 60)
    # What it holds counts: the other two go one after the other.
    for node in cluster.nodes[:2]:
        node.kill()
        node.start()
        node.wait_ready()
    assert contents(sick) == [*BODIES, b"last"]


@pytest.mark.limit(300)
def test_of_three_damaged_nodes_none_gives_up_what_it_has(cluster):
    fill(cluster)
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes[:2]:
        spoil(node, "current")
    cluster.nodes[2].start()
    for node in cluster.nodes[:2]:
        said = refuses(node)
        assert "cannot be rebuilt now" in said and "damaged" in said, said
        assert (store(node) / "log").exists() and not (store(node).parent / "store.damaged").exists()


@pytest.mark.limit(300)
def test_with_nobody_to_rebuild_it_a_node_that_met_damage_serves_what_it_has(cluster):
    fill(cluster)
    for node in cluster.nodes:
        node.kill()
    for node in cluster.nodes[:2]:
        spoil(node, "word")
        node.start()
    for node in cluster.nodes[:2]:
        node.wait_ready()
    assert contents(cluster.nodes[0]) == [*BODIES, b"last"]


@pytest.mark.limit(240)
def test_a_write_that_the_power_cut_short_is_dropped_and_nothing_else(single):
    (node,) = single.nodes
    bodies = [b"%d" % n * 300 for n in range(100)]
    confirmed(node, bodies[:50])
    confirmed(node, bodies[50:])
    node.kill()
    wal = newest_wal(node)
    data = bytearray(wal.read_bytes())
    # As if the last write had been under way: its end, and all that came after it, is not there.
    at = data.rindex(bodies[-1])
    data[at + 50 :] = bytes(len(data) - at - 50)
    wal.write_bytes(data)
    node.start()
    node.wait_ready()
    left = contents(node)
    assert 50 <= len(left) < 100 and left == bodies[: len(left)]
    assert "did not reach the disk and is dropped" in node.log_tail(200)


@pytest.fixture
def sick(single, monkeypatch, tmp_path):
    """A node whose disk can be made sick: (node, function that does so)."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    (node,) = single.nodes
    node.stop()
    library, control = tmp_path / "faultdisk.so", tmp_path / "control"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, CHAOS / "faultdisk.c", "-ldl"], check=True)
    control.write_bytes(bytes(4096))
    monkeypatch.setenv("WARREN_FAULTDISK", str(control))
    monkeypatch.setenv("WARREN_FAULTDISK_DIR", f"{store(node)}/")
    monkeypatch.setenv("LD_PRELOAD", str(library))
    node.start()
    for name in ("WARREN_FAULTDISK", "WARREN_FAULTDISK_DIR", "LD_PRELOAD"):
        monkeypatch.delenv(name)
    node.wait_ready()

    def make(mode):
        with open(control, "r+b") as file:
            file.write(struct.pack("=I", DISK_MODES[mode]))

    return node, make


@pytest.mark.limit(240)
@pytest.mark.parametrize("mode", ["sync-eio", "write-eio", "write-enospc"])
def test_a_node_whose_disk_fails_stops_and_confirms_nothing_more(sick, mode):
    node, make = sick
    confirmed(node, [b"safe"])
    client = amqp.Client(*node.address).login()
    client.confirm_channel(1)
    make(mode)
    client.publish(1, "", QUEUE, b"doubtful", delivery_mode=2)
    with pytest.raises((amqp.ClosedByPeer, TimeoutError, OSError)):
        client.recv(timeout_s=20)
    # RocksDB tries to go on by itself when there is no space, and ends on an assertion if it is quicker than we.
    assert node.process.wait(timeout=30) in (1, -6)
    assert "the node cannot go on: the store has failed" in node.log_tail(100)
    node.start()
    node.wait_ready()
    assert contents(node)[0] == b"safe"


@pytest.mark.limit(240)
def test_a_confirm_is_sent_only_after_its_message_is_synced(single, tmp_path):
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    (node,) = single.nodes
    confirmed(node, [b"warm"])
    trace = tmp_path / "trace"
    tracer = subprocess.Popen(
        ["strace", "-f", "-y", "-s", "600", "-o", trace, "-p", str(node.process.pid),
         "-e", "trace=fsync,fdatasync,sync_file_range,write,pwrite64,sendto,sendmsg,writev"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        first = tracer.stderr.readline()
        if "attached" not in first:
            pytest.skip(f"strace cannot attach: {first.strip()}")
        client = amqp.Client(*node.address).login()
        client.confirm_channel(1)
        marker = b"strace-me-" * 10
        for _ in range(5):
            client.publish(1, "", QUEUE, marker, delivery_mode=2)
            client.expect("basic.ack", 1, timeout_s=30)
        time.sleep(0.5)
    finally:
        tracer.terminate()
        tracer.wait()
    # What happened, in order: W the message to the log, S a sync of the log that is over, C a confirm to the client.
    events = []
    syncing = set()
    for line in trace.read_text(errors="replace").splitlines():
        thread = line.split()[0]
        if "strace-me-" in line and ".log>" in line:
            events.append("W")
        elif ("fdatasync(" in line or "fsync(" in line) and ".log>" in line:
            syncing.add(thread)
            if "unfinished" not in line:
                events.append("S")
        elif "sync resumed" in line and thread in syncing:
            events.append("S")
        elif "\\0<\\0P" in line and "socket:" in line.lower() or "TCP:" in line and "\\0<\\0P" in line:
            events.append("C")
    assert events.count("C") >= 5 and events.count("W") >= 5, events
    story = "".join(events)
    for part in story.split("C")[:5]:
        assert "S" in part[part.index("W") :], f"a confirm without a sync after its write: {story}"
