"""What operators say, over HTTP at one node, and what clients of the others see of it."""

import json
import subprocess
import urllib.parse

from kit import amqp
from kit.http import http
from kit.wait import eventually


def quoted(text):
    return urllib.parse.quote(text, "")


def refused(client, place):
    """Logs in up to `connection.open`, which must be refused."""
    client.start()
    client.start_ok(place, "p")
    tuned = client.expect("connection.tune", 0)
    client.send(0, "connection.tune-ok", channel_max=tuned.channel_max, frame_max=tuned.frame_max, heartbeat=0)
    client.send(0, "connection.open", virtual_host=place)
    return client


def test_connections_of_a_vhost_are_limited_over_all_nodes(nodes, place, enter, raw):
    first = enter(0)
    assert http(nodes[1], "PUT", f"/vhost-limits/{place}/max-connections", {"value": 2})[0] == 204
    eventually(lambda: http(nodes[2], "GET", f"/vhost-limits/{place}")[1], "the limit is known")
    second = enter(1)
    text = f"NOT_ALLOWED - access to vhost '{place}' refused for user '{place}': connection limit (2) is reached"
    refused(raw(2), place).expect_connection_close(530, text, "connection.open")
    first.close()
    third = eventually(lambda: try_to(lambda: enter(2)), "there is room again")
    assert http(nodes[1], "DELETE", f"/vhost-limits/{place}/max-connections")[0] == 204
    for client in (second, third):
        client.close()


def try_to(make):
    try:
        return make()
    except amqp.Unexpected:
        return None


def test_connections_and_channels_of_a_user_are_limited(nodes, place, enter, raw):
    assert http(nodes[0], "PUT", f"/user-limits/{place}/max-channels", {"value": 2})[0] == 204
    eventually(lambda: http(nodes[1], "GET", f"/user-limits/{place}")[1], "the limit is known")
    client = enter(1)
    client.channel(1)
    client.channel(2)
    client.send(3, "channel.open")
    text = f"number of channels opened for user '{place}' has reached the maximum allowed user limit of (2)"
    client.expect_connection_close(530, f"NOT_ALLOWED - {text}")
    assert http(nodes[0], "PUT", f"/user-limits/{place}/max-connections", {"value": 0})[0] == 204
    eventually(lambda: len(http(nodes[1], "GET", f"/user-limits/{place}")[1][0]["value"]) == 2, "the limit is known")
    text = f"NOT_ALLOWED - connection refused for user '{place}': user connection limit (0) is reached"
    refused(raw(1), place).expect_connection_close(530, text, "connection.open")


def test_queues_of_a_vhost_are_limited(nodes, place, enter):
    assert http(nodes[0], "PUT", f"/vhost-limits/{place}/max-queues", {"value": 1})[0] == 204
    client = enter(1)
    client.channel(1)
    client.declare(1, "one", durable=True)
    client.declare(1, "one", durable=True)
    client.send(1, "queue.declare", queue="two")
    text = f"cannot declare queue 'two': queue limit in vhost '{place}' (1) is reached"
    client.expect_channel_close(1, 406, f"PRECONDITION_FAILED - {text}", "queue.declare")
    status, answer = http(nodes[2], "PUT", f"/queues/{place}/two", {})
    assert (status, answer["reason"]) == (400, text)


def test_a_default_queue_type_is_stored_with_the_queue(nodes, place, enter):
    assert http(nodes[0], "PUT", f"/vhosts/{place}", {"default_queue_type": "quorum"})[0] == 204
    client = enter(1)
    client.channel(1)
    known = lambda: http(nodes[1], "GET", f"/vhosts/{place}")[1]["default_queue_type"] == "quorum"  # noqa: E731
    eventually(known, "the node knows the type")
    client.declare(1, "durable", durable=True)
    client.declare(1, "durable", durable=True)
    client.declare(1, "durable", durable=True, arguments={"x-queue-type": "quorum"})
    client.declare(1, "exclusive", exclusive=True)
    shown = http(nodes[1], "GET", f"/queues/{place}/durable")[1]
    assert (shown["type"], shown["arguments"]) == ("quorum", {"x-queue-type": "quorum"})
    assert http(nodes[1], "GET", f"/queues/{place}/exclusive")[1]["type"] == "classic"


def test_a_protected_vhost_stays(nodes, place):
    assert http(nodes[0], "POST", f"/vhosts/{place}/deletion/protection")[0] == 204
    assert http(nodes[0], "DELETE", f"/vhosts/{place}")[0] == 412
    assert http(nodes[0], "DELETE", f"/vhosts/{place}/deletion/protection")[0] == 204
    assert http(nodes[0], "DELETE", f"/vhosts/{place}")[0] == 204


def test_a_deleted_vhost_or_user_closes_its_connections_on_every_node(nodes, place, enter):
    clients = [enter(node) for node in range(3)]
    assert http(nodes[0], "DELETE", f"/vhosts/{place}")[0] == 204
    for client in clients:
        client.expect_connection_close(320, f"CONNECTION_FORCED - vhost '{place}' is deleted")
    assert http(nodes[0], "PUT", f"/vhosts/{place}", {})[0] == 201
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    assert http(nodes[0], "PUT", f"/permissions/{place}/{place}", everything)[0] == 201
    client = enter(2)
    assert http(nodes[1], "DELETE", f"/users/{place}")[0] == 204
    client.expect_connection_close(320, f"CONNECTION_FORCED - user '{place}' is deleted")


def test_topic_permissions_decide_over_routing_keys(nodes, place, enter):
    path = f"/topic-permissions/{place}/{place}"
    body = {"exchange": "amq.topic", "write": "^{username}\\.", "read": "^news\\."}
    assert http(nodes[0], "PUT", path, body)[0] == 201
    eventually(lambda: http(nodes[1], "GET", path)[0] == 200, "the node knows the permission")
    client = enter(1)
    client.confirm_channel(1)
    client.declare(1, "q")
    client.call(1, "queue.bind", queue="q", exchange="amq.topic", routing_key="news.#")
    client.publish_confirmed(1, "amq.topic", f"{place}.a", b"allowed")
    client.publish(1, "amq.topic", "other.a", b"refused")
    text = f"topic 'other.a' in exchange 'amq.topic' in vhost '{place}' refused for user '{place}'"
    client.expect_channel_close(1, 403, f"ACCESS_REFUSED - write access to {text}", "basic.publish")
    client.channel(1)
    client.send(1, "queue.bind", queue="q", exchange="amq.topic", routing_key="other.a")
    client.expect_channel_close(1, 403, f"ACCESS_REFUSED - read access to {text}", "queue.bind")
    bind = f"/bindings/{place}/e/amq.topic/q/q"
    status, answer = http(nodes[1], "POST", bind, {"routing_key": "other.a"}, f"{place}:p")
    assert (status, answer["reason"]) == (401, "Access refused.")
    assert http(nodes[1], "POST", bind, {"routing_key": "news.x"}, f"{place}:p")[0] == 201
    # Allowed again at once for a channel that is open.
    client.confirm_channel(2)
    assert http(nodes[0], "DELETE", path)[0] == 204
    eventually(lambda: http(nodes[1], "GET", path)[0] == 404, "the node forgets the permission")
    client.publish_confirmed(2, "amq.topic", "other.a", b"allowed")


def test_a_topic_is_looked_at_before_the_user_id(nodes, place, enter):
    told = {"exchange": "amq.topic", "write": "^mine", "read": ".*"}
    assert http(nodes[0], "PUT", f"/topic-permissions/{place}/{place}", told)[0] == 201
    client = enter(0)
    client.channel(1)
    client.publish(1, "amq.topic", "theirs", user_id="somebody")
    text = f"ACCESS_REFUSED - write access to topic 'theirs' in exchange 'amq.topic' in vhost '{place}' refused for user '{place}'"
    client.expect_channel_close(1, 403, text, "basic.publish")
    client.channel(1)
    client.publish(1, "amq.topic", "mine", user_id="somebody")
    text = f"PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was '{place}'"
    client.expect_channel_close(1, 406, text, "basic.publish")


def test_patterns_may_look_around_as_perls_may(nodes, place, enter):
    pattern = "^(?!private\\.)"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    assert http(nodes[0], "PUT", f"/permissions/{place}/{place}", {**everything, "read": pattern})[0] == 204
    assert http(nodes[0], "PUT", f"/policies/{place}/short", {"pattern": pattern, "definition": {"max-length": 1}})[0] == 201
    client = enter(0)
    client.channel(1)
    for queue in ("public.a", "private.a"):
        client.declare(1, queue)
        told = lambda queue=queue: http(nodes[0], "GET", f"/queues/{place}/{queue}")[1]  # noqa: E731
        wanted = "short" if queue == "public.a" else None
        eventually(lambda: (told().get("policy") or None) == wanted, "the policy is where its pattern matches")
    client.consume(1, "public.a")
    client.send(1, "basic.consume", queue="private.a")
    text = f"ACCESS_REFUSED - read access to queue 'private.a' in vhost '{place}' refused for user '{place}'"
    client.expect_channel_close(1, 403, text, "basic.consume")


def test_messages_are_published_and_got_over_http_at_any_node(nodes, place, enter):
    assert http(nodes[0], "PUT", f"/queues/{place}/q", {"durable": True})[0] == 201
    body = {"properties": {"delivery_mode": 2, "headers": {"h": 1}}, "routing_key": "q", "payload": "hello",
            "payload_encoding": "string"}  # fmt: skip
    user = f"{place}:p"
    publish = f"/exchanges/{place}/amq.default/publish"
    known = lambda: http(nodes[1], "GET", f"/queues/{place}/q")[0] == 200  # noqa: E731
    eventually(known, "the node knows the queue")
    assert http(nodes[1], "POST", publish, body, user) == (200, {"routed": True})
    assert http(nodes[1], "POST", publish, {**body, "routing_key": "none"}, user) == (200, {"routed": False})
    status, answer = http(nodes[1], "POST", f"/exchanges/{place}/none/publish", body, user)
    assert (status, answer["reason"]) == (404, "exchange_not_found")
    get = lambda node, mode: http(node, "POST", f"/queues/{place}/q/get",  # noqa: E731
                                  {"count": 10, "ackmode": mode, "encoding": "auto"}, user)[1]
    (got,) = get(nodes[2], "ack_requeue_true")
    assert (got["payload"], got["redelivered"], got["routing_key"]) == ("hello", False, "q")
    assert got["properties"] == {"delivery_mode": 2, "headers": {"h": 1}}
    (again,) = eventually(lambda: get(nodes[0], "reject_requeue_true"), "it is back")
    assert again["redelivered"] is True
    eventually(lambda: get(nodes[1], "ack_requeue_false"), "it is back")
    assert get(nodes[0], "ack_requeue_false") == []


def test_clients_of_all_nodes_are_listed_and_closed_from_any(nodes, place, enter):
    clients = [enter(node) for node in range(3)]
    for client in clients:
        client.channel(7)
    clients[1].declare(7, "q")
    tag = clients[1].consume(7, "q")
    listed = http(nodes[0], "GET", f"/vhosts/{place}/connections")[1]
    assert sorted(one["node"] for one in listed) == ["n1", "n2", "n3"]
    channels = http(nodes[2], "GET", f"/vhosts/{place}/channels")[1]
    assert [one["number"] for one in channels] == [7, 7, 7]
    (consumer,) = http(nodes[0], "GET", f"/consumers/{place}")[1]
    assert (consumer["consumer_tag"], consumer["queue"]["name"]) == (tag, "q")
    assert consumer["channel_details"]["node"] == "n2"
    overview = http(nodes[0], "GET", "/overview")[1]
    assert overview["object_totals"]["connections"] >= 3
    name = next(one["name"] for one in listed if one["node"] == "n3")
    assert http(nodes[0], "DELETE", f"/connections/{quoted(name)}", headers={"X-Reason": "enough"})[0] == 204
    clients[2].expect_connection_close(320, "CONNECTION_FORCED - enough")
    assert http(nodes[0], "DELETE", f"/connections/username/{place}")[0] == 204
    clients[0].expect_connection_close(320)
    clients[1].expect_connection_close(320)


def test_everything_said_travels_in_definitions(nodes, place):
    node = nodes[0]
    assert http(node, "PUT", f"/vhosts/{place}", {"description": "d", "tags": "a", "default_queue_type": "quorum"})[0] == 204
    assert http(node, "PUT", f"/vhost-limits/{place}/max-queues", {"value": 9})[0] == 204
    assert http(node, "PUT", f"/user-limits/{place}/max-channels", {"value": 8})[0] == 204
    topic = {"exchange": "amq.topic", "write": "^a", "read": "^b"}
    assert http(node, "PUT", f"/topic-permissions/{place}/{place}", topic)[0] == 201
    shovel = {"src-uri": "amqp://", "src-queue": "a", "dest-uri": "amqp://", "dest-queue": "b"}
    assert http(node, "PUT", f"/parameters/shovel/{place}/s", {"value": shovel})[0] == 201
    assert http(node, "PUT", f"/global-parameters/{place}", {"value": {"x": [1, None]}})[0] == 201
    document = http(node, "GET", "/definitions")[1]

    def of_place(document):
        return [
            next(one for one in document["vhosts"] if one["name"] == place)["metadata"],
            next(one for one in document["users"] if one["name"] == place)["limits"],
            [one for one in document["topic_permissions"] if one["vhost"] == place],
            [one for one in document["parameters"] if one["vhost"] == place],
            [one for one in document["global_parameters"] if one["name"] == place],
        ]

    before = of_place(document)
    assert before[0] == {"description": "d", "tags": ["a"], "default_queue_type": "quorum"}
    assert before[1] == {"max-channels": 8}
    assert [one["component"] for one in before[3]] == ["vhost-limits", "shovel"]
    assert http(node, "DELETE", f"/vhosts/{place}")[0] == 204
    assert http(node, "DELETE", f"/users/{place}")[0] == 204
    assert http(node, "DELETE", f"/global-parameters/{place}")[0] == 204
    assert http(node, "POST", "/definitions", document)[0] == 204
    assert of_place(http(node, "GET", "/definitions")[1]) == before
    assert http(node, "DELETE", f"/global-parameters/{place}")[0] == 204


def test_the_command_line_sets_limits_topic_permissions_and_parameters(nodes, place):
    def warren(*arguments, code=0):
        node = nodes[1]
        command = [node.cluster.binary, *arguments, "--node", f"http://127.0.0.1:{node.http_port}", "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == code, f"{arguments}: {done.returncode}, {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else done.stderr

    warren("limits", "set", "max-queues", "5", "-p", place)
    warren("limits", "set", "max-channels", "4", "--of-user", place)
    warren("limits", "set", "max-dreams", "4", "--of-user", place, code=1)
    assert {"vhost": place, "value": {"max-queues": 5}} in warren("limits", "list")
    assert {"user": place, "value": {"max-channels": 4}} in warren("limits", "list", "--users")
    warren("limits", "clear", "max-queues", "-p", place)
    warren("topic-permissions", "set", place, "amq.topic", "--write", "^a", "-p", place)
    record = {"user": place, "vhost": place, "exchange": "amq.topic", "write": "^a", "read": ""}
    assert record in warren("topic-permissions", "list")
    warren("topic-permissions", "clear", place, "-p", place)
    warren("parameters", "set", "s", '{"src-uri":"amqp://","dest-uri":"amqp://"}', "--component", "shovel", "-p", place)
    assert any(one["vhost"] == place and one["name"] == "s" for one in warren("parameters", "list"))
    warren("parameters", "clear", "s", "--component", "shovel", "-p", place)
    warren("parameters", "set", place, "[1]", "--global")
    assert {"name": place, "value": [1]} in warren("parameters", "list", "--global")
    warren("parameters", "clear", place, "--global")
    warren("vhosts", "set", place, "--description", "of tests", "--protected", "true")
    warren("vhosts", "delete", place, code=1)
    (vhost,) = [one for one in warren("vhosts", "list") if one["name"] == place]
    assert (vhost["description"], vhost["protected_from_deletion"]) == ("of tests", True)
    warren("vhosts", "set", "nowhere", "--description", "x", code=4)


def test_what_an_exchange_remembers_comes_to_a_queue_that_is_bound_over_http(own_broker, client, name):
    exchange, queue = name("x"), name("q")
    node = own_broker.cluster.nodes[1]
    client.call(1, "exchange.declare", exchange=exchange, type="x-recent-history", durable=True)
    client.confirm_channel(2)
    client.publish_confirmed(2, exchange, "k", b"a", b"b")
    client.declare(1, queue, durable=True)
    status, _ = http(node, "POST", f"/bindings/%2F/e/{exchange}/q/{queue}", {"routing_key": ""})
    assert status == 201
    assert client.get_all(1, queue) == [b"a", b"b"]
    _, queues = http(node, "GET", "/queues/%2F?columns=name")
    assert queue in [listed["name"] for listed in queues]
    assert not [listed for listed in queues if listed["name"].startswith("amq.rabbitmq.")]
    _, definitions = http(node, "GET", "/definitions")
    assert exchange in [listed["name"] for listed in definitions["exchanges"]]
    assert not [listed for listed in definitions["queues"] if exchange in listed["name"]]


def test_every_type_of_exchange_that_the_overview_names_can_be_declared(nodes, client, name):
    _, overview = http(nodes[0], "GET", "/overview")
    named = [kind["name"] for kind in overview["exchange_types"]]
    assert {"direct", "fanout", "headers", "topic", "x-delayed-message", "x-recent-history"} < set(named)
    for kind in named:
        arguments = {"x-delayed-type": "direct"} if kind == "x-delayed-message" else {}
        client.call(1, "exchange.declare", exchange=name(kind), type=kind, arguments=arguments)


def test_what_came_and_went_is_told_with_its_rate(nodes, place, enter):
    client = enter(0)
    client.channel(1)
    client.declare(1, "work", durable=True)
    for number in range(10):
        client.publish(1, "", "work", b"%d" % number)
    client.confirm_channel(3)
    client.publish(3, "", "nowhere", b"dropped")
    client.expect("basic.ack", 3)
    for _ in range(3):
        got = eventually(lambda: client.get(1, "work"), "it is there")
        client.send(1, "basic.ack", delivery_tag=got.delivery_tag)
    again = client.get(1, "work")
    client.send(1, "basic.reject", delivery_tag=again.delivery_tag, requeue=True)
    client.channel(2)
    client.consume(2, "work", no_ack=True)
    for _ in range(7):
        client.expect("basic.deliver", 2)
    assert client.get(1, "work") is None

    def stats():
        queue = http(nodes[1], "GET", f"/queues/{place}/work")[1]
        stats = queue["message_stats"]
        return (queue, stats) if stats["ack"] == 3 and stats["get_empty"] >= 1 and queue["messages"] == 0 else None

    _, stats = eventually(stats, "all of it is counted")
    assert (stats["publish"], stats["get"], stats["deliver_no_ack"], stats["redeliver"]) == (10, 4, 7, 1)
    assert (stats["deliver"], stats["deliver_get"]) == (0, 11)
    assert stats["publish_details"]["rate"] > 0
    for node in nodes:
        overview = http(node, "GET", "/overview")[1]
        assert overview["message_stats"]["publish"] >= 11
        assert overview["message_stats"]["confirm"] >= 1
        assert overview["message_stats"]["drop_unroutable"] >= 1
        assert overview["churn_rates"]["channel_created"] >= 2
        ports = {one["protocol"]: one["port"] for one in overview["listeners"]}
        assert (ports["amqp"], ports["http"]) == (node.amqp_port, node.http_port)
    client.close()


def test_a_user_id_that_is_no_text_is_looked_at_too(enter):
    client = enter()
    client.channel(1)
    client.publish(1, "amq.topic", "key", user_id=b"\xff")
    closed = client.expect("channel.close", 1, reply_code=406)
    assert closed.reply_text.startswith("PRECONDITION_FAILED - user_id property set to")


def test_a_new_secret_ends_consumers_that_may_not_read_any_more(nodes, place, enter):
    client = enter(0)
    client.channel(1)
    for queue in ("open", "closed"):
        client.declare(1, queue, durable=True)
        client.consume(1, queue, queue)
    permission = {"configure": ".*", "write": ".*", "read": "^open$"}
    assert http(nodes[0], "PUT", f"/permissions/{place}/{place}", permission)[0] == 204
    client.call(0, "connection.update-secret", new_secret=b"p", reason="renewed")
    assert client.expect("basic.cancel", 1).consumer_tag == "closed"
    for queue in ("closed", "open"):
        client.publish(1, "", queue, b"m")
    assert client.expect("basic.deliver", 1).consumer_tag == "open"
    client.expect_nothing_until(1)
