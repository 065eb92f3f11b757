//! One queue's messages as a replica remembers them.

use std::collections::{BTreeMap, BTreeSet};

use warren_types::{Position, PositionRange};

use super::ranges::RangeSet;
use super::runs::{Run, Runs};

/// What is saved of a queue beside its runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueMeta {
    /// The position that the next message gets.
    pub next: u64,
    /// The delivered mark.
    pub mark: u64,
    /// It has had a consumer.
    pub used: bool,
}

/// One queue. A position is live if a run covers it and it is not settled.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    pub(crate) meta: QueueMeta,
    pub(crate) runs: Runs,
    /// Settled positions inside runs that are still there.
    pub(crate) settled: RangeSet,
    /// Delivery counts of live positions, where not 0.
    pub(crate) counts: BTreeMap<u64, u32>,
    pub(crate) live: u64,
    pub(crate) live_bytes: u64,
    pub(crate) changed: Changed,
}

/// What changed since the last checkpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed {
    /// Runs that begin here or later are not saved yet.
    pub(crate) saved_next: u64,
    /// Saved runs that are different now, by first position.
    pub(crate) dirty: BTreeSet<u64>,
    /// Saved runs that are gone.
    pub(crate) removed: Removed,
    /// Settled positions whose bodies are in the message store.
    pub(crate) freed: RangeSet,
    /// The queue is in the shard's list of changed queues.
    pub(crate) listed: bool,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self::with(QueueMeta { next: 1, mark: 0, used: false }, 0)
    }

    pub(crate) fn with(meta: QueueMeta, saved_next: u64) -> Self {
        Self {
            meta,
            runs: Runs::default(),
            settled: RangeSet::default(),
            counts: BTreeMap::new(),
            live: 0,
            live_bytes: 0,
            changed: Changed { saved_next, ..Changed::default() },
        }
    }

    /// Adds a finished run.
    pub(crate) fn push(&mut self, run: Run) {
        self.live += u64::from(run.live);
        self.live_bytes += run.live_bytes();
        self.runs.push(run);
    }

    /// The log entry that brought the message at `position`, if it is live.
    pub(crate) fn entry_of(&self, position: u64) -> Option<u64> {
        let run = self.runs.next_from(position).filter(|run| run.first <= position)?;
        (self.settled.count_in(position, position) == 0).then_some(run.entry)
    }

    /// The live positions of `run` inside `first..=last`.
    pub(crate) fn live_in(&self, run: &Run, first: u64, last: u64) -> Vec<(u64, u64)> {
        let (first, last) = (first.max(run.first), last.min(run.last()));
        if first > last { Vec::new() } else { self.settled.gaps_in(first, last) }
    }

    /// The live positions at or below `last`, as ranges.
    pub(crate) fn live_up_to(&self, last: u64) -> Vec<PositionRange> {
        let mut ranges: Vec<PositionRange> = Vec::new();
        for run in self.runs.iter().take_while(|run| run.first <= last) {
            for (first, last) in self.live_in(run, run.first, last) {
                match ranges.last_mut() {
                    Some(range) if range.last.0.saturating_add(1) == first => range.last = Position(last),
                    Some(_) | None => {
                        ranges.push(PositionRange { first: Position(first), last: Position(last) });
                    }
                }
            }
        }
        ranges
    }

    /// Notes that a saved run changed.
    pub(crate) fn touch(&mut self, run: &Run) {
        if run.first < self.changed.saved_next {
            self.changed.dirty.insert(run.first);
        }
    }
}

/// Removed runs as ranges of positions: neighbours join, so that a queue consumed in order costs one entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Removed(BTreeMap<u64, (u64, u32)>);

impl Removed {
    pub(crate) fn insert(&mut self, run: &Run) {
        let (mut first, mut last, mut runs) = (run.first, run.last(), 1);
        if let Some((&before, &(end, count))) = self.0.range(..first).next_back()
            && end.saturating_add(1) == first
        {
            self.0.remove(&before);
            first = before;
            runs += count;
        }
        if let Some((end, count)) = self.0.remove(&last.saturating_add(1)) {
            last = end;
            runs += count;
        }
        self.0.insert(first, (last, runs));
    }

    /// First and last position, and how many runs they were.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64, u32)> {
        self.0.iter().map(|(first, (last, runs))| (*first, *last, *runs))
    }
}
