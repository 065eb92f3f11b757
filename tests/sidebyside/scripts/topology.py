"""Queues, exchanges and bindings: declaring, deleting, refusing, and who may."""

from kit import amqp

from . import each, script

LONG = "n" * 255


@script
def queue_flags(s):
    peer = s.open()
    for options in ({}, {"durable": True}, {"exclusive": True}, {"auto_delete": True}, {"durable": True, "exclusive": True},
                    {"durable": True, "auto_delete": True}, {"exclusive": True, "auto_delete": True}):  # fmt: skip
        peer.do("queue.declare", queue="flags", **options)
        for other in ({}, {"durable": True}, {"exclusive": True}, {"auto_delete": True}, {"durable": True, "exclusive": True}):
            if other != options and "closed" not in str(peer.do("queue.declare", queue="flags", **other)):
                peer.cast("channel.open")
                got = peer.one()
                if got and got.startswith("connection"):
                    peer = s.open()
        peer.do("queue.delete", queue="flags")


@script
def queue_names(s):
    peer = s.open()
    for name in ("", "amq.", "amq.mine", "amqp", "AMQ.x", "a b", "ä", "a\nb", "a\r\nb", LONG, "\x00", "%2f", "amq.gen-mine",
                 "amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.junk"):  # fmt: skip
        got = peer.do("queue.declare", queue=name, exclusive=True)
        if got and got.startswith("channel.close"):
            peer.reopen()
        got = peer.do("queue.declare", queue=name, passive=True)
        if got and got.startswith("channel.close"):
            peer.reopen()


@script
def exchange_names(s):
    peer = s.open()
    for name in ("", "amq.", "amq.mine", "amq.direct", "amqp", "a b", "a\nb", LONG, "ä", "amq.default"):
        for options in ({}, {"passive": True}, {"durable": True}, {"type": "fanout", "durable": True}):
            got = peer.do("exchange.declare", exchange=name, **{"type": "direct", **options})
            if got and got.startswith("channel.close"):
                peer.reopen()
        got = peer.do("exchange.delete", exchange=name)
        if got and got.startswith("channel.close"):
            peer.reopen()


@each(**{f"type_{i}": t for i, t in enumerate(
    ("direct", "fanout", "topic", "headers", "", "foo", "Direct", "x-foo", "x-consistent-hash", "x-random", "x-modulus-hash", "x-recent-history",
     "x-delayed-message", "x-local-random", "system", "binary", "ä", "t" * 255)
)})  # fmt: skip
def exchange_type(s, kind):
    peer = s.open()
    peer.do("exchange.declare", exchange="typed", type=kind)
    peer.see(quiet=0.1)
    other = s.open("passive")
    other.do("exchange.declare", exchange="typed", type=kind, passive=True)


@script
def exchange_equivalence(s):
    peer = s.open()
    variants = (
        {"type": "direct"}, {"type": "fanout"}, {"type": "direct", "durable": True}, {"type": "direct", "auto_delete": True},
        {"type": "direct", "internal": True}, {"type": "direct", "arguments": {"alternate-exchange": "ae"}},
        {"type": "direct", "arguments": {"x-unknown": 1}}, {"type": "fanout", "durable": True, "auto_delete": True, "internal": True},
    )  # fmt: skip
    for first in variants:
        peer.do("exchange.declare", exchange="equal", **first)
        for second in variants:
            got = peer.do("exchange.declare", exchange="equal", **second)
            if got and got.startswith("channel.close"):
                peer.reopen()
        peer.do("exchange.declare", exchange="equal", type="nonsense", passive=True)
        peer.ok("exchange.delete", exchange="equal")


@script
def passive_missing(s):
    peer = s.open()
    peer.do("queue.declare", queue="missing", passive=True)
    peer.reopen()
    peer.do("exchange.declare", exchange="missing", type="direct", passive=True)
    peer.reopen()
    peer.do("exchange.declare", exchange="missing", type="", passive=True)
    peer.reopen()
    peer.do("exchange.declare", exchange="", type="direct", passive=True)
    peer.reopen()
    peer.do("queue.declare", queue="", passive=True)
    peer.reopen()
    peer.do("queue.declare", queue="missing", passive=True, arguments={"x-message-ttl": "junk"})
    peer.reopen()
    peer.cast("queue.declare", queue="missing", passive=True, no_wait=True)
    peer.see(least=1)
    peer.reopen()
    peer.declare("there")
    peer.do("queue.declare", queue="there", passive=True, exclusive=True, auto_delete=True)
    peer.alive()


@script
def last_declared(s):
    peer = s.open()
    for method, options in (
        ("queue.bind", {"exchange": "amq.direct", "routing_key": "k"}), ("queue.unbind", {"exchange": "amq.direct", "routing_key": "k"}),
        ("queue.purge", {}), ("queue.delete", {}), ("basic.get", {}), ("basic.consume", {}), ("queue.declare", {"passive": True}),
    ):  # fmt: skip
        peer.do(method, queue="", **options)
        peer.reopen()
    peer.declare("last")
    for method, options in (
        ("queue.declare", {"passive": True}), ("queue.bind", {"exchange": "amq.direct", "routing_key": ""}),
        ("queue.unbind", {"exchange": "amq.direct", "routing_key": ""}), ("queue.purge", {}), ("basic.get", {}),
        ("basic.consume", {"consumer_tag": "c"}), ("queue.delete", {}),
    ):  # fmt: skip
        got = peer.do(method, queue="", **options)
        if got and got.startswith("channel.close"):
            peer.reopen()
    peer.see()


@script
def last_declared_is_the_channels(s):
    peer = s.open().channel(2)
    peer.declare("one")
    peer.declare("two", ch=2)
    peer.pub("", "one", b"1")
    peer.pub("", "two", b"2", ch=2)
    peer.get("", no_ack=True)
    peer.get("", ch=2, no_ack=True)
    peer.do("queue.declare", queue="one", passive=True, ch=2)
    peer.do("queue.purge", queue="", ch=2)
    peer.do("queue.declare", queue="missing", passive=True, ch=2)
    peer.channel(2)
    peer.do("queue.purge", queue="", ch=2)


@script
def delete_conditions(s):
    peer = s.open()
    peer.declare("used")
    peer.do("queue.delete", queue="missing")
    peer.do("queue.delete", queue="missing", if_unused=True, if_empty=True)
    peer.pub("", "used")
    peer.do("queue.delete", queue="used", if_empty=True)
    peer.reopen()
    peer.ok("basic.consume", queue="used", consumer_tag="c", no_ack=True)
    peer.see(least=1)
    peer.do("queue.delete", queue="used", if_unused=True)
    peer.reopen()
    peer.ok("basic.consume", queue="used", consumer_tag="c", no_ack=False)
    peer.pub("", "used")
    peer.see(least=1)
    peer.do("queue.delete", queue="used", if_empty=True)
    peer.see()


@script
def delete_unused_and_not_empty(s):
    peer = s.open()
    peer.declare("both")
    peer.pub("", "both")
    peer.do("queue.declare", queue="both", passive=True)
    peer.ok("basic.qos", prefetch_count=1)
    peer.pub("", "both")
    peer.ok("basic.consume", queue="both", consumer_tag="c")
    peer.see(least=1)
    peer.do("queue.delete", queue="both", if_unused=True, if_empty=True)


@script
def delete_exchange_conditions(s):
    peer = s.open()
    peer.ok("exchange.declare", exchange="ex", type="direct")
    peer.do("exchange.delete", exchange="missing")
    peer.do("exchange.delete", exchange="missing", if_unused=True)
    peer.declare("q-of-ex")
    peer.ok("queue.bind", queue="q-of-ex", exchange="ex", routing_key="k")
    peer.do("exchange.delete", exchange="ex", if_unused=True)
    peer.reopen()
    peer.ok("queue.unbind", queue="q-of-ex", exchange="ex", routing_key="k")
    peer.do("exchange.delete", exchange="ex", if_unused=True)
    for name in ("amq.direct", "amq.fanout", "amq.rabbitmq.trace", "amq.unknown", ""):
        peer.do("exchange.delete", exchange=name)
        peer.cast("channel.open")
        peer.one()


@script
def default_exchange(s):
    peer = s.open()
    peer.declare("dq")
    for method, options in (
        ("queue.bind", {"queue": "dq", "exchange": "", "routing_key": "k"}), ("queue.unbind", {"queue": "dq", "exchange": "", "routing_key": "dq"}),
        ("exchange.bind", {"source": "", "destination": "amq.direct"}), ("exchange.bind", {"source": "amq.direct", "destination": ""}),
        ("exchange.unbind", {"source": "", "destination": "amq.direct"}), ("exchange.unbind", {"source": "amq.direct", "destination": ""}),
        ("exchange.delete", {"exchange": ""}), ("exchange.declare", {"exchange": "", "type": "direct"}),
        ("exchange.declare", {"exchange": "", "type": "direct", "durable": True, "passive": True}),
        ("queue.bind", {"queue": "missing", "exchange": "", "routing_key": "k"}),
    ):  # fmt: skip
        got = peer.do(method, **options)
        if got and got.startswith("channel.close"):
            peer.reopen()


@script
def bindings(s):
    peer = s.open()
    peer.declare("bq")
    peer.ok("exchange.declare", exchange="be", type="direct")
    for method, options in (
        ("queue.bind", {"queue": "bq", "exchange": "missing"}), ("queue.bind", {"queue": "missing", "exchange": "be"}),
        ("queue.bind", {"queue": "missing-q", "exchange": "missing-e"}), ("queue.unbind", {"queue": "bq", "exchange": "missing"}),
        ("queue.unbind", {"queue": "missing", "exchange": "be"}), ("queue.unbind", {"queue": "bq", "exchange": "be", "routing_key": "never"}),
        ("exchange.bind", {"source": "missing", "destination": "be"}), ("exchange.bind", {"source": "be", "destination": "missing"}),
        ("exchange.bind", {"source": "missing-s", "destination": "missing-d"}), ("exchange.unbind", {"source": "missing", "destination": "be"}),
        ("exchange.unbind", {"source": "be", "destination": "missing"}), ("exchange.bind", {"source": "be", "destination": "be"}),
        ("exchange.unbind", {"source": "be", "destination": "be"}), ("queue.bind", {"queue": "bq", "exchange": "be", "routing_key": LONG}),
    ):  # fmt: skip
        got = peer.do(method, **options)
        if got and got.startswith("channel.close"):
            peer.reopen()
    for _ in range(2):
        peer.do("queue.bind", queue="bq", exchange="be", routing_key="k")
        peer.do("queue.bind", queue="bq", exchange="be", routing_key="k", arguments={"x": 1})
    s.http("GET", "/api/queues/%2F/bq/bindings", show=lambda got: sorted((b["source"], b["routing_key"], str(b["arguments"])) for b in got))
    peer.pub("be", "k")
    peer.do("queue.unbind", queue="bq", exchange="be", routing_key="k")
    peer.pub("be", "k")
    peer.do("queue.unbind", queue="bq", exchange="be", routing_key="k", arguments={"x": amqp.Typed(b"l", 1)})
    peer.pub("be", "k")
    peer.do("queue.unbind", queue="bq", exchange="be", routing_key="k", arguments={"x": 1})
    peer.pub("be", "k")
    peer.drain("bq")


@script
def no_wait(s):
    peer = s.open()
    for method, options in (
        ("queue.declare", {"queue": "nw"}), ("exchange.declare", {"exchange": "nwe", "type": "fanout"}), ("queue.bind", {"queue": "nw", "exchange": "nwe"}),
        ("exchange.bind", {"source": "nwe", "destination": "amq.direct"}), ("exchange.unbind", {"source": "nwe", "destination": "amq.direct"}),
        ("queue.purge", {"queue": "nw"}), ("basic.consume", {"queue": "nw", "consumer_tag": "c"}), ("basic.consume", {"queue": "nw"}),
        ("basic.cancel", {"consumer_tag": "c"}), ("basic.cancel", {"consumer_tag": "unknown"}), ("queue.delete", {"queue": "nw"}),
        ("exchange.delete", {"exchange": "nwe"}), ("confirm.select", {}), ("queue.declare", {"queue": "", "exclusive": True}),
    ):  # fmt: skip
        peer.cast(method, no_wait=True, **options)
        peer.see(method, quiet=0.15)
        peer.alive()


@script
def no_wait_errors(s):
    peer = s.open()
    peer.declare("nwx")
    for method, options in (
        ("queue.declare", {"queue": "nwx"}), ("exchange.declare", {"exchange": "amq.direct", "type": "fanout"}),
        ("queue.bind", {"queue": "nwx", "exchange": "missing"}), ("exchange.bind", {"source": "missing", "destination": "amq.direct"}),
        ("queue.purge", {"queue": "missing"}), ("basic.consume", {"queue": "missing"}), ("exchange.delete", {"exchange": "amq.direct"}),
        ("queue.delete", {"queue": "missing"}), ("exchange.declare", {"exchange": "", "type": "direct"}),
    ):  # fmt: skip
        peer.cast(method, no_wait=True, **options)
        if peer.see(method):
            peer.cast("channel.open")
            peer.one()


@script
def purge(s):
    peer = s.open()
    peer.do("queue.purge", queue="missing")
    peer.reopen()
    peer.declare("pq")
    peer.do("queue.purge", queue="pq")
    for _ in range(3):
        peer.pub("", "pq")
    peer.get("pq")
    peer.do("queue.purge", queue="pq")
    peer.do("queue.delete", queue="pq")
    peer.cast("basic.ack", delivery_tag=1)
    peer.alive()


@each(**{m.replace(".", "_"): (m, o) for m, o in (
    ("queue.declare", {"exclusive": True}), ("queue.bind", {"exchange": "amq.direct"}), ("queue.unbind", {"exchange": "amq.direct"}),
    ("queue.purge", {}), ("queue.delete", {}), ("basic.consume", {}), ("basic.get", {}),
)})  # fmt: skip
def exclusive_elsewhere(s, what):
    method, options = what
    owner, other = s.open("owner"), s.open("other")
    owner.do("queue.declare", queue="mine", exclusive=True)
    owner.channel(2)
    owner.do("queue.declare", ch=2, queue="mine", exclusive=True)
    got = other.do(method, queue="mine", **options)
    if got and got.startswith("channel.close"):
        other.reopen()
    other.do("queue.declare", queue="mine", passive=True)
    other.reopen()
    other.do("queue.declare", queue="mine")
    other.reopen()
    other.do("queue.delete", queue="mine", if_unused=True, if_empty=True)
    other.reopen()
    other.pub("", "mine", b"from outside")
    other.alive()
    s.wait(lambda: "message_count=1" in str(owner.do("queue.declare", _quiet=True, queue="mine", passive=True)), "it arrives")
    owner.do("connection.close", 0, reply_code=200)
    other.do("queue.declare", queue="mine", passive=True)


@script
def auto_delete(s):
    peer = s.open()
    peer.do("queue.declare", queue="ad", auto_delete=True, durable=True)
    peer.do("basic.cancel", consumer_tag="none")
    peer.do("queue.declare", queue="ad", passive=True)
    peer.ok("basic.consume", queue="ad", consumer_tag="one")
    peer.ok("basic.consume", queue="ad", consumer_tag="two")
    peer.do("basic.cancel", consumer_tag="one")
    peer.do("queue.declare", queue="ad", passive=True)
    peer.do("basic.cancel", consumer_tag="two")
    peer.see(quiet=0.3)
    peer.do("queue.declare", queue="ad", passive=True)


@script
def auto_delete_exchange(s):
    peer = s.open()
    peer.do("exchange.declare", exchange="ade", type="fanout", auto_delete=True)
    peer.declare("adq")
    peer.do("queue.bind", queue="adq", exchange="ade")
    peer.do("queue.unbind", queue="adq", exchange="ade")
    peer.do("exchange.declare", exchange="ade", type="fanout", passive=True)
    peer.reopen()
    peer.do("exchange.declare", exchange="ade", type="fanout", auto_delete=True)
    peer.do("exchange.declare", exchange="ade2", type="fanout", auto_delete=True)
    peer.do("exchange.bind", source="ade2", destination="ade")
    peer.do("queue.bind", queue="adq", exchange="ade")
    peer.do("queue.delete", queue="adq")
    peer.do("exchange.declare", exchange="ade", type="fanout", passive=True)
    peer.reopen()
    peer.do("exchange.declare", exchange="ade2", type="fanout", passive=True)


@script
def deleted_queue_tells_consumers(s):
    peer, other = s.open("consumer"), s.open("other")
    peer.declare("gone")
    peer.ok("basic.consume", queue="gone", consumer_tag="c1")
    peer.ok("basic.consume", queue="gone", consumer_tag="c2")
    peer.pub("", "gone")
    peer.see(least=1)
    other.do("queue.delete", queue="gone")
    peer.see(least=2)
    peer.cast("basic.cancel-ok", consumer_tag="c1")
    peer.cast("basic.ack", delivery_tag=1)
    peer.alive()
    peer.do("basic.cancel", consumer_tag="c1")


@script
def deleted_by_the_consumers_channel(s):
    peer = s.open()
    peer.declare("own-gone")
    peer.ok("basic.consume", queue="own-gone", consumer_tag="c")
    peer.do("queue.delete", queue="own-gone")
    peer.see(least=1)
    silent = s.connect("silent", capabilities={})
    silent.channel()
    silent.declare("own-gone")
    silent.ok("basic.consume", queue="own-gone", consumer_tag="c")
    silent.do("queue.delete", queue="own-gone")
    silent.see()


@script
def internal_exchange(s):
    peer = s.open()
    peer.do("exchange.declare", exchange="inner", type="fanout", internal=True)
    peer.pub("inner", "k")
    peer.see(least=1)
    peer.reopen()
    peer.pub("amq.rabbitmq.trace", "k")
    peer.see(least=1)


@each(
    direct_args=("direct", "k", {"x-match": "junk"}), headers_junk=("headers", "", {"x-match": "junk"}), headers_int=("headers", "", {"x-match": 1}),
    headers_bool=("headers", "", {"x-match": True}), headers_all_with_x=("headers", "", {"x-match": "all-with-x"}), topic_hashes=("topic", "#.#.#", {}),
    topic_two=("topic", "#.a.#", {}), hash_text=("x-consistent-hash", "many", {}), hash_0=("x-consistent-hash", "0", {}),
    hash_negative=("x-consistent-hash", "-1", {}), hash_float=("x-consistent-hash", "1.5", {}), hash_empty=("x-consistent-hash", "", {}),
    hash_ok=("x-consistent-hash", "5", {}), random=("x-random", "any", {}),
)  # fmt: skip
def binding_checks(s, what):
    kind, key, arguments = what
    peer = s.open()
    peer.declare("checked")
    peer.ok("exchange.declare", exchange="checks", type=kind)
    peer.do("queue.bind", queue="checked", exchange="checks", routing_key=key, arguments=arguments)
    peer.see(quiet=0.1)
    other = s.open("unbind")
    other.do("queue.unbind", queue="checked", exchange="checks", routing_key=key, arguments=arguments)


@each(
    ae_int=("direct", {"alternate-exchange": 5}), ae_missing=("direct", {"alternate-exchange": "nowhere"}), ae_empty=("direct", {"alternate-exchange": ""}),
    ae_bool=("direct", {"alternate-exchange": True}), ae_void=("direct", {"alternate-exchange": None}),
    hash_both=("x-consistent-hash", {"hash-header": "a", "hash-property": "message_id"}), hash_property=("x-consistent-hash", {"hash-property": "junk"}),
    hash_header_int=("x-consistent-hash", {"hash-header": 5}), hash_property_int=("x-consistent-hash", {"hash-property": 5}),
    history_zero=("x-recent-history", {"x-recent-history-length": 0}), history_text=("x-recent-history", {"x-recent-history-length": "a"}),
    history_negative=("x-recent-history", {"x-recent-history-length": -2}), history_5=("x-recent-history", {"x-recent-history-length": 5}),
)  # fmt: skip
def exchange_arguments(s, what):
    kind, arguments = what
    peer = s.open()
    peer.do("exchange.declare", exchange="args", type=kind, arguments=arguments)
    peer.see(quiet=0.1)
    if kind == "direct":
        other = s.open("again")
        other.do("exchange.declare", exchange="args", type=kind)


@script
def limits_of_names(s):
    peer = s.open()
    peer.do("queue.declare", queue=LONG, durable=True)
    peer.do("queue.bind", queue=LONG, exchange="amq.direct", routing_key=LONG)
    peer.pub("amq.direct", LONG, b"long")
    peer.drain(LONG)
    peer.do("queue.declare", queue=LONG, durable=True, auto_delete=True)
    peer.reopen()
    peer.do("exchange.declare", exchange=LONG, type="fanout")
    peer.do("exchange.declare", exchange=LONG, type="direct")


@script
def server_named(s):
    peer = s.open()
    for options in ({}, {"exclusive": True}, {"durable": True}, {"auto_delete": True}, {"arguments": {"x-queue-type": "quorum"}, "durable": True},
                    {"arguments": {"x-queue-type": "stream"}, "durable": True}, {"arguments": {"x-queue-type": "quorum"}}):  # fmt: skip
        got = peer.do("queue.declare", queue="", **options)
        if got and got.startswith("channel.close"):
            peer.reopen()
    peer.do("queue.delete", queue="")


@script
def vhost_limits_of_names(s):
    peer = s.open()
    peer.do("queue.declare", queue="order", durable=True, arguments={"x-max-length": 5})
    for arguments in ({}, {"x-max-length": 6}, {"x-max-length": amqp.Typed(b"b", 5)}, {"x-max-length": amqp.Typed(b"l", 5)}, {"x-max-length": "5"},
                      {"x-max-length": 5, "x-expires": 5000}, {"x-max-length": 5, "x-unknown": 5}, {"x-unknown": 5},
                      {"x-max-length": 5, "x-queue-type": "classic"}, {"x-max-length": 5, "x-queue-type": "quorum"},
                      {"x-max-length": 5, "x-queue-mode": "lazy"}, {"x-max-length": 5, "x-dead-letter-exchange": "d"},
                      {"x-max-length": 5, "x-max-priority": 4}, {"x-max-length": 5.0}, {"x-max-length": True},
                      {"x-max-length": 5, "x-delivery-limit": 4}):  # fmt: skip
        got = peer.do("queue.declare", queue="order", durable=True, arguments=arguments)
        if got and got.startswith("channel.close"):
            peer.reopen()


@script
def exchange_to_exchange(s):
    peer = s.open()
    for name, kind in (("e2e-a", "topic"), ("e2e-b", "fanout"), ("e2e-c", "direct")):
        peer.ok("exchange.declare", exchange=name, type=kind)
    peer.declare("e2e-q")
    peer.do("exchange.bind", destination="e2e-b", source="e2e-a", routing_key="x.#")
    peer.do("exchange.bind", destination="e2e-c", source="e2e-b")
    peer.do("queue.bind", queue="e2e-q", exchange="e2e-c", routing_key="x.1")
    peer.pub("e2e-a", "x.1", b"through")
    peer.pub("e2e-a", "x.2", b"lost", mandatory=True)
    peer.see(least=1)
    peer.drain("e2e-q")
    peer.do("exchange.unbind", destination="e2e-b", source="e2e-a", routing_key="x.#")
    peer.pub("e2e-a", "x.1", b"cut", mandatory=True)
    peer.see(least=1)
    peer.do("exchange.delete", exchange="e2e-b")
    peer.do("exchange.delete", exchange="e2e-c", if_unused=True)


@script
def a_queue_by_two_ways(s):
    peer = s.open()
    peer.declare("two-ways")
    for key in ("a.*", "*.b", "#"):
        peer.ok("queue.bind", queue="two-ways", exchange="amq.topic", routing_key=key)
    peer.pub("amq.topic", "a.b", b"once")
    peer.pub("", "two-ways", b"cc", headers={"CC": ["two-ways", "two-ways"]})
    peer.drain("two-ways")


@script
def redeclared_with_other_owners(s):
    one, two = s.open("one"), s.open("two")
    one.do("queue.declare", queue="owner", exclusive=True, auto_delete=True)
    one.ok("basic.consume", queue="owner", consumer_tag="c")
    two.do("queue.declare", queue="owner", exclusive=True)
    two.reopen()
    one.do("basic.cancel", consumer_tag="c")
    two.do("queue.declare", queue="owner", exclusive=True)
    two.do("connection.close", 0, reply_code=200)
    one.do("queue.declare", queue="owner", passive=True)


@script
def deleted_with_messages_held(s):
    peer = s.open()
    peer.declare("held")
    peer.pub("", "held", b"1")
    peer.pub("", "held", b"2")
    s.wait(lambda: "message_count=2" in str(peer.do("queue.declare", _quiet=True, queue="held", passive=True)), "two")
    peer.get("held")
    peer.do("queue.delete", queue="held")
    peer.declare("held")
    peer.cast("basic.nack", delivery_tag=1, requeue=True)
    peer.alive()
    peer.drain("held")


@script
def headers_with_cc(s):
    peer = s.open()
    peer.declare("hcc")
    peer.ok("queue.bind", queue="hcc", exchange="amq.headers", arguments={"x-match": "any", "a": 1})
    peer.ok("queue.bind", queue="hcc", exchange="amq.direct", routing_key="two")
    peer.pub("amq.headers", "one", headers={"a": 1, "CC": ["two"]})
    peer.pub("amq.direct", "one", headers={"CC": ["two"], "BCC": ["two"]})
    for _ in range(2):
        peer.get("hcc", no_ack=True)


@script
def bound_without_a_key(s):
    peer = s.open()
    peer.declare("keyless")
    for exchange in ("amq.direct", "amq.topic", "amq.fanout"):
        peer.do("queue.bind", queue="keyless", exchange=exchange)
        peer.pub(exchange, "", b"empty", mandatory=True)
        peer.pub(exchange, "keyless", b"named", mandatory=True)
    peer.see()
    peer.drain("keyless")


@script
def transient_exchange_and_durable_queue(s):
    peer = s.open()
    peer.do("exchange.declare", exchange="tx-ex", type="direct", durable=False)
    peer.do("queue.declare", queue="dq-of-it", durable=True)
    peer.do("queue.bind", queue="dq-of-it", exchange="tx-ex", routing_key="k")
    peer.do("exchange.delete", exchange="tx-ex")
    peer.do("queue.unbind", queue="dq-of-it", exchange="tx-ex", routing_key="k")
