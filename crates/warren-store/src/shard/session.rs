//! Publisher sessions: how far each has come.

use warren_types::SessionId;

use super::apply::ShardState;

impl ShardState {
    pub(super) fn pass_session(&mut self, session: SessionId, seq: u64) {
        let passed = self.sessions.entry(session).or_default();
        *passed = (*passed).max(seq);
        self.changed_sessions.insert(session);
    }

    pub(super) fn close_session(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.changed_sessions.insert(session);
        }
    }
}
