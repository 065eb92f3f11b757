//! Deliveries, prefetch, settlements, confirms and transactions of a channel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod world;

use std::collections::BTreeMap;

use bytes::BytesMut;
use proptest::prelude::*;
use warren_amqp::client::{self, ServerFrame, calls};
use warren_amqp::frame::DeliveryCounts;
use warren_amqp::methods::{AMQPClass, tx};
use warren_amqp::{Action, ConnectionConfig, Delivered, GotMessage, Reply, Request, Settlement};
use warren_types::table::{AMQPValue, FieldTable};
use warren_types::{AckMode, AmqpError, ReplyCode, SubscriptionId};
use world::{C1, World, close, message, positions, s, source};

/// A channel whose client holds deliveries 1 to `count`, of these positions.
fn holding(count: u64) -> World {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    for position in 1..=count {
        assert_eq!(world.deliver(1, position), Delivered::Written);
    }
    world.frames();
    world
}

/// What was settled: outcome and positions.
fn settled(world: &mut World) -> Vec<(Settlement, Vec<u64>)> {
    world
        .actions()
        .into_iter()
        .filter_map(|action| match action {
            Action::Settle { outcome, deliveries, .. } => Some((outcome, positions(&deliveries))),
            _ => None,
        })
        .collect()
}

#[test]
fn tags_count_every_delivery_of_the_channel_from_1() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    world.consume(2, AckMode::Automatic);
    world.deliver(1, 11);
    world.deliver(2, 22);
    world.send(1, calls::get(&s("q"), AckMode::Automatic));
    world.request();
    let got = GotMessage {
        source: source(33, None),
        redelivered: false,
        counts: DeliveryCounts::default(),
        message: message(b"33"),
        remaining: 0,
    };
    world.reply(Ok(Reply::Got(Some(got))));
    world.deliver(1, 44);
    let tags: Vec<u64> = world
        .frames()
        .into_iter()
        .map(|frame| match frame {
            ServerFrame::Deliver { tag, .. } | ServerFrame::GetOk { tag, .. } => tag,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(tags, [1, 2, 3, 4]);
    let modes: Vec<AckMode> =
        world.connection.take_handed_over().iter().map(|handed| handed.ack_mode).collect();
    assert_eq!(modes, [AckMode::Manual, AckMode::Automatic, AckMode::Automatic, AckMode::Manual]);
    assert!(world.connection.take_handed_over().is_empty());
    // What settled itself is no longer there to acknowledge.
    world.ack(2, false);
    world.actions();
    assert_eq!(world.close(), close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 2", (60, 80)));
}

#[test]
fn a_delivery_shows_consumer_message_and_whether_it_was_handed_out_before() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    let (subscription, out) = (SubscriptionId(1), &mut world.out);
    let counts = DeliveryCounts { acquired: 3, failed: 2 };
    world.connection.deliver(C1, subscription, source(1, Some(1)), true, counts, &message(b"m"), out);
    let frames = world.frames();
    let [ServerFrame::Deliver { channel: C1, consumer_tag, tag: 1, redelivered: true, message }] =
        &frames[..]
    else {
        panic!("{frames:?}")
    };
    assert_eq!((consumer_tag, &message.exchange, &message.routing_key), (&s("c1"), &s("x"), &s("k")));
    let properties = warren_amqp::properties::Properties::new(&message.properties);
    assert_eq!(properties.header("x-delivery-count"), Some(AMQPValue::LongLongInt(2)));
}

#[test]
fn a_large_delivery_is_cut_at_the_negotiated_frame_size() {
    let config = ConnectionConfig { frame_max: 8192, ..ConnectionConfig::default() };
    let mut world = World::open_with(config, FieldTable::default());
    world.open_channel(1);
    world.consume(1, AckMode::Manual);
    world.decoder.set_frame_max(8192 - 8);
    let body: Vec<u8> = (0..30_000_u32).map(|octet| octet as u8).collect();
    let (subscription, out) = (SubscriptionId(1), &mut world.out);
    world.connection.deliver(
        C1,
        subscription,
        source(1, Some(1)),
        false,
        DeliveryCounts::default(),
        &message(&body),
        out,
    );
    assert!(matches!(&world.frames()[..], [ServerFrame::Deliver { message, .. }] if message.body == body));
}

#[test]
fn acks_rejects_and_nacks_mean_what_their_bits_say() {
    let mut world = holding(7);
    world.ack(1, false);
    client::encode_reject(C1, 2, false, &mut world.input);
    client::encode_reject(C1, 3, true, &mut world.input);
    client::encode_nack(C1, 4, false, false, &mut world.input);
    client::encode_nack(C1, 5, false, true, &mut world.input);
    client::encode_nack(C1, 7, true, true, &mut world.input);
    assert_eq!(
        settled(&mut world),
        [
            (Settlement::Ack, vec![1]),
            (Settlement::Reject, vec![2]),
            (Settlement::Requeue { failed: true }, vec![3]),
            (Settlement::Reject, vec![4]),
            (Settlement::Requeue { failed: false }, vec![5, 6, 7]),
        ]
    );
}

#[test]
fn acks_that_follow_each_other_become_one_action_in_their_order() {
    let mut world = holding(6);
    for tag in [2, 1, 4] {
        world.ack(tag, false);
    }
    world.ack(5, true);
    assert_eq!(settled(&mut world), [(Settlement::Ack, vec![2, 1, 4, 3, 5])]);
    world.ack(6, false);
    assert_eq!(settled(&mut world), [(Settlement::Ack, vec![6])]);
}

#[test]
fn settlements_before_a_mistake_still_count() {
    let mut world = holding(3);
    world.ack(1, false);
    world.ack(1, false);
    let actions = world.actions();
    let [Action::Settle { deliveries, .. }, Action::ChannelClosed { returned, .. }] = &actions[..] else {
        panic!("{actions:?}")
    };
    assert_eq!((positions(deliveries), positions(returned)), (vec![1], vec![2, 3]));
}

#[test]
fn unknown_tags_close_the_channel_in_rabbitmqs_words() {
    type Mistake = fn(&mut World);
    let table: [(Mistake, u64, u16); 6] = [
        (|world| world.ack(4, false), 4, 80),
        (|world| world.ack(0, false), 0, 80),
        (|world| world.ack(9, true), 9, 80),
        (|world| client::encode_reject(C1, 5, true, &mut world.input), 5, 90),
        (|world| client::encode_nack(C1, 6, false, true, &mut world.input), 6, 120),
        // Settled singly before, though others below are open.
        (
            |world| {
                world.ack(2, false);
                world.ack(2, true);
            },
            2,
            80,
        ),
    ];
    for (mistake, tag, method) in table {
        let mut world = holding(3);
        mistake(&mut world);
        world.actions();
        let text = format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
        assert_eq!(world.close(), close(1, 406, &text, (60, method)));
    }
}

#[test]
fn tag_0_with_multiple_is_everything_and_never_a_mistake() {
    let mut world = holding(3);
    world.ack(0, true);
    world.ack(0, true);
    assert_eq!(settled(&mut world), [(Settlement::Ack, vec![1, 2, 3])]);
    assert!(world.frames().is_empty());
}

#[test]
fn a_channel_wide_prefetch_holds_deliveries_back_until_there_is_room() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    world.consume(2, AckMode::Manual);
    world.consume(3, AckMode::Automatic);
    world.send(1, calls::channel_qos(2));
    world.actions();
    world.frames();
    let delivered: Vec<Delivered> =
        [(1, 1), (2, 2), (1, 3), (2, 4), (3, 5)].map(|(to, position)| world.deliver(to, position)).into();
    use Delivered::{Waiting, Written};
    // What needs no acknowledgement does not count, but waits its turn.
    assert_eq!(delivered, [Written, Written, Waiting, Waiting, Waiting]);
    let before = [(1, "1"), (2, "2")].map(|(tag, body)| (tag, body.to_owned()));
    assert_eq!(world.delivered(), before);
    assert_eq!(world.connection.take_handed_over().len(), 2);
    world.ack(1, false);
    world.actions();
    assert_eq!(world.delivered(), [(3, "3".to_owned())]);
    // Raised: everything that waits comes, in order.
    world.send(1, calls::channel_qos(0));
    world.actions();
    assert_eq!(world.delivered(), [(4, "4".to_owned()), (5, "5".to_owned())]);
    assert_eq!(world.connection.take_handed_over().len(), 3);
}

#[test]
fn a_lowered_channel_wide_prefetch_counts_what_is_held_already() {
    let mut world = holding(3);
    world.send(1, calls::channel_qos(2));
    world.actions();
    world.frames();
    assert_eq!(world.deliver(1, 4), Delivered::Waiting);
    world.ack(1, false);
    world.actions();
    assert!(world.delivered().is_empty());
    world.ack(2, false);
    world.actions();
    assert_eq!(world.delivered(), [(4, "4".to_owned())]);
}

#[test]
fn what_waits_for_a_consumer_goes_back_when_it_ends() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    world.consume(2, AckMode::Manual);
    world.consume(3, AckMode::Manual);
    world.send(1, calls::channel_qos(1));
    world.actions();
    for (to, position) in [(1, 1), (1, 2), (2, 3), (3, 4), (1, 5)] {
        world.deliver(to, position);
    }
    world.frames();
    world.send(1, calls::cancel(&s("c1")));
    let Request::Cancel(cancel) = world.request() else { panic!("no cancel") };
    let waiting = world.connection.end_consumer(C1, cancel.subscription, &mut world.out).unwrap();
    assert_eq!(positions(&waiting), [2, 5]);
    world.reply(Ok(Reply::Done));
    let ended = world.connection.cancel_consumer(C1, SubscriptionId(2), &mut world.out).unwrap();
    assert_eq!(positions(&ended.waiting), [3]);
    world.frames();
    world.send(1, calls::close_channel());
    let Some(Action::ChannelClosed { returned, waiting, subscriptions, .. }) = world.next() else {
        panic!("no close")
    };
    assert_eq!((positions(&returned), positions(&waiting)), (vec![1], vec![4]));
    assert_eq!(subscriptions, [SubscriptionId(3)]);
}

#[test]
fn confirm_numbers_start_at_1_with_the_first_publish_after_select() {
    let mut world = World::with_channel();
    world.publish(1, b"before");
    assert_eq!(world.publishes()[0].number, 0);
    for expected in [[1, 2], [3, 4]] {
        // Selecting again does not start again.
        world.send(1, calls::select_confirms());
        world.publish(1, b"a");
        world.publish(1, b"b");
        let numbers: Vec<u64> = world.publishes().iter().map(|publish| publish.number).collect();
        assert_eq!(numbers, expected);
    }
}

/// A channel in confirm mode with that many publishes.
fn published(count: u64) -> World {
    let mut world = World::with_channel();
    world.send(1, calls::select_confirms());
    for _ in 0..count {
        world.publish(1, b"m");
    }
    world.actions();
    world.frames();
    world
}

fn confirms(world: &mut World) -> Vec<(bool, u64, bool)> {
    world
        .frames()
        .into_iter()
        .map(|frame| match frame {
            ServerFrame::Ack { tag, multiple, .. } => (true, tag, multiple),
            ServerFrame::Nack { tag, multiple, .. } => (false, tag, multiple),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn confirms_are_joined_where_everything_below_is_done() {
    let mut world = published(10);
    world.connection.confirm(C1, 1, &[1], &mut world.out);
    assert_eq!(confirms(&mut world), [(true, 1, false)]);
    world.connection.confirm(C1, 1, &[2, 3, 4], &mut world.out);
    assert_eq!(confirms(&mut world), [(true, 4, true)]);
    world.connection.confirm(C1, 1, &[9, 6, 7], &mut world.out);
    assert_eq!(confirms(&mut world), [(true, 6, false), (true, 7, false), (true, 9, false)]);
    world.connection.reject_publish(C1, 1, &[5], &mut world.out);
    assert_eq!(confirms(&mut world), [(false, 5, false)]);
    world.connection.confirm(C1, 1, &[10, 8], &mut world.out);
    assert_eq!(confirms(&mut world), [(true, 10, true)]);
    // Done before, or never published.
    world.connection.confirm(C1, 1, &[1, 5, 10, 11, 0], &mut world.out);
    assert_eq!(confirms(&mut world), []);
}

#[test]
fn a_confirm_that_covers_only_itself_does_not_say_multiple() {
    let mut world = published(4);
    world.connection.confirm(C1, 1, &[1, 3, 4], &mut world.out);
    assert_eq!(confirms(&mut world), [(true, 1, false), (true, 3, false), (true, 4, false)]);
}

#[test]
fn a_nack_carries_the_requeue_bit_as_rabbitmqs_does() {
    let mut world = published(2);
    world.connection.reject_publish(C1, 1, &[1, 2], &mut world.out);
    assert_eq!(&world.out[..], [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 120, 0, 0, 0, 0, 0, 0, 0, 2, 3, 0xCE]);
}

#[test]
fn confirm_and_tx_mode_exclude_each_other() {
    let mut world = World::with_channel();
    world.send(1, calls::select_confirms());
    world.send(1, calls::select_transactions());
    world.actions();
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    assert_eq!(world.close(), close(1, 406, text, (90, 10)));
    let mut world = World::with_channel();
    world.send(1, calls::select_transactions());
    world.send(1, calls::select_transactions());
    world.send(1, calls::select_confirms());
    world.actions();
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    assert_eq!(world.close(), close(1, 406, text, (85, 10)));
    for (call, method) in [(calls::commit(), 20), (calls::rollback(), 30)] {
        let mut world = World::with_channel();
        world.send(1, call);
        world.actions();
        let text = "PRECONDITION_FAILED - channel is not transactional";
        assert_eq!(world.close(), close(1, 406, text, (90, method)));
    }
}

/// A transactional channel whose client holds four deliveries.
fn transactional() -> World {
    let mut world = holding(4);
    world.send(1, calls::select_transactions());
    world.actions();
    world.frames();
    world
}

#[test]
fn a_commit_brings_publishes_and_settlements_in_order() {
    let mut world = transactional();
    world.publish(1, b"a");
    world.ack(2, false);
    world.publish(1, b"b");
    world.ack(1, false);
    client::encode_reject(C1, 3, false, &mut world.input);
    world.send(1, calls::commit());
    assert_eq!(world.checked(2), ["a", "b"], "each is checked when it is published");
    let Request::TxCommit(commit) = world.request() else { panic!("no commit") };
    let bodies: Vec<_> = commit.publishes.iter().map(|publish| &publish.message.body[..]).collect();
    assert_eq!(bodies, [b"a", b"b"]);
    let settlements: Vec<_> =
        commit.settlements.iter().map(|(outcome, deliveries)| (*outcome, positions(deliveries))).collect();
    assert_eq!(settlements, [(Settlement::Ack, vec![2, 1]), (Settlement::Reject, vec![3])]);
    world.reply(Ok(Reply::Done));
    let ok = AMQPClass::Tx(tx::AMQPMethod::CommitOk(tx::CommitOk {}));
    assert_eq!(world.frames(), [ServerFrame::Method(C1, ok)]);
    world.send(1, calls::close_channel());
    let Some(Action::ChannelClosed { returned, .. }) = world.next() else { panic!("no close") };
    assert_eq!(positions(&returned), [4]);
}

#[test]
fn a_commit_that_fails_gives_back_what_was_settled_in_it() {
    let mut world = transactional();
    world.ack(2, true);
    world.send(1, calls::commit());
    world.request();
    world.reply(Err(AmqpError::new(ReplyCode::PreconditionFailed, "partial tx completion")));
    assert_eq!(world.close(), close(1, 406, "PRECONDITION_FAILED - partial tx completion", (90, 20)));
    let Some(Action::ChannelClosed { returned, .. }) = world.next() else { panic!("no close") };
    assert_eq!(positions(&returned), [1, 2, 3, 4]);
}

#[test]
fn a_rollback_forgets_publishes_and_makes_settlements_open_again() {
    let mut world = transactional();
    world.publish(1, b"a");
    world.ack(2, true);
    world.send(1, calls::rollback());
    world.ack(1, false);
    world.send(1, calls::commit());
    world.checked(1);
    assert!(matches!(world.next(), Some(Action::RolledBack { channel }) if channel == C1));
    let Request::TxCommit(commit) = world.request() else { panic!("no commit") };
    assert!(commit.publishes.is_empty());
    assert_eq!(commit.settlements.len(), 1);
    assert_eq!(positions(&commit.settlements[0].1), [1]);
}

#[test]
fn a_publish_that_is_refused_when_checked_closes_the_channel_and_commits_nothing() {
    let mut world = transactional();
    world.publish(1, b"a");
    world.send(1, calls::commit());
    world.checked(1);
    let error = AmqpError::new(ReplyCode::NotFound, "no exchange 'x' in vhost '/'");
    world.connection.fail_channel(C1, 1, error, 60, 40, &mut world.out);
    let text = "NOT_FOUND - no exchange 'x' in vhost '/'";
    assert_eq!(world.close(), close(1, 404, text, (60, 40)));
    assert!(matches!(world.actions()[..], [Action::ChannelClosed { .. }]));
}

#[test]
fn a_tag_settled_in_a_transaction_cannot_be_settled_again() {
    let mut world = transactional();
    world.ack(2, false);
    world.ack(2, false);
    world.actions();
    assert_eq!(world.close(), close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 2", (60, 80)));
}

#[test]
fn a_transaction_frees_the_channel_wide_prefetch_only_when_it_commits() {
    let mut world = transactional();
    world.send(1, calls::channel_qos(4));
    world.actions();
    assert_eq!(world.deliver(1, 5), Delivered::Waiting);
    world.ack(1, false);
    world.actions();
    assert!(world.delivered().is_empty());
    world.send(1, calls::commit());
    world.request();
    world.reply(Ok(Reply::Done));
    assert_eq!(world.delivered(), [(5, "5".to_owned())]);
}

#[test]
fn a_transaction_is_bounded() {
    let config = ConnectionConfig { max_held_bytes: 10_000, ..ConnectionConfig::default() };
    let mut world = World::open_with(config, FieldTable::default());
    world.open_channel(1);
    world.send(1, calls::select_transactions());
    for _ in 0..20 {
        for _ in 0..5 {
            world.publish(1, &[0; 1_000]);
        }
        world.send(1, calls::rollback());
        assert_eq!(world.checked(5).len(), 5, "each transaction is within bounds");
        assert!(matches!(world.next(), Some(Action::RolledBack { .. })));
    }
    assert!(world.next().is_none());
    world.frames();
    for _ in 0..11 {
        world.publish(1, &[0; 1_000]);
    }
    world.actions();
    let close = world.close();
    assert_eq!((close.channel, close.code, close.blamed), (0, 506, (60, 40)));
}

#[derive(Clone, Debug)]
enum Step {
    Deliver,
    DeliverAutomatic,
    Settle { tag: u64, multiple: bool },
    Prefetch(u16),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Deliver),
        1 => Just(Step::DeliverAutomatic),
        4 => (0_u64..40, any::<bool>()).prop_map(|(tag, multiple)| Step::Settle { tag, multiple }),
        1 => (0_u16..6).prop_map(Step::Prefetch),
    ]
}

proptest! {
    /// A channel against a naive one: a map of tags, a list of what waits.
    #[test]
    fn a_channel_holds_and_settles_what_a_naive_one_does(steps in prop::collection::vec(any_step(), 0..120)) {
        let mut world = World::with_channel();
        world.consume(1, AckMode::Manual);
        world.consume(2, AckMode::Automatic);
        let (mut held, mut waiting) = (BTreeMap::new(), Vec::new());
        let (mut next_tag, mut next_position, mut prefetch) = (1_u64, 1_u64, 0_usize);
        for step in steps {
            let (mut expected, mut expected_settled) = (Vec::new(), Vec::new());
            match step {
                Step::Deliver => {
                    waiting.push((AckMode::Manual, next_position));
                    world.deliver(1, next_position);
                    next_position += 1;
                }
                Step::DeliverAutomatic => {
                    waiting.push((AckMode::Automatic, next_position));
                    world.deliver(2, next_position);
                    next_position += 1;
                }
                Step::Prefetch(count) => {
                    prefetch = count.into();
                    world.send(1, calls::channel_qos(count));
                }
                Step::Settle { tag, multiple } => {
                    let covered: Vec<u64> = match (tag, multiple) {
                        (0, true) => held.keys().copied().collect(),
                        (tag, true) => held.range(..=tag).map(|(tag, _)| *tag).collect(),
                        (tag, false) => vec![tag],
                    };
                    if !(tag == 0 && multiple || held.contains_key(&tag)) {
                        // A mistake would end the run.
                        continue;
                    }
                    expected_settled = covered.iter().filter_map(|tag| held.remove(tag)).collect();
                    world.ack(tag, multiple);
                }
            }
            while !waiting.is_empty() && (prefetch == 0 || held.len() < prefetch) {
                let (ack_mode, position) = waiting.remove(0);
                if ack_mode == AckMode::Manual {
                    held.insert(next_tag, position);
                }
                expected.push((next_tag, position.to_string()));
                next_tag += 1;
            }
            let settled: Vec<u64> = settled(&mut world).into_iter().flat_map(|(_, positions)| positions).collect();
            prop_assert_eq!(settled, expected_settled);
            prop_assert_eq!(world.delivered(), expected);
            let info = world.connection.channels().next().unwrap();
            prop_assert_eq!((info.unacknowledged, info.waiting), (held.len(), waiting.len()));
        }
        let actions = world.connection.disconnected();
        let [Action::ChannelClosed { returned, waiting: given_back, .. }] = &actions[..] else { panic!() };
        prop_assert_eq!(positions(returned), held.into_values().collect::<Vec<_>>());
        let waiting: Vec<u64> = waiting.into_iter().map(|(_, position)| position).collect();
        prop_assert_eq!(positions(given_back), waiting);
    }

    /// Whatever order numbers are done in, the client learns of each exactly once, with the right outcome.
    #[test]
    fn a_client_learns_of_each_publish_once(
        order in Just((1..=40_u64).collect::<Vec<_>>()).prop_shuffle(),
        batches in prop::collection::vec((1_usize..8, any::<bool>()), 1..40),
    ) {
        let mut world = published(40);
        let mut open: BTreeMap<u64, ()> = (1..=40).map(|number| (number, ())).collect();
        let mut left = &order[..];
        for (size, accepted) in batches {
            let (batch, rest) = left.split_at(size.min(left.len()));
            left = rest;
            if accepted {
                world.connection.confirm(C1, 1, batch, &mut world.out);
            } else {
                world.connection.reject_publish(C1, 1, batch, &mut world.out);
            }
            let mut learned = Vec::new();
            for (ack, tag, multiple) in confirms(&mut world) {
                prop_assert_eq!(ack, accepted);
                let covered: Vec<u64> = if multiple {
                    open.range(..=tag).map(|(number, ())| *number).collect()
                } else {
                    vec![tag]
                };
                for number in covered {
                    prop_assert!(open.remove(&number).is_some(), "{} was told twice", number);
                    learned.push(number);
                }
            }
            learned.sort_unstable();
            let mut batch = batch.to_vec();
            batch.sort_unstable();
            prop_assert_eq!(learned, batch);
        }
        let info = world.connection.channels().next().unwrap();
        prop_assert_eq!(info.unconfirmed, Some(open.len() as u64));
    }

    /// Cutting the same bytes differently changes nothing that is seen outside.
    #[test]
    fn reads_may_end_anywhere(cuts in prop::collection::vec(1_usize..60, 1..40)) {
        let mut script = BytesMut::new();
        client::encode_method(C1, calls::select_confirms(), &mut script);
        for body in [&b"first"[..], b"", b"a longer body that takes more frames"] {
            client::encode_publish(C1, true, &message(body), 8 + 10, &mut script);
        }
        client::encode_method(C1, calls::qos(5), &mut script);
        client::encode_publish(C1, false, &message(b"last"), 131_072, &mut script);
        let mut whole = World::with_channel();
        whole.raw(&script);
        let expected = (whole.publishes(), whole.frames());
        let mut world = World::with_channel();
        let (mut publishes, mut rest) = (Vec::new(), &script[..]);
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            world.raw(piece);
            publishes.extend(world.publishes());
        }
        prop_assert_eq!((publishes, world.frames()), expected);
    }
}

#[test]
fn what_is_held_too_long_is_taken_away_once_and_its_late_ack_has_no_effect() {
    let mut world = World::with_channel();
    world.consume(1, AckMode::Manual);
    for position in 1..=3 {
        world.connection.set_time(position * 100);
        world.deliver(1, position);
    }
    world.frames();
    world.ack(1, false);
    assert_eq!(settled(&mut world), [(Settlement::Ack, vec![1])]);
    let overdue = |limit: u64| move |_: &_, since: u64| since <= limit;
    let lapsed = world.connection.lapse(overdue(200));
    let lapsed: Vec<_> = lapsed.iter().map(|(number, _, held)| (number.0, positions(held))).collect();
    assert_eq!(lapsed, [(1, vec![2])]);
    assert_eq!(world.connection.lapse(overdue(200)), []);
    // Its tag is still known, and passed over among others.
    world.ack(3, true);
    assert_eq!(settled(&mut world), [(Settlement::Ack, vec![3])]);
    world.ack(2, false);
    assert!(settled(&mut world).is_empty());
    // A second ack of it is one of an unknown tag.
    assert_eq!(world.close(), close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 2", (60, 80)));
}

#[test]
fn what_was_taken_away_does_not_go_back_again_with_its_channel() {
    let mut world = holding(2);
    world.connection.lapse(|source, _| source.position.0 == 1);
    let returned: Vec<Vec<u64>> = world
        .connection
        .disconnected()
        .into_iter()
        .filter_map(|action| match action {
            Action::ChannelClosed { returned, .. } => Some(positions(&returned)),
            _ => None,
        })
        .collect();
    assert_eq!(returned, [[2]]);
}
