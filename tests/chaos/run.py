"""One scenario from start to verdict: a fresh cluster, clients on all its queues, the faults, the drain, the checker."""

import json
import random
import time
import traceback
from dataclasses import dataclass, field

from kit import amqp

from . import checker
from .history import History
from .lab import Lab
from .workload import Consumer, PikaConsumer, PikaPublisher, Publisher, drain

QUIET_S = 40.0  # nothing new is acknowledged for so long: what is missing will not come by itself


@dataclass
class Result:
    """What came of one scenario."""

    name: str
    seed: int
    verdict: object = None
    error: str = ""
    seconds: float = 0.0
    recovery_s: float = 0.0  # from the end of the last fault until all that was confirmed was acknowledged
    notes: list = field(default_factory=list)

    @property
    def ok(self):
        return not self.error and self.verdict is not None and self.verdict.ok

    def line(self):
        """What a person reads."""
        if self.verdict is None:
            return f"{self.name:<18} FAILED  {self.error.splitlines()[-1] if self.error else 'no verdict'}"
        verdict, waits = self.verdict, self.verdict.unavailable
        p50, p99 = checker.percentile(waits, 0.5), checker.percentile(waits, 0.99)
        seconds = lambda value: "-" if value is None else f"{value:.2f}s"  # noqa: E731
        wrong = {v.rule for v in verdict.violations}
        return (
            f"{self.name:<18} {'OK' if self.ok else 'VIOLATED' if wrong else 'FAILED':<8} confirmed={verdict.confirmed} "
            f"lost={verdict.count('lost')} duplicates={verdict.duplicates} unknown={verdict.unknown} "
            f"unavailable_p50={seconds(p50)} p99={seconds(p99)} recovery={self.recovery_s:.1f}s"
            + "".join(f" {rule.replace(' ', '-')}={verdict.count(rule)}" for rule in sorted(wrong - {"lost"}))
            + (f" error={self.error.splitlines()[-1]}" if self.error else "")
        )


class World:
    """What a scenario's faults are given: the laboratory, the record, dice, and until when to go on."""

    def __init__(self, lab, history, seed, seconds, queues, threads):
        self.lab, self.history, self.queues, self.threads = lab, history, queues, threads
        self.random = random.Random(seed)
        self.until = time.monotonic() + seconds
        self.notes = []

    def add(self, thread):
        """Another client, which ends with the others."""
        self.threads.append(thread)
        thread.start()
        return thread

    @property
    def goes_on(self):
        return time.monotonic() < self.until

    def note(self, text):
        self.notes.append(text)
        print(f"    {time.strftime('%H:%M:%S')} {text}", flush=True)

    def fault(self, kind, nodes, majority=True):
        self.note(f"{kind} {' '.join(node.name for node in nodes)}")
        return self.history.fault(kind, [node.name for node in nodes], majority)

    def ends(self, fault):
        fault.end = time.monotonic()

    def calm(self, seconds=6.0):
        """The cluster is left alone."""
        time.sleep(seconds)

    def recover(self):
        """Everything is well again, whatever was done."""
        self.lab.heal()
        for node in self.lab.nodes:
            node.resume()
            node.disk("well")
            if not node.running:
                node.start()
        self.all_ready()
        for fault in self.history.faults:
            fault.end = min(fault.end, time.monotonic())

    def leader(self):
        """The node that leads one of the queues, drawn."""
        return self.lab.leader_of(self.random.choice(self.queues))

    def follower(self):
        return self.random.choice(self.lab.others(self.leader()))

    def all_ready(self):
        for node in self.lab.nodes:
            node.wait_ready()


def declare(node, queues):
    client = amqp.Client(*node.address, timeout_s=30)
    client.login()
    client.channel(1)
    for queue in queues:
        client.declare(1, queue, durable=True)
    client.close()


def clients(lab, history, scenario, seed):
    """Two queues for each node: each has a publisher at one node and consumers at the others."""
    queues = [f"chaos-{n}" for n in range(scenario.queues)]
    dice = random.Random(seed)
    threads = []
    size = len(lab.nodes)
    for n, queue in enumerate(queues):
        threads.append(
            Publisher(n, queue, lab.nodes, history, dice.random(), scenario.rate, sizes=scenario.sizes,
                      large=scenario.large).pin(n % size)  # fmt: skip
        )
        for turn in range(1 + n % 2):
            name = f"consumer {n}.{turn}"
            threads.append(Consumer(name, queue, lab.nodes, history, dice.random()).pin((n + turn + 1) % size))
    threads.append(PikaPublisher(100, "chaos-pika", lab.nodes, history, dice.random()))
    threads.append(PikaConsumer("pika consumer", "chaos-pika", lab.nodes, history, dice.random()))
    return [*queues, "chaos-pika"], threads


def all_acked(history):
    acked = {message for _, message, _ in list(history.acks)}
    return not (history.confirmed.keys() - acked)


def wait_until_drained(history):
    """Until the consumers have had everything that is confirmed, or get nothing more."""
    acks, since = -1, time.monotonic()
    while not all_acked(history):
        if len(history.acks) != acks:
            acks, since = len(history.acks), time.monotonic()
        if time.monotonic() - since > QUIET_S:
            return
        time.sleep(0.3)


def run(scenario, binary, directory, seed, seconds):
    """Runs one scenario in a cluster of its own."""
    result, began = Result(scenario.name, seed), time.monotonic()
    history, threads = History(), []
    try:
        with Lab(binary, directory, scenario.nodes, scenario.disk_mb, scenario.options) as lab:
            try:
                if scenario.prepare is not None:
                    scenario.prepare(lab)
                lab.start()
                queues, threads = clients(lab, history, scenario, seed)
                declare(lab.nodes[0], queues)
                for thread in threads:
                    thread.start()
                time.sleep(4.0)
                world = World(lab, history, seed, seconds, queues, threads)
                result.notes = world.notes
                try:
                    scenario.faults(world)
                except (AssertionError, RuntimeError, OSError) as error:
                    # The promises are judged all the same.
                    result.error = f"{traceback.format_exc()}\n{type(error).__name__}: {error}"
                world.recover()
                # The load goes on over a whole cluster: it must find its way back.
                time.sleep(6.0)
                history.healed = time.monotonic()
                publishers = [t for t in threads if isinstance(t, Publisher | PikaPublisher)]
                for thread in publishers:
                    thread.stopping.set()
                for thread in publishers:
                    thread.join(40)
                wait_until_drained(history)
                result.recovery_s = max(0.0, time.monotonic() - history.healed)
                for thread in threads:
                    thread.stopping.set()
                for thread in threads:
                    thread.join(40)
                    if thread.is_alive():
                        history.unexpected.append((time.monotonic(), thread.name, "does not end"))
                for queue in queues:
                    left = drain(queue, lab.nodes, history)
                    if left:
                        history.unexpected.append((time.monotonic(), "drain", f"{queue} still counts {left} messages"))
                if scenario.after is not None:
                    scenario.after(world)
            finally:
                for thread in threads:
                    thread.stopping.set()
                broken = [n for n in lab.nodes if not n.running]
                if broken:
                    result.notes.append(f"not running at the end: {broken}")
        result.verdict = checker.check(history)
    except (AssertionError, RuntimeError, OSError, amqp.ClosedByPeer, TimeoutError) as error:
        result.error = f"{traceback.format_exc()}\n{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    result.seconds = time.monotonic() - began
    if not result.ok:
        keep(history, directory / "history.json")
    return result


def keep(history, path):
    """The record of a run that went wrong, for whoever has to understand it."""
    faults = [(f.kind, sorted(f.nodes), f.start, f.end) for f in history.faults]
    record = {
        "faults": faults,
        "connections": [(c.number, c.client, c.node, c.at, history.ended.get(c.number)) for c in history.connections.values()],
        "published": [(*m, at, queue, history.confirmed.get(m), history.nacked.get(m), source) for m, (at, queue, source) in history.published.items()],
        "deliveries": [(d.at, *d.message, d.queue, d.consumer, d.connection, d.redelivered) for d in history.deliveries],
        "acks": [(at, *message, connection) for at, message, connection in history.acks],
        "requeues": [(at, *message, connection) for at, message, connection in history.requeues],
        "synced": history.synced,
    }
    path.write_text(json.dumps(record))
