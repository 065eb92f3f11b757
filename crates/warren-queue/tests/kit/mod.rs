//! A small world for one leader: a store in memory below it, streams that are lists, a clock that is a number.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's kit")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use warren_proto::session::{
    Answer, Ask, Attach, Delivery, Held, HomeFrame, LeaderFrame, Subscribe, SubscribeOutcome,
};
use warren_proto::shard::{AppliedRecord, Op, Record};
use warren_queue::{
    DeadLetter, HostLeader, Input, LeaderConfig, MemoryStore, Output, QueueDirectory, SessionKey,
};
use warren_types::{
    AckMode, FieldTable, Message, NodeId, Position, PositionRange, QueueHost, QueueId, QueueSettings,
    QueueSpec, RequestId, SessionId, SessionPublish, ShardId, SubscriptionId, UnixMillis,
};

/// The catalogue.
#[derive(Clone, Default)]
pub struct Directory {
    pub queues: BTreeMap<QueueId, Arc<QueueSpec>>,
    pub newest: QueueId,
    pub settings: BTreeMap<QueueId, Arc<QueueSettings>>,
    pub revision: u64,
}

impl Directory {
    pub fn with(queues: impl IntoIterator<Item = u64>) -> Self {
        let mut directory = Self::default();
        for id in queues {
            directory.declare(QueueId(id), false);
        }
        directory
    }

    pub fn declare(&mut self, id: QueueId, auto_delete: bool) {
        let spec = QueueSpec {
            id,
            vhost: "/".into(),
            name: format!("q{id}").into(),
            host: QueueHost::Shard(ShardId(1)),
            durable: true,
            exclusive: None,
            auto_delete,
            arguments: FieldTable::default(),
        };
        self.queues.insert(id, Arc::new(spec));
        self.newest = self.newest.max(id);
    }
}

impl QueueDirectory for Directory {
    fn queue(&self, id: QueueId) -> Option<Arc<QueueSpec>> {
        self.queues.get(&id).cloned()
    }

    fn newest(&self) -> QueueId {
        self.newest
    }

    fn settings(&self, id: QueueId) -> Option<Arc<QueueSettings>> {
        self.queue(id)?;
        Some(self.settings.get(&id).cloned().unwrap_or_default())
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn leased(&self, _: QueueHost) -> Vec<QueueId> {
        let leased = |(id, settings): (&QueueId, &Arc<QueueSettings>)| settings.expires_ms.map(|_| *id);
        self.settings.iter().filter_map(leased).collect()
    }
}

/// Acknowledgements are recorded at once, so that what they do shows at once.
pub fn config() -> LeaderConfig {
    LeaderConfig { settle_within_ms: 0, ..LeaderConfig::new(QueueHost::Shard(ShardId(1))) }
}

pub fn message(text: &str) -> Message {
    Message { body: text.as_bytes().to_vec().into(), ..Message::default() }
}

/// With an `expiration`.
pub fn expiring(text: &str, milliseconds: &str) -> Message {
    let mut properties = vec![1, 0, milliseconds.len() as u8];
    properties.extend(milliseconds.bytes());
    Message { properties: properties.into(), ..message(text) }
}

pub fn text(message: &Message) -> String {
    String::from_utf8(message.body.to_vec()).unwrap()
}

pub fn range(first: u64, last: u64) -> PositionRange {
    PositionRange { first: Position(first), last: Position(last) }
}

pub const Q: QueueId = QueueId(1);

/// One leader over a store in memory. Records commit at once unless `hold` is set.
pub struct Bench {
    pub config: LeaderConfig,
    pub leader: HostLeader,
    pub store: MemoryStore,
    pub directory: Directory,
    pub now: UnixMillis,
    /// Leave records uncommitted until `commit`.
    pub hold: bool,
    pub pending: VecDeque<Record>,
    /// All records that were proposed.
    pub records: Vec<Record>,
    pub loads: usize,
    pub deletes: Vec<QueueId>,
    pub paces: Vec<(QueueId, u32)>,
    /// Dead letters in the shell's hands.
    pub letters: VecDeque<DeadLetter>,
    /// Sequences that were nacked.
    pub nacked: Vec<u64>,
    frames: BTreeMap<SessionKey, Vec<LeaderFrame>>,
    seqs: BTreeMap<SessionKey, (u64, u64)>,
    next_request: u64,
}

#[allow(clippy::new_without_default, reason = "a test's kit")]
impl Bench {
    pub fn new() -> Self {
        Self::with(config(), Directory::with([1]))
    }

    pub fn with(config: LeaderConfig, directory: Directory) -> Self {
        let store = MemoryStore::new();
        let now = UnixMillis(1_000_000);
        let leader = HostLeader::open(config.clone(), store.opening_state(), &[], now);
        Self {
            config,
            leader,
            store,
            directory,
            now,
            hold: false,
            pending: VecDeque::new(),
            records: Vec::new(),
            loads: 0,
            deletes: Vec::new(),
            paces: Vec::new(),
            letters: VecDeque::new(),
            nacked: Vec::new(),
            frames: BTreeMap::new(),
            seqs: BTreeMap::new(),
            next_request: 1,
        }
    }

    /// The leader dies, with what it proposed but for the first `commit` records; a new one takes over.
    pub fn fail_over(&mut self, commit: usize, nodes: &[u64]) {
        for _ in 0..commit {
            if let Some(record) = self.pending.pop_front() {
                self.store.apply(record);
            }
        }
        self.pending.clear();
        let nodes: Vec<NodeId> = nodes.iter().map(|node| NodeId(*node)).collect();
        self.leader = HostLeader::open(self.config.clone(), self.store.opening_state(), &nodes, self.now);
        self.frames.clear();
        self.seqs.clear();
        self.flush();
    }

    pub fn input(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.leader.step(self.now, &self.directory, input, &mut outputs);
        self.carry_out(outputs);
        self.flush();
    }

    pub fn frame(&mut self, key: u64, frame: HomeFrame) {
        self.input(Input::Frame(SessionKey(key), frame));
    }

    pub fn flush(&mut self) {
        loop {
            let mut outputs = Vec::new();
            self.leader.flush(self.now, &mut outputs);
            self.leader.check().unwrap();
            if outputs.is_empty() {
                return;
            }
            self.carry_out(outputs);
        }
    }

    /// Commits the first `count` records that wait.
    pub fn commit(&mut self, count: usize) {
        for _ in 0..count {
            let Some(record) = self.pending.pop_front() else { return };
            self.apply(record);
            self.flush();
        }
    }

    pub fn wait(&mut self, ms: u64) {
        self.now = UnixMillis(self.now.0 + ms);
        self.input(Input::Tick);
    }

    fn apply(&mut self, record: Record) {
        let applied: AppliedRecord = self.store.apply(record);
        let mut outputs = Vec::new();
        self.leader.step(self.now, &self.directory, Input::Applied(vec![applied]), &mut outputs);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Record(record) => {
                    self.records.push(record.clone());
                    if self.hold || !self.pending.is_empty() {
                        self.pending.push_back(record);
                    } else {
                        self.apply(record);
                    }
                }
                Output::Send(key, frame) => {
                    let bytes = frame.encode();
                    assert_eq!(LeaderFrame::decode(bytes).unwrap(), frame);
                    if let LeaderFrame::Confirmed { up_to_seq, rejected } = &frame {
                        assert!(rejected.iter().all(|seq| seq <= up_to_seq), "{frame:?}");
                        self.nacked.extend(rejected);
                    }
                    self.frames.entry(key).or_default().push(frame);
                }
                Output::Load { queue, after, max_messages, max_bytes } => {
                    self.loads += 1;
                    let (messages, end) = self.store.load(queue, after, max_messages, max_bytes);
                    let mut outputs = Vec::new();
                    let loaded = Input::Loaded { queue, messages, end };
                    self.leader.step(self.now, &self.directory, loaded, &mut outputs);
                    self.carry_out(outputs);
                }
                Output::DeadLetter(letter) => self.letters.push_back(*letter),
                Output::DeleteQueue { queue } => self.deletes.push(queue),
                Output::Pace { queue, pause_ms } => self.paces.push((queue, pause_ms)),
            }
        }
    }

    /// Takes the frames that came on the stream.
    pub fn frames(&mut self, key: u64) -> Vec<LeaderFrame> {
        self.frames.remove(&SessionKey(key)).unwrap_or_default()
    }

    /// Takes the frames and keeps only what was delivered to the consumer: body, with `*` if redelivered.
    pub fn delivered(&mut self, key: u64, subscription: u64) -> Vec<String> {
        let mut texts = Vec::new();
        let frames = self.frames.entry(SessionKey(key)).or_default();
        frames.retain(|frame| match frame {
            LeaderFrame::Deliver { subscription: to, deliveries, .. } if to.0 == subscription => {
                texts.extend(deliveries.iter().map(shown));
                false
            }
            _ => true,
        });
        texts
    }

    /// Since when the consumer is the active one, as its last frame said.
    pub fn active_since(&mut self, key: u64, subscription: u64) -> u64 {
        let frames = self.frames.entry(SessionKey(key)).or_default();
        let since = |frame: &LeaderFrame| match frame {
            LeaderFrame::Deliver { subscription: to, active_since, .. } if to.0 == subscription => {
                Some(*active_since)
            }
            _ => None,
        };
        frames.iter().rev().find_map(since).unwrap()
    }

    /// Takes what was delivered to the consumer.
    pub fn take_deliveries(&mut self, key: u64, subscription: u64) -> Vec<Delivery> {
        let mut taken = Vec::new();
        let frames = self.frames.entry(SessionKey(key)).or_default();
        frames.retain(|frame| match frame {
            LeaderFrame::Deliver { subscription: to, deliveries, .. } if to.0 == subscription => {
                taken.extend(deliveries.iter().cloned());
                false
            }
            _ => true,
        });
        taken
    }

    pub fn attach(&mut self, key: u64, session: u64, epoch: u64) {
        self.attach_with(key, session, epoch, Vec::new(), Vec::new());
    }

    /// Session `s` is of node `s % 100`, at its start number `s / 100`.
    pub fn attach_with(
        &mut self,
        key: u64,
        session: u64,
        epoch: u64,
        subscriptions: Vec<Subscribe>,
        held: Vec<Held>,
    ) {
        let attach = Attach {
            session: SessionId(session),
            epoch,
            node: NodeId(session % 100),
            incarnation: session / 100,
            subscriptions,
            held,
        };
        self.frame(key, HomeFrame::Attach(attach));
    }

    pub fn publish(&mut self, key: u64, texts: &[&str]) {
        self.publish_to(key, &[Q], texts);
    }

    pub fn publish_to(&mut self, key: u64, queues: &[QueueId], texts: &[&str]) {
        let seq = &mut self.seqs.entry(SessionKey(key)).or_default().0;
        let first_seq = *seq + 1;
        *seq += texts.len() as u64;
        let publish =
            |text: &&str| SessionPublish { queues: queues.to_vec(), message: message(text), delay_ms: 0 };
        let messages = texts.iter().map(publish).collect();
        self.frame(key, HomeFrame::Publish { first_seq, messages });
    }

    /// Publishes from that sequence on.
    pub fn publish_messages_from(&mut self, key: u64, first_seq: u64, texts: &[&str]) {
        self.seqs_from(key, first_seq - 1);
        self.publish(key, texts);
    }

    /// Settles whatever the stream's session holds.
    pub fn settle_all(&mut self, key: u64) {
        self.settle(key, &[range(1, u64::MAX)]);
    }

    /// The stream's session goes on after these sequences of publishes.
    pub fn seqs_from(&mut self, key: u64, published: u64) {
        self.seqs.entry(SessionKey(key)).or_default().0 = published;
    }

    pub fn publish_messages(&mut self, key: u64, messages: Vec<Message>) {
        let seq = &mut self.seqs.entry(SessionKey(key)).or_default().0;
        let first_seq = *seq + 1;
        *seq += messages.len() as u64;
        let publish = |message| SessionPublish { queues: vec![Q], message, delay_ms: 0 };
        let messages = messages.into_iter().map(publish).collect();
        self.frame(key, HomeFrame::Publish { first_seq, messages });
    }

    pub fn subscribe(&mut self, key: u64, subscription: u64, prefetch: u32) {
        self.frame(key, HomeFrame::Subscribe(consumer(subscription, prefetch)));
    }

    pub fn settle(&mut self, key: u64, ranges: &[PositionRange]) {
        let seq = self.next_settle(key);
        self.frame(key, HomeFrame::Settle { seq, queue: Q, ranges: ranges.to_vec(), rejected: false });
    }

    pub fn give_back(&mut self, key: u64, ranges: &[PositionRange], failed: bool, delivered: bool) {
        let seq = self.next_settle(key);
        let frame = HomeFrame::Return { seq, queue: Q, ranges: ranges.to_vec(), failed, delivered };
        self.frame(key, frame);
    }

    pub fn credit(&mut self, key: u64, subscription: u64, messages: u32, bytes: u64) {
        let subscription = SubscriptionId(subscription);
        self.frame(key, HomeFrame::Credit { subscription, messages, bytes });
    }

    fn next_settle(&mut self, key: u64) -> u64 {
        let seq = &mut self.seqs.entry(SessionKey(key)).or_default().1;
        *seq += 1;
        *seq
    }

    /// Asks, and takes the answer if it has come.
    pub fn ask(&mut self, key: u64, ask: Ask) -> Option<Answer> {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.frame(key, HomeFrame::Request { request, ask });
        self.answer(key, request)
    }

    pub fn answer(&mut self, key: u64, request: RequestId) -> Option<Answer> {
        let frames = self.frames.entry(SessionKey(key)).or_default();
        let at = frames
            .iter()
            .position(|frame| matches!(frame, LeaderFrame::Reply { request: of, .. } if *of == request))?;
        match frames.remove(at) {
            LeaderFrame::Reply { answer, .. } => Some(answer),
            _ => None,
        }
    }

    /// `basic.get`: the body, with `*` if redelivered, and how many are left.
    pub fn get(&mut self, key: u64) -> Option<(Option<String>, u64)> {
        match self.ask(key, Ask::Get { queue: Q, ack_mode: AckMode::Manual })? {
            Answer::Got { delivery, remaining } => Some((delivery.as_ref().map(shown), remaining)),
            other => panic!("{other:?}"),
        }
    }

    /// Ready, unacked.
    pub fn counts(&self) -> (u64, u64) {
        self.leader.counts(Q).map_or((0, 0), |counts| (counts.ready, counts.unacked))
    }

    pub fn outcome(&mut self, key: u64) -> Vec<SubscribeOutcome> {
        let outcome = |frame: LeaderFrame| match frame {
            LeaderFrame::Subscribed { outcome, .. } => Some(outcome),
            _ => None,
        };
        self.frames(key).into_iter().filter_map(outcome).collect()
    }

    pub fn marks(&mut self, key: u64) -> (u64, u64) {
        let (mut confirmed, mut settled) = (0, 0);
        for frame in self.frames(key) {
            match frame {
                LeaderFrame::Confirmed { up_to_seq, .. } => confirmed = up_to_seq,
                LeaderFrame::Settled { up_to_seq } => settled = up_to_seq,
                _ => {}
            }
        }
        (confirmed, settled)
    }

    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.records.iter().flat_map(|record| &record.ops)
    }
}

pub fn shown(delivery: &Delivery) -> String {
    let mark = if delivery.redelivered { "*" } else { "" };
    format!("{}{mark}", text(&delivery.message))
}

pub fn consumer(subscription: u64, prefetch: u32) -> Subscribe {
    Subscribe {
        subscription: SubscriptionId(subscription),
        queue: Q,
        prefetch,
        exclusive: false,
        priority: 0,
        ack_mode: AckMode::Manual,
        single_active: false,
        active: None,
        offset: None,
        filter: None,
    }
}

pub fn held(subscription: Option<u64>, ranges: &[PositionRange]) -> Held {
    Held { queue: Q, subscription: subscription.map(SubscriptionId), ranges: ranges.to_vec() }
}
