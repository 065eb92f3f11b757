//! What is asked of a queue before it is proposed, and not when the command is applied: logs of earlier versions hold
//! queues that would be refused today, and must come to the state they always came to.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may")]

mod world;

use warren_catalogue::check_new_queue;
use warren_proto::catalogue::DeclareQueue;
use warren_types::AMQPValue;
use world::*;

fn refusal(declare: &DeclareQueue) -> String {
    check_new_queue(declare).unwrap_err().text.to_string()
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
    ];
    let mut catalogue = world();
    for (declare, arguments, reason) in wrong {
        let declare = DeclareQueue { arguments, ..declare };
        assert!(refusal(&declare).contains(reason), "{}", refusal(&declare));
        declared(&mut catalogue, declare);
    }
}

#[test]
fn a_plain_queue_and_a_plain_stream_are_fine() {
    check_new_queue(&queue("q")).unwrap();
    let arguments = table([("x-queue-type", text("stream")), ("x-max-age", text("1h"))]);
    check_new_queue(&DeclareQueue { arguments, ..queue("s") }).unwrap();
    let arguments = table([("x-message-deduplication", AMQPValue::Boolean(true)), ("x-cache-size", int(5))]);
    check_new_queue(&DeclareQueue { arguments, ..queue("d") }).unwrap();
}
