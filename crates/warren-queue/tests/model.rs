//! A leader against a naive queue: after each input, the naive queue says which message must go next, and to whom
//! it may go. Records commit at once or when the input says so.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's world")]

mod kit;

use std::collections::BTreeMap;

use kit::*;
use proptest::prelude::*;
use warren_proto::session::{Answer, Ask, Delivery, HomeFrame, LeaderFrame};
use warren_queue::LeaderConfig;
use warren_types::{AckMode, Position, SubscriptionId};

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Subscribe { prefetch: u32, priority: i32 },
    Unsubscribe(usize),
    Settle(usize),
    Return { which: usize, failed: bool, seen: bool },
    Get,
    Purge,
    Hold(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..6_u8).prop_map(Step::Publish),
        2 => (0..4_u32, 0..3_i32).prop_map(|(prefetch, priority)| Step::Subscribe { prefetch, priority }),
        1 => (0..4_usize).prop_map(Step::Unsubscribe),
        6 => (0..8_usize).prop_map(Step::Settle),
        4 => (0..8_usize, any::<bool>(), any::<bool>())
            .prop_map(|(which, failed, seen)| Step::Return { which, failed, seen }),
        2 => Just(Step::Get),
        1 => Just(Step::Purge),
        1 => any::<bool>().prop_map(Step::Hold),
    ]
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    redelivered: bool,
    count: u32,
}

/// The naive queue: all there is to know of each message, in a map.
#[derive(Default)]
struct Naive {
    ready: BTreeMap<u64, Known>,
    held: BTreeMap<u64, (Option<u64>, Known)>,
    consumers: BTreeMap<u64, (u32, i32)>,
    published: u64,
    /// The highest position that a client has certainly seen.
    seen_to: u64,
}

impl Naive {
    fn room(&self, consumer: u64) -> bool {
        let prefetch = self.consumers[&consumer].0;
        let holds = self.held.values().filter(|(of, _)| *of == Some(consumer)).count();
        prefetch == 0 || holds < prefetch as usize
    }

    fn deliver(&mut self, to: Option<u64>, delivery: &Delivery) {
        let position = delivery.position.0;
        let known = self.ready.remove(&position).unwrap_or_else(|| panic!("{position} is not ready"));
        assert_eq!((delivery.redelivered, delivery.delivery_count), (known.redelivered, known.count));
        assert_eq!(text(&delivery.message), format!("m{position}"));
        if let Some(consumer) = to {
            assert!(self.room(consumer), "{consumer} is over its prefetch");
        }
        self.held.insert(position, (to, known));
    }

    /// A round of frames: the messages went lowest first, each to one of the highest priority that had room.
    fn deliver_round(&mut self, frames: &[LeaderFrame]) {
        let mut round = BTreeMap::new();
        for frame in frames {
            if let LeaderFrame::Deliver { subscription, deliveries, .. } = frame {
                for delivery in deliveries {
                    let twice = round.insert(delivery.position.0, (subscription.0, delivery.clone()));
                    assert!(twice.is_none(), "twice in a round");
                }
            }
        }
        for (position, (consumer, delivery)) in round {
            assert_eq!(self.ready.keys().next(), Some(&position), "an older message waits");
            let priority = self.consumers[&consumer].1;
            for (other, (_, above)) in &self.consumers {
                assert!(*above <= priority || !self.room(*other), "{other} was passed over");
            }
            self.deliver(Some(consumer), &delivery);
        }
    }

    fn starves(&self) -> bool {
        !self.ready.is_empty() && self.consumers.keys().any(|consumer| self.room(*consumer))
    }
}

fn run(steps: Vec<Step>, cache_bytes: u64) {
    let config = LeaderConfig { cache_bytes, reserve_ahead: 3, record_messages: 4, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    let mut naive = Naive::default();
    let mut next_consumer = 10;
    for step in steps {
        match step {
            Step::Publish(count) => {
                let texts: Vec<String> =
                    (1..=u64::from(count)).map(|more| format!("m{}", naive.published + more)).collect();
                bench.publish(1, &texts.iter().map(String::as_str).collect::<Vec<_>>());
                for _ in 0..count {
                    naive.published += 1;
                    naive.ready.insert(naive.published, Known::default());
                }
            }
            Step::Subscribe { prefetch, priority } => {
                next_consumer += 1;
                let mut subscribe = consumer(next_consumer, prefetch);
                subscribe.priority = priority;
                naive.consumers.insert(next_consumer, (prefetch, priority));
                bench.frame(1, HomeFrame::Subscribe(subscribe));
            }
            Step::Unsubscribe(which) => {
                if let Some(id) = naive.consumers.keys().nth(which).copied() {
                    // Its turn must not be between messages that wait for the log.
                    bench.hold = false;
                    bench.commit(1000);
                    naive.deliver_round(&bench.frames(1));
                    naive.consumers.remove(&id);
                    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(id) });
                }
            }
            Step::Settle(which) => {
                if let Some(position) = naive.held.keys().nth(which).copied() {
                    naive.held.remove(&position);
                    naive.seen_to = naive.seen_to.max(position);
                    bench.settle(1, &[range(position, position)]);
                }
            }
            Step::Return { which, failed, seen } => {
                if let Some(position) = naive.held.keys().nth(which).copied() {
                    let (_, mut known) = naive.held.remove(&position).unwrap();
                    if seen {
                        naive.seen_to = naive.seen_to.max(position);
                    }
                    // What comes behind something newer must say so.
                    let newest = naive.held.keys().next_back().copied().unwrap_or(0).max(naive.seen_to);
                    known.redelivered |= seen || position < newest;
                    known.count += u32::from(failed);
                    naive.ready.insert(position, known);
                    bench.give_back(1, &[range(position, position)], failed, seen);
                }
            }
            Step::Get => {
                bench.hold = false;
                bench.commit(1000);
                naive.deliver_round(&bench.frames(1));
                match bench.ask(1, Ask::Get { queue: Q, ack_mode: AckMode::Manual }) {
                    Some(Answer::Got { delivery: Some(delivery), remaining }) => {
                        assert_eq!(naive.ready.keys().next(), Some(&delivery.position.0));
                        naive.deliver(None, &delivery);
                        assert_eq!(remaining, naive.ready.len() as u64);
                    }
                    Some(Answer::Got { delivery: None, .. }) => assert!(naive.ready.is_empty()),
                    other => panic!("{other:?}"),
                }
            }
            Step::Purge => {
                bench.hold = false;
                bench.commit(1000);
                naive.deliver_round(&bench.frames(1));
                let purged = naive.ready.len() as u64;
                naive.ready.clear();
                assert_eq!(bench.ask(1, Ask::Purge { queue: Q }), Some(Answer::Purged(purged)));
            }
            Step::Hold(hold) => {
                bench.hold = hold;
                if !hold {
                    bench.commit(1000);
                }
            }
        }
        naive.deliver_round(&bench.frames(1));
        let consumers: Vec<u64> = naive.consumers.keys().copied().collect();
        for id in consumers {
            bench.credit(1, id, u32::MAX, u64::MAX);
        }
        naive.deliver_round(&bench.frames(1));
        if bench.pending.is_empty() {
            assert!(!naive.starves(), "ready messages and a consumer with room: {:?}", naive.ready);
            assert_eq!(bench.counts(), (naive.ready.len() as u64, naive.held.len() as u64));
            let mut live: Vec<Position> =
                naive.ready.keys().chain(naive.held.keys()).map(|position| Position(*position)).collect();
            live.sort_unstable();
            assert_eq!(bench.store.live(Q), live);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_leader_is_a_naive_queue(steps in prop::collection::vec(step(), 0..100)) {
        run(steps, 8 << 20);
    }

    #[test]
    fn a_leader_that_must_read_everything_back_is_the_same_queue(steps in prop::collection::vec(step(), 0..100)) {
        run(steps, 8);
    }
}
