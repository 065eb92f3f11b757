"""Expiry, dead letters, limits, priorities, policies."""

import time

from . import each, script

KINDS = {"classic": "classic", "quorum": "quorum"}


def _count(s, peer, queue, count):
    s.wait(lambda: f"message_count={count}" in str(peer.do("queue.declare", _quiet=True, queue=queue, passive=True)), f"{count} in {queue}")


@each(**{f"{kind}_{how}": (kind, how) for kind in KINDS for how in ("rejected", "nacked", "expired", "expired_own", "maxlen", "twice", "exchange", "cc")})
def dead_letter(s, what):
    kind, how = what
    peer = s.open()
    peer.declare("dl-target")
    arguments = {"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dl-target"}
    properties = {}
    if how == "expired":
        arguments["x-message-ttl"] = 50
    if how == "expired_own":
        properties = {"expiration": "50"}
    if how == "maxlen":
        arguments["x-max-length"] = 1
    if how == "exchange":
        peer.ok("exchange.declare", exchange="dl-x", type="fanout")
        peer.ok("queue.bind", queue="dl-target", exchange="dl-x")
        arguments = {"x-queue-type": kind, "x-dead-letter-exchange": "dl-x"}
    if how == "cc":
        arguments = {"x-queue-type": kind, "x-dead-letter-exchange": "dl-x"}
        peer.ok("exchange.declare", exchange="dl-x", type="fanout")
        peer.ok("queue.bind", queue="dl-target", exchange="dl-x")
        properties = {"headers": {"CC": ["other"], "BCC": ["hidden"], "mine": 1}}
    peer.declare("dl-source", arguments=arguments)
    peer.pub("", "dl-source", b"dead", message_id="m", delivery_mode=2, **properties)
    if how == "maxlen":
        _count(s, peer, "dl-source", 1)
        peer.pub("", "dl-source", b"second")
    if how in ("rejected", "nacked", "exchange", "twice", "cc"):
        _count(s, peer, "dl-source", 1)
        peer.do("basic.get", _quiet=True, queue="dl-source")
        if how == "nacked":
            peer.cast("basic.nack", delivery_tag=1, requeue=False)
        else:
            peer.cast("basic.reject", delivery_tag=1, requeue=False)
    _count(s, peer, "dl-target", 1)
    got = peer.client
    if how == "twice":
        got.send(1, "basic.get", queue="dl-target", no_ack=True)
        first = got.recv()
        got.send_bytes(_again(got, first))
        _count(s, peer, "dl-source", 1)
        peer.do("basic.get", _quiet=True, queue="dl-source")
        peer.cast("basic.reject", delivery_tag=3, requeue=False)
        _count(s, peer, "dl-target", 1)
    peer.get("dl-target", no_ack=True)


def _again(client, message):
    """The frames that publish a message again as it came."""
    return client.publish_bytes(1, "", "dl-source", message.body, raw_properties=message.content.raw_properties)


@each(**KINDS)
def dead_letter_circle(s, kind):
    peer = s.open()
    peer.declare("ring-b", arguments={"x-queue-type": kind, "x-message-ttl": 100, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "ring-a"})
    peer.declare("ring-a", arguments={"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "ring-b"})
    peer.pub("", "ring-a", b"round")
    for number in range(3):
        _count(s, peer, "ring-a", 1)
        got = peer.get("ring-a")
        if got and "get-ok" in got:
            peer.cast("basic.reject", delivery_tag=number + 1, requeue=False)


@each(**KINDS)
def dead_letter_circle_of_expiry(s, kind):
    peer = s.open()
    peer.declare("turn", arguments={"x-queue-type": kind, "x-message-ttl": 50, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "turn"})
    peer.pub("", "turn", b"round")
    time.sleep(0.6)
    peer.do("queue.declare", queue="turn", passive=True)


@each(**KINDS)
def time_to_live(s, kind):
    peer = s.open()
    peer.declare("ttl", arguments={"x-queue-type": kind})
    for body, expiration in ((b"long", "60000"), (b"short", "50"), (b"none", None)):
        peer.pub("", "ttl", body, **({"expiration": expiration} if expiration else {}))
    time.sleep(0.5)
    peer.do("queue.declare", queue="ttl", passive=True)
    peer.drain("ttl")
    peer.pub("", "ttl", b"at once", expiration="0")
    time.sleep(0.3)
    peer.do("queue.declare", queue="ttl", passive=True)
    peer.ok("basic.consume", queue="ttl", consumer_tag="c")
    peer.pub("", "ttl", b"at once", expiration="0")
    peer.see(quiet=0.5)


@each(**{f"{kind}_{how}": (kind, how) for kind in KINDS for how in ("drop-head", "reject-publish", "reject-publish-dlx")})
def overflow(s, what):
    kind, how = what
    peer = s.open()
    peer.declare("over-dead")
    arguments = {"x-queue-type": kind, "x-max-length": 2, "x-overflow": how, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "over-dead"}
    peer.do("queue.declare", queue="over", durable=True, arguments=arguments)
    peer.ok("confirm.select")
    for number in range(4):
        peer.pub("", "over", b"%d" % number)
        peer.see(least=1, quiet=0.2)
    time.sleep(0.3)
    peer.do("queue.declare", queue="over", passive=True)
    peer.do("queue.declare", queue="over-dead", passive=True)
    if kind == "classic" or how == "drop-head":
        peer.drain("over")
        peer.drain("over-dead")


@each(**KINDS)
def max_length_bytes(s, kind):
    peer = s.open()
    peer.declare("bytes", arguments={"x-queue-type": kind, "x-max-length-bytes": 100})
    for number in range(4):
        peer.pub("", "bytes", b"%d" % number * 40)
    peer.pub("", "bytes", b"x" * 101)
    time.sleep(0.4)
    peer.do("queue.declare", queue="bytes", passive=True)


@each(**KINDS)
def max_length_0(s, kind):
    peer = s.open()
    peer.declare("none", arguments={"x-queue-type": kind, "x-max-length": 0})
    peer.pub("", "none", b"lost")
    time.sleep(0.3)
    peer.do("queue.declare", queue="none", passive=True)
    peer.ok("basic.consume", queue="none", consumer_tag="c")
    peer.pub("", "none", b"handed over")
    peer.see(quiet=0.5)


@script
def priorities(s):
    peer = s.open()
    peer.declare("prio", arguments={"x-max-priority": 5})
    for priority in (None, 0, 3, 5, 9, 255, 1):
        peer.pub("", "prio", str(priority).encode(), **({} if priority is None else {"priority": priority}))
    _count(s, peer, "prio", 7)
    for _ in range(7):
        peer.get("prio", no_ack=True)


@each(**KINDS)
def expires(s, kind):
    peer = s.open()
    peer.declare("unused", arguments={"x-queue-type": kind, "x-expires": 300})
    time.sleep(7)  # a quorum queue is looked at every five seconds; asking would use a classic one
    s.note("404" if "404" in str(_passive(s, "unused")) else "still there")


def _passive(s, queue):
    peer = s.open()
    got = peer.do("queue.declare", _quiet=True, queue=queue, passive=True)
    peer.close()
    return got


@script
def policy_limits(s):
    peer = s.open()
    s.http("PUT", "/api/policies/%2F/edge", {"pattern": "^policed", "definition": {"max-length": 2, "message-ttl": 60000, "dead-letter-exchange": "amq.fanout"}})
    peer.declare("policed")
    for number in range(4):
        peer.pub("", "policed", b"%d" % number)
    time.sleep(1)
    peer.drain("policed")
    s.http("GET", "/api/queues/%2F/policed", show=lambda got: (got.get("policy"), got.get("operator_policy"), sorted((got.get("effective_policy_definition") or {}).items())))
    s.http("DELETE", "/api/policies/%2F/edge")


@script
def policy_beside_arguments(s):
    peer = s.open()
    s.http("PUT", "/api/policies/%2F/edge", {"pattern": "^policed", "definition": {"max-length": 3, "expires": 100000}, "priority": 5, "apply-to": "queues"})
    s.http("PUT", "/api/operator-policies/%2F/edge-op", {"pattern": "^policed", "definition": {"max-length": 2}, "apply-to": "queues"})
    peer.declare("policed", arguments={"x-max-length": 5})
    for number in range(4):
        peer.pub("", "policed", b"%d" % number)
    time.sleep(1)
    peer.drain("policed")
    s.http("GET", "/api/queues/%2F/policed", show=lambda got: (got.get("policy"), got.get("operator_policy"), sorted((got.get("effective_policy_definition") or {}).items())))
    s.http("DELETE", "/api/policies/%2F/edge")
    s.http("DELETE", "/api/operator-policies/%2F/edge-op")
    s.http("DELETE", "/api/policies/%2F/edge")


@script
def requeued_over_the_limit(s):
    peer = s.open()
    peer.declare("full", arguments={"x-max-length": 2})
    for number in range(2):
        peer.pub("", "full", b"%d" % number)
    peer.get("full")
    peer.pub("", "full", b"2")
    peer.pub("", "full", b"3")
    peer.cast("basic.nack", delivery_tag=1, requeue=True)
    peer.alive()
    time.sleep(0.3)
    peer.drain("full")


def _reject_one(s, peer, queue):
    _count(s, peer, queue, 1)
    got = peer.do("basic.get", _quiet=True, queue=queue)
    tag = int(got.split("delivery_tag=")[1].split(",")[0].rstrip(")"))
    peer.cast("basic.reject", delivery_tag=tag, requeue=False)


@each(**KINDS)
def dead_letter_keeps_properties(s, kind):
    peer = s.open()
    peer.declare("dlp-t")
    peer.declare("dlp", arguments={"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dlp-t"})
    peer.pub("", "dlp", b"m", content_type="a/b", content_encoding="c", headers={"z": 1, "a": [1, {"b": None}]}, delivery_mode=1, priority=7,
             correlation_id="cid", reply_to="r", expiration="60000", message_id="mid", timestamp=99, type="ty", user_id="guest", app_id="app")  # fmt: skip
    _reject_one(s, peer, "dlp")
    _count(s, peer, "dlp-t", 1)
    peer.get("dlp-t", no_ack=True)


@each(**KINDS)
def dead_letter_to_nowhere(s, kind):
    peer = s.open()
    peer.declare("dln", arguments={"x-queue-type": kind, "x-dead-letter-exchange": "no-such-exchange"})
    peer.pub("", "dln")
    _reject_one(s, peer, "dln")
    time.sleep(0.5)
    peer.do("queue.declare", queue="dln", passive=True)
    peer.alive()


@each(**KINDS)
def dead_letter_own_key(s, kind):
    peer = s.open()
    peer.ok("exchange.declare", exchange="dlk-x", type="topic")
    peer.declare("dlk-t")
    peer.ok("queue.bind", queue="dlk-t", exchange="dlk-x", routing_key="a.*")
    peer.ok("exchange.declare", exchange="dlk-in", type="direct")
    peer.declare("dlk", arguments={"x-queue-type": kind, "x-dead-letter-exchange": "dlk-x"})
    peer.ok("queue.bind", queue="dlk", exchange="dlk-in", routing_key="a.b")
    peer.pub("dlk-in", "a.b")
    _reject_one(s, peer, "dlk")
    _count(s, peer, "dlk-t", 1)
    peer.get("dlk-t", no_ack=True)


@each(**KINDS)
def dead_letter_through_two_queues(s, kind):
    peer = s.open()
    peer.declare("dl3")
    peer.declare("dl2", arguments={"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dl3", "x-message-ttl": 30})
    peer.declare("dl1", arguments={"x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dl2"})
    peer.pub("", "dl1", expiration="20")
    _count(s, peer, "dl3", 1)
    peer.get("dl3", no_ack=True)


@each(**KINDS)
def expired_while_held(s, kind):
    peer = s.open()
    peer.declare("ewh", arguments={"x-queue-type": kind, "x-message-ttl": 200})
    peer.pub("", "ewh", b"held")
    _count(s, peer, "ewh", 1)
    peer.get("ewh")
    time.sleep(0.6)
    peer.do("queue.declare", queue="ewh", passive=True)
    peer.cast("basic.nack", delivery_tag=1, requeue=True)
    time.sleep(0.6)
    peer.do("queue.declare", queue="ewh", passive=True)


@each(**KINDS)
def the_lower_time_counts(s, kind):
    peer = s.open()
    peer.declare("low", arguments={"x-queue-type": kind, "x-message-ttl": 300})
    peer.pub("", "low", b"own is longer", expiration="60000")
    peer.pub("", "low", b"none")
    time.sleep(1)
    peer.do("queue.declare", queue="low", passive=True)


@script
def drop_head_takes_the_oldest_ready(s):
    peer = s.open()
    peer.declare("oldest", arguments={"x-max-length": 3})
    for number in range(3):
        peer.pub("", "oldest", b"%d" % number)
    _count(s, peer, "oldest", 3)
    peer.get("oldest")
    for number in range(3, 6):
        peer.pub("", "oldest", b"%d" % number)
    time.sleep(0.4)
    peer.drain("oldest")


@script
def priorities_and_requeue(s):
    peer = s.open()
    peer.declare("preq", arguments={"x-max-priority": 9})
    for body, priority in ((b"a1", 1), (b"b5", 5), (b"c5", 5), (b"d9", 9)):
        peer.pub("", "preq", body, priority=priority)
    _count(s, peer, "preq", 4)
    for _ in range(3):
        peer.do("basic.get", _quiet=True, queue="preq")
    peer.cast("basic.nack", delivery_tag=3, requeue=True)
    peer.cast("basic.nack", delivery_tag=2, requeue=True)
    peer.see(quiet=0.3)
    peer.drain("preq")


@script
def negative_and_huge_lengths(s):
    peer = s.open()
    for arguments in ({"x-max-length": 2**40}, {"x-max-length-bytes": 0}, {"x-message-ttl": 0}):
        peer.declare("extreme", arguments=arguments)
        peer.pub("", "extreme", b"m")
        time.sleep(0.3)
        peer.do("queue.declare", queue="extreme", passive=True)
        peer.ok("queue.delete", queue="extreme")


@each(**KINDS)
def confirms_of_what_expires_or_overflows(s, kind):
    peer = s.open()
    peer.declare("cof", arguments={"x-queue-type": kind, "x-max-length": 1})
    peer.ok("confirm.select")
    for number in range(3):
        peer.pub("", "cof", b"%d" % number, expiration="1000")
        peer.see(least=1, quiet=0.1)
