"""What a user may not do: every method with each permission missing, and routing keys of topics."""

from . import each, script

_USER = "edge-p"
_ALL = {"configure": ".*", "write": ".*", "read": ".*"}


def _user(s, **granted):
    """A connection of a user with these permissions; what is not named matches nothing."""
    s.http("PUT", f"/api/users/{_USER}", {"password": "p", "tags": ""}, note=False)
    s.http("PUT", f"/api/permissions/%2F/{_USER}", {"configure": "", "write": "", "read": "", **granted}, note=False)
    return s.open(user=_USER, password="p")


_METHODS = (
    ("queue.declare", {"queue": "perm-new", "durable": True}), ("queue.declare", {"queue": "perm-q", "durable": True}),
    ("queue.declare", {"queue": "", "exclusive": True}), ("queue.declare", {"queue": "perm-q", "durable": True, "no_wait": True}),
    ("queue.declare", {"queue": "perm-dlx", "durable": True, "arguments": {"x-dead-letter-exchange": "perm-x"}}),
    ("queue.declare", {"queue": "perm-dlx", "durable": True, "arguments": {"x-dead-letter-exchange": ""}}),
    ("queue.delete", {"queue": "perm-none"}), ("queue.delete", {"queue": "perm-none", "no_wait": True}), ("queue.purge", {"queue": "perm-q"}),
    ("queue.purge", {"queue": "perm-none"}), ("queue.bind", {"queue": "perm-q", "exchange": "perm-x"}),
    ("queue.bind", {"queue": "perm-none", "exchange": "perm-none"}), ("queue.bind", {"queue": "perm-q", "exchange": ""}),
    ("queue.bind", {"queue": "", "exchange": "perm-x"}), ("queue.unbind", {"queue": "perm-q", "exchange": "perm-x"}),
    ("queue.unbind", {"queue": "perm-none", "exchange": "perm-none"}), ("exchange.declare", {"exchange": "perm-new", "type": "direct"}),
    ("exchange.declare", {"exchange": "amq.direct", "type": "direct", "durable": True}), ("exchange.declare", {"exchange": "", "type": "direct"}),
    ("exchange.declare", {"exchange": "perm-ae", "type": "direct", "arguments": {"alternate-exchange": "perm-x"}}),
    ("exchange.delete", {"exchange": "perm-none"}),
    ("exchange.delete", {"exchange": "amq.direct"}), ("exchange.bind", {"destination": "perm-x", "source": "amq.fanout"}),
    ("exchange.unbind", {"destination": "perm-x", "source": "amq.fanout"}), ("exchange.bind", {"destination": "perm-none", "source": "perm-none"}),
    ("basic.consume", {"queue": "perm-q", "consumer_tag": "c"}), ("basic.consume", {"queue": "perm-none"}), ("basic.consume", {"queue": ""}),
    ("basic.consume", {"queue": "amq.rabbitmq.reply-to", "no_ack": True}), ("basic.get", {"queue": "perm-q"}), ("basic.get", {"queue": "perm-none"}),
    ("basic.cancel", {"consumer_tag": "c"}), ("basic.qos", {"prefetch_count": 1}), ("confirm.select", {}), ("tx.select", {}), ("exchange.declare", {"exchange": "perm-bad", "type": "nonsense"}),
)  # fmt: skip


@each(nothing={}, configure={"configure": ".*"}, write={"write": ".*"}, read={"read": ".*"}, configure_and_write={"configure": ".*", "write": ".*"},
      configure_and_read={"configure": ".*", "read": ".*"}, write_and_read={"write": ".*", "read": ".*"})  # fmt: skip
def methods(s, granted):
    owner = s.open("owner")
    owner.declare("perm-q")
    owner.ok("exchange.declare", exchange="perm-x", type="topic")
    peer = _user(s, **granted)
    for method, arguments in _METHODS:
        for kind in ("queue", "exchange"):
            if method == f"{kind}.declare" and arguments.get(kind, "").startswith("perm-"):
                s.declared.append((kind, arguments[kind]))
        if arguments.get("no_wait"):
            peer.cast(method, **arguments)
            method, arguments = "basic.qos", {}
        got = peer.do(method, **arguments) or ""
        if got.startswith("connection.close"):
            break
        if not got.startswith("channel.close"):
            peer.ok("channel.close", reply_code=200)
        peer.reopen()
    s.http("DELETE", f"/api/users/{_USER}", note=False)


@each(nothing={}, write={"write": ".*"}, default={"write": "^amq\\.default$"}, empty_name={"write": "^$"}, anchored={"write": "^perm-x$"},
      part={"write": "rm"}, look_ahead={"write": "^(?!amq\\.)"}, case={"write": "(?i)PERM"})  # fmt: skip
def publishing(s, granted):
    owner = s.open("owner")
    owner.ok("exchange.declare", exchange="perm-x", type="topic")
    owner.ok("exchange.declare", exchange="perm-i", type="topic", internal=True)
    peer = _user(s, **granted)
    for exchange, options in (
        ("", {}), ("perm-x", {}), ("perm-missing", {}), ("perm-i", {}), ("amq.direct", {}), ("perm-x", {"expiration": "x"}), ("perm-x", {"user_id": "other"}),
        ("perm-x", {"user_id": _USER, "mandatory": True}), ("perm-x", {"immediate": True}),
    ):  # fmt: skip
        s.note(f"to {exchange!r} {options}")
        peer.pub(exchange, "k", **options)
        if peer.see():
            peer = _user(s, **granted)
    s.http("DELETE", f"/api/users/{_USER}", note=False)


@script
def topics(s):
    owner = s.open("owner")
    owner.declare("perm-t")
    peer = _user(s, **_ALL)
    s.http("PUT", f"/api/topic-permissions/%2F/{_USER}", {"exchange": "amq.topic", "write": "^w\\.", "read": "^r\\.{username}"})
    s.http("GET", f"/api/users/{_USER}/topic-permissions", show=lambda got: [sorted(g.items()) for g in got])
    peer = s.open("later", user=_USER, password="p")
    for exchange, key, options in (
        ("amq.topic", "w.a", {}), ("amq.topic", "x.a", {}), ("amq.direct", "x.a", {}), ("amq.topic", "w.a", {"headers": {"CC": ["x.b"]}}),
        ("amq.topic", "w.a", {"headers": {"BCC": ["x.b"]}}), ("amq.topic", "", {}), ("amq.topic", "x.a", {"user_id": "other"}),
    ):  # fmt: skip
        s.note(f"to {exchange!r} {key!r} {options}")
        peer.pub(exchange, key, **options)
        if peer.see():
            peer = s.open("later", user=_USER, password="p")
    for method, arguments in (
        ("queue.bind", {"queue": "perm-t", "exchange": "amq.topic", "routing_key": f"r.{_USER}.x"}), ("queue.bind", {"queue": "perm-t", "exchange": "amq.topic", "routing_key": "w.a"}),
        ("queue.bind", {"queue": "perm-t", "exchange": "amq.topic", "routing_key": "#"}), ("queue.unbind", {"queue": "perm-t", "exchange": "amq.topic", "routing_key": "w.a"}),
        ("exchange.bind", {"destination": "amq.direct", "source": "amq.topic", "routing_key": "w.a"}), ("exchange.bind", {"destination": "amq.topic", "source": "amq.direct", "routing_key": "w.a"}),
    ):  # fmt: skip
        got = peer.do(method, **arguments)
        if got and "close" in got:
            peer.reopen()
    s.http("DELETE", f"/api/topic-permissions/%2F/{_USER}")
    s.http("DELETE", f"/api/users/{_USER}", note=False)


@script
def taken_away_while_connected(s):
    owner = s.open("owner")
    owner.declare("perm-q")
    peer = _user(s, **_ALL)
    peer.do("basic.consume", queue="perm-q", consumer_tag="c")
    s.http("PUT", f"/api/permissions/%2F/{_USER}", {"configure": "", "write": "", "read": ""})
    other = s.open("new", user=_USER, password="p")
    other.do("basic.consume", queue="perm-q", consumer_tag="c")
    owner.pub("", "perm-q", b"still")
    peer.see(least=1)
    s.http("DELETE", f"/api/permissions/%2F/{_USER}")
    other = s.socket("last")
    other.client.start()
    other.client.start_ok(_USER, "p")
    other.client.expect("connection.tune")
    other.cast("connection.tune-ok", 0, channel_max=10, frame_max=131072)
    other.cast("connection.open", 0, virtual_host="/")
    other.see(least=1)
    s.http("DELETE", f"/api/users/{_USER}", note=False)


@script
def a_user_that_is_deleted(s):
    peer = _user(s, **_ALL)
    peer.do("queue.declare", queue="perm-mine", exclusive=True)
    s.http("DELETE", f"/api/users/{_USER}")
    peer.do("queue.declare", queue="perm-mine", passive=True)
    peer.see(quiet=0.3)


@script
def a_password_that_changes(s):
    peer = _user(s, **_ALL)
    s.http("PUT", f"/api/users/{_USER}", {"password": "q", "tags": ""})
    peer.alive()
    for password in ("p", "q"):
        other = s.socket(password)
        other.client.start()
        other.client.start_ok(_USER, password)
        other.see(least=1)
    s.http("PUT", f"/api/users/{_USER}", {"password_hash": "", "tags": ""})
    other = s.socket("without")
    other.client.start()
    other.client.start_ok(_USER, "q")
    other.see(least=1)
    s.http("DELETE", f"/api/users/{_USER}", note=False)
