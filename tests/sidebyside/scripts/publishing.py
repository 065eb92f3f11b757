"""Publishing: checks of messages, returns, properties, routing by headers."""

from kit.amqp import Typed

from . import each, script


@each(
    immediate=dict(immediate=True), mandatory_immediate=dict(mandatory=True, immediate=True), expiration_text=dict(expiration="abc"),
    expiration_mixed=dict(expiration="1a"), expiration_negative=dict(expiration="-1"), expiration_empty=dict(expiration=""),
    expiration_plus=dict(expiration="+5"), expiration_space=dict(expiration=" 5"), expiration_float=dict(expiration="1.5"),
    expiration_0=dict(expiration="0"), expiration_large=dict(expiration="315360000001"), expiration_max=dict(expiration="315360000000"),
    expiration_huge=dict(expiration="9" * 40), expiration_zeros=dict(expiration="0000005000"), user_id_other=dict(user_id="bob"),
    user_id_own=dict(user_id="guest"), user_id_empty=dict(user_id=""), cc_text=dict(headers={"CC": "key"}), cc_int=dict(headers={"CC": 5}),
    cc_table=dict(headers={"CC": {"a": 1}}), bcc_text=dict(headers={"BCC": "key"}), cc_of_ints=dict(headers={"CC": [1, 2]}),
    cc_mixed=dict(headers={"CC": [1, "p-q2"]}), bcc_of_ints=dict(headers={"BCC": [1]}), cc_lower=dict(headers={"cc": ["p-q2"]}),
    cc_and_bcc=dict(headers={"CC": ["p-q2"], "BCC": ["p-q3"]}), cc_bad_bcc_bad=dict(headers={"CC": "a", "BCC": "b"}),
    cc_long=dict(headers={"CC": ["x" * 300]}), cc_void=dict(headers={"CC": None}), reply_to=dict(reply_to="amq.rabbitmq.reply-to"),
    reply_to_made_up=dict(reply_to="amq.rabbitmq.reply-to.made-up"), mode_0=dict(delivery_mode=0), mode_1=dict(delivery_mode=1),
    mode_2=dict(delivery_mode=2), mode_3=dict(delivery_mode=3), mode_255=dict(delivery_mode=255), priority_255=dict(priority=255),
    all_properties=dict(content_type="a", content_encoding="b", headers={"h": 1}, delivery_mode=2, priority=3, correlation_id="c", reply_to="d",
                        message_id="e", timestamp=2**63, type="f", app_id="g", cluster_id="h"),
    x_death_text=dict(headers={"x-death": "text"}), x_death_list=dict(headers={"x-death": [{"queue": "a"}]}),
    x_delivery_count=dict(headers={"x-delivery-count": 9}), x_delivery_count_text=dict(headers={"x-delivery-count": "a"}),
    x_stream_offset=dict(headers={"x-stream-offset": 5}), empty_headers=dict(headers={}), many_types=dict(headers={
        "b": Typed(b"b", -5), "B": Typed(b"B", 5), "s": Typed(b"s", -5), "u": Typed(b"u", 5), "I": -5, "i": Typed(b"i", 5), "l": Typed(b"l", 5),
        "f": Typed(b"f", 1.5), "d": 2.5, "D": Typed(b"D", (2, 314)), "S": "text", "x": Typed(b"x", b"\x00\x01"), "t": True, "T": Typed(b"T", 5),
        "F": {"z": 1, "a": [1, "b", None]}, "A": [], "V": None}),
    unsorted=dict(headers={"z": 1, "a": 2, "m": 3}), long_key=dict(headers={"k" * 255: "v"}), signed_l=dict(headers={"L": Typed(b"L", 5)}),
)  # fmt: skip
def message(s, properties):
    peer = s.open()
    for queue in ("p-q1", "p-q2", "p-q3"):
        peer.declare(queue)
    peer.ok("confirm.select")
    peer.pub("", "p-q1", **properties)
    peer.see(least=1, quiet=0.2)
    peer.see("later", quiet=0.1)
    other = s.open("get")
    for queue in ("p-q1", "p-q2", "p-q3"):
        other.get(queue, no_ack=True)


@script
def returned(s):
    peer = s.open()
    peer.pub("", "nobody", b"body", mandatory=True, headers={"a": 1}, message_id="m")
    peer.see(least=1)
    peer.pub("amq.topic", "nobody.there", b"", mandatory=True)
    peer.see(least=1)
    peer.pub("", "nobody", b"x" * 200_000, mandatory=True)
    peer.see(least=1)
    peer.pub("", "nobody", b"cc", mandatory=True, headers={"CC": ["nobody-too"], "BCC": ["nor-here"]})
    peer.see(least=1)
    peer.declare("somebody")
    peer.pub("", "nobody", b"cc", mandatory=True, headers={"CC": ["somebody"]})
    peer.see()


@script
def returns_and_confirms(s):
    peer = s.open()
    peer.ok("confirm.select")
    peer.declare("rac")
    peer.client.send_bytes(
        peer.client.publish_bytes(1, "", "nobody", b"1", mandatory=True) + peer.client.publish_bytes(1, "", "nobody", b"2", mandatory=True)
    )
    peer.see(least=3)


@script
def alternates(s):
    peer = s.open()
    peer.ok("exchange.declare", exchange="alt-a", type="direct", arguments={"alternate-exchange": "alt-b"})
    peer.ok("exchange.declare", exchange="alt-b", type="direct", arguments={"alternate-exchange": "alt-a"})
    peer.pub("alt-a", "k", mandatory=True)
    peer.see(least=1)
    peer.declare("alt-q")
    peer.ok("queue.bind", queue="alt-q", exchange="alt-b", routing_key="k")
    peer.pub("alt-a", "k", mandatory=True)
    peer.get("alt-q", no_ack=True)
    peer.ok("exchange.declare", exchange="alt-c", type="direct", arguments={"alternate-exchange": "missing"})
    peer.pub("alt-c", "k", mandatory=True)
    peer.see(least=1)


@script
def missing_exchange_then_more(s):
    peer = s.open()
    peer.ok("confirm.select")
    peer.pub("missing", "k", mandatory=True)
    peer.pub("missing", "k")
    peer.see(least=1)


@script
def sizes(s):
    peer = s.open()
    peer.declare("sizes")
    for size in (0, 1, 4096, 131064, 131065, 262128, 1_000_000):
        peer.pub("", "sizes", b"x" * size)
        s.wait(lambda: "message_count=1" in str(peer.do("queue.declare", _quiet=True, queue="sizes", passive=True)), "it arrives")
        peer.client.send(1, "basic.get", queue="sizes", no_ack=True)
        got = peer.client.recv()
        s.note(f"{size} -> {len(got.body)} in {got.content.body_frame_sizes[:3]}")


@each(zero=(0, False), both=(0, True))
def small_frames(s, what):
    peer = s.connect(frame_max=8192)
    peer.channel()
    peer.declare("small")
    peer.pub("", "small", b"y" * 20000)
    s.wait(lambda: "message_count=1" in str(peer.do("queue.declare", _quiet=True, queue="small", passive=True)), "it arrives")
    peer.client.send(1, "basic.get", queue="small", no_ack=True)
    got = peer.client.recv()
    s.note(f"{len(got.body)} in {got.content.body_frame_sizes}")


@each(
    all_match=({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 1}), all_miss=({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}),
    any_match=({"x-match": "any", "a": 1, "b": "x"}, {"a": 1}), any_none=({"x-match": "any"}, {"a": 1}), all_none=({"x-match": "all"}, {"a": 1}),
    no_args=({}, {}), default_all=({"a": 1, "b": 2}, {"a": 1}), void=({"a": None}, {"a": "anything"}), void_missing=({"a": None}, {"b": 1}),
    widths=({"a": Typed(b"b", 1)}, {"a": Typed(b"l", 1)}), int_float=({"a": 1}, {"a": 1.0}), string_bytes=({"a": "x"}, {"a": Typed(b"x", b"x")}),
    bool_int=({"a": True}, {"a": 1}), x_ignored=({"x-match": "all", "x-a": 1}, {"x-a": 2}), with_x=({"x-match": "all-with-x", "x-a": 1}, {"x-a": 2}),
    any_with_x=({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}), no_headers=({"x-match": "any", "a": 1}, None), table=({"a": {"b": 1}}, {"a": {"b": 1}}),
    array=({"a": [1]}, {"a": [1]}), timestamp=({"a": Typed(b"T", 5)}, {"a": 5}), decimal=({"a": Typed(b"D", (1, 5))}, {"a": Typed(b"D", (1, 5))}),
    float_width=({"a": Typed(b"f", 1.5)}, {"a": 1.5}),
)  # fmt: skip
def headers(s, what):
    arguments, sent = what
    peer = s.open()
    peer.declare("hq")
    peer.ok("exchange.declare", exchange="hx", type="headers")
    peer.ok("queue.bind", queue="hq", exchange="hx", arguments=arguments)
    peer.pub("hx", "", mandatory=True, **({} if sent is None else {"headers": sent}))
    peer.see(quiet=0.2)


@script
def topics(s):
    peer = s.open()
    patterns = ("#", "*", "", "a", "a.*", "*.b", "#.b", "a.#", "#.a.#", "*.*", "a..b", "a.*.b", "*.#", "#.*", "**", "a#", ".", "a.b.c", "A")
    for number, pattern in enumerate(patterns):
        peer.declare(f"topic-{number}")
        peer.ok("queue.bind", queue=f"topic-{number}", exchange="amq.topic", routing_key=pattern)
    keys = ("", "a", "a.b", "a.b.c", "a..b", ".", "a.", ".a", "x.a.y", "A", "*", "#", "a.x.b", "b", "..", "x" * 255)
    for key in keys:
        peer.pub("amq.topic", key, key.encode())
    peer.ok("queue.declare", queue="topic-end", exclusive=True)
    for number, pattern in enumerate(patterns):
        bodies = []
        while True:
            peer.client.send(1, "basic.get", queue=f"topic-{number}", no_ack=True)
            got = peer.client.recv()
            if got.name != "basic.get-ok":
                break
            bodies.append(got.body.decode())
        s.note(f"{pattern!r} takes {bodies}")


@script
def to_a_deleted_exchange(s):
    peer = s.open()
    peer.ok("exchange.declare", exchange="short", type="fanout")
    peer.pub("short", "k")
    peer.ok("exchange.delete", exchange="short")
    peer.pub("short", "k")
    peer.see(least=1)


@script
def direct_reply_to(s):
    peer = s.open()
    peer.do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="r", no_ack=False)
    peer.reopen()
    peer.do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="r", no_ack=True)
    peer.do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="r2", no_ack=True)
    peer.reopen()
    peer.do("basic.consume", queue="amq.rabbitmq.reply-to", consumer_tag="r", no_ack=True)
    peer.declare("rpc")
    peer.pub("", "rpc", b"ask", reply_to="amq.rabbitmq.reply-to")
    peer.see(quiet=0.2)
    server = s.open("server")
    server.client.send(1, "basic.get", queue="rpc", no_ack=True)
    asked = server.client.recv().content.properties["reply_to"]
    server.do("queue.declare", queue=asked, passive=True)
    server.pub("", asked, b"answer", correlation_id="5")
    peer.see(least=1)
    peer.do("basic.cancel", consumer_tag="r")
    server.pub("", asked, b"late", mandatory=True)
    server.see()
    server.do("queue.declare", queue=asked, passive=True)
    server.reopen()
    server.do("queue.declare", queue="amq.rabbitmq.reply-to", passive=True)
    server.reopen()
    server.do("basic.get", queue="amq.rabbitmq.reply-to")
    server.reopen()
    server.do("queue.bind", queue="amq.rabbitmq.reply-to", exchange="amq.direct", routing_key="k")
    server.reopen()
    server.do("queue.purge", queue="amq.rabbitmq.reply-to")
    server.reopen()
    server.do("queue.delete", queue="amq.rabbitmq.reply-to")
