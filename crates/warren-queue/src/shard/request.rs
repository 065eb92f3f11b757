//! Questions of a home: get, counts, purge, may it be deleted, what is in it.

use warren_proto::session::{Answer, Ask, Counts, DeleteOutcome, Delivery, LeaderFrame};
use warren_types::{AckMode, QueueId, RequestId, SessionId, UnixMillis};

use super::{HostLeader, touch};
use crate::queue::{Browse, Get};
use crate::session::leader::WaitingAsk;
use crate::{Output, QueueDirectory};

/// After as many records a count is answered as it is: under a steady load there is always one more on its way.
const STALLS_MAX: u8 = 8;

impl HostLeader {
    /// Answers the question once everything that the session has published before it is applied.
    pub(super) fn on_request(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        id: SessionId,
        request: RequestId,
        ask: Ask,
        outputs: &mut Vec<Output>,
    ) {
        let Some(session) = self.sessions.by_id.get_mut(&id) else { return };
        let after_seq = session.admitted_seq.unwrap_or_default();
        session.asks.push_back(WaitingAsk { after_seq, request, ask, stalls: 0 });
        self.answer_ready(now, directory, id, outputs);
    }

    /// Answers, in order, those questions that wait for nothing any more.
    pub(super) fn answer_ready(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        id: SessionId,
        outputs: &mut Vec<Output>,
    ) {
        loop {
            let Some(session) = self.sessions.by_id.get_mut(&id) else { return };
            let applied = session.applied_seq.unwrap_or_default();
            let Some(waiting) = session.asks.pop_front_if(|waiting| waiting.after_seq <= applied) else {
                return;
            };
            let WaitingAsk { after_seq, request, ask, stalls } = waiting;
            // What was published, settled or returned before it has had its effect: consumers have what they could get,
            // and nothing is over a limit. A client counts on that from one method to the next of its channel.
            self.deliver(now, outputs);
            if stalls < STALLS_MAX && self.consumer_awaits_mark(&ask) {
                if let Some(session) = self.sessions.by_id.get_mut(&id) {
                    session.asks.push_front(WaitingAsk { after_seq, request, ask, stalls: stalls + 1 });
                    self.stalled.insert(id);
                }
                return;
            }
            if let Some(answer) = self.answer(now, directory, id, request, &ask) {
                self.sessions.send(id, LeaderFrame::Reply { request, answer }, outputs);
            }
        }
    }

    /// A count is asked for, and a message that a consumer is about to get must not be in it.
    fn consumer_awaits_mark(&self, ask: &Ask) -> bool {
        let Ask::Info { queue, .. } = ask else { return false };
        self.queues.get(queue).is_some_and(|queue| queue.waits_for_mark && !queue.consumers.is_empty())
    }

    /// Answers what waited for a mark, which may be there now.
    pub(super) fn answer_stalled(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        outputs: &mut Vec<Output>,
    ) {
        for id in std::mem::take(&mut self.stalled) {
            self.answer_ready(now, directory, id, outputs);
        }
    }

    /// The answer, or `None` where it follows later.
    fn answer(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        session: SessionId,
        request: RequestId,
        ask: &Ask,
    ) -> Option<Answer> {
        match ask {
            Ask::Get { queue, ack_mode } => {
                let Some(queue) = self.queue(now, *queue, directory) else {
                    return Some(Answer::NoQueue);
                };
                if queue.stream.is_some() {
                    // Homes refuse it; nothing is taken from a stream.
                    return Some(Answer::Got { delivery: None, remaining: 0 });
                }
                let automatic = *ack_mode == AckMode::Automatic;
                queue.gets.push_back(Get { session, request, automatic });
                queue.last_used = now;
                let id = queue.id;
                self.touch(id);
                None
            }
            Ask::Info { queue, after_deaths: true, .. }
                if self.queues.get(queue).is_some_and(|queue| {
                    // Those that are kept may never find a place.
                    !queue.dying.is_empty() && !queue.settings.keeps_dead_letters
                }) =>
            {
                if let Some(queue) = self.queues.get_mut(queue) {
                    queue.mourners.push((session, request));
                }
                None
            }
            // Whoever declares it anew gets a new one, once this one is gone.
            Ask::Info { queue, uses: true, after_deaths: _ } if self.is_going(now, *queue) => {
                Some(Answer::NoQueue)
            }
            Ask::Info { queue, uses, after_deaths: _ } => {
                Some(match self.used(now, *queue, *uses, directory) {
                    Some(counts) => Answer::Info(counts),
                    None if self.lives(*queue, directory) => Answer::Info(empty(*queue)),
                    None => Answer::NoQueue,
                })
            }
            Ask::Purge { queue } => self.purge(directory, session, request, *queue),
            Ask::CheckDelete { queue, if_unused, if_empty } => {
                Some(self.check_delete(now, directory, *queue, *if_unused, *if_empty))
            }
            Ask::List => Some(Answer::List(self.queues.values().map(|queue| queue.counts_at(now)).collect())),
            Ask::Browse { queue, after, max_messages } => {
                let Some(queue) = self.queue(now, *queue, directory) else {
                    return Some(Answer::NoQueue);
                };
                let (id, after, max_messages) = (queue.id, *after, *max_messages);
                let answer = queue.browse(Browse { session, request, after, max_messages });
                self.touch(id);
                answer
            }
        }
    }

    /// The queue's counts, if it has begun here. One that is deleted when nobody uses it begins with its first use.
    fn used(
        &mut self,
        now: UnixMillis,
        id: QueueId,
        uses: bool,
        directory: &dyn QueueDirectory,
    ) -> Option<Counts> {
        if !uses {
            return self.queues.get(&id).map(|queue| queue.counts_at(now));
        }
        let begins = !self.queues.contains_key(&id)
            && directory.settings(id).is_some_and(|settings| settings.expires_ms.is_some());
        if begins {
            self.queue(now, id, directory);
        }
        let queue = self.queues.get_mut(&id)?;
        queue.last_used = now;
        Some(queue.counts_at(now))
    }

    /// Empties the queue of what is ready; answered once that is recorded.
    fn purge(
        &mut self,
        directory: &dyn QueueDirectory,
        session: SessionId,
        request: RequestId,
        id: QueueId,
    ) -> Option<Answer> {
        if !self.lives(id, directory) {
            return Some(Answer::NoQueue);
        }
        let Some(queue) = self.queues.get_mut(&id) else { return Some(Answer::Purged(0)) };
        if queue.stream.is_some() {
            // Homes refuse it; who asks nevertheless gets what happens.
            return Some(Answer::Purged(0));
        }
        let (purged, ops) = queue.purge(&mut self.cache);
        touch(queue, &mut self.touched);
        if purged > 0 {
            ops.into_iter().for_each(|purge| self.gather.purge(purge));
        }
        self.gather.promise_answer(session, request, Answer::Purged(purged));
        None
    }

    fn check_delete(
        &mut self,
        now: UnixMillis,
        directory: &dyn QueueDirectory,
        id: QueueId,
        if_unused: bool,
        if_empty: bool,
    ) -> Answer {
        if !self.lives(id, directory) {
            return Answer::NoQueue;
        }
        let refuse_until = UnixMillis(now.0.saturating_add(self.config.delete_hold_ms));
        // It begins here even if it has held nothing: it must remember what it promises.
        let Some(queue) = self.queue(now, id, directory) else { return Answer::NoQueue };
        // Where both are true RabbitMQ says this one.
        if if_empty && !queue.is_empty() {
            return Answer::CheckDelete(DeleteOutcome::NotEmpty);
        }
        if if_unused && !queue.consumers.is_empty() {
            return Answer::CheckDelete(DeleteOutcome::InUse);
        }
        if if_unused {
            queue.refuse_until = refuse_until;
        }
        Answer::CheckDelete(DeleteOutcome::May { messages: queue.ready() })
    }

    /// Its deletion has been asked for, since nobody uses it, and nobody has come since.
    fn is_going(&self, now: UnixMillis, id: QueueId) -> bool {
        let hold = self.config.delete_hold_ms;
        self.queues.get(&id).is_some_and(|queue| {
            queue.consumers.is_empty()
                && queue.deleting.is_some_and(|asked| now.0 < asked.0.saturating_add(hold))
        })
    }

    fn lives(&self, id: QueueId, directory: &dyn QueueDirectory) -> bool {
        self.queues.contains_key(&id) || id > directory.newest() || directory.queue(id).is_some()
    }
}

pub(super) fn got(request: RequestId, delivery: Option<Delivery>, remaining: u64) -> LeaderFrame {
    LeaderFrame::Reply { request, answer: Answer::Got { delivery, remaining } }
}

pub(super) fn no_queue(request: RequestId) -> LeaderFrame {
    LeaderFrame::Reply { request, answer: Answer::NoQueue }
}

fn empty(queue: QueueId) -> Counts {
    Counts { queue, ..Counts::default() }
}
