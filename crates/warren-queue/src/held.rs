//! Deliveries that somebody holds, by position: cheap where they come and go in order.
//!
//! Deliveries mostly go out in ascending order and are settled from the front: those live in a ring. What is
//! delivered again after a return is lower than the ring's end and lives in a map.

use std::collections::{BTreeMap, VecDeque};

use warren_types::{Position, PositionRange};

/// Positions and what is known of each.
#[derive(Clone, Debug)]
pub(crate) struct Held<T> {
    /// Ascending. `None`: settled, but not at the front yet.
    ring: VecDeque<(Position, Option<T>)>,
    /// Entries of the ring that are `None`.
    gone: usize,
    strays: BTreeMap<Position, T>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { ring: VecDeque::new(), gone: 0, strays: BTreeMap::new() }
    }
}

impl<T: Copy> Held<T> {
    pub(crate) fn len(&self) -> usize {
        self.ring.len() - self.gone + self.strays.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The highest position held.
    pub(crate) fn last(&self) -> Option<Position> {
        let ring = self.ring.iter().rev().find(|(_, value)| value.is_some()).map(|(position, _)| *position);
        ring.max(self.strays.last_key_value().map(|(position, _)| *position))
    }

    /// Adds a position, or replaces what is known of it.
    pub(crate) fn insert(&mut self, position: Position, value: T) {
        if !self.strays.is_empty() {
            self.strays.remove(&position);
        }
        if self.ring.back().is_none_or(|(last, _)| *last < position) {
            self.ring.push_back((position, Some(value)));
            return;
        }
        if let Ok(at) = self.ring.binary_search_by_key(&position, |(position, _)| *position)
            && let Some((_, slot)) = self.ring.get_mut(at)
        {
            if slot.is_none() {
                self.gone -= 1;
            }
            *slot = Some(value);
            return;
        }
        self.strays.insert(position, value);
    }

    #[cfg(test)]
    pub(crate) fn get(&self, position: Position) -> Option<&T> {
        match self.ring.binary_search_by_key(&position, |(position, _)| *position) {
            Ok(at) => self.ring.get(at).and_then(|(_, value)| value.as_ref()),
            Err(_) => self.strays.get(&position),
        }
    }

    /// Removes what is held of the range and passes `wanted`, lowest of the ring first, then the strays.
    /// Cost: by what is held in the range, not by its length.
    pub(crate) fn take_range(
        &mut self,
        range: PositionRange,
        mut wanted: impl FnMut(Position, &T) -> bool,
        mut taken: impl FnMut(Position, T),
    ) {
        if range.count() == 0 {
            return;
        }
        // The front is where settles mostly are: no search there.
        let start = match self.ring.front() {
            Some((first, _)) if *first >= range.first => 0,
            Some(_) | None => self.ring.partition_point(|(position, _)| *position < range.first),
        };
        for (position, slot) in self.ring.range_mut(start..) {
            if *position > range.last {
                break;
            }
            if slot.as_ref().is_some_and(|value| wanted(*position, value))
                && let Some(value) = slot.take()
            {
                self.gone += 1;
                taken(*position, value);
            }
        }
        if !self.strays.is_empty() {
            let found: Vec<Position> = self
                .strays
                .range(range.first..=range.last)
                .filter(|(position, value)| wanted(**position, value))
                .map(|(position, _)| *position)
                .collect();
            for position in found {
                if let Some(value) = self.strays.remove(&position) {
                    taken(position, value);
                }
            }
        }
        self.tidy();
    }

    /// Removes everything that passes `wanted`.
    pub(crate) fn take_all(
        &mut self,
        wanted: impl FnMut(Position, &T) -> bool,
        taken: impl FnMut(Position, T),
    ) {
        let everything = PositionRange { first: Position(1), last: Position(u64::MAX) };
        self.take_range(everything, wanted, taken);
    }

    /// Everything held; the ring's part ascending, then the strays ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Position, &T)> {
        let ring =
            self.ring.iter().filter_map(|(position, value)| value.as_ref().map(|value| (*position, value)));
        ring.chain(self.strays.iter().map(|(position, value)| (*position, value)))
    }

    /// Everything held that passes, as ascending ranges.
    pub(crate) fn ranges(&self, mut wanted: impl FnMut(&T) -> bool) -> Vec<PositionRange> {
        let mut positions: Vec<Position> =
            self.iter().filter(|(_, value)| wanted(value)).map(|(position, _)| position).collect();
        if !self.strays.is_empty() {
            positions.sort_unstable();
        }
        PositionRange::collect(positions)
    }

    fn tidy(&mut self) {
        while let Some((_, None)) = self.ring.front() {
            self.ring.pop_front();
            self.gone -= 1;
        }
        // One old delivery must not keep the places of millions that came after it.
        if self.gone > 64 && self.gone > self.ring.len() / 2 {
            self.ring.retain(|(_, value)| value.is_some());
            self.gone = 0;
        }
        if self.ring.is_empty() && self.ring.capacity() > 4096 {
            self.ring = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_as_a_map(steps in prop::collection::vec((any::<bool>(), 1..300_u64, 0..40_u64), 0..200)) {
            let mut held = Held::default();
            let mut naive = BTreeMap::new();
            for (number, (insert, first, more)) in steps.into_iter().enumerate() {
                if insert {
                    for position in first..=first + more {
                        held.insert(Position(position), number);
                        naive.insert(Position(position), number);
                    }
                } else {
                    let range = PositionRange { first: Position(first), last: Position(first + more) };
                    let mut taken = BTreeMap::new();
                    // Only entries of even steps, to exercise the filter.
                    held.take_range(range, |_, value| value.is_multiple_of(2), |position, value| {
                        taken.insert(position, value);
                    });
                    let mut expected = BTreeMap::new();
                    naive.retain(|position: &Position, value: &mut usize| {
                        let go = *position >= range.first && *position <= range.last && value.is_multiple_of(2);
                        if go { expected.insert(*position, *value); }
                        !go
                    });
                    prop_assert_eq!(taken, expected);
                }
                prop_assert_eq!(held.len(), naive.len());
                let all: BTreeMap<Position, usize> = held.iter().map(|(position, value)| (position, *value)).collect();
                prop_assert_eq!(&all, &naive);
                for (position, value) in &naive {
                    prop_assert_eq!(held.get(*position), Some(value));
                }
            }
        }
    }

    #[test]
    fn one_old_delivery_does_not_keep_the_places_of_those_settled_after_it() {
        let mut held = Held::default();
        for position in 1..=100_000 {
            held.insert(Position(position), ());
            if position > 1 {
                held.take_range(PositionRange::one(Position(position)), |_, ()| true, |_, ()| {});
            }
        }
        assert_eq!(held.len(), 1);
        assert!(held.ring.len() < 200, "{} places kept", held.ring.len());
    }
}
