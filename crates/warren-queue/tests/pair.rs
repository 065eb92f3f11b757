//! Both session ends in a lossy world in virtual time: streams break anywhere, leaders die with part of what they
//! proposed committed, home nodes die and start anew.
//!
//! A message is named by (home, number); `World` follows each from its publish to its last acknowledgement.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's world"
)]

mod kit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use kit::{Directory, config, consumer, message, text};
use proptest::prelude::*;
use warren_proto::session::{Answer, Ask, Delivery, HomeFrame, LeaderFrame};
use warren_proto::shard::{AppliedRecord, Record};
use warren_queue::{
    HomeConfig, HomeOutput, HomeSession, HostLeader, Input, LeaderConfig, MemoryStore, Output, SessionKey,
};
use warren_types::{
    AckMode, ChannelNumber, ConnectionId, NodeId, Overflow, Position, PositionRange, PublishToken, QueueId,
    QueueSettings, RequestId, SessionId, SessionPublish, SubscriptionId, UnixMillis,
};

const HOMES: usize = 3;
const QUEUES: u64 = 2;
const GRACE_MS: u64 = 3000;

#[derive(Clone, Debug)]
enum Action {
    Publish {
        home: usize,
        queue: u64,
        count: u8,
    },
    Subscribe {
        home: usize,
        queue: u64,
        prefetch: u32,
        automatic: bool,
    },
    Unsubscribe {
        home: usize,
    },
    /// Settle, or return, some of what a home's clients hold.
    Ack {
        home: usize,
        skip: u8,
        count: u8,
    },
    Requeue {
        home: usize,
        skip: u8,
        count: u8,
    },
    Get {
        home: usize,
        queue: u64,
    },
    Up {
        home: usize,
        frames: u8,
    },
    Down {
        home: usize,
        frames: u8,
    },
    Commit {
        records: u8,
    },
    Feed {
        records: u8,
    },
    Load,
    Cut {
        home: usize,
        told: bool,
    },
    Connect {
        home: usize,
    },
    KillLeader {
        commit: u8,
    },
    KillHome {
        home: usize,
        told: bool,
    },
    Wait {
        ms: u64,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let home = || 0..HOMES;
    let queue = || 1..=QUEUES;
    prop_oneof![
        6 => (home(), queue(), 1..4_u8).prop_map(|(home, queue, count)| Action::Publish { home, queue, count }),
        3 => (home(), queue(), 0..4_u32, any::<bool>()).prop_map(|(home, queue, prefetch, automatic)| {
            Action::Subscribe { home, queue, prefetch, automatic }
        }),
        1 => home().prop_map(|home| Action::Unsubscribe { home }),
        4 => (home(), 0..3_u8, 1..4_u8).prop_map(|(home, skip, count)| Action::Ack { home, skip, count }),
        2 => (home(), 0..3_u8, 1..3_u8).prop_map(|(home, skip, count)| Action::Requeue { home, skip, count }),
        2 => (home(), queue()).prop_map(|(home, queue)| Action::Get { home, queue }),
        8 => (home(), 1..6_u8).prop_map(|(home, frames)| Action::Up { home, frames }),
        8 => (home(), 1..6_u8).prop_map(|(home, frames)| Action::Down { home, frames }),
        6 => (1..4_u8).prop_map(|records| Action::Commit { records }),
        6 => (1..4_u8).prop_map(|records| Action::Feed { records }),
        4 => Just(Action::Load),
        2 => (home(), any::<bool>()).prop_map(|(home, told)| Action::Cut { home, told }),
        3 => home().prop_map(|home| Action::Connect { home }),
        1 => (0..4_u8).prop_map(|commit| Action::KillLeader { commit }),
        1 => (home(), any::<bool>()).prop_map(|(home, told)| Action::KillHome { home, told }),
        2 => prop_oneof![Just(100_u64), Just(1000), Just(GRACE_MS)].prop_map(|ms| Action::Wait { ms }),
    ]
}

struct Link {
    key: SessionKey,
    up: VecDeque<Bytes>,
    down: VecDeque<Bytes>,
    /// The leader has taken its `Attach`.
    attached: bool,
}

struct HomeConsumer {
    queue: QueueId,
    prefetch: u32,
    automatic: bool,
}

struct Home {
    session: HomeSession,
    node: u64,
    incarnation: u64,
    epoch: u64,
    link: Option<Link>,
    /// When the leader last could know that it lives.
    known_at: UnixMillis,
    /// It was away for so long that others may have got what it holds.
    stale: bool,
    consumers: BTreeMap<SubscriptionId, HomeConsumer>,
    /// What its clients hold, in the order delivered.
    held: Vec<(QueueId, Position, Option<SubscriptionId>, String)>,
    /// Everything ever delivered to it since it started.
    touched: BTreeSet<String>,
    gets: BTreeMap<RequestId, QueueId>,
}

struct World {
    config: LeaderConfig,
    directory: Directory,
    now: UnixMillis,
    store: MemoryStore,
    leader: HostLeader,
    in_flight: VecDeque<Record>,
    applied: VecDeque<AppliedRecord>,
    loads: VecDeque<Output>,
    homes: Vec<Home>,
    next: u64,
    /// Of each message: its queue.
    published: BTreeMap<String, QueueId>,
    confirmed: BTreeSet<String>,
    /// Their publishers were told that the queue refused them.
    refused: BTreeSet<String>,
    tokens: BTreeMap<u64, String>,
    seen: BTreeSet<String>,
    acked: BTreeSet<String>,
    /// Others may have got them while a client still held them.
    loose: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        let config = LeaderConfig {
            transit_messages: 3,
            cache_bytes: 40,
            reserve_ahead: 2,
            proposals_in_flight: 3,
            record_messages: 3,
            ..config()
        };
        let now = UnixMillis(1_000_000);
        let store = MemoryStore::new();
        let leader = HostLeader::open(config.clone(), store.opening_state(), &[], now);
        let homes = (0..HOMES as u64).map(|node| Home::new(node + 1, 1, now)).collect();
        Self {
            config,
            directory: directory_with_a_refusing_queue(),
            now,
            store,
            leader,
            in_flight: VecDeque::new(),
            applied: VecDeque::new(),
            loads: VecDeque::new(),
            homes,
            next: 1,
            published: BTreeMap::new(),
            confirmed: BTreeSet::new(),
            refused: BTreeSet::new(),
            tokens: BTreeMap::new(),
            seen: BTreeSet::new(),
            acked: BTreeSet::new(),
            loose: BTreeSet::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Publish { home, queue, count } => {
                for _ in 0..count {
                    self.publish(home, QueueId(queue));
                }
                self.home_flush(home);
            }
            Action::Subscribe { home, queue, prefetch, automatic } => {
                self.subscribe(home, QueueId(queue), prefetch, automatic);
            }
            Action::Unsubscribe { home } => {
                let first = self.homes[home].consumers.keys().next().copied();
                if let Some(subscription) = first {
                    let mut outputs = Vec::new();
                    self.homes[home].consumers.remove(&subscription);
                    self.homes[home].session.unsubscribe(subscription, &mut outputs);
                    self.home_outputs(home, outputs);
                }
            }
            Action::Ack { home, skip, count } => self.ack(home, skip.into(), count.into()),
            Action::Requeue { home, skip, count } => self.requeue(home, skip.into(), count.into()),
            Action::Get { home, queue } => {
                let request = RequestId(self.number());
                let queue = QueueId(queue);
                self.homes[home].gets.insert(request, queue);
                let mut outputs = Vec::new();
                let ask = Ask::Get { queue, ack_mode: AckMode::Manual };
                self.homes[home].session.ask(request, ask, &mut outputs);
                self.home_outputs(home, outputs);
            }
            Action::Up { home, frames } => self.up(home, frames.into()),
            Action::Down { home, frames } => self.down(home, frames.into()),
            Action::Commit { records } => self.commit(records.into()),
            Action::Feed { records } => self.feed(records.into()),
            Action::Load => self.load(),
            Action::Cut { home, told } => self.cut(home, told),
            Action::Connect { home } => self.connect(home),
            Action::KillLeader { commit } => self.kill_leader(commit.into()),
            Action::KillHome { home, told } => self.kill_home(home, told),
            Action::Wait { ms } => self.wait(ms),
        }
    }

    fn publish(&mut self, home: usize, queue: QueueId) {
        let number = self.number();
        let body = format!("{home}.{}:{number:06}", self.homes[home].incarnation);
        let token =
            PublishToken { connection: ConnectionId(1), channel: ChannelNumber(1), opening: 1, number };
        self.tokens.insert(number, body.clone());
        self.published.insert(body.clone(), queue);
        let publish = SessionPublish { queues: vec![queue], message: message(&body), delay_ms: 0 };
        self.homes[home].session.publish(token, publish);
    }

    fn subscribe(&mut self, home: usize, queue: QueueId, prefetch: u32, automatic: bool) {
        let mut subscribe = consumer(self.number(), prefetch);
        subscribe.queue = queue;
        let known = HomeConsumer { queue, prefetch, automatic };
        self.homes[home].consumers.insert(subscribe.subscription, known);
        let mut outputs = Vec::new();
        self.homes[home].session.subscribe(subscribe, &mut outputs);
        self.home_outputs(home, outputs);
    }

    fn ack(&mut self, home: usize, skip: usize, count: usize) {
        let node = &mut self.homes[home];
        let end = (skip + count).min(node.held.len());
        for (queue, position, _, body) in node.held.drain(skip.min(end)..end) {
            node.session.settle(queue, [position], false);
            self.acked.insert(body);
        }
        self.home_flush(home);
    }

    fn requeue(&mut self, home: usize, skip: usize, count: usize) {
        let node = &mut self.homes[home];
        let end = (skip + count).min(node.held.len());
        for (queue, position, _, _) in node.held.drain(skip.min(end)..end) {
            node.session.give_back(queue, &[PositionRange::one(position)], true, true);
        }
        self.home_flush(home);
    }

    fn home_flush(&mut self, home: usize) {
        let mut outputs = Vec::new();
        self.homes[home].session.flush(&mut outputs);
        self.home_outputs(home, outputs);
    }

    fn home_outputs(&mut self, home: usize, outputs: Vec<HomeOutput>) {
        for output in outputs {
            match output {
                HomeOutput::Send(frame) => {
                    if let Some(link) = &mut self.homes[home].link {
                        link.up.push_back(frame.encode());
                    }
                }
                HomeOutput::Confirmed(tokens) => {
                    for token in tokens {
                        assert!(self.confirmed.insert(self.tokens[&token.number].clone()), "confirmed twice");
                    }
                }
                HomeOutput::Rejected(tokens) => {
                    for token in tokens {
                        let body = &self.tokens[&token.number];
                        assert_eq!(
                            self.published[body],
                            QueueId(QUEUES),
                            "{body} goes to a queue without a limit"
                        );
                        assert!(self.refused.insert(body.clone()), "{body} refused twice");
                    }
                }
                HomeOutput::Deliver { subscription, queue, deliveries } => {
                    self.on_deliver(home, subscription, queue, deliveries);
                }
                HomeOutput::Subscribed { .. } => {}
                HomeOutput::Cancelled { subscription } => panic!("no queue was deleted: {subscription}"),
                HomeOutput::Answer { request, answer } => {
                    let queue = self.homes[home].gets.remove(&request).expect("answered once");
                    match answer {
                        Answer::Got { delivery: Some(delivery), .. } => {
                            self.deliver(home, queue, None, delivery);
                        }
                        Answer::Got { delivery: None, .. } => {}
                        other => panic!("{other:?}"),
                    }
                }
                HomeOutput::NotLeader => self.homes[home].link = None,
                // Memory queues only, which these are not.
                HomeOutput::Pace { .. } => {}
            }
        }
    }

    fn on_deliver(
        &mut self,
        home: usize,
        subscription: SubscriptionId,
        queue: QueueId,
        deliveries: Vec<Delivery>,
    ) {
        let (prefetch, automatic) = {
            let consumer = &self.homes[home].consumers[&subscription];
            assert_eq!(consumer.queue, queue);
            (consumer.prefetch, consumer.automatic)
        };
        for delivery in deliveries {
            let (position, size) = (delivery.position, delivery.message.size() as u64);
            let body = self.deliver(home, queue, Some(subscription), delivery);
            let node = &mut self.homes[home];
            node.session.credit(subscription, 1, size);
            if automatic {
                node.held.pop();
                node.session.settle(queue, [position], false);
                self.acked.insert(body);
            }
        }
        let holds = self.homes[home].held.iter().filter(|(.., of, _)| *of == Some(subscription)).count();
        if prefetch > 0 && !self.homes[home].stale {
            assert!(holds <= prefetch as usize, "{holds} held with a prefetch of {prefetch}");
        }
        self.home_flush(home);
    }

    fn deliver(
        &mut self,
        home: usize,
        queue: QueueId,
        subscription: Option<SubscriptionId>,
        delivery: Delivery,
    ) -> String {
        let body = text(&delivery.message);
        assert_eq!(self.published.get(&body), Some(&queue));
        if !self.seen.insert(body.clone()) {
            assert!(delivery.redelivered, "{body} came again, unmarked");
        }
        if !self.loose.contains(&body) {
            assert!(!self.acked.contains(&body), "{body} came after its acknowledgement");
            let holder = self.homes.iter().position(|home| home.held.iter().any(|held| held.3 == body));
            assert_eq!(holder, None, "{body} is held by a client and came to home {home}");
        }
        let node = &mut self.homes[home];
        node.touched.insert(body.clone());
        node.held.push((queue, delivery.position, subscription, body.clone()));
        body
    }

    fn connect(&mut self, home: usize) {
        if self.homes[home].link.is_some() {
            return;
        }
        let key = SessionKey(self.number());
        let node = &mut self.homes[home];
        node.link = Some(Link { key, up: VecDeque::new(), down: VecDeque::new(), attached: false });
        node.epoch += 1;
        let mut outputs = Vec::new();
        node.session.connected(node.epoch, &mut outputs);
        self.home_outputs(home, outputs);
    }

    fn cut(&mut self, home: usize, told: bool) {
        self.homes[home].session.disconnected();
        if let Some(link) = self.homes[home].link.take()
            && told
        {
            self.input(Input::SessionLost(link.key));
        }
    }

    fn up(&mut self, home: usize, frames: usize) {
        for _ in 0..frames {
            let Some(link) = &mut self.homes[home].link else { return };
            let Some(bytes) = link.up.pop_front() else { return };
            let frame = HomeFrame::decode(bytes).unwrap();
            link.attached = true;
            let key = link.key;
            self.homes[home].known_at = self.now;
            self.input(Input::Frame(key, frame));
        }
    }

    fn down(&mut self, home: usize, frames: usize) {
        for _ in 0..frames {
            let Some(link) = &mut self.homes[home].link else { return };
            let Some(bytes) = link.down.pop_front() else { return };
            let mut outputs = Vec::new();
            self.homes[home].session.on_frame(LeaderFrame::decode(bytes).unwrap(), &mut outputs);
            self.home_outputs(home, outputs);
        }
    }

    fn input(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.leader.step(self.now, &self.directory, input, &mut outputs);
        self.leader.flush(self.now, &mut outputs);
        self.leader.check().unwrap();
        for output in outputs {
            match output {
                Output::Record(record) => self.in_flight.push_back(record),
                Output::Send(key, frame) => {
                    let link = self.homes.iter_mut().filter_map(|home| home.link.as_mut());
                    if let Some(link) = link.into_iter().find(|link| link.key == key) {
                        link.down.push_back(frame.encode());
                    }
                }
                load @ Output::Load { .. } => self.loads.push_back(load),
                Output::DeadLetter(letter) => panic!("{} has no dead-letter exchange", letter.queue),
                Output::DeleteQueue { queue } => panic!("{queue} is not auto-delete"),
                Output::Pace { queue, .. } => panic!("{queue} is not in memory only"),
            }
        }
    }

    /// Records become durable and are applied below; the leader has still to be told.
    fn commit(&mut self, count: usize) {
        for _ in 0..count {
            let Some(record) = self.in_flight.pop_front() else { return };
            let applied = self.store.apply(record);
            self.applied.push_back(applied);
        }
    }

    fn feed(&mut self, count: usize) {
        for _ in 0..count {
            let Some(applied) = self.applied.pop_front() else { return };
            self.input(Input::Applied(vec![applied]));
        }
    }

    fn load(&mut self) {
        if let Some(Output::Load { queue, after, max_messages, max_bytes }) = self.loads.pop_front() {
            // Small reads, so that a queue needs several.
            let (messages, end) = self.store.load(queue, after, max_messages.min(3), max_bytes);
            self.input(Input::Loaded { queue, messages, end });
        }
    }

    fn kill_leader(&mut self, commit: usize) {
        for _ in 0..commit {
            if let Some(record) = self.in_flight.pop_front() {
                self.store.apply(record);
            }
        }
        self.in_flight.clear();
        self.applied.clear();
        self.loads.clear();
        let nodes: Vec<NodeId> = self.homes.iter().map(|home| NodeId(home.node)).collect();
        self.leader = HostLeader::open(self.config.clone(), self.store.opening_state(), &nodes, self.now);
        for home in &mut self.homes {
            home.session.disconnected();
            home.link = None;
            home.known_at = self.now;
        }
    }

    /// The node loses its clients and everything unconfirmed, and starts anew.
    fn kill_home(&mut self, home: usize, told: bool) {
        let old = &self.homes[home];
        let (node, incarnation) = (old.node, old.incarnation);
        // Its clients are gone: an acknowledgement that was on its way may be lost.
        self.loose.extend(old.touched.iter().cloned());
        self.homes[home] = Home::new(node, incarnation + 1, self.now);
        if told {
            self.input(Input::NodeDead(NodeId(node)));
        }
    }

    fn wait(&mut self, ms: u64) {
        self.now = UnixMillis(self.now.0 + ms);
        for home in &mut self.homes {
            let attached = home.link.as_ref().is_some_and(|link| link.attached);
            if !attached && self.now.0 >= home.known_at.0 + GRACE_MS {
                home.stale = true;
                self.loose.extend(home.touched.iter().cloned());
            }
        }
        self.input(Input::Tick);
    }

    /// Everything works again, for long enough.
    fn heal(&mut self) {
        for round in 0..400 {
            for home in 0..HOMES {
                self.connect(home);
                self.up(home, 1000);
                self.down(home, 1000);
            }
            self.commit(1000);
            self.feed(1000);
            while !self.loads.is_empty() {
                self.load();
            }
            if round % 10 == 0 {
                self.wait(500);
            }
        }
    }
}

impl Home {
    fn new(node: u64, incarnation: u64, now: UnixMillis) -> Self {
        let session = SessionId(node + 1000 * incarnation);
        let config = HomeConfig { batch_messages: 2, ..HomeConfig::new(session, NodeId(node), incarnation) };
        Self {
            session: HomeSession::new(config),
            node,
            incarnation,
            epoch: 0,
            link: None,
            known_at: now,
            stale: false,
            consumers: BTreeMap::new(),
            held: Vec::new(),
            touched: BTreeSet::new(),
            gets: BTreeMap::new(),
        }
    }
}

/// The last queue refuses what is over its length.
fn directory_with_a_refusing_queue() -> Directory {
    let mut directory = Directory::with(1..=QUEUES);
    let settings =
        QueueSettings { max_length: Some(2), overflow: Overflow::RejectPublish, ..QueueSettings::default() };
    directory.settings.insert(QueueId(QUEUES), settings.into());
    directory
}

/// Of each publisher, the messages of a queue lie in the order they were published, each once.
fn check_store(world: &World) {
    for queue in 1..=QUEUES {
        let (messages, _) = world.store.load(QueueId(queue), Position(0), u32::MAX, u64::MAX);
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for stored in messages {
            let body = text(&stored.message);
            let (publisher, _) = body.split_once(':').unwrap();
            let before = last.insert(publisher.to_owned(), body.clone());
            assert!(before.is_none_or(|before| before < body), "{body} is out of order or twice");
        }
    }
}

fn run(actions: Vec<Action>) {
    let mut world = World::new();
    for action in actions {
        world.act(action);
        check_store(&world);
    }
    world.heal();
    check_store(&world);
    for home in &world.homes {
        assert_eq!(home.session.unconfirmed_count(), 0, "a publish was never confirmed");
        assert_eq!(home.session.unsettled_count(), 0, "a settle was never recorded");
        assert!(home.gets.is_empty(), "a get was never answered");
    }
    // Nothing is left that a greedy consumer would not get.
    for queue in 1..=QUEUES {
        world.subscribe(0, QueueId(queue), 0, true);
    }
    for home in 0..HOMES {
        world.ack(home, 0, usize::MAX / 2);
        for consumer in world.homes[home].consumers.values_mut() {
            consumer.automatic = true;
        }
    }
    world.heal();
    for queue in 1..=QUEUES {
        let left = world.store.live(QueueId(queue));
        assert!(
            left.is_empty(),
            "queue {queue} stalls at {left:?}: {:?}",
            world.leader.counts(QueueId(queue))
        );
    }
    let both: Vec<_> = world.refused.intersection(&world.seen).collect();
    assert!(both.is_empty(), "refused and delivered: {both:?}");
    let lost: Vec<_> = world.confirmed.difference(&world.seen).collect();
    assert!(lost.is_empty(), "confirmed and never delivered: {lost:?}");
    for home in &world.homes {
        assert_eq!(home.session.held_count(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_confirmed_is_lost_and_nothing_comes_twice_unmarked(
        actions in prop::collection::vec(action(), 0..120)
    ) {
        run(actions);
    }
}
