//! What the host does by its queues' settings: looks at them again, at heads whose time has come, at queues that nobody
//! uses; records what has left, and passes dead messages on.

use warren_proto::session::{Answer, LeaderFrame};
use warren_proto::shard::{EnqueuedMessage, SettleReason};
use warren_types::{Overflow, Position, PositionRange, QueueId, SessionId, SessionPublish, UnixMillis};

use super::dedup::{self, Seen};
use super::{HostLeader, touch};
use crate::gather::Beside;
use crate::lane::LaneId;
use crate::queue::{Delayed, body_of};
use crate::{DeadLetter, DeathReason, Output, QueueDirectory};

/// Queues of an earlier leader whose heads are looked at in one tick: their reads share the cache.
const EXAMINED_PER_TICK: usize = 64;
/// Most dead letters out that were refused before they were let in; above it they are dropped.
const REFUSED_OUT_MAX: usize = 1024;

/// As many queues that are deleted when nobody uses them get a look at the very time.
const LEASES_TIMED: usize = 1024;

impl HostLeader {
    /// When a queue that nobody uses may be due for its deletion: a tick is due then.
    #[must_use]
    pub fn next_lease(&self) -> Option<UnixMillis> {
        self.next_lease
    }

    /// When a queue's head is to be looked at: [`flush`](Self::flush) is due then, if nothing else happens before.
    #[must_use]
    pub fn next_timer(&self) -> Option<UnixMillis> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Until when acknowledgements may wait for company: [`flush`](Self::flush) is due then, a little later does no harm.
    #[must_use]
    pub fn lazy_until(&self) -> Option<UnixMillis> {
        self.lazy_until
    }

    /// Takes the settings of all queues anew where the catalogue has changed.
    pub(super) fn refresh(&mut self, now: UnixMillis, directory: &dyn QueueDirectory) {
        let revision = Some(directory.revision());
        if self.refreshed_at == revision {
            return;
        }
        if self.refreshed_at.is_none() {
            let full = self.queues.iter().filter(|(_, queue)| queue.live > 0 || queue.delayed.is_some());
            self.unexamined = full.map(|(id, _)| *id).collect();
            // Publishes wait for these.
            for queue in self.queues.values_mut().filter(|queue| queue.window.is_some()) {
                touch(queue, &mut self.touched);
            }
        }
        self.refreshed_at = revision;
        for id in directory.leased(self.config.host) {
            // A queue that has held nothing begins here, to be missed when nobody uses it.
            self.queue(now, id, directory);
        }
        self.leased.clear();
        for (id, queue) in &mut self.queues {
            let Some(settings) = directory.settings(*id) else { continue };
            if settings.expires_ms.is_some() {
                self.leased.insert(*id);
            }
            if settings != queue.settings || !queue.known {
                queue.configure(settings);
                touch(queue, &mut self.touched);
            }
        }
    }

    /// Time has passed.
    pub(super) fn look_around(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        outputs: &mut Vec<Output>,
    ) {
        self.refresh(now, directory);
        for _ in 0..EXAMINED_PER_TICK {
            let Some(id) = self.unexamined.pop() else { break };
            self.touch(id);
        }
        // Until every node has named its consumers nobody knows which queues are used.
        let unsure = self.opening.as_ref().is_some_and(|opening| !opening.nodes.is_empty());
        let mut next: Option<u64> = None;
        for id in &self.leased {
            let Some(queue) = self.queues.get_mut(id) else { continue };
            let Some(lease) = queue.settings.expires_ms else { continue };
            if unsure || !queue.consumers.is_empty() || !queue.gets.is_empty() {
                queue.last_used = now;
            }
            let hold = self.config.delete_hold_ms;
            let asked = queue.deleting.is_some_and(|asked| now.0 < asked.0.saturating_add(hold));
            let due = queue.last_used.0.saturating_add(lease);
            if asked {
                continue;
            }
            if now.0 >= due {
                queue.deleting = Some(now);
                outputs.push(Output::DeleteQueue { queue: *id });
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        // Where there are many, the tick is soon enough: each look is at all of them.
        self.next_lease = next.filter(|_| self.leased.len() <= LEASES_TIMED).map(UnixMillis);
    }

    /// Has the heads looked at whose time has come.
    pub(super) fn wake(&mut self, now: UnixMillis) {
        while let Some((at, id)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.timer = None;
                touch(queue, &mut self.touched);
            }
        }
    }

    /// Records what has left the queue in this flush, passes on what died, sets the clock for what dies next.
    pub(super) fn depart(&mut self, now: UnixMillis, id: QueueId, outputs: &mut Vec<Output>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if !queue.gone.is_empty() {
            let gone = std::mem::take(&mut queue.gone);
            for same in gone.chunk_by(|(a, _), (b, _)| a == b) {
                let Some((reason, _)) = same.first() else { continue };
                let mut positions: Vec<Position> = same.iter().map(|(_, position)| *position).collect();
                positions.sort_unstable();
                self.gather.settle(id, reason.settle_reason(), PositionRange::collect(positions));
            }
        }
        if !queue.dying.is_empty() {
            let settings = std::sync::Arc::clone(&queue.settings);
            outputs.extend(queue.dying.take_due(id, &settings).map(Output::DeadLetter));
        } else if !queue.mourners.is_empty() {
            let counts = queue.counts();
            for (session, request) in std::mem::take(&mut queue.mourners) {
                let frame = LeaderFrame::Reply { request, answer: Answer::Info(counts) };
                self.sessions.send(session, frame, outputs);
            }
        }
        let next = queue.next_timer(now);
        if next != queue.timer {
            if let Some(old) = queue.timer {
                self.timers.remove(&(old, id));
            }
            if let Some(next) = next {
                self.timers.insert((next, id));
            }
            queue.timer = next;
        }
    }

    /// A dead message's copies are safe: now it may go.
    pub(super) fn on_dead_lettered(&mut self, id: QueueId, position: Position) {
        if position == Position(0) {
            self.refused_out = self.refused_out.saturating_sub(1);
            return;
        }
        let Some(queue) = self.queues.get_mut(&id) else { return };
        if queue.dying.done(position) {
            touch(queue, &mut self.touched);
            self.gather.settle(id, SettleReason::DeadLettered, vec![PositionRange::one(position)]);
        }
    }

    /// Lets a publish into those of its queues that live and do not refuse it, into its lane. A queue that does refuse
    /// it has it nacked. Returns what is to be recorded with it; or `None`, and nothing is done, where one of
    /// its queues is not in the catalogue here yet, or has not read the keys of what it has had.
    pub(super) fn admit(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        session: SessionId,
        seq: u64,
        publish: &mut SessionPublish,
        outputs: &mut Vec<Output>,
    ) -> Option<Beside> {
        let SessionPublish { queues, message, delay_ms } = publish;
        if queues.len() > 1 {
            let mut unknown = |id: &QueueId| {
                let Some(queue) = self.queue(now, *id, directory) else { return false };
                let reads = queue.window.as_ref().is_some_and(|window| window.is_opening());
                reads || (!queue.known && *id > directory.newest())
            };
            if queues.iter().any(&mut unknown) {
                return None;
            }
        }
        let (mut refused, mut known, mut keys) = (false, true, Vec::new());
        queues.retain_mut(|id| {
            let Some(queue) = self.queue(now, *id, directory) else { return false };
            if !queue.known && directory.queue(*id).is_none() {
                // Above the newest it is yet to come; else it is deleted.
                let comes = *id > directory.newest();
                known &= !comes;
                return comes;
            }
            let key = match dedup::seen(queue, message, now) {
                Seen::NoKey => None,
                Seen::New(key) => Some(key),
                Seen::Before => return false,
                Seen::Unknown => {
                    known = false;
                    return true;
                }
            };
            if *delay_ms == 0 && queue.refuses(message) {
                refused = true;
                let dead_letters =
                    queue.settings.overflow == Overflow::RejectPublishDeadLetter && queue.dead_letters();
                let settings = std::sync::Arc::clone(&queue.settings);
                if dead_letters && self.refused_out < REFUSED_OUT_MAX {
                    self.refused_out += 1;
                    outputs.push(Output::DeadLetter(Box::new(DeadLetter {
                        queue: *id,
                        position: Position(0),
                        reason: DeathReason::MaxLength,
                        message: message.clone(),
                        settings,
                    })));
                }
                return false;
            }
            let lane = if *delay_ms > 0 {
                let lane = Delayed::lane(UnixMillis(now.0.saturating_add(u64::from(*delay_ms))));
                queue.delayed.get_or_insert_default().admit(lane, true);
                lane
            } else {
                queue.admitted += 1;
                queue.admitted_bytes = queue.admitted_bytes.saturating_add(body_of(message));
                queue.lane_for(message)
            };
            if let Some(key) = key {
                keys.push((LaneId::KEYS.of(*id), key.clone()));
                self.remember(now, *id, key);
            }
            *id = lane.of(*id);
            true
        });
        if refused && let Some(session) = self.sessions.by_id.get_mut(&session) {
            session.rejected.push_back(seq);
        }
        known.then_some(Beside { refused, keys })
    }

    /// A message that was let in is applied, or will never be.
    pub(super) fn leave(&mut self, message: &EnqueuedMessage) {
        for id in &message.queues {
            let (id, lane) = LaneId::split(*id);
            let Some(queue) = self.queues.get_mut(&id) else { continue };
            if lane.is_bucket() {
                queue.delayed.get_or_insert_default().admit(lane, false);
            } else if lane.is_ready() {
                queue.admitted = queue.admitted.saturating_sub(1);
                queue.admitted_bytes = queue.admitted_bytes.saturating_sub(body_of(&message.message));
            }
        }
    }
}
