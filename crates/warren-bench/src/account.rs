//! The books of a run: which messages were published, confirmed and delivered, one bit each. From them follows what was
//! lost: confirmed to its publisher, and in the end on no consumer's side.

use serde::Serialize;

use crate::stamp::{SEQUENCE_MAX, Stamp};

/// What happened, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    /// Handed to the socket.
    pub(crate) published: u64,
    /// Answered with `basic.ack`.
    pub(crate) confirmed: u64,
    /// Answered with `basic.nack`.
    pub(crate) nacked: u64,
    /// Given back as unroutable.
    pub(crate) returned: u64,
    /// Deliveries of this run's messages, every one.
    pub(crate) delivered: u64,
    /// Deliveries that were flagged `redelivered`.
    pub(crate) redelivered: u64,
    /// Deliveries of a message that its queue had delivered before.
    pub(crate) duplicates: u64,
    /// Duplicates without the flag `redelivered`: a broker must not do this.
    pub(crate) duplicates_unflagged: u64,
    /// First deliveries that came after a later message of the same producer, on a queue with one consumer.
    pub(crate) out_of_order: u64,
    /// Deliveries of messages that are not this run's.
    pub(crate) foreign: u64,
}

impl Counts {
    /// Deliveries without the duplicates.
    pub(crate) fn distinct(&self) -> u64 {
        self.delivered - self.duplicates
    }
}

/// Whose messages are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// Only those stamped with this run's tag.
    Run(u8),
    /// All that carry a stamp: a backlog that another run left.
    Any,
}

/// How the messages spread over the queues, as far as the books depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Queues that messages go to.
    pub(crate) queues: usize,
    /// Every queue gets every message; otherwise one queue does.
    pub(crate) to_all: bool,
    /// No queue has more than one consumer, so its deliveries are in order.
    pub(crate) in_order: bool,
}

impl Spread {
    /// How many deliveries one message causes.
    pub(crate) fn copies(&self) -> u64 {
        if self.to_all { self.queues as u64 } else { 1 }
    }
}

/// The books.
#[derive(Debug)]
pub(crate) struct Ledger {
    ours: Ours,
    spread: Spread,
    sent: Vec<Sent>,
    /// For each copy (one, or one a queue), for each producer.
    received: Vec<Vec<Bits>>,
    /// For each queue, for each producer: one more than the highest sequence delivered.
    highest: Vec<Vec<u64>>,
    /// The sums.
    pub(crate) counts: Counts,
}

#[derive(Debug, Default)]
struct Sent {
    confirmed: Bits,
    /// Confirmed but in no queue, and the publisher was told so.
    returned: Bits,
}

impl Ledger {
    /// Empty books.
    pub(crate) fn new(ours: Ours, spread: Spread) -> Self {
        Self {
            ours,
            spread,
            sent: Vec::new(),
            received: Vec::new(),
            highest: Vec::new(),
            counts: Counts::default(),
        }
    }

    /// `basic.ack` for a message.
    #[inline]
    pub(crate) fn on_confirmed(&mut self, producer: u16, sequence: u64) {
        self.counts.confirmed += 1;
        entry(&mut self.sent, usize::from(producer)).confirmed.set(sequence);
    }

    /// `basic.return` for a message.
    pub(crate) fn on_returned(&mut self, stamp: Stamp) {
        self.counts.returned += 1;
        entry(&mut self.sent, usize::from(stamp.producer)).returned.set(stamp.sequence);
    }

    /// A delivery on queue number `queue`; no stamp: it is not one of the bench's messages. True when it is this run's.
    #[inline]
    pub(crate) fn on_delivered(&mut self, queue: usize, stamp: Option<Stamp>, redelivered: bool) -> bool {
        let Some(stamp) = stamp.filter(|stamp| self.is_ours(stamp)) else {
            self.counts.foreign += 1;
            return false;
        };
        let producer = usize::from(stamp.producer);
        let copy = if self.spread.to_all { queue } else { 0 };
        let is_new = entry(entry(&mut self.received, copy), producer).set(stamp.sequence);
        self.counts.delivered += 1;
        self.counts.redelivered += u64::from(redelivered);
        if !is_new {
            self.counts.duplicates += 1;
            self.counts.duplicates_unflagged += u64::from(!redelivered);
        } else if self.spread.in_order && !redelivered {
            let highest = entry(entry(&mut self.highest, queue), producer);
            if stamp.sequence < *highest {
                self.counts.out_of_order += 1;
            }
            *highest = (*highest).max(stamp.sequence + 1);
        }
        true
    }

    fn is_ours(&self, stamp: &Stamp) -> bool {
        let same_run = match self.ours {
            Ours::Run(run) => stamp.run == run,
            Ours::Any => true,
        };
        same_run && stamp.sequence < SEQUENCE_MAX
    }

    /// Deliveries that are still to come for what was confirmed. At the end of a run they are lost.
    ///
    /// Cost: all books are read.
    pub(crate) fn missing(&self) -> u64 {
        let copies = usize::try_from(self.spread.copies()).unwrap_or(usize::MAX);
        let nothing = Bits::default();
        let received = |copy: usize, producer: usize| {
            self.received.get(copy).and_then(|producers| producers.get(producer)).unwrap_or(&nothing)
        };
        self.sent
            .iter()
            .enumerate()
            .flat_map(|(producer, sent)| (0..copies).map(move |copy| (producer, sent, copy)))
            .map(|(producer, sent, copy)| {
                sent.confirmed.count_without(&sent.returned, received(copy, producer))
            })
            .sum()
    }
}

/// The item at `index`, with new ones before it as needed.
#[inline]
#[expect(clippy::indexing_slicing, reason = "the vector has just been made long enough")]
fn entry<T: Default>(items: &mut Vec<T>, index: usize) -> &mut T {
    if index >= items.len() {
        items.resize_with(index + 1, T::default);
    }
    &mut items[index]
}

/// A set of sequences, a bit each.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Adds `index`; false when it was there.
    #[inline]
    fn set(&mut self, index: u64) -> bool {
        let word = entry(&mut self.0, usize::try_from(index / 64).unwrap_or(usize::MAX));
        let bit = 1 << (index % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// How many are in this set and in neither of the others.
    fn count_without(&self, one: &Self, other: &Self) -> u64 {
        let word = |set: &Self, index: usize| set.0.get(index).copied().unwrap_or(0);
        self.0
            .iter()
            .enumerate()
            .map(|(index, bits)| u64::from((bits & !word(one, index) & !word(other, index)).count_ones()))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTED: Spread = Spread { queues: 2, to_all: false, in_order: true };
    const FANOUT: Spread = Spread { queues: 2, to_all: true, in_order: true };

    fn stamp(sequence: u64) -> Option<Stamp> {
        Some(Stamp { run: 1, producer: 3, sequence, sent_ns: 0 })
    }

    fn confirmed(spread: Spread, count: u64) -> Ledger {
        let mut ledger = Ledger::new(Ours::Run(1), spread);
        (0..count).for_each(|sequence| ledger.on_confirmed(3, sequence));
        ledger
    }

    #[test]
    fn a_confirmed_message_is_missing_until_it_is_delivered() {
        let mut ledger = confirmed(ROUTED, 130);
        assert_eq!(ledger.missing(), 130);
        (0..130).filter(|sequence| *sequence != 64).for_each(|sequence| {
            ledger.on_delivered(0, stamp(sequence), false);
        });
        assert_eq!(ledger.missing(), 1);
        ledger.on_delivered(1, stamp(64), true);
        assert_eq!((ledger.missing(), ledger.counts.distinct()), (0, 130));
    }

    #[test]
    fn an_unconfirmed_message_is_never_missing() {
        let mut ledger = confirmed(ROUTED, 0);
        ledger.counts.published = 5;
        assert_eq!(ledger.missing(), 0);
        ledger.on_delivered(0, stamp(4), false);
        assert_eq!((ledger.missing(), ledger.counts.delivered), (0, 1));
    }

    #[test]
    fn each_queue_of_a_fanout_owes_its_own_copy() {
        let mut ledger = confirmed(FANOUT, 3);
        assert_eq!(ledger.missing(), 6);
        for (queue, sequence) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2)] {
            ledger.on_delivered(queue, stamp(sequence), false);
        }
        assert_eq!((ledger.missing(), ledger.counts.duplicates), (1, 0));
    }

    #[test]
    fn a_returned_message_is_not_missing() {
        let mut ledger = confirmed(ROUTED, 2);
        ledger.on_returned(stamp(1).unwrap());
        assert_eq!((ledger.missing(), ledger.counts.returned), (1, 1));
    }

    #[test]
    fn duplicates_are_told_apart_by_their_flag() {
        let mut ledger = confirmed(ROUTED, 2);
        for (sequence, redelivered) in [(0, false), (0, true), (0, false), (1, true)] {
            ledger.on_delivered(0, stamp(sequence), redelivered);
        }
        let counts = ledger.counts;
        assert_eq!((counts.delivered, counts.redelivered, counts.duplicates), (4, 2, 2));
        assert_eq!((counts.duplicates_unflagged, counts.distinct(), ledger.missing()), (1, 2, 0));
    }

    #[test]
    fn what_is_not_of_this_run_is_counted_apart() {
        let mut ledger = confirmed(ROUTED, 1);
        let other_run = Some(Stamp { run: 2, producer: 3, sequence: 0, sent_ns: 0 });
        assert!(!ledger.on_delivered(0, other_run, false));
        assert!(!ledger.on_delivered(0, None, false));
        assert!(!ledger.on_delivered(0, stamp(SEQUENCE_MAX), false));
        assert_eq!((ledger.counts.foreign, ledger.counts.delivered, ledger.missing()), (3, 0, 1));
        let mut any = Ledger::new(Ours::Any, ROUTED);
        assert!(any.on_delivered(0, other_run, false));
    }

    #[test]
    fn order_is_kept_per_queue_and_only_a_first_delivery_can_break_it() {
        let mut ledger = confirmed(ROUTED, 10);
        // Two queues: 5 and 4 are in order, each on its own.
        for (queue, sequence, redelivered) in [(0, 5, false), (1, 4, false), (0, 3, true), (0, 6, false)] {
            ledger.on_delivered(queue, stamp(sequence), redelivered);
        }
        assert_eq!(ledger.counts.out_of_order, 0);
        ledger.on_delivered(0, stamp(2), false);
        assert_eq!(ledger.counts.out_of_order, 1);
    }
}
