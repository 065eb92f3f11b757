"""The handshake, in every wrong order and with every wrong value."""

import struct

from kit import amqp

from . import each, script


@each(
    http=b"GET / HTTP/1.1\r\n\r\n", old_0_8=b"AMQP\x01\x01\x08\x00", old_0_9=b"AMQP\x01\x01\x00\x09", v1_0=b"AMQP\x00\x01\x00\x00",
    sasl=b"AMQP\x03\x01\x00\x00", v0_10=b"AMQP\x00\x00\x0a\x00", v0_9_0=b"AMQP\x00\x00\x09\x00", v0_9_2=b"AMQP\x00\x00\x09\x02",
    v0_8_1=b"AMQP\x00\x00\x08\x01", junk=b"JUNKJUNK", tls=b"\x16\x03\x01\x02\x00\x01\x00\x01", zeros=bytes(8), short_then_end=b"AMQP",
)  # fmt: skip
def header(s, octets):
    peer = s.socket()
    peer.raw(octets)
    if len(octets) < 8:
        peer.client.socket.shutdown(1)
    try:
        got = peer.client.read_to_eof(1.5)
    except TimeoutError:
        got = "something else" if octets != b"AMQP\x01\x01\x00\x09" else "connection.start"
    s.note(f"{octets!r} -> {got!r}")


@script
def start(s):
    peer = s.socket()
    got = peer.client.start()
    s.note(f"{got.version_major}.{got.version_minor} {got.mechanisms!r} {got.locales!r}")
    for key, value in sorted(got.server_properties.items()):
        s.note(f"{key} {sorted(value.items()) if key == 'capabilities' else type(value).__name__}")


def _started(s):
    peer = s.socket()
    peer.client.start()
    return peer


def _tuned(s):
    peer = _started(s)
    peer.client.start_ok()
    peer.client.expect("connection.tune")
    return peer


_METHODS = {
    "start_ok": lambda p: p.client.start_ok(),
    "secure_ok": lambda p: p.cast("connection.secure-ok", 0, response="x"),
    "tune_ok": lambda p: p.cast("connection.tune-ok", 0, channel_max=100, frame_max=131072, heartbeat=0),
    "open": lambda p: p.cast("connection.open", 0, virtual_host="/"),
    "close": lambda p: p.cast("connection.close", 0, reply_code=200, reply_text="bye"),
    "close_ok": lambda p: p.cast("connection.close-ok", 0),
    "channel_open": lambda p: p.cast("channel.open", 1),
    "channel_open_0": lambda p: p.cast("channel.open", 0),
    "start": lambda p: p.cast("connection.start", 0),
    "tune": lambda p: p.cast("connection.tune", 0),
    "heartbeat": lambda p: p.frame(amqp.FRAME_HEARTBEAT, 0, b""),
    "header": lambda p: p.frame(amqp.FRAME_HEADER, 0, struct.pack(">HHQH", 60, 0, 0, 0)),
    "body": lambda p: p.frame(amqp.FRAME_BODY, 0, b"x"),
    "protocol_header": lambda p: p.raw(amqp.PROTOCOL_HEADER),
    "update_secret": lambda p: p.cast("connection.update-secret", 0, new_secret="x", reason="y"),
    "blocked": lambda p: p.cast("connection.blocked", 0, reason="x"),
}


@each(**_METHODS)
def after_start(s, send):
    peer = _started(s)
    send(peer)
    peer.see()


@each(**_METHODS)
def after_start_ok(s, send):
    peer = _tuned(s)
    send(peer)
    peer.see()


@each(**_METHODS)
def after_tune_ok(s, send):
    peer = _tuned(s)
    _METHODS["tune_ok"](peer)
    send(peer)
    peer.see()


@each(**_METHODS)
def when_open(s, send):
    peer = s.connect()
    send(peer)
    peer.see()


_CREDENTIALS = {
    "wrong_password": dict(password="wrong"), "no_user": dict(user="nobody"), "no_password": dict(password=""),
    "no_name": dict(user="", password=""), "unknown_mechanism": dict(mechanism="KERBEROS"), "lower_case": dict(mechanism="plain"),
    "no_mechanism": dict(mechanism=""), "authzid": dict(response="me\0guest\0guest"), "no_nul": dict(response="guest"),
    "one_nul": dict(response="\0guest"), "three_nuls": dict(response="\0guest\0guest\0"), "empty_response": dict(response=""),
    "amqplain": dict(mechanism="AMQPLAIN", response=amqp.encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]),
    "amqplain_wrong": dict(mechanism="AMQPLAIN", response=amqp.encode_table({"LOGIN": "guest", "PASSWORD": "x"})[4:]),
    "amqplain_no_password": dict(mechanism="AMQPLAIN", response=amqp.encode_table({"LOGIN": "guest"})[4:]),
    "amqplain_junk": dict(mechanism="AMQPLAIN", response=b"junk"), "external": dict(mechanism="EXTERNAL", response=""),
    "anonymous": dict(mechanism="ANONYMOUS", response=""),
}  # fmt: skip


@each(**_CREDENTIALS)
def credentials(s, options):
    peer = _started(s)
    peer.client.start_ok(**options)
    peer.see("told", least=1)
    silent = _started(s)
    silent.client.start_ok(**options, capabilities={})
    silent.see("without the capability", least=1)


@each(
    channels_0=(0, 131072, 0), channels_more=(4000, 131072, 0), channels_1=(1, 131072, 0), frame_0=(2047, 0, 0),
    frame_1=(2047, 1, 0), frame_4095=(2047, 4095, 0), frame_4096=(2047, 4096, 0), frame_8191=(2047, 8191, 0),
    frame_8192=(2047, 8192, 0), frame_more=(2047, 131073, 0), heartbeat_more=(2047, 131072, 600),
    heartbeat_max=(2047, 131072, 65535), heartbeat_1=(2047, 131072, 1), all_wrong=(4000, 1, 0),
)  # fmt: skip
def tune(s, values):
    peer = _tuned(s)
    peer.cast("connection.tune-ok", 0, channel_max=values[0], frame_max=values[1], heartbeat=values[2])
    peer.cast("connection.open", 0, virtual_host="/")
    peer.see(least=1, quiet=0.2)


@each(missing="nowhere", empty="", slash_slash="//", encoded="%2f", long="v" * 255, not_utf8=b"\xff\xfe", newline="a\nb")
def vhost(s, name):
    peer = _tuned(s)
    _METHODS["tune_ok"](peer)
    peer.cast("connection.open", 0, virtual_host=name)
    peer.see(least=1)


@script
def tuned_offer(s):
    got = _started(s)
    got.client.start_ok()
    tune = got.client.expect("connection.tune")
    s.note(f"{tune.channel_max} {tune.frame_max} {tune.heartbeat}")


@script
def open_with_insist(s):
    peer = _tuned(s)
    _METHODS["tune_ok"](peer)
    peer.do("connection.open", 0, virtual_host="/", reserved_1="caps", reserved_2=True)


@script
def everything_at_once(s):
    peer = s.socket()
    peer.raw(amqp.PROTOCOL_HEADER)
    peer.client.start_ok()
    _METHODS["tune_ok"](peer)
    _METHODS["open"](peer)
    peer.cast("channel.open", 1)
    peer.cast("queue.declare", 1, queue="at-once", exclusive=True)
    for _ in range(5):
        s.note((peer.one() or "nothing").split("(")[0])


@each(
    no_properties=b"", null_list=struct.pack(">I", 5) + b"\x01aV", bad_tag=struct.pack(">I", 4) + b"\x01aZ1",
    short_table=struct.pack(">I", 50) + b"\x01a",
)  # fmt: skip
def client_properties(s, table):
    peer = _started(s)
    if table == b"":
        table = {}
    peer.cast("connection.start-ok", 0, client_properties=table, mechanism="PLAIN", response="\0guest\0guest", locale="xx")
    peer.see(least=1)


@script
def a_long_start_ok(s):
    for size in (4000, 4090, 5000, 8000, 8300, 20000):
        peer = _started(s)
        peer.cast("connection.start-ok", 0, client_properties={"x": "y" * size}, mechanism="PLAIN", response="\0guest\0guest", locale="en_US")
        peer.see(f"{size}", least=1)


@script
def connection_name(s):
    peer = _started(s)
    peer.cast("connection.start-ok", 0, client_properties={"connection_name": 5, "capabilities": "no table"}, mechanism="PLAIN",
              response="\0guest\0guest", locale="en_US")  # fmt: skip
    peer.see(least=1)


@script
def heartbeats(s):
    peer = _tuned(s)
    peer.cast("connection.tune-ok", 0, channel_max=100, frame_max=131072, heartbeat=1)
    peer.do("connection.open", 0, virtual_host="/")
    import time

    begun = time.monotonic()
    try:
        peer.client.recv(8)
    except Exception as end:  # noqa: BLE001
        s.note(f"{type(end).__name__} between 1.5 and 5 s: {1.5 < time.monotonic() - begun < 5}, heartbeats seen: {peer.client.heartbeats_seen >= 2}")
