"""Acknowledging, rejecting, requeueing: tags, order, flags, counts."""

from . import each, script

KINDS = {"classic": "classic", "quorum": "quorum"}


def _filled(s, kind, count, queue="settled", **arguments):
    peer = s.open()
    peer.declare(queue, arguments={"x-queue-type": kind, **arguments})
    peer.ok("confirm.select")
    for number in range(count):
        peer.pub("", queue, b"%d" % number)
    seen = 0
    while seen < count:
        got = peer.client.expect("basic.ack")
        seen = got.delivery_tag if got.multiple else seen + 1
    peer.ok("channel.close", reply_code=200)
    return peer.channel()


_CASES = {
    "unknown": [("ack", 1)], "ack_0": [("ack", 0)], "ack_0_multiple": [("ack", 0, True)], "nack_0_multiple": [("nack", 0, True)],
    "nack_0": [("nack", 0)], "reject_0": [("reject", 0)], "nack_unknown": [("nack", 9)], "reject_unknown": [("reject", 9)],
    "multiple_unknown": [("ack", 9, True)], "huge": [("ack", 2**64 - 1)], "huge_multiple": [("ack", 2**64 - 1, True)],
}  # fmt: skip


def _settle(peer, what, tag, multiple=False, requeue=True):
    if what == "ack":
        peer.cast("basic.ack", delivery_tag=tag, multiple=multiple)
    elif what == "nack":
        peer.cast("basic.nack", delivery_tag=tag, multiple=multiple, requeue=requeue)
    else:
        peer.cast("basic.reject", delivery_tag=tag, requeue=requeue)


@each(**_CASES)
def nothing_delivered(s, steps):
    peer = s.open()
    for step in steps:
        _settle(peer, *step)
    peer.alive()


@each(**_CASES, twice=[("ack", 1), ("ack", 1)], twice_multiple=[("ack", 2, True), ("ack", 2, True)], lower_again=[("ack", 2, True), ("ack", 1)],
      nack_after_ack=[("ack", 1), ("nack", 1)], multiple_of_acked=[("ack", 2), ("ack", 2, True)], all_then_all=[("ack", 0, True), ("ack", 0, True)],
      reject_twice=[("reject", 3), ("reject", 3)], above=[("ack", 3, True), ("ack", 4, True)])  # fmt: skip
def three_delivered(s, steps):
    peer = _filled(s, "classic", 3)
    for _ in range(3):
        peer.get("settled")
    for step in steps:
        _settle(peer, *step)
    peer.alive()
    peer.close()
    other = s.open("left")
    s.wait(lambda: "message_count" in str(other.do("queue.declare", _quiet=True, queue="settled", passive=True)) or True, "")
    other.see(quiet=0.3)
    other.drain("settled")


@each(**{f"{kind}_{name}": (kind, steps) for kind in KINDS for name, steps in {
    "nack_middle": [("nack", 2)], "nack_all_at_once": [("nack", 4, True)], "one_by_one": [("nack", 1), ("nack", 2), ("nack", 3), ("nack", 4)],
    "backwards": [("nack", 4), ("nack", 3), ("nack", 2), ("nack", 1)], "reject_3_1": [("reject", 3), ("reject", 1)],
    "ack_some": [("ack", 1), ("nack", 3), ("reject", 2)], "all_0": [("nack", 0, True)],
}.items()})  # fmt: skip
def requeue_order(s, what):
    kind, steps = what
    peer = _filled(s, kind, 6)
    for _ in range(4):
        peer.do("basic.get", _quiet=True, queue="settled")
    for step in steps:
        _settle(peer, *step)
    peer.see(quiet=0.5)
    peer.drain("settled")


@each(**KINDS)
def order_after_close(s, kind):
    peer = _filled(s, kind, 5)
    for _ in range(3):
        peer.do("basic.get", _quiet=True, queue="settled")
    peer.do("channel.close", reply_code=200)
    other = s.open("other")
    s.wait(lambda: "message_count=5" in str(other.do("queue.declare", _quiet=True, queue="settled", passive=True)), "all are back")
    other.drain("settled")


@each(**KINDS)
def redelivered_to_consumer(s, kind):
    peer = _filled(s, kind, 3)
    peer.ok("basic.qos", prefetch_count=3)
    peer.ok("basic.consume", queue="settled", consumer_tag="c")
    peer.see(least=3)
    for step in (("reject", 1), ("nack", 2), ("nack", 3, False, True)):
        _settle(peer, *step)
        peer.see(least=1)
    for tag in (4, 5, 6):
        _settle(peer, "reject", tag)
        peer.see(least=1)


@each(**KINDS)
def headers_of_a_redelivery(s, kind):
    peer = _filled(s, kind, 1)
    for how in ("nack", "reject", "nack", "reject"):
        got = peer.get("settled")
        if not got or "get-ok" not in got:
            break
        tag = int(got.split("delivery_tag=")[1].split(",")[0])
        _settle(peer, how, tag)
        peer.see(quiet=0.4)
    peer.get("settled")


@each(**KINDS)
def delivery_limit(s, kind):
    peer = s.open()
    arguments = {"x-queue-type": kind, "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "limit-dead"}
    peer.declare("limit-dead")
    got = peer.do("queue.declare", queue="limited", durable=True, arguments=arguments)
    if got and got.startswith("channel.close"):
        return
    peer.pub("", "limited")
    for _ in range(4):
        s.wait(lambda: "message_count=1" in str(peer.do("queue.declare", _quiet=True, queue="limited", passive=True)), "it is back", 2)
        got = peer.get("limited")
        if not got or "get-ok" not in got:
            break
        _settle(peer, "reject", int(got.split("delivery_tag=")[1].split(",")[0]))
        peer.see(quiet=0.4)
    s.wait(lambda: "message_count=1" in str(peer.do("queue.declare", _quiet=True, queue="limit-dead", passive=True)), "it is dead")
    peer.get("limit-dead", no_ack=True)


@script
def ack_on_another_channel(s):
    peer = _filled(s, "classic", 1)
    peer.get("settled")
    peer.channel(2)
    peer.cast("basic.ack", ch=2, delivery_tag=1)
    peer.see(least=1)


@script
def ack_after_the_queue_is_gone(s):
    peer = _filled(s, "classic", 2)
    peer.get("settled")
    peer.ok("queue.delete", queue="settled")
    peer.cast("basic.ack", delivery_tag=1)
    peer.alive()
    peer.cast("basic.nack", delivery_tag=1)
    peer.alive()


@script
def requeued_while_consumed_elsewhere(s):
    peer = _filled(s, "classic", 4)
    other = s.open("other")
    peer.ok("basic.qos", prefetch_count=2)
    peer.ok("basic.consume", queue="settled", consumer_tag="a")
    peer.see(least=2)
    other.ok("basic.qos", prefetch_count=1)
    other.ok("basic.consume", queue="settled", consumer_tag="b")
    other.see(least=1)
    peer.do("basic.cancel", consumer_tag="a")
    peer.cast("basic.nack", delivery_tag=2, multiple=True, requeue=True)
    peer.alive()
    for tag in (1, 2, 3, 4):
        other.cast("basic.ack", delivery_tag=tag)
        other.see(quiet=0.4)
