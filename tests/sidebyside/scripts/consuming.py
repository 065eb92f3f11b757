"""Consumers, get, prefetch."""

from . import each, script

KINDS = {"classic": "classic", "quorum": "quorum"}


@script
def tags(s):
    peer = s.open()
    peer.declare("tags")
    peer.do("basic.consume", queue="tags", consumer_tag="t")
    peer.do("basic.consume", queue="tags", consumer_tag="")
    peer.do("basic.consume", queue="tags", consumer_tag="x" * 255)
    peer.do("basic.cancel", consumer_tag="unknown")
    peer.do("basic.cancel", consumer_tag="")
    peer.do("basic.cancel", consumer_tag="t")
    peer.do("basic.cancel", consumer_tag="t")
    peer.do("basic.consume", queue="tags", consumer_tag="t")
    peer.channel(2)
    peer.do("basic.consume", ch=2, queue="tags", consumer_tag="t")
    peer.do("basic.consume", queue="tags", consumer_tag="t")
    peer.see()


@script
def reused_tag_missing_queue(s):
    peer = s.open()
    peer.declare("tagged")
    peer.ok("basic.consume", queue="tagged", consumer_tag="t")
    peer.do("basic.consume", queue="missing", consumer_tag="t")
    peer.see()


@script
def missing(s):
    peer = s.open()
    for method in ("basic.consume", "basic.get"):
        peer.do(method, queue="missing")
        peer.reopen()


@each(classic="classic", quorum="quorum", stream="stream")
def exclusive(s, kind):
    peer, other = s.open("one"), s.open("two")
    peer.declare("excl", arguments={"x-queue-type": kind})
    for one in (peer, other):
        one.ok("basic.qos", prefetch_count=5)
    peer.do("basic.consume", queue="excl", consumer_tag="e", exclusive=True)
    other.do("basic.consume", queue="excl", consumer_tag="n")
    other.cast("channel.open")
    other.one()
    other = s.open("two")
    other.ok("basic.qos", prefetch_count=5)
    other.do("basic.consume", queue="excl", consumer_tag="e2", exclusive=True)
    peer.do("basic.consume", queue="excl", consumer_tag="f", exclusive=True)
    peer = s.open("one")
    peer.ok("basic.qos", prefetch_count=5)
    peer.do("basic.consume", queue="excl", consumer_tag="n")
    other = s.open("two")
    other.ok("basic.qos", prefetch_count=5)
    other.do("basic.consume", queue="excl", consumer_tag="e", exclusive=True)


@each(**KINDS)
def single_active(s, kind):
    peer, other = s.open("one"), s.open("two")
    peer.declare("sac", arguments={"x-queue-type": kind, "x-single-active-consumer": True})
    peer.do("basic.consume", queue="sac", consumer_tag="e", exclusive=True)
    peer.cast("channel.open")
    peer.one()
    peer = s.open("one")
    peer.do("basic.get", queue="sac")
    peer = s.open("one")
    peer.do("basic.consume", queue="sac", consumer_tag="a")
    other.do("basic.consume", queue="sac", consumer_tag="b")
    for body in (b"1", b"2"):
        other.pub("", "sac", body)
    peer.see(least=2)
    other.see(quiet=0.3)
    peer.do("basic.cancel", consumer_tag="a")
    other.pub("", "sac", b"3")
    other.see(least=1)
    peer.do("channel.close", reply_code=200)
    other.see(least=2)


@script
def qos(s):
    for options in ({}, {"prefetch_size": 1}, {"prefetch_count": 65535}, {"global": True}, {"prefetch_size": 1, "global": True},
                    {"prefetch_count": 5, "global": True}):  # fmt: skip
        peer = s.open()
        peer.client.send(1, "basic.qos", **{k: v for k, v in options.items()})
        peer.see(str(options), least=1, quiet=0.1)


@each(classic="classic", quorum="quorum", stream="stream")
def global_qos(s, kind):
    peer = s.open()
    peer.declare("gq", arguments={"x-queue-type": kind})
    peer.ok("basic.qos", prefetch_count=1, **{"global": True})
    peer.do("basic.consume", queue="gq", consumer_tag="a")
    peer.see(quiet=0.2)


@each(**KINDS)
def prefetch(s, kind):
    peer = s.open()
    peer.declare("pf", arguments={"x-queue-type": kind})
    for number in range(6):
        peer.pub("", "pf", b"%d" % number)
    peer.ok("basic.qos", prefetch_count=2)
    peer.do("basic.consume", queue="pf", consumer_tag="a")
    peer.see(least=2)
    peer.cast("basic.ack", delivery_tag=1)
    peer.see(least=1)
    peer.cast("basic.ack", delivery_tag=3, multiple=True)
    peer.see(least=2)
    peer.cast("basic.nack", delivery_tag=0, multiple=True, requeue=False)
    peer.see(least=1)


@each(**KINDS)
def no_ack(s, kind):
    peer = s.open()
    peer.declare("na", arguments={"x-queue-type": kind})
    for number in range(3):
        peer.pub("", "na", b"%d" % number)
    peer.ok("basic.qos", prefetch_count=1)
    peer.do("basic.consume", queue="na", consumer_tag="a", no_ack=True)
    peer.see(least=3)
    peer.cast("basic.ack", delivery_tag=1)
    peer.see(least=1)


@each(classic="classic", quorum="quorum", stream="stream")
def get(s, kind):
    peer = s.open()
    peer.declare("gets", arguments={"x-queue-type": kind})
    peer.do("basic.get", queue="gets")
    if kind == "stream":
        return peer.see()
    for number in range(3):
        peer.pub("", "gets", b"%d" % number)
    s.wait(lambda: "message_count=3" in str(peer.do("queue.declare", _quiet=True, queue="gets", passive=True)), "three messages")
    peer.get("gets")
    peer.get("gets", no_ack=True)
    peer.ok("basic.qos", prefetch_count=1)
    peer.get("gets")
    peer.get("gets")
    peer.cast("basic.ack", delivery_tag=2)
    return peer.see(least=1)


@script
def stream_checks(s):
    for qos, options in ((0, {}), (5, {"no_ack": True}), (5, {"exclusive": True}), (5, {"arguments": {"x-stream-offset": "first"}}),
                         (5, {"arguments": {"x-stream-offset": "junk"}}), (5, {"arguments": {"x-stream-offset": True}}),
                         (5, {"arguments": {"x-stream-offset": -1}}), (5, {"arguments": {"x-priority": 1}})):  # fmt: skip
        peer = s.open()
        peer.declare("str", arguments={"x-queue-type": "stream"})
        peer.ok("basic.qos", prefetch_count=qos)
        peer.do("basic.consume", queue="str", consumer_tag="c", **options)
        peer.see(quiet=0.2)
    for method, options in (("queue.purge", {}), ("queue.delete", {"if_unused": True}), ("queue.declare", {"passive": True}), ("queue.delete", {"if_empty": True})):
        peer = s.open()
        peer.declare("str", arguments={"x-queue-type": "stream"})
        peer.do(method, queue="str", **options)
        peer.see(quiet=0.2)


@script
def stream_reading(s):
    peer = s.open()
    peer.declare("reading", arguments={"x-queue-type": "stream"})
    peer.ok("confirm.select")
    for number in range(3):
        peer.pub("", "reading", b"%d" % number, headers={"h": number} if number else {})
        peer.see(least=1, quiet=0.1)
    peer.ok("basic.qos", prefetch_count=10)
    peer.do("basic.consume", queue="reading", consumer_tag="c", arguments={"x-stream-offset": 1})
    peer.see(least=2)
    peer.cast("basic.nack", delivery_tag=1, requeue=True)
    peer.cast("basic.reject", delivery_tag=2, requeue=False)
    peer.alive()
    peer.do("queue.declare", queue="reading", passive=True)


@script
def priorities(s):
    peer = s.open()
    peer.declare("cp")
    peer.ok("basic.qos", prefetch_count=1)
    peer.do("basic.consume", queue="cp", consumer_tag="low", arguments={"x-priority": -1})
    peer.do("basic.consume", queue="cp", consumer_tag="high", arguments={"x-priority": 10})
    for number in range(3):
        peer.pub("", "cp", b"%d" % number)
    peer.see(least=2)


@script
def cancelled_keeps_its_deliveries(s):
    peer = s.open()
    peer.declare("ck")
    peer.pub("", "ck")
    peer.ok("basic.consume", queue="ck", consumer_tag="c")
    peer.see(least=1)
    peer.do("basic.cancel", consumer_tag="c")
    peer.do("queue.declare", queue="ck", passive=True)
    peer.cast("basic.reject", delivery_tag=1, requeue=True)
    peer.alive()
    peer.get("ck")


@script
def no_local(s):
    peer = s.open()
    peer.declare("nl")
    peer.do("basic.consume", queue="nl", consumer_tag="c", no_local=True)
    peer.pub("", "nl")
    peer.see(least=1)


@script
def recover(s):
    for requeue in (True, False):
        for method in ("basic.recover", "basic.recover-async"):
            peer = s.open(f"{method} {requeue}")
            peer.declare("rec")
            peer.pub("", "rec", b"r")
            peer.ok("basic.consume", queue="rec", consumer_tag="c")
            peer.see(least=1)
            peer.cast(method, requeue=requeue)
            peer.see(least=1)
            peer.close()
            last = s.open("clean")
            s.wait(lambda last=last: "message_count=1" in str(last.do("queue.declare", _quiet=True, queue="rec", passive=True)), "it is back")
            last.do("queue.purge", queue="rec")


@script
def queue_without_consumers_counts(s):
    peer = s.open()
    peer.declare("counted")
    peer.do("basic.consume", queue="counted", consumer_tag="a")
    peer.do("queue.declare", queue="counted", durable=True)
    peer.channel(2)
    peer.do("basic.consume", ch=2, queue="counted", consumer_tag="b")
    peer.do("queue.declare", queue="counted", durable=True)
    peer.do("channel.close", ch=2, reply_code=200)
    peer.do("queue.declare", queue="counted", durable=True)


@each(**KINDS)
def prefetch_changed_later(s, kind):
    peer = s.open()
    peer.declare("later", arguments={"x-queue-type": kind})
    for number in range(6):
        peer.pub("", "later", b"%d" % number)
    peer.ok("basic.qos", prefetch_count=1)
    peer.ok("basic.consume", queue="later", consumer_tag="one")
    peer.see(least=1)
    peer.ok("basic.qos", prefetch_count=3)
    peer.see("after qos")
    peer.ok("basic.consume", queue="later", consumer_tag="two")
    peer.see(least=3)
    peer.cast("basic.ack", delivery_tag=1)
    peer.see(least=1)


@script
def prefetch_over_two_queues(s):
    peer = s.open()
    for queue in ("pfa", "pfb"):
        peer.declare(queue)
        for number in range(3):
            peer.pub("", queue, b"%d" % number)
    peer.ok("basic.qos", prefetch_count=1)
    peer.ok("basic.consume", queue="pfa", consumer_tag="a")
    peer.see(least=1)
    peer.ok("basic.consume", queue="pfb", consumer_tag="b")
    peer.see(least=1)
    peer.cast("basic.ack", delivery_tag=2, multiple=True)
    peer.see(least=2)


@script
def round_robin(s):
    peer = s.open()
    peer.declare("rr")
    for tag in ("a", "b", "c"):
        peer.ok("basic.consume", queue="rr", consumer_tag=tag, no_ack=True)
    for number in range(6):
        peer.pub("", "rr", b"%d" % number)
        peer.see(least=1, quiet=0.1)


@each(**KINDS)
def get_beside_a_consumer(s, kind):
    peer, other = s.open("consumer"), s.open("getter")
    peer.declare("beside", arguments={"x-queue-type": kind})
    peer.ok("basic.qos", prefetch_count=1)
    peer.ok("basic.consume", queue="beside", consumer_tag="c")
    for number in range(3):
        other.pub("", "beside", b"%d" % number)
    peer.see(least=1)
    other.get("beside")
    other.do("queue.purge", queue="beside")
    peer.cast("basic.ack", delivery_tag=1)
    peer.see()
    other.cast("basic.nack", delivery_tag=1, requeue=True)
    peer.see(least=1)


@each(**KINDS)
def consumer_gone_with_deliveries(s, kind):
    for how in ("channel", "connection", "socket", "cancel"):
        peer, other = s.open(how), s.open("other")
        peer.declare("gone-with", arguments={"x-queue-type": kind})
        other.pub("", "gone-with", b"m")
        peer.ok("basic.consume", queue="gone-with", consumer_tag="c")
        peer.see(least=1)
        if how == "channel":
            peer.do("channel.close", reply_code=200)
        elif how == "connection":
            peer.do("connection.close", 0, reply_code=200)
        elif how == "cancel":
            peer.do("basic.cancel", consumer_tag="c")
            other.do("queue.declare", queue="gone-with", passive=True)
            continue
        else:
            peer.close()
        s.wait(lambda other=other: "message_count=1" in str(other.do("queue.declare", _quiet=True, queue="gone-with", passive=True)), "it is back")
        other.get("gone-with", no_ack=True)


@script
def deliveries_of_large_bodies(s):
    peer = s.connect(frame_max=8192)
    peer.channel()
    peer.declare("large")
    peer.ok("basic.consume", queue="large", consumer_tag="c", no_ack=True)
    peer.pub("", "large", b"z" * 50_000, headers={"h": "v" * 3000})
    got = peer.client.recv()
    s.note(f"{got.name} {len(got.body)} {got.content.body_frame_sizes}")


@script
def negotiated_channels_and_consumers(s):
    peer = s.connect(channel_max=2)
    peer.channel(1)
    peer.channel(2)
    peer.do("channel.close", 1, reply_code=200)
    peer.do("channel.open", 1)
    peer.do("channel.open", 2)
    peer.see()
