"""Many frames in one write: what a channel was told first takes effect first."""

from kit import amqp

from . import each, script


def _m(name, ch=1, **arguments):
    return lambda peer: amqp.frame(amqp.FRAME_METHOD, ch, amqp.encode_method(name, **arguments))


def _p(key, body=b"m", exchange="", ch=1, **options):
    return lambda peer: peer.client.publish_bytes(ch, exchange, key, body, **options)


def _passive(ch=1, queue="pipe"):
    return _m("queue.declare", ch, queue=queue, passive=True)


_GET, _PURGE = _m("basic.get", queue="pipe", no_ack=True), _m("queue.purge", queue="pipe")
_KEEP = _m("basic.get", queue="pipe")

STEPS = {
    "publish_get": [_p("pipe"), _GET, _GET],
    "publish_count": [_p("pipe"), _p("pipe"), _passive(), _PURGE, _passive()],
    "publish_delete_publish": [_p("pipe"), _m("queue.delete", queue="pipe"), _p("pipe", mandatory=True), _m("basic.qos")],
    "declare_publish_get": [_m("queue.declare", queue="pipe-new"), _p("pipe-new"), _m("basic.get", queue="pipe-new", no_ack=True),
                            _m("queue.delete", queue="pipe-new")],
    "bind_publish": [_m("queue.bind", queue="pipe", exchange="amq.direct", routing_key="pk"), _p("pk", b"1", "amq.direct"),
                     _m("queue.unbind", queue="pipe", exchange="amq.direct", routing_key="pk"), _p("pk", b"2", "amq.direct", mandatory=True), _GET, _GET],
    "bind_publish_no_wait": [_m("queue.bind", queue="pipe", exchange="amq.direct", routing_key="pk", no_wait=True), _p("pk", b"1", "amq.direct"), _GET,
                             _m("queue.unbind", queue="pipe", exchange="amq.direct", routing_key="pk")],
    "ack_count": [_p("pipe"), _KEEP, _m("basic.ack", delivery_tag=1), _passive(), _m("queue.delete", queue="pipe")],
    "nack_get": [_p("pipe"), _KEEP, _m("basic.nack", delivery_tag=1, requeue=True), _KEEP],
    "reject_get": [_p("pipe"), _KEEP, _m("basic.reject", delivery_tag=1, requeue=True), _KEEP],
    "nack_delete_if_empty": [_p("pipe"), _KEEP, _m("basic.nack", delivery_tag=1, requeue=True), _m("queue.delete", queue="pipe", if_empty=True)],
    "confirm_publish": [_m("confirm.select"), _p("pipe"), _p("pipe-nowhere", mandatory=True), _m("basic.qos")],
    "confirm_publish_missing": [_m("confirm.select"), _p("pipe", exchange="pipe-no"), _p("pipe"), _m("basic.qos")],
    "missing_then_declare": [_p("k", exchange="pipe-no"), _m("queue.declare", queue="pipe-never")],
    "missing_then_ack": [_p("pipe"), _KEEP, _p("k", exchange="pipe-no"), _m("basic.ack", delivery_tag=1)],
    "missing_then_consume": [_p("k", exchange="pipe-no"), _m("basic.consume", queue="pipe", consumer_tag="c")],
    "error_then_publish": [_m("queue.declare", queue="pipe-missing", passive=True), _p("pipe")],
    "error_then_delete": [_m("queue.declare", queue="pipe-missing", passive=True), _m("queue.delete", queue="pipe")],
    "bad_ack_then_delete": [_m("basic.ack", delivery_tag=9), _m("queue.delete", queue="pipe")],
    "consume_cancel": [_m("basic.consume", queue="pipe", consumer_tag="c"), _m("basic.cancel", consumer_tag="c"), _passive()],
    "consume_publish_cancel": [_m("basic.consume", queue="pipe", consumer_tag="c", no_ack=True), _m("basic.cancel", consumer_tag="c"), _p("pipe"), _passive(), _GET],
    "close_after_publish": [_p("pipe"), _m("channel.close", reply_code=200)],
    "connection_close_after_publish": [_p("pipe"), _m("connection.close", 0, reply_code=200)],
    "publish_close_open_get": [_p("pipe"), _m("channel.close", reply_code=200), _m("channel.open"), _GET],
    "get_close_open_get": [_p("pipe"), _KEEP, _m("channel.close", reply_code=200), _m("channel.open"), _KEEP],
    "tx": [_m("tx.select"), _p("pipe"), _GET, _m("tx.commit"), _GET, _m("tx.rollback")],
    "tx_ack": [_p("pipe"), _KEEP, _m("tx.select"), _m("basic.ack", delivery_tag=1), _m("tx.rollback"), _m("basic.nack", delivery_tag=1, requeue=True), _m("tx.commit"), _GET],
    "tx_missing": [_m("tx.select"), _p("pipe"), _p("k", exchange="pipe-no"), _m("tx.commit")],
    "recover": [_p("pipe"), _KEEP, _m("basic.recover", requeue=True), _KEEP],
    "recover_async": [_p("pipe"), _KEEP, _m("basic.recover-async", requeue=True), _KEEP],
    "exchange_delete": [_m("exchange.declare", exchange="pipe-x", type="fanout"), _m("queue.bind", queue="pipe", exchange="pipe-x"), _p("", b"1", "pipe-x"),
                        _m("exchange.delete", exchange="pipe-x"), _GET, _p("", b"2", "pipe-x"), _m("basic.qos")],
    "two_channels": [_m("channel.open", 2), _p("pipe", b"1"), _passive(), _m("basic.get", 2, queue="pipe", no_ack=True)],
    "returns": [_p("pipe-nowhere", b"1", mandatory=True), _p("pipe", b"2"), _GET, _p("pipe-nowhere", b"3", mandatory=True), _m("basic.qos")],
    "immediate": [_p("pipe", b"1"), _p("pipe", b"2", immediate=True), _p("pipe", b"3")],
    "priority_body": [_p("pipe", b"x" * 300_000), _GET, _p("pipe", b""), _GET],
    "flow": [_m("channel.flow", active=True), _p("pipe"), _GET],
    "delete_consume": [_m("queue.delete", queue="pipe"), _m("basic.consume", queue="pipe", consumer_tag="c")],
    "exclusive_declare_close": [_m("queue.declare", queue="pipe-e", exclusive=True), _m("connection.close", 0, reply_code=200)],
    "expired": [_p("pipe", b"1", expiration="0"), _passive(), _GET],
    "internal": [_m("exchange.declare", exchange="pipe-i", type="direct", internal=True), _p("k", exchange="pipe-i"), _m("exchange.delete", exchange="pipe-i")],
}  # fmt: skip


@each(**{f"{kind}.{name}": (kind, steps) for kind in ("classic", "quorum") for name, steps in STEPS.items()})
def told(s, what):
    kind, steps = what
    peer = s.open()
    peer.declare("pipe", arguments={"x-queue-type": kind})
    for queue in ("pipe-new", "pipe-never", "pipe-missing"):
        peer.ok("queue.delete", queue=queue)
    peer.raw(b"".join(step(peer) for step in steps))
    peer.see(least=1)
    other = s.open("after")
    for queue in ("pipe", "pipe-never"):
        if "declare-ok" in str(other.do("queue.declare", queue=queue, passive=True)):
            other.drain(queue)
        else:
            other.reopen()


@script
def declared_on_two_connections(s):
    one, two = s.open("one"), s.open("two")
    for _ in range(3):
        one.cast("queue.declare", queue="pipe-both", durable=True)
        two.cast("queue.declare", queue="pipe-both", durable=True)
        one.see(least=1, quiet=0.1)
        two.see(least=1, quiet=0.1)
        one.ok("queue.delete", queue="pipe-both")
