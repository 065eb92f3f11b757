"""AMQP and HTTP over TLS: who is let in, as whom, and that certificates are exchanged while the node runs."""

import json
import shutil
import signal
import socket
import ssl
import subprocess
import urllib.request

import pika
import pytest
from kit import amqp
from kit import cluster as clusters
from kit.certificates import Authority
from kit.wait import eventually

pytestmark = pytest.mark.limit(300)


class Secured:
    """One node with AMQPS and HTTPS, and the certificates around it."""

    def __init__(self, binary, directory):
        directory.mkdir(parents=True, exist_ok=True)
        self.ca = Authority(directory)
        self.certificate, self.key = self.ca.issue("server", "/CN=server", kind="rsa")
        self.cluster = clusters.Cluster(binary, directory / "nodes", size=1)
        self.node = self.cluster.nodes[0]
        self.port, self.https_port = clusters.free_port(), clusters.free_port()
        self.node.options = [
            "--amqps-listen", f"127.0.0.1:{self.port}", "--https-listen", f"127.0.0.1:{self.https_port}",
            "--tls-cert", str(self.certificate), "--tls-key", str(self.key), "--tls-ca", str(self.ca.path),
            "--tls-verify-peer", "true", "--tls-login-from", "distinguished_name",
            "--tls-handshake-timeout-ms", "2000",
        ]  # fmt: skip

    def context(self, client=None):
        context = ssl.create_default_context(cafile=str(self.ca.path))
        if client:
            context.load_cert_chain(*map(str, client))
        return context

    def connect(self, credentials=None, client=None, context=None):
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1", self.port, credentials=credentials or pika.PlainCredentials("guest", "guest"),
                ssl_options=pika.SSLOptions(context or self.context(client), "localhost"),
            )  # fmt: skip
        )

    def greeted(self, client=None):
        """A client with that certificate, and the `connection.start` that it got."""
        inside = amqp.Client("127.0.0.1", self.port)
        inside.socket = self.context(client).wrap_socket(inside.socket, server_hostname="localhost")
        inside.send_bytes(amqp.PROTOCOL_HEADER)
        return inside, inside.expect("connection.start", 0)

    def command(self, *arguments, ca=True, given=""):
        """`warren ...` against the HTTPS port."""
        command = [str(self.cluster.binary), *arguments, "--node", f"https://localhost:{self.https_port}"]
        command += ["--ca", str(self.ca.path)] if ca else []
        return subprocess.run(command, capture_output=True, text=True, timeout=60, input=given)


@pytest.fixture(scope="module")
def secured(request, tmp_path_factory):
    if request.config.getoption("--external"):
        pytest.skip("needs a node of our own with certificates of our own")
    made = Secured(request.getfixturevalue("binary"), tmp_path_factory.mktemp("tls"))
    with made.cluster:
        yield made


def test_a_message_goes_through_tls_and_comes_out_plain_and_the_reverse(secured):
    body = bytes(range(256)) * 4096
    with secured.connect() as inside:
        channel = inside.channel()
        channel.confirm_delivery()
        channel.queue_declare("tls")
        channel.basic_publish("", "tls", body)
        plain = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", secured.node.amqp_port))
        assert plain.channel().basic_get("tls", auto_ack=True)[2] == body
        plain.channel().basic_publish("", "tls", body)
        got = eventually(lambda: channel.basic_get("tls", auto_ack=True)[2], "the message")
        assert got == body
        plain.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_listings_say_what_a_connection_is_encrypted_with(secured, version):
    client = secured.ca.issue("listed", "/O=Example, Inc/CN=listed")
    context = secured.context(client)
    context.minimum_version = context.maximum_version = version
    with secured.connect(context=context):
        (listed,) = [c for c in secured.node.http("/api/connections") if c["port"] == secured.port]
        assert listed["ssl"] is True
        assert listed["ssl_protocol"] == {ssl.TLSVersion.TLSv1_2: "tlsv1.2"}.get(version, "tlsv1.3")
        assert listed["ssl_cipher"].startswith(("aes_", "chacha20")), listed
        assert listed["ssl_hash"].startswith("sha")
        assert listed["peer_cert_subject"] == "CN=listed,O=Example\\, Inc"
        assert listed["peer_cert_issuer"] == "CN=tests"


def test_external_logs_in_whom_the_certificate_names_and_nobody_else(secured):
    client = secured.ca.issue("ann", "/O=Example/CN=ann")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        secured.connect(pika.credentials.ExternalCredentials(), client)
    made = secured.command("users", "add", "CN=ann,O=Example", given="never used\n")
    assert made.returncode == 0, made.stderr
    made = secured.command("permissions", "set", "CN=ann,O=Example", "--configure", ".*", "--write", ".*", "--read", ".*")
    assert made.returncode == 0, made.stderr
    with secured.connect(pika.credentials.ExternalCredentials(), client) as connection:
        connection.channel().queue_declare("of-ann", exclusive=True)
        users = [c["user"] for c in secured.node.http("/api/connections")]
        assert "CN=ann,O=Example" in users
    without, _ = secured.greeted()
    without.start_ok(mechanism="EXTERNAL", response=b"")
    assert without.expect("connection.close", 0).reply_code == 403
    without.abort()
    assert "presented no TLS (x.509) certificate" in secured.node.log_path.read_text()


def test_external_is_offered_only_to_whom_it_lets_in(secured):
    """Some clients (amqpstorm) take it wherever it is offered, though they were given a password."""
    plain = amqp.Client(*secured.node.address)
    plain.send_bytes(amqp.PROTOCOL_HEADER)
    assert plain.expect("connection.start", 0).mechanisms == b"PLAIN AMQPLAIN"
    plain.abort()
    bob = secured.ca.issue("bob", "/CN=bob")
    for client in (None, bob):
        inside, start = secured.greeted(client)
        assert start.mechanisms == b"PLAIN AMQPLAIN"
        inside.abort()
    assert secured.command("users", "add", "CN=bob", given="never used\n").returncode == 0
    inside, start = secured.greeted(bob)
    assert start.mechanisms == b"PLAIN AMQPLAIN EXTERNAL"
    inside.abort()


def test_a_certificate_of_another_authority_is_refused(secured, tmp_path):
    stranger = Authority(tmp_path, "strangers").issue("mallory", "/CN=mallory")
    with pytest.raises((pika.exceptions.AMQPConnectionError, ssl.SSLError, OSError)):
        secured.connect(client=stranger)


def test_what_speaks_no_tls_or_says_nothing_is_closed_in_time(secured):
    silent = socket.create_connection(("127.0.0.1", secured.port))
    half = socket.create_connection(("127.0.0.1", secured.port))
    half.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    plain = socket.create_connection(("127.0.0.1", secured.port))
    plain.sendall(amqp.PROTOCOL_HEADER)
    web = socket.create_connection(("127.0.0.1", secured.https_port))
    web.sendall(b"GET / HTTP/1.1\r\n\r\n")
    for stranger in (plain, web, silent, half):
        stranger.settimeout(60)
        try:
            while stranger.recv(4096):
                pass
        except ConnectionResetError:
            pass
        stranger.close()
    with secured.connect():
        pass


def test_the_api_answers_over_https_and_the_commands_use_it(secured):
    request = urllib.request.Request(f"https://localhost:{secured.https_port}/api/overview")
    request.add_header("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
    with urllib.request.urlopen(request, context=secured.context(), timeout=30) as answer:
        assert json.load(answer)["node"] == "n1"
    assert secured.command("check", "ready").returncode == 0
    untrusted = secured.command("check", "ready", ca=False)
    assert untrusted.returncode == 7 and "certificate" in untrusted.stderr.lower(), untrusted.stderr


def test_new_certificates_are_used_without_a_restart(secured):
    def serial():
        pem = ssl.get_server_certificate(("127.0.0.1", secured.port))
        shown = subprocess.run(["openssl", "x509", "-noout", "-subject"], input=pem, capture_output=True, text=True)
        return shown.stdout.strip()

    with secured.connect() as before:
        secured.certificate.write_text("damaged\n")
        secured.node.process.send_signal(signal.SIGHUP)
        eventually(lambda: "stay as they were" in secured.node.log_path.read_text(), "the damage is said")
        assert serial().endswith("server")
        certificate, key = secured.ca.issue("renewed", "/CN=renewed")
        shutil.copy(key, secured.key)
        shutil.copy(certificate, secured.certificate)
        secured.node.process.send_signal(signal.SIGHUP)
        eventually(lambda: serial().endswith("renewed"), "the new certificate", timeout_s=30)
        before.channel().queue_declare("still-served", exclusive=True)
    with secured.connect():
        pass


def test_behind_a_load_balancer_the_client_is_whom_the_balancer_names(binary, tmp_path):
    cluster = clusters.Cluster(binary, tmp_path, size=1)
    node = cluster.nodes[0]
    node.options = ["--proxy-protocol", "true"]
    with cluster:
        client = amqp.Client(*node.address)
        client.send_bytes(b"PROXY TCP4 127.0.0.9 127.0.0.8 40000 5672\r\n")
        client.login()
        assert [c["name"] for c in node.http("/api/connections")] == ["127.0.0.9:40000 -> 127.0.0.8:5672"]
        far = amqp.Client(*node.address)
        far.send_bytes(b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 5672\r\n")
        with pytest.raises((amqp.ClosedByPeer, AssertionError)):
            far.login()  # guest, from another machine
        bare = amqp.Client(*node.address)
        bare.send_bytes(amqp.PROTOCOL_HEADER + bytes(8))
        assert bare.read_to_eof() == b""
        client.close()
