//! Messages that a queue has had already: what counts as the same, for how long, and under which leader.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's world")]

mod kit;

use std::collections::VecDeque;
use std::sync::Arc;

use kit::*;
use proptest::prelude::*;
use warren_proto::session::HomeFrame;
use warren_proto::shard::{Op, SettleReason};
use warren_types::{Deduplication, Message, Overflow, QueueId, QueueSettings, SessionPublish};

/// A message with a key in its headers.
fn keyed(text: &str, key: &str) -> Message {
    let mut entry = b"\x02idS".to_vec();
    entry.extend(u32::try_from(key.len()).unwrap().to_be_bytes());
    entry.extend(key.bytes());
    let mut properties = (1_u16 << 13).to_be_bytes().to_vec();
    properties.extend(u32::try_from(entry.len()).unwrap().to_be_bytes());
    properties.extend(entry);
    Message { properties: properties.into(), ..message(text) }
}

fn window(size: u64, ttl_ms: Option<u64>) -> QueueSettings {
    let deduplication = Some(Deduplication { header: "id".into(), size, ttl_ms });
    QueueSettings { deduplication, ..QueueSettings::default() }
}

fn bench(settings: QueueSettings) -> Bench {
    let mut directory = Directory::with([1, 2]);
    directory.settings.insert(Q, Arc::new(settings));
    let mut bench = Bench::with(config(), directory);
    bench.attach(1, 1, 1);
    bench
}

fn publish(bench: &mut Bench, key: u64, messages: &[(&str, &str)]) {
    bench.publish_messages(key, messages.iter().map(|(text, id)| keyed(text, id)).collect());
}

fn get_all(bench: &mut Bench, key: u64) -> Vec<String> {
    std::iter::from_fn(|| bench.get(key).unwrap().0).collect()
}

#[test]
fn a_repeated_message_is_confirmed_and_not_stored() {
    let mut bench = bench(window(10, None));
    publish(&mut bench, 1, &[("a", "1"), ("again", "1"), ("b", "2")]);
    assert_eq!((bench.marks(1).0, &bench.nacked[..]), (3, &[][..]));
    assert_eq!(get_all(&mut bench, 1), ["a", "b"]);
    publish(&mut bench, 1, &[("consumed long ago", "1")]);
    assert_eq!(bench.marks(1).0, 4);
    assert_eq!(get_all(&mut bench, 1), [] as [&str; 0]);
}

#[test]
fn what_has_no_key_is_never_repeated() {
    let mut bench = bench(window(10, None));
    bench.publish(1, &["a", "a"]);
    assert_eq!(get_all(&mut bench, 1), ["a", "a"]);
}

#[test]
fn without_the_argument_no_key_is_looked_at() {
    let mut bench = bench(QueueSettings::default());
    publish(&mut bench, 1, &[("a", "1"), ("b", "1")]);
    assert_eq!(get_all(&mut bench, 1), ["a", "b"]);
}

#[test]
fn the_oldest_keys_fall_out() {
    let mut bench = bench(window(2, None));
    publish(&mut bench, 1, &[("1", "1"), ("2", "2"), ("3", "3"), ("2 again", "2"), ("1 again", "1")]);
    assert_eq!(get_all(&mut bench, 1), ["1", "2", "3", "1 again"]);
    let keys = QueueId(0x200 << 48 | 1);
    assert_eq!(bench.store.live(keys).len(), 2, "the log keeps no more of them than the window");
}

#[test]
fn a_key_is_forgotten_after_its_time() {
    let mut bench = bench(window(10, Some(1000)));
    publish(&mut bench, 1, &[("a", "1")]);
    bench.wait(999);
    publish(&mut bench, 1, &[("repeated", "1")]);
    bench.wait(1);
    publish(&mut bench, 1, &[("b", "1")]);
    assert_eq!(get_all(&mut bench, 1), ["a", "b"]);
    bench.wait(10_000);
    assert_eq!(bench.store.live(QueueId(0x200 << 48 | 1)), []);
}

#[test]
fn long_keys_are_told_apart() {
    let mut bench = bench(window(10, None));
    let (one, other) = ("k".repeat(1000), "k".repeat(999) + "l");
    publish(&mut bench, 1, &[("a", &one), ("b", &other), ("again", &one)]);
    assert_eq!(get_all(&mut bench, 1), ["a", "b"]);
}

#[test]
fn another_queue_of_the_same_message_gets_it_every_time() {
    let mut bench = bench(window(10, None));
    let publish = || SessionPublish { queues: vec![Q, QueueId(2)], message: keyed("a", "1"), delay_ms: 0 };
    bench.frame(1, HomeFrame::Publish { first_seq: 1, messages: vec![publish(), publish()] });
    assert_eq!((bench.store.live(Q).len(), bench.store.live(QueueId(2)).len()), (1, 2));
}

#[test]
fn a_message_that_was_refused_leaves_no_key() {
    let settings =
        QueueSettings { max_length: Some(1), overflow: Overflow::RejectPublish, ..window(10, None) };
    let mut bench = bench(settings);
    publish(&mut bench, 1, &[("a", "1"), ("refused", "2")]);
    assert_eq!(bench.nacked, [2]);
    assert_eq!(get_all(&mut bench, 1), ["a"]);
    publish(&mut bench, 1, &[("comes now", "2")]);
    assert_eq!(get_all(&mut bench, 1), ["comes now"]);
}

#[test]
fn the_next_leader_knows_the_keys_before_it_takes_anything() {
    let mut bench = bench(window(3, None));
    publish(&mut bench, 1, &[("1", "1"), ("2", "2"), ("3", "3"), ("4", "4")]);
    assert_eq!(get_all(&mut bench, 1).len(), 4);
    bench.settle_all(1);
    bench.fail_over(0, &[]);
    bench.attach(2, 101, 2);
    publish(&mut bench, 2, &[("2 again", "2"), ("5", "5"), ("4 again", "4"), ("1 is new", "1")]);
    bench.wait(1);
    assert_eq!(bench.marks(2).0, 4);
    assert_eq!(get_all(&mut bench, 2), ["5", "1 is new"]);
}

#[test]
fn a_key_and_its_message_are_in_one_record() {
    for commit in 0..2 {
        let mut bench = bench(window(10, None));
        bench.hold = true;
        publish(&mut bench, 1, &[("a", "1")]);
        assert_eq!(bench.pending.len(), 1);
        bench.hold = false;
        bench.fail_over(commit, &[]);
        bench.attach(2, 1, 2);
        bench.seqs_from(2, commit as u64);
        if commit == 0 {
            // Not confirmed: the home offers it again.
            publish(&mut bench, 2, &[("a", "1")]);
        }
        publish(&mut bench, 2, &[("repeated", "1")]);
        bench.wait(1);
        assert_eq!(get_all(&mut bench, 2), ["a"], "{commit} records were committed");
    }
}

#[test]
fn a_deleted_queue_leaves_no_keys() {
    let mut bench = bench(window(10, None));
    publish(&mut bench, 1, &[("a", "1")]);
    bench.directory.queues.remove(&Q);
    bench.input(warren_queue::Input::QueueDeleted(Q));
    assert_eq!(bench.store.bytes(), 0);
}

#[test]
fn a_key_that_fell_out_before_it_was_recorded_is_let_go() {
    let mut bench = bench(window(1, None));
    bench.hold = true;
    publish(&mut bench, 1, &[("a", "1"), ("b", "2")]);
    bench.hold = false;
    bench.commit(100);
    assert_eq!(bench.store.live(QueueId(0x200 << 48 | 1)).len(), 1);
    let let_go = bench.ops().filter(|op| matches!(op, Op::Settle { reason: SettleReason::Expired, .. }));
    assert_eq!(let_go.count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Against a list of the last keys; leaders come and go.
    #[test]
    fn a_window_is_a_naive_list(
        steps in prop::collection::vec((prop::collection::vec(0..8_u8, 1..5), any::<bool>()), 0..30),
        size in 1..6_usize,
    ) {
        let mut bench = bench(window(size as u64, None));
        let mut naive: VecDeque<u8> = VecDeque::new();
        let mut expected = Vec::new();
        let (mut key, mut published) = (1, 0);
        for (ids, fail_over) in steps {
            let mut messages = Vec::new();
            for id in ids {
                published += 1;
                let text = format!("m{published}");
                messages.push(keyed(&text, &id.to_string()));
                if !naive.contains(&id) {
                    naive.push_back(id);
                    naive.drain(..naive.len().saturating_sub(size));
                    expected.push(text);
                }
            }
            bench.publish_messages(key, messages);
            if fail_over {
                bench.fail_over(0, &[]);
                key += 1;
                bench.attach(key, 1, key);
                bench.seqs_from(key, published);
            }
        }
        bench.wait(1);
        prop_assert_eq!(bench.store.live(Q).len(), expected.len());
        let got: Vec<String> = get_all(&mut bench, key);
        prop_assert_eq!(got, expected);
    }
}
