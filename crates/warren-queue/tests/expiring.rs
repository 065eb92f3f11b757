//! Messages go when their time has come, wherever they stand: examples, and a leader against a naive queue.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's world")]

mod kit;

use std::collections::BTreeMap;
use std::sync::Arc;

use kit::*;
use proptest::prelude::*;
use warren_proto::session::{Answer, Ask, HomeFrame, LeaderFrame};
use warren_queue::{DeathReason, Input, LeaderConfig};
use warren_types::{AckMode, Position, QueueSettings, SessionPublish, SubscriptionId, UnixMillis};

fn bench(settings: QueueSettings, cache_bytes: u64) -> Bench {
    let mut directory = Directory::with([1]);
    directory.settings.insert(Q, Arc::new(settings));
    let mut bench = Bench::with(LeaderConfig { cache_bytes, ..config() }, directory);
    bench.attach(1, 1, 1);
    bench
}

/// With an `expiration`, if there is one.
fn publish(bench: &mut Bench, seq: u64, body: &str, expires_in_ms: Option<u64>) {
    let message = expires_in_ms.map_or_else(|| message(body), |ms| expiring(body, &ms.to_string()));
    let messages = vec![SessionPublish { queues: vec![Q], message, delay_ms: 0 }];
    bench.frame(1, HomeFrame::Publish { first_seq: seq, messages });
}

#[test]
fn a_message_goes_when_its_time_has_come_though_one_ahead_of_it_stays() {
    let mut bench = bench(QueueSettings::default(), 8 << 20);
    publish(&mut bench, 1, "stays", None);
    publish(&mut bench, 2, "goes second", Some(200));
    publish(&mut bench, 3, "goes first", Some(100));
    publish(&mut bench, 4, "stays too", None);
    assert_eq!(bench.leader.next_timer(), Some(UnixMillis(1_000_100)));
    bench.wait(100);
    assert_eq!(bench.store.live(Q), [1, 2, 4].map(Position));
    assert_eq!(bench.leader.next_timer(), Some(UnixMillis(1_000_200)));
    bench.wait(100);
    assert_eq!(bench.store.live(Q), [1, 4].map(Position));
    assert_eq!(bench.counts(), (2, 0));
    assert_eq!(bench.leader.next_timer(), None);
    bench.subscribe(1, 1, 0);
    assert_eq!(bench.delivered(1, 1), ["stays", "stays too"]);
}

#[test]
fn what_is_not_in_memory_goes_too_and_is_dead_lettered() {
    let dlx = QueueSettings { dead_letter_exchange: Some("dlx".into()), ..QueueSettings::default() };
    // Room for one message.
    let mut bench = bench(dlx, 40);
    publish(&mut bench, 1, "a message that stays", None);
    publish(&mut bench, 2, "a message that goes", Some(100));
    publish(&mut bench, 3, "another that stays", None);
    bench.wait(100);
    assert_eq!(bench.counts(), (2, 0));
    let dead: Vec<_> = bench.letters.iter().map(|letter| (text(&letter.message), letter.reason)).collect();
    assert_eq!(dead, [("a message that goes".to_owned(), DeathReason::Expired)]);
    // Its copy is not safe yet, so that the store still has it: nobody is to get it.
    bench.subscribe(1, 1, 0);
    assert_eq!(bench.delivered(1, 1), ["a message that stays", "another that stays"]);
    let letter = bench.letters.pop_front().unwrap();
    bench.input(Input::DeadLettered { queue: letter.queue, position: letter.position });
    assert_eq!(bench.store.live(Q), [1, 3].map(Position));
}

#[test]
fn what_the_store_still_has_is_not_read_again() {
    // Room for one message.
    let mut bench = bench(QueueSettings::default(), 40);
    publish(&mut bench, 1, "a message that stays", None);
    publish(&mut bench, 2, "a message that goes", Some(100));
    publish(&mut bench, 3, "another that stays", None);
    bench.hold = true;
    bench.wait(100);
    assert_eq!(bench.counts(), (2, 0));
    assert_eq!(bench.store.live(Q), [1, 2, 3].map(Position), "its end is not recorded yet");
    bench.subscribe(1, 1, 0);
    bench.commit(1);
    assert_eq!(bench.counts().0 + bench.counts().1, 2);
    bench.hold = false;
    bench.commit(1000);
    assert_eq!(bench.delivered(1, 1), ["a message that stays", "another that stays"]);
    assert_eq!(bench.store.live(Q), [1, 3].map(Position));
}

#[test]
fn more_than_may_die_at_once_die_as_their_copies_are_safe() {
    let dlx = QueueSettings { dead_letter_exchange: Some("dlx".into()), ..QueueSettings::default() };
    let mut bench = bench(dlx, 8 << 20);
    publish(&mut bench, 1, "stays", None);
    for seq in 2..=1001 {
        publish(&mut bench, seq, &format!("m{seq}"), Some(100));
    }
    bench.wait(100);
    let mut dead = Vec::new();
    while let Some(letter) = bench.letters.pop_front() {
        assert!(bench.letters.len() < 256);
        dead.push(text(&letter.message));
        bench.input(Input::DeadLettered { queue: letter.queue, position: letter.position });
    }
    let wanted: Vec<String> = (2..=1001).map(|seq| format!("m{seq}")).collect();
    assert_eq!(dead, wanted);
    assert_eq!(bench.store.live(Q), [Position(1)]);
}

#[test]
fn what_has_the_time_to_live_of_its_queue_goes_in_order() {
    let mut bench = bench(QueueSettings { message_ttl_ms: Some(100), ..QueueSettings::default() }, 8 << 20);
    for seq in 1..=3 {
        publish(&mut bench, seq, "m", Some(100 + seq));
        bench.wait(10);
    }
    assert_eq!(bench.leader.next_timer(), Some(UnixMillis(1_000_100)));
    bench.wait(75);
    assert_eq!(bench.store.live(Q), [2, 3].map(Position));
}

#[test]
fn a_new_leader_finds_the_times_of_what_it_reads() {
    let mut bench = bench(QueueSettings::default(), 8 << 20);
    publish(&mut bench, 1, "stays", None);
    publish(&mut bench, 2, "goes", Some(500));
    bench.fail_over(0, &[]);
    bench.attach(2, 2, 1);
    bench.wait(1);
    bench.wait(600);
    assert_eq!(bench.store.live(Q), [Position(1)]);
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Option<u64>),
    Wait(u64),
    Subscribe(u32),
    Unsubscribe(usize),
    Settle(usize),
    Return(usize),
    Get,
    Purge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::option::of(1..60_u64).prop_map(Step::Publish),
        4 => (1..40_u64).prop_map(Step::Wait),
        1 => (1..4_u32).prop_map(Step::Subscribe),
        1 => (0..4_usize).prop_map(Step::Unsubscribe),
        4 => (0..8_usize).prop_map(Step::Settle),
        3 => (0..8_usize).prop_map(Step::Return),
        2 => Just(Step::Get),
        1 => Just(Step::Purge),
    ]
}

/// What is known of each message: when it expires.
#[derive(Default)]
struct Naive {
    ready: BTreeMap<u64, u64>,
    held: BTreeMap<u64, u64>,
    published: u64,
}

impl Naive {
    fn take(&mut self, position: u64, now: u64) {
        let expires = self.ready.remove(&position).unwrap_or_else(|| panic!("{position} is not ready"));
        assert!(expires > now, "{position} has expired");
        self.held.insert(position, expires);
    }

    fn take_all(&mut self, bench: &mut Bench) {
        let now = bench.now.0;
        for frame in bench.frames(1) {
            if let LeaderFrame::Deliver { deliveries, .. } = frame {
                deliveries.iter().for_each(|delivery| self.take(delivery.position.0, now));
            }
        }
    }
}

fn run(steps: Vec<Step>, cache_bytes: u64) {
    let mut bench = bench(QueueSettings::default(), cache_bytes);
    let mut naive = Naive::default();
    let mut consumers: Vec<u64> = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Publish(expires_in) => {
                naive.published += 1;
                let expires = expires_in.map_or(u64::MAX, |ms| bench.now.0 + ms);
                naive.ready.insert(naive.published, expires);
                publish(&mut bench, naive.published, &format!("m{}", naive.published), expires_in);
            }
            Step::Wait(ms) => {
                let next = naive.ready.values().min().filter(|expires| **expires != u64::MAX);
                if let Some(next) = next {
                    let timer = bench.leader.next_timer();
                    assert!(timer.is_some_and(|timer| timer.0 <= *next), "{timer:?}, one goes at {next}");
                }
                bench.wait(ms);
                naive.ready.retain(|_, expires| *expires > bench.now.0);
            }
            Step::Subscribe(prefetch) => {
                consumers.push(number as u64 + 10);
                bench.frame(1, HomeFrame::Subscribe(consumer(number as u64 + 10, prefetch)));
            }
            Step::Unsubscribe(which) => {
                if which < consumers.len() {
                    let subscription = SubscriptionId(consumers.remove(which));
                    bench.frame(1, HomeFrame::Unsubscribe { subscription });
                }
            }
            Step::Settle(which) => {
                if let Some(position) = naive.held.keys().nth(which).copied() {
                    naive.held.remove(&position);
                    bench.settle(1, &[range(position, position)]);
                }
            }
            Step::Return(which) => {
                if let Some((position, expires)) = naive.held.iter().nth(which).map(|(at, to)| (*at, *to)) {
                    naive.held.remove(&position);
                    naive.ready.insert(position, expires);
                    bench.give_back(1, &[range(position, position)], false, true);
                    naive.ready.retain(|_, expires| *expires > bench.now.0);
                }
            }
            Step::Get => match bench.ask(1, Ask::Get { queue: Q, ack_mode: AckMode::Manual }) {
                Some(Answer::Got { delivery: Some(delivery), remaining }) => {
                    assert_eq!(naive.ready.keys().next(), Some(&delivery.position.0));
                    naive.take(delivery.position.0, bench.now.0);
                    assert_eq!(remaining, naive.ready.len() as u64);
                }
                Some(Answer::Got { delivery: None, .. }) => assert!(naive.ready.is_empty()),
                other => panic!("{other:?}"),
            },
            Step::Purge => {
                let purged = naive.ready.len() as u64;
                naive.ready.clear();
                assert_eq!(bench.ask(1, Ask::Purge { queue: Q }), Some(Answer::Purged(purged)));
            }
        }
        naive.take_all(&mut bench);
        for id in &consumers {
            bench.credit(1, *id, u32::MAX, u64::MAX);
        }
        naive.take_all(&mut bench);
        assert_eq!(bench.counts(), (naive.ready.len() as u64, naive.held.len() as u64));
        let mut live: Vec<Position> =
            naive.ready.keys().chain(naive.held.keys()).copied().map(Position).collect();
        live.sort_unstable();
        assert_eq!(bench.store.live(Q), live);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn everything_goes_when_its_time_has_come(steps in prop::collection::vec(step(), 0..100)) {
        run(steps, 8 << 20);
    }

    #[test]
    fn so_it_does_where_nothing_stays_in_memory(steps in prop::collection::vec(step(), 0..100)) {
        run(steps, 8);
    }
}
