"""The HTTP API: answers to right and wrong requests, and the fields of what it tells."""

import re
import time

from sidebyside.session import spell

from . import each, script


def _reason(got):
    return (got.get("error"), got.get("reason")) if isinstance(got, dict) else type(got).__name__


def _keys(got):
    return sorted(got) if isinstance(got, dict) else type(got).__name__


@each(
    queue_missing=("GET", "/api/queues/%2F/missing", None), vhost_missing=("GET", "/api/queues/nowhere", None), queue_vhost_missing=("GET", "/api/queues/nowhere/q", None),
    exchange_missing=("GET", "/api/exchanges/%2F/missing", None), user_missing=("GET", "/api/users/nobody", None), policy_missing=("GET", "/api/policies/%2F/none", None),
    delete_queue_missing=("DELETE", "/api/queues/%2F/missing", None), delete_exchange_missing=("DELETE", "/api/exchanges/%2F/missing", None),
    delete_amq=("DELETE", "/api/exchanges/%2F/amq.direct", None), delete_vhost_missing=("DELETE", "/api/vhosts/nowhere", None),
    delete_user_missing=("DELETE", "/api/users/nobody", None), delete_policy_missing=("DELETE", "/api/policies/%2F/none", None),
    declare_bad_json=("PUT", "/api/queues/%2F/http-q", b"{junk"), declare_empty_body=("PUT", "/api/queues/%2F/http-q", b""),
    declare_list=("PUT", "/api/queues/%2F/http-q", []), declare_bad_argument=("PUT", "/api/queues/%2F/http-q", {"arguments": {"x-message-ttl": -1}}),
    declare_bad_flag=("PUT", "/api/queues/%2F/http-q", {"durable": "maybe"}), declare_reserved=("PUT", "/api/queues/%2F/amq.mine", {}),
    declare_bad_arguments=("PUT", "/api/queues/%2F/http-q", {"arguments": "text"}), declare_in_missing=("PUT", "/api/queues/nowhere/q", {}),
    exchange_no_type=("PUT", "/api/exchanges/%2F/http-x", {}), exchange_bad_type=("PUT", "/api/exchanges/%2F/http-x", {"type": "nonsense"}),
    exchange_reserved=("PUT", "/api/exchanges/%2F/amq.mine", {"type": "direct"}), exchange_other_type=("PUT", "/api/exchanges/%2F/amq.direct", {"type": "fanout"}),
    exchange_default=("PUT", "/api/exchanges/%2F/amq.default", {"type": "direct", "durable": True}),
    policy_no_definition=("PUT", "/api/policies/%2F/p", {"pattern": "x"}), policy_no_pattern=("PUT", "/api/policies/%2F/p", {"definition": {"max-length": 5}}),
    policy_empty=("PUT", "/api/policies/%2F/p", {"pattern": "x", "definition": {}}), policy_unknown_key=("PUT", "/api/policies/%2F/p", {"pattern": "x", "definition": {"nonsense": 5}}),
    policy_bad_value=("PUT", "/api/policies/%2F/p", {"pattern": "x", "definition": {"max-length": -1}}),
    policy_bad_ttl=("PUT", "/api/policies/%2F/p", {"pattern": "x", "definition": {"message-ttl": "a"}}),
    policy_bad_pattern=("PUT", "/api/policies/%2F/p", {"pattern": "(", "definition": {"max-length": 5}}),
    policy_bad_apply=("PUT", "/api/policies/%2F/p", {"pattern": "x", "apply-to": "all things", "definition": {"max-length": 5}}),
    policy_bad_priority=("PUT", "/api/policies/%2F/p", {"pattern": "x", "priority": "high", "definition": {"max-length": 5}}),
    user_no_body=("PUT", "/api/users/http-u", {}), user_no_tags=("PUT", "/api/users/http-u", {"password": "x"}),
    user_no_password=("PUT", "/api/users/http-u", {"tags": ""}), permission_no_user=("PUT", "/api/permissions/%2F/nobody", {"configure": ".*", "write": ".*", "read": ".*"}),
    permission_bad_regex=("PUT", "/api/permissions/%2F/guest", {"configure": "(", "write": ".*", "read": ".*"}),
    permission_missing_field=("PUT", "/api/permissions/%2F/guest", {"configure": ".*"}), binding_missing=("POST", "/api/bindings/%2F/e/missing/q/missing", {}),
    binding_to_default=("POST", "/api/bindings/%2F/e/amq.default/q/missing", {}), publish_no_fields=("POST", "/api/exchanges/%2F/amq.direct/publish", {}),
    publish_missing_exchange=("POST", "/api/exchanges/%2F/missing/publish", {"properties": {}, "routing_key": "k", "payload": "p", "payload_encoding": "string"}),
    publish_bad_encoding=("POST", "/api/exchanges/%2F/amq.direct/publish", {"properties": {}, "routing_key": "k", "payload": "p", "payload_encoding": "junk"}),
    publish_bad_base64=("POST", "/api/exchanges/%2F/amq.direct/publish", {"properties": {}, "routing_key": "k", "payload": "!", "payload_encoding": "base64"}),
    publish_unrouted=("POST", "/api/exchanges/%2F/amq.direct/publish", {"properties": {}, "routing_key": "k", "payload": "p", "payload_encoding": "string"}),
    get_missing=("POST", "/api/queues/%2F/missing/get", {"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"}),
    get_no_fields=("POST", "/api/queues/%2F/missing/get", {}), purge_missing=("DELETE", "/api/queues/%2F/missing/contents", None),
    unknown_path=("GET", "/api/nonsense", None), post_to_overview=("POST", "/api/overview", {}), connection_missing=("DELETE", "/api/connections/none", None),
    aliveness=("GET", "/api/aliveness-test/%2F", None), whoami=("GET", "/api/whoami", None), nodes_missing=("GET", "/api/nodes/nowhere", None),
    parameter_unknown=("PUT", "/api/parameters/nonsense/%2F/x", {"value": 1}), limit_unknown=("PUT", "/api/vhost-limits/%2F/nonsense", {"value": 1}),
    limit_bad=("PUT", "/api/vhost-limits/%2F/max-queues", {"value": "x"}), health=("GET", "/api/health/checks/alarms", None),
    vhost_bad_type=("PUT", "/api/vhosts/http-v", {"default_queue_type": "nonsense"}), queue_action=("POST", "/api/queues/%2F/missing/actions", {"action": "sync"}),
    page=("GET", "/api/queues?page=1&page_size=5", None), page_bad=("GET", "/api/queues?page=0", None), page_text=("GET", "/api/queues?page=a", None),
    page_beyond=("GET", "/api/queues?page=500&page_size=5", None), sort_unknown=("GET", "/api/queues?sort=nonsense", None), regex_bad=("GET", "/api/queues?page=1&name=(&use_regex=true", None),
    definitions_bad=("POST", "/api/definitions", b"{junk"), definitions_part=("POST", "/api/definitions", {"queues": [{"name": "q"}]}),
    operator_policy_bad=("PUT", "/api/operator-policies/%2F/p", {"pattern": "x", "definition": {"dead-letter-exchange": "d"}}),
    global_missing=("GET", "/api/global-parameters/none", None), topic_permission_bad=("PUT", "/api/topic-permissions/%2F/guest", {"exchange": "amq.topic"}),
    vhost_missing_permissions=("GET", "/api/vhosts/nowhere/permissions", None), binding_list=("GET", "/api/bindings/%2F/e/amq.direct/q/missing", None),
    feature_flags=("GET", "/api/feature-flags", None), bulk_delete=("POST", "/api/users/bulk-delete", {"users": ["nobody"]}), hash=("GET", "/api/auth/hash_password/abc", None),
)  # fmt: skip
def answer(s, what):
    method, path, body = what
    s.http(method, path, body, show=_reason)


@each(wrong=("guest:wrong"), nobody=("nobody:x"), empty=(":"))
def credentials(s, user):
    s.http("GET", "/api/overview", user=user, show=_reason)


@script
def keys(s):
    peer = s.open()
    peer.declare("http-fields", arguments={"x-queue-type": "classic"})
    peer.ok("queue.bind", queue="http-fields", exchange="amq.direct", routing_key="k")
    peer.ok("basic.consume", queue="http-fields", consumer_tag="c", arguments={"x-priority": 4})
    s.wait(lambda: s.http("GET", "/api/consumers", note=False)[1], "a consumer is listed")
    first = lambda got: _keys(got[0]) if got else got  # noqa: E731
    for path in ("overview", "nodes", "connections", "channels", "exchanges", "bindings", "vhosts", "users", "permissions", "consumers",
                 "topic-permissions", "policies", "parameters", "global-parameters", "vhost-limits", "user-limits", "whoami", "cluster-name"):  # fmt: skip
        s.http("GET", f"/api/{path}", show=lambda got: first(got) if isinstance(got, list) else _keys(got))
    s.http("GET", "/api/queues/%2F/http-fields", show=_keys)
    s.http("GET", "/api/exchanges/%2F/amq.direct", show=_keys)
    s.http("GET", "/api/bindings/%2F/e/amq.direct/q/http-fields", show=lambda got: got)


@script
def consumers(s):
    peer, other = s.open(), s.open()
    peer.declare("http-sac", arguments={"x-single-active-consumer": True})
    peer.ok("basic.qos", prefetch_count=7)
    peer.ok("basic.consume", queue="http-sac", consumer_tag="one", arguments={"x-priority": 4})
    other.ok("basic.consume", queue="http-sac", consumer_tag="two", no_ack=True)
    s.wait(lambda: len(s.http("GET", "/api/consumers/%2F", note=False)[1] or []) >= 2, "two are listed")
    time.sleep(6)
    told = ("consumer_tag", "active", "activity_status", "ack_required", "exclusive", "prefetch_count", "arguments", "queue")
    s.http("GET", "/api/consumers/%2F", show=lambda got: sorted((str({k: c.get(k) for k in told}) for c in got if c["queue"]["name"] == "http-sac")))
    s.http("GET", "/api/queues/%2F/http-sac", show=lambda got: (got.get("single_active_consumer_tag"), sorted(c["consumer_tag"] for c in got.get("consumer_details") or [])))


@script
def declared_over_http(s):
    s.declared.append(("queue", "http-made"))
    s.declared.append(("exchange", "http-made"))
    s.http("PUT", "/api/queues/%2F/http-made", {"durable": True, "arguments": {"x-message-ttl": 5000, "x-max-length": 5}})
    s.http("PUT", "/api/queues/%2F/http-made", {"durable": True, "arguments": {"x-message-ttl": 5000, "x-max-length": 5}})
    s.http("PUT", "/api/queues/%2F/http-made", {"durable": False}, show=_reason)
    s.http("PUT", "/api/queues/%2F/http-made", {"durable": True, "arguments": {}}, show=_reason)
    s.http("GET", "/api/queues/%2F/http-made", show=lambda got: {k: got.get(k) for k in ("name", "vhost", "durable", "auto_delete", "exclusive", "arguments", "type", "state")})
    s.http("PUT", "/api/exchanges/%2F/http-made", {"type": "topic", "durable": True})
    s.http("PUT", "/api/exchanges/%2F/http-made", {"type": "direct", "durable": True}, show=_reason)
    s.http("POST", "/api/bindings/%2F/e/http-made/q/http-made", {"routing_key": "a.b", "arguments": {"x": 1}})
    s.http("POST", "/api/bindings/%2F/e/http-made/q/http-made", {"routing_key": "a.b"})
    s.http("GET", "/api/bindings/%2F/e/http-made/q/http-made", show=lambda got: sorted(b["properties_key"] for b in got))
    s.http("POST", "/api/exchanges/%2F/http-made/publish", {"properties": {"delivery_mode": 2, "headers": {"a": 1}}, "routing_key": "a.b", "payload": "cGF5", "payload_encoding": "base64"}, show=lambda got: got)
    s.http("POST", "/api/queues/%2F/http-made/get", {"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"}, show=lambda got: got)
    s.http("POST", "/api/queues/%2F/http-made/get", {"count": 5, "ackmode": "ack_requeue_false", "encoding": "base64", "truncate": 2}, show=lambda got: got)
    s.http("POST", "/api/queues/%2F/http-made/get", {"count": 5, "ackmode": "junk", "encoding": "auto"}, show=_reason)
    s.http("DELETE", "/api/bindings/%2F/e/http-made/q/http-made/a.b")
    s.http("DELETE", "/api/bindings/%2F/e/http-made/q/http-made/missing", show=_reason)
    s.http("DELETE", "/api/queues/%2F/http-made/contents")
    s.http("DELETE", "/api/queues/%2F/http-made?if-empty=true")
    s.http("DELETE", "/api/exchanges/%2F/http-made?if-unused=true", show=_reason)


@script
def vhost_default_type(s):
    s.http("PUT", "/api/vhosts/edge-v", {"default_queue_type": "quorum", "description": "d", "tags": "a,b"})
    s.http("PUT", "/api/permissions/edge-v/guest", {"configure": ".*", "write": ".*", "read": ".*"})
    s.http("GET", "/api/vhosts/edge-v", show=lambda got: {k: got.get(k) for k in ("name", "description", "tags", "default_queue_type", "metadata", "tracing")})
    peer = s.open(vhost="edge-v")
    peer.do("queue.declare", queue="plain", durable=True)
    peer.do("queue.declare", queue="plain", durable=True, arguments={"x-queue-type": "classic"})
    peer.reopen()
    peer.do("queue.declare", queue="plain", durable=True, arguments={"x-queue-type": "quorum"})
    peer.do("queue.declare", queue="own", exclusive=True)
    peer.do("queue.declare", queue="", exclusive=True)
    peer.do("queue.declare", queue="", durable=True)
    s.http("GET", "/api/queues/edge-v/plain", show=lambda got: (got.get("type"), got.get("arguments")))
    s.http("GET", "/api/queues/edge-v/own", show=lambda got: (got.get("type"), got.get("arguments")))
    s.http("DELETE", "/api/vhosts/edge-v")
    peer.see()


@script
def users(s):
    s.http("PUT", "/api/users/edge-u", {"password": "p", "tags": "monitoring"})
    s.http("GET", "/api/users/edge-u", show=lambda got: {k: v if k != "password_hash" else "..." for k, v in sorted(got.items())})
    s.http("GET", "/api/overview", user="edge-u:p", show=lambda got: type(got).__name__)
    s.http("PUT", "/api/users/edge-w", {"password": "p", "tags": "none"}, user="edge-u:p", show=_reason)
    s.http("PUT", "/api/users/edge-u", {"password": "p", "tags": ["policymaker", "management"]})
    s.http("GET", "/api/users/edge-u", show=lambda got: got.get("tags"))
    s.http("GET", "/api/users", user="edge-u:p", show=_reason)
    s.http("GET", "/api/queues/%2F", user="edge-u:p", show=_reason)
    peer = s.socket()
    peer.client.start()
    peer.client.start_ok("edge-u", "p")
    peer.client.expect("connection.tune")
    peer.cast("connection.tune-ok", 0, channel_max=10, frame_max=131072)
    peer.cast("connection.open", 0, virtual_host="/")
    peer.see(least=1)
    s.http("PUT", "/api/permissions/%2F/edge-u", {"configure": "^mine", "write": "^mine", "read": "^mine"})
    peer = s.open(user="edge-u", password="p")
    for method, options in (
        ("queue.declare", {"queue": "theirs"}), ("queue.declare", {"queue": "theirs", "passive": True}), ("exchange.declare", {"exchange": "theirs", "type": "direct"}),
        ("queue.delete", {"queue": "theirs"}), ("queue.purge", {"queue": "theirs"}), ("basic.get", {"queue": "theirs"}), ("basic.consume", {"queue": "theirs"}),
        ("queue.bind", {"queue": "theirs", "exchange": "amq.direct"}), ("queue.declare", {"queue": "mine", "durable": True}),
        ("queue.bind", {"queue": "mine", "exchange": "amq.direct"}), ("queue.declare", {"queue": "mine-d", "arguments": {"x-dead-letter-exchange": "theirs"}}),
        ("exchange.declare", {"exchange": "mine-x", "type": "direct", "arguments": {"alternate-exchange": "theirs"}}), ("exchange.delete", {"exchange": "theirs"}),
        ("queue.declare", {"queue": "", "exclusive": True}), ("exchange.declare", {"exchange": "mine-x", "type": "direct"}),
        ("exchange.bind", {"source": "mine-x", "destination": "amq.direct"}), ("queue.unbind", {"queue": "theirs", "exchange": "amq.direct"}),
    ):  # fmt: skip
        got = peer.do(method, **options)
        if got and got.startswith("channel.close"):
            peer.reopen()
    peer.pub("", "theirs")
    peer.see(least=1)
    peer.reopen()
    peer.pub("amq.direct", "theirs")
    peer.see(least=1)
    s.http("DELETE", "/api/users/edge-u")


@script
def tracing(s):
    s.http("DELETE", "/api/vhosts/edge-t", note=False)
    s.http("PUT", "/api/vhosts/edge-t", {"tracing": True})
    s.http("PUT", "/api/permissions/edge-t/guest", {"configure": ".*", "write": ".*", "read": ".*"})
    s.http("GET", "/api/vhosts/edge-t", show=lambda got: got.get("tracing"))
    peer = s.open(vhost="edge-t")
    for queue in ("copies", "work", "more"):
        peer.ok("queue.declare", queue=queue, durable=True)
    peer.ok("queue.bind", queue="copies", exchange="amq.rabbitmq.trace", routing_key="#")
    peer.pub("", "work", b"one", headers={"h": 1}, priority=3, delivery_mode=2, message_id="m", content_type="text/plain")
    _copy(s, peer)
    peer.get("work")
    _copy(s, peer)
    peer.pub("amq.topic", "nowhere", b"two", mandatory=True)
    peer.see(least=1)
    _copy(s, peer)
    peer.cast("basic.reject", delivery_tag=2, requeue=True)
    peer.ok("basic.consume", queue="work", consumer_tag="c", no_ack=True)
    peer.see(least=1)
    _copy(s, peer)
    peer.ok("tx.select")
    peer.pub("", "more", b"three")
    peer.ok("tx.commit")
    _copy(s, peer)
    peer.drain("copies")
    s.http("DELETE", "/api/vhosts/edge-t")


def _copy(s, peer):
    """Notes the next copy, without what each broker makes up."""
    found = []

    def came():
        peer.client.send(1, "basic.get", queue="copies", no_ack=True)
        found[:] = [peer.client.recv()]
        return found[0].name == "basic.get-ok"

    s.wait(came, "a copy comes")
    s.note(re.sub(r"(connection|node): S:'[^']*'", r"\1", spell(found[0])))
