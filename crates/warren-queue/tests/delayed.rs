//! Messages that come into their queue later: when, in which order, under which leader, and what it costs to wait.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's world")]

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;

use kit::*;
use proptest::prelude::*;
use warren_proto::session::HomeFrame;
use warren_proto::shard::{Op, SettleReason};
use warren_queue::LeaderConfig;
use warren_types::{Message, Overflow, QueueSettings, SessionPublish, UnixMillis};

/// A message as its home sends it: the header says that its delay is taken.
fn late(text: &str, delay_ms: u32) -> SessionPublish {
    let mut entry = b"\x07x-delayl".to_vec();
    entry.extend((-i64::from(delay_ms)).to_be_bytes());
    let mut properties = (1_u16 << 13).to_be_bytes().to_vec();
    properties.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
    properties.extend(entry);
    let message = Message { properties: properties.into(), ..message(text) };
    SessionPublish { queues: vec![Q], message, delay_ms }
}

fn publish(bench: &mut Bench, key: u64, first_seq: u64, messages: &[(&str, u32)]) {
    let messages = messages.iter().map(|(text, delay_ms)| late(text, *delay_ms)).collect();
    bench.frame(key, HomeFrame::Publish { first_seq, messages });
}

fn bench_with(settings: QueueSettings) -> Bench {
    let mut directory = Directory::with([1]);
    directory.settings.insert(Q, Arc::new(settings));
    let mut bench = Bench::with(config(), directory);
    bench.attach(1, 1, 1);
    bench
}

fn bench() -> Bench {
    bench_with(QueueSettings::default())
}

fn delayed(bench: &Bench) -> u64 {
    bench.leader.counts(Q).map_or(0, |counts| counts.delayed)
}

fn get_all(bench: &mut Bench, key: u64) -> Vec<String> {
    std::iter::from_fn(|| bench.get(key).unwrap().0).collect()
}

const DAY: u64 = 86_400_000;

#[test]
fn a_delayed_message_is_confirmed_at_once_and_ready_when_it_is_due() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("a", 1000)]);
    assert_eq!(bench.marks(1).0, 1);
    assert_eq!((bench.counts(), delayed(&bench)), ((0, 0), 1));
    bench.wait(999);
    assert_eq!(bench.counts().0, 0);
    bench.wait(1);
    assert_eq!((bench.counts(), delayed(&bench)), ((1, 0), 0));
    assert_eq!(get_all(&mut bench, 1), ["a"]);
}

#[test]
fn they_come_in_the_order_in_which_they_are_due() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("c", 300), ("a", 100), ("b", 200), ("a2", 100)]);
    bench.wait(1000);
    assert_eq!(get_all(&mut bench, 1), ["a", "a2", "b", "c"]);
}

#[test]
fn the_clock_is_set_for_the_next_one() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("b", 5000), ("a", 1000)]);
    assert_eq!(bench.leader.next_timer(), Some(UnixMillis(bench.now.0 + 1000)));
    bench.wait(1000);
    assert_eq!(bench.leader.next_timer(), Some(UnixMillis(bench.now.0 + 4000)));
}

#[test]
fn a_waiting_consumer_gets_it_when_it_is_due() {
    let mut bench = bench();
    bench.subscribe(1, 1, 0);
    publish(&mut bench, 1, 1, &[("a", 50)]);
    bench.publish_messages_from(1, 2, &["now"]);
    assert_eq!(bench.delivered(1, 1), ["now"]);
    bench.wait(50);
    assert_eq!(bench.delivered(1, 1), ["a"]);
}

#[test]
fn weeks_away_it_is_not_read_before_its_time() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("a", u32::MAX), ("b", 20 * 86_400_000)]);
    for _ in 0..19 {
        bench.wait(DAY);
    }
    assert_eq!((bench.loads, bench.counts().0), (0, 0));
    bench.wait(DAY);
    assert_eq!(get_all(&mut bench, 1), ["b"]);
    bench.wait(29 * DAY);
    assert_eq!(get_all(&mut bench, 1), [] as [&str; 0]);
    bench.wait(DAY);
    assert_eq!(get_all(&mut bench, 1), ["a"]);
}

#[test]
fn the_next_leader_keeps_the_time() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("b", 2000), ("a", 1000), ("far", 40 * 86_400_000)]);
    bench.wait(500);
    bench.fail_over(0, &[]);
    bench.attach(2, 101, 2);
    assert_eq!((bench.counts(), delayed(&bench)), ((0, 0), 3));
    bench.wait(499);
    assert_eq!(bench.counts().0, 0);
    bench.wait(1);
    assert_eq!(get_all(&mut bench, 2), ["a"]);
    bench.wait(1000);
    assert_eq!(get_all(&mut bench, 2), ["b"]);
}

#[test]
fn what_became_due_while_nobody_led_comes_at_once_and_in_order() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("c", 3000), ("a", 1000), ("b", 3_600_000)]);
    bench.now = UnixMillis(bench.now.0 + 10 * DAY);
    bench.fail_over(0, &[]);
    bench.attach(2, 101, 2);
    bench.wait(1);
    assert_eq!(get_all(&mut bench, 2).len(), 3);
}

#[test]
fn a_leader_that_dies_between_loses_none_and_doubles_none() {
    for commit in 0..2 {
        let mut bench = bench();
        publish(&mut bench, 1, 1, &[("a", 100), ("b", 100)]);
        bench.hold = true;
        bench.wait(100);
        assert_eq!(bench.pending.len(), 1, "one record moves both");
        bench.hold = false;
        bench.fail_over(commit, &[]);
        bench.attach(2, 101, 2);
        bench.wait(1);
        assert_eq!(get_all(&mut bench, 2), ["a", "b"], "{commit} records were committed");
    }
}

#[test]
fn its_time_to_live_begins_when_it_is_due() {
    let mut bench = bench_with(QueueSettings { message_ttl_ms: Some(100), ..QueueSettings::default() });
    publish(&mut bench, 1, 1, &[("a", 1000)]);
    bench.wait(1000);
    bench.wait(99);
    assert_eq!(bench.counts().0, 1);
    bench.wait(1);
    assert_eq!(bench.counts().0, 0);
}

#[test]
fn it_is_not_over_a_limit_before_it_is_due_and_then_it_is_dropped() {
    let settings =
        QueueSettings { max_length: Some(1), overflow: Overflow::RejectPublish, ..QueueSettings::default() };
    let mut bench = bench_with(settings);
    publish(&mut bench, 1, 1, &[("a", 100), ("b", 200)]);
    assert_eq!(bench.nacked, [] as [u64; 0]);
    bench.wait(1000);
    assert_eq!(get_all(&mut bench, 1), ["a"]);
    bench.settle_all(1);
    assert_eq!(bench.store.bytes(), 0);
}

#[test]
fn purging_a_queue_leaves_what_is_not_in_it_and_deleting_it_does_not() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("a", 100)]);
    let purge = warren_proto::session::Ask::Purge { queue: Q };
    assert_eq!(bench.ask(1, purge), Some(warren_proto::session::Answer::Purged(0)));
    assert_eq!(delayed(&bench), 1);
    bench.directory.queues.clear();
    bench.input(warren_queue::Input::QueueDeleted(Q));
    assert_eq!(bench.store.bytes(), 0);
}

#[test]
fn a_bucket_whose_time_is_over_is_forgotten() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("a", 1000)]);
    bench.wait(1000);
    bench.wait(DAY);
    let dropped = bench.ops().filter(|op| matches!(op, Op::DropQueue { .. })).count();
    assert_eq!(dropped, 1);
    // Its number comes round again in 198 days.
    bench.now = UnixMillis(bench.now.0 + (1 << 34) - DAY);
    publish(&mut bench, 1, 2, &[("b", 1000)]);
    bench.wait(1000);
    assert_eq!(get_all(&mut bench, 1), ["a", "b"]);
}

#[test]
fn a_message_leaves_its_bucket_in_the_record_that_brings_it_into_the_queue() {
    let mut bench = bench();
    publish(&mut bench, 1, 1, &[("a", 100)]);
    bench.wait(100);
    let last = bench.records.last().unwrap();
    assert!(matches!(&last.ops[0], Op::Enqueue(enqueue) if enqueue.messages[0].queues == [Q]));
    assert!(matches!(&last.ops[1], Op::Settle { reason: SettleReason::DeadLettered, .. }));
}

#[test]
fn thousands_that_are_due_together_all_come() {
    let mut bench = Bench::with(LeaderConfig { cache_bytes: 1000, ..config() }, Directory::with([1]));
    bench.attach(1, 1, 1);
    for seq in 1..=3000 {
        publish(&mut bench, 1, seq, &[(&format!("m{seq}"), 5000)]);
    }
    bench.wait(5000);
    bench.wait(1);
    assert_eq!((bench.counts(), delayed(&bench)), ((3000, 0), 0));
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<u32>),
    Wait(u64),
    Get,
    FailOver,
}

fn step() -> impl Strategy<Value = Step> {
    let delay = prop_oneof![Just(1), 1..50_u32, 1..2_000_000_u32, 1..u32::MAX];
    prop_oneof![
        4 => prop::collection::vec(delay, 1..4).prop_map(Step::Publish),
        4 => prop_oneof![0..60_u64, 0..2_000_000_u64, 0..5 * DAY].prop_map(Step::Wait),
        3 => Just(Step::Get),
        1 => Just(Step::FailOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// What is due is ready, exactly once, and not before; what becomes due in one wait comes in that order.
    #[test]
    fn a_queue_with_delays_is_a_naive_one(steps in prop::collection::vec(step(), 0..60)) {
        let mut bench = bench();
        let mut waiting: BTreeMap<(u64, u64), String> = BTreeMap::new();
        let mut ready: Vec<String> = Vec::new();
        let (mut published, mut key) = (0, 1);
        for step in steps {
            match step {
                Step::Publish(delays) => {
                    let mut messages = Vec::new();
                    let first_seq = published + 1;
                    for delay_ms in delays {
                        published += 1;
                        let text = format!("m{published}");
                        messages.push(late(&text, delay_ms));
                        waiting.insert((bench.now.0 + u64::from(delay_ms), published), text);
                    }
                    bench.frame(key, HomeFrame::Publish { first_seq, messages });
                }
                Step::Wait(ms) => {
                    let ends = bench.now.0 + ms;
                    // As the host does: it wakes the leader at each of its times.
                    while let Some(next) = bench.leader.next_timer().filter(|next| next.0 <= ends) {
                        let step = next.0.saturating_sub(bench.now.0);
                        bench.wait(step);
                    }
                    let step = ends - bench.now.0;
                    bench.wait(step);
                }
                Step::Get => {
                    let got = bench.get(key).unwrap().0.map(|text| text.trim_end_matches('*').to_owned());
                    let expected = if ready.is_empty() { None } else { Some(ready.remove(0)) };
                    prop_assert_eq!(&got, &expected);
                    if got.is_some() {
                        bench.settle_all(key);
                    }
                }
                Step::FailOver => {
                    bench.fail_over(0, &[]);
                    key += 1;
                    bench.attach(key, 1, key);
                    bench.wait(0);
                }
            }
            while let Some(entry) = waiting.first_entry().filter(|entry| entry.key().0 <= bench.now.0) {
                ready.push(entry.remove());
            }
            prop_assert_eq!(bench.counts().0, ready.len() as u64);
            prop_assert_eq!(delayed(&bench), waiting.len() as u64);
        }
    }
}
