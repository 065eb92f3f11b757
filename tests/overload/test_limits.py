"""What a node does at the limits that its operator, or the machine, has set."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from flood import KIB, MIB, closing, connect, delete, fill, half_message, login, pour, together
from kit import amqp
from kit.wait import eventually

pytestmark = pytest.mark.limit(900)


def test_few_descriptors(own_lab):
    """256 of them: the node starts, serves who is in, and takes others when some leave."""
    lab = own_lab(files_max=256)
    node = lab.nodes[0]
    with lab.watch(grows_mib=100):
        with closing([]) as crowd:
            for port in (node.amqp_port, node.http_port, node.metrics_port, node.cluster_port):
                crowd += crowd_at(port, 400)
            time.sleep(1)
        eventually(lambda: comes_in(node), "a client comes in again", timeout_s=60)
        # Segments, checkpoints and blob files need some too.
        with closing([login(node)]) as (client,):
            client.declare(1, "few", durable=True)
            fill(client, "few", b"x" * 256 * KIB, lab.size(200, 2000))
        delete(node, "few")
    log = node.log_path.read_text()
    assert log.count("cannot accept") + log.count("connection refused") < 20, log[-3000:]


def crowd_at(port, most):
    """As many connections as the node and the system take."""
    sockets = []
    for _ in range(most):
        try:
            sockets.append(connect(port, timeout_s=0.2))
        except OSError:
            break
    return sockets


def comes_in(node):
    try:
        login(node).abort()
    except (OSError, amqp.ClosedByPeer):
        return False
    return True


def hold(client, mib):
    """A transaction of so many MiB, in messages of one frame."""
    client.call(1, "tx.select")
    one = client.publish_bytes(1, "", "none", b"x" * 100_000)
    client.socket.settimeout(5)
    try:
        client.socket.sendall(one * (mib * MIB // len(one)))
    except OSError:
        return


def test_memory_above_its_watermark_and_below_again(own_lab):
    """Those who publish are stopped and told, nobody else; when it is over they go on by themselves."""
    lab = own_lab(WARREN_MEMORY_HIGH_WATERMARK="300MB")
    node = lab.nodes[0]
    with lab.watch(grows_mib=500, left_mib=250, bystander=False):
        with closing([login(node) for _ in range(2)]) as (publisher, consumer):
            publisher.declare(1, "stopped", durable=True)
            publisher.call(1, "confirm.select")
            consumer.consume(1, "stopped", no_ack=True)
            publisher.publish(1, "", "stopped", b"before")
            publisher.expect("basic.ack", 1)
            consumer.expect("basic.deliver", 1)
            # As large as the node lets it be: a quarter is for what is on its way in, the rest for what is in the log's cache.
            with closing([login(node) for _ in range(4)]) as hoarders:
                together(*[lambda c=c: hold(c, 150) for c in hoarders])
                eventually(lambda: node.http("/api/nodes")[0]["mem_alarm"], "the alarm is on", timeout_s=20)
                publisher.publish(1, "", "stopped", b"at hand")
                assert {publisher.recv().name, publisher.recv().name} == {"connection.blocked", "basic.ack"}
                publisher.publish(1, "", "stopped", b"waits")
                assert consumer.expect("basic.deliver", 1).body == b"at hand"
                consumer.expect_silence(1.0)
                assert consumer.declare(1, "stopped", passive=True).message_count == 0
                # A part of a message is a publish too.
                with closing([login(node)]) as (half,):
                    half.send_bytes(half_message(1, MIB, b"x" * 300 * KIB))
                    half.expect("connection.blocked", 0)
            publisher.expect("connection.unblocked", 0)
            publisher.expect("basic.ack", 1)
            assert consumer.expect("basic.deliver", 1).body == b"waits"
        delete(node, "stopped")


def test_what_is_on_its_way_in_is_a_quarter_of_the_watermark_at_most(own_lab):
    """Who holds a part of a message and sends no more loses it to those who wait; those are served one after the other."""
    lab = own_lab(WARREN_MEMORY_HIGH_WATERMARK="800MB")
    node = lab.nodes[0]
    with lab.watch(grows_mib=500, left_mib=300):
        with closing([login(node) for _ in range(20)]) as stalled:
            body = b"x" * (15 * MIB)
            together(*[lambda c=c: pour_once(c, half_message(1, 16 * MIB, body), 3) for c in stalled])
            with closing([login(node) for _ in range(4)]) as publishers:
                publishers[0].declare(1, "turns", durable=True)
                together(*[lambda c=c: fill(c, "turns", b"x" * 8 * MIB, 2) for c in publishers])
        delete(node, "turns")


def pour_once(client, data, patience_s):
    client.socket.settimeout(patience_s)
    try:
        client.socket.sendall(data)
    except OSError:
        pass


@pytest.mark.slow
def test_largest_messages_that_can_be_configured(own_lab):
    """128 MiB each (500 in full size), to all three nodes and through each of them."""
    lab = own_lab(size=3, WARREN_MAX_MESSAGE_SIZE_BYTES=str(512 * MIB), WARREN_MEMORY_HIGH_WATERMARK="6GB")
    mib = lab.size(128, 500)
    with lab.watch(grows_mib=lab.size(3500, 8000), left_mib=lab.size(2000, 4000), what=f"{mib} MiB"):
        with closing([login(n, timeout_s=300) for n in lab.nodes]) as clients:
            clients[0].declare(1, "largest", durable=True)
            body = os.urandom(MIB) * mib
            for client in clients:
                fill(client, "largest", body, 1)
            for client in clients:
                got = client.get(1, "largest", no_ack=False)
                assert got.body == body
                client.send(1, "basic.ack", delivery_tag=got.delivery_tag)
        delete(lab.nodes[0], "largest")


@pytest.mark.slow
def test_128_mib_from_100_publishers(own_lab):
    lab = own_lab(size=3, WARREN_MAX_MESSAGE_SIZE_BYTES=str(128 * MIB), WARREN_MEMORY_HIGH_WATERMARK="4GB")
    with lab.watch(grows_mib=5000, left_mib=3000):
        with closing([login(lab.nodes[i % 3], timeout_s=850) for i in range(100)]) as clients:
            clients[0].declare(1, "large", durable=True)
            body = b"x" * 128 * MIB
            together(*[lambda c=c: fill(c, "large", body, 1) for c in clients])
            assert clients[0].ready(1, "large") == 100
        delete(lab.nodes[0], "large")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 MB for the data."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m", "none", str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("a file system of its own needs root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False)


@pytest.mark.slow
def test_disk_below_its_limit_and_above_again(own_lab, small_disk, tmp_path):
    for name in ("n1-data",):
        (small_disk / name).mkdir()
        (tmp_path / name).symlink_to(small_disk / name)
    lab = own_lab(WARREN_DISK_FREE_LIMIT="100MB")
    node = lab.nodes[0]
    with lab.watch(grows_mib=300, bystander=False):
        with closing([login(node) for _ in range(3)]) as (publisher, consumer, flooder):
            publisher.declare(1, "disk", durable=True)
            publisher.call(1, "confirm.select")
            publisher.publish(1, "", "disk", b"before")
            publisher.expect("basic.ack", 1)
            flooder.declare(1, "full", durable=True)
            # It publishes until it is stopped: before the disk is full.
            _, stopped = pour(flooder, flooder.publish_bytes(1, "", "full", b"x" * 100 * KIB, delivery_mode=2) * 20, 40)
            assert stopped and node.running
            free = os.statvfs(small_disk)
            assert free.f_bavail * free.f_frsize > 10 * MIB, "it stopped with the disk full"
            publisher.publish(1, "", "disk", b"at hand")
            assert "connection.blocked" in {publisher.recv().name, publisher.recv().name}
            assert consumer.get(1, "disk", no_ack=True).body == b"before"
            consumer.call(1, "queue.purge", queue="full")
            flooder.abort()
            publisher.expect("connection.unblocked", 0)
            publisher.publish(1, "", "disk", b"after")
            publisher.expect("basic.ack", 1)
        delete(node, "disk", "full")


def test_log_of_the_node_stays_short_whatever_strangers_do(lab):
    """Floods that are refused are not written down one by one."""
    node = lab.nodes[0]
    before = node.log_path.stat().st_size
    with lab.watch(grows_mib=100):
        deadline = time.monotonic() + lab.size(4, 20)
        while time.monotonic() < deadline:
            for port in (node.amqp_port, node.http_port, node.cluster_port):
                with closing([connect(port) for _ in range(20)]) as sockets:
                    for one in sockets:
                        one.sendall(b"\x16\x03\x01" + os.urandom(20))
            try:
                client = amqp.Client(*node.address)
                client.start()
                client.start_ok("stranger", "wrong")
                client.recv()
                client.abort()
            except (OSError, amqp.ClosedByPeer):
                pass
    grown = Path(node.log_path).stat().st_size - before
    assert grown < 200_000, f"{grown} octets of log"
