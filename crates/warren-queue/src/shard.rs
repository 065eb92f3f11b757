//! The leader's machine of one host: spine 8 (admission, gathering) and 12 to 13 (committed, into queues).
//!
//! Before: the session's frames, which `warren-broker`'s shard task feeds. After: records to propose and frames to
//! send. `record` builds the former, `attach` begins and ends sessions, `consumers` theirs, `request` answers questions,
//! `tend` looks after queues that something happened to; the queues
//! themselves are in `queue`. It does not know whether Raft or memory is below it, nor on which node it runs.

mod attach;
mod consumers;
mod dedup;
mod delay;
mod lifecycle;
mod pace;
mod readers;
mod record;
mod request;
mod tend;
mod transit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use warren_proto::session::{Counts, HomeFrame, LeaderFrame};
use warren_proto::shard::{EnqueuedMessage, OpeningState, SettleReason};
use warren_types::{NodeId, PositionRange, QueueHost, QueueId, SessionId, SessionPublish, UnixMillis};

use crate::gather::{Gather, INTERNAL, Promises};
use crate::lane::LaneId;
use crate::queue::{Cache, GiveBack, Queue, Transit};
use crate::session::leader::{Session, Sessions};
use crate::{DeathReason, Input, LeaderConfig, Output, QueueDirectory};

/// The leader's machine of one host. Feed a batch of inputs with [`step`](Self::step), then [`flush`](Self::flush).
#[derive(Debug)]
pub struct HostLeader {
    pub(crate) config: LeaderConfig,
    pub(crate) sessions: Sessions,
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    pub(crate) cache: Cache,
    gather: Gather,
    /// All that waits in `gather` may wait so long.
    lazy_until: Option<UnixMillis>,
    /// Proposed records, in order, with what to tell once each is applied.
    in_flight: VecDeque<Promises>,
    /// Bytes of messages in them.
    in_flight_bytes: usize,
    /// Queues to look at in the next flush, each once (`Queue::touched`).
    touched: Vec<QueueId>,
    /// Queues whose first message waits for a mark.
    awaiting_mark: BTreeSet<QueueId>,
    /// Until when, and by which nodes, withheld deliveries may still be claimed.
    opening: Option<Opening>,
    next_sweep: UnixMillis,
    /// The catalogue's revision at which the queues' settings were taken.
    refreshed_at: Option<u64>,
    /// When which queue's head is to be looked at; as `Queue::timer`.
    timers: BTreeSet<(UnixMillis, QueueId)>,
    /// Queues that are deleted when nobody uses them.
    leased: BTreeSet<QueueId>,
    /// When the first of them may be due.
    next_lease: Option<UnixMillis>,
    /// Sessions with a question that waits for a mark.
    stalled: BTreeSet<SessionId>,
    /// Queues of an earlier leader whose heads nobody has looked at.
    unexamined: Vec<QueueId>,
    /// Dead letters out of messages that were never let in.
    refused_out: usize,
    /// Sessions with something that waits for the catalogue.
    waiting: BTreeSet<SessionId>,
    /// A queue's window has been read since they were last looked at.
    windows_read: bool,
    /// Deliveries on their way to consumers.
    under_way: transit::UnderWay,
    /// How tight it was when queues that are held back were last looked at.
    looked_at: transit::Tightness,
    /// Queues in memory that have grown.
    paces: BTreeMap<QueueId, pace::Pace>,
}

#[derive(Debug)]
struct Opening {
    nodes: BTreeSet<NodeId>,
    until: UnixMillis,
}

/// Figures of a host, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaderStats {
    /// Queues known.
    pub queues: usize,
    /// Sessions known, attached or not.
    pub sessions: usize,
    /// Messages ready in all queues.
    pub ready: u64,
    /// Messages delivered and not settled.
    pub unacked: u64,
    /// Consumers.
    pub consumers: u64,
    /// Bytes of loaded messages.
    pub cached_bytes: u64,
    /// Bytes of publishes that wait for a record.
    pub gathered_bytes: usize,
    /// Records proposed and not applied.
    pub in_flight: usize,
}

impl HostLeader {
    /// Begins to lead: `opening` is what the replica has once an entry of the own term is applied. `nodes` are the
    /// cluster's nodes whose clients may hold deliveries: what may have been delivered is withheld until each has
    /// attached, is reported dead, or `claim_grace_ms` have passed.
    #[must_use]
    pub fn open(config: LeaderConfig, opening: OpeningState, nodes: &[NodeId], now: UnixMillis) -> Self {
        let transit = Transit { messages: config.transit_messages, bytes: config.transit_bytes };
        let marks = marks(config.host);
        let mut queues: BTreeMap<QueueId, Queue> = BTreeMap::new();
        for state in &opening.queues {
            let (id, lane) = LaneId::split(state.queue);
            queues.entry(id).or_insert_with(|| Queue::new(id, transit, marks, now)).open(lane, state);
        }
        let mut sessions = Sessions::default();
        let mut gather = Gather::default();
        for (id, last_seq) in opening.sessions {
            if id == INTERNAL {
                gather.internal_seq = last_seq;
                continue;
            }
            sessions.by_id.insert(id, Session::unattached(Some(last_seq), now));
        }
        for (id, refused) in opening.refused {
            if let Some(session) = sessions.by_id.get_mut(&id) {
                session.rejected = refused.into();
            }
        }
        let until = UnixMillis(now.0.saturating_add(config.claim_grace_ms));
        let mut leader = Self {
            sessions,
            queues,
            cache: Cache::new(config.cache_bytes),
            gather,
            lazy_until: None,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            touched: Vec::new(),
            awaiting_mark: BTreeSet::new(),
            opening: Some(Opening { nodes: nodes.iter().copied().collect(), until }),
            next_sweep: now,
            refreshed_at: None,
            timers: BTreeSet::new(),
            leased: BTreeSet::new(),
            next_lease: None,
            stalled: BTreeSet::new(),
            unexamined: Vec::new(),
            refused_out: 0,
            waiting: BTreeSet::new(),
            windows_read: false,
            under_way: transit::UnderWay::default(),
            looked_at: transit::Tightness::default(),
            paces: BTreeMap::new(),
            config,
        };
        leader.release_if_claimed();
        leader
    }

    /// Takes one input; what can be told at once is told, the rest waits for [`flush`](Self::flush).
    pub fn step(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        input: Input,
        outputs: &mut Vec<Output>,
    ) {
        if self.refreshed_at.is_none() {
            self.refresh(now, directory);
        }
        let new = self.windows_read || self.refreshed_at != Some(directory.revision());
        if !self.waiting.is_empty() && new {
            self.windows_read = false;
            self.go_on(now, directory, outputs);
        }
        match input {
            Input::Frame(key, HomeFrame::Attach(attach)) => {
                self.on_attach(now, directory, key, attach, outputs);
            }
            Input::Frame(key, frame) => match self.sessions.of_stream(key) {
                Some(session) if self.waits(session) => self.keep_waiting(session, frame),
                Some(session) => {
                    self.on_frame(now, directory, session, frame, outputs);
                    if self.waits(session) {
                        self.waiting.insert(session);
                    }
                }
                None => outputs.push(Output::Send(key, LeaderFrame::NotLeader)),
            },
            Input::SessionLost(key) => {
                if let Some(session) = self.sessions.of_stream(key) {
                    self.detach(session, now);
                }
            }
            Input::NodeDead(node) => self.on_node_dead(now, directory, node, outputs),
            Input::Applied(records) => {
                for record in records {
                    self.on_applied(now, directory, record, outputs);
                }
            }
            Input::Loaded { queue, messages, end } => {
                let (queue, lane) = LaneId::split(queue);
                if lane.is_bucket() {
                    self.on_delayed_loaded(now, (queue, lane), messages, end);
                } else if let Some(stream) =
                    self.queues.get_mut(&queue).filter(|queue| queue.stream.is_some())
                {
                    stream.stream_loaded(messages, end);
                    touch(stream, &mut self.touched);
                } else if lane == LaneId::KEYS {
                    self.on_keys_loaded(queue, &messages, end);
                } else if let Some(queue) = self.queues.get_mut(&queue) {
                    queue.loaded(lane, messages, end, now, &mut self.cache);
                    touch(queue, &mut self.touched);
                }
            }
            Input::DeadLettered { queue, position } => self.on_dead_lettered(queue, position),
            Input::QueueDeleted(queue) => self.on_queue_deleted(queue, outputs),
            Input::Tick => self.on_tick(now, directory, outputs),
        }
    }

    /// Ends a batch of inputs: delivers, proposes what waits as far as slots are free, tells each session its new
    /// marks.
    pub fn flush(&mut self, now: UnixMillis, outputs: &mut Vec<Output>) {
        self.wake(now);
        self.deliver(now, outputs);
        self.propose(now, outputs);
        self.sessions.tell(outputs);
        #[cfg(any(test, debug_assertions))]
        self.check_if_small();
    }

    /// True while session frames should be left unread: too much waits for the log.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let asks: usize = self.sessions.by_id.values().map(|session| session.asks.len()).sum();
        self.gather.bytes() >= self.config.gather_bytes
            || self.gather.items() + asks >= self.config.gather_items
            || self.waiting.iter().filter_map(|id| self.sessions.by_id.get(id)).any(Session::waits_for_much)
    }

    /// The counts of a queue that this host knows.
    #[must_use]
    pub fn counts(&self, queue: QueueId) -> Option<Counts> {
        self.queues.get(&queue).map(Queue::counts)
    }

    /// The counts of all queues that this host knows. Cost: by the number of queues.
    #[must_use]
    pub fn list(&self) -> Vec<Counts> {
        self.queues.values().map(Queue::counts).collect()
    }

    /// Figures for metrics. Cost: by the number of queues.
    #[must_use]
    pub fn stats(&self) -> LeaderStats {
        let mut stats = LeaderStats {
            queues: self.queues.len(),
            sessions: self.sessions.by_id.len(),
            cached_bytes: self.cache.used,
            gathered_bytes: self.gather.bytes(),
            in_flight: self.in_flight.len(),
            ..LeaderStats::default()
        };
        for queue in self.queues.values() {
            let counts = queue.counts();
            stats.ready += counts.ready;
            stats.unacked += counts.unacked;
            stats.consumers += u64::from(counts.consumers);
        }
        stats
    }

    /// Something waits for the catalogue: [`step`](Self::step) is due when that changes.
    #[must_use]
    pub fn waits_for_catalogue(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Something of the session waits for the catalogue.
    fn waits(&self, session: SessionId) -> bool {
        self.sessions.by_id.get(&session).is_some_and(|session| !session.waiting.is_empty())
    }

    fn keep_waiting(&mut self, session: SessionId, frame: HomeFrame) {
        if let Some(session) = self.sessions.by_id.get_mut(&session) {
            session.waiting.push_back(frame);
        }
    }

    fn on_frame(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        session: SessionId,
        frame: HomeFrame,
        outputs: &mut Vec<Output>,
    ) {
        match frame {
            // `step` has taken it.
            HomeFrame::Attach(_) => {}
            HomeFrame::Publish { first_seq, messages } => {
                self.on_publish(now, directory, session, first_seq, messages, outputs);
            }
            HomeFrame::Subscribe(subscribe) => {
                self.subscribe(now, directory, session, &subscribe, outputs);
            }
            HomeFrame::Unsubscribe { subscription } => {
                self.unsubscribe(now, directory, session, subscription, outputs);
            }
            HomeFrame::Settle { seq, queue, ranges, rejected } => {
                let reason = if rejected { SettleReason::Rejected } else { SettleReason::Acked };
                self.on_settle(session, seq, queue, &ranges, reason);
            }
            HomeFrame::Return { seq, queue, ranges, failed, delivered } => {
                self.on_return(session, seq, queue, &ranges, GiveBack { failed, seen: delivered });
            }
            HomeFrame::Credit { subscription, messages, bytes } => {
                self.update_consumer(session, subscription, |consumer| {
                    consumer.transit_messages = consumer.transit_messages.saturating_sub(messages);
                    consumer.transit_bytes = consumer.transit_bytes.saturating_sub(bytes);
                });
            }
            HomeFrame::SetPrefetch { subscription, prefetch } => {
                self.update_consumer(session, subscription, |consumer| consumer.prefetch = prefetch);
            }
            HomeFrame::Learned { up_to_seq } => {
                if let Some(session) = self.sessions.by_id.get_mut(&session) {
                    session.learned(up_to_seq);
                }
            }
            HomeFrame::Request { request, ask } => {
                self.on_request(now, directory, session, request, ask, outputs);
            }
        }
    }

    fn on_publish(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        id: SessionId,
        first_seq: u64,
        messages: Vec<SessionPublish>,
        outputs: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.by_id.get_mut(&id) else { return };
        let before = session.admitted_seq;
        let Some(repeated) = session.admit(first_seq, messages.len() as u64) else {
            if let Some(key) = self.detach(id, now) {
                outputs.push(Output::Send(key, LeaderFrame::NotLeader));
            }
            return;
        };
        let skip = usize::try_from(repeated).unwrap_or(usize::MAX);
        let mut rest = (first_seq..).zip(messages).skip(skip);
        while let Some((seq, mut publish)) = rest.next() {
            let Some(with) = self.admit(now, directory, id, seq, &mut publish, outputs) else {
                let messages = std::iter::once(publish).chain(rest.map(|(_, publish)| publish)).collect();
                if let Some(session) = self.sessions.by_id.get_mut(&id) {
                    let first = seq == first_seq.saturating_add(repeated);
                    session.admitted_seq = if first { before } else { Some(seq.saturating_sub(1)) };
                    session.waiting.push_front(HomeFrame::Publish { first_seq: seq, messages });
                }
                return;
            };
            let SessionPublish { queues, message, .. } = publish;
            // Without a queue left it counts as done, and its sequence is still to be recorded; its body is not.
            let message = if queues.is_empty() { warren_types::Message::default() } else { message };
            self.gather.publish(id, EnqueuedMessage { seq, queues, message }, with);
        }
    }

    /// Goes on with sessions whose next publish is to a queue that the catalogue here did not have. What they sent
    /// after it waits behind it.
    fn go_on(&mut self, now: UnixMillis, directory: &dyn QueueDirectory, outputs: &mut Vec<Output>) {
        self.refresh(now, directory);
        for id in std::mem::take(&mut self.waiting) {
            while let Some(session) = self.sessions.by_id.get_mut(&id)
                && let Some(frame) = session.waiting.pop_front()
            {
                let left = session.waiting.len();
                self.on_frame(now, directory, id, frame, outputs);
                let left_now = self.sessions.by_id.get(&id).map_or(0, |session| session.waiting.len());
                if left_now > left {
                    self.waiting.insert(id);
                    break;
                }
            }
        }
    }

    fn on_settle(
        &mut self,
        session: SessionId,
        seq: u64,
        id: QueueId,
        ranges: &[PositionRange],
        reason: SettleReason,
    ) {
        if let Some(queue) = self.queues.get_mut(&id).filter(|queue| queue.stream.is_some()) {
            queue.stream_settle(session, ranges, reason == SettleReason::Acked);
            touch(queue, &mut self.touched);
        } else if let Some(queue) = self.queues.get_mut(&id) {
            let settled = queue.settle(session, ranges, reason == SettleReason::Acked);
            touch(queue, &mut self.touched);
            if reason == SettleReason::Rejected && queue.dead_letters() {
                for position in settled.iter().flat_map(|range| range.iter()) {
                    queue.depart_unread(position, DeathReason::Rejected);
                }
            } else {
                self.gather.settle(id, reason, settled);
            }
        }
        self.gather.promise_settled(session, seq);
    }

    fn on_return(
        &mut self,
        session: SessionId,
        seq: u64,
        id: QueueId,
        ranges: &[PositionRange],
        how: GiveBack,
    ) {
        if let Some(queue) = self.queues.get_mut(&id).filter(|queue| queue.stream.is_some()) {
            // Nothing goes back: it is there for everybody.
            queue.stream_settle(session, ranges, false);
            touch(queue, &mut self.touched);
        } else if let Some(queue) = self.queues.get_mut(&id) {
            let given = queue.give_back(session, ranges, how);
            touch(queue, &mut self.touched);
            if how.failed {
                self.gather.give_back(id, given);
            }
        }
        self.gather.promise_settled(session, seq);
    }

    fn on_queue_deleted(&mut self, id: QueueId, outputs: &mut Vec<Output>) {
        self.awaiting_mark.remove(&id);
        let Some(mut queue) = self.queues.remove(&id) else { return };
        queue.unload(&mut self.cache);
        self.forget_under_way(id, queue.counted_in_transit);
        self.forget_pace(id, outputs);
        if let Some(timer) = queue.timer {
            self.timers.remove(&(timer, id));
        }
        self.leased.remove(&id);
        for (session, subscription) in queue.consumers.take() {
            if let Some(of) = self.sessions.by_id.get_mut(&session) {
                of.subscriptions.remove(&subscription);
            }
            self.sessions.send(session, LeaderFrame::Cancelled { subscription }, outputs);
        }
        for get in queue.gets.drain(..) {
            self.sessions.send(get.session, request::no_queue(get.request), outputs);
        }
        for (session, asked) in queue.end_browsing() {
            self.sessions.send(session, request::no_queue(asked), outputs);
        }
        self.gather.drop_queue(id);
        queue.stored_lanes().into_iter().for_each(|lane| self.gather.drop_lane(lane.of(id)));
    }

    fn on_tick(&mut self, now: UnixMillis, directory: &dyn QueueDirectory, outputs: &mut Vec<Output>) {
        if self.opening.as_ref().is_some_and(|opening| now >= opening.until) {
            self.opening = None;
            self.release_withheld();
            let ids: Vec<QueueId> = self.queues.keys().copied().collect();
            for id in ids {
                self.auto_delete(now, directory, id, outputs);
            }
        }
        self.expire_sessions(now, directory, outputs);
        self.look_at_paces(now, outputs);
        self.look_around(now, directory, outputs);
        if now >= self.next_sweep {
            self.next_sweep = UnixMillis(now.0.saturating_add(self.config.delete_hold_ms));
            self.sweep(now, directory, outputs);
        }
    }

    /// Finds what the inputs may have missed: queues deleted while nobody led, deletions that were not carried out.
    fn sweep(&mut self, now: UnixMillis, directory: &dyn QueueDirectory, outputs: &mut Vec<Output>) {
        let newest = directory.newest();
        self.queues.values_mut().for_each(Queue::relax);
        self.drop_past_buckets(now);
        self.trim_windows(now);
        self.look_at_streams();
        let ids: Vec<(QueueId, bool)> =
            self.queues.iter().map(|(id, queue)| (*id, queue.deleting.is_some())).collect();
        for (id, deleting) in ids {
            if id <= newest && directory.queue(id).is_none() {
                self.on_queue_deleted(id, outputs);
            } else if deleting {
                self.auto_delete(now, directory, id, outputs);
            }
        }
    }

    /// The queue, if it lives; where the catalogue has one that this host has not met, it begins here.
    fn queue(&mut self, now: UnixMillis, id: QueueId, directory: &dyn QueueDirectory) -> Option<&mut Queue> {
        if !self.queues.contains_key(&id) {
            if id <= directory.newest() && directory.queue(id).is_none() {
                return None;
            }
            let transit =
                Transit { messages: self.config.transit_messages, bytes: self.config.transit_bytes };
            let mut queue = Queue::new(id, transit, marks(self.config.host), now);
            if let Some(settings) = directory.settings(id) {
                if let Some(lease) = settings.expires_ms {
                    self.leased.insert(id);
                    let due = UnixMillis(now.0.saturating_add(lease));
                    self.next_lease = Some(self.next_lease.map_or(due, |next| next.min(due)));
                }
                queue.configure(settings);
            }
            queue.configured_at = directory.revision();
            self.queues.insert(id, queue);
        }
        self.configure_again(id, directory);
        self.queues.get_mut(&id)
    }

    /// What uses a queue after a policy was changed finds it as the policy says, without waiting for the next tick.
    fn configure_again(&mut self, id: QueueId, directory: &dyn QueueDirectory) {
        let revision = directory.revision();
        let Some(queue) = self.queues.get_mut(&id).filter(|queue| queue.configured_at != revision) else {
            return;
        };
        queue.configured_at = revision;
        let Some(settings) = directory.settings(id) else { return };
        if settings != queue.settings || !queue.known {
            if settings.expires_ms.is_some() {
                self.leased.insert(id);
            }
            queue.configure(settings);
            touch(queue, &mut self.touched);
        }
    }

    fn touch(&mut self, id: QueueId) {
        if let Some(queue) = self.queues.get_mut(&id) {
            touch(queue, &mut self.touched);
        }
    }
}

fn touch(queue: &mut Queue, touched: &mut Vec<QueueId>) {
    if !std::mem::replace(&mut queue.touched, true) {
        touched.push(queue.id);
    }
}

/// Whether a later leader could deliver again what this one delivers.
fn marks(host: QueueHost) -> bool {
    match host {
        QueueHost::Shard(_) => true,
        QueueHost::Node(_) => false,
    }
}
