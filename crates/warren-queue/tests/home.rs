//! A home's end of the session, alone: what it keeps, repeats and gives back.

mod kit;

use kit::*;
use warren_proto::session::{Answer, Ask, Delivery, HomeFrame, LeaderFrame, SubscribeOutcome};
use warren_queue::{HomeConfig, HomeOutput, HomeSession};
use warren_types::{
    AckMode, ChannelNumber, ConnectionId, NodeId, Position, PublishToken, RequestId, SessionId,
    SessionPublish, SubscriptionId,
};

const SUBSCRIPTION: SubscriptionId = SubscriptionId(10);

fn token(number: u64) -> PublishToken {
    PublishToken { connection: ConnectionId(1), channel: ChannelNumber(1), opening: 1, number }
}

fn delivery(position: u64) -> Delivery {
    let message = message("m");
    Delivery {
        position: Position(position),
        redelivered: false,
        delivery_count: 0,
        acquired_count: 0,
        message,
    }
}

fn publish(home: &mut HomeSession, number: u64, size: usize) {
    let message = message(&"x".repeat(size));
    home.publish(token(number), SessionPublish { queues: vec![Q], message, delay_ms: 0 });
}

fn attached() -> HomeSession {
    let mut home = HomeSession::new(HomeConfig::new(SessionId(1), NodeId(1), 1));
    let mut outputs = Vec::new();
    home.connected(1, &mut outputs);
    home.on_frame(LeaderFrame::Attached { epoch: 1, last_seq: 0 }, &mut outputs);
    home
}

fn outputs(act: impl FnOnce(&mut Vec<HomeOutput>)) -> Vec<HomeOutput> {
    let mut outputs = Vec::new();
    act(&mut outputs);
    outputs
}

/// What one is counted with beside its message: messages may be empty.
const KEPT: usize = 256 + 8;

#[test]
fn publishes_of_one_flush_travel_together_up_to_the_bound() {
    let mut home = attached();
    for number in 1..=5 {
        publish(&mut home, number, 100 << 10);
    }
    let sent: Vec<(u64, usize)> = outputs(|out| home.flush(out))
        .into_iter()
        .map(|output| match output {
            HomeOutput::Send(HomeFrame::Publish { first_seq, messages }) => (first_seq, messages.len()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(sent, [(1, 2), (3, 2), (5, 1)]);
    assert_eq!(home.unconfirmed_bytes(), 5 * ((100 << 10) + KEPT));
    assert_eq!(outputs(|out| home.flush(out)), []);
}

#[test]
fn what_a_new_leader_has_applied_is_confirmed_and_the_rest_is_sent_again() {
    let mut home = attached();
    for number in 1..=3 {
        publish(&mut home, number, 1);
    }
    outputs(|out| home.flush(out));
    home.disconnected();
    publish(&mut home, 4, 1);
    outputs(|out| home.connected(2, out));
    // An answer to an older attachment says nothing.
    assert_eq!(outputs(|out| home.on_frame(LeaderFrame::Attached { epoch: 1, last_seq: 3 }, out)), []);
    let out = outputs(|out| home.on_frame(LeaderFrame::Attached { epoch: 2, last_seq: 2 }, out));
    assert_eq!(out[0], HomeOutput::Confirmed(vec![token(1), token(2)]));
    assert!(
        matches!(&out[1], HomeOutput::Send(HomeFrame::Publish { first_seq: 3, messages }) if messages.len() == 2),
        "{out:?}"
    );
}

#[test]
fn refused_publishes_are_told_apart() {
    let mut home = attached();
    for number in 1..=3 {
        publish(&mut home, number, 1);
    }
    outputs(|out| home.flush(out));
    let frame = LeaderFrame::Confirmed { up_to_seq: 3, rejected: vec![2] };
    assert_eq!(
        outputs(|out| home.on_frame(frame, out)),
        [
            HomeOutput::Confirmed(vec![token(1), token(3)]),
            HomeOutput::Rejected(vec![token(2)]),
            HomeOutput::Send(HomeFrame::Learned { up_to_seq: 2 }),
        ]
    );
}

#[test]
fn settles_are_repeated_and_claimed_until_they_are_recorded() {
    let mut home = attached();
    outputs(|out| home.subscribe(consumer(10, 0), out));
    let deliver = LeaderFrame::Deliver {
        subscription: SUBSCRIPTION,
        queue: Q,
        deliveries: vec![delivery(1), delivery(2), delivery(3)],
        active_since: 0,
    };
    outputs(|out| home.on_frame(deliver, out));
    home.settle(Q, [Position(1), Position(2)], false);
    let settle = HomeFrame::Settle { seq: 1, queue: Q, ranges: vec![range(1, 2)], rejected: false };
    assert_eq!(outputs(|out| home.flush(out)), [HomeOutput::Send(settle.clone())]);
    home.disconnected();
    let out = outputs(|out| home.connected(2, out));
    let HomeOutput::Send(HomeFrame::Attach(attach)) = &out[0] else { panic!("{out:?}") };
    assert_eq!(attach.held, [held(Some(10), &[range(3, 3)]), held(None, &[range(1, 2)])]);
    assert_eq!(out[1], HomeOutput::Send(settle));
    outputs(|out| home.on_frame(LeaderFrame::Settled { up_to_seq: 1 }, out));
    assert_eq!(home.unsettled_count(), 0);
}

#[test]
fn what_came_again_is_not_given_back_by_a_return_of_the_first_time() {
    let mut home = attached();
    outputs(|out| home.subscribe(consumer(10, 0), out));
    let deliver = |positions: &[u64]| LeaderFrame::Deliver {
        subscription: SUBSCRIPTION,
        queue: Q,
        deliveries: positions.iter().map(|position| delivery(*position)).collect(),
        active_since: 0,
    };
    outputs(|out| home.on_frame(deliver(&[1, 2, 3, 4]), out));
    home.give_back(Q, &[range(1, 4)], true, true);
    outputs(|out| home.flush(out));
    // The leader has it and delivers again; nothing of it is recorded.
    outputs(|out| home.on_frame(deliver(&[1, 2, 3]), out));
    home.settle(Q, [Position(2)], false);
    outputs(|out| home.flush(out));
    home.disconnected();
    let out = outputs(|out| home.connected(2, out));
    let HomeOutput::Send(HomeFrame::Attach(attach)) = &out[0] else { panic!("{out:?}") };
    assert_eq!(
        attach.held,
        [held(Some(10), &[range(1, 1), range(3, 3)]), held(None, &[range(4, 4)]), held(None, &[range(2, 2)])]
    );
    let give_back =
        HomeFrame::Return { seq: 1, queue: Q, ranges: vec![range(4, 4)], failed: true, delivered: true };
    let settle = HomeFrame::Settle { seq: 2, queue: Q, ranges: vec![range(2, 2)], rejected: false };
    assert_eq!(out[1..], [HomeOutput::Send(give_back), HomeOutput::Send(settle)]);
}

#[test]
fn deliveries_for_a_cancelled_consumer_go_back_unseen() {
    let mut home = attached();
    outputs(|out| home.subscribe(consumer(10, 0), out));
    outputs(|out| home.unsubscribe(SUBSCRIPTION, out));
    let deliver = LeaderFrame::Deliver {
        subscription: SUBSCRIPTION,
        queue: Q,
        deliveries: vec![delivery(1)],
        active_since: 0,
    };
    let back =
        HomeFrame::Return { seq: 1, queue: Q, ranges: vec![range(1, 1)], failed: false, delivered: false };
    assert_eq!(outputs(|out| home.on_frame(deliver, out)), [HomeOutput::Send(back)]);
}

#[test]
fn a_message_got_by_nobody_any_more_goes_back_unseen() {
    let mut home = attached();
    let ask = Ask::Get { queue: Q, ack_mode: AckMode::Automatic };
    outputs(|out| home.ask(RequestId(1), ask, out));
    home.forget(RequestId(1));
    let answer = Answer::Got { delivery: Some(delivery(1)), remaining: 0 };
    assert_eq!(outputs(|out| home.on_frame(LeaderFrame::Reply { request: RequestId(1), answer }, out)), []);
    let back =
        HomeFrame::Return { seq: 1, queue: Q, ranges: vec![range(1, 1)], failed: false, delivered: false };
    assert_eq!(outputs(|out| home.flush(out)), [HomeOutput::Send(back)]);
}

#[test]
fn a_get_without_acknowledgement_settles_its_message() {
    let mut home = attached();
    let ask = Ask::Get { queue: Q, ack_mode: AckMode::Automatic };
    outputs(|out| home.ask(RequestId(1), ask, out));
    let answer = Answer::Got { delivery: Some(delivery(1)), remaining: 0 };
    outputs(|out| home.on_frame(LeaderFrame::Reply { request: RequestId(1), answer }, out));
    let settle = HomeFrame::Settle { seq: 1, queue: Q, ranges: vec![range(1, 1)], rejected: false };
    assert_eq!(outputs(|out| home.flush(out)), [HomeOutput::Send(settle)]);
    assert_eq!(home.held_count(), 0);
}

#[test]
fn a_question_waits_for_what_was_published_before_it_and_is_asked_again() {
    let mut home = attached();
    publish(&mut home, 1, 1);
    let request = HomeFrame::Request { request: RequestId(1), ask: Ask::List };
    let out = outputs(|out| home.ask(RequestId(1), Ask::List, out));
    assert!(matches!(out[0], HomeOutput::Send(HomeFrame::Publish { .. })));
    assert_eq!(out[1], HomeOutput::Send(request.clone()));
    home.disconnected();
    outputs(|out| home.connected(2, out));
    let out = outputs(|out| home.on_frame(LeaderFrame::Attached { epoch: 2, last_seq: 0 }, out));
    assert_eq!(out.last(), Some(&HomeOutput::Send(request)));
}

#[test]
fn a_consumer_that_stood_and_is_refused_by_a_new_leader_is_cancelled() {
    let mut home = attached();
    outputs(|out| home.subscribe(consumer(10, 0), out));
    let told = |outcome| LeaderFrame::Subscribed { subscription: SUBSCRIPTION, outcome, next_offset: None };
    let first = outputs(|out| home.on_frame(told(SubscribeOutcome::Subscribed), out));
    assert!(matches!(first[..], [HomeOutput::Subscribed { .. }]));
    assert_eq!(outputs(|out| home.on_frame(told(SubscribeOutcome::Subscribed), out)), []);
    let gone = outputs(|out| home.on_frame(told(SubscribeOutcome::NoQueue), out));
    assert_eq!(gone, [HomeOutput::Cancelled { subscription: SUBSCRIPTION }]);
    assert!(home.is_idle());
}

#[test]
fn publishes_to_queues_that_went_with_their_node_are_rejected_once_and_keep_only_their_sequence() {
    let mut home = attached();
    for number in 1..=2 {
        publish(&mut home, number, 100);
    }
    let elsewhere =
        SessionPublish { queues: vec![warren_types::QueueId(2)], message: message("kept"), delay_ms: 0 };
    home.publish(token(3), elsewhere);
    outputs(|out| home.flush(out));
    assert_eq!(outputs(|out| home.abandon(|_| true, out)), [], "a leader is attached");
    home.disconnected();
    assert_eq!(
        outputs(|out| home.abandon(|queue| queue == Q, out)),
        [HomeOutput::Rejected(vec![token(1), token(2)])]
    );
    assert_eq!(outputs(|out| home.abandon(|queue| queue == Q, out)), []);
    assert_eq!((home.unconfirmed_count(), home.unconfirmed_bytes()), (3, 3 * KEPT + 4));
    outputs(|out| home.connected(2, out));
    let sent = outputs(|out| home.on_frame(LeaderFrame::Attached { epoch: 2, last_seq: 0 }, out));
    let Some(HomeOutput::Send(HomeFrame::Publish { first_seq: 1, messages })) = sent.first() else {
        panic!("{sent:?}");
    };
    assert_eq!(messages.iter().map(|publish| text(&publish.message)).collect::<Vec<_>>(), ["", "", "kept"]);
    assert!(messages.iter().take(2).all(|publish| !publish.queues.contains(&Q)));
    let confirmed =
        outputs(|out| home.on_frame(LeaderFrame::Confirmed { up_to_seq: 3, rejected: vec![] }, out));
    assert_eq!(confirmed, [HomeOutput::Confirmed(vec![token(3)])]);
    assert!(home.is_idle());
}

#[test]
fn a_consumer_of_a_single_active_queue_says_that_it_is_the_one_once_it_got_something() {
    let mut home = attached();
    let subscribe = warren_proto::session::Subscribe { single_active: true, ..consumer(10, 0) };
    outputs(|out| home.subscribe(subscribe, out));
    let active = |home: &mut HomeSession, epoch| {
        home.disconnected();
        let sent = outputs(|out| home.connected(epoch, out));
        let Some(HomeOutput::Send(HomeFrame::Attach(attach))) = sent.into_iter().next() else { panic!() };
        outputs(|out| home.on_frame(LeaderFrame::Attached { epoch, last_seq: 0 }, out));
        attach.subscriptions[0].active
    };
    assert_eq!(active(&mut home, 2), None);
    for since in [7, 9] {
        let deliveries = vec![delivery(since)];
        let deliver =
            LeaderFrame::Deliver { subscription: SUBSCRIPTION, queue: Q, deliveries, active_since: since };
        outputs(|out| home.on_frame(deliver, out));
        assert_eq!(active(&mut home, since), Some(since));
    }
}
