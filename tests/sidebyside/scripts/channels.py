"""Opening, using and closing channels; tx and confirm."""

from kit import amqp

from . import each, script


@script
def opened_twice(s):
    peer = s.open()
    peer.do("channel.open")
    peer.see()


@each(**{m.replace(".", "_").replace("-", "_"): m for m in (
    "channel.flow", "channel.close", "queue.declare", "queue.bind", "queue.unbind", "queue.purge", "queue.delete", "exchange.declare",
    "exchange.delete", "exchange.bind", "exchange.unbind", "basic.qos", "basic.consume", "basic.cancel", "basic.get", "basic.ack",
    "basic.reject", "basic.nack", "basic.recover", "basic.recover-async", "basic.publish", "confirm.select", "tx.select", "tx.commit",
    "access.request", "channel.open-ok", "channel.flow-ok",
)})  # fmt: skip
def not_open(s, method):
    peer = s.connect()
    peer.cast(method, 5)
    peer.see()


@script
def number_0(s):
    peer = s.connect()
    peer.do("channel.open", 0)
    peer.see()


@script
def numbers_above_the_maximum(s):
    peer = s.connect(channel_max=10)
    peer.do("channel.open", 10)
    peer.do("channel.open", 11)
    peer.see()


@script
def highest_number(s):
    peer = s.connect()
    peer.do("channel.open", 65535)
    peer.see()


@script
def more_than_the_maximum(s):
    peer = s.connect(channel_max=3)
    for number in (1, 2, 3):
        peer.ok("channel.open", number)
    peer.do("channel.open", 4)
    peer.see()


@script
def closed_and_used(s):
    peer = s.open()
    peer.do("channel.close", reply_code=200, reply_text="bye")
    peer.cast("basic.qos")
    peer.see()


@script
def closed_and_opened_again(s):
    peer = s.open()
    for _ in range(3):
        peer.do("channel.close", reply_code=200)
        peer.do("channel.open")
    peer.alive()


@script
def closed_twice(s):
    peer = s.open()
    peer.cast("channel.close", reply_code=200)
    peer.cast("channel.close", reply_code=200)
    peer.see(least=1)


@script
def used_between_close_and_close_ok(s):
    peer = s.open()
    peer.cast("queue.declare", queue="missing", passive=True)
    s.note(peer.client.recv().name)
    peer.cast("queue.declare", queue="still-there")
    peer.pub("", "still-there")
    peer.cast("channel.open")
    peer.see("before close-ok")
    peer.cast("channel.close-ok")
    peer.do("channel.open")
    peer.do("queue.declare", queue="still-there", passive=True)


@script
def close_crosses_close(s):
    peer = s.open()
    peer.cast("queue.declare", queue="missing", passive=True)
    s.note(peer.client.recv().name)
    peer.cast("channel.close", reply_code=200)
    peer.see("close instead of close-ok")
    peer.cast("channel.close-ok")
    peer.do("channel.open")
    peer.alive()


@script
def opened_before_close_ok(s):
    peer = s.open()
    peer.cast("queue.declare", queue="missing", passive=True)
    peer.cast("channel.close-ok")
    peer.cast("channel.open")
    peer.see(least=1)


@script
def an_error_then_more(s):
    peer = s.open()
    peer.pub("no-exchange", "k")
    peer.pub("", "k")
    peer.cast("queue.declare", queue="never")
    peer.see(least=1)
    peer.reopen()
    peer.do("queue.declare", queue="never", passive=True)


@script
def other_channels_live_on(s):
    peer = s.open().channel(2)
    peer.declare("lives", ch=2)
    peer.pub("no-exchange", "k")
    peer.see(least=1)
    peer.pub("", "lives", ch=2)
    peer.alive(2)
    peer.get("lives", ch=2)


@script
def out_of_band(s):
    peer = s.open()
    peer.do("channel.open", 2, reserved_1="out of band")
    peer.do("access.request", realm="/data", active=True, read=True)


@script
def confirm_modes(s):
    peer = s.open()
    peer.do("confirm.select")
    peer.do("confirm.select")
    peer.cast("confirm.select", no_wait=True)
    peer.alive()
    peer.do("tx.select")
    peer.reopen()
    peer.do("tx.select")
    peer.do("tx.select")
    peer.do("confirm.select")
    peer.reopen()
    peer.do("tx.select")
    peer.cast("confirm.select", no_wait=True)
    peer.see(least=1)


@each(commit="tx.commit", rollback="tx.rollback")
def tx_without_select(s, method):
    peer = s.open()
    peer.do(method)
    peer.reopen()
    peer.do("confirm.select")
    peer.do(method)


@script
def tx_everything(s):
    peer = s.open()
    peer.declare("tx-q")
    peer.do("tx.select")
    peer.do("tx.commit")
    peer.do("tx.rollback")
    peer.pub("", "tx-q", b"1")
    peer.do("queue.declare", queue="tx-q", passive=True)
    peer.do("tx.commit")
    peer.do("queue.declare", queue="tx-q", passive=True)
    peer.pub("", "tx-q", b"2")
    peer.do("tx.rollback")
    peer.do("queue.declare", queue="tx-q", passive=True)
    peer.get("tx-q")
    peer.cast("basic.ack", delivery_tag=1)
    peer.do("tx.rollback")
    peer.cast("basic.ack", delivery_tag=1)
    peer.do("tx.commit")
    peer.cast("basic.ack", delivery_tag=1)
    peer.see(least=1)


@script
def tx_mandatory(s):
    peer = s.open()
    peer.do("tx.select")
    peer.pub("", "tx-nowhere", b"1", mandatory=True)
    peer.see("before commit")
    peer.cast("tx.commit")
    peer.see("after commit", least=2)


@script
def tx_publish_to_missing(s):
    peer = s.open()
    peer.do("tx.select")
    peer.pub("no-exchange", "k")
    peer.see("before commit", least=1)


@script
def tx_nack_and_reject(s):
    peer = s.open()
    peer.declare("tx-n")
    for body in (b"1", b"2", b"3"):
        peer.pub("", "tx-n", body)
    peer.do("tx.select")
    for _ in range(3):
        peer.get("tx-n")
    peer.cast("basic.nack", delivery_tag=1, requeue=True)
    peer.cast("basic.reject", delivery_tag=2, requeue=False)
    peer.do("queue.declare", queue="tx-n", passive=True)
    peer.do("tx.commit")
    peer.do("queue.declare", queue="tx-n", passive=True)
    peer.do("channel.close", reply_code=200)
    s.open("other").drain("tx-n")


@script
def tx_recover(s):
    peer = s.open()
    peer.declare("tx-r")
    peer.pub("", "tx-r", b"1")
    peer.do("tx.select")
    peer.get("tx-r")
    peer.do("basic.recover", requeue=True)
    peer.get("tx-r")


@script
def confirms(s):
    peer = s.open()
    peer.declare("confirms")
    peer.do("confirm.select")
    peer.pub("", "confirms")
    peer.see("routed", least=1)
    peer.pub("", "nowhere")
    peer.see("unroutable", least=1)
    peer.pub("", "nowhere", mandatory=True)
    peer.see("mandatory", least=2)
    peer.pub("amq.fanout", "nowhere", mandatory=True)
    peer.see("mandatory fanout", least=2)
    peer.pub("no-exchange", "k")
    peer.see("missing", least=1)


@script
def client_acks_as_if_server(s):
    peer = s.open()
    peer.do("confirm.select")
    peer.cast("basic.ack", delivery_tag=1)
    peer.see(least=1)


@script
def amqp_method_on_two_channels(s):
    peer = s.open().channel(2)
    peer.raw(
        amqp.frame(1, 1, amqp.encode_method("queue.declare", queue="two-1", exclusive=True))
        + amqp.frame(1, 2, amqp.encode_method("queue.declare", queue="two-2", exclusive=True))
        + amqp.frame(1, 1, amqp.encode_method("queue.declare", queue="two-2", passive=True))
    )
    peer.see(least=3)
