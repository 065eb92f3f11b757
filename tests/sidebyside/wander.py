"""Random conversations with two brokers, compared after each step: `python -m sidebyside.wander --rabbit … --warren …`.

A seed names the same steps every time. A step waits for its answer and then until nothing more comes, on both connections of
the conversation. See README.md.
"""

import argparse
import random
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kit import amqp  # noqa: E402
from sidebyside import known  # noqa: E402
from sidebyside.session import same_for_all, spell  # noqa: E402

ANSWER_S = 12.0
QUIET_S = 0.06
QUEUES = [f"wander-q{n}" for n in range(4)]
EXCHANGES = [f"wander-x{n}" for n in range(3)]
SYSTEM = ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", ""]
KEYS = ["k", "a.b", "a.*", "#", "", *QUEUES[:2]]
ARGUMENTS = {
    "x-max-length": [0, 1, 2, 3], "x-message-ttl": [0, 60000], "x-dead-letter-exchange": ["", EXCHANGES[0], "amq.fanout", "nowhere"],
    "x-dead-letter-routing-key": [QUEUES[1], "k", QUEUES[0]], "x-overflow": ["drop-head", "reject-publish", "reject-publish-dlx", "bad"],
    "x-max-priority": [0, 3, 10], "x-single-active-consumer": [True, False], "x-queue-mode": ["lazy", "default"],
    "x-max-length-bytes": [5, 0, 100], "x-expires": [600000, 0], "x-unknown": [1],
}  # fmt: skip
HEADERS = {"CC": [[QUEUES[1]], [QUEUES[0], QUEUES[2]], QUEUES[1]], "BCC": [[QUEUES[2]]], "h": [1, "a", None, True], "g": ["b"], "x-h": [1]}
BOUND = [{}, {}, {"x-match": "any", "h": 1}, {"x-match": "all", "h": None}, {"h": "a", "g": "b"}, {"x-match": "bad"}]
# How often a step is which: when everything comes and goes, and when most of it stays.
WEIGHTS = {
    "declare": (10, 0), "passive": (2, 2), "delete": (3, 0.3), "purge": (3, 1), "bind": (6, 1), "unbind": (2, 0.5), "x-declare": (6, 0.3),
    "x-delete": (2, 0.2), "x-bind": (3, 0.3), "x-unbind": (1, 0.3), "consume": (7, 9), "cancel": (3, 3), "publish": (25, 40), "get": (7, 9),
    "ack": (10, 14), "nack": (6, 9), "reject": (6, 9), "recover": (1, 1.5), "confirm": (1, 1), "tx": (0.6, 0.5), "commit": (2, 2),
    "rollback": (1, 1), "qos": (2, 3), "close": (1.5, 1.2), "drop": (0.7, 1), "flow": (0.3, 0.2),
}  # fmt: skip


def some(r, choices, most=2):
    """A few of the entries, each with one of its values."""
    keys = r.sample(sorted(choices), r.choice([0, 0, 0, 0, 1, 1, most]))
    return {key: r.choice(choices[key]) for key in keys}


def properties(r, kind):
    told = {}
    if headers := some(r, HEADERS):
        told["headers"] = headers
    if r.random() < 0.3:
        told["delivery_mode"] = r.choice([1, 2])
    if r.random() < 0.2 and kind == "classic":  # quorum queues of 4.x have priorities, those of 3.x have none
        told["priority"] = r.choice([0, 1, 5, 9])
    if r.random() < 0.15:
        told["expiration"] = r.choice(["60000", "-1", "x", "", "1.5"])  # behind others RabbitMQ's stay, and ours go
    if r.random() < 0.05 and not told:  # 3.x looks at it before other properties, 4.x after them
        told["user_id"] = r.choice(["guest", "bob"])
    return told


def method_of(r, what, kind):
    """The method of a step and its arguments."""

    def chance(p=0.2):
        return r.random() < p

    def queue():
        return r.choice([*QUEUES, *QUEUES, "", "missing"])

    def exchange():
        return r.choice([*EXCHANGES, *EXCHANGES, *SYSTEM, "missing-x"])

    classic = kind == "classic"
    no_wait = chance(0.08)
    if what == "declare":
        flags = dict(durable=chance(0.7), exclusive=chance(0.15), auto_delete=chance(0.15)) if classic else dict(durable=True)
        typed = {} if classic else {"x-queue-type": kind}
        return "queue.declare", dict(queue=r.choice(QUEUES), no_wait=no_wait, arguments={**typed, **some(r, ARGUMENTS)}, **flags)
    if what in ("bind", "unbind"):
        arguments = dict(queue=queue(), exchange=exchange(), routing_key=r.choice(KEYS), arguments=r.choice(BOUND))
        return f"queue.{what}", arguments
    if what == "x-declare":
        flags = dict(passive=chance(0.1), durable=chance(0.7), auto_delete=chance(0.15), internal=chance(0.1), no_wait=no_wait)
        alternate = r.choice([{}, {}, {"alternate-exchange": EXCHANGES[1]}, {"alternate-exchange": "amq.fanout"}])
        kinds = ["direct", "fanout", "topic", "headers"]
        return "exchange.declare", dict(exchange=r.choice(EXCHANGES), type=r.choice(kinds), arguments=alternate, **flags)
    if what in ("x-bind", "x-unbind"):
        # Not to one of the broker's own: that would outlive the conversation.
        destination = r.choice([*EXCHANGES, "missing-x", ""])
        return f"exchange.{what[2:]}", dict(destination=destination, source=exchange(), routing_key=r.choice(KEYS), no_wait=no_wait)
    if what == "consume":
        told = dict(queue=queue(), consumer_tag=r.choice(["t0", "t1", ""]), no_ack=chance(0.25), exclusive=chance(0.12), no_wait=no_wait)
        return "basic.consume", {**told, "arguments": r.choice([{}, {}, {}, {"x-priority": 5}, {"x-priority": "x"}])}
    if what == "qos":
        return "basic.qos", {"prefetch_count": r.choice([0, 1, 2, 3]), "global": chance() and classic}
    tag = r.choice([0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8])
    return {
        "passive": lambda: ("queue.declare", dict(queue=queue(), passive=True, no_wait=no_wait)),
        "delete": lambda: ("queue.delete", dict(queue=queue(), if_unused=chance() and classic, if_empty=chance() and classic, no_wait=no_wait)),
        "purge": lambda: ("queue.purge", dict(queue=queue(), no_wait=no_wait)),
        "x-delete": lambda: ("exchange.delete", dict(exchange=exchange(), if_unused=chance(0.4), no_wait=no_wait)),
        "cancel": lambda: ("basic.cancel", dict(consumer_tag=r.choice(["t0", "t1", "none", ""]), no_wait=no_wait)),
        "get": lambda: ("basic.get", dict(queue=queue(), no_ack=chance(0.3))),
        "ack": lambda: ("basic.ack", dict(delivery_tag=tag, multiple=chance(0.4))),
        "nack": lambda: ("basic.nack", dict(delivery_tag=tag, multiple=chance(0.5), requeue=chance(0.6))),
        "reject": lambda: ("basic.reject", dict(delivery_tag=tag, requeue=chance(0.6))),
        "recover": lambda: (r.choice(["basic.recover", "basic.recover-async"]), dict(requeue=chance(0.85))),
        "confirm": lambda: ("confirm.select", dict(no_wait=no_wait)),
        "tx": lambda: ("tx.select", {}),
        "commit": lambda: ("tx.commit", {}),
        "rollback": lambda: ("tx.rollback", {}),
        "close": lambda: ("channel.close", dict(reply_code=200)),
        "flow": lambda: ("channel.flow", dict(active=chance(0.8))),
    }[what]()


def steps(seed, count, kind, busy):
    """Connection, channel, method (or `publish`, `drop`) and arguments."""
    r = random.Random(seed)
    if busy:
        for name in QUEUES:
            yield "a", 1, "queue.declare", dict(queue=name, durable=True, arguments={"x-queue-type": kind, **r.choice([{}, {"x-max-length": 3}])})
        for number, name in enumerate(EXCHANGES):
            yield "a", 1, "exchange.declare", dict(exchange=name, type=["direct", "topic", "fanout"][number], durable=True)
            for queue in QUEUES[: number + 2]:
                yield "a", 1, "queue.bind", dict(queue=queue, exchange=name, routing_key=["k", "a.*", ""][number])
    names, weights = list(WEIGHTS), [pair[busy] for pair in WEIGHTS.values()]
    for number in range(count):
        connection, channel = r.choice("aab"), r.choice([1, 1, 1, 2])
        what = r.choices(names, weights)[0]
        if what == "publish":
            exchange = r.choice(["", "", "", *EXCHANGES, *EXCHANGES, *SYSTEM, "missing-x"])
            told = dict(mandatory=r.random() < 0.3, immediate=r.random() < 0.01, **properties(r, kind))
            yield connection, channel, "publish", dict(exchange=exchange, routing_key=r.choice(KEYS + QUEUES), body=b"m%d" % number, **told)
        elif what == "drop":
            yield connection, 0, "drop", {}
        else:
            yield connection, channel, *method_of(r, what, kind)


class Connection:
    """One that opens again whatever closes."""

    def __init__(self, log_in):
        self.log_in = log_in
        self.open()

    def open(self):
        self.client = self.log_in()
        for number in (1, 2):
            self.client.channel(number)

    def ask(self, channel, method, arguments):
        """Sends a step's method and a question behind it; how many answers of the question's kind to pass over."""
        if method == "drop":
            self.client.abort()
            time.sleep(0.1)  # both brokers see the end of a connection later than its other end does
            self.open()
            return None
        if method == "publish":
            self.client.publish(channel, **arguments)
        else:
            self.client.send(channel, method, **arguments)
        # Their own answers do; RabbitMQ takes nothing else before that of tx.commit.
        if method not in ("channel.close", "tx.commit"):
            self.client.send(channel, "exchange.declare", exchange="amq.direct", passive=True)
        return 1 if method == "exchange.declare" and not arguments.get("no_wait") else 0

    def hear(self, channel=None, skip=0):
        """What comes until the question on the channel is answered, and then until nothing does."""
        heard = []
        while True:
            try:
                got = self.client.recv(QUIET_S if channel is None else ANSWER_S)
            except TimeoutError:
                if channel is not None:
                    heard.append((channel, "answer", "nothing"))
                return heard
            except amqp.ClosedByPeer:
                heard.append((0, "answer", "eof"))
                self.open()
                return heard
            if got.channel == channel and got.name == "exchange.declare-ok":
                if skip == 0:
                    channel = None
                    continue
                skip -= 1
            if got.name in ("channel.close", "channel.close-ok", "tx.commit-ok"):
                channel = None if got.channel == channel else channel
                if got.name == "channel.close":
                    self.client.send(got.channel, "channel.close-ok")
                if got.name != "tx.commit-ok":
                    self.client.send(got.channel, "channel.open")
            elif got.name == "channel.open-ok":
                continue
            kind = {"basic.deliver": "delivery", "basic.ack": "confirm", "basic.nack": "confirm"}.get(got.name, "answer")
            heard.append((got.channel, kind, spell(got)))
            if got.name == "connection.close":
                self.client.send(0, "connection.close-ok")
                self.client.abort()
                self.open()
                return heard


class Conversation:
    """Two connections with one broker."""

    def __init__(self, address, vhost):
        self.log_in = lambda: amqp.Client(*address, timeout_s=ANSWER_S).login(vhost=vhost)
        self.connections = {name: Connection(self.log_in) for name in "ab"}

    def step(self, connection, channel, method, arguments, count):
        asked = self.connections[connection]
        skip = asked.ask(channel, method, arguments)
        lines = []
        for name in sorted(self.connections, key=lambda name: name != connection):
            here = name == connection and skip is not None
            heard = self.connections[name].hear(channel, skip) if here else self.connections[name].hear()
            # Answers are in order; deliveries are so by consumer, and two queues have no order between them.
            for number, kind, text in sorted(heard, key=lambda one: (one[0], one[1], consumer(one[2]))):
                lines.append(same_for_all(f"{name}{number}: {text}"))
        return lines + (self.counts() if count else [])

    def counts(self):
        client, number, lines = self.log_in(), 1, []
        client.channel(number)
        for queue in QUEUES:
            client.send(number, "queue.declare", queue=queue, passive=True)
            got = client.recv()
            lines.append(f"count: {spell(got)}")
            if got.name == "channel.close":
                client.send(number, "channel.close-ok")
                number += 1
                client.channel(number)
        client.abort()
        return lines

    def end(self):
        for connection in self.connections.values():
            connection.client.abort()
        time.sleep(0.1)
        client = self.log_in()
        client.channel(1)
        for queue in QUEUES:
            client.call(1, "queue.delete", queue=queue)
        for exchange in EXCHANGES:
            client.call(1, "exchange.delete", exchange=exchange)
        client.abort()


def consumer(text):
    found = re.match(r"basic\.deliver\(consumer_tag='([^']*)'", text)
    return found.group(1)[:8] if found else ""


def comparable(side, lines, kind):
    """Lines without what is known to differ; in one order, since tags of deliveries from two queues may be exchanged."""
    lines = [known.level(side, line) for line in lines]
    if kind == "quorum":  # 3.x counts otherwise, takes a getter for a consumer and leaves empty headers out
        lines = [re.sub(r"x-(?:delivery|acquired)-count: l:\d+(?:, )?|(?:, )?headers: \{\}|(?:, )?consumer_count=\d+", "", line) for line in lines]
        lines = [line.replace("{, ", "{").replace(", }", "}").replace("headers: {}", "") for line in lines]
    if sum("basic.deliver" in line for line in lines) > 1:
        lines = sorted(re.sub(r"delivery_tag=\d+, ", "", line) for line in lines)
    return lines


def converse(seed, given, pool):
    """Plays a seed; true when both brokers said the same."""
    sides = ("rabbit", "warren")
    conversations = list(pool.map(lambda address: Conversation(address, given.vhost), (given.rabbit, given.warren)))
    told = []
    try:
        for number, step in enumerate(steps(seed, given.steps, given.kind, given.busy)):
            count = number % 6 == 5
            heard = list(pool.map(lambda one, step=step, count=count: one.step(*step, count), conversations))
            told.append((step, heard[0]))
            if comparable(sides[0], heard[0], given.kind) == comparable(sides[1], heard[1], given.kind):
                continue
            print(f"seed {seed} differs at step {number}")
            for earlier, lines in told[-given.context : -1]:
                print("  ", *earlier)
                print("".join(f"      {line}\n" for line in lines), end="")
            print("  ", *step)
            for side, lines in zip(sides, heard):
                print("".join(f"    {side}  {line}\n" for line in lines), end="")
            return False
        return True
    finally:
        list(pool.map(Conversation.end, conversations))


def address(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


def main():
    parser = argparse.ArgumentParser(prog="sidebyside.wander", description=__doc__)
    parser.add_argument("--rabbit", type=address, required=True, metavar="HOST:PORT")
    parser.add_argument("--warren", type=address, required=True, metavar="HOST:PORT")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--steps", type=int, default=60, help="of each")
    parser.add_argument("--kind", choices=("classic", "quorum"), default="classic")
    parser.add_argument("--busy", action="store_true", help="queues stay, and most steps are about messages")
    parser.add_argument("--vhost", default="/", help="one that both have and nobody else uses meanwhile")
    parser.add_argument("--context", type=int, default=8, help="how many steps before a difference are shown")
    given = parser.parse_args()
    with ThreadPoolExecutor(2) as pool:
        failed = 0
        for seed in range(given.seed, given.seed + given.seeds):
            failed += not converse(seed, given, pool)
            sys.stdout.flush()
    print(f"{given.seeds} conversations of {given.steps} steps, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
