"""What the HTTP API lets whom do to whose things, and that definitions are taken over whole or not at all."""

import urllib.request

import pytest
from kit.http import http
from kit.wait import eventually


@pytest.fixture
def node(nodes):
    return nodes[0]


def may(node, place, configure=".*", write=".*", read=".*"):
    permission = {"configure": configure, "write": write, "read": read}
    assert http(node, "PUT", f"/permissions/{place}/{place}", permission)[0] == 204


def test_who_may_not_write_to_an_exchange_forwards_nothing_to_it(node, place):
    may(node, place, write="^mine", read=".*")
    user = f"{place}:p"
    forwards = {"arguments": {"x-dead-letter-exchange": "amq.direct"}}
    status, answer = http(node, "PUT", f"/queues/{place}/q", forwards, user)
    assert (status, answer["reason"]) == (401, "Access refused.")
    alternate = {"type": "fanout", "arguments": {"alternate-exchange": "amq.direct"}}
    assert http(node, "PUT", f"/exchanges/{place}/e", alternate, user)[0] == 401
    allowed = {"arguments": {"x-dead-letter-exchange": "mine"}}
    assert http(node, "PUT", f"/queues/{place}/q", allowed, user)[0] == 201


def test_permissions_may_look_around_over_http_too(node, place):
    may(node, place, *["^(?!secret).*"] * 3)
    user = f"{place}:p"
    assert http(node, "PUT", f"/queues/{place}/open", {}, user)[0] == 201
    assert http(node, "PUT", f"/queues/{place}/secret", {}, user)[0] == 401
    status, found = http(node, "GET", f"/queues/{place}?page=1&use_regex=true&name=%5E(?!s)", user=user)
    assert (status, [queue["name"] for queue in found["items"]]) == (200, ["open"])


def test_a_queue_of_one_connection_is_nobody_else_s(node, place, enter):
    client = enter()
    client.channel(1)
    client.declare(1, "own", exclusive=True)
    client.publish(1, "", "own", b"m")
    eventually(lambda: client.ready(1, "own") == 1, "the message is there")
    for method, path, body in [
        ("DELETE", f"/queues/{place}/own/contents", None), ("DELETE", f"/queues/{place}/own", None),
        ("POST", f"/bindings/{place}/e/amq.fanout/q/own", {}),
    ]:  # fmt: skip
        status, answer = http(node, method, path, body)
        text = f"cannot obtain exclusive access to locked queue 'own' in vhost '{place}'"
        assert (status, answer["reason"].startswith(text)) == (400, True), path
    assert client.get(1, "own", no_ack=True).body == b"m"


def test_a_stream_is_not_purged(node, place):
    stream = {"durable": True, "arguments": {"x-queue-type": "stream"}}
    assert http(node, "PUT", f"/queues/{place}/s", stream)[0] == 201
    status, answer = http(node, "DELETE", f"/queues/{place}/s/contents")
    assert (status, "queue.purge not supported by stream queues" in answer["reason"]) == (400, True)


def test_bindings_with_no_key_and_with_a_tilde_have_names_of_their_own(node, place):
    assert http(node, "PUT", f"/queues/{place}/q", {})[0] == 201
    for key in ("", "~"):
        path = f"/bindings/{place}/e/amq.direct/q/q"
        assert http(node, "POST", path, {"routing_key": key})[0] == 201
    names = {one["routing_key"]: one["properties_key"] for one in http(node, "GET", path)[1]}
    assert names == {"": "~", "~": "%7E"}
    assert http(node, "DELETE", f"{path}/%7E")[0] == 204
    assert [one["routing_key"] for one in http(node, "GET", path)[1]] == ["~"]


def test_what_is_asked_without_a_login(node):
    for check in ("is-in-service", "ready-to-serve-clients", "below-node-connection-limit", "reached-target-cluster-size"):
        url = f"http://127.0.0.1:{node.http_port}/api/health/checks/{check}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200, check


def test_policies_of_rabbitmq_3_are_taken_and_do_nothing(node, place, enter):
    mirrored = {"pattern": ".*", "definition": {"ha-mode": "exactly", "ha-params": 2, "max-length": 1}}
    assert http(node, "PUT", f"/policies/{place}/p", mirrored | {"priority": "5"})[0] == 201
    client = enter()
    client.channel(1)
    client.declare(1, "q", durable=True)
    for body in (b"1", b"2"):
        client.publish(1, "", "q", body)
    eventually(lambda: client.ready(1, "q") == 1, "the rest of the policy counts")
    status, answer = http(node, "PUT", f"/policies/{place}/p", {"pattern": "", "definition": {"ha-mode": "none"}})
    assert (status, "is not a valid mirroring mode" in answer["reason"]) == (400, True)


@pytest.mark.parametrize("definition", [
    {"delayed-retry-type": "all"}, {"delayed-retry-type": "all", "delayed-retry-min": 5, "delayed-retry-max": 1},
])  # fmt: skip
def test_a_policy_that_asks_for_no_or_a_contrary_rest_is_refused(node, place, definition):
    policy = {"pattern": ".*", "definition": definition}
    status, answer = http(node, "PUT", f"/policies/{place}/p", policy)
    assert (status, answer["reason"].startswith("Validation failed")) == (400, True)


BAD = [
    ({"permissions": [{"user": "nobody", "vhost": "PLACE", "configure": "", "write": "", "read": ""}]},
     "permissions: there is no user 'nobody'"),
    ({"exchanges": [{"name": "e", "vhost": "nowhere", "type": "direct"}]},
     "exchanges: there is no virtual host 'nowhere'"),
    ({"exchanges": [{"name": "e", "vhost": "PLACE", "type": "sideways"}]}, "exchanges: "),
    ({"queues": [{"name": "r", "vhost": "PLACE", "arguments": {"x-message-ttl": -1}}]}, "queues: invalid arg"),
    ({"policies": [{"name": "p", "vhost": "PLACE", "pattern": "(", "definition": {"max-length": 1}}]}, "policies: "),
    ({"policies": [{"name": "p", "vhost": "PLACE", "pattern": "", "definition": {"no-such": 1}}]}, "policies: "),
    ({"users": [{"name": "u", "password": "a", "password_hash": "b", "tags": ""}]},
     "both_password_and_password_hash_are_provided"),
]  # fmt: skip


def filled(value, place):
    if isinstance(value, dict):
        return {key: filled(inner, place) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, place) for inner in value]
    return place if value == "PLACE" else value


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_definitions_that_cannot_be_are_refused_whole(node, place, bad, reason):
    good = {"queues": [{"name": "good", "vhost": place, "durable": True, "auto_delete": False, "arguments": {}}]}
    document = filled(bad, place)
    both = {key: good.get(key, []) + document.get(key, []) for key in good | document}
    status, answer = http(node, "POST", "/definitions", both)
    assert (status, answer["reason"].startswith(reason)) == (400, True), answer
    assert http(node, "GET", f"/queues/{place}/good")[0] == 404


def test_definitions_keep_to_the_limit_of_queues(node, place):
    assert http(node, "PUT", f"/vhost-limits/{place}/max-queues", {"value": 2})[0] == 204
    queues = [{"name": f"q{number}", "vhost": place, "durable": True} for number in range(3)]
    status, answer = http(node, "POST", "/definitions", {"queues": queues})
    text = f'Adding 3 queue(s) to virtual host "{place}" would exceed the limit of 2 queue(s).'
    assert (status, answer["reason"].startswith(text)) == (400, True), answer
    assert http(node, "GET", f"/queues/{place}")[1] == []
    assert http(node, "POST", "/definitions", {"queues": queues[:2]})[0] == 204


def test_definitions_are_tried_without_being_done(node, place):
    document = {"queues": [{"name": "q", "vhost": place, "durable": True}]}
    assert http(node, "POST", "/definitions?dry_run=true", document) == (200, {"dry_run": True, "objects": 1})
    assert http(node, "GET", f"/queues/{place}/q")[0] == 404


def test_definitions_bring_passwords_and_tell_what_is_traced(node, place):
    users = {"users": [{"name": place, "password": "another", "tags": "management"}]}
    assert http(node, "POST", "/definitions", users)[0] == 204
    assert http(node, "GET", "/whoami", user=f"{place}:another")[0] == 200
    assert http(node, "PUT", f"/vhosts/{place}", {"tracing": True})[0] == 204
    told = next(one for one in http(node, "GET", "/definitions")[1]["vhosts"] if one["name"] == place)
    assert told["tracing"] is True
    assert http(node, "PUT", f"/vhosts/{place}", {"tracing": False})[0] == 204


def test_definitions_come_as_a_form_s_file_too(node, place):
    text = '{"queues": [{"name": "q", "vhost": "%s", "durable": true}]}' % place
    head = 'Content-Disposition: form-data; name="file"; filename="d.json"'
    body = f"--x\r\n{head}\r\nContent-Type: application/json\r\n\r\n{text}\r\n--x--\r\n".encode()
    url = f"http://127.0.0.1:{node.http_port}/api/definitions"
    request = urllib.request.Request(url, body, method="POST")
    request.add_header("Authorization", "Basic Z3Vlc3Q6Z3Vlc3Q=")
    request.add_header("Content-Type", "multipart/form-data; boundary=x")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 204
    assert http(node, "GET", f"/queues/{place}/q")[0] == 200


def test_a_global_parameter_that_is_not_exported_can_be_asked_for(node, name):
    path = f"/global-parameters/internal_{name()}"
    assert http(node, "PUT", path, {"value": 1})[0] == 201
    assert http(node, "GET", path)[1]["value"] == 1
    assert http(node, "DELETE", path)[0] == 204


def test_a_vhost_tells_how_many_messages_are_in_its_queues(node, place, enter):
    client = enter()
    client.channel(1)
    client.declare(1, "q", durable=True)
    for body in (b"1", b"2", b"3"):
        client.publish(1, "", "q", body)
    client.get(1, "q")

    def told():
        one = http(node, "GET", f"/vhosts/{place}")[1]
        all_of_them = next(one for one in http(node, "GET", "/vhosts")[1] if one["name"] == place)
        keys = ("messages", "messages_ready", "messages_unacknowledged")
        return [[vhost[key] for key in keys] for vhost in (one, all_of_them)] == [[3, 2, 1]] * 2

    eventually(told, "the counts of both")
