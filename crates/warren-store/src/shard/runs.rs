//! The runs of one queue, in 40 bytes each.

use std::collections::BTreeMap;

use warren_types::UnixMillis;

/// Runs in one block: a removal moves at most 5 KiB.
const BLOCK_RUNS: usize = 128;

/// The highest bit of `ordinal`: the entry has a message that went to several queues.
const SHARED: u32 = 1 << 31;

/// Consecutive positions of one queue that came with one log entry: the messages from `ordinal` on that name the
/// queue, one position for each time they name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first position.
    pub first: u64,
    /// The log entry.
    pub entry: u64,
    /// How many positions.
    pub count: u32,
    /// How many of them are not settled.
    pub live: u32,
    /// Body bytes of all of them.
    pub bytes: u32,
    ordinal: u32,
    /// The leader's clock in that entry; 0 where a version that did not keep it stored the run.
    pub time: UnixMillis,
}

impl Run {
    pub(crate) fn new(first: u64, entry: u64, ordinal: u32, shared: bool, time: UnixMillis) -> Self {
        let ordinal = ordinal & !SHARED | if shared { SHARED } else { 0 };
        Self { first, entry, count: 0, live: 0, bytes: 0, ordinal, time }
    }

    /// Which message of the entry is the first; counted over all its enqueues.
    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal & !SHARED
    }

    /// Whether the entry has a message that went to several queues.
    pub(crate) fn is_shared(&self) -> bool {
        self.ordinal & SHARED != 0
    }

    /// The last position.
    pub(crate) fn last(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count).saturating_sub(1))
    }

    /// Body bytes of what is not settled, if all bodies are of one size; exact when none or all are settled.
    pub(crate) fn live_bytes(&self) -> u64 {
        if self.count == 0 {
            return 0;
        }
        u64::from(self.bytes) * u64::from(self.live) / u64::from(self.count)
    }

    /// Takes one more position.
    pub(crate) fn grow(&mut self, bytes: usize) {
        self.count += 1;
        self.live += 1;
        self.bytes = self.bytes.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

/// Runs in order. A block's key is at most its first run's position and above all earlier blocks' positions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    blocks: BTreeMap<u64, Vec<Run>>,
    len: usize,
}

impl Runs {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The last run.
    pub(crate) fn last(&self) -> Option<&Run> {
        self.blocks.values().next_back().and_then(|block| block.last())
    }

    /// Adds a run behind all others.
    pub(crate) fn push(&mut self, run: Run) {
        self.len += 1;
        match self.blocks.values_mut().next_back() {
            Some(block) if block.len() < BLOCK_RUNS => block.push(run),
            Some(_) | None => {
                self.blocks.insert(run.first, vec![run]);
            }
        }
    }

    /// The first run that ends at or after `position`.
    pub(crate) fn next_from(&self, position: u64) -> Option<Run> {
        self.iter_from(position).next().copied()
    }

    /// All runs that end at or after `position`.
    pub(crate) fn iter_from(&self, position: u64) -> impl Iterator<Item = &Run> {
        let start = self.blocks.range(..=position).next_back().map_or(position, |(key, _)| *key);
        self.blocks.range(start..).flat_map(move |(_, block)| {
            let skip = block.partition_point(|run| run.last() < position);
            block.iter().skip(skip)
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Run> {
        self.blocks.values().flatten()
    }

    /// The run that begins at `first`.
    pub(crate) fn at(&self, first: u64) -> Option<&Run> {
        let (_, block) = self.blocks.range(..=first).next_back()?;
        let at = block.binary_search_by_key(&first, |run| run.first).ok()?;
        block.get(at)
    }

    /// Replaces the run that begins where `run` does.
    pub(crate) fn set(&mut self, run: Run) {
        if let Some((_, block)) = self.blocks.range_mut(..=run.first).next_back()
            && let Ok(at) = block.binary_search_by_key(&run.first, |run| run.first)
            && let Some(old) = block.get_mut(at)
        {
            *old = run;
        }
    }

    /// Removes the run that begins at `first`.
    pub(crate) fn remove(&mut self, first: u64) {
        let Some((&key, block)) = self.blocks.range_mut(..=first).next_back() else {
            return;
        };
        if let Ok(at) = block.binary_search_by_key(&first, |run| run.first) {
            block.remove(at);
            self.len -= 1;
            if block.is_empty() {
                self.blocks.remove(&key);
            } else if block.len() * 4 <= block.capacity() {
                block.shrink_to_fit();
            }
        }
    }

    /// Bytes that the runs occupy, about.
    pub(crate) fn memory(&self) -> usize {
        self.blocks.values().map(|block| block.capacity() * std::mem::size_of::<Run>() + 64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u64, count: u32) -> Run {
        Run { count, live: count, ..Run::new(first, first, 0, false, UnixMillis(0)) }
    }

    #[test]
    fn a_run_takes_40_bytes() {
        assert_eq!(std::mem::size_of::<Run>(), 40);
    }

    #[test]
    fn a_long_backlog_costs_little_more_than_its_runs() {
        let mut runs = Runs::default();
        for first in 0..100_000 {
            runs.push(run(first * 2, 2));
        }
        assert!(runs.memory() < 100_000 * 42, "{}", runs.memory());
    }

    #[test]
    fn a_position_is_found_after_any_removal() {
        let mut runs = Runs::default();
        for first in 0..1000 {
            runs.push(run(first * 3, 3));
        }
        for first in (0..1000).filter(|first| first % 7 != 0) {
            runs.remove(first * 3);
        }
        assert_eq!(runs.len(), 143);
        for position in 0..3000_u64 {
            let expected = (position / 3..1000).find(|first| first % 7 == 0).map(|first| first * 3);
            assert_eq!(runs.next_from(position).map(|run| run.first), expected, "position {position}");
        }
        assert_eq!(runs.at(21).map(|run| run.first), Some(21));
        assert_eq!(runs.at(22), None);
    }
}
