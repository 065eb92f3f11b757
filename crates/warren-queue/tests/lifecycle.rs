//! What ends a message's life in a queue, one statement a test: limits, time, failures, and where the dead go.

mod kit;

use std::sync::Arc;

use kit::*;
use proptest::prelude::*;
use warren_proto::session::{Answer, Ask, HomeFrame, LeaderFrame};
use warren_proto::shard::{Op, SettleReason};
use warren_queue::{DeathReason, Input, SessionKey};
use warren_types::{Overflow, Position, QueueId, QueueSettings, RequestId, SessionPublish};

fn bench(settings: QueueSettings) -> Bench {
    let mut directory = Directory::with([1]);
    directory.settings.insert(Q, Arc::new(settings));
    let mut bench = Bench::with(config(), directory);
    bench.attach(1, 1, 1);
    bench
}

fn dlx() -> QueueSettings {
    QueueSettings { dead_letter_exchange: Some("dlx".into()), ..QueueSettings::default() }
}

fn max_length(max: u64) -> QueueSettings {
    QueueSettings { max_length: Some(max), ..QueueSettings::default() }
}

fn ttl(ms: u64) -> QueueSettings {
    QueueSettings { message_ttl_ms: Some(ms), ..QueueSettings::default() }
}

/// Publishes one message with an `expiration`.
fn publish_expiring(bench: &mut Bench, seq: u64, body: &str, expiration: &str) {
    let message = expiring(body, expiration);
    let messages = vec![SessionPublish { queues: vec![Q], message, delay_ms: 0 }];
    bench.frame(1, warren_proto::session::HomeFrame::Publish { first_seq: seq, messages });
}

fn publish(body: &str) -> SessionPublish {
    SessionPublish { queues: vec![Q], message: message(body), delay_ms: 0 }
}

fn settled(bench: &Bench, wanted: SettleReason) -> u64 {
    let ranges = bench.ops().filter_map(|op| match op {
        Op::Settle { reason, ranges, .. } if *reason == wanted => Some(ranges),
        _ => None,
    });
    ranges.flatten().map(|range| range.count()).sum()
}

fn reject(bench: &mut Bench, seq: u64, positions: warren_types::PositionRange) {
    let ranges = vec![positions];
    bench.frame(1, warren_proto::session::HomeFrame::Settle { seq, queue: Q, ranges, rejected: true });
}

/// The dead letters that are out, as text, and their reasons.
fn out(bench: &Bench) -> Vec<(String, DeathReason)> {
    bench.letters.iter().map(|letter| (text(&letter.message), letter.reason)).collect()
}

/// The shell says that all of them are safe.
fn bury(bench: &mut Bench) {
    while let Some(letter) = bench.letters.pop_front() {
        bench.input(Input::DeadLettered { queue: letter.queue, position: letter.position });
    }
}

#[test]
fn over_its_length_a_queue_drops_its_oldest_messages() {
    let mut bench = bench(max_length(2));
    bench.publish(1, &["a", "b", "c", "d"]);
    assert_eq!(bench.counts(), (2, 0));
    assert_eq!(bench.store.live(Q), [Position(3), Position(4)]);
    assert_eq!(settled(&bench, SettleReason::Dropped), 2);
    assert_eq!(bench.nacked, [] as [u64; 0]);
    assert_eq!(bench.get(1), Some((Some("c".into()), 1)));
}

#[test]
fn messages_in_a_consumers_hands_do_not_count() {
    let mut bench = bench(max_length(1));
    bench.subscribe(1, 1, 2);
    bench.publish(1, &["a", "b", "c"]);
    assert_eq!(bench.delivered(1, 1), ["a", "b"]);
    assert_eq!(bench.counts(), (1, 2));
    bench.give_back(1, &[range(1, 1)], false, true);
    assert_eq!(bench.delivered(1, 1), ["a*"]);
    assert_eq!(bench.counts(), (1, 2));
}

#[test]
fn a_queue_of_length_0_hands_over_to_who_waits_and_keeps_nothing() {
    let mut bench = bench(max_length(0));
    bench.subscribe(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    assert_eq!(bench.delivered(1, 1), ["a"]);
    assert_eq!(bench.counts(), (0, 1));
}

#[test]
fn the_limit_in_bytes_counts_bodies() {
    let mut bench = bench(QueueSettings { max_length_bytes: Some(5), ..QueueSettings::default() });
    bench.publish(1, &["123", "45"]);
    assert_eq!(bench.counts().0, 2);
    bench.publish(1, &["6"]);
    assert_eq!(bench.store.live(Q), [Position(2), Position(3)]);
    bench.publish(1, &["too long"]);
    assert_eq!(bench.store.live(Q), [] as [Position; 0]);
}

#[test]
fn what_is_not_in_memory_is_read_to_be_dropped() {
    let mut directory = Directory::with([1]);
    directory.settings.insert(Q, Arc::new(max_length(3)));
    let config = warren_queue::LeaderConfig { cache_bytes: 4, ..config() };
    let mut bench = Bench::with(config, directory);
    bench.attach(1, 1, 1);
    for text in ["aaa", "bbb", "ccc", "ddd", "eee"] {
        bench.publish(1, &[text]);
    }
    assert_eq!(bench.store.live(Q), [Position(3), Position(4), Position(5)]);
    assert!(bench.loads > 0);
}

#[test]
fn a_limit_that_comes_later_or_with_a_new_leader_holds_at_once() {
    let mut bench = bench(QueueSettings::default());
    bench.publish(1, &["a", "b", "c"]);
    bench.directory.settings.insert(Q, Arc::new(max_length(2)));
    bench.directory.revision += 1;
    bench.wait(250);
    assert_eq!(bench.store.live(Q).len(), 2);
    bench.directory.settings.insert(Q, Arc::new(max_length(1)));
    bench.fail_over(0, &[]);
    bench.wait(250);
    assert_eq!(bench.store.live(Q), [Position(3)]);
}

#[test]
fn a_queue_that_refuses_nacks_exactly_what_is_over_the_limit() {
    let mut bench = bench(QueueSettings { overflow: Overflow::RejectPublish, ..max_length(2) });
    bench.hold = true;
    // None of these is applied when the next one is looked at.
    bench.publish(1, &["a"]);
    bench.publish(1, &["b", "c", "d"]);
    bench.hold = false;
    bench.commit(9);
    assert_eq!(bench.nacked, [3, 4]);
    assert_eq!(bench.store.live(Q), [Position(1), Position(2)]);
    bench.get(1);
    bench.publish(1, &["e", "f"]);
    assert_eq!(bench.nacked, [3, 4, 6]);
}

#[test]
fn a_refusal_keeps_a_message_out_of_no_other_queue() {
    let mut directory = Directory::with([1, 2]);
    let refuses = QueueSettings { overflow: Overflow::RejectPublish, ..max_length(0) };
    directory.settings.insert(Q, Arc::new(refuses));
    let mut bench = Bench::with(config(), directory);
    bench.attach(1, 1, 1);
    bench.publish_to(1, &[Q, QueueId(2)], &["a"]);
    assert_eq!(bench.nacked, [1]);
    assert_eq!((bench.store.live(Q).len(), bench.store.live(QueueId(2)).len()), (0, 1));
}

#[test]
fn a_new_leader_nacks_what_the_old_one_refused_until_the_home_has_learned_it() {
    let mut bench = bench(QueueSettings { overflow: Overflow::RejectPublish, ..max_length(2) });
    bench.hold = true;
    bench.publish(1, &["a", "b", "c", "d"]);
    bench.fail_over(9, &[1]);
    bench.attach(2, 1, 2);
    let told = LeaderFrame::Confirmed { up_to_seq: 4, rejected: vec![3, 4] };
    assert_eq!(bench.frames(2), [told, LeaderFrame::Attached { epoch: 2, last_seq: 4 }]);

    bench.frame(2, HomeFrame::Learned { up_to_seq: 4 });
    bench.frame(2, HomeFrame::Publish { first_seq: 5, messages: vec![publish("e")] });
    bench.commit(9);
    assert!(bench.frames(2).contains(&LeaderFrame::Confirmed { up_to_seq: 5, rejected: vec![5] }));
    bench.fail_over(9, &[1]);
    bench.attach(3, 1, 3);
    let told = LeaderFrame::Confirmed { up_to_seq: 5, rejected: vec![5] };
    assert_eq!(bench.frames(3).first(), Some(&told), "what the home has learned is forgotten");
}

#[test]
fn a_stream_that_breaks_before_the_nack_came_through_is_told_again() {
    let mut bench = bench(QueueSettings { overflow: Overflow::RejectPublish, ..max_length(1) });
    bench.publish(1, &["a", "b"]);
    bench.input(Input::SessionLost(SessionKey(1)));
    bench.attach(2, 1, 2);
    let told = LeaderFrame::Confirmed { up_to_seq: 2, rejected: vec![2] };
    assert_eq!(bench.frames(2).first(), Some(&told));
}

#[test]
fn a_refused_message_is_dead_lettered_where_that_is_asked_for() {
    let mut bench =
        bench(QueueSettings { overflow: Overflow::RejectPublishDeadLetter, max_length: Some(1), ..dlx() });
    bench.publish(1, &["a", "b"]);
    assert_eq!(bench.nacked, [2]);
    assert_eq!(out(&bench), [("b".to_owned(), DeathReason::MaxLength)]);
    bury(&mut bench);
    assert_eq!(bench.store.live(Q), [Position(1)]);
}

#[test]
fn a_message_is_dropped_when_it_failed_more_often_than_the_limit() {
    let mut bench = bench(QueueSettings { delivery_limit: Some(2), ..QueueSettings::default() });
    bench.subscribe(1, 1, 1);
    bench.publish(1, &["a"]);
    for _ in 0..3 {
        assert_eq!(bench.delivered(1, 1).len(), 1);
        bench.give_back(1, &[range(1, 1)], true, true);
    }
    assert_eq!(bench.delivered(1, 1), [] as [&str; 0]);
    assert_eq!(bench.counts(), (0, 0));
    assert_eq!(settled(&bench, SettleReason::DeliveryLimit), 1);
    assert_eq!(bench.store.live(Q), []);
}

#[test]
fn what_comes_back_without_a_failure_is_delivered_without_end() {
    let mut bench = bench(QueueSettings { delivery_limit: Some(1), ..QueueSettings::default() });
    bench.subscribe(1, 1, 1);
    bench.publish(1, &["a"]);
    for _ in 0..9 {
        assert_eq!(bench.delivered(1, 1).len(), 1);
        bench.give_back(1, &[range(1, 1)], false, true);
    }
}

#[test]
fn failures_are_counted_on_across_leaders() {
    let mut bench = bench(QueueSettings { delivery_limit: Some(1), ..QueueSettings::default() });
    bench.subscribe(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.give_back(1, &[range(1, 1)], true, true);
    bench.fail_over(0, &[]);
    bench.attach(2, 2, 1);
    bench.subscribe(2, 1, 1);
    assert_eq!(bench.delivered(2, 1), ["a*"]);
    bench.give_back(2, &[range(1, 1)], true, true);
    assert_eq!(bench.store.live(Q), []);
}

#[test]
fn a_message_leaves_when_its_time_has_come_and_nobody_takes_it() {
    let mut bench = bench(ttl(100));
    bench.publish(1, &["a"]);
    bench.wait(60);
    bench.publish(1, &["b"]);
    assert_eq!(bench.leader.next_timer(), Some(warren_types::UnixMillis(1_000_100)));
    bench.wait(40);
    assert_eq!(bench.store.live(Q), [Position(2)]);
    assert_eq!(settled(&bench, SettleReason::Expired), 1);
    bench.wait(60);
    assert_eq!(bench.store.live(Q), []);
    assert_eq!(bench.leader.next_timer(), None);
}

#[test]
fn an_expired_message_is_never_delivered() {
    let mut bench = bench(QueueSettings::default());
    publish_expiring(&mut bench, 1, "stays", "500");
    publish_expiring(&mut bench, 2, "goes", "100");
    bench.now = warren_types::UnixMillis(bench.now.0 + 200);
    assert_eq!(bench.get(1), Some((Some("stays".into()), 0)));
    assert_eq!(bench.get(1), Some((None, 0)));
    assert_eq!(settled(&bench, SettleReason::Expired), 1);
}

#[test]
fn the_shorter_of_the_two_times_counts() {
    let mut bench = bench(ttl(100));
    publish_expiring(&mut bench, 1, "a", "50");
    assert_eq!(bench.leader.next_timer(), Some(warren_types::UnixMillis(1_000_050)));
    bench.wait(50);
    publish_expiring(&mut bench, 2, "b", "1000");
    assert_eq!(bench.leader.next_timer(), Some(warren_types::UnixMillis(1_000_150)));
}

#[test]
fn a_time_to_live_of_0_is_for_who_waits() {
    let mut bench = bench(ttl(0));
    bench.publish(1, &["nobody waits"]);
    assert_eq!(bench.counts(), (0, 0));
    bench.subscribe(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    assert_eq!(bench.delivered(1, 1), ["a"]);
    assert_eq!(bench.counts(), (0, 1));
}

#[test]
fn a_held_message_expires_when_it_comes_back() {
    let mut bench = bench(ttl(100));
    bench.subscribe(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.wait(200);
    assert_eq!(bench.counts(), (0, 1));
    bench.give_back(1, &[range(1, 1)], false, true);
    assert_eq!(bench.delivered(1, 1), ["a"]);
    assert_eq!((bench.counts(), bench.store.live(Q).len()), ((0, 0), 0));
}

#[test]
fn a_new_leader_knows_how_old_messages_are() {
    let mut bench = bench(QueueSettings::default());
    publish_expiring(&mut bench, 1, "a", "100");
    bench.now = warren_types::UnixMillis(bench.now.0 + 90);
    bench.fail_over(0, &[]);
    bench.wait(0);
    assert_eq!(bench.store.live(Q), [Position(1)]);
    assert_eq!(bench.leader.next_timer(), Some(warren_types::UnixMillis(1_000_100)));
    bench.wait(10);
    assert_eq!(bench.store.live(Q), []);
}

#[test]
fn a_queue_that_nobody_uses_for_its_lease_is_deleted() {
    let mut bench = bench(QueueSettings { expires_ms: Some(1000), ..QueueSettings::default() });
    bench.wait(500);
    bench.get(1);
    bench.wait(900);
    assert_eq!(bench.deletes, []);
    bench.wait(100);
    assert_eq!(bench.deletes, [Q]);
}

#[test]
fn a_consumer_keeps_its_queue() {
    let mut bench = bench(QueueSettings { expires_ms: Some(1000), ..QueueSettings::default() });
    bench.subscribe(1, 1, 1);
    for _ in 0..9 {
        bench.wait(900);
    }
    assert_eq!(bench.deletes, []);
    let subscription = warren_types::SubscriptionId(1);
    bench.frame(1, warren_proto::session::HomeFrame::Unsubscribe { subscription });
    bench.wait(1000);
    assert_eq!(bench.deletes, [Q]);
}

#[test]
fn a_dead_letter_stays_in_the_store_until_its_copies_are_safe() {
    let mut bench = bench(dlx());
    bench.subscribe(1, 1, 0);
    bench.publish(1, &["a", "b"]);
    reject(&mut bench, 1, range(1, 1));
    assert_eq!(out(&bench), [("a".to_owned(), DeathReason::Rejected)]);
    assert_eq!(bench.counts(), (0, 1), "it counts as gone");
    assert_eq!(bench.store.live(Q), [Position(1), Position(2)]);
    bury(&mut bench);
    assert_eq!(bench.store.live(Q), [Position(2)]);
    assert_eq!(settled(&bench, SettleReason::DeadLettered), 1);
    assert_eq!(settled(&bench, SettleReason::Rejected), 0);
}

#[test]
fn every_reason_of_death_leads_to_the_exchange() {
    let settings =
        QueueSettings { delivery_limit: Some(0), max_length: Some(1), message_ttl_ms: Some(100), ..dlx() };
    let mut bench = bench(settings);
    bench.publish(1, &["long", "old"]);
    bench.wait(100);
    bench.subscribe(1, 1, 2);
    bench.publish(1, &["failed", "rejected"]);
    bench.give_back(1, &[range(3, 3)], true, true);
    reject(&mut bench, 2, range(4, 4));
    let expected = [
        ("long", DeathReason::MaxLength),
        ("old", DeathReason::Expired),
        ("failed", DeathReason::DeliveryLimit),
        ("rejected", DeathReason::Rejected),
    ];
    assert_eq!(out(&bench), expected.map(|(body, reason)| (body.to_owned(), reason)));
    bury(&mut bench);
    assert_eq!(bench.store.live(Q), []);
}

#[test]
fn a_new_leader_dead_letters_what_the_last_one_did_not_finish() {
    let mut bench = bench(QueueSettings { message_ttl_ms: Some(100), ..dlx() });
    bench.publish(1, &["a"]);
    bench.wait(100);
    assert_eq!(out(&bench).len(), 1);
    bench.letters.clear();
    bench.fail_over(0, &[]);
    bench.wait(0);
    assert_eq!(out(&bench), [("a".to_owned(), DeathReason::Expired)]);
    bury(&mut bench);
    assert_eq!(bench.store.live(Q), []);
}

#[test]
fn dead_letters_are_boundedly_many_at_once() {
    let mut bench = bench(QueueSettings { message_ttl_ms: Some(100), ..dlx() });
    for _ in 0..10 {
        bench.publish(1, &["m"; 100]);
    }
    bench.wait(100);
    assert_eq!(bench.letters.len(), 256);
    assert_eq!(bench.get(1), None, "what has expired is not given out while it waits");
    let mut buried = 0;
    while !bench.letters.is_empty() {
        buried += bench.letters.len();
        bury(&mut bench);
    }
    assert!(buried >= 256);
    assert_eq!(bench.store.live(Q), []);
}

#[test]
fn a_purge_does_not_touch_what_is_on_its_way_to_the_exchange() {
    let mut bench = bench(dlx());
    bench.subscribe(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    bench.hold = true;
    reject(&mut bench, 1, range(1, 1));
    bench.hold = false;
    bench.commit(9);
    bench.ask(1, warren_proto::session::Ask::Purge { queue: Q });
    assert!(bench.store.live(Q).contains(&Position(1)));
    bury(&mut bench);
    assert!(!bench.store.live(Q).contains(&Position(1)));
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Get(bool),
    Wait(u16),
    Bury(bool),
    FailOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..5_u8).prop_map(Step::Publish),
        2 => any::<bool>().prop_map(Step::Get),
        2 => (0..120_u16).prop_map(Step::Wait),
        2 => any::<bool>().prop_map(Step::Bury),
        1 => Just(Step::FailOver),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever happens: in the end each message was taken, or dead-lettered, or is there; none is in two places but
    /// those that a leader's end left in doubt; no get passes the length or the time.
    #[test]
    fn no_message_is_lost_on_its_way_out(steps in steps(), dead_letters: bool) {
        let settings = QueueSettings {
            max_length: Some(6),
            message_ttl_ms: Some(100),
            dead_letter_exchange: dead_letters.then(|| "dlx".into()),
            ..QueueSettings::default()
        };
        let mut bench = bench(settings);
        let (mut published, mut taken, mut dead) = (0_u64, 0_u64, std::collections::BTreeSet::new());
        let mut key = 1;
        for step in steps {
            match step {
                Step::Publish(count) => {
                    for _ in 0..count {
                        published += 1;
                        bench.publish(key, &["m"]);
                    }
                }
                Step::Get(reject) => {
                    let Some((Some(_), _)) = bench.get(key) else { continue };
                    let held = bench.leader.counts(Q).unwrap().unacked;
                    prop_assert_eq!(held, 1);
                    taken += 1;
                    // By position: the one that is held.
                    let everything = [range(1, u64::MAX)];
                    if reject { bench.give_back(key, &everything, false, true); taken -= 1; } else { bench.settle(key, &everything); }
                }
                Step::Wait(ms) => bench.wait(ms.into()),
                Step::Bury(all) => {
                    let count = if all { bench.letters.len() } else { bench.letters.len().min(1) };
                    for letter in bench.letters.drain(..count).collect::<Vec<_>>() {
                        dead.insert(letter.position);
                        bench.input(Input::DeadLettered { queue: letter.queue, position: letter.position });
                    }
                }
                Step::FailOver => {
                    bench.letters.clear();
                    bench.fail_over(0, &[]);
                    key += 1;
                    bench.attach(key, key, 1);
                    bench.wait(0);
                }
            }
            prop_assert!(bench.counts().0 <= 6);
        }
        bench.wait(100);
        while let Some(letter) = bench.letters.pop_front() {
            prop_assert!(dead.insert(letter.position), "{} died twice under one leader", letter.position);
            bench.input(Input::DeadLettered { queue: letter.queue, position: letter.position });
        }
        prop_assert_eq!(bench.store.live(Q), []);
        let gone = settled(&bench, SettleReason::Expired) + settled(&bench, SettleReason::Dropped);
        prop_assert_eq!(published, taken + gone + dead.len() as u64);
        prop_assert!(!dead_letters || gone == 0);
    }
}

#[test]
fn who_asks_after_the_dead_is_answered_when_their_copies_are_safe() {
    let mut bench = bench(dlx());
    bench.subscribe(1, 1, 0);
    bench.publish(1, &["a", "b"]);
    let ask = || Ask::Info { queue: Q, uses: false, after_deaths: true };
    assert!(matches!(bench.ask(1, ask()), Some(Answer::Info(_))), "nothing is dying");
    reject(&mut bench, 1, range(1, 1));
    let request = RequestId(77);
    bench.frame(1, warren_proto::session::HomeFrame::Request { request, ask: ask() });
    assert_eq!(bench.answer(1, request), None);
    assert!(matches!(
        bench.ask(1, Ask::Info { queue: Q, uses: false, after_deaths: false }),
        Some(Answer::Info(_))
    ));
    bury(&mut bench);
    assert!(matches!(bench.answer(1, request), Some(Answer::Info(_))));
}
