//! What is checked when a delivery comes.

use super::{CALM_MS, Fate, Inner, Message, MessageId, ON_THE_WAY_MS, Published};
use crate::kinds::Kind;

impl Inner {
    /// Whether a message that was published so can be in the queue.
    pub(super) fn comes_to(&self, message: &Message, queue: usize) -> bool {
        let queues = &message.published.queues;
        let dies = || queues.iter().any(|queue| self.kind(*queue).is_mortal());
        queues.contains(&queue) || (self.kind(queue) == Kind::Dead && dies())
    }

    /// One consumer at a time: another may follow only when the one before may be gone.
    pub(super) fn check_active(&mut self, session: u64, queue: usize, id: MessageId, now: u64) {
        // Who polls is no consumer.
        if self.sessions.get(&session).is_none_or(|of| of.prefetch == 0) {
            return;
        }
        let Some(before) = self.active.insert(queue, session).filter(|before| *before != session) else {
            return;
        };
        if self.holds_surely(before, now) && !self.may_be_late(session, now) {
            self.violation(format_args!(
                "two active: {id} of q{queue} goes to session {session} while {before} consumes"
            ));
        }
    }

    /// Not before its time, and nothing else with its key.
    pub(super) fn check_message(&mut self, queue: usize, id: MessageId, now: u64) {
        let Some(message) = self.messages.get(&id) else { return };
        let Message { published: Published { due_ms, key, .. }, fate } = message;
        let (due, key, fate) = (*due_ms, *key, *fate);
        if fate == Fate::Uncommitted {
            self.violation(format_args!("uncommitted: {id} of q{queue} is delivered"));
        }
        if now < due {
            self.violation(format_args!("early: {id} of q{queue} is due at {due} ms"));
        }
        if let Some(key) = key.filter(|_| self.kind(queue) == Kind::Dedup) {
            let first = *self.keys.entry((queue, key)).or_insert(id);
            if first != id {
                self.violation(format_args!(
                    "repeated: {id} of q{queue} is delivered, and so was {first} with its key"
                ));
            }
        }
    }

    /// What one publisher published on one connection comes in its order, as far as it has not come before.
    pub(super) fn check_order(&mut self, session: u64, queue: usize, id: MessageId) {
        if self.messages.get(&id).is_some_and(|message| message.published.due_ms > 0) {
            return;
        }
        let Some(order) = self.kind(queue).order(id) else { return };
        let Some(of) = self.sessions.get_mut(&session) else { return };
        let newest = of.newest.entry((id.publisher, id.connection, order)).or_insert(id.number);
        let before = std::mem::replace(newest, id.number.max(*newest));
        if before > id.number {
            self.violation(format_args!(
                "order: {id} of q{queue} comes for the first time after number {before}"
            ));
        }
    }

    /// This copy may go to this session now.
    pub(super) fn check_copy(
        &mut self,
        session: u64,
        queue: usize,
        id: MessageId,
        redelivered: bool,
        now: u64,
    ) {
        let mut found: Vec<String> = Vec::new();
        if let Some(copy) = self.copies.get(&(queue, id)) {
            let late = self.may_be_late(session, now);
            if !redelivered && copy.deliveries > 0 && !late {
                let times = copy.deliveries;
                let text = format!(
                    "redelivered: {id} of q{queue} was delivered {times} times before and is not flagged"
                );
                self.trace.note(format_args!("suspect {text}"));
                self.suspects.push((now, session, text));
            }
            for (at, by) in &copy.acks {
                if self.is_recorded(*at, *by, now) {
                    found.push(format!(
                        "came back: {id} of q{queue}, which session {by} acknowledged at {at} ms"
                    ));
                }
            }
            for (holder, since) in &copy.holders {
                if *holder != session && !late && self.holds_surely(*holder, *since) {
                    found.push(format!(
                        "held twice: {id} of q{queue} is delivered to session {session} while {holder} holds it since {since} ms"
                    ));
                }
            }
        }
        for text in found {
            self.violation(format_args!("{text}"));
        }
    }

    /// Whether what the session sent then is recorded by now.
    fn is_recorded(&self, at: u64, session: u64, now: u64) -> bool {
        let Some(of) = self.sessions.get(&session) else { return false };
        let died = self.disturbances.died.get(&of.host).map(Vec::as_slice).unwrap_or_default();
        let current = self.disturbances.calm_since.map(|since| (since, now));
        self.disturbances.calms.iter().copied().chain(current).any(|(from, to)| {
            let from = from.max(at);
            // The connection must have lived into the calm, and its node's process through it.
            from.saturating_add(CALM_MS) <= to
                && of.ended.is_none_or(|ended| ended > from + 1000)
                && !died.iter().any(|died| (of.began..from + CALM_MS).contains(died))
        })
    }

    /// Whether a delivery may have been on its way, or in a node that stood still or was cut off, while the broker gave the message
    /// to somebody else: nobody can call it back.
    pub(super) fn may_be_late(&self, session: u64, now: u64) -> bool {
        let host = self.sessions.get(&session).map(|of| of.host);
        let touched = host.and_then(|host| self.disturbances.touched.get(&host));
        touched.is_some_and(|touched| touched.saturating_add(ON_THE_WAY_MS) >= now)
    }

    /// Whether nothing can have told the broker that the session is gone.
    fn holds_surely(&self, session: u64, since: u64) -> bool {
        let Some(of) = self.sessions.get(&session) else { return false };
        let touched = self.disturbances.touched.get(&of.host).copied().unwrap_or_default();
        of.ended.is_none() && touched.saturating_add(CALM_MS) < since
    }
}
