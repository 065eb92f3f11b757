//! Publisher sessions: how far each has come, and what was refused on the way.

use warren_types::SessionId;

use super::apply::ShardState;
use crate::simulation::{self, Planted};

impl ShardState {
    pub(super) fn pass_session(&mut self, session: SessionId, seq: u64) {
        if simulation::is_planted(Planted::ForgetSequence) {
            return;
        }
        let passed = self.sessions.entry(session).or_default();
        *passed = (*passed).max(seq);
        self.changed_sessions.insert(session);
    }

    pub(super) fn close_session(&mut self, session: SessionId) {
        self.refused.remove(&session);
        if self.sessions.remove(&session).is_some() {
            self.changed_sessions.insert(session);
        }
    }

    /// Bounded by what a home keeps unconfirmed, since `learned` follows it.
    pub(super) fn refuse(&mut self, session: SessionId, learned: u64, sequences: &[u64]) {
        let refused = self.refused.entry(session).or_default();
        *refused = refused.split_off(&learned.saturating_add(1));
        refused.extend(sequences.iter().copied().filter(|sequence| *sequence > learned));
        if refused.is_empty() {
            self.refused.remove(&session);
        }
        self.pass_session(session, 0);
    }

    /// What was refused of the session and its home may not know.
    pub(super) fn refused_of(&self, session: SessionId) -> Vec<u64> {
        self.refused.get(&session).map_or_else(Vec::new, |refused| refused.iter().copied().collect())
    }
}
