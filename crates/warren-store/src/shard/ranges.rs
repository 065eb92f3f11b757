//! A set of positions as the fewest ranges.

use std::collections::BTreeMap;

/// Positions, kept as ranges that neither overlap nor touch. Every step costs O(log n) in the number of ranges,
/// and is linear only in the ranges that it joins or removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// How many ranges it takes.
    pub(crate) fn ranges(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(first, last)| (*first, *last))
    }

    /// Adds `first..=last`.
    pub(crate) fn insert(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        let (mut first, mut last) = (first, last);
        // Everything that overlaps or touches becomes one range, found from its end backwards.
        while let Some((&other, &other_last)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if other_last.saturating_add(1) < first {
                break;
            }
            self.0.remove(&other);
            first = first.min(other);
            last = last.max(other_last);
        }
        self.0.insert(first, last);
    }

    /// Takes out `first..=last`.
    pub(crate) fn remove(&mut self, first: u64, last: u64) {
        if last < first {
            return;
        }
        while let Some((&other, &other_last)) = self.0.range(..=last).next_back() {
            if other_last < first {
                break;
            }
            self.0.remove(&other);
            if other_last > last {
                self.0.insert(last + 1, other_last);
            }
            if other < first {
                self.0.insert(other, first - 1);
            }
        }
    }

    /// How many positions of `first..=last` are in it.
    pub(crate) fn count_in(&self, first: u64, last: u64) -> u64 {
        self.in_range(first, last).map(|(first, last)| last - first + 1).sum()
    }

    /// Its parts inside `first..=last`, in order.
    pub(crate) fn in_range(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> {
        let start = match self.0.range(..=first).next_back() {
            Some((&start, &end)) if end >= first => start,
            Some(_) | None => first,
        };
        // An inverted range would panic in the map.
        let end = last.max(start);
        self.0
            .range(start..=end)
            .map(move |(&from, &to)| (from.max(first), to.min(last)))
            .filter(|(from, to)| from <= to)
    }

    /// The parts of `first..=last` that are not in it, in order.
    pub(crate) fn gaps_in(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut next = first;
        for (from, to) in self.in_range(first, last) {
            if next < from {
                gaps.push((next, from - 1));
            }
            next = to.saturating_add(1);
            if to == u64::MAX {
                return gaps;
            }
        }
        if next <= last {
            gaps.push((next, last));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_of_numbers_holds(steps in proptest::collection::vec((any::<bool>(), 0_u64..60, 0_u64..12), 0..60)) {
            let mut ranges = RangeSet::default();
            let mut model = BTreeSet::new();
            for (add, first, length) in steps {
                let last = first + length;
                if add {
                    ranges.insert(first, last);
                    model.extend(first..=last);
                } else {
                    ranges.remove(first, last);
                    model.retain(|at| !(first..=last).contains(at));
                }
                let held: BTreeSet<u64> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(&held, &model);
                let touching = ranges.iter().zip(ranges.iter().skip(1)).any(|(a, b)| a.1 + 1 >= b.0);
                prop_assert!(!touching, "ranges touch: {:?}", ranges);
                let expected = model.range(first..=last + 5).count() as u64;
                prop_assert_eq!(ranges.count_in(first, last + 5), expected);
                let gaps: u64 = ranges.gaps_in(first, last + 5).iter().map(|(first, last)| last - first + 1).sum();
                prop_assert_eq!(gaps, length + 6 - expected);
            }
        }
    }

    #[test]
    fn the_ends_of_the_number_line_are_ordinary() {
        let mut ranges = RangeSet::default();
        ranges.insert(0, u64::MAX);
        assert_eq!(ranges.gaps_in(0, u64::MAX), []);
        ranges.remove(5, u64::MAX);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, 4)]);
        assert_eq!(ranges.gaps_in(0, u64::MAX), [(5, u64::MAX)]);
        ranges.insert(u64::MAX, u64::MAX);
        assert_eq!(ranges.ranges(), 2);
    }
}
