//! Streams: readers with places of their own, what they are sent, and what the stream keeps.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's world")]

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;

use kit::*;
use proptest::prelude::*;
use warren_proto::session::{Delivery, HomeFrame, LeaderFrame, StreamFilter, StreamOffset, Subscribe};
use warren_proto::shard::{Op, SettleReason};
use warren_queue::stream_offset;
use warren_types::{
    AMQPValue, FieldTable, Message, Position, PositionRange, QueueSettings, StreamSettings, SubscriptionId,
    UnixMillis,
};

fn stream() -> QueueSettings {
    QueueSettings { stream: Some(StreamSettings::default()), ..QueueSettings::default() }
}

fn bench(settings: QueueSettings) -> Bench {
    let mut directory = Directory::with([1]);
    directory.settings.insert(Q, Arc::new(settings));
    let mut bench = Bench::with(config(), directory);
    bench.attach(1, 1, 1);
    bench
}

fn reader(subscription: u64, prefetch: u32, offset: StreamOffset) -> Subscribe {
    Subscribe { offset: Some(offset), ..consumer(subscription, prefetch) }
}

fn read(bench: &mut Bench, key: u64, subscription: u64, prefetch: u32, offset: StreamOffset) {
    bench.frame(key, HomeFrame::Subscribe(reader(subscription, prefetch, offset)));
}

/// What the reader was sent.
fn sent(bench: &mut Bench, key: u64, subscription: u64) -> Vec<Delivery> {
    bench.take_deliveries(key, subscription)
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(shown).collect()
}

fn got(bench: &mut Bench, key: u64, subscription: u64) -> Vec<String> {
    texts(&sent(bench, key, subscription))
}

fn ack(bench: &mut Bench, key: u64, deliveries: &[Delivery]) {
    let ranges = PositionRange::collect(deliveries.iter().map(|delivery| delivery.position));
    bench.settle(key, &ranges);
}

#[test]
fn every_reader_gets_every_message_and_takes_none_away() {
    let mut bench = bench(stream());
    bench.publish(1, &["a", "b"]);
    read(&mut bench, 1, 1, 10, StreamOffset::First);
    read(&mut bench, 1, 2, 10, StreamOffset::First);
    bench.publish(1, &["c"]);
    for subscription in [1, 2] {
        let deliveries = sent(&mut bench, 1, subscription);
        assert_eq!(texts(&deliveries), ["a", "b", "c"]);
        ack(&mut bench, 1, &deliveries);
    }
    assert_eq!(bench.counts(), (3, 0));
    assert_eq!(bench.store.live(Q).len(), 3);
}

#[test]
fn an_ack_is_room_for_more_and_nothing_else() {
    let mut bench = bench(stream());
    read(&mut bench, 1, 1, 2, StreamOffset::First);
    bench.publish(1, &["a", "b", "c", "d"]);
    let first = sent(&mut bench, 1, 1);
    assert_eq!(texts(&first), ["a", "b"]);
    ack(&mut bench, 1, &first[..1]);
    assert_eq!(got(&mut bench, 1, 1), ["c"]);
    // The same once more, as a home that is not sure does.
    ack(&mut bench, 1, &first[..1]);
    assert_eq!(got(&mut bench, 1, 1), [] as [&str; 0]);
}

#[test]
fn two_readers_of_one_home_are_told_apart() {
    let mut bench = bench(stream());
    read(&mut bench, 1, 1, 1, StreamOffset::First);
    read(&mut bench, 1, 2, 1, StreamOffset::First);
    bench.publish(1, &["a", "b"]);
    let (one, two) = (sent(&mut bench, 1, 1), sent(&mut bench, 1, 2));
    assert_ne!(one[0].position, two[0].position);
    assert_eq!(stream_offset(one[0].position), stream_offset(two[0].position));
    ack(&mut bench, 1, &one);
    assert_eq!(got(&mut bench, 1, 1), ["b"]);
    assert_eq!(got(&mut bench, 1, 2), [] as [&str; 0]);
}

#[test]
fn a_reader_begins_where_it_says() {
    let mut bench = bench(stream());
    for text in ["a", "b", "c", "d"] {
        bench.publish(1, &[text]);
        bench.wait(1000);
    }
    let began = bench.now.0 - 4000;
    let all = ["a", "b", "c", "d"];
    for (number, (offset, skipped)) in [
        (StreamOffset::First, 0),
        (StreamOffset::Last, 3),
        (StreamOffset::Next, 4),
        (StreamOffset::Offset(0), 0),
        (StreamOffset::Offset(2), 2),
        (StreamOffset::Offset(1000), 4),
        (StreamOffset::Since(UnixMillis(0)), 0),
        (StreamOffset::Since(UnixMillis(began)), 0),
        (StreamOffset::Since(UnixMillis(began + 1)), 1),
        (StreamOffset::Since(UnixMillis(began + 3000)), 3),
        (StreamOffset::Since(UnixMillis(u64::MAX)), 4),
    ]
    .into_iter()
    .enumerate()
    {
        let subscription = number as u64 + 1;
        read(&mut bench, 1, subscription, 100, offset);
        assert_eq!(got(&mut bench, 1, subscription), all[skipped..], "{offset:?}");
    }
}

#[test]
fn a_stream_without_messages_waits_for_the_first_whatever_was_asked() {
    for offset in [
        StreamOffset::First,
        StreamOffset::Last,
        StreamOffset::Next,
        StreamOffset::Offset(0),
        StreamOffset::Offset(7),
        StreamOffset::Since(UnixMillis(5)),
    ] {
        let mut bench = bench(stream());
        read(&mut bench, 1, 1, 10, offset);
        bench.publish(1, &["a"]);
        assert_eq!(got(&mut bench, 1, 1), ["a"], "{offset:?}");
    }
}

#[test]
fn a_reader_far_behind_is_served_from_the_store() {
    let mut bench = bench(stream());
    let bodies: Vec<String> = (0..5000).map(|number| number.to_string()).collect();
    bench.publish(1, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    read(&mut bench, 1, 1, 300, StreamOffset::First);
    let mut all = Vec::new();
    loop {
        let deliveries = sent(&mut bench, 1, 1);
        if deliveries.is_empty() {
            break;
        }
        all.extend(texts(&deliveries));
        bench.credit(1, 1, 1000, u64::MAX);
        ack(&mut bench, 1, &deliveries);
    }
    assert_eq!(all, bodies);
}

#[test]
fn readers_go_on_where_they_were_under_the_next_leader() {
    let mut bench = bench(stream());
    read(&mut bench, 1, 1, 3, StreamOffset::First);
    bench.publish(1, &["a", "b", "c", "d", "e"]);
    let first = sent(&mut bench, 1, 1);
    assert_eq!(texts(&first), ["a", "b", "c"]);
    bench.fail_over(0, &[1]);
    let positions = PositionRange::collect(first.iter().map(|delivery| delivery.position));
    let next = StreamOffset::Offset(stream_offset(first[2].position) + 1);
    bench.attach_with(2, 1, 2, vec![reader(1, 3, next)], vec![held(Some(1), &positions)]);
    assert_eq!(got(&mut bench, 2, 1), [] as [&str; 0], "it holds three");
    ack(&mut bench, 2, &first);
    assert_eq!(got(&mut bench, 2, 1), ["d", "e"]);
}

#[test]
fn a_reader_of_what_comes_next_is_told_where_that_is() {
    let mut bench = bench(stream());
    bench.publish(1, &["a", "b"]);
    bench.frames(1);
    read(&mut bench, 1, 1, 3, StreamOffset::Next);
    let told = bench.frames(1).into_iter().find_map(|frame| match frame {
        LeaderFrame::Subscribed { next_offset, .. } => Some(next_offset),
        _ => None,
    });
    assert_eq!(told, Some(Some(2)));
}

#[test]
fn what_is_over_the_limit_leaves_from_the_head() {
    let mut bench = bench(QueueSettings { max_length_bytes: Some(6), ..stream() });
    bench.publish(1, &["aaa", "bbb"]);
    assert_eq!(bench.counts().0, 2);
    bench.publish(1, &["c"]);
    assert_eq!(bench.store.live(Q), [Position(2), Position(3)]);
    read(&mut bench, 1, 1, 10, StreamOffset::Offset(0));
    assert_eq!(got(&mut bench, 1, 1), ["bbb", "c"]);
    bench.publish(1, &["much too long"]);
    assert_eq!(bench.store.live(Q), [Position(4)], "the last one stays");
}

#[test]
fn nobody_is_sent_what_is_on_its_way_out() {
    let mut bench = bench(QueueSettings { max_length_bytes: Some(2), ..stream() });
    bench.publish(1, &["a", "b"]);
    bench.hold = true;
    bench.publish(1, &["c"]);
    bench.commit(1);
    assert_eq!(bench.store.live(Q).len(), 3, "the log does not know yet that one leaves");
    assert_eq!(bench.counts().0, 2);
    read(&mut bench, 1, 1, 10, StreamOffset::First);
    assert_eq!(got(&mut bench, 1, 1), ["b", "c"]);
}

#[test]
fn what_is_too_old_leaves_from_the_head() {
    let settings = QueueSettings {
        stream: Some(StreamSettings { max_age_ms: Some(10_000), ..StreamSettings::default() }),
        ..QueueSettings::default()
    };
    let mut bench = bench(settings);
    bench.publish(1, &["a", "b"]);
    bench.wait(6000);
    bench.publish(1, &["c", "d"]);
    bench.wait(6000);
    assert_eq!(bench.store.live(Q), [Position(3), Position(4)]);
    let expired = bench.ops().filter(|op| matches!(op, Op::Settle { reason: SettleReason::Expired, .. }));
    assert_eq!(expired.count(), 1);
    bench.wait(60_000);
    assert_eq!(bench.store.live(Q), [Position(4)]);
}

#[test]
fn a_reader_that_ends_gets_nothing_more_and_a_closed_channel_gives_nothing_back() {
    let mut bench = bench(stream());
    read(&mut bench, 1, 1, 10, StreamOffset::First);
    bench.publish(1, &["a"]);
    let deliveries = sent(&mut bench, 1, 1);
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(1) });
    bench.give_back(1, &[PositionRange::one(deliveries[0].position)], true, true);
    bench.publish(1, &["b"]);
    assert_eq!(got(&mut bench, 1, 1), [] as [&str; 0]);
    assert_eq!(bench.counts(), (2, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Read { prefetch: u32, offset: u64 },
    Ack(usize),
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..6_u8).prop_map(Step::Publish),
        1 => (1..5_u32, 0..20_u64).prop_map(|(prefetch, offset)| Step::Read { prefetch, offset }),
        5 => (0..6_usize).prop_map(Step::Ack),
        1 => Just(Step::FailOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Each reader gets every message from its offset on, in order and once, never more than its prefetch at a time,
    /// whoever leads.
    #[test]
    fn readers_miss_nothing_and_get_nothing_twice(steps in prop::collection::vec(step(), 0..60)) {
        let mut bench = bench(stream());
        let (mut published, mut key) = (0_u64, 1_u64);
        // What each reader gets next, its prefetch, what it holds.
        let mut readers: BTreeMap<u64, (u64, u32, Vec<Delivery>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Publish(count) => {
                    let bodies: Vec<String> = (0..u64::from(count)).map(|more| (published + more).to_string()).collect();
                    bench.publish(key, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
                    published += u64::from(count);
                }
                Step::Read { prefetch, offset } => {
                    let subscription = readers.len() as u64 + 1;
                    readers.insert(subscription, (offset.min(published), prefetch, Vec::new()));
                    read(&mut bench, key, subscription, prefetch, StreamOffset::Offset(offset));
                }
                Step::Ack(which) => {
                    let held: Vec<(u64, Delivery)> = readers
                        .iter()
                        .flat_map(|(id, (_, _, held))| held.iter().map(|delivery| (*id, delivery.clone())))
                        .collect();
                    if let Some((id, delivery)) = held.get(which) {
                        ack(&mut bench, key, std::slice::from_ref(delivery));
                        readers.get_mut(id).unwrap().2.retain(|held| held.position != delivery.position);
                    }
                }
                Step::FailOver => {
                    bench.fail_over(0, &[1]);
                    key += 1;
                    let subscriptions = readers
                        .iter()
                        .map(|(id, (next, prefetch, _))| reader(*id, *prefetch, StreamOffset::Offset(*next)))
                        .collect();
                    let claims = readers
                        .iter()
                        .map(|(id, (_, _, held_now))| {
                            let positions = held_now.iter().map(|delivery| delivery.position);
                            held(Some(*id), &PositionRange::collect(positions))
                        })
                        .collect();
                    bench.attach_with(key, 1, key, subscriptions, claims);
                    bench.seqs_from(key, published);
                }
            }
            for (id, (next, prefetch, held)) in &mut readers {
                for delivery in sent(&mut bench, key, *id) {
                    prop_assert_eq!(text(&delivery.message), next.to_string());
                    prop_assert_eq!(stream_offset(delivery.position), *next);
                    *next += 1;
                    held.push(delivery);
                }
                prop_assert!(held.len() <= *prefetch as usize);
                prop_assert!(held.len() == *prefetch as usize || *next == published, "{} waits", id);
            }
            let ids: Vec<u64> = readers.keys().copied().collect();
            for id in ids {
                bench.credit(key, id, 1000, u64::MAX);
            }
        }
        prop_assert_eq!(bench.counts().0, published);
    }
}

/// A message that filters can tell from others.
fn labelled(text: &str, value: &str) -> Message {
    let mut table = FieldTable::default();
    table.insert("x-stream-filter-value".into(), AMQPValue::LongString(value.into()));
    let mut properties = (1_u16 << 13).to_be_bytes().to_vec();
    warren_types::table::encode(&table, &mut properties);
    Message { properties: properties.into(), ..message(text) }
}

#[test]
fn a_reader_with_a_filter_gets_what_it_asked_for_in_memory_and_from_the_store() {
    let mut bench = bench(stream());
    let publish = |bench: &mut Bench| {
        let messages = [labelled("a1", "a"), labelled("b1", "b"), message("none"), labelled("a2", "a")];
        bench.publish_messages(1, messages.into_iter().collect());
    };
    publish(&mut bench);
    let filter = |values: &[&str], unfiltered| {
        Some(StreamFilter {
            values: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
            unfiltered,
        })
    };
    for (subscription, filter) in [
        (1, filter(&["a"], false)),
        (2, filter(&["b"], true)),
        (3, filter(&["a", "b"], false)),
        (4, filter(&[], false)),
    ] {
        let subscribe = Subscribe { filter, ..reader(subscription, 1, StreamOffset::First) };
        bench.frame(1, HomeFrame::Subscribe(subscribe));
    }
    publish(&mut bench);
    let mut all = vec![Vec::new(); 5];
    for _ in 0..8 {
        for (subscription, all) in (1_u64..=4).zip(all.iter_mut().skip(1)) {
            let deliveries = sent(&mut bench, 1, subscription);
            all.extend(texts(&deliveries));
            ack(&mut bench, 1, &deliveries);
        }
    }
    assert_eq!(all[1], ["a1", "a2", "a1", "a2"]);
    assert_eq!(all[2], ["b1", "none", "b1", "none"]);
    assert_eq!(all[3], ["a1", "b1", "a2", "a1", "b1", "a2"]);
    assert_eq!(all[4], [] as [&str; 0]);
}
