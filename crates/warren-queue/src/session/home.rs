//! Spine 7 and 12: a home node's end of its session with one host.
//!
//! Before: `warren-broker`'s router and channels. After: the leader, wherever it is at the moment. It keeps what the
//! leader has not confirmed and offers it again to the next one; it knows no queue but by number, and no channel but
//! by the token of a publish.

use std::collections::{BTreeMap, VecDeque};

use warren_proto::session::{
    Answer, Ask, Attach, Delivery, Held as HeldFrame, HomeFrame, LeaderFrame, StreamOffset, Subscribe,
    SubscribeOutcome,
};
use warren_types::{
    AckMode, Position, PositionRange, PublishToken, QueueId, RequestId, SessionPublish, SubscriptionId,
};

use crate::HomeConfig;
use crate::held::Held;
use crate::lane::stored;
use crate::positions::PositionSet;

/// What a [`HomeSession`] asks of its shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeOutput {
    /// Send it on the attached stream.
    Send(HomeFrame),
    /// These publishes are safe. Also those whose `number` is 0: their channel did not ask, but may count.
    Confirmed(Vec<PublishToken>),
    /// Policy refused these.
    Rejected(Vec<PublishToken>),
    /// Who publishes to the queue waits so many milliseconds after each read; 0 ends the wait, as the end of the stream does.
    Pace {
        /// The queue.
        queue: QueueId,
        /// Milliseconds.
        pause_ms: u32,
    },
    /// Messages for a consumer. The session counts them as held until they are settled or given back.
    Deliver {
        /// The consumer.
        subscription: SubscriptionId,
        /// The queue.
        queue: QueueId,
        /// The messages, in order.
        deliveries: Vec<Delivery>,
    },
    /// What became of a consumer that was begun. Other than `Subscribed`, it is gone.
    Subscribed {
        /// The consumer.
        subscription: SubscriptionId,
        /// What became of it.
        outcome: SubscribeOutcome,
    },
    /// The consumer is gone: its queue was deleted, or a new leader refused it.
    Cancelled {
        /// The consumer.
        subscription: SubscriptionId,
    },
    /// The answer to a question.
    Answer {
        /// The question.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// The stream's other end does not lead the host: close it, find who leads, attach there.
    NotLeader,
}

/// A queue that never was: the catalogue numbers them from 1.
const NO_QUEUE: QueueId = QueueId(0);

/// What a publish that is kept takes beside its message.
const KEPT_BYTES: usize = 256;

fn cost(publish: &SessionPublish) -> usize {
    publish.message.size() + KEPT_BYTES + publish.queues.len() * size_of::<QueueId>()
}

#[derive(Debug)]
struct Consumer {
    subscribe: Subscribe,
    /// The channel knows that it stands.
    told: bool,
}

#[derive(Debug)]
struct Publish {
    token: PublishToken,
    publish: SessionPublish,
    /// Its publisher was told that it failed; it only keeps its sequence.
    abandoned: bool,
}

#[derive(Debug)]
struct Question {
    ask: Ask,
    /// Somebody waits for the answer.
    wanted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down,
    /// `Attach` is sent: anything may follow it but publishes and questions, which wait for what is applied.
    Attaching {
        epoch: u64,
    },
    Up,
}

/// A home node's end of its session with one host.
///
/// Call [`flush`](Self::flush) at the end of each batch of calls: publishes, settles and credit travel together.
#[derive(Debug)]
pub struct HomeSession {
    config: HomeConfig,
    link: Link,
    /// Not confirmed, ascending; the first has sequence `first_seq`.
    unconfirmed: VecDeque<Publish>,
    unconfirmed_bytes: usize,
    first_seq: u64,
    /// How many of `unconfirmed` are sent on this attachment.
    sent: usize,
    consumers: BTreeMap<SubscriptionId, Consumer>,
    /// Delivered to us, neither settled nor given back.
    held: BTreeMap<QueueId, Held<Option<SubscriptionId>>>,
    /// Settles and returns of this batch, not in a frame yet.
    settling: BTreeMap<(QueueId, bool), PositionSet>,
    returning: BTreeMap<(QueueId, bool, bool), PositionSet>,
    /// Settles and returns that are not known to be recorded; the first has sequence `first_settle_seq`.
    unsettled: VecDeque<HomeFrame>,
    first_settle_seq: u64,
    credit: BTreeMap<SubscriptionId, (u32, u64)>,
    asks: BTreeMap<RequestId, Question>,
}

impl HomeSession {
    /// A session that is not attached yet.
    #[must_use]
    pub fn new(config: HomeConfig) -> Self {
        Self {
            config,
            link: Link::Down,
            unconfirmed: VecDeque::new(),
            unconfirmed_bytes: 0,
            first_seq: 1,
            sent: 0,
            consumers: BTreeMap::new(),
            held: BTreeMap::new(),
            settling: BTreeMap::new(),
            returning: BTreeMap::new(),
            unsettled: VecDeque::new(),
            first_settle_seq: 1,
            credit: BTreeMap::new(),
            asks: BTreeMap::new(),
        }
    }

    /// A stream to a node that should lead the host is open: attaches. `epoch` is higher than any used before.
    pub fn connected(&mut self, epoch: u64, outputs: &mut Vec<HomeOutput>) {
        self.collect_settles();
        self.forget_superseded();
        self.link = Link::Attaching { epoch };
        self.sent = 0;
        self.credit.clear();
        outputs.push(HomeOutput::Send(HomeFrame::Attach(Attach {
            session: self.config.session,
            epoch,
            node: self.config.node,
            incarnation: self.config.incarnation,
            subscriptions: self.consumers.values().map(|consumer| consumer.subscribe.clone()).collect(),
            held: self.claims(),
        })));
        // After the claims, so that the leader finds what they settle; harmless if it was recorded before.
        outputs.extend(self.unsettled.iter().cloned().map(HomeOutput::Send));
    }

    /// The stream is gone; nothing that came on it may be fed any more.
    pub fn disconnected(&mut self) {
        self.link = Link::Down;
        self.asks.retain(|_, question| question.wanted);
        self.sent = 0;
        self.credit.clear();
    }

    /// Whether a leader has accepted the attachment.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.link == Link::Up
    }

    /// Publishes that are not confirmed, in bytes: read less from publishers when it grows.
    #[must_use]
    pub fn unconfirmed_bytes(&self) -> usize {
        self.unconfirmed_bytes
    }

    /// Publishes that are not confirmed.
    #[must_use]
    pub fn unconfirmed_count(&self) -> usize {
        self.unconfirmed.len()
    }

    /// Settles and returns that are not known to be recorded, in frames.
    #[must_use]
    pub fn unsettled_count(&self) -> usize {
        self.unsettled.len()
    }

    /// Deliveries that are held.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.held.values().map(Held::len).sum()
    }

    /// True when nothing is kept here: no publish, consumer, delivery, settle or question. The session may go.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.unconfirmed.is_empty()
            && self.consumers.is_empty()
            && self.held.is_empty()
            && self.settling.is_empty()
            && self.returning.is_empty()
            && self.unsettled.is_empty()
            && self.asks.is_empty()
    }

    /// Keeps a message until it is confirmed; it is sent with the next flush.
    pub fn publish(&mut self, token: PublishToken, publish: SessionPublish) {
        self.unconfirmed_bytes += cost(&publish);
        self.unconfirmed.push_back(Publish { token, publish, abandoned: false });
    }

    /// Gives up publishes to queues that are `gone` from this host, while its node does not answer: they are rejected.
    /// Nothing happens while a leader is attached, which confirms or rejects by itself.
    pub fn abandon(&mut self, gone: impl Fn(QueueId) -> bool, outputs: &mut Vec<HomeOutput>) {
        if self.link == Link::Up {
            return;
        }
        let mut refused = Vec::new();
        for publish in self.unconfirmed.iter_mut().filter(|publish| !publish.abandoned) {
            if publish.publish.queues.iter().any(|queue| gone(*queue)) {
                self.unconfirmed_bytes -= cost(&publish.publish);
                // Sequences have no gaps: should the node come back, it finds that this one goes nowhere.
                publish.publish = SessionPublish { queues: vec![NO_QUEUE], ..SessionPublish::default() };
                self.unconfirmed_bytes += cost(&publish.publish);
                publish.abandoned = true;
                refused.push(publish.token);
            }
        }
        if !refused.is_empty() {
            outputs.push(HomeOutput::Rejected(refused));
        }
    }

    /// Begins a consumer; answered by [`HomeOutput::Subscribed`].
    pub fn subscribe(&mut self, subscribe: Subscribe, outputs: &mut Vec<HomeOutput>) {
        self.send(HomeFrame::Subscribe(subscribe.clone()), outputs);
        self.consumers.insert(subscribe.subscription, Consumer { subscribe, told: false });
    }

    /// Ends a consumer: nothing more is delivered to it. What it holds stays held.
    pub fn unsubscribe(&mut self, subscription: SubscriptionId, outputs: &mut Vec<HomeOutput>) {
        self.credit.remove(&subscription);
        if self.consumers.remove(&subscription).is_some() {
            self.send(HomeFrame::Unsubscribe { subscription }, outputs);
        }
    }

    /// Settles deliveries: acknowledged, or `rejected` for good.
    pub fn settle(&mut self, queue: QueueId, positions: impl IntoIterator<Item = Position>, rejected: bool) {
        let mut run: Option<PositionRange> = None;
        for position in positions {
            match &mut run {
                Some(run) if run.last.next() == position => run.last = position,
                Some(_) | None => {
                    if let Some(done) = run.replace(PositionRange::one(position)) {
                        self.settle_range(queue, done, rejected);
                    }
                }
            }
        }
        if let Some(done) = run {
            self.settle_range(queue, done, rejected);
        }
    }

    /// Gives deliveries back to their place: `failed` counts against them, `delivered` says that a client has seen
    /// them.
    pub fn give_back(&mut self, queue: QueueId, ranges: &[PositionRange], failed: bool, delivered: bool) {
        for range in ranges {
            self.let_go(queue, *range);
            self.returning.entry((queue, failed, delivered)).or_default().insert_range(*range);
        }
    }

    /// Deliveries were handed to the consumer's socket: there is room for more.
    pub fn credit(&mut self, subscription: SubscriptionId, messages: u32, bytes: u64) {
        if self.consumers.contains_key(&subscription) {
            let credit = self.credit.entry(subscription).or_default();
            credit.0 = credit.0.saturating_add(messages);
            credit.1 = credit.1.saturating_add(bytes);
        }
    }

    /// Changes a consumer's prefetch; 0 is no limit.
    pub fn set_prefetch(
        &mut self,
        subscription: SubscriptionId,
        prefetch: u32,
        outputs: &mut Vec<HomeOutput>,
    ) {
        if let Some(consumer) = self.consumers.get_mut(&subscription) {
            consumer.subscribe.prefetch = prefetch;
            self.send(HomeFrame::SetPrefetch { subscription, prefetch }, outputs);
        }
    }

    /// Asks a question; it is asked again of a new leader until it is answered.
    pub fn ask(&mut self, request: RequestId, ask: Ask, outputs: &mut Vec<HomeOutput>) {
        // What was published and settled before it comes before it.
        self.flush(outputs);
        if self.link == Link::Up {
            outputs.push(HomeOutput::Send(HomeFrame::Request { request, ask: ask.clone() }));
        }
        self.asks.insert(request, Question { ask, wanted: true });
    }

    /// Nobody waits for the answer any more; a message that comes with it is given back.
    pub fn forget(&mut self, request: RequestId) {
        if self.link == Link::Up {
            if let Some(question) = self.asks.get_mut(&request) {
                question.wanted = false;
            }
        } else {
            // Not asked on this attachment; a message that an earlier one sent is not claimed, so it goes back.
            self.asks.remove(&request);
        }
    }

    /// Sends what was gathered since the last flush.
    pub fn flush(&mut self, outputs: &mut Vec<HomeOutput>) {
        let first_new = self.unsettled.len();
        self.collect_settles();
        match self.link {
            Link::Down => {}
            Link::Attaching { .. } => self.send_settles(first_new, outputs),
            Link::Up => {
                self.send_publishes(outputs);
                self.send_settles(first_new, outputs);
            }
        }
    }

    /// Takes a frame of the current stream.
    pub fn on_frame(&mut self, frame: LeaderFrame, outputs: &mut Vec<HomeOutput>) {
        match frame {
            LeaderFrame::Attached { epoch, last_seq } => self.on_attached(epoch, last_seq, outputs),
            LeaderFrame::Confirmed { up_to_seq, rejected } => {
                self.confirm(up_to_seq, &rejected, outputs);
                if let Some(up_to_seq) = rejected.last().copied() {
                    self.send(HomeFrame::Learned { up_to_seq }, outputs);
                }
            }
            LeaderFrame::Settled { up_to_seq } => {
                while self.first_settle_seq <= up_to_seq && self.unsettled.pop_front().is_some() {
                    self.first_settle_seq += 1;
                }
            }
            LeaderFrame::Pace { queue, pause_ms } => outputs.push(HomeOutput::Pace { queue, pause_ms }),
            LeaderFrame::Deliver { subscription, queue, deliveries, active_since } => {
                self.on_deliver(subscription, queue, deliveries, active_since, outputs);
            }
            LeaderFrame::Subscribed { subscription, outcome, next_offset } => {
                if let (Some(consumer), Some(offset)) = (self.consumers.get_mut(&subscription), next_offset)
                    && consumer.subscribe.offset.is_some()
                {
                    consumer.subscribe.offset = Some(StreamOffset::Offset(offset));
                }
                self.on_subscribed(subscription, outcome, outputs);
            }
            LeaderFrame::Cancelled { subscription } => {
                self.credit.remove(&subscription);
                if self.consumers.remove(&subscription).is_some() {
                    outputs.push(HomeOutput::Cancelled { subscription });
                }
            }
            LeaderFrame::Reply { request, answer } => self.on_reply(request, answer, outputs),
            LeaderFrame::NotLeader => {
                self.disconnected();
                outputs.push(HomeOutput::NotLeader);
            }
        }
    }

    fn on_attached(&mut self, epoch: u64, last_seq: u64, outputs: &mut Vec<HomeOutput>) {
        if self.link != (Link::Attaching { epoch }) {
            return;
        }
        self.link = Link::Up;
        self.confirm(last_seq, &[], outputs);
        self.flush(outputs);
        for (request, question) in &self.asks {
            let (request, ask) = (*request, question.ask.clone());
            outputs.push(HomeOutput::Send(HomeFrame::Request { request, ask }));
        }
    }

    fn confirm(&mut self, up_to_seq: u64, rejected: &[u64], outputs: &mut Vec<HomeOutput>) {
        let (mut safe, mut refused) = (Vec::new(), Vec::new());
        while self.first_seq <= up_to_seq
            && let Some(publish) = self.unconfirmed.pop_front()
        {
            self.unconfirmed_bytes -= cost(&publish.publish);
            self.sent = self.sent.saturating_sub(1);
            if publish.abandoned {
                self.first_seq += 1;
                continue;
            }
            let into = if rejected.binary_search(&self.first_seq).is_ok() { &mut refused } else { &mut safe };
            into.push(publish.token);
            self.first_seq += 1;
        }
        if !safe.is_empty() {
            outputs.push(HomeOutput::Confirmed(safe));
        }
        if !refused.is_empty() {
            outputs.push(HomeOutput::Rejected(refused));
        }
    }

    fn on_deliver(
        &mut self,
        subscription: SubscriptionId,
        queue: QueueId,
        deliveries: Vec<Delivery>,
        active_since: u64,
        outputs: &mut Vec<HomeOutput>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&subscription) else {
            // Cancelled while they were on their way: no client sees them.
            for range in PositionRange::collect(deliveries.iter().map(|delivery| delivery.position)) {
                self.returning.entry((queue, false, false)).or_default().insert_range(range);
            }
            self.flush(outputs);
            return;
        };
        consumer.subscribe.active = consumer.subscribe.single_active.then_some(active_since);
        if let (Some(_), Some(last)) = (consumer.subscribe.offset, deliveries.last()) {
            // The next leader goes on behind it. Offsets count from 0, places from 1.
            consumer.subscribe.offset = Some(StreamOffset::Offset(stored(last.position).0));
        }
        let held = self.held.entry(queue).or_default();
        for delivery in &deliveries {
            held.insert(delivery.position, Some(subscription));
        }
        outputs.push(HomeOutput::Deliver { subscription, queue, deliveries });
    }

    fn on_subscribed(
        &mut self,
        subscription: SubscriptionId,
        outcome: SubscribeOutcome,
        outputs: &mut Vec<HomeOutput>,
    ) {
        let Some(consumer) = self.consumers.get_mut(&subscription) else { return };
        let told = std::mem::replace(&mut consumer.told, true);
        let stands = match outcome {
            SubscribeOutcome::Subscribed => true,
            SubscribeOutcome::ExclusiveUse | SubscribeOutcome::NoQueue => false,
        };
        if !stands {
            self.consumers.remove(&subscription);
            self.credit.remove(&subscription);
        }
        match (told, stands) {
            (false, _) => outputs.push(HomeOutput::Subscribed { subscription, outcome }),
            // The client believes that it consumes: all that can be said is that it no longer does.
            (true, false) => outputs.push(HomeOutput::Cancelled { subscription }),
            (true, true) => {}
        }
    }

    fn on_reply(&mut self, request: RequestId, answer: Answer, outputs: &mut Vec<HomeOutput>) {
        let Some(Question { ask, wanted }) = self.asks.remove(&request) else { return };
        if let (Ask::Get { queue, ack_mode }, Answer::Got { delivery: Some(delivery), .. }) = (&ask, &answer)
        {
            let (queue, position) = (*queue, delivery.position);
            match ack_mode {
                _ if !wanted => self.give_back(queue, &[PositionRange::one(position)], false, false),
                AckMode::Manual => self.held.entry(queue).or_default().insert(position, None),
                AckMode::Automatic => self.settle(queue, [position], false),
            }
        }
        if wanted {
            outputs.push(HomeOutput::Answer { request, answer });
        }
    }

    fn settle_range(&mut self, queue: QueueId, range: PositionRange, rejected: bool) {
        self.let_go(queue, range);
        self.settling.entry((queue, rejected)).or_default().insert_range(range);
    }

    fn let_go(&mut self, queue: QueueId, range: PositionRange) {
        if let Some(held) = self.held.get_mut(&queue) {
            held.take_range(range, |_, _| true, |_, _| {});
            if held.is_empty() {
                self.held.remove(&queue);
            }
        }
    }

    /// Gives each gathered settle and return its sequence.
    fn collect_settles(&mut self) {
        for ((queue, rejected), positions) in std::mem::take(&mut self.settling) {
            let (seq, ranges) = (self.next_settle_seq(), positions.ranges().collect());
            self.unsettled.push_back(HomeFrame::Settle { seq, queue, ranges, rejected });
        }
        for ((queue, failed, delivered), positions) in std::mem::take(&mut self.returning) {
            let (seq, ranges) = (self.next_settle_seq(), positions.ranges().collect());
            self.unsettled.push_back(HomeFrame::Return { seq, queue, ranges, failed, delivered });
        }
    }

    fn next_settle_seq(&self) -> u64 {
        self.first_settle_seq + self.unsettled.len() as u64
    }

    fn send_settles(&mut self, first_new: usize, outputs: &mut Vec<HomeOutput>) {
        outputs.extend(self.unsettled.iter().skip(first_new).cloned().map(HomeOutput::Send));
        for (subscription, (messages, bytes)) in std::mem::take(&mut self.credit) {
            outputs.push(HomeOutput::Send(HomeFrame::Credit { subscription, messages, bytes }));
        }
    }

    fn send_publishes(&mut self, outputs: &mut Vec<HomeOutput>) {
        while self.sent < self.unconfirmed.len() {
            let first_seq = self.first_seq + self.sent as u64;
            let (mut messages, mut bytes) = (Vec::new(), 0);
            for publish in self.unconfirmed.range(self.sent..) {
                let size = publish.publish.message.size();
                let cut =
                    bytes + size > self.config.batch_bytes || messages.len() >= self.config.batch_messages;
                if cut && !messages.is_empty() {
                    break;
                }
                bytes += size;
                messages.push(publish.publish.clone());
            }
            self.sent += messages.len();
            outputs.push(HomeOutput::Send(HomeFrame::Publish { first_seq, messages }));
        }
    }

    /// Takes out of what will be repeated what came again since and is held, or was let go once more. The leader was told
    /// of the first time, for it delivered a second time; told again, it would take it for the second delivery, and give to
    /// others what is held here.
    fn forget_superseded(&mut self) {
        let mut later: BTreeMap<QueueId, PositionSet> = BTreeMap::new();
        for (queue, held) in &self.held {
            let positions = later.entry(*queue).or_default();
            held.iter().for_each(|(position, _)| {
                positions.insert(position);
            });
        }
        for frame in self.unsettled.iter_mut().rev() {
            let (HomeFrame::Settle { queue, ranges, .. } | HomeFrame::Return { queue, ranges, .. }) = frame
            else {
                continue;
            };
            let later = later.entry(*queue).or_default();
            let mut kept = PositionSet::new();
            for range in std::mem::take(ranges) {
                kept.insert_range(range);
                for superseded in later.take_range(range) {
                    kept.take_range(superseded);
                }
                later.insert_range(range);
            }
            // Also when nothing is left: its sequence counts.
            *ranges = kept.ranges().collect();
        }
    }

    /// Everything that must not be delivered to others: what is held, and what was let go but is not recorded.
    fn claims(&self) -> Vec<HeldFrame> {
        let mut claims = Vec::new();
        for (queue, held) in &self.held {
            let mut by_consumer: BTreeMap<Option<SubscriptionId>, Vec<Position>> = BTreeMap::new();
            for (position, subscription) in held.iter() {
                by_consumer.entry(*subscription).or_default().push(position);
            }
            for (subscription, mut positions) in by_consumer {
                positions.sort_unstable();
                let ranges = PositionRange::collect(positions);
                claims.push(HeldFrame { queue: *queue, subscription, ranges });
            }
        }
        for frame in &self.unsettled {
            if let HomeFrame::Settle { queue, ranges, .. } | HomeFrame::Return { queue, ranges, .. } = frame {
                claims.push(HeldFrame { queue: *queue, subscription: None, ranges: ranges.clone() });
            }
        }
        claims
    }

    fn send(&self, frame: HomeFrame, outputs: &mut Vec<HomeOutput>) {
        match self.link {
            Link::Down => {}
            Link::Attaching { .. } | Link::Up => outputs.push(HomeOutput::Send(frame)),
        }
    }
}
