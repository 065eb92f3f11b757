"""The HTTP API and the metrics under those who mean it no good."""

import base64
import json
import time
import urllib.error
import urllib.request

import pytest
from flood import MIB, closing, connect, login, together

pytestmark = pytest.mark.limit(600)
AUTHORIZATION = "Basic " + base64.b64encode(b"guest:guest").decode()


def send(node, method, path, body=None, authorization=AUTHORIZATION, timeout_s=60):
    """The status, or None when the connection ended without one."""
    request = urllib.request.Request(f"http://127.0.0.1:{node.http_port}{path}", data=body, method=method)
    if authorization:
        request.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def test_slow_requests(lab):
    """Heads and bodies that trickle. They hold the places of a listener; AMQP has others."""
    node = lab.nodes[0]
    head = b"POST /api/definitions HTTP/1.1\r\nhost: x\r\nauthorization: " + AUTHORIZATION.encode() + b"\r\ncontent-length: 9999999\r\n\r\n"
    with lab.watch(grows_mib=80), closing([connect(node.http_port) for _ in range(500)]) as sockets:
        deadline = time.monotonic() + lab.size(6, 45)
        while time.monotonic() < deadline:
            for number, one in enumerate(sockets):
                try:
                    one.sendall(head if number % 2 and not getattr(one, "_sent", False) else b"x")
                except OSError:
                    pass
            time.sleep(1)
    # As soon as they are gone the API answers again.
    assert send(node, "GET", "/api/overview") == 200


def test_more_connections_than_are_taken(lab):
    node = lab.nodes[0]
    with lab.watch(grows_mib=60), closing([]) as sockets:
        for _ in range(1500):
            try:
                sockets.append(connect(node.http_port, timeout_s=0.2))
            except OSError:
                # The system holds so many for a listener, and no more.
                break
        time.sleep(lab.size(2, 10))
    assert send(node, "GET", "/api/overview") == 200


def test_bodies_that_are_too_large(lab):
    """Without credentials nothing of it is read; with them not more than is allowed."""
    body = b'{"a":"' + b"x" * (64 * MIB) + b'"}'
    node = lab.nodes[0]
    with lab.watch(grows_mib=500, left_mib=200):
        statuses = together(
            *[lambda a=a, p=p: send(node, "POST", p, body, a) for a in (None, AUTHORIZATION)
              for p in ("/api/definitions", "/api/exchanges/%2f/amq.default/publish") for _ in range(4)]
        )  # fmt: skip
        assert not any(status and status < 400 for status in statuses), statuses


def test_documents_nested_deeply_or_with_very_many_members(lab):
    node = lab.nodes[0]
    documents = [
        b"[" * 1_000_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b"}",
        json.dumps({"arguments": {"x": [[]] * 100_000}}).encode(),
        b'{"a":1e999999999}', b"\xff" * 100_000,
    ]  # fmt: skip
    with lab.watch(grows_mib=300):
        for document in documents * lab.size(2, 10):
            for path in ("/api/queues/%2f/json", "/api/definitions", "/api/exchanges/%2f/amq.default/publish"):
                status = send(node, "PUT" if "queues" in path else "POST", path, document)
                assert status is None or 200 <= status < 500, (status, document[:20])
        send(node, "DELETE", "/api/queues/%2f/json")


def test_a_very_large_set_of_definitions(lab):
    node = lab.nodes[0]
    count = lab.size(1500, 20_000)
    queues = [{"name": f"import-{n}", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}} for n in range(count)]
    bindings = [
        {"source": "amq.topic", "vhost": "/", "destination": q["name"], "destination_type": "queue",
         "routing_key": f"{q['name']}.#", "arguments": {}} for q in queues
    ]  # fmt: skip
    document = json.dumps({"queues": queues, "bindings": bindings}).encode()
    with lab.watch(grows_mib=lab.size(250, 1000), what=f"{count} queues"):
        assert send(node, "POST", "/api/definitions", document, timeout_s=500) in (200, 204)
        assert send(node, "GET", "/api/definitions") == 200
        with closing([login(node)]) as (client,):
            for queue in queues:
                client.call(1, "queue.delete", queue=queue["name"])


def test_listings_asked_for_without_end(lab):
    paths = ("/api/overview", "/api/queues", "/api/connections", "/api/channels", "/api/definitions", "/api/bindings")
    deadline = time.monotonic() + lab.size(4, 30)

    def ask(node, path, authorization):
        while time.monotonic() < deadline:
            send(node, "GET", path, authorization=authorization)

    with lab.watch(grows_mib=200):
        tasks = [lambda n=n, p=p: ask(n, p, AUTHORIZATION) for n in lab.nodes for p in paths]
        tasks += [lambda n=n: ask(n, "/api/overview", "Basic " + base64.b64encode(b"guest:wrong").decode()) for n in lab.nodes]
        together(*tasks)


def test_answers_that_nobody_reads(lab):
    """Pipelined requests for large answers."""
    node = lab.nodes[0]
    request = b"GET /api/definitions HTTP/1.1\r\nhost: x\r\nauthorization: " + AUTHORIZATION.encode() + b"\r\n\r\n"
    with lab.watch(grows_mib=200), closing([connect(node.http_port) for _ in range(100)]) as sockets:
        for one in sockets:
            one.settimeout(0.2)
            try:
                one.sendall(request * 2000)
            except OSError:
                pass
        time.sleep(lab.size(3, 30))
