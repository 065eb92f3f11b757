"""What a script does with one broker, and what is written down of it.

A script talks through a `Session`, which notes every answer as a line. The same script is played against two brokers and the
lines are compared, so what differs for no reason (names made up by a broker, times, its own name) is replaced here.
"""

import base64
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request

from kit import amqp

ANSWER_S = 6.0  # how long an answer may take that must come
QUIET_S = 0.4  # how long nothing comes before we say that nothing more does

_MADE_UP = [
    (re.compile(r"amq\.gen-[A-Za-z0-9_-]{22}"), "amq.gen-*"),
    (re.compile(r"amq\.ctag-[A-Za-z0-9_-]{22}"), "amq.ctag-*"),
    (re.compile(r"amq\.rabbitmq\.reply-to\.[A-Za-z0-9_.+/=-]+"), "amq.rabbitmq.reply-to.*"),
    (re.compile(r"(?:edges|rabbit|warren)@[A-Za-z0-9.-]+"), "NODE"),
    (re.compile(r"<\d+\.\d+\.\d+>"), "<pid>"),
]


def same_for_all(text):
    """`text` without what each broker makes up."""
    for pattern, instead in _MADE_UP:
        text = pattern.sub(instead, text)
    return text


def _value(value):
    if isinstance(value, amqp.Typed):
        raw = value.value
        return f"{value.tag.decode()}:{_value(raw) if isinstance(raw, (dict, list)) else raw!r}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_value(v)}" for k, v in sorted(value.items())) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, (str, bytes)) and len(value) > 300:
        return f"{value[:20]!r}...({len(value)})"
    return repr(value)


def typed_table(raw):
    """A field table with the tag of every value, from its octets (without the length)."""
    reader, table = amqp._Reader(raw), {}
    while reader.at < len(raw):
        key = reader.shortstr()
        table[key] = _typed(reader)
    return table


def _typed(reader):
    tag = reader.data[reader.at : reader.at + 1]
    if tag == b"F":
        reader.take(1)
        return typed_table(reader.longstr())
    if tag == b"A":
        reader.take(1)
        inner, items = amqp._Reader(reader.longstr()), []
        while inner.at < len(inner.data):
            items.append(_typed(inner))
        return items
    value = reader.value()
    return amqp.Typed(tag, 0 if tag == b"T" else value)


def typed_properties(raw):
    """The properties of a content header, with the tags of the values in its headers."""
    properties = amqp.decode_properties(raw)
    if "headers" in properties:
        reader = amqp._Reader(raw)
        flags = reader.unpack(">H")
        for place in range(2):
            if flags & (1 << (15 - place)):
                reader.shortstr()
        properties["headers"] = typed_table(reader.longstr())
    return properties


def spell(method):
    """A received method as a line."""
    a = dict(method.arguments)
    if method.name in ("connection.close", "channel.close"):
        return f"{method.name} {a['reply_code']} {a['reply_text']!r} ({a['class_id']},{a['method_id']})"
    told = {k: v for k, v in a.items() if v not in ("", b"", False) and not (v == 0 and k in ("ticket",))}
    text = method.name + ("(" + ", ".join(f"{k}={_value(v)}" for k, v in told.items()) + ")" if told else "")
    if method.content is not None:
        properties = typed_properties(method.content.raw_properties)
        text += f" {_value(properties)} {method.body[:40]!r}"
        if len(method.body) > 40:
            text += f"({len(method.body)})"
    return text


class Peer:
    """One connection of a script."""

    def __init__(self, session, label, client):
        self.session, self.label, self.client = session, label, client

    def note(self, text):
        self.session.note(f"{self.label}: {text}" if self.label else text)

    # Sending without waiting.

    def cast(self, method, ch=1, **arguments):
        self.client.send(ch, method, **arguments)

    def pub(self, exchange, key, body=b"m", ch=1, **options):
        self.client.publish(ch, exchange, key, body, **options)

    def raw(self, data):
        self.client.send_bytes(data)

    def frame(self, kind, ch, payload, **options):
        self.client.send_frame(kind, ch, payload, **options)

    # Answers.

    def one(self, timeout_s=ANSWER_S):
        """The next method or what ended the connection, as a line; closes are answered."""
        try:
            got = self.client.recv(timeout_s)
        except TimeoutError:
            return None
        except amqp.ClosedByPeer as end:
            rest = re.search(r"rest (b.*)$", str(end)).group(1)
            return "eof" if rest == "b''" else f"eof after {rest}"
        except (amqp.Unexpected, AssertionError) as wrong:
            return f"unreadable: {wrong}"
        text = spell(got)
        if got.name == "channel.close":
            self.client.send(got.channel, "channel.close-ok")
        elif got.name == "connection.close":
            self.client.send(0, "connection.close-ok")
        return text if got.channel in (0, 1) else f"[{got.channel}] {text}"

    def do(self, method, ch=1, _quiet=False, **arguments):
        """Sends a method and notes the next thing that comes."""
        self.client.send(ch, method, **arguments)
        got = self.one()
        if not _quiet:
            told = ", ".join(f"{k}={_value(v)}" for k, v in arguments.items())
            self.note(f"{method}({told}) -> {got or 'nothing'}")
        return got

    def ok(self, method, ch=1, **arguments):
        """Sends a method whose answer matters only if it is not the usual one."""
        got = self.do(method, ch, _quiet=True, **arguments)
        if got is None or not got.split("(")[0].split()[-1].endswith("-ok"):
            self.note(f"{method} -> {got or 'nothing'}")
        return got

    def see(self, what="", least=0, quiet=QUIET_S):
        """Notes all that comes until nothing does; waits longer for the first `least`."""
        count = 0
        while True:
            got = self.one(ANSWER_S if count < least else quiet)
            if got is None:
                break
            self.note(f"{what} -> {got}" if what else f"-> {got}")
            count += 1
            if got.startswith(("eof", "unreadable")):
                break
        if count == 0:
            self.note(f"{what} -> nothing" if what else "-> nothing")
        return count

    def alive(self, ch=1):
        """Notes whether the channel answers, and all that came before."""
        self.client.send(ch, "basic.qos")
        while True:
            got = self.one()
            if got is not None and got.split("] ")[-1] == "basic.qos-ok":
                return self.note("alive")
            self.note(f"instead of alive -> {got or 'nothing'}")
            if got is None or got.startswith(("eof", "unreadable", "channel.close", "connection.close")):
                return None

    def reopen(self, ch=1):
        """Opens a channel again after the broker closed it."""
        self.ok("channel.open", ch)

    def channel(self, ch=1):
        self.ok("channel.open", ch)
        return self

    def declare(self, queue, ch=1, **options):
        options.setdefault("durable", True)
        return self.ok("queue.declare", ch, queue=queue, **options)

    def get(self, queue, ch=1, no_ack=False):
        return self.do("basic.get", ch, queue=queue, no_ack=no_ack)

    def drain(self, queue, ch=1):
        """Bodies of all that is ready, in order, as one line."""
        bodies = []
        while True:
            self.client.send(ch, "basic.get", queue=queue, no_ack=True)
            try:
                got = self.client.recv(ANSWER_S)
            except (TimeoutError, amqp.ClosedByPeer):
                bodies.append("?")
                break
            if got.name != "basic.get-ok":
                if got.name != "basic.get-empty":
                    bodies.append(spell(got))
                break
            bodies.append(got.body.decode("latin-1") + ("*" if got.redelivered else ""))
        self.note(f"{queue} holds {' '.join(bodies) or 'nothing'}")

    def close(self):
        self.client.abort()


class Session:
    """One broker, as one script sees it."""

    def __init__(self, target, name):
        self.target, self.name = target, name
        self.lines, self.peers, self.declared = [], [], []

    def note(self, text):
        self.lines.append(same_for_all(text))

    def socket(self, label=""):
        """A connection on which nothing has been said."""
        peer = Peer(self, label, amqp.Client(*self.target.amqp, timeout_s=ANSWER_S))
        send = peer.client.send

        def remembering(ch, method, **arguments):
            for kind in ("queue", "exchange"):
                if method == f"{kind}.declare" and arguments.get(kind):
                    self.declared.append((kind, arguments[kind]))
            send(ch, method, **arguments)

        peer.client.send = remembering
        self.peers.append(peer)
        return peer

    def connect(self, label="", **options):
        """A connection that is logged in."""
        peer = self.socket(label)
        peer.client.login(**options)
        return peer

    def open(self, label="", **options):
        """A connection with channel 1 open."""
        return self.connect(label, **options).channel()

    def http(self, method, path, body=None, show=None, user="guest:guest", note=True):
        """Asks the HTTP API; notes the status and what `show` makes of the answer."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.target.http}{path}", data=data, method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(user.encode()).decode())
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, raw = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, raw = error.code, error.read()
        try:
            got = json.loads(raw) if raw else None
        except ValueError:
            got = raw.decode("utf-8", "replace")
        if note:
            told = f" {show(got)}" if show and got is not None else ""
            self.note(f"{method} {path}{'' if data is None else ' ' + data.decode('utf-8', 'replace')} -> {status}{told}")
        return status, got

    def wait(self, probe, what, limit_s=15.0):
        """Waits until `probe()` is true."""
        end = time.monotonic() + limit_s
        while not probe():
            if time.monotonic() > end:
                return self.note(f"never: {what}")
            time.sleep(0.1)
        return None

    def finish(self):
        """Ends the connections and deletes what was declared."""
        for peer in self.peers:
            peer.close()
        if not self.declared:
            return
        client = amqp.Client(*self.target.amqp, timeout_s=ANSWER_S).login()
        number = 1
        client.channel(number)
        for kind, name in dict.fromkeys(self.declared):
            client.send(number, f"{kind}.delete", **{kind: name})
            if client.recv().name == "channel.close":
                client.send(number, "channel.close-ok")
                number += 1
                client.channel(number)
        client.abort()
