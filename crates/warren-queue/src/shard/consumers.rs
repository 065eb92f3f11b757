//! Consumers begin and end, and with the last one perhaps their queue.

use warren_proto::session::{LeaderFrame, Subscribe, SubscribeOutcome};
use warren_types::{QueueId, SessionId, SubscriptionId, UnixMillis};

use super::{HostLeader, touch};
use crate::queue::Arrival;
use crate::{Output, QueueDirectory};

impl HostLeader {
    pub(super) fn update_consumer(
        &mut self,
        session: SessionId,
        subscription: SubscriptionId,
        change: impl FnOnce(&mut crate::queue::Consumer),
    ) {
        let Some(id) = self.sessions.by_id.get(&session).and_then(|of| of.subscriptions.get(&subscription))
        else {
            return;
        };
        if let Some(queue) = self.queues.get_mut(id) {
            queue.consumers.update((session, subscription), change);
            touch(queue, &mut self.touched);
        }
    }

    pub(super) fn subscribe(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        session: SessionId,
        subscribe: &Subscribe,
        outputs: &mut Vec<Output>,
    ) {
        let outcome = self.try_subscribe(now, directory, session, subscribe);
        let subscription = subscribe.subscription;
        let mut next_offset = None;
        if let Some(offset) = subscribe.offset
            && outcome == SubscribeOutcome::Subscribed
            && let Some(queue) = self.queues.get_mut(&subscribe.queue)
        {
            next_offset = queue.read_from((session, subscription), offset, subscribe.filter.clone());
        }
        let frame = LeaderFrame::Subscribed { subscription, outcome, next_offset };
        self.sessions.send(session, frame, outputs);
    }

    fn try_subscribe(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        session: SessionId,
        subscribe: &Subscribe,
    ) -> SubscribeOutcome {
        let key = (session, subscribe.subscription);
        let spec = directory.queue(subscribe.queue);
        if spec.is_none() && subscribe.queue <= directory.newest() {
            return SubscribeOutcome::NoQueue;
        }
        let opening = self.opening.as_ref().is_some_and(|opening| !opening.nodes.is_empty());
        let term = self.config.term;
        let Some(queue) = self.queue(now, subscribe.queue, directory) else {
            return SubscribeOutcome::NoQueue;
        };
        let known = queue.consumers.contains(key);
        if !known && (queue.deleting.is_some() || now < queue.refuse_until) {
            return SubscribeOutcome::NoQueue;
        }
        if queue.consumers.refuses(key, subscribe.exclusive) {
            return SubscribeOutcome::ExclusiveUse;
        }
        let by_priority = queue.settings.active_by_priority;
        queue.consumers.add(session, subscribe, Arrival { opening, term, by_priority });
        queue.last_used = now;
        // Where the catalogue is behind, nobody knows yet whether it matters.
        let record_use = !queue.used && spec.is_none_or(|spec| spec.auto_delete);
        queue.used |= record_use;
        if !known {
            // It may have been here before under a stream that was lost, and hold deliveries.
            queue.recount(session);
        }
        let id = subscribe.queue;
        self.touch(id);
        if record_use {
            self.gather.mark_used(id);
        }
        if let Some(of) = self.sessions.by_id.get_mut(&session) {
            of.holds = true;
            of.subscriptions.insert(subscribe.subscription, id);
        }
        SubscribeOutcome::Subscribed
    }

    pub(super) fn unsubscribe(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        session: SessionId,
        subscription: SubscriptionId,
        outputs: &mut Vec<Output>,
    ) {
        let Some(id) =
            self.sessions.by_id.get_mut(&session).and_then(|of| of.subscriptions.remove(&subscription))
        else {
            return;
        };
        if let Some(queue) = self.queues.get_mut(&id)
            && queue.consumers.remove((session, subscription))
        {
            queue.stop_reading((session, subscription));
            queue.last_used = now;
            touch(queue, &mut self.touched);
            self.auto_delete(now, directory, id, outputs);
        }
    }

    /// Asks for the deletion of an auto-delete queue that has had consumers and has none left.
    pub(super) fn auto_delete(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        id: QueueId,
        outputs: &mut Vec<Output>,
    ) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let hold = self.config.delete_hold_ms;
        let asked = queue.deleting.is_some_and(|asked| now.0 < asked.0.saturating_add(hold));
        if asked || !queue.used || !queue.consumers.is_empty() {
            return;
        }
        if directory.queue(id).is_some_and(|spec| spec.auto_delete) {
            queue.deleting = Some(now);
            outputs.push(Output::DeleteQueue { queue: id });
        }
    }
}
