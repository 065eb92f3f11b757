"""Protocol header, login, tune and open."""

import pytest
from kit import amqp

NINE_CAPABILITIES = {
    "publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify", "connection.blocked",
    "consumer_priorities", "authentication_failure_close", "per_consumer_qos", "direct_reply_to",
}  # fmt: skip
REFUSED = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
    "For details see the broker logfile."
)


def test_the_start_names_version_mechanisms_locale_and_capabilities(raw):
    started = raw().start()
    assert (started.version_major, started.version_minor) == (0, 9)
    assert {b"PLAIN", b"AMQPLAIN"} <= set(started.mechanisms.split(b" "))
    assert started.locales == b"en_US"
    capabilities = started.server_properties["capabilities"]
    assert set(capabilities) == NINE_CAPABILITIES
    assert all(value is True for value in capabilities.values())
    # Clients read from these what they can count on.
    assert started.server_properties["product"] == "RabbitMQ"
    assert all(part.isdigit() for part in started.server_properties["version"].split("."))


@pytest.mark.parametrize(
    "header",
    [b"AMQP\x00\x01\x00\x00", b"AMQP\x03\x01\x00\x00", b"AMQP\x00\x00\x0a\x00", b"GET / HT", b"\x16\x03\x01\x02\x00\x01\x00\x01",
     b"AMQP\x09\x09\x09\x09", b"\x00" * 8],
)  # fmt: skip
def test_a_wrong_protocol_header_is_answered_with_ours_and_the_end(raw, header):
    client = raw()
    client.send_bytes(header)
    # Before we close: some clients wait for the end first.
    assert client.read_to_eof(timeout_s=3) == amqp.PROTOCOL_HEADER


def test_the_old_header_of_0_8_is_refused(raw, broker):
    if broker.reference:
        pytest.skip("RabbitMQ 3.10 still accepted 0-8; 4.x and we refuse it")
    client = raw()
    client.send_bytes(b"AMQP\x01\x01\x08\x00")
    assert client.read_to_eof() == amqp.PROTOCOL_HEADER


def test_the_old_header_of_0_9_is_served(raw):
    client = raw()
    client.send_bytes(b"AMQP\x01\x01\x00\x09")
    client.expect("connection.start", 0)


def test_a_header_may_come_octet_by_octet(raw):
    client = raw()
    for i in range(8):
        client.send_bytes(amqp.PROTOCOL_HEADER[i : i + 1])
    client.expect("connection.start", 0)


def test_a_login_by_plain_is_accepted(connect):
    connect().close()


def test_a_login_by_amqplain_is_accepted(raw):
    client = raw()
    client.start()
    table = amqp.encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
    client.start_ok(mechanism="AMQPLAIN", response=table)
    client.expect("connection.tune", 0)


def test_a_wrong_password_is_told_to_clients_that_can_hear_it(raw):
    client = raw()
    client.start()
    client.start_ok(password="wrong")
    client.expect_connection_close(403, REFUSED, "")


def test_an_unknown_user_is_refused_like_a_wrong_password(raw):
    client = raw()
    client.start()
    client.start_ok(user="nobody-of-that-name")
    client.expect_connection_close(403, REFUSED, "")


def test_a_wrong_password_closes_the_socket_of_clients_without_the_capability(raw):
    client = raw()
    client.start()
    client.start_ok(password="wrong", capabilities={})
    client.expect_eof()


@pytest.mark.parametrize("response", [b"", b"guest", b"\0guest", b"admin\0guest\0guest", b"\0\0\0\0\0"])
def test_a_malformed_plain_response_ends_the_connection(raw, response):
    client = raw()
    client.start()
    client.start_ok(response=response)
    _ends_without_tune(client)


def test_an_unknown_mechanism_ends_the_connection(raw):
    client = raw()
    client.start()
    client.start_ok(mechanism="NO-SUCH", response=b"")
    _ends_without_tune(client)


def _ends_without_tune(client):
    """RabbitMQ drops the socket after 3 s; a Close before it is as good."""
    try:
        got = client.recv()
    except amqp.ClosedByPeer:
        return
    assert got.name == "connection.close", got
    client.send(0, "connection.close-ok")
    client.expect_eof()


def test_the_tune_offers_2047_channels_128_kib_frames_and_a_heartbeat_of_60(connect):
    tuned = connect().tuned
    assert (tuned.channel_max, tuned.frame_max, tuned.heartbeat) == (2047, 131072, 60)


@pytest.mark.parametrize(
    "channel_max, frame_max, text",
    [
        (4000, 131072, "negotiated channel_max = 4000 is higher than the maximum allowed value (2047)"),
        (0, 131072, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
        (2047, 200000, "negotiated frame_max = 200000 is higher than the maximum allowed value (131072)"),
        (2047, 4095, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ],
)
def test_a_tune_ok_out_of_bounds_is_refused(raw, broker, channel_max, frame_max, text):
    client = raw()
    client.start()
    client.start_ok()
    client.expect("connection.tune", 0)
    client.send(0, "connection.tune-ok", channel_max=channel_max, frame_max=frame_max, heartbeat=0)
    if broker.reference:  # 3.10 drops the socket without a word
        client.send(0, "connection.open", virtual_host="/")
        client.expect_eof()
        return
    client.expect_connection_close(530, f"NOT_ALLOWED - {text}", "connection.tune")


def test_an_unknown_vhost_is_refused(raw):
    client = raw()
    client.start()
    client.start_ok()
    client.expect("connection.tune", 0)
    client.send(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
    client.send(0, "connection.open", virtual_host="no-such-vhost")
    client.expect_connection_close(530, "NOT_ALLOWED - vhost no-such-vhost not found", "connection.open")


def test_tune_ok_and_open_may_come_in_one_segment_with_what_follows(raw, name):
    client = raw()
    client.start()
    client.start_ok()
    client.expect("connection.tune", 0)
    queue = name()
    m = amqp.encode_method
    frames = [
        (0, m("connection.tune-ok", channel_max=100, frame_max=131072, heartbeat=0)),
        (0, m("connection.open", virtual_host="/")),
        (1, m("channel.open")),
        (1, m("queue.declare", queue=queue)),
    ]
    pipelined = b"".join(amqp.frame(1, channel, payload) for channel, payload in frames)
    pipelined += client.publish_bytes(1, "", queue, b"early")
    pipelined += amqp.frame(1, 1, m("basic.get", queue=queue, no_ack=True))
    client.send_bytes(pipelined)
    for expected in ("connection.open-ok", "channel.open-ok", "queue.declare-ok"):
        client.expect(expected)
    assert client.expect("basic.get-ok", 1).body == b"early"


def test_a_method_before_its_turn_ends_the_handshake(raw):
    client = raw()
    client.start()
    client.send(0, "connection.open", virtual_host="/")
    _ends_without_tune(client)


def test_a_new_secret_is_accepted(connect):
    connect().call(0, "connection.update-secret", new_secret=b"guest", reason="renewed")


def test_the_first_frame_of_a_client_has_at_most_8_kib(raw, broker):
    client = raw()
    client.start()
    client.send_bytes(b"\x01\x00\x00" + (1 << 20).to_bytes(4, "big") + b"x" * 65536)
    _ends_without_tune(client)


def test_a_large_start_ok_within_a_frame_of_4_kib_is_accepted(raw):
    client = raw()
    client.start()
    client.send(
        0, "connection.start-ok", mechanism="PLAIN", response=b"\0guest\0guest", locale="en_US",
        client_properties={"product": "x" * 3000, "list": [1, 2.5, None, {"deep": [True]}]},
    )  # fmt: skip
    client.expect("connection.tune", 0)


@pytest.mark.parametrize("method, arguments", [
    ("connection.close-ok", {}), ("connection.tune-ok", {"channel_max": 9, "frame_max": 8192}), ("connection.close", {"reply_code": 200}),
])  # fmt: skip
def test_what_does_not_belong_before_open_is_told(raw, method, arguments):
    client = raw()
    client.start()
    client.start_ok()
    client.expect("connection.tune", 0)
    client.send(0, "connection.tune-ok", channel_max=9, frame_max=131072)
    client.send(0, method, **arguments)
    client.expect_connection_close(504, "CHANNEL_ERROR - unexpected method in connection state opening", method)


def test_a_channel_before_open_is_unexpected(raw):
    client = raw()
    client.start()
    client.start_ok()
    client.expect("connection.tune", 0)
    client.send(0, "connection.tune-ok", channel_max=9, frame_max=131072)
    client.send(1, "channel.open")
    client.expect_connection_close(505, "UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>")
