"""An AMQP 0-9-1 client that does exactly what it is told, well-formed or not.

It keeps no state machine of its own: a test sends methods or raw bytes and names what must come
back. Methods are spelt as in the specification (`basic.publish`), arguments by their names there.
Written from the protocol's own tables, so that it shares no mistake with any client library.
"""

import socket
import struct
import time
from dataclasses import dataclass, field

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
FRAME_METHOD, FRAME_HEADER, FRAME_BODY, FRAME_HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
DEFAULT_TIMEOUT_S = 20.0  # far above anything a healthy broker needs: a test never asserts a time

# name: (class, method, arguments). A trailing * marks a method that is followed by content.
_SPEC = """
connection.start 10 10 version_major:octet version_minor:octet server_properties:table mechanisms:longstr locales:longstr
connection.start-ok 10 11 client_properties:table mechanism:shortstr response:longstr locale:shortstr
connection.secure 10 20 challenge:longstr
connection.secure-ok 10 21 response:longstr
connection.tune 10 30 channel_max:short frame_max:long heartbeat:short
connection.tune-ok 10 31 channel_max:short frame_max:long heartbeat:short
connection.open 10 40 virtual_host:shortstr reserved_1:shortstr reserved_2:bit
connection.open-ok 10 41 known_hosts:shortstr
connection.close 10 50 reply_code:short reply_text:shortstr class_id:short method_id:short
connection.close-ok 10 51
connection.blocked 10 60 reason:shortstr
connection.unblocked 10 61
connection.update-secret 10 70 new_secret:longstr reason:shortstr
connection.update-secret-ok 10 71
channel.open 20 10 reserved_1:shortstr
channel.open-ok 20 11 reserved_1:longstr
channel.flow 20 20 active:bit
channel.flow-ok 20 21 active:bit
channel.close 20 40 reply_code:short reply_text:shortstr class_id:short method_id:short
channel.close-ok 20 41
access.request 30 10 realm:shortstr exclusive:bit passive:bit active:bit write:bit read:bit
access.request-ok 30 11 ticket:short
exchange.declare 40 10 ticket:short exchange:shortstr type:shortstr passive:bit durable:bit auto_delete:bit internal:bit no_wait:bit arguments:table
exchange.declare-ok 40 11
exchange.delete 40 20 ticket:short exchange:shortstr if_unused:bit no_wait:bit
exchange.delete-ok 40 21
exchange.bind 40 30 ticket:short destination:shortstr source:shortstr routing_key:shortstr no_wait:bit arguments:table
exchange.bind-ok 40 31
exchange.unbind 40 40 ticket:short destination:shortstr source:shortstr routing_key:shortstr no_wait:bit arguments:table
exchange.unbind-ok 40 51
queue.declare 50 10 ticket:short queue:shortstr passive:bit durable:bit exclusive:bit auto_delete:bit no_wait:bit arguments:table
queue.declare-ok 50 11 queue:shortstr message_count:long consumer_count:long
queue.bind 50 20 ticket:short queue:shortstr exchange:shortstr routing_key:shortstr no_wait:bit arguments:table
queue.bind-ok 50 21
queue.purge 50 30 ticket:short queue:shortstr no_wait:bit
queue.purge-ok 50 31 message_count:long
queue.delete 50 40 ticket:short queue:shortstr if_unused:bit if_empty:bit no_wait:bit
queue.delete-ok 50 41 message_count:long
queue.unbind 50 50 ticket:short queue:shortstr exchange:shortstr routing_key:shortstr arguments:table
queue.unbind-ok 50 51
basic.qos 60 10 prefetch_size:long prefetch_count:short global:bit
basic.qos-ok 60 11
basic.consume 60 20 ticket:short queue:shortstr consumer_tag:shortstr no_local:bit no_ack:bit exclusive:bit no_wait:bit arguments:table
basic.consume-ok 60 21 consumer_tag:shortstr
basic.cancel 60 30 consumer_tag:shortstr no_wait:bit
basic.cancel-ok 60 31 consumer_tag:shortstr
basic.publish* 60 40 ticket:short exchange:shortstr routing_key:shortstr mandatory:bit immediate:bit
basic.return* 60 50 reply_code:short reply_text:shortstr exchange:shortstr routing_key:shortstr
basic.deliver* 60 60 consumer_tag:shortstr delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr
basic.get 60 70 ticket:short queue:shortstr no_ack:bit
basic.get-ok* 60 71 delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr message_count:long
basic.get-empty 60 72 cluster_id:shortstr
basic.ack 60 80 delivery_tag:longlong multiple:bit
basic.reject 60 90 delivery_tag:longlong requeue:bit
basic.recover-async 60 100 requeue:bit
basic.recover 60 110 requeue:bit
basic.recover-ok 60 111
basic.nack 60 120 delivery_tag:longlong multiple:bit requeue:bit
confirm.select 85 10 no_wait:bit
confirm.select-ok 85 11
tx.select 90 10
tx.select-ok 90 11
tx.commit 90 20
tx.commit-ok 90 21
tx.rollback 90 30
tx.rollback-ok 90 31
"""


@dataclass(frozen=True)
class MethodSpec:
    name: str
    class_id: int
    method_id: int
    arguments: tuple
    has_content: bool


METHODS = {}
METHODS_BY_ID = {}
for _line in _SPEC.strip().splitlines():
    _name, _class, _method, *_arguments = _line.split()
    _spec = MethodSpec(
        _name.rstrip("*"),
        int(_class),
        int(_method),
        tuple(tuple(a.split(":")) for a in _arguments),
        _name.endswith("*"),
    )
    METHODS[_spec.name] = _spec
    METHODS_BY_ID[_spec.class_id, _spec.method_id] = _spec

_PROPERTIES = (
    ("content_type", "shortstr"),
    ("content_encoding", "shortstr"),
    ("headers", "table"),
    ("delivery_mode", "octet"),
    ("priority", "octet"),
    ("correlation_id", "shortstr"),
    ("reply_to", "shortstr"),
    ("expiration", "shortstr"),
    ("message_id", "shortstr"),
    ("timestamp", "longlong"),
    ("type", "shortstr"),
    ("user_id", "shortstr"),
    ("app_id", "shortstr"),
    ("cluster_id", "shortstr"),
)
_STRUCTS = {"octet": ">B", "short": ">H", "long": ">I", "longlong": ">Q"}


class ClosedByPeer(Exception):
    """The broker closed or reset the socket."""


class Unexpected(AssertionError):
    """Something else came than the test named."""


@dataclass(frozen=True)
class Typed:
    """A field table value whose tag matters: `Typed(b"s", 5)` is a signed 16-bit integer."""

    tag: bytes
    value: object


_TABLE_NUMBERS = {
    b"b": ">b", b"B": ">B", b"s": ">h", b"u": ">H", b"I": ">i", b"i": ">I", b"l": ">q", b"L": ">q",
    b"f": ">f", b"d": ">d", b"T": ">Q",
}  # fmt: skip


def encode_value(value):
    """One field table value with its tag, in RabbitMQ's dialect."""
    if isinstance(value, Typed):
        tag, inner = value.tag, value.value
        if tag in _TABLE_NUMBERS:
            return tag + struct.pack(_TABLE_NUMBERS[tag], inner)
        if tag == b"t":
            return tag + bytes([inner])
        if tag == b"D":
            return tag + struct.pack(">BI", *inner)
        if tag in (b"S", b"x"):
            return tag + struct.pack(">I", len(inner)) + inner
        return tag + inner
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int):
        return b"I" + struct.pack(">i", value) if -(2**31) <= value < 2**31 else b"l" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"S" + struct.pack(">I", len(value)) + value
    if isinstance(value, dict):
        return b"F" + encode_table(value)
    if isinstance(value, (list, tuple)):
        items = b"".join(encode_value(v) for v in value)
        return b"A" + struct.pack(">I", len(items)) + items
    raise TypeError(value)


def encode_table(table):
    """A field table with its length."""
    if isinstance(table, bytes):  # already encoded, right or wrong
        return table
    fields = b"".join(shortstr(k) + encode_value(v) for k, v in table.items())
    return struct.pack(">I", len(fields)) + fields


def shortstr(text):
    """A short string; bytes are taken as they are."""
    raw = text.encode() if isinstance(text, str) else text
    return bytes([len(raw)]) + raw


def longstr(text):
    """A long string; bytes are taken as they are."""
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack(">I", len(raw)) + raw


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        piece = self.data[self.at : self.at + n]
        if len(piece) != n:
            raise Unexpected(f"a value is cut short: wanted {n} octets of {self.data[self.at:]!r}")
        self.at += n
        return piece

    def unpack(self, fmt):
        return struct.unpack(fmt, self.take(struct.calcsize(fmt)))[0]

    def shortstr(self):
        return self.take(self.unpack(">B")).decode("utf-8", "surrogateescape")

    def longstr(self):
        return self.take(self.unpack(">I"))

    def table(self):
        inner, result = _Reader(self.longstr()), {}
        while inner.at < len(inner.data):
            key = inner.shortstr()
            result[key] = inner.value()
        return result

    def value(self):
        tag = self.take(1)
        if tag in _TABLE_NUMBERS:
            return self.unpack(_TABLE_NUMBERS[tag])
        if tag == b"t":
            return self.unpack(">B") != 0
        if tag == b"D":
            return Typed(b"D", (self.unpack(">B"), self.unpack(">I")))
        if tag in (b"S", b"x"):
            raw = self.longstr()
            try:
                return raw.decode()
            except UnicodeDecodeError:
                return raw
        if tag == b"F":
            return self.table()
        if tag == b"A":
            inner, items = _Reader(self.longstr()), []
            while inner.at < len(inner.data):
                items.append(inner.value())
            return items
        if tag == b"V":
            return None
        raise Unexpected(f"unknown field table tag {tag!r}")


def encode_method(name, **given):
    """The payload of a method frame. Arguments that are not given are zero, empty or false."""
    spec = METHODS[name]
    out, bits = struct.pack(">HH", spec.class_id, spec.method_id), []

    def flush():
        nonlocal out, bits
        if bits:
            out += bytes([sum(1 << i for i, bit in enumerate(bits) if bit)])
            bits = []

    for argument, kind in spec.arguments:
        value = given.pop(argument, None)
        if kind == "bit":
            bits.append(bool(value))
            continue
        flush()
        if kind in _STRUCTS:
            out += struct.pack(_STRUCTS[kind], value or 0)
        elif kind == "shortstr":
            out += shortstr(value or "")
        elif kind == "longstr":
            out += longstr(value or "")
        else:
            out += encode_table(value or {})
    flush()
    assert not given, f"{name} has no argument {sorted(given)}"
    return out


def decode_method(payload):
    """(name, arguments) of a method frame's payload."""
    reader = _Reader(payload)
    ids = reader.unpack(">H"), reader.unpack(">H")
    if ids not in METHODS_BY_ID:
        raise Unexpected(f"unknown method {ids}")
    spec, arguments, bit = METHODS_BY_ID[ids], {}, 8
    octet = 0
    for argument, kind in spec.arguments:
        if kind == "bit":
            if bit == 8:
                octet, bit = reader.unpack(">B"), 0
            arguments[argument] = bool(octet & (1 << bit))
            bit += 1
            continue
        bit = 8
        if kind in _STRUCTS:
            arguments[argument] = reader.unpack(_STRUCTS[kind])
        else:
            arguments[argument] = getattr(reader, kind)()
    if reader.at != len(payload):
        raise Unexpected(f"{spec.name} has {len(payload) - reader.at} octets too many")
    return spec.name, arguments


def encode_properties(**properties):
    """Property flags and list of a content header."""
    flags, out = 0, b""
    for i, (name, kind) in enumerate(_PROPERTIES):
        if name not in properties:
            continue
        value = properties.pop(name)
        flags |= 1 << (15 - i)
        if kind in _STRUCTS:
            out += struct.pack(_STRUCTS[kind], value)
        else:
            out += shortstr(value) if kind == "shortstr" else encode_table(value)
    assert not properties, f"no property {sorted(properties)}"
    return struct.pack(">H", flags) + out


def decode_properties(raw):
    """The properties in a content header after the body size."""
    reader, result = _Reader(raw), {}
    flags = reader.unpack(">H")
    for i, (name, kind) in enumerate(_PROPERTIES):
        if flags & (1 << (15 - i)):
            result[name] = reader.unpack(_STRUCTS[kind]) if kind in _STRUCTS else getattr(reader, kind)()
    return result


@dataclass
class Content:
    """What follows `basic.publish`, `deliver`, `get-ok` and `return`."""

    size: int
    raw_properties: bytes
    body: bytes = b""
    body_frame_sizes: list = field(default_factory=list)
    parts: list = field(default_factory=list, repr=False, compare=False)

    @property
    def properties(self):
        return decode_properties(self.raw_properties)


@dataclass
class Method:
    """One received method, with its content where it has one."""

    channel: int
    name: str
    arguments: dict
    content: Content = None

    def __getattr__(self, item):
        try:
            return self.__dict__["arguments"][item]
        except KeyError:
            raise AttributeError(f"{self.__dict__.get('name')} has no argument {item}") from None

    @property
    def body(self):
        return self.content.body


def frame(kind, channel, payload, end=FRAME_END):
    """The bytes of one frame."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])


class Client:
    """One TCP connection. `login` does the handshake; without it the socket is as it was accepted."""

    def __init__(self, host, port, timeout_s=DEFAULT_TIMEOUT_S):
        self.timeout_s = timeout_s
        self.socket = socket.create_connection((host, port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.peer = (host, port)
        self.frame_max = 131072
        self.heartbeats_seen = 0
        self.largest_frame = 0
        self._buffer = bytearray()
        self._half = {}
        self.server_properties = self.tuned = None

    # Sending.

    def send_bytes(self, data):
        """Sends `data` as it is. A reset while sending is the broker's answer, found by the next read."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def send_frame(self, kind, channel, payload, end=FRAME_END):
        self.send_bytes(frame(kind, channel, payload, end))

    def send(self, channel, name, **arguments):
        """Sends one method and waits for nothing."""
        self.send_frame(FRAME_METHOD, channel, encode_method(name, **arguments))

    def publish_bytes(self, channel, exchange, routing_key, body=b"", *, mandatory=False, immediate=False,
                      raw_properties=None, frame_payload=None, **properties):  # fmt: skip
        """The frames of one publish, ready to be sent with others."""
        raw = encode_properties(**properties) if raw_properties is None else raw_properties
        method = encode_method(
            "basic.publish", exchange=exchange, routing_key=routing_key, mandatory=mandatory, immediate=immediate
        )
        header = struct.pack(">HHQ", 60, 0, len(body)) + raw
        out = [frame(FRAME_METHOD, channel, method), frame(FRAME_HEADER, channel, header)]
        step = frame_payload or self.frame_max - 8
        out += [frame(FRAME_BODY, channel, body[i : i + step]) for i in range(0, len(body), step)]
        return b"".join(out)

    def publish(self, channel, exchange, routing_key, body=b"", **options):
        """Sends method, header and as many body frames as needed."""
        self.send_bytes(self.publish_bytes(channel, exchange, routing_key, body, **options))

    # Receiving.

    def recv_frame(self, timeout_s=None):
        """The next frame of any kind as (type, channel, payload)."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        kind, channel, size = struct.unpack(">BHI", self._peek(7, deadline))
        whole = self._peek(7 + size + 1, deadline)
        del self._buffer[: len(whole)]
        if whole[-1] != FRAME_END:
            raise Unexpected(f"a frame of type {kind} does not end with 0xCE")
        self.largest_frame = max(self.largest_frame, len(whole))
        return kind, channel, whole[7:-1]

    def _peek(self, n, deadline):
        while len(self._buffer) < n:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing more came from {self.peer}; so far {bytes(self._buffer[:64])!r}")
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(262144)
            except ConnectionResetError:
                data = b""
            except socket.timeout:
                continue
            if not data:
                raise ClosedByPeer(f"{self.peer} closed the connection; rest {bytes(self._buffer[:64])!r}")
            self._buffer += data
        return bytes(self._buffer[:n])

    def recv(self, timeout_s=None):
        """The next complete method, with its content; heartbeats are only counted."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        while True:
            kind, channel, payload = self.recv_frame(max(0.0, deadline - time.monotonic()))
            if kind == FRAME_HEARTBEAT:
                assert (channel, payload) == (0, b""), "a heartbeat is empty and on channel 0"
                self.heartbeats_seen += 1
                continue
            done = self._assemble(kind, channel, payload)
            if done is not None:
                return done

    def _assemble(self, kind, channel, payload):
        half = self._half.get(channel)
        if kind == FRAME_METHOD:
            if half is not None:
                raise Unexpected(f"a method inside the content of {half.name} on channel {channel}")
            name, arguments = decode_method(payload)
            method = Method(channel, name, arguments)
            if METHODS[name].has_content:
                self._half[channel] = method
                return None
            return method
        if half is None:
            raise Unexpected(f"a frame of type {kind} on channel {channel} belongs to no method")
        if kind == FRAME_HEADER:
            class_id, weight, size = struct.unpack(">HHQ", payload[:12])
            assert (class_id, weight) == (60, 0), (class_id, weight)
            half.content = Content(size, payload[12:])
        else:
            half.content.parts.append(payload)
            half.content.body_frame_sizes.append(len(payload))
        come = sum(half.content.body_frame_sizes)
        if come < half.content.size:
            return None
        if come > half.content.size:
            raise Unexpected("a body is longer than its header says")
        # Joined once: bodies may have hundreds of mebibytes.
        half.content.body = b"".join(half.content.parts)
        half.content.parts.clear()
        del self._half[channel]
        return half

    def expect(self, name, channel=None, timeout_s=None, **arguments):
        """The next method, which must be `name` and carry these arguments."""
        got = self.recv(timeout_s)
        if got.name != name or (channel is not None and got.channel != channel):
            raise Unexpected(f"expected {name} on channel {channel}, got {got}")
        for argument, value in arguments.items():
            if got.arguments[argument] != value:
                raise Unexpected(f"{name}: expected {argument}={value!r}, got {got}")
        return got

    def call(self, channel, name, **arguments):
        """Sends a synchronous method and returns its answer, which must be the next method."""
        self.send(channel, name, **arguments)
        return self.expect(name + "-ok", channel)

    def expect_nothing_until(self, channel, what="nothing"):
        """Asserts that no method comes before the answer to a `basic.qos` sent now (a barrier)."""
        self.send(channel, "basic.qos", prefetch_count=0)
        got = self.recv()
        if got.name != "basic.qos-ok":
            raise Unexpected(f"expected {what}, got {got}")

    def expect_silence(self, seconds):
        """Asserts that nothing but heartbeats comes for a while. Only for what no barrier can show."""
        try:
            got = self.recv(timeout_s=seconds)
        except TimeoutError:
            return
        raise Unexpected(f"expected silence, got {got}")

    def expect_channel_close(self, channel, code, text, failed="", confirm=True):
        """The broker closes `channel` with exactly this code, text and failing method."""
        class_id, method_id = _ids(failed)
        got = self.expect(
            "channel.close", channel, reply_code=code, reply_text=text, class_id=class_id, method_id=method_id
        )
        if confirm:
            self.send(channel, "channel.close-ok")
        return got

    def expect_connection_close(self, code, text=None, failed=None):
        """The broker closes the connection with this code, and the socket after our close-ok."""
        wanted = {"reply_code": code}
        if text is not None:
            wanted["reply_text"] = text
        if failed is not None:
            wanted["class_id"], wanted["method_id"] = _ids(failed)
        got = self.expect("connection.close", 0, **wanted)
        self.send(0, "connection.close-ok")
        self.end()
        return got

    def expect_eof(self, timeout_s=None):
        """The broker closes the socket and sends nothing more."""
        try:
            got = self.recv_frame(timeout_s)
        except ClosedByPeer:
            if self._buffer:
                raise Unexpected(f"octets before the end: {bytes(self._buffer)!r}") from None
            return
        raise Unexpected(f"expected the end of the stream, got frame {got}")

    def read_to_eof(self, timeout_s=None):
        """All octets that still come."""
        deadline = time.monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        try:
            while True:
                self._peek(len(self._buffer) + 1, deadline)
        except ClosedByPeer:
            return bytes(self._buffer)

    # Steps of the handshake and other everyday things.

    def start(self):
        """Sends the protocol header and returns `connection.start`."""
        self.send_bytes(PROTOCOL_HEADER)
        started = self.expect("connection.start", 0)
        self.server_properties = started.server_properties
        return started

    def start_ok(self, user="guest", password="guest", mechanism="PLAIN", capabilities=None, response=None):
        default = {"authentication_failure_close": True, "consumer_cancel_notify": True, "basic.nack": True,
                   "publisher_confirms": True, "connection.blocked": True}  # fmt: skip
        if response is None:
            response = f"\0{user}\0{password}"
        self.send(
            0, "connection.start-ok", mechanism=mechanism, response=response, locale="en_US",
            client_properties={"product": "warren-kit",
                               "capabilities": default if capabilities is None else capabilities},
        )  # fmt: skip

    def login(self, user="guest", password="guest", vhost="/", heartbeat=0, frame_max=None, channel_max=None,
              capabilities=None):  # fmt: skip
        """The whole handshake; returns self."""
        self.start()
        self.start_ok(user, password, capabilities=capabilities)
        self.tuned = self.expect("connection.tune", 0)
        self.frame_max = self.tuned.frame_max if frame_max is None else frame_max
        self.channel_max = self.tuned.channel_max if channel_max is None else channel_max
        self.send(
            0, "connection.tune-ok", channel_max=self.channel_max, frame_max=self.frame_max, heartbeat=heartbeat
        )
        self.send(0, "connection.open", virtual_host=vhost)
        self.expect("connection.open-ok", 0)
        return self

    def channel(self, number=1):
        """Opens a channel and returns its number."""
        self.call(number, "channel.open")
        return number

    def confirm_channel(self, number=1):
        self.channel(number)
        self.call(number, "confirm.select")
        return number

    def declare(self, channel, queue="", **options):
        return self.call(channel, "queue.declare", queue=queue, **options)

    def ready(self, channel, queue):
        """How many messages are ready, by a passive declare."""
        return self.declare(channel, queue, passive=True).message_count

    def consume(self, channel, queue, tag="", **options):
        """Starts a consumer and returns its tag."""
        return self.call(channel, "basic.consume", queue=queue, consumer_tag=tag, **options).consumer_tag

    def get(self, channel, queue, no_ack=False):
        """`basic.get`: the get-ok with its content, or None when the queue is empty."""
        self.send(channel, "basic.get", queue=queue, no_ack=no_ack)
        got = self.recv()
        if got.name == "basic.get-empty":
            assert got.cluster_id == ""
            return None
        if got.name != "basic.get-ok":
            raise Unexpected(f"expected an answer to basic.get, got {got}")
        return got

    def get_all(self, channel, queue, no_ack=True):
        """Bodies of all that is ready, in order."""
        bodies = []
        while (got := self.get(channel, queue, no_ack)) is not None:
            bodies.append(got.body)
        return bodies

    def deliveries(self, count, channel=None):
        """The next `count` methods, all of which must be deliveries."""
        return [self.expect("basic.deliver", channel) for _ in range(count)]

    def publish_confirmed(self, channel, exchange, routing_key, *bodies, **options):
        """Publishes on a confirm channel and waits for as many acknowledgements."""
        self.send_bytes(b"".join(self.publish_bytes(channel, exchange, routing_key, b, **options) for b in bodies))
        confirmed, singles = 0, set()
        base = getattr(self, "_confirmed_base", {}).get(channel, 0)
        while confirmed + len(singles) < len(bodies):
            got = self.expect("basic.ack", channel)
            if got.multiple:
                confirmed = max(confirmed, got.delivery_tag - base)
                singles = {tag for tag in singles if tag > got.delivery_tag}
            else:
                singles.add(got.delivery_tag)
        self._confirmed_base = {**getattr(self, "_confirmed_base", {}), channel: base + len(bodies)}

    def close(self):
        """A clean end: close, close-ok, end of stream."""
        self.send(0, "connection.close", reply_code=200, reply_text="Goodbye")
        self.expect("connection.close-ok", 0)
        self.end()

    def end(self):
        """After close-ok: both sides may close the socket first, and nothing more may come."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.expect_eof()
        self.socket.close()

    def abort(self):
        """Closes the socket without a word."""
        self.socket.close()


def _ids(name):
    if not name:
        return 0, 0
    spec = METHODS[name]
    return spec.class_id, spec.method_id
