"""Frames that are wrong, floods and silence: each gets the code that the specification names, and others go on."""

import os
import socket
import struct

import pytest
from kit import amqp
from kit import cluster as clusters
from kit.wait import eventually


@pytest.fixture
def bystander(connect, name):
    """A connection that must keep working whatever others do; checked at the end of each test."""
    client = connect(0)
    client.channel(1)
    queue = name("bystander")
    client.declare(1, queue)
    yield client
    client.publish(1, "", queue, b"still here")
    assert eventually(lambda: client.get(1, queue, no_ack=True), "the bystander's message").body == b"still here"


@pytest.fixture
def victim(connect, bystander):
    """A logged-in connection with channel 1, to be ended by what it does. On the bystander's node."""
    client = connect(0)
    client.channel(1)
    return client


def test_a_frame_larger_than_negotiated_is_a_frame_error(raw, bystander):
    client = raw(0).login(frame_max=16384)
    client.send_bytes(b"\x01\x00\x01" + struct.pack(">I", 20000) + b"\0" * 20000 + b"\xce")
    client.expect_connection_close(
        501, "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,20000,16376}", ""
    )


def test_a_frame_size_of_4_gib_is_a_frame_error_before_its_payload_comes(victim):
    victim.send_bytes(b"\x03\x00\x01\xff\xff\xff\xff")
    victim.expect_connection_close(501)


def test_a_frame_that_does_not_end_with_ce_is_a_frame_error(victim):
    victim.send_frame(1, 0, b"abcd", end=0)
    victim.expect_connection_close(
        501, 'FRAME_ERROR - type 1, all octets = <<"abcd">>: {invalid_frame_end_marker,0}', ""
    )


def test_an_unknown_frame_type_is_a_frame_error(victim):
    victim.send_frame(7, 1, b"abc")
    victim.expect_connection_close(501)


def test_an_unknown_method_ends_the_connection(victim, broker):
    victim.send_frame(1, 1, struct.pack(">HH", 60, 999))
    if broker.reference:  # its connection process crashes
        victim.expect_eof()
        return
    assert victim.expect("connection.close", 0).reply_code in (503, 540)
    victim.send(0, "connection.close-ok")
    victim.end()


def test_an_unknown_class_ends_the_connection(victim, broker):
    victim.send_frame(1, 1, struct.pack(">HH", 4711, 10))
    if broker.reference:
        victim.expect_eof()
        return
    assert victim.expect("connection.close", 0).reply_code in (503, 540)
    victim.send(0, "connection.close-ok")
    victim.end()


def test_a_method_only_servers_send_is_refused(victim):
    victim.send(1, "basic.get-empty")
    victim.expect_connection_close(503, "COMMAND_INVALID - unimplemented method", "basic.get-empty")


def test_arguments_cut_short_are_a_frame_error(victim):
    victim.send_frame(1, 1, struct.pack(">HHH", 50, 10, 0) + b"\x20only-a-part")
    victim.expect_connection_close(501, failed="queue.declare")


def test_a_method_frame_too_short_for_its_ids_ends_the_connection(victim):
    victim.send_frame(1, 1, b"\x00\x3c")
    _ends(victim)


def test_an_unknown_tag_in_a_table_ends_only_that_connection(victim, broker):
    table = amqp.longstr(amqp.shortstr("k") + b"Z1234")
    victim.send_frame(1, 1, struct.pack(">HHH", 50, 10, 0) + amqp.shortstr("q") + b"\0" + table)
    if broker.reference:
        _ends(victim)
        return
    assert victim.expect("connection.close", 0).reply_code in (501, 502)
    victim.send(0, "connection.close-ok")
    victim.end()


def test_a_deeply_nested_table_ends_no_other_connection(victim):
    value = b"V"
    for _ in range(10_000):
        value = b"A" + amqp.longstr(value)
    victim.send_frame(1, 1, struct.pack(">HHH", 50, 10, 0) + amqp.shortstr("") + b"\0"
                      + amqp.longstr(amqp.shortstr("k") + value))  # fmt: skip
    try:
        got = victim.recv()
        assert got.name in ("queue.declare-ok", "connection.close"), got
    except amqp.ClosedByPeer:
        pass


def test_a_name_that_is_not_utf_8_is_a_frame_error(victim, broker):
    if broker.reference:
        pytest.skip("RabbitMQ 3.10 does not check; 4.x and we do")
    victim.send(1, "queue.declare", queue=b"\xff\xfe")
    victim.expect_connection_close(501)


def test_a_heartbeat_on_another_channel_is_an_unexpected_frame(victim):
    victim.send_frame(8, 1, b"")
    victim.expect_connection_close(505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", "")


def test_a_heartbeat_with_a_payload_is_a_frame_error(victim):
    victim.send_frame(8, 0, b"x")
    victim.expect_connection_close(501)


def test_a_content_frame_on_channel_0_is_unexpected(victim):
    victim.send_frame(3, 0, b"abc")
    victim.expect_connection_close(505)


def test_a_channel_method_on_channel_0_is_a_channel_error(victim):
    victim.send(0, "queue.declare", queue="q")
    victim.expect_connection_close(504)


@pytest.mark.parametrize(
    "frames, text, failed",
    [
        ([(2, struct.pack(">HHQH", 60, 0, 1, 0))], "expected method frame, got non method frame instead", ""),
        ([(3, b"x")], "expected method frame, got non method frame instead", ""),
        (["publish", (3, b"x")],
         "expected content header for class 60, got non content header frame instead", "basic.publish"),
        (["publish", (2, struct.pack(">HHQH", 50, 0, 1, 0))],
         "expected content header for class 60, got one for class 50 instead", "basic.publish"),
        (["publish", (1, amqp.encode_method("basic.qos"))],
         "expected content header for class 60, got non content header frame instead", "basic.publish"),
        (["publish", (2, struct.pack(">HHQH", 60, 0, 5, 0)), (1, amqp.encode_method("basic.qos"))],
         "expected content body, got non content body frame instead", "basic.publish"),
        (["publish", (2, struct.pack(">HHQH", 60, 0, 5, 0)), (2, struct.pack(">HHQH", 60, 0, 5, 0))],
         "expected content body, got non content body frame instead", "basic.publish"),
    ],
)  # fmt: skip
def test_a_frame_out_of_sequence_is_unexpected(victim, frames, text, failed):
    for one in frames:
        if one == "publish":
            victim.send(1, "basic.publish", routing_key="q")
        else:
            victim.send_frame(one[0], 1, one[1])
    victim.expect_connection_close(505, f"UNEXPECTED_FRAME - {text}", failed)


def test_a_body_longer_than_announced_is_a_frame_error(victim, broker):
    if broker.reference:
        pytest.skip("RabbitMQ 3.10 hangs; 4.x and we answer 501")
    victim.send(1, "basic.publish", routing_key="q")
    victim.send_frame(2, 1, struct.pack(">HHQH", 60, 0, 3, 0))
    victim.send_frame(3, 1, b"toolong")
    victim.expect_connection_close(501)


def test_a_body_announced_with_more_than_512_mib_is_refused(victim, broker):
    victim.send(1, "basic.publish", routing_key="q")
    victim.send_frame(2, 1, struct.pack(">HHQH", 60, 0, 1 << 60, 0))
    if broker.reference:
        pytest.skip("RabbitMQ 3.10 waits for the body")
    victim.expect_connection_close(501)


def test_a_channel_that_is_not_open_is_an_error_of_the_connection(victim):
    victim.send(5, "queue.declare", queue="q")
    victim.expect_connection_close(504, "CHANNEL_ERROR - expected 'channel.open'", "queue.declare")


def test_a_publish_on_a_channel_that_was_closed_is_an_error_of_the_connection(victim):
    victim.call(1, "channel.close", reply_code=200)
    victim.publish(1, "", "q", b"m")
    victim.expect_connection_close(504, "CHANNEL_ERROR - expected 'channel.open'", "basic.publish")


def test_a_second_open_of_a_channel_is_an_error_of_the_connection(victim):
    victim.send(1, "channel.open")
    victim.expect_connection_close(504, "CHANNEL_ERROR - second 'channel.open' seen", "channel.open")


def test_random_octets_instead_of_a_header_end_in_silence(raw, bystander):
    for size in (8, 9, 100, 5000):
        client = raw(0)
        client.send_bytes(b"\x01" + os.urandom(size - 1))
        assert client.read_to_eof() in (amqp.PROTOCOL_HEADER, b"")


def test_random_octets_after_the_login_end_the_connection(raw, bystander):
    for _ in range(10):
        client = raw(0).login()
        client.send_bytes(bytes([os.urandom(1)[0] | 0x10]) + os.urandom(2000))
        _ends(client)


def test_random_method_payloads_harm_nobody_else(raw, bystander):
    for class_id, method_id in ((50, 10), (40, 10), (60, 20), (60, 80), (60, 10), (50, 20), (90, 10), (10, 50)):
        client = raw(0).login()
        client.channel(1)
        client.send_frame(1, 1, struct.pack(">HH", class_id, method_id) + os.urandom(40))
        client.abort()


def test_a_port_scanner_that_connects_and_closes_harms_nobody(raw, bystander):
    for _ in range(50):
        raw(0).abort()


def test_a_client_that_vanishes_inside_a_frame_harms_nobody(raw, bystander):
    client = raw(0).login()
    client.channel(1)
    client.send_bytes(client.publish_bytes(1, "", "q", b"x" * 1000)[:500])
    client.abort()


def test_silence_before_the_login_is_over_ends_after_the_handshake_timeout(raw, bystander):
    """All stages at once, since each waits for the 10 s."""
    nothing, half_a_header, half_a_frame, after_start, after_tune = (raw(0) for _ in range(5))
    half_a_header.send_bytes(amqp.PROTOCOL_HEADER[:5])
    after_start.start()
    half_a_frame.start()
    half_a_frame.send_bytes(b"\x01\x00\x00\x00\x00\x01\x00" + b"abc")
    after_tune.start()
    after_tune.start_ok()
    after_tune.expect("connection.tune", 0)
    for client in (nothing, half_a_header, half_a_frame, after_start, after_tune):
        client.read_to_eof(timeout_s=40)


def test_octets_that_trickle_in_do_not_extend_the_handshake(raw, bystander):
    client = raw(0)
    client.start()
    client.send_bytes(b"\x01\x00\x00\x00\x00\x10\x00")
    for _ in range(60):
        client.send_bytes(b"\x00")
        try:
            client.recv_frame(timeout_s=0.5)
        except TimeoutError:
            continue
        except amqp.ClosedByPeer:
            return
    raise AssertionError("a client that sends one octet each half second is still there after 30 s")


def test_a_table_nested_as_deep_as_a_frame_allows_ends_no_other_connection(raw, bystander):
    """Arrays in arrays, as many as one frame holds."""
    client = raw(0).login()
    client.channel(1)
    depth = (client.frame_max - 64) // 5
    levels = [b"A" + struct.pack(">I", 5 * (depth - 1 - level)) for level in range(depth)]
    table = amqp.shortstr("k") + b"".join(levels)
    arguments = struct.pack(">HHH", 50, 10, 0) + amqp.shortstr("") + b"\0" + amqp.longstr(table)
    client.send_frame(1, 1, arguments)
    _ends_or_goes_on(client)


def test_tables_with_very_many_entries_are_read_or_refused(raw, bystander):
    client = raw(0).login()
    client.channel(1)
    entries = b"".join(amqp.shortstr(f"{n:05}") + b"V" for n in range(17_000))
    client.send_frame(1, 1, struct.pack(">HHH", 50, 10, 0) + amqp.shortstr("") + b"\0" + amqp.longstr(entries))
    _ends_or_goes_on(client)


def test_a_tls_hello_on_the_plain_port_is_answered_as_any_wrong_header(raw, bystander):
    client = raw(0)
    client.send_bytes(bytes.fromhex("16030100c8010000c40303") + os.urandom(200))
    assert client.read_to_eof() in (amqp.PROTOCOL_HEADER, b"")


@pytest.mark.limit(300)
def test_ten_thousand_connects_in_a_row_harm_nobody(raw, bystander, own_broker):
    node = own_broker.cluster.nodes[0]
    before = node.resident_bytes()
    for _ in range(10_000):
        raw_socket = socket.create_connection(node.address)
        raw_socket.close()
    for _ in range(300):
        raw(0).login().abort()
    eventually(lambda: len(node.http("/api/connections")) < 50, "they are gone", timeout_s=60)
    assert node.resident_bytes() < before + 150 * 1024 * 1024


def test_channels_opened_and_closed_without_end_harm_nobody(raw, bystander):
    client = raw(0).login()
    for _ in range(50):
        opened = b"".join(
            amqp.frame(1, number, amqp.encode_method("channel.open")) for number in range(1, 201)
        )
        closed = b"".join(
            amqp.frame(1, number, amqp.encode_method("channel.close", reply_code=200)) for number in range(1, 201)
        )
        client.send_bytes(opened + closed)
        for name in ("channel.open-ok", "channel.close-ok"):
            for number in range(1, 201):
                client.expect(name, number)
    client.close()


@pytest.mark.limit(300)
def test_with_few_descriptors_those_who_are_in_are_served_and_others_come_in_when_some_leave(binary, tmp_path):
    cluster = clusters.Cluster(binary, tmp_path, size=1)
    node = cluster.nodes[0]
    node.files_max = 256
    with cluster:
        client = amqp.Client(*node.address).login()
        client.channel(1)
        client.declare(1, "few", durable=True)
        client.call(1, "confirm.select")
        crowd = [socket.create_connection(node.address) for _ in range(600)]
        for _ in range(20):
            client.publish(1, "", "few", b"x" * 1000)
            client.expect("basic.ack", 1)
        for one in crowd:
            one.close()

        def comes_in():
            late = amqp.Client(*node.address)
            try:
                late.login().close()
            except amqp.ClosedByPeer:
                return False
            return True

        eventually(comes_in, "a client comes in again", timeout_s=60)
        assert node.running
        log = node.log_path.read_text()
        assert log.count("connection refused") + log.count("cannot accept") < 20, log[-3000:]


def _ends_or_goes_on(client):
    try:
        got = client.recv()
        assert got.name in ("queue.declare-ok", "connection.close", "channel.close"), got
    except amqp.ClosedByPeer:
        pass


def _ends(client):
    """With a Close or without one, the connection ends."""
    try:
        got = client.recv()
        assert got.name == "connection.close", got
        client.send(0, "connection.close-ok")
        client.read_to_eof()
    except amqp.ClosedByPeer:
        pass
