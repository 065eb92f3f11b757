//! Spine 12: which publishes of a channel are done, and the fewest acks that say so. Knows numbers only.
//! Before: the shell's confirm. After: `frame/encode.rs`.

use std::collections::BTreeSet;

/// Confirm numbers of one channel in confirm mode.
#[derive(Debug)]
pub(crate) struct Confirms {
    /// The last number given out.
    issued: u64,
    /// Every number below is done, and the client has been told.
    low: u64,
    /// Done numbers above `low`; never `low` itself.
    done: BTreeSet<u64>,
}

impl Default for Confirms {
    fn default() -> Self {
        Self { issued: 0, low: 1, done: BTreeSet::new() }
    }
}

impl Confirms {
    /// The number of the next publish.
    pub(crate) fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// Publishes not yet done.
    pub(crate) fn outstanding(&self) -> u64 {
        (self.issued + 1 - self.low).saturating_sub(self.done.len() as u64)
    }

    /// These numbers are done, all in the same way; calls `tell` with each number and whether it covers all below it
    /// that the client does not know to be done. Numbers that are done already or were never given are ignored.
    pub(crate) fn done(&mut self, numbers: &[u64], mut tell: impl FnMut(u64, bool)) {
        let (mut accepted, mut highest_below) = (0_usize, 0);
        let mut apart = Vec::new();
        for &number in numbers {
            if number > self.issued || number < self.low {
                continue;
            }
            if number == self.low {
                self.low += 1;
                while self.done.remove(&self.low) {
                    self.low += 1;
                }
                highest_below = highest_below.max(number);
                accepted += 1;
            } else if self.done.insert(number) {
                apart.push(number);
                accepted += 1;
            }
        }
        apart.sort_unstable();
        let reached = apart.partition_point(|number| *number < self.low);
        let (below, above) = apart.split_at(reached);
        let highest_below = below.last().copied().unwrap_or_default().max(highest_below);
        if highest_below > 0 {
            tell(highest_below, accepted - above.len() > 1);
        }
        for number in above {
            tell(*number, false);
        }
    }
}
