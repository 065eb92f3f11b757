//! What readers of streams see: everything, each at its place, which is the same for all.

use std::collections::{BTreeMap, BTreeSet};

use super::{History, Inner, MessageId};

/// A stream, as all readers together have seen it.
#[derive(Default)]
pub(super) struct Stream {
    /// What is at which offset.
    places: BTreeMap<u64, MessageId>,
    offsets: BTreeMap<MessageId, u64>,
    /// What was read again from the beginning when all was over.
    at_the_end: BTreeSet<MessageId>,
    /// Sessions of readers.
    readers: BTreeMap<u64, Reader>,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    First,
    Offset(u64),
    Next,
}

struct Reader {
    from: From,
    /// The highest offset that anybody had seen when it began.
    seen: Option<u64>,
    last: Option<u64>,
    /// It is to read everything once more.
    at_the_end: bool,
}

impl Stream {
    pub(super) fn was_read_at_the_end(&self, id: MessageId) -> bool {
        self.at_the_end.contains(&id)
    }

    /// What is wrong with this message at this place.
    fn take(&mut self, session: u64, offset: u64, id: MessageId) -> Option<String> {
        let reader = self.readers.get_mut(&session)?;
        let last = reader.last.replace(offset);
        if reader.at_the_end {
            self.at_the_end.insert(id);
        }
        let expected = match (last, reader.from) {
            (Some(last), _) => offset == last + 1,
            (None, From::First) => offset == 0,
            (None, From::Offset(from)) => offset == from,
            (None, From::Next) => reader.seen.is_none_or(|seen| offset > seen),
        };
        if !expected {
            let from = reader.from;
            return Some(format!("{id} comes at {offset} after {last:?}, to a reader from {from:?}"));
        }
        let there = *self.places.entry(offset).or_insert(id);
        if there != id {
            return Some(format!("{id} is at {offset}, where {there} was"));
        }
        let known = *self.offsets.entry(id).or_insert(offset);
        (known != offset).then(|| format!("{id} is at {offset} and at {known}"))
    }
}

impl History {
    /// Somebody begins to read.
    pub(crate) fn reads(&self, session: u64, queue: usize, from: From, at_the_end: bool) {
        let mut inner = self.0.lock();
        let stream = inner.streams.entry(queue).or_default();
        let seen = stream.places.last_key_value().map(|(offset, _)| *offset);
        stream.readers.insert(session, Reader { from, seen, last: None, at_the_end });
    }
}

impl Inner {
    /// Everything is at its place.
    pub(super) fn check_place(
        &mut self,
        session: u64,
        queue: usize,
        offset: Option<u64>,
        id: MessageId,
        redelivered: bool,
    ) {
        let wrong = match (self.streams.get_mut(&queue), offset) {
            _ if redelivered => Some(format!("{id} is flagged as redelivered")),
            (Some(stream), Some(offset)) => stream.take(session, offset, id),
            (_, None) => Some(format!("{id} comes without its offset")),
            (None, Some(_)) => None,
        };
        if let Some(wrong) = wrong {
            self.violation(format_args!("stream: q{queue}: {wrong}"));
        }
    }
}
