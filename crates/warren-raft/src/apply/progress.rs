//! How far a replica is.

use warren_types::{LogIndex, Term};

use crate::types::{LogId, SnapshotMeta, StoredMembership, log_id, raft_index, store_index};

/// How far a replica is: the last applied entry and the membership as of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last applied entry.
    pub(crate) applied: Option<LogId>,
    /// The last applied membership.
    pub(crate) membership: StoredMembership,
}

impl Progress {
    /// As the store has it.
    pub(crate) fn stored(index: LogIndex, term: Term, membership: StoredMembership) -> Self {
        Self { applied: raft_index(index).map(|index| log_id(term.0, index)), membership }
    }

    pub(crate) fn index(&self) -> LogIndex {
        self.applied.map_or(LogIndex(0), |log_id| store_index(log_id.index))
    }

    pub(crate) fn term(&self) -> Term {
        Term(self.applied.map_or(0, |log_id| *log_id.leader_id))
    }

    pub(crate) fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }
}
