//! What the log holds: each group's hard state and where each of its entries is. Pure; a record does the same to it when
//! it is written and when it is read back.

use std::collections::BTreeMap;

use bytes::Bytes;
use warren_types::{GroupId, LogIndex};

use super::format::{GroupHeader, HEAD_BYTES, Head, Kind};

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) segment: u64,
    /// Of the record's head, in the file.
    pub(super) offset: u64,
    /// Of the payload.
    pub(super) length: u32,
}

impl Place {
    fn bytes(&self) -> u64 {
        HEAD_BYTES as u64 + u64::from(self.length)
    }
}

/// One group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) vote: Option<Bytes>,
    pub(crate) committed: Option<Bytes>,
    pub(crate) purged: Option<Bytes>,
    /// Entries are `first..next`.
    pub(crate) first: u64,
    pub(crate) next: u64,
    pub(super) places: BTreeMap<u64, Place>,
}

impl Group {
    fn is_untouched(&self) -> bool {
        self.first == 0 && self.next == 0 && self.purged.is_none()
    }

    /// The first entry that has no place though it should.
    pub(super) fn missing(&self) -> Option<u64> {
        let mut expected = self.first;
        for index in self.places.keys() {
            if *index != expected {
                break;
            }
            expected += 1;
        }
        (expected < self.next).then_some(expected)
    }
}

/// All groups, and what is alive in which segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Entries that are still needed.
    pub(super) live: BTreeMap<u64, Live>,
}

/// What of a segment is still needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

impl Groups {
    /// Begins with what the oldest segment says of the time before it. The entries of that time were purged or are
    /// met again as [`Kind::Moved`].
    pub(super) fn restore(headers: Vec<GroupHeader>) -> Self {
        let groups = headers.into_iter().map(|header| {
            let GroupHeader { group, first, next, vote, committed, purged } = header;
            (group, Group { vote, committed, purged, first, next, places: BTreeMap::new() })
        });
        Self { groups: groups.collect(), live: BTreeMap::new() }
    }

    pub(super) fn headers(&self) -> Vec<GroupHeader> {
        let header = |(id, group): (&GroupId, &Group)| GroupHeader {
            group: *id,
            first: group.first,
            next: group.next,
            vote: group.vote.clone(),
            committed: group.committed.clone(),
            purged: group.purged.clone(),
        };
        self.groups.iter().map(header).collect()
    }

    /// Does what a record says that is at `place`. `payload` only matters where it is small.
    pub(super) fn apply(&mut self, head: &Head, place: Place, payload: &Bytes) {
        if matches!(head.kind, Kind::Dropped | Kind::Next) {
            return;
        }
        let group = self.groups.entry(head.group).or_default();
        let live = &mut self.live;
        match head.kind {
            Kind::Entry => {
                if group.is_untouched() {
                    group.first = head.index;
                }
                for (_, old) in group.places.split_off(&head.index) {
                    free(live, old);
                }
                group.places.insert(head.index, place);
                hold(live, place);
                group.next = head.index.saturating_add(1);
            }
            Kind::Moved => {
                if (group.first..group.next).contains(&head.index) {
                    if let Some(old) = group.places.insert(head.index, place) {
                        free(live, old);
                    }
                    hold(live, place);
                }
            }
            Kind::Vote => group.vote = Some(payload.clone()),
            Kind::Committed => group.committed = Some(payload.clone()),
            Kind::Truncate => {
                for (_, old) in group.places.split_off(&head.index) {
                    free(live, old);
                }
                group.next = group.next.min(head.index).max(group.first);
            }
            Kind::Purge => {
                let kept = group.places.split_off(&head.index);
                for (_, old) in std::mem::replace(&mut group.places, kept) {
                    free(live, old);
                }
                group.first = group.first.max(head.index);
                group.next = group.next.max(group.first);
                group.purged = Some(payload.clone());
            }
            Kind::Forget => {
                let vote = group.vote.take();
                let gone = std::mem::replace(group, Group { vote, ..Group::default() });
                gone.places.into_values().for_each(|old| free(live, old));
            }
            Kind::Dropped | Kind::Next => {}
        }
    }

    /// Which entries of a segment are still needed.
    pub(super) fn living(&self, segment: u64) -> Vec<(GroupId, u64)> {
        let mut living = Vec::new();
        for (id, group) in &self.groups {
            let here = group.places.iter().filter(|(_, place)| place.segment == segment);
            living.extend(here.map(|(index, _)| (*id, *index)));
        }
        living
    }

    pub(super) fn is_needed(&self, segment: u64) -> bool {
        self.live.contains_key(&segment)
    }

    /// The bytes of all entries that are needed.
    pub(super) fn live_bytes(&self) -> u64 {
        self.live.values().map(|live| live.bytes).sum()
    }

    /// Each group's last entry that is in a segment before `segment`; groups without one are left out.
    pub(super) fn last_before(&self, segment: u64) -> BTreeMap<GroupId, LogIndex> {
        let last = |(id, group): (&GroupId, &Group)| {
            let last = group.places.iter().rev().find(|(_, place)| place.segment < segment);
            last.map(|(index, _)| (*id, LogIndex(*index)))
        };
        self.groups.iter().filter_map(last).collect()
    }
}

fn hold(live: &mut BTreeMap<u64, Live>, place: Place) {
    let live = live.entry(place.segment).or_default();
    live.entries += 1;
    live.bytes += place.bytes();
}

fn free(live: &mut BTreeMap<u64, Live>, place: Place) {
    if let Some(found) = live.get_mut(&place.segment) {
        found.entries = found.entries.saturating_sub(1);
        found.bytes = found.bytes.saturating_sub(place.bytes());
        if found.entries == 0 {
            live.remove(&place.segment);
        }
    }
}
