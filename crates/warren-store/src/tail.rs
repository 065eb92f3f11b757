//! What a group's log is right now, in memory: bounds, hard state, and the recent entries. Pure; `log` locks it.

use std::collections::VecDeque;

use bytes::Bytes;
use warren_types::LogIndex;

use crate::LogEntry;

/// Bytes that an entry of the tail occupies beside its payload.
const ENTRY_OVERHEAD: usize = std::mem::size_of::<LogEntry>();

/// One group's log. Entries are `first..next`; the tail holds the last of them.
#[derive(Debug, Default)]
pub(crate) struct LogState {
    /// The lowest entry that is there (if any is).
    pub(crate) first: u64,
    /// The index after the last entry; equal to `first` when the log is empty.
    pub(crate) next: u64,
    /// The last entries, ending before `next`.
    tail: VecDeque<LogEntry>,
    tail_bytes: usize,
    /// Every entry below it is on disk.
    pub(crate) durable_next: u64,
    /// Counts truncations: an fsync of entries that were truncated meanwhile says nothing about their successors.
    pub(crate) lineage: u64,
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    /// The caller's marker of the last purge.
    pub(crate) purged: Option<Bytes>,
    /// A checkpoint covers everything at or below it; `None` if there was no checkpoint yet.
    pub(crate) floor: Option<u64>,
}

impl LogState {
    pub(crate) fn is_empty(&self) -> bool {
        self.first >= self.next
    }

    /// The first index that the tail holds; `next` when it holds nothing.
    pub(crate) fn tail_first(&self) -> u64 {
        self.next.saturating_sub(self.tail.len() as u64)
    }

    /// The index that may be appended next, or `None` if any may: nothing was ever appended or purged.
    pub(crate) fn expected(&self) -> Option<u64> {
        (!self.is_empty() || self.purged.is_some() || self.first != 0).then_some(self.next)
    }

    /// Adds consecutive entries; the caller has compared the first with [`LogState::expected`]. Returns the bytes
    /// that the tail grew.
    pub(crate) fn append(&mut self, entries: &[LogEntry]) -> usize {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return 0;
        };
        if self.is_empty() && self.expected().is_none() {
            self.first = first.index.0;
            self.durable_next = first.index.0;
        }
        self.next = last.index.0.saturating_add(1);
        self.tail.extend(entries.iter().cloned());
        let grown: usize = entries.iter().map(entry_bytes).sum();
        self.tail_bytes += grown;
        grown
    }

    /// Removes everything from `from` on. Returns the bytes that the tail shrank.
    pub(crate) fn truncate(&mut self, from: u64) -> usize {
        let before = self.tail_bytes;
        while self.next > from.max(self.first) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= entry_bytes(&entry);
            }
            if self.tail.is_empty() {
                self.next = from.max(self.first);
                break;
            }
            self.next -= 1;
        }
        self.durable_next = self.durable_next.min(self.next);
        self.lineage += 1;
        before - self.tail_bytes
    }

    /// Removes everything at or below `up_to`, also beyond the last entry. Returns the bytes that the tail shrank.
    pub(crate) fn purge(&mut self, up_to: u64) -> usize {
        let before = self.tail_bytes;
        let first = up_to.saturating_add(1);
        if first <= self.first {
            return 0;
        }
        while self.tail_first() < first.min(self.next) {
            match self.tail.pop_front() {
                Some(entry) => self.tail_bytes -= entry_bytes(&entry),
                None => break,
            }
        }
        self.first = first;
        self.next = self.next.max(first);
        self.durable_next = self.durable_next.max(first);
        before - self.tail_bytes
    }

    /// Removes everything but the vote. Returns the bytes that the tail shrank.
    pub(crate) fn forget(&mut self) -> usize {
        let (vote, lineage) = (self.vote.take(), self.lineage + 1);
        let before = std::mem::replace(self, Self { vote, lineage, ..Self::default() });
        before.tail_bytes
    }

    /// Bytes of the tail that are on disk, too.
    pub(crate) fn evictable_bytes(&self) -> usize {
        let undurable = self.next.saturating_sub(self.durable_next.max(self.tail_first()));
        if undurable == 0 {
            return self.tail_bytes;
        }
        let kept: usize = self
            .tail
            .iter()
            .rev()
            .take(usize::try_from(undurable).unwrap_or(usize::MAX))
            .map(entry_bytes)
            .sum();
        self.tail_bytes - kept
    }

    /// Forgets about `bytes` of the oldest entries that are on disk. Returns what it forgot.
    pub(crate) fn evict(&mut self, bytes: usize) -> usize {
        let mut freed = 0;
        while freed < bytes && self.tail_first() < self.durable_next.min(self.next) {
            match self.tail.pop_front() {
                Some(entry) => freed += entry_bytes(&entry),
                None => break,
            }
        }
        self.tail_bytes -= freed;
        freed
    }

    pub(crate) fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// The tail's entries from `from` on.
    pub(crate) fn tail_from(&self, from: u64) -> impl Iterator<Item = &LogEntry> {
        let skipped = from.saturating_sub(self.tail_first());
        self.tail.iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX))
    }

    /// The bounds as first and last index, if there is an entry.
    pub(crate) fn first_last(&self) -> Option<(LogIndex, LogIndex)> {
        (!self.is_empty()).then(|| (LogIndex(self.first), LogIndex(self.next - 1)))
    }
}

pub(crate) fn entry_bytes(entry: &LogEntry) -> usize {
    entry.payload.len() + ENTRY_OVERHEAD
}
