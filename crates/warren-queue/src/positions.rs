//! A set of positions, kept as ranges: its memory is by the number of gaps, not of positions.

use std::collections::BTreeMap;

use warren_types::{Position, PositionRange};

/// A set of positions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionSet {
    /// First to last, disjoint and not adjacent.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl PositionSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many positions it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// True when it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The lowest position.
    #[must_use]
    pub fn first(&self) -> Option<Position> {
        self.ranges.first_key_value().map(|(first, _)| Position(*first))
    }

    /// The highest position.
    #[must_use]
    pub fn last(&self) -> Option<Position> {
        self.ranges.last_key_value().map(|(_, last)| Position(*last))
    }

    /// Whether it holds the position.
    #[must_use]
    pub fn contains(&self, position: Position) -> bool {
        self.ranges.range(..=position.0).next_back().is_some_and(|(_, last)| *last >= position.0)
    }

    /// Its ranges, ascending.
    pub fn ranges(&self) -> impl Iterator<Item = PositionRange> + '_ {
        self.ranges.iter().map(|(first, last)| range(*first, *last))
    }

    /// Adds a position; false if it was there.
    pub fn insert(&mut self, position: Position) -> bool {
        self.insert_range(PositionRange::one(position)) > 0
    }

    /// Adds a range and returns how many of its positions are new. Cost: by the ranges it swallows.
    pub fn insert_range(&mut self, added: PositionRange) -> u64 {
        if added.count() == 0 {
            return 0;
        }
        let before = self.count;
        let (mut first, mut last) = (added.first.0, added.last.0);
        // A neighbour that touches or overlaps is merged, from the highest that begins at or before our end + 1.
        while let Some((&low, &high)) = self.ranges.range(..=last.saturating_add(1)).next_back() {
            if high.saturating_add(1) < first {
                break;
            }
            self.ranges.remove(&low);
            self.count -= high - low + 1;
            first = first.min(low);
            last = last.max(high);
        }
        self.ranges.insert(first, last);
        self.count += last - first + 1;
        self.count - before
    }

    /// Removes a position; false if it was not there.
    pub fn remove(&mut self, position: Position) -> bool {
        let Some((&first, &last)) = self.ranges.range(..=position.0).next_back() else { return false };
        if last < position.0 {
            return false;
        }
        self.ranges.remove(&first);
        self.count -= last - first + 1;
        self.put_back(first, position.0.checked_sub(1));
        if position.0 < last {
            self.put_back(position.0 + 1, Some(last));
        }
        true
    }

    /// Removes what it holds of the range and returns that, ascending. Cost: by the ranges found, not by the length
    /// of `taken`.
    pub fn take_range(&mut self, taken: PositionRange) -> Vec<PositionRange> {
        let mut found = Vec::new();
        if taken.count() == 0 {
            return found;
        }
        while let Some((&low, &high)) = self.ranges.range(..=taken.last.0).next_back() {
            if high < taken.first.0 {
                break;
            }
            self.ranges.remove(&low);
            self.count -= high - low + 1;
            let (first, last) = (low.max(taken.first.0), high.min(taken.last.0));
            found.push(range(first, last));
            if high > last {
                self.put_back(last + 1, Some(high));
            }
            if low < first {
                self.put_back(low, Some(first - 1));
                break;
            }
        }
        found.reverse();
        found
    }

    /// Empties it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn put_back(&mut self, first: u64, last: Option<u64>) {
        if let Some(last) = last
            && first <= last
        {
            self.ranges.insert(first, last);
            self.count += last - first + 1;
        }
    }
}

impl FromIterator<PositionRange> for PositionSet {
    fn from_iter<T: IntoIterator<Item = PositionRange>>(ranges: T) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert_range(range);
        }
        set
    }
}

fn range(first: u64, last: u64) -> PositionRange {
    PositionRange { first: Position(first), last: Position(last) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Change {
        Insert(u64, u64),
        Take(u64, u64),
        Remove(u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (1..60_u64, 0..12_u64).prop_map(|(first, more)| Change::Insert(first, first + more)),
            (1..60_u64, 0..20_u64).prop_map(|(first, more)| Change::Take(first, first + more)),
            (1..60_u64).prop_map(Change::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_behaves_as_a_set_of_numbers(changes in prop::collection::vec(change(), 0..40)) {
            let mut set = PositionSet::new();
            let mut naive = BTreeSet::new();
            for change in changes {
                match change {
                    Change::Insert(first, last) => {
                        let new = (first..=last).filter(|position| naive.insert(*position)).count();
                        prop_assert_eq!(set.insert_range(range(first, last)), new as u64);
                    }
                    Change::Take(first, last) => {
                        let taken: Vec<u64> = (first..=last).filter(|at| naive.remove(at)).collect();
                        let found: Vec<u64> = set
                            .take_range(range(first, last))
                            .into_iter()
                            .flat_map(|range| range.iter().map(|position| position.0))
                            .collect();
                        prop_assert_eq!(found, taken);
                    }
                    Change::Remove(position) => {
                        prop_assert_eq!(set.remove(Position(position)), naive.remove(&position));
                    }
                }
                prop_assert_eq!(set.count(), naive.len() as u64);
                let expected = PositionRange::collect(naive.iter().map(|position| Position(*position)));
                prop_assert_eq!(set.ranges().collect::<Vec<_>>(), expected);
                for position in 0..75 {
                    prop_assert_eq!(set.contains(Position(position)), naive.contains(&position));
                }
            }
        }
    }

    #[test]
    fn a_range_as_long_as_the_numbers_costs_nothing() {
        let mut set: PositionSet = [range(5, 9)].into_iter().collect();
        assert_eq!(set.take_range(range(1, u64::MAX)), vec![range(5, 9)]);
        assert!(set.is_empty());
    }
}
