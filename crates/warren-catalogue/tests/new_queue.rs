//! What is asked of a queue before it is proposed, and not when the command is applied: logs of earlier versions hold
//! queues that would be refused today, and must come to the state they always came to.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::{check_consumer_arguments, check_new_queue};
use warren_proto::catalogue::{Command, DeclareQueue};
use warren_types::AMQPValue;
use world::*;

fn refusal(declare: &DeclareQueue) -> String {
    check_new_queue(declare, &declare.arguments).unwrap_err().text.to_string()
}

#[test]
fn what_would_be_refused_today_is_still_applied() {
    let stream = ("x-queue-type", text("stream"));
    let ttl = ("x-message-ttl", int(1));
    let wrong = [
        (
            DeclareQueue { durable: false, ..queue("a") },
            table([stream.clone()]),
            "invalid property 'non-durable'",
        ),
        (queue("b"), table([stream, ttl]), "of queue type rabbit_stream_queue"),
        (queue("c"), table([("x-cache-size", int(0))]), "invalid arg 'x-cache-size'"),
        (queue("d"), table([("x-message-deduplication", text("yes"))]), "{unacceptable_type,longstr}"),
        (queue("e"), table([("x-delivery-limit", int(3))]), "of queue type rabbit_classic_queue"),
        (
            queue("f"),
            table([("x-queue-type", text("quorum")), ("x-max-priority", int(3))]),
            "invalid arg 'x-max-priority' for queue 'f' in vhost '/' of queue type rabbit_quorum_queue",
        ),
        (
            DeclareQueue { auto_delete: true, ..queue("g") },
            table([("x-queue-type", text("quorum"))]),
            "invalid property 'auto-delete'",
        ),
        (
            queue("h"),
            table([("x-queue-type", text("stream")), ("x-quorum-initial-group-size", int(3))]),
            "invalid arg 'x-quorum-initial-group-size' for queue 'h' in vhost '/' of queue type rabbit_stream_queue",
        ),
        (queue("i"), table([("x-queue-type", text("stream")), ("x-max-age", text("0s"))]), "invalid_max_age"),
    ];
    let mut catalogue = world();
    for (declare, arguments, reason) in wrong {
        let declare = DeclareQueue { arguments, ..declare };
        assert!(refusal(&declare).contains(reason), "{}", refusal(&declare));
        declared(&mut catalogue, declare);
    }
}

#[test]
fn a_plain_queue_of_each_type_is_fine() {
    let check = |declare: DeclareQueue| check_new_queue(&declare, &declare.arguments).unwrap();
    check(queue("q"));
    let arguments = table([("x-queue-type", text("stream")), ("x-max-age", text("1h"))]);
    check(DeclareQueue { arguments, ..queue("s") });
    let arguments =
        table([("x-queue-type", text("quorum")), ("x-delivery-limit", int(-1)), ("x-unknown", int(1))]);
    check(DeclareQueue { arguments, ..queue("r") });
    let arguments = table([("x-message-deduplication", AMQPValue::Boolean(true)), ("x-cache-size", int(5))]);
    check(DeclareQueue { arguments, ..queue("d") });
    let transient = DeclareQueue { durable: false, auto_delete: true, ..queue("t") };
    check(transient);
}

#[test]
fn an_argument_of_the_queues_type_is_wrong_before_one_of_another() {
    let quorum = ("x-queue-type", text("quorum"));
    for (arguments, reason) in [
        (
            table([quorum.clone(), ("x-max-priority", int(-1)), ("x-message-ttl", int(-1))]),
            "{value_negative,-1}",
        ),
        (table([quorum.clone(), ("x-max-priority", int(-1))]), "of queue type rabbit_quorum_queue"),
        (table([quorum, ("x-quorum-initial-group-size", int(0))]), "{value_zero,0}"),
        (
            table([("x-queue-type", text("nonsense")), ("x-max-length", int(-1))]),
            "\"unsupported queue type 'nonsense'\"",
        ),
    ] {
        let refused = refusal(&DeclareQueue { arguments, ..queue("q") });
        assert!(refused.ends_with(reason), "{refused}");
    }
}

#[test]
fn declaring_again_compares_the_arguments_of_the_queues_type_in_their_order() {
    let mut catalogue = world();
    let stored = table([("x-max-length", int(5)), ("x-other", int(1))]);
    declared(&mut catalogue, DeclareQueue { arguments: stored, ..queue("q") });
    let again = table([("x-max-length", int(5)), ("x-delivery-limit", int(3)), ("x-other", int(2))]);
    declared(&mut catalogue, DeclareQueue { arguments: again, ..queue("q") });
    let quorum = table([("x-queue-type", text("quorum"))]);
    declared(&mut catalogue, DeclareQueue { arguments: quorum, ..queue("qq") });
    let exchange = ("x-dead-letter-exchange", text(""));
    let ttl = ("x-message-ttl", int(5));
    for (name, kind, first) in [("q", "classic", "x-message-ttl"), ("qq", "quorum", "x-dead-letter-exchange")]
    {
        let arguments = table([("x-queue-type", text(kind)), exchange.clone(), ttl.clone()]);
        let refused =
            refused(&mut catalogue, Command::DeclareQueue(DeclareQueue { arguments, ..queue(name) }));
        assert!(refused.contains(&format!("'{first}'")), "{name}: {refused}");
    }
}

#[test]
fn a_consumer_asks_for_what_its_queues_type_has() {
    let mut catalogue = world();
    let plain = declared(&mut catalogue, queue("q"));
    let stream = table([("x-queue-type", text("stream"))]);
    let stream = declared(&mut catalogue, DeclareQueue { arguments: stream, ..queue("s") });
    let check = |id, key: &str, value| {
        let checked = check_consumer_arguments(catalogue.queue_by_id(id).unwrap(), &table([(key, value)]));
        checked.map_err(|error| error.text.to_string())
    };
    assert_eq!(check(plain, "x-priority", int(-3)), Ok(()));
    assert_eq!(check(plain, "anything", text("else")), Ok(()));
    assert_eq!(check(stream, "x-stream-offset", text("first")), Ok(()));
    assert_eq!(
        check(plain, "x-priority", text("high")),
        Err("invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\""
            .to_owned())
    );
    assert_eq!(
        check(plain, "x-stream-offset", int(0)),
        Err("invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
            .to_owned())
    );
    assert_eq!(
        check(stream, "x-priority", int(1)),
        Err("invalid arg 'x-priority' for queue 's' in vhost '/' of queue type rabbit_stream_queue"
            .to_owned())
    );
}
