"""Differences that are meant. Most are one: RabbitMQ 3.10 is what distributions have, 4.3 is what Warren follows."""

import fnmatch
import re

# What both sides' lines are without, or are read as, before they are compared: (side, pattern, instead, why).
LEVEL = [
    ("warren", r", x-last-death-(exchange|queue|reason): S:'[^']*'", "", "3.13 added x-last-death-*"),
    ("warren", r"(configure|write|read) (access to)", r"\2", "3.12 says which permission is missing"),
    ("warren", r"x-acquired-count: l:\d+, ", "", "4.3 tells how often a message was given out"),
    ("rabbit", r"headers: \{x-delivery-count: l:0\}|, x-delivery-count: l:0", "", "4.3 sends no count of 0"),
    ("rabbit", r"connection.close 503 (.)COMMAND_INVALID - (unknown|invalid) exchange type",
     r"channel.close 406 \1PRECONDITION_FAILED - unknown exchange type", "3.12 closes the channel only"),
]  # fmt: skip

# (scripts, a pattern that each line of the difference contains, why)
KNOWN = [
    ("handshake.header.old_0_8", "", "4.x refuses 0-8"),
    ("handshake.after_start_ok.close", "", "a client that gives up hears close-ok"),
    ("handshake.tune.*", "", "3.11 tells why it closes"),
    ("handshake.a_long_start_ok", "", "4.1 takes 8192 octets before tune"),
    ("handshake.start", "AMQPLAIN PLAIN|PLAIN AMQPLAIN", "the order of mechanisms"),
    ("frames.raw.unknown_*", "", "RabbitMQ's connection process crashes"),
    ("frames.raw.file_class", "", "RabbitMQ's connection process crashes"),
    ("frames.raw.bad_tag", "", "RabbitMQ's connection process crashes"),
    ("frames.raw.table_value_cut", "", "RabbitMQ's connection process crashes"),
    ("frames.raw.truncated_open_0", "", "501 where RabbitMQ's crash is an internal error"),
    ("frames.raw.credit", "", "4.x has no basic.credit"),
    ("frames.raw.cancel_ok", "", "4.3 takes it as a cancel"),
    ("topology.deleted_queue_tells_consumers", "", "4.3 takes a cancel-ok as a cancel"),
    ("frames.raw.server_method_*", "", "refused at once, not when its content fails to come"),
    ("frames.content.longer*", "", "4.3 says so"),
    ("frames.content.enormous", "", "4.3 says so"),
    ("frames.content.over_512_mib", "", "4.3 says so"),
    ("frames.content.connection_close_for_body", "nothing|eof", "who closes the socket first"),
    ("frames.content.*", "541 'INTERNAL_ERROR'|501 'FRAME_ERROR|502 'SYNTAX_ERROR", "501 where RabbitMQ's crash is an internal error"),
    ("channels.not_open.*", "", "a queue without a name is looked for before the channel's state"),
    ("channels.closed_twice", "", "a race in RabbitMQ"),
    ("topology.last_declared", "", "the script uses a channel that is closed"),
    ("topology.binding_checks.topic_hashes", "", "4.3.5 allows two"),
    ("topology.exchange_arguments.hash_*_int", "", "RabbitMQ's channel crashes"),
    ("topology.exchange_type.type_1[0123]", "", "exchange types of 4.x and plugins"),
    ("topology.exchange_type.*", "nothing|eof|tttttt", "3.12 closes the channel only"),
    ("topology.vhost_limits_of_names", "x-queue-type", "4.x stores the default type"),
    ("publishing.message.expiration_huge", "", "4.3 breaks no line there"),
    ("consuming.stream_checks", "", "4.x has other texts, and checks the offset"),
    ("consuming.stream_reading", "", "4.3 takes nack and reject of a stream for an ack"),
    ("settling.requeue_order.quorum_*", "", "4.x delivers what came back first; ours in the queue's order"),
    ("settling.redelivered_to_consumer.quorum", "", "4.3 counts no nack"),
    ("settling.headers_of_a_redelivery.quorum", "", "4.3 counts no nack"),
    ("lifecycle.overflow.classic_reject*", "basic.nack", "a single nack without multiple"),
    ("lifecycle.overflow.quorum_reject-publish", "", "ours lets none in too many"),
    ("arguments.queue.*.x-consumer-timeout", "", "4.3 checks it; 4.2 and ours have it on classic queues"),
    ("arguments.queue.*.x-delayed-retry-*", "", "4.3 has them on quorum queues"),
    ("arguments.queue.*.x-consumer-disconnected-timeout", "", "4.3 has it on quorum queues"),
    ("arguments.queue.*.x-stream-filter-size-bytes", "", "4.x has it on streams"),
    ("arguments.queue.*.x-queue-leader-locator", "", "4.x has it on every type"),
    ("arguments.queue.*.x-queue-version", "", "4.x has version 2 only"),
    ("arguments.queue.*.x-queue-master-locator", "", "4.3 does not check it"),
    ("publishing.headers.int_float", "", "4.3 compares strictly"),
    ("publishing.message.mode_*", "", "4.x takes any delivery mode"),
    ("consuming.global_qos.quorum", "", "4.3 takes a global prefetch for one of the consumers"),
    ("consuming.global_qos.stream", "prefetch count is not set|consume-ok", "4.3 takes a global prefetch for one of the consumers"),
    ("arguments.queue.classic.x-queue-mode", "", "4.x does not look at it"),
    ("arguments.queue.stream.x-dead-letter-routing-key", "", "4.x names the first argument of another type"),
    ("arguments.queue.stream.x-max-age", "541|406", "3.10 crashes"),
    ("arguments.queue.none.x-queue-type", "''|undefined", "4.x takes these for no type"),
    ("arguments.queue_type_with_flags.empty", "", "4.x takes it for no type"),
    ("arguments.queue_type_with_flags.undefined", "", "4.x takes it for no type"),
    ("arguments.which_error_comes_first", "of queue type", "of several the first by name, not the first sent"),
    ("arguments.consume.*", "x-cancel-on-ha-failover|x-credit|x-consumer-timeout|crashed|consume-ok", "3.10 crashes at x-credit; 4.x has neither it nor x-cancel-on-ha-failover"),
    ("arguments.consume.*", "x-stream-filter|x-stream-match-unfiltered|x-consumer-timeout", "3.13 and 4.3 have them"),
    ("arguments.consume.stream", "x-stream-offset", "3.10 crashes"),
    ("arguments.redeclare.*", "x-queue-type|x-queue-leader-locator", "4.x stores and compares the type, and has the locator on every type"),
    ("frames.close_with_frames_behind", "", "after the client's close-ok the socket is closed"),
    ("channels.amqp_method_on_two_channels", "", "the order between channels"),
    ("lifecycle.time_to_live.*", "declare-ok", "ours expires wherever it stands, RabbitMQ's at the head"),
    ("lifecycle.policy_*", "policed", "3.10 tells the policy some seconds later"),
    ("consuming.prefetch_over_two_queues", "basic.deliver", "two queues have no order between them"),
    ("consuming.get_beside_a_consumer.quorum", "basic.deliver", "4.3 counts no nack"),
    ("consuming.consumer_gone_with_deliveries.quorum", "declare-ok", "3.10 counts a getter as a consumer"),
    ("lifecycle.expired_while_held.quorum", "declare-ok", "3.10 counts a getter as a consumer"),
    ("management.keys", "", "fields of 4.x, and those that only one of them has"),
    ("management.answer.*", "", "the status is the same, or 4.x has another; the words are ours"),
    ("management.declared_over_http", "", "the order of fields, and what 3.10 tells later"),
    ("topology.delete_unused_and_not_empty", "passive", "RabbitMQ counts a publish a little later"),
    ("pipelined.told.*.tx", "", "ours waits with what comes behind tx.commit; RabbitMQ closes"),
    ("pipelined.told.*_close_open_get", "", "ours waits with an open for the close before it; RabbitMQ closes"),
    ("pipelined.told.*.consume_*cancel", "", "RabbitMQ 3.10 crashes"),
    ("pipelined.told.*.two_channels", "", "ours has no race between the channels of one connection"),
    ("pipelined.told.*.publish_count", "", "RabbitMQ counts a publish a little later"),
    ("pipelined.told.quorum.*", "", "RabbitMQ's quorum queues answer a get before the publishes before it"),
    ("management.users", "passive", "4.3 wants some permission for a passive declare"),
    ("permissions.topics", "nothing|topic 'x.b'|topic-permissions", "4.x looks at the keys of CC and BCC, too; the order of fields"),
    ("management.vhost_default_type", "", "3.10 has no default type"),
]


def level(side, line):
    """A line as both brokers would write it."""
    for whose, pattern, instead, _ in LEVEL:
        if whose == side:
            line = re.sub(pattern, instead, line)
    return line


def reason(script, theirs, ours):
    """Why these lines of a script differ, if that is known."""
    for scripts, pattern, why in KNOWN:
        if fnmatch.fnmatchcase(script, scripts) and all(re.search(pattern, line) for line in [*theirs, *ours]):
            return why
    return None
