//! Which consumer is the active one, where only one at a time gets messages (`x-single-active-consumer`).
//!
//! The first to come is active until it goes; then the one that waits longest follows. In a quorum queue (RabbitMQ 4.0)
//! those of the highest priority come first, and who comes with a higher priority than the active one's takes over as
//! soon as that holds nothing: until then it gets nothing new.
//!
//! A new leader hears from the homes who was active. Where a home was out of reach, its consumer may have been given up
//! without knowing: so each that becomes active gets a greater number than those before, and of several that say
//! they are active the one with the greatest is. Until all homes have spoken nobody is.

use std::cmp::Reverse;
use std::collections::VecDeque;

use warren_types::Term;

use super::{ConsumerKey, Consumers};

/// What a queue knows when a consumer comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Its leader still hears from the homes who was active: until [`Consumers::choose_active`] nobody is.
    pub(crate) opening: bool,
    /// The leader's.
    pub(crate) term: Term,
    /// The active one is to be of the highest priority.
    pub(crate) by_priority: bool,
}

#[derive(Debug, Default)]
pub(super) struct Single {
    active: Option<ConsumerKey>,
    /// It gets nothing new: one of a higher priority waits.
    quiescing: bool,
    /// All of them, in the order in which they came.
    order: VecDeque<ConsumerKey>,
    by_priority: bool,
    /// Which number the last got that became active.
    since: u64,
    /// The latest that was active under an earlier leader, of those that have come back.
    claim: Option<(u64, ConsumerKey)>,
}

impl Single {
    pub(super) fn may_get(&self, key: ConsumerKey) -> bool {
        self.active == Some(key) && !self.quiescing
    }
}

impl Consumers {
    /// The single active consumer, where only one at a time gets messages.
    pub(crate) fn active(&self) -> Option<ConsumerKey> {
        self.single.as_ref().and_then(|single| single.active)
    }

    /// Since when the consumer is the single active one, as a number that grows; 0 if it is not.
    pub(crate) fn active_since(&self, key: ConsumerKey) -> u64 {
        self.single.as_ref().filter(|single| single.active == Some(key)).map_or(0, |single| single.since)
    }

    /// A consumer has come, or come back. `active`: that it was active under an earlier leader, and its number.
    pub(super) fn line_up(&mut self, key: ConsumerKey, active: Option<u64>, arrival: Arrival) {
        let single = self.single.get_or_insert_default();
        if !single.order.contains(&key) {
            single.order.push_back(key);
        }
        single.by_priority = arrival.by_priority;
        // Greater than those of earlier terms; within one, a leader may be opened anew.
        single.since = single.since.max(arrival.term.0 << 32);
        if let Some(since) = active {
            single.since = single.since.max(since);
            let is_latest = single.claim.is_none_or(|(latest, of)| of == key || latest < since);
            if arrival.opening && is_latest {
                single.claim = Some((since, key));
            }
        }
        if !arrival.opening {
            self.choose_active();
            self.prefer();
        }
    }

    /// A consumer is gone.
    pub(super) fn leave_line(&mut self, key: ConsumerKey) {
        let Some(single) = &mut self.single else { return };
        single.order.retain(|other| *other != key);
        single.claim = single.claim.filter(|(_, of)| *of != key);
        if single.active == Some(key) {
            single.active = None;
            self.choose_active();
        }
        self.prefer();
    }

    /// Where the single active consumer is gone, or was never there: makes the next one active.
    pub(crate) fn choose_active(&mut self) {
        let Some(single) = &mut self.single else { return };
        if single.active.is_some() {
            return;
        }
        let all = &self.all;
        let present = |key: &&ConsumerKey| all.get(key).is_some_and(|consumer| !consumer.suspended);
        let priority = |key: &ConsumerKey| all.get(key).map_or(0, |consumer| consumer.priority);
        let waiting = single.order.iter().filter(present);
        let next = match single.claim.take() {
            Some((_, key)) => Some(key),
            // The first of several that are equal.
            None if single.by_priority => waiting.min_by_key(|key| Reverse(priority(key))).copied(),
            None => waiting.take(1).next().copied(),
        };
        single.active = next;
        single.quiescing = false;
        if let Some(next) = next {
            single.since += 1;
            self.refresh(next);
        }
        self.prefer();
    }

    /// Where priority counts: the active one makes room for one of a higher.
    fn prefer(&mut self) {
        let Some(single) = self.single.as_mut().filter(|single| single.by_priority) else { return };
        let Some(active) = single.active else { return };
        let priority = |key: &ConsumerKey| self.all.get(key).map_or(0, |consumer| consumer.priority);
        let present = |key: &ConsumerKey| self.all.get(key).is_some_and(|consumer| !consumer.suspended);
        let of_active = priority(&active);
        single.quiescing = single.order.iter().any(|key| present(key) && priority(key) > of_active);
        if single.quiescing {
            self.unlist(active);
            self.hand_over();
        } else {
            self.refresh(active);
        }
    }

    /// One that makes room has done so when it holds nothing.
    pub(super) fn hand_over(&mut self) {
        let Some(single) = self.single.as_mut().filter(|single| single.quiescing) else { return };
        let holds = |key: ConsumerKey| self.all.get(&key).is_some_and(|consumer| consumer.unacked > 0);
        if single.active.is_some_and(holds) {
            return;
        }
        single.active = None;
        self.choose_active();
    }
}
