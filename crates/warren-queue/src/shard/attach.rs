//! Sessions begin, come back and go: who may claim what, and for how long.

use std::collections::BTreeMap;

use warren_proto::session::{Attach, LeaderFrame};
use warren_types::{NodeId, QueueId, SessionId, SubscriptionId, UnixMillis};

use super::{HostLeader, touch};
use crate::positions::PositionSet;
use crate::queue::GiveBack;
use crate::session::leader::Session;
use crate::{Output, QueueDirectory, SessionKey};

/// What a home says it holds of one queue, by consumer.
type Claims = Vec<(Option<SubscriptionId>, PositionSet)>;

impl HostLeader {
    pub(super) fn on_attach(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        key: SessionKey,
        attach: Attach,
        outputs: &mut Vec<Output>,
    ) {
        let id = attach.session;
        if self.is_stale(key, &attach) {
            outputs.push(Output::Send(key, LeaderFrame::NotLeader));
            return;
        }
        self.close_older(now, directory, &attach, outputs);
        // What an older stream of this session waited for is asked again.
        if let Some(old) = self.detach(id, now) {
            outputs.push(Output::Send(old, LeaderFrame::NotLeader));
        }
        let session = self.sessions.by_id.entry(id).or_insert_with(|| Session::unattached(None, now));
        session.node = Some(attach.node);
        session.incarnation = attach.incarnation;
        session.epoch = attach.epoch;
        session.holds = true;
        let last_seq = session.applied_seq.unwrap_or_default();
        session.told = 0;
        let rejected = session.tell_rejected(last_seq);
        self.sessions.bind(id, key);
        if !rejected.is_empty() {
            // Before what takes the rest for confirmed.
            outputs.push(Output::Send(key, LeaderFrame::Confirmed { up_to_seq: last_seq, rejected }));
        }
        outputs.push(Output::Send(key, LeaderFrame::Attached { epoch: attach.epoch, last_seq }));

        self.take_claims(id, &attach);
        self.take_subscriptions(now, directory, id, &attach, outputs);
        if let Some(opening) = &mut self.opening {
            opening.nodes.remove(&attach.node);
        }
        self.release_if_claimed();
    }

    /// The session's stream is gone; it may come back. Its consumers get nothing until then, and it keeps what it
    /// holds. Returns the stream that it had.
    pub(super) fn detach(&mut self, id: SessionId, now: UnixMillis) -> Option<SessionKey> {
        let key = self.sessions.unbind(id, now)?;
        for queue in self.queues.values_mut() {
            queue.gets.retain(|get| get.session != id);
            queue.stop_browsing(id);
        }
        let session = self.sessions.by_id.get(&id)?;
        for (subscription, queue) in &session.subscriptions {
            if let Some(queue) = self.queues.get_mut(queue) {
                queue.consumers.suspend((id, *subscription));
            }
        }
        Some(key)
    }

    pub(super) fn on_node_dead(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        node: NodeId,
        outputs: &mut Vec<Output>,
    ) {
        let of_node = |session: &Session| session.node == Some(node);
        for id in self.sessions_where(of_node) {
            if let Some(key) = self.detach(id, now) {
                outputs.push(Output::Send(key, LeaderFrame::NotLeader));
            }
            self.release(now, directory, id, outputs);
        }
        if let Some(opening) = &mut self.opening {
            opening.nodes.remove(&node);
        }
        self.release_if_claimed();
    }

    /// Releases what sessions hold that have not come back in time; forgets those that never will.
    pub(super) fn expire_sessions(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        outputs: &mut Vec<Output>,
    ) {
        let late = |session: &Session, ms: u64| {
            session.key.is_none() && now.0 >= session.lost_at.0.saturating_add(ms)
        };
        let grace = self.config.claim_grace_ms;
        for id in self.sessions_where(|session| session.holds && late(session, grace)) {
            self.release(now, directory, id, outputs);
        }
        let forget = self.config.forget_session_ms;
        for id in self.sessions_where(|session| !session.holds && late(session, forget)) {
            self.close(id);
        }
    }

    /// Once every node has said what it holds, the rest can be delivered to others.
    pub(super) fn release_if_claimed(&mut self) {
        if self.opening.as_ref().is_some_and(|opening| opening.nodes.is_empty()) {
            self.release_withheld();
        }
    }

    pub(super) fn release_withheld(&mut self) {
        for queue in self.queues.values_mut() {
            queue.consumers.choose_active();
            if !queue.withheld.is_empty() || !queue.consumers.is_empty() {
                queue.release_withheld();
                touch(queue, &mut self.touched);
            }
        }
    }

    /// A stream that lost a race: the session, or its node, has attached again since.
    fn is_stale(&self, key: SessionKey, attach: &Attach) -> bool {
        if self.sessions.of_stream(key).is_some_and(|session| session != attach.session) {
            return true;
        }
        let newer =
            |session: &Session| session.node == Some(attach.node) && session.incarnation > attach.incarnation;
        let repeated =
            self.sessions.by_id.get(&attach.session).is_some_and(|session| session.epoch >= attach.epoch);
        repeated || self.sessions.by_id.values().any(newer)
    }

    /// The node has started anew: what its earlier starts held is in nobody's hands.
    fn close_older(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        attach: &Attach,
        outputs: &mut Vec<Output>,
    ) {
        let older =
            |session: &Session| session.node == Some(attach.node) && session.incarnation < attach.incarnation;
        for id in self.sessions_where(older) {
            if id == attach.session {
                continue;
            }
            if let Some(key) = self.detach(id, now) {
                outputs.push(Output::Send(key, LeaderFrame::NotLeader));
            }
            self.release(now, directory, id, outputs);
            self.close(id);
        }
    }

    fn take_claims(&mut self, id: SessionId, attach: &Attach) {
        let mut claims: BTreeMap<QueueId, Claims> = BTreeMap::new();
        for held in &attach.held {
            let positions = held.ranges.iter().copied().collect();
            claims.entry(held.queue).or_default().push((held.subscription, positions));
        }
        for (queue_id, queue) in &mut self.queues {
            let claims = claims.remove(queue_id).unwrap_or_default();
            if queue.stream.is_some() {
                queue.claim_for_readers(id, &claims);
                continue;
            }
            queue.reconcile(id, &claims);
            for (subscription, positions) in claims {
                let ranges: Vec<_> = positions.ranges().collect();
                queue.claim(id, subscription, &ranges, &mut self.cache);
            }
            touch(queue, &mut self.touched);
        }
    }

    /// Its consumers are those that it names, and no others.
    fn take_subscriptions(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        id: SessionId,
        attach: &Attach,
        outputs: &mut Vec<Output>,
    ) {
        let named: BTreeMap<SubscriptionId, QueueId> =
            attach.subscriptions.iter().map(|subscribe| (subscribe.subscription, subscribe.queue)).collect();
        let gone: Vec<SubscriptionId> = self.sessions.by_id.get(&id).map_or_else(Vec::new, |session| {
            let gone = |(subscription, queue): (&SubscriptionId, &QueueId)| {
                (named.get(subscription) != Some(queue)).then_some(*subscription)
            };
            session.subscriptions.iter().filter_map(gone).collect()
        });
        for subscription in gone {
            self.unsubscribe(now, directory, id, subscription, outputs);
        }
        for subscribe in &attach.subscriptions {
            self.subscribe(now, directory, id, subscribe, outputs);
        }
        let queues: std::collections::BTreeSet<QueueId> = named.into_values().collect();
        for queue in queues {
            if let Some(queue) = self.queues.get_mut(&queue) {
                queue.recount(id);
            }
        }
    }

    /// The session will not come back: its consumers go, and what it holds goes to others.
    fn release(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        id: SessionId,
        outputs: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.by_id.get_mut(&id) else { return };
        session.holds = false;
        let subscriptions: Vec<SubscriptionId> = session.subscriptions.keys().copied().collect();
        for (queue_id, queue) in &mut self.queues {
            let given = queue.give_back_all(id, GiveBack { failed: true, seen: true });
            if !given.is_empty() {
                self.gather.give_back(*queue_id, given);
                touch(queue, &mut self.touched);
            }
        }
        for subscription in subscriptions {
            self.unsubscribe(now, directory, id, subscription, outputs);
        }
    }

    fn close(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.by_id.remove(&id)
            // Else the log does not know it: nothing of it was ever proposed.
            && session.admitted_seq.is_some()
        {
            for (message, keys) in self.gather.close(id) {
                self.leave(&message);
                self.forget_keys(&keys);
            }
        }
    }

    fn sessions_where(&self, wanted: impl Fn(&Session) -> bool) -> Vec<SessionId> {
        self.sessions.by_id.iter().filter(|(_, session)| wanted(session)).map(|(id, _)| *id).collect()
    }
}
