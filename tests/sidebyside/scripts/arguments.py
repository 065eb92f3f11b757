"""Every argument with every kind of value, for every type of queue."""

from kit.amqp import Typed

from . import each, script

KEYS = (
    "x-queue-type", "x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes", "x-overflow", "x-dead-letter-exchange",
    "x-dead-letter-routing-key", "x-dead-letter-strategy", "x-max-priority", "x-single-active-consumer", "x-delivery-limit",
    "x-quorum-initial-group-size", "x-initial-cluster-size", "x-queue-leader-locator", "x-queue-master-locator", "x-queue-version",
    "x-queue-mode", "x-max-in-memory-length", "x-max-in-memory-bytes", "x-consumer-timeout", "x-max-age",
    "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes", "x-consumer-disconnected-timeout", "x-delayed-retry-type",
    "x-delayed-retry-min", "x-delayed-retry-max", "x-unknown", "unknown", "x-cancel-on-ha-failover", "x-ha-policy",
)  # fmt: skip

VALUES = (
    5, 0, -1, 1, 2, 255, 256, 100000, 315360000000, 315360000001, 2**62, Typed(b"b", 5), Typed(b"s", 5), Typed(b"B", 5), Typed(b"l", 5),
    5.5, "", "text", "5", True, False, None, {}, {"a": 1}, [], [5], Typed(b"T", 5), Typed(b"x", b"bytes"), Typed(b"D", (1, 5)),
    "classic", "quorum", "stream", "drop-head", "reject-publish", "reject-publish-dlx", "at-most-once", "at-least-once", "client-local",
    "balanced", "min-masters", "default", "lazy", "1h", "1Y", "5x", "h", "-1h", "disabled", "all",
)  # fmt: skip


def _try(s, peer, queue, arguments, **options):
    got = peer.do("queue.declare", queue=queue, durable=True, arguments=arguments, **options)
    if got is None or got.startswith(("connection", "eof")):
        return s.open()
    if got.startswith("channel.close"):
        peer.reopen()
    else:
        peer.ok("queue.delete", queue=queue)
    return peer


_WITH_TYPE = {f"{kind}.{key}": (kind, key) for kind in ("classic", "quorum", "stream") for key in KEYS if key != "x-queue-type"}


@each(**_WITH_TYPE, **{"none.x-queue-type": ("none", "x-queue-type")})
def queue(s, what):
    kind, key = what
    peer = s.open()
    typed = {} if kind == "none" else {"x-queue-type": kind}
    words = [v for v in VALUES if not isinstance(v, str) or _fits(key, v)]
    foreign = _refused_as_foreign(s, peer, typed, key)
    for value in words[:3] if foreign else words:
        peer = _try(s, peer, "argued", {**typed, key: value})
        if key == "x-dead-letter-routing-key":
            peer = _try(s, peer, "argued", {**typed, key: value, "x-dead-letter-exchange": "dlx"})


def _fits(key, word):
    """Leaves out most strings where any string is as wrong as another."""
    if word in ("", "text", "5"):
        return True
    return any(part in key for part in ("type", "overflow", "strategy", "locator", "mode", "age"))


def _refused_as_foreign(s, peer, typed, key):
    got = peer.do("queue.declare", _quiet=True, queue="argued-probe", durable=True, arguments={**typed, key: 5})
    if got and got.startswith("channel.close"):
        peer.reopen()
        return "of queue type" in got
    peer.ok("queue.delete", queue="argued-probe")
    return False


@each(classic="classic", quorum="quorum", stream="stream", nonsense="nonsense", empty="", undefined="undefined")
def queue_type_with_flags(s, kind):
    peer = s.open()
    for options in ({}, {"durable": True}, {"exclusive": True}, {"auto_delete": True}, {"durable": True, "exclusive": True},
                    {"durable": True, "auto_delete": True}, {"durable": True, "exclusive": True, "auto_delete": True}):  # fmt: skip
        got = peer.do("queue.declare", queue="typed-q", arguments={"x-queue-type": kind}, **options)
        if got and got.startswith("channel.close"):
            peer.reopen()
        else:
            peer.ok("queue.delete", queue="typed-q")


@script
def which_error_comes_first(s):
    peer = s.open()
    for arguments in (
        {"x-message-ttl": -1, "x-expires": -1}, {"x-expires": 0, "x-max-length": -1}, {"x-queue-type": "nonsense", "x-max-length": -1},
        {"x-queue-type": "quorum", "x-max-priority": -1}, {"x-queue-type": "quorum", "x-max-priority": 5, "x-message-ttl": -1},
        {"x-dead-letter-exchange": 5, "x-message-ttl": -1}, {"x-queue-type": "stream", "x-message-ttl": -1, "x-expires": 5},
        {"x-max-priority": 300, "x-overflow": "junk"}, {"x-overflow": "junk", "x-single-active-consumer": 5},
    ):  # fmt: skip
        peer = _try(s, peer, "first-error", arguments)
    for options in ({"exclusive": True}, {"auto_delete": True}):
        peer = _try(s, peer, "first-error", {"x-queue-type": "quorum", "x-max-length": -1}, **options)
        peer = _try(s, peer, "first-error", {"x-queue-type": "quorum", "x-max-priority": 4}, **options)


@each(classic="classic", quorum="quorum", stream="stream")
def consume(s, kind):
    peer = s.open()
    peer.declare("consumed", arguments={"x-queue-type": kind})
    values = (5, 0, -5, "text", True, None, 2**40, 5.5, {"a": 1}, "first", "last", "next", "1h", "5x", Typed(b"T", 1), ["a", "b"], [1], "")
    for key in ("x-priority", "x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered", "x-consumer-timeout", "x-cancel-on-ha-failover",
                "x-credit", "x-unknown", "unknown", "x-single-active-consumer"):  # fmt: skip
        for value in values:
            peer.client.send(1, "basic.qos", prefetch_count=5)
            peer.one()
            got = peer.do("basic.consume", queue="consumed", consumer_tag="c", arguments={key: value})
            if got is None or got.startswith(("connection", "eof")):
                peer = s.open()
            elif got.startswith("channel.close"):
                peer.reopen()
            else:
                peer.ok("basic.cancel", consumer_tag="c")


@each(classic="classic", quorum="quorum", stream="stream")
def redeclare(s, kind):
    peer = s.open()
    typed = {"x-queue-type": kind}
    peer.declare("again", arguments=typed)
    for arguments in ({}, typed, {"x-queue-type": "classic"}, {"x-queue-type": "quorum"}, {"x-queue-type": "stream"}, {"x-queue-type": ""},
                      {**typed, "x-max-length-bytes": 5}, {**typed, "x-message-ttl": 5}, {**typed, "x-unknown": 1}, {**typed, "x-delivery-limit": 2},
                      {**typed, "x-max-priority": 2}, {**typed, "x-max-age": "1h"}, {**typed, "x-queue-leader-locator": "balanced"},
                      {**typed, "x-queue-mode": "lazy"}, {**typed, "x-max-length": -1}):  # fmt: skip
        got = peer.do("queue.declare", queue="again", durable=True, arguments=arguments)
        if got is None or got.startswith(("connection", "eof")):
            peer = s.open()
        elif got.startswith("channel.close"):
            peer.reopen()
    peer.do("queue.declare", queue="again", arguments=typed)
