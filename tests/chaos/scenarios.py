"""What is done to the cluster, by name. Each function hurts it until its time is over, and leaves it whole."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from kit import amqp
from kit.wait import eventually

from . import damage
from .history import make_body
from .workload import Consumer, Publisher


@dataclass(frozen=True)
class Scenario:
    """A way to hurt a cluster, and the load meanwhile."""

    name: str
    faults: object
    nodes: int = 3
    queues: int = 6
    rate: float = 60.0
    sizes: tuple = (0, 2000)
    large: float = 0.002
    disk_mb: int = 2048
    options: tuple = ()
    prepare: object = None
    after: object = None
    # A variable of the environment without which it is skipped.
    needs: str | None = None


def _restart(world, nodes):
    for node in nodes:
        node.start()
    for node in nodes:
        node.wait_ready()


def _kill(world, kind, victims, down_s=2.0):
    majority = len(victims) * 2 < len(world.lab.nodes)
    fault = world.fault(kind, victims, majority)
    for node in victims:
        node.kill()
    time.sleep(down_s)
    _restart(world, victims)
    world.ends(fault)
    world.calm()


def kill_leader(world):
    while world.goes_on:
        _kill(world, "kill -9 a leader", [world.leader()])


def kill_follower(world):
    while world.goes_on:
        _kill(world, "kill -9 a follower", [world.follower()])


def kill_two(world):
    while world.goes_on:
        _kill(world, "kill -9 two nodes", world.random.sample(world.lab.nodes, 2))


def kill_all(world):
    while world.goes_on:
        _kill(world, "kill -9 all nodes", world.lab.nodes, down_s=0.5)


def kill_often(world):
    """One after the other, the next as soon as the one before is back."""
    while world.goes_on:
        victim = world.random.choice(world.lab.nodes)
        fault = world.fault("kill -9 in a row", [victim])
        victim.kill()
        _restart(world, [victim])
        world.ends(fault)


def terminate(world):
    while world.goes_on:
        victim = world.leader()
        fault = world.fault("SIGTERM, start", [victim])
        status = victim.stop()
        if status != 0:
            raise AssertionError(f"{victim} ended with {status} after SIGTERM")
        _restart(world, [victim])
        world.ends(fault)
        world.calm()


def rolling(world):
    while world.goes_on:
        for node in world.lab.nodes:
            fault = world.fault("rolling restart", [node])
            node.stop()
            _restart(world, [node])
            world.ends(fault)
        world.calm()


def begin_with_the_old_build(lab):
    lab.new_binary, lab.binary = lab.binary, Path(os.environ["WARREN_OLD_BIN"])


def upgrade(world):
    """Each node of an older build ends and comes back with the newer one, while the others still are of the older."""
    world.lab.binary = world.lab.new_binary
    for node in world.lab.nodes:
        fault = world.fault("rolling upgrade", [node])
        node.stop()
        _restart(world, [node])
        world.ends(fault)
        # Both builds serve, replicate to each other and lead.
        world.calm()


def pause(world):
    while world.goes_on:
        victim = world.leader()
        fault = world.fault("SIGSTOP a leader", [victim])
        victim.pause()
        time.sleep(world.random.choice((1, 3, 5, 12)))
        victim.resume()
        victim.wait_ready()
        world.ends(fault)
        world.calm()


def _partition(world, kind, victims, cut, seconds=None):
    fault = world.fault(kind, victims)
    cut()
    time.sleep(seconds or world.random.choice((3, 8, 12)))
    world.lab.heal()
    world.all_ready()
    world.ends(fault)
    world.calm()


def leader_cut_off(world):
    """A leader is cut off from the others; its clients still reach it."""
    while world.goes_on:
        victim = world.leader()
        _partition(world, "leader cut off", [victim], lambda: world.lab.cut([victim], world.lab.others(victim)))


def leader_away(world):
    """A leader and its link to clients, both."""
    while world.goes_on:
        victim = world.leader()

        def cut():
            world.lab.cut([victim], world.lab.others(victim))
            world.lab.cut_clients([victim])

        _partition(world, "leader away with its link", [victim], cut)


def one_way(world):
    """A leader hears the others and is not heard, or the other way round."""
    while world.goes_on:
        victim, others = world.leader(), None
        others = world.lab.others(victim)
        deaf = world.random.random() < 0.5
        kind = "leader hears nobody" if deaf else "nobody hears the leader"
        pair = (others, [victim]) if deaf else ([victim], others)
        _partition(world, kind, [victim], lambda: world.lab.cut(*pair, both=False))


def bridge(world):
    """Two nodes do not see each other; a third sees both."""
    while world.goes_on:
        a, b = world.random.sample(world.lab.nodes, 2)
        _partition(world, "two nodes apart, a third between", [a, b], lambda: world.lab.cut([a], [b]))


def halves(world):
    """Of five nodes, two are cut off with a leader."""
    while world.goes_on:
        leader = world.leader()
        minority = [leader, world.random.choice(world.lab.others(leader))]
        _partition(
            world, "minority of two of five", minority, lambda: world.lab.cut(minority, world.lab.others(*minority))
        )


def isolate_all(world):
    """Nobody sees anybody."""
    while world.goes_on:
        nodes = world.lab.nodes
        fault = world.fault("nobody sees anybody", nodes, majority=False)
        for node in nodes:
            world.lab.cut([node], world.lab.others(node))
        time.sleep(world.random.choice((3, 8)))
        world.lab.heal()
        world.all_ready()
        world.ends(fault)
        world.calm()


def flapping(world):
    """A link that comes and goes."""
    while world.goes_on:
        victim = world.leader()
        fault = world.fault("flapping link", [victim])
        for _ in range(6):
            world.lab.cut([victim], world.lab.others(victim))
            time.sleep(world.random.uniform(0.2, 2.5))
            world.lab.heal()
            time.sleep(world.random.uniform(0.1, 1.5))
        world.all_ready()
        world.ends(fault)
        world.calm()


def lossy_net(world):
    while world.goes_on:
        fault = world.fault("15% of packets lost", world.lab.nodes)
        world.lab.lossy(world.lab.nodes)
        time.sleep(10)
        world.lab.heal()
        world.all_ready()
        world.ends(fault)
        world.calm()


def slow_net(world):
    while world.goes_on:
        victim = world.leader()
        fault = world.fault("narrow slow link", [victim])
        world.lab.slow([victim])
        time.sleep(10)
        world.lab.heal()
        world.all_ready()
        world.ends(fault)
        world.calm()


def _power(world, kind, victims):
    majority = len(victims) * 2 < len(world.lab.nodes)
    fault = world.fault(kind, victims, majority)
    first = world.random.random() < 0.5
    for node in victims:
        node.power_off(process_first=first)
    time.sleep(1.0)
    for node in victims:
        node.power_on()
    _restart(world, victims)
    world.ends(fault)
    world.calm()


def power_one(world):
    while world.goes_on:
        _power(world, "power cut of a leader", [world.leader()])


def power_all(world):
    while world.goes_on:
        _power(world, "power cut of all", world.lab.nodes)


def torn_all(world):
    """All nodes die in the middle of a write of theirs, half of which reaches the disk, and lose what was not synced."""
    while world.goes_on:
        fault = world.fault("torn writes and power cut", world.lab.nodes, majority=False)
        for node in world.lab.nodes:
            node.disk("write-torn")
        time.sleep(1.0)
        for node in world.lab.nodes:
            if node.running:
                node.kill()
        _restart(world, world.lab.nodes)
        world.ends(fault)
        world.calm()


def _sick_disk(world, kind, mode, argument=0, seconds=4.0, dies=True):
    """A node whose disk fails must stop by itself, and comes back whole when the disk is well."""
    while world.goes_on:
        victim = world.leader()
        fault = world.fault(kind, [victim])
        victim.disk(mode, argument)
        until = time.monotonic() + seconds
        while victim.running and time.monotonic() < until:
            time.sleep(0.05)
        if dies and victim.running:
            raise AssertionError(f"{victim} goes on {seconds} s after '{kind}'")
        if dies and victim.process.poll() == 0:
            raise AssertionError(f"{victim} ended with status 0 after '{kind}'")
        if dies and "cannot go on" not in victim.log_tail(60):
            raise AssertionError(f"{victim} does not say why it ended:\n{victim.log_tail()}")
        victim.disk("well")
        if dies:
            _restart(world, [victim])
        victim.wait_ready()
        world.ends(fault)
        world.calm()


def eio_sync(world):
    _sick_disk(world, "fsync fails", "sync-eio", seconds=10)


def eio_write(world):
    _sick_disk(world, "write fails", "write-eio", seconds=10)


def eio_read(world):
    """Reads fail: what is read comes from memory mostly, so that the node may or may not notice."""
    while world.goes_on:
        victim = world.leader()
        fault = world.fault("reads fail", [victim])
        victim.disk("read-eio")
        time.sleep(6)
        died = not victim.running
        victim.disk("well")
        if died:
            world.note(f"{victim} stopped")
            _restart(world, [victim])
        victim.wait_ready()
        world.ends(fault)
        world.calm()


def no_space(world):
    _sick_disk(world, "no space left at once", "write-enospc", seconds=10)


def slow_disk(world):
    _sick_disk(world, "fsync takes 300 ms", "sync-slow", 300, seconds=8, dies=False)


def hung_disk(world):
    _sick_disk(world, "fsync hangs", "sync-hang", seconds=12, dies=False)


def wiped(world):
    """A node comes back with an empty disk: it takes no part with what it has forgotten."""
    while world.goes_on:
        victim = world.random.choice(world.lab.nodes)
        fault = world.fault("wiped data directory", [victim])
        victim.kill()
        victim.wipe()
        _restart(world, [victim])
        world.ends(fault)
        world.calm(20.0)


def declared_again(world):
    """A queue is deleted and declared again while a node is down: nothing of the old one comes back."""
    queue, turn = "chaos-again", 0
    while world.goes_on:
        victim = world.random.choice(world.lab.nodes)
        client = amqp.Client(*world.random.choice(world.lab.others(victim)).address, timeout_s=30)
        client.login()
        client.confirm_channel(1)
        client.confirmed_before = 0
        client.declare(1, queue, durable=True)
        if queue not in world.queues:
            world.queues.append(queue)
        ghosts = [(900 + turn, number) for number in range(200)]
        _publish(world, client, queue, ghosts[:100])
        fault = world.fault("queue declared again without it", [victim])
        victim.kill()
        _publish(world, client, queue, ghosts[100:])
        client.call(1, "queue.delete", queue=queue)
        # From now on each of them is one that nobody published.
        for ghost in ghosts:
            del world.history.published[ghost], world.history.confirmed[ghost]
        client.declare(1, queue, durable=True)
        _publish(world, client, queue, [(901 + turn, number) for number in range(100)])
        client.close()
        _restart(world, [victim])
        world.ends(fault)
        consumer = world.add(
            Consumer(f"again {turn}", queue, world.lab.nodes, world.history, world.random.random(), drops=0)
        )
        world.calm()
        consumer.stopping.set()
        consumer.join(30)
        turn += 2


def _publish(world, client, queue, messages):
    """Publishes these and waits until all are confirmed."""
    history = world.history
    for message in messages:
        history.published[message] = (time.monotonic(), queue, 0)
        client.publish(1, "", queue, make_body(*message, 300), delivery_mode=2)
    done = 0
    while done < len(messages):
        got = client.expect("basic.ack", 1)
        left = messages[done:]
        newly = left[: got.delivery_tag - client.confirmed_before - done] if got.multiple else left[:1]
        for message in newly:
            history.confirmed[message] = time.monotonic()
        done += len(newly)
    client.confirmed_before += len(messages)


def clocks(world):
    """Wall clocks jump, back and forth."""
    while world.goes_on:
        victim = world.random.choice(world.lab.nodes)
        fault = world.fault("clock jumps", [])
        for offset in ("+3600s", "-7200s", "+5s", "-1s", "+86400s", "+0s"):
            victim.set_clock(offset)
            time.sleep(world.random.uniform(0.3, 1.5))
        world.ends(fault)
        world.calm()


def with_clocks(lab):
    if lab.faketime is None:
        raise RuntimeError("needs libfaketime (Debian's package faketime)")
    for node in lab.nodes:
        node.set_clock("+0s")


def disk_full(world):
    """A backlog grows until disks are nearly full: publishers are stopped before, and go on when it is consumed."""
    lab, history, queue = world.lab, world.history, "chaos-flood"
    client = amqp.Client(*lab.nodes[0].address, timeout_s=30).login()
    client.channel(1)
    client.declare(1, queue, durable=True)
    client.close()
    world.queues.append(queue)
    flood = [
        world.add(Publisher(300 + n, queue, lab.nodes, history, world.random.random(), 200, 60, (40_000, 90_000)).pin(n))
        for n in range(2)
    ]
    fault = world.fault("disks fill up", lab.nodes)
    eventually(lambda: any(reason for _, _, reason in history.blocked), "publishers are stopped", timeout_s=240)
    world.note(f"stopped; free: {[node.free_bytes() >> 20 for node in lab.nodes]} MiB; {history.blocked[0][2]}")
    time.sleep(10)
    confirmed = len(history.confirmed)
    time.sleep(5)
    world.note(f"free: {[node.free_bytes() >> 20 for node in lab.nodes]} MiB; {len(history.confirmed) - confirmed} confirms in 5 s")
    for node in lab.nodes:
        if not node.running:
            raise AssertionError(f"{node} ended though publishers were stopped:\n{node.log_tail(5)}")
    stopped = time.monotonic()
    world.add(Consumer("flood consumer", queue, lab.nodes, history, world.random.random(), 50, 0.0, 0.0, 0.0))
    eventually(
        lambda: any(reason is None and at > stopped for at, _, reason in list(history.blocked)),
        "publishers go on when the backlog is consumed", timeout_s=240,
    )  # fmt: skip
    world.note(f"they go on {time.monotonic() - stopped:.1f} s after the first consumer came")
    for thread in flood:
        thread.stopping.set()
    world.ends(fault)
    world.calm(10.0)


def damaged(world):
    """Files of a node that is down are damaged. It finds that out and is rebuilt by the others, or refuses to run if they cannot do
    that now; or it runs and all is well."""
    while world.goes_on:
        victim = world.random.choice(world.lab.nodes)
        fault = world.fault("damaged files", [victim])
        if world.random.random() < 0.5:
            victim.stop()
        else:
            victim.kill()
        kept = world.lab.directory / "kept"
        damage.copy(victim.data, kept)
        world.note(damage.damage(victim.data, world.random.random()))
        before = len(victim.log_tail(100_000).splitlines())
        victim.start()
        until = time.monotonic() + 12
        while victim.running and not (victim.is_ready() and time.monotonic() > until - 6) and time.monotonic() < until + 30:
            time.sleep(0.1)
        said = "\n".join(victim.log_tail(100_000).splitlines()[before:])
        if victim.running:
            world.note("it is rebuilt by the others" if "is put aside" in said else "it runs")
        else:
            if "damaged" not in said or victim.process.poll() == 0:
                raise AssertionError(f"{victim} ended with {victim.process.poll()} and did not say why:\n{said[-2000:]}")
            world.note(f"it refuses: {said.splitlines()[-1][:300]}")
            # Nothing newer than that was promised by this node.
            damage.restore(victim.data, kept)
            victim.start()
        victim.wait_ready()
        world.ends(fault)
        world.calm(3.0)


ALL = [
    Scenario("kill-leader", kill_leader),
    Scenario("kill-follower", kill_follower),
    Scenario("kill-two", kill_two),
    Scenario("kill-all", kill_all),
    Scenario("kill-often", kill_often),
    Scenario("term", terminate),
    Scenario("rolling", rolling),
    Scenario("upgrade", upgrade, prepare=begin_with_the_old_build, needs="WARREN_OLD_BIN"),
    Scenario("pause", pause),
    Scenario("leader-cut-off", leader_cut_off),
    Scenario("leader-away", leader_away),
    Scenario("one-way", one_way),
    Scenario("bridge", bridge),
    Scenario("minority", halves, nodes=5, queues=5),
    Scenario("isolate-all", isolate_all),
    Scenario("flapping", flapping),
    Scenario("lossy", lossy_net),
    Scenario("slow-net", slow_net),
    Scenario("power-one", power_one),
    Scenario("power-all", power_all),
    Scenario("torn-all", torn_all),
    Scenario("eio-sync", eio_sync),
    Scenario("eio-write", eio_write),
    Scenario("eio-read", eio_read),
    Scenario("no-space", no_space),
    Scenario("slow-disk", slow_disk),
    Scenario("hung-disk", hung_disk),
    Scenario("disk-full", disk_full, disk_mb=500, rate=20),
    Scenario("wiped", wiped),
    Scenario("declared-again", declared_again),
    Scenario("clocks", clocks, prepare=with_clocks),
    Scenario("damaged", damaged, sizes=(500, 8000), large=0.02),
]
BY_NAME = {scenario.name: scenario for scenario in ALL}
