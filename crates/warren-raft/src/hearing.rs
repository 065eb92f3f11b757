//! What a follower hears of a group's leader, and whether it has given that leader up.

use std::time::{Duration, Instant};

use crate::types::Vote;

/// What a follower hears of a group's leader.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    /// When a leader's message was taken last.
    heard: Option<Instant>,
    /// The leader's vote whose lease this node gave up because it thought the leader dead, and when.
    suspected: Option<(Vote, Instant)>,
}

impl Hearing {
    /// A leader's message was taken.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// The lease of this vote's leader is given up here.
    pub(crate) fn suspect(&mut self, vote: Vote, now: Instant) {
        self.suspected = Some((vote, now));
    }

    /// The leader itself has given its lease up.
    pub(crate) fn release(&mut self) {
        self.suspected = None;
    }

    /// Whether a leader was heard within the time that is given.
    pub(crate) fn is_recent(&self, now: Instant, within: Duration) -> bool {
        self.heard.is_some_and(|heard| now.saturating_duration_since(heard) < within)
    }

    /// Whether the leader of this vote was given up, in vain: it has been heard since then, and within its lease.
    pub(crate) fn hears_again(&self, vote: Vote, now: Instant, lease: Duration) -> bool {
        let since = self.suspected.filter(|(suspected, _)| *suspected == vote).map(|(_, since)| since);
        since.is_some_and(|since| self.heard > Some(since)) && self.is_recent(now, lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(1400);

    fn vote(term: u64) -> Vote {
        Vote::new_committed(term, 1)
    }

    #[test]
    fn a_leader_that_was_given_up_in_vain_is_kept_while_it_is_heard() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut hearing = Hearing::default();
        hearing.hear(at(0));
        assert!(!hearing.hears_again(vote(1), at(1), LEASE), "its lease counts, which Raft knows");
        hearing.suspect(vote(1), at(1600));
        assert!(!hearing.hears_again(vote(1), at(1601), LEASE));
        hearing.hear(at(1700));
        assert!(hearing.hears_again(vote(1), at(1701), LEASE));
        assert!(!hearing.hears_again(vote(2), at(1701), LEASE), "another leader has a lease of its own");
        assert!(!hearing.hears_again(vote(1), at(3100), LEASE), "silent for a lease");
    }

    #[test]
    fn a_leader_that_resigned_is_not_kept() {
        let began = Instant::now();
        let mut hearing = Hearing::default();
        hearing.suspect(vote(1), began);
        hearing.hear(began + Duration::from_millis(1));
        hearing.release();
        assert!(!hearing.hears_again(vote(1), began + Duration::from_millis(2), LEASE));
    }
}
