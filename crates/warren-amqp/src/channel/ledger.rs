//! What a channel's client holds: deliveries by tag, until they are settled (0-9-1 §1.8.3.13 to 1.8.3.16). Knows no
//! queue: what settles a delivery passes through.

use std::collections::VecDeque;

use warren_types::{DeliveryRef, DeliveryTag};

/// Which deliveries a settlement covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckScope {
    One(u64),
    UpTo(u64),
    AllOutstanding,
}

impl AckScope {
    /// Tag 0 with `multiple` is everything; tag 0 alone is a tag that never existed.
    pub(crate) fn from_wire(tag: u64, multiple: bool) -> Self {
        match (tag, multiple) {
            (0, true) => Self::AllOutstanding,
            (tag, true) => Self::UpTo(tag),
            (tag, false) => Self::One(tag),
        }
    }
}

/// The tag was never given on this channel, or is settled already: 406.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown delivery tag {0}")]
pub(crate) struct UnknownDeliveryTag(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// The client holds it.
    Open,
    /// Settled in a transaction that is not committed.
    InTransaction,
    /// Held too long and given back to its queue; the client may still settle it, to no effect.
    Lapsed,
    /// Settled; kept only until the front is reached or half of all are.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u64,
    held: Held,
    /// Counts against the channel-wide prefetch.
    counted: bool,
    source: DeliveryRef,
    /// The shell's clock when it was delivered.
    since_ms: u64,
}

/// Deliveries in the order of their tags. In-order settling is constant time, any other a binary search.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    last_tag: u64,
    entries: VecDeque<Entry>,
    /// Entries that are not gone.
    alive: usize,
    /// Entries not gone that count against the channel-wide prefetch.
    counted: usize,
}

/// Below this many settled entries between others, compacting is not worth it.
const GONE_MIN: usize = 64;

impl Ledger {
    /// The next tag; also those that are settled at once use one up.
    pub(crate) fn next_tag(&mut self) -> DeliveryTag {
        self.last_tag += 1;
        DeliveryTag(self.last_tag)
    }

    /// Remembers a delivery with the tag just given.
    pub(crate) fn hold(&mut self, tag: DeliveryTag, source: DeliveryRef, counted: bool, since_ms: u64) {
        self.entries.push_back(Entry { tag: tag.0, held: Held::Open, counted, source, since_ms });
        self.alive += 1;
        self.counted += usize::from(counted);
    }

    /// Deliveries not settled, those of an uncommitted transaction included.
    pub(crate) fn outstanding(&self) -> usize {
        self.alive
    }

    /// Those of them that count against the channel-wide prefetch.
    pub(crate) fn counted(&self) -> usize {
        self.counted
    }

    /// From now on everything outstanding counts against the channel-wide prefetch.
    pub(crate) fn count_all(&mut self) {
        for entry in &mut self.entries {
            entry.counted = true;
        }
        self.counted = self.alive;
    }

    /// Settles what the scope covers, in tag order.
    ///
    /// # Errors
    /// [`UnknownDeliveryTag`], and then nothing is settled: also with `multiple` the tag itself must be outstanding.
    pub(crate) fn settle(
        &mut self,
        scope: AckScope,
        mut settled: impl FnMut(DeliveryRef),
    ) -> Result<(), UnknownDeliveryTag> {
        self.visit(scope, Held::Gone, |entry| settled(entry.source))?;
        self.tidy();
        Ok(())
    }

    /// As [`Self::settle`], but until the transaction ends they stay here. Gives their tags.
    pub(crate) fn settle_in_transaction(&mut self, scope: AckScope) -> Result<Vec<u64>, UnknownDeliveryTag> {
        let mut tags = Vec::new();
        self.visit(scope, Held::InTransaction, |entry| tags.push(entry.tag))?;
        Ok(tags)
    }

    fn visit(
        &mut self,
        scope: AckScope,
        to: Held,
        mut each: impl FnMut(&Entry),
    ) -> Result<(), UnknownDeliveryTag> {
        let range = match scope {
            AckScope::One(tag) => {
                let index = self.open_index(tag)?;
                index..index + 1
            }
            AckScope::UpTo(tag) => 0..self.open_index(tag)? + 1,
            AckScope::AllOutstanding => 0..self.entries.len(),
        };
        for entry in self.entries.range_mut(range) {
            match entry.held {
                Held::Open => {
                    each(entry);
                    entry.held = to;
                }
                Held::Lapsed => entry.held = Held::Gone,
                Held::InTransaction | Held::Gone => continue,
            }
            if entry.held == Held::Gone {
                self.alive -= 1;
                self.counted -= usize::from(entry.counted);
            }
        }
        Ok(())
    }

    fn open_index(&self, tag: u64) -> Result<usize, UnknownDeliveryTag> {
        self.index_of(tag)
            .filter(|index| {
                let held = self.entries.get(*index).map(|entry| entry.held);
                matches!(held, Some(Held::Open | Held::Lapsed))
            })
            .ok_or(UnknownDeliveryTag(tag))
    }

    fn index_of(&self, tag: u64) -> Option<usize> {
        let first = self.entries.front()?.tag;
        let guess = usize::try_from(tag.checked_sub(first)?).ok()?;
        match self.entries.get(guess) {
            Some(entry) if entry.tag == tag => Some(guess),
            // Tags are missing in between: compacted, or never held.
            Some(_) | None => self.entries.binary_search_by_key(&tag, |entry| entry.tag).ok(),
        }
    }

    fn tidy(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.held == Held::Gone) {
            self.entries.pop_front();
        }
        if self.entries.len() > 2 * self.alive + GONE_MIN {
            self.entries.retain(|entry| entry.held != Held::Gone);
        }
    }

    /// What settles these, of a transaction that commits.
    pub(crate) fn sources(&self, tags: &[u64]) -> Vec<DeliveryRef> {
        tags.iter()
            .filter_map(|tag| self.index_of(*tag).and_then(|index| self.entries.get(index)))
            .map(|entry| entry.source)
            .collect()
    }

    /// The transaction is over: what was settled in it is settled, or open again.
    pub(crate) fn end_transaction(&mut self, committed: bool) {
        for entry in self.entries.iter_mut().filter(|entry| entry.held == Held::InTransaction) {
            if committed {
                entry.held = Held::Gone;
                self.alive -= 1;
                self.counted -= usize::from(entry.counted);
            } else {
                entry.held = Held::Open;
            }
        }
        self.tidy();
    }

    /// Takes those that are held too long away from the client, which may still settle them, to no effect. Those settled
    /// in a transaction stay. `overdue` is told since when each is held.
    pub(crate) fn lapse(&mut self, mut overdue: impl FnMut(&DeliveryRef, u64) -> bool) -> Vec<DeliveryRef> {
        let mut lapsed = Vec::new();
        for entry in self.entries.iter_mut().filter(|entry| entry.held == Held::Open) {
            if overdue(&entry.source, entry.since_ms) {
                entry.held = Held::Lapsed;
                lapsed.push(entry.source);
            }
        }
        lapsed
    }

    /// Everything outstanding, in tag order, those of an uncommitted transaction included; the ledger is empty then.
    pub(crate) fn drain(&mut self) -> Vec<DeliveryRef> {
        self.alive = 0;
        self.counted = 0;
        let held = |entry: &Entry| matches!(entry.held, Held::Open | Held::InTransaction);
        self.entries.drain(..).filter(held).map(|entry| entry.source).collect()
    }
}
