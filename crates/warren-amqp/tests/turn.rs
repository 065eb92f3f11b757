//! What is read behind a publish takes its turn: the publish is routed first, and may be refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use warren_amqp::client::{ServerFrame, calls};
use warren_amqp::methods::{AMQPClass, basic};
use warren_amqp::{Action, Publish};
use warren_types::{AckMode, AmqpError, ReplyCode};
use world::{C1, World, close, s};

/// The next thing to do is the publish, and then to route it before anything else.
fn published(world: &mut World) -> Publish {
    let Some(Action::Publish(publish)) = world.connection.next(&mut world.input, &mut world.out) else {
        panic!("no publish")
    };
    assert!(
        matches!(world.connection.next(&mut world.input, &mut world.out), Some(Action::Route)),
        "not told to route"
    );
    assert!(world.frames().is_empty(), "answered before the publish is routed");
    publish
}

fn refuse(world: &mut World, publish: &Publish) {
    let error = AmqpError::new(ReplyCode::NotFound, "no exchange 'x' in vhost '/'");
    world.connection.fail_channel(publish.channel, publish.opening, error, 60, 40, &mut world.out);
}

#[test]
fn nothing_behind_a_publish_that_closes_its_channel_is_answered() {
    for method in [
        calls::qos(1),
        calls::channel_qos(1),
        calls::select_confirms(),
        calls::select_transactions(),
        calls::rollback(),
        calls::cancel(&s("no such consumer")),
        calls::recover(),
        calls::get(&s("q"), AckMode::Manual),
    ] {
        let mut world = World::with_channel();
        world.publish(1, b"m");
        let shown = format!("{method:?}");
        world.send(1, method);
        let publish = published(&mut world);
        refuse(&mut world, &publish);
        let actions = world.actions();
        assert!(matches!(&actions[..], [Action::ChannelClosed { .. }]), "{shown}: {actions:?}");
        let frames = world.frames();
        assert_eq!(frames.len(), 1, "{shown}: {frames:?}");
    }
}

#[test]
fn what_is_behind_a_publish_that_is_routed_is_answered() {
    let mut world = World::with_channel();
    world.publish(1, b"m");
    world.send(1, calls::qos(1));
    published(&mut world);
    assert!(world.next().is_none());
    let ok = AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}));
    assert_eq!(world.frames(), [ServerFrame::Method(C1, ok)]);
}

#[test]
fn a_channel_is_closed_by_the_first_of_two_mistakes() {
    let mut world = World::with_channel();
    world.publish(1, b"m");
    world.ack(7, false);
    let publish = published(&mut world);
    refuse(&mut world, &publish);
    world.actions();
    assert_eq!(world.close(), close(1, 404, "NOT_FOUND - no exchange 'x' in vhost '/'", (60, 40)));
    assert!(world.frames().is_empty());

    let mut world = World::with_channel();
    world.publish(1, b"m");
    world.ack(7, false);
    published(&mut world);
    world.actions();
    assert_eq!(world.close(), close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 7", (60, 80)));
}

#[test]
fn a_returned_message_precedes_the_end_of_its_channel() {
    let mut world = World::with_channel();
    world.publish(1, b"m");
    world.send(1, calls::close_channel());
    let publish = published(&mut world);
    let code = ReplyCode::NoRoute;
    world.connection.return_message(C1, publish.opening, code, &publish.message, &mut world.out);
    world.actions();
    let frames = world.frames();
    assert!(matches!(&frames[..], [ServerFrame::Return { .. }, ServerFrame::Method(..)]), "{frames:?}");
}

#[test]
fn publishes_and_settlements_are_not_routed_one_by_one() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    world.deliver(1, 1);
    world.deliver(1, 2);
    for _ in 0..2 {
        world.publish(1, b"m");
    }
    world.ack(1, false);
    world.ack(2, false);
    world.publish(1, b"m");
    let mut kinds = Vec::new();
    while let Some(action) = world.connection.next(&mut world.input, &mut world.out) {
        kinds.push(match action {
            Action::Publish(_) => 'p',
            Action::Settle { .. } => 's',
            Action::Route => 'r',
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(kinds, ['p', 'p', 's', 'p']);
}
