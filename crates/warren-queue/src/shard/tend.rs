//! Queues that something happened to: what is due is expired, dropped, delivered, read from the store.

use warren_proto::session::LeaderFrame;
use warren_types::{QueueId, UnixMillis};

use super::{HostLeader, request};
use crate::Output;
use crate::lane::{self, LaneId};
use crate::queue::{Handed, body_of};

impl HostLeader {
    pub(super) fn deliver(&mut self, now: UnixMillis, outputs: &mut Vec<Output>) {
        loop {
            for id in std::mem::take(&mut self.touched) {
                self.set_window(id);
                self.tend(now, id, outputs);
                self.count_under_way(id);
            }
            let before = std::mem::replace(&mut self.looked_at, self.under_way.tightness);
            if !self.release_held_back(before) {
                break;
            }
        }
    }

    fn tend(&mut self, now: UnixMillis, id: QueueId, outputs: &mut Vec<Output>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        queue.touched = false;
        if queue.stream.is_some() {
            self.tend_delayed(now, id, outputs);
            self.tend_stream(now, id, outputs);
            return;
        }
        queue.wake_rested(now);
        let mut handed = Handed::default();
        if !queue.gets.is_empty() && !queue.consumers.has_room() {
            // Who takes a single message takes one that may stay: limits held before it asked.
            queue.waits_for_mark = false;
            queue.enforce_limits(&mut self.cache);
        }
        // Who waits gets what just came, even where it may not stay.
        queue.expire(now, &mut self.cache);
        queue.deliver(now, &mut self.cache, &mut handed);
        if !queue.waits_for_mark {
            queue.examine();
            queue.expire(now, &mut self.cache);
        }
        queue.enforce_limits(&mut self.cache);
        queue.meter.look(now);
        if queue.waits_for_mark {
            self.awaiting_mark.insert(id);
        }
        let in_memory = !queue.marks;
        let (mut messages, mut bytes) = (0, 0);
        for key in handed.consumers {
            let deliveries = queue.consumers.take_outbox(key);
            if in_memory {
                messages += deliveries.len() as u64;
                bytes += deliveries.iter().map(|delivery| body_of(&delivery.message)).sum::<u64>();
            }
            let (session, subscription) = key;
            let active_since = queue.consumers.active_since(key);
            let frame = LeaderFrame::Deliver { subscription, queue: id, deliveries, active_since };
            self.sessions.send(session, frame, outputs);
        }
        for (get, delivery, remaining) in handed.gets {
            if let Some(of) = self.sessions.by_id.get_mut(&get.session) {
                of.holds = true;
            }
            self.sessions.send(get.session, request::got(get.request, delivery, remaining), outputs);
        }
        self.load(now, id, outputs);
        self.tend_delayed(now, id, outputs);
        self.tend_window(id, outputs);
        self.depart(now, id, outputs);
        if in_memory {
            self.set_pace(now, id, messages, bytes, outputs);
        }
    }

    fn load(&mut self, now: UnixMillis, id: QueueId, outputs: &mut Vec<Output>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let Some(request) = queue.load_wanted(now, &self.cache) else { return };
        if !self.cache.has_room(request.max_bytes) {
            self.unload_idle();
        }
        outputs.push(Output::Load {
            queue: LaneId::at(request.after).of(id),
            after: lane::stored(request.after),
            max_messages: request.max_messages,
            max_bytes: request.max_bytes,
        });
    }

    /// Gives the cache's room to queues that have consumers waiting.
    fn unload_idle(&mut self) {
        for queue in self.queues.values_mut() {
            if !queue.has_demand() {
                queue.unload(&mut self.cache);
            }
        }
    }
}
