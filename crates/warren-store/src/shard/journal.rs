//! Which log entries still hold bodies that some queue needs.

use std::collections::{BTreeMap, BTreeSet};

use warren_types::QueueId;

use super::runs::Run;

/// Entries with live messages. An entry whose bodies have been moved to the message store is listed only if some
/// of them are shared between queues: those are freed together, when the last of the entry's messages is settled.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    /// The bodies of entries at or below it are in the message store. Each replica's own: not part of the state.
    moved: u64,
    entries: BTreeMap<u64, Entry>,
    /// Moved entries whose last message was settled since the last checkpoint.
    freed: BTreeSet<u64>,
    /// Body bytes in the message store that nothing needs any more, about; since the last checkpoint.
    freed_bytes: u64,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    live: u32,
    shared: bool,
    /// Where its runs are; empty once it is moved.
    runs: Vec<(QueueId, u64)>,
}

/// A log entry whose bodies must be moved before it is purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unmoved {
    pub(crate) entry: u64,
    /// Queue and first position of each of its runs.
    pub(crate) runs: Vec<(QueueId, u64)>,
}

impl Journal {
    pub(crate) fn new(moved: u64) -> Self {
        Self { moved, ..Self::default() }
    }

    pub(crate) fn moved(&self) -> u64 {
        self.moved
    }

    pub(crate) fn is_moved(&self, entry: u64) -> bool {
        entry <= self.moved
    }

    /// A run was added.
    pub(crate) fn add(&mut self, queue: QueueId, run: &Run) {
        let moved = self.is_moved(run.entry);
        let entry = self.entries.entry(run.entry).or_default();
        entry.live = entry.live.saturating_add(run.live);
        entry.shared |= run.is_shared();
        if !moved {
            entry.runs.push((queue, run.first));
        }
    }

    /// So many messages of `entry`, with so many body bytes, were settled.
    pub(crate) fn release(&mut self, index: u64, settled: u32, bytes: u64) {
        if self.is_moved(index) {
            self.freed_bytes = self.freed_bytes.saturating_add(bytes);
        }
        let Some(entry) = self.entries.get_mut(&index) else {
            return;
        };
        entry.live = entry.live.saturating_sub(settled);
        if entry.live == 0 {
            self.entries.remove(&index);
            if self.is_moved(index) {
                self.freed.insert(index);
            }
        }
    }

    /// The entries at or below `up_to` that still hold needed bodies.
    pub(crate) fn unmoved(&self, up_to: u64) -> Vec<Unmoved> {
        self.entries
            .range(self.moved.saturating_add(1)..=up_to.max(self.moved.saturating_add(1)))
            .filter(|(index, _)| **index <= up_to)
            .map(|(index, entry)| Unmoved { entry: *index, runs: entry.runs.clone() })
            .collect()
    }

    /// The first entry with needed bodies that are not in the message store.
    pub(crate) fn first_unmoved(&self) -> Option<u64> {
        self.entries.range(self.moved.saturating_add(1)..).next().map(|(index, _)| *index)
    }

    /// The bodies at or below `up_to` are in the message store now.
    pub(crate) fn set_moved(&mut self, up_to: u64) {
        if up_to <= self.moved {
            return;
        }
        let done: Vec<u64> = self
            .entries
            .range(self.moved.saturating_add(1)..=up_to)
            .filter(|(_, entry)| !entry.shared)
            .map(|(index, _)| *index)
            .collect();
        for index in done {
            self.entries.remove(&index);
        }
        for (_, entry) in self.entries.range_mut(self.moved.saturating_add(1)..=up_to) {
            entry.runs = Vec::new();
        }
        self.moved = up_to;
    }

    /// After a restart: forgets moved entries that share nothing.
    pub(crate) fn settle_in(&mut self) {
        let moved = self.moved;
        self.entries.retain(|index, entry| *index > moved || entry.shared);
    }

    /// Whether the entry is listed as sharing messages between queues.
    pub(crate) fn shares(&self, entry: u64) -> bool {
        self.entries.get(&entry).is_some_and(|entry| entry.shared)
    }

    pub(crate) fn take_freed_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.freed_bytes)
    }

    pub(crate) fn take_freed(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.freed)
    }
}
