"""Frames that are not as they should be, and methods that nobody knows."""

import struct

from kit import amqp

from . import each, script

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8


def _method(class_id, method_id, rest=b""):
    return struct.pack(">HH", class_id, method_id) + rest


_RAW = {
    "type_0": amqp.frame(0, 0, b""), "type_4": amqp.frame(4, 0, b"abc"), "type_5_channel_1": amqp.frame(5, 1, b"abc"),
    "type_255": amqp.frame(255, 1, b"x" * 40), "type_9_channel_7": amqp.frame(9, 7, b""),
    "end_0": amqp.frame(METHOD, 0, b"abcd", end=0), "end_wrong_channel_1": amqp.frame(METHOD, 1, b"x" * 20, end=0xFF),
    "heartbeat_channel_1": amqp.frame(HEARTBEAT, 1, b""), "heartbeat_channel_7": amqp.frame(HEARTBEAT, 7, b""),
    "heartbeat_payload": amqp.frame(HEARTBEAT, 0, b"x"), "heartbeat_end": amqp.frame(HEARTBEAT, 0, b"", end=1),
    "header_channel_0": amqp.frame(HEADER, 0, struct.pack(">HHQH", 60, 0, 0, 0)), "body_channel_0": amqp.frame(BODY, 0, b"x"),
    "empty_header_channel_0": amqp.frame(HEADER, 0, b""), "empty_body_channel_0": amqp.frame(BODY, 0, b""),
    "header_channel_7": amqp.frame(HEADER, 7, struct.pack(">HHQH", 60, 0, 0, 0)), "body_channel_7": amqp.frame(BODY, 7, b"x"),
    "empty_method": amqp.frame(METHOD, 1, b""), "empty_method_channel_0": amqp.frame(METHOD, 0, b""),
    "half_ids": amqp.frame(METHOD, 1, b"\x00\x3c"), "half_ids_3": amqp.frame(METHOD, 1, b"\x00\x3c\x00"),
    "unknown_class": amqp.frame(METHOD, 1, _method(99, 10)), "unknown_method": amqp.frame(METHOD, 1, _method(60, 99)),
    "unknown_class_0": amqp.frame(METHOD, 0, _method(99, 10)), "unknown_method_0": amqp.frame(METHOD, 0, _method(10, 99)),
    "unknown_on_closed": amqp.frame(METHOD, 7, _method(99, 10)),
    "truncated_declare": amqp.frame(METHOD, 1, _method(50, 10, b"\x00\x00")),
    "truncated_name": amqp.frame(METHOD, 1, _method(50, 10, b"\x00\x00\x09abc")),
    "truncated_table": amqp.frame(METHOD, 1, _method(50, 10, b"\x00\x00\x01q\x00\x00\x00\x00\x09\x01a")),
    "truncated_open_0": amqp.frame(METHOD, 0, _method(10, 50, b"\x00")),
    "trailing": amqp.frame(METHOD, 1, _method(60, 10, b"\x00\x00\x00\x00\x00\x00\x00extra")),
    "trailing_ack": amqp.frame(METHOD, 1, _method(60, 80, b"\x00" * 9 + b"zz")),
    "bad_tag": amqp.frame(METHOD, 1, amqp.encode_method("queue.declare", queue="q", arguments=struct.pack(">I", 4) + b"\x01aZ\x00")),
    "table_too_long": amqp.frame(METHOD, 1, amqp.encode_method("queue.declare", queue="q", arguments=struct.pack(">I", 99) + b"\x01at\x01")),
    "table_value_cut": amqp.frame(METHOD, 1, amqp.encode_method("queue.declare", queue="q", arguments=struct.pack(">I", 5) + b"\x01aI\x00\x00")),
    "bad_utf8_queue": amqp.frame(METHOD, 1, amqp.encode_method("queue.declare", queue=b"\xff\xfe")),
    "bad_utf8_exchange": amqp.frame(METHOD, 1, amqp.encode_method("exchange.declare", exchange=b"\xc3\x28", type="direct")),
    "bad_utf8_type": amqp.frame(METHOD, 1, amqp.encode_method("exchange.declare", exchange="x", type=b"\xff")),
    "bad_utf8_key": amqp.frame(METHOD, 1, amqp.encode_method("queue.bind", queue="q", exchange="amq.direct", routing_key=b"\xff")),
    "bad_utf8_tag": amqp.frame(METHOD, 1, amqp.encode_method("basic.consume", queue="q", consumer_tag=b"\xff")),
    "bad_utf8_reason": amqp.frame(METHOD, 0, amqp.encode_method("connection.close", reply_code=200, reply_text=b"\xff\xfe")),
    "server_method_declare_ok": amqp.frame(METHOD, 1, amqp.encode_method("queue.declare-ok", queue="q")),
    "server_method_open_ok": amqp.frame(METHOD, 1, amqp.encode_method("channel.open-ok")),
    "server_method_deliver": amqp.frame(METHOD, 1, amqp.encode_method("basic.deliver", consumer_tag="c")),
    "server_method_return": amqp.frame(METHOD, 1, amqp.encode_method("basic.return", reply_code=312)),
    "server_method_get_empty": amqp.frame(METHOD, 1, amqp.encode_method("basic.get-empty")),
    "server_method_consume_ok": amqp.frame(METHOD, 1, amqp.encode_method("basic.consume-ok", consumer_tag="c")),
    "cancel_ok": amqp.frame(METHOD, 1, amqp.encode_method("basic.cancel-ok", consumer_tag="c")),
    "flow_ok": amqp.frame(METHOD, 1, amqp.encode_method("channel.flow-ok", active=True)),
    "close_ok_of_open_channel": amqp.frame(METHOD, 1, amqp.encode_method("channel.close-ok")),
    "close_ok_of_closed_channel": amqp.frame(METHOD, 7, amqp.encode_method("channel.close-ok")),
    "connection_close_on_1": amqp.frame(METHOD, 1, amqp.encode_method("connection.close", reply_code=200, reply_text="x")),
    "connection_close_on_7": amqp.frame(METHOD, 7, amqp.encode_method("connection.close", reply_code=200, reply_text="x")),
    "connection_open_on_1": amqp.frame(METHOD, 1, amqp.encode_method("connection.open", virtual_host="/")),
    "connection_close_ok_on_0": amqp.frame(METHOD, 0, amqp.encode_method("connection.close-ok")),
    "queue_declare_on_0": amqp.frame(METHOD, 0, amqp.encode_method("queue.declare", queue="q")),
    "channel_close_on_0": amqp.frame(METHOD, 0, amqp.encode_method("channel.close", reply_code=200)),
    "publish_on_0": amqp.frame(METHOD, 0, amqp.encode_method("basic.publish", routing_key="q")),
    "protocol_header": amqp.PROTOCOL_HEADER, "access_request": amqp.frame(METHOD, 1, amqp.encode_method("access.request", realm="/data")),
    "credit": amqp.frame(METHOD, 1, _method(60, 200, b"\x01c\x00\x00\x00\x01\x00")), "empty_body_on_1": amqp.frame(BODY, 1, b""),
    "header_without_publish": amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0)), "body_without_publish": amqp.frame(BODY, 1, b"x"),
    "short_header_without_publish": amqp.frame(HEADER, 1, b"\x00"), "file_class": amqp.frame(METHOD, 1, _method(70, 10, b"\x00" * 8)),
}  # fmt: skip


@each(**_RAW)
def raw(s, octets):
    peer = s.open()
    peer.raw(octets)
    peer.see(least=0)
    peer.alive()


@each(by_1=1, by_8=8, by_9=9, by_100=100)
def oversized(s, more):
    peer = s.open(frame_max=8192)
    peer.raw(struct.pack(">BHI", METHOD, 1, 8184 + more) + amqp.encode_method("queue.declare", queue="x") + bytes(8184 + more))
    peer.see(least=1)


@script
def oversized_only_its_header(s):
    peer = s.open()
    peer.raw(struct.pack(">BHI", METHOD, 1, 0x7FFFFFFF))
    peer.see(least=1)


_CONTENT = {
    "wrong_class": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 50, 0, 1, 0))],
    "class_0": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 0, 0, 1, 0))],
    "weight": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 1, 1, 0)), amqp.frame(BODY, 1, b"x")],
    "weight_big": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 65535, 1, 0)), amqp.frame(BODY, 1, b"x")],
    "longer": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 3, 0)), amqp.frame(BODY, 1, b"xxxx")],
    "longer_second": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 3, 0)), amqp.frame(BODY, 1, b"xx"), amqp.frame(BODY, 1, b"xx")],
    "body_after_empty": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0)), amqp.frame(BODY, 1, b"")],
    "body_after_complete": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 1, 0)), amqp.frame(BODY, 1, b"x"), amqp.frame(BODY, 1, b"y")],
    "empty_frames": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 2, 0))] + [amqp.frame(BODY, 1, b""), amqp.frame(BODY, 1, b"x")] * 2,
    "method_for_header": [amqp.frame(METHOD, 1, amqp.encode_method("basic.qos"))],
    "method_for_body": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 3, 0)), amqp.frame(METHOD, 1, amqp.encode_method("basic.qos"))],
    "body_for_header": [amqp.frame(BODY, 1, b"x")], "empty_body_for_header": [amqp.frame(BODY, 1, b"")],
    "header_for_body": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 3, 0))] * 2,
    "close_for_header": [amqp.frame(METHOD, 1, amqp.encode_method("channel.close", reply_code=200))],
    "close_for_body": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 3, 0)),
                       amqp.frame(METHOD, 1, amqp.encode_method("channel.close", reply_code=200))],
    "connection_close_for_body": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 3, 0)),
                                  amqp.frame(METHOD, 0, amqp.encode_method("connection.close", reply_code=200))],
    "heartbeat_between": [amqp.frame(HEARTBEAT, 0, b""), amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 1, 0)),
                          amqp.frame(HEARTBEAT, 0, b""), amqp.frame(BODY, 1, b"x")],
    "other_channel_between": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 1, 0)), amqp.frame(METHOD, 2, amqp.encode_method("channel.open")),
                              amqp.frame(BODY, 1, b"x")],
    "flags_go_on": [amqp.frame(HEADER, 1, struct.pack(">HHQHH", 60, 0, 0, 1, 0))],
    "flags_go_on_with_more": [amqp.frame(HEADER, 1, struct.pack(">HHQHH", 60, 0, 0, 0x8001, 0x8000) + b"\x01a\x01b")],
    "flags_unused_bit": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 2))],
    "properties_cut": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0x8000) + b"\x09abc")],
    "properties_more": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0) + b"more")],
    "header_cut": [amqp.frame(HEADER, 1, struct.pack(">HHI", 60, 0, 0))], "header_empty": [amqp.frame(HEADER, 1, b"")],
    "no_flags": [amqp.frame(HEADER, 1, struct.pack(">HHQ", 60, 0, 0))],
    "headers_bad_tag": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0x2000) + struct.pack(">I", 4) + b"\x01aZ\x00")],
    "headers_cut": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0x2000) + struct.pack(">I", 40) + b"\x01at")],
    "bad_utf8_content_type": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 0, 0x8000) + b"\x02\xff\xfe")],
    "enormous": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 2**63, 0))],
    "over_512_mib": [amqp.frame(HEADER, 1, struct.pack(">HHQH", 60, 0, 512 * 2**20 + 1, 0))],
}  # fmt: skip


@each(**_CONTENT)
def content(s, frames):
    peer = s.open()
    peer.declare("content")
    peer.raw(amqp.frame(METHOD, 1, amqp.encode_method("basic.publish", routing_key="content")) + b"".join(frames))
    peer.see()
    peer.alive()
    other = s.open("after")
    other.get("content")


@script
def connection_closed_twice(s):
    peer = s.open()
    close = amqp.frame(METHOD, 0, amqp.encode_method("connection.close", reply_code=200, reply_text="bye"))
    peer.raw(close + close)
    peer.see(least=1)


@script
def connection_closed_twice_later(s):
    peer = s.open()
    peer.do("connection.close", 0, reply_code=200)
    peer.cast("connection.close", 0, reply_code=200)
    peer.see()


@script
def close_answered_by_close(s):
    peer = s.open()
    peer.cast("basic.qos", prefetch_size=1)
    got = peer.client.recv()
    s.note(got.name)
    peer.do("connection.close", 0, reply_code=200)
    peer.see()


@script
def used_after_the_brokers_close(s):
    peer = s.open()
    peer.cast("basic.qos", prefetch_size=1)
    s.note(peer.client.recv().name)
    peer.declare("after-close")
    peer.cast("channel.open", 2)
    peer.see()
    peer.do("connection.close-ok", 0)
    peer.see()


@script
def close_with_frames_behind(s):
    peer = s.open()
    peer.raw(
        amqp.frame(METHOD, 0, amqp.encode_method("connection.close", reply_code=200))
        + amqp.frame(METHOD, 1, amqp.encode_method("queue.declare", queue="behind"))
        + amqp.frame(METHOD, 0, amqp.encode_method("connection.close-ok"))
    )
    peer.see(least=1)


@script
def nothing_sent_after_close_ok(s):
    peer = s.open()
    peer.do("connection.close", 0, reply_code=541, reply_text="because", class_id=60, method_id=40)
    peer.see()


@script
def update_secret(s):
    peer = s.open()
    peer.do("connection.update-secret", 0, new_secret="new", reason="old")
    peer.do("connection.update-secret", 0, new_secret="", reason="")
    peer.alive()


@script
def flow(s):
    peer = s.open()
    peer.do("channel.flow", active=True)
    peer.do("channel.flow", active=False)
    peer.see()
