//! Deduplication: the keys of the messages that a queue has taken last. A message whose key is among them is done with:
//! its publisher is told that it is safe, and nothing is stored.
//!
//! Each key is recorded with its message, in the same record, as a tiny message in the queue's lane of keys; one that
//! falls out of the window is settled there. So the window is as durable as the queue, and a new leader reads it back
//! before it takes anything that has a key.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use warren_proto::shard::{QueueState, StoredMessage};
use warren_types::{AMQPValue, Deduplication, Message, Position, UnixMillis};

use super::stamp;
use crate::lane::LaneId;

/// Longer keys are kept as a hash.
const KEY_MAX: usize = 128;
/// Most keys read at once.
const READ_MAX: u32 = 4096;

#[derive(Debug)]
struct Entry {
    key: Bytes,
    since: UnixMillis,
    /// Where the log has it; not known before its record is applied.
    position: Option<Position>,
}

/// A queue's window.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// In the order in which they came.
    entries: BTreeMap<u64, Entry>,
    by_key: HashMap<Bytes, u64>,
    next: u64,
    /// What an earlier leader took is not all read: up to where it is, and where it ends.
    opening: Option<(Position, Position)>,
    loading: bool,
}

/// The key of a message, if it has one: a string, a number or a boolean in the header.
pub(crate) fn key(message: &Message, settings: &Deduplication) -> Option<Bytes> {
    let number = |tag: u8, value: i64| [&[tag][..], &value.to_be_bytes()].concat();
    let text = |value: &[u8]| [b"s", value].concat();
    let key = match stamp::header(&message.properties, &settings.header)? {
        AMQPValue::ShortString(v) => text(v.as_str().as_bytes()),
        AMQPValue::LongString(v) => text(v.as_bytes()),
        AMQPValue::ByteArray(v) => text(v.as_slice()),
        AMQPValue::Boolean(v) => number(b't', v.into()),
        AMQPValue::ShortShortInt(v) => number(b'i', v.into()),
        AMQPValue::ShortShortUInt(v) => number(b'i', v.into()),
        AMQPValue::ShortInt(v) => number(b'i', v.into()),
        AMQPValue::ShortUInt(v) => number(b'i', v.into()),
        AMQPValue::LongInt(v) => number(b'i', v.into()),
        AMQPValue::LongUInt(v) => number(b'i', v.into()),
        AMQPValue::LongLongInt(v) => number(b'i', v),
        AMQPValue::Float(v) => [b"d", &f64::from(v).to_bits().to_be_bytes()[..]].concat(),
        AMQPValue::Double(v) => [b"d", &v.to_bits().to_be_bytes()[..]].concat(),
        AMQPValue::Timestamp(v) => [b"T", &v.to_be_bytes()[..]].concat(),
        AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::Void => {
            return None;
        }
    };
    if key.len() <= KEY_MAX {
        return Some(key.into());
    }
    Some([&b"h"[..], &hash(&key).to_be_bytes()].concat().into())
}

/// FNV-1a of 128 bits: what is recorded must mean the same in every version.
fn hash(bytes: &[u8]) -> u128 {
    let mix = |hash: u128, byte: &u8| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    };
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, mix)
}

impl Window {
    /// Takes the keys as the replica has them: they are still to be read.
    pub(crate) fn open(&mut self, state: &QueueState) {
        let end = LaneId::KEYS.position(Position(state.next_position.0.saturating_sub(1)));
        self.opening = (state.live > 0).then_some((LaneId::KEYS.start(), end));
    }

    /// Nothing with a key may be taken yet.
    pub(crate) fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// Where to read on, and how much.
    pub(crate) fn read_wanted(&mut self) -> Option<(Position, u32)> {
        let (after, _) = self.opening?;
        (!std::mem::replace(&mut self.loading, true)).then_some((after, READ_MAX))
    }

    /// Takes keys that were read; true once all are.
    pub(crate) fn loaded(&mut self, messages: &[StoredMessage], end: bool) -> bool {
        self.loading = false;
        let Some((after, last)) = self.opening else { return false };
        let mut seen = after;
        for stored in messages {
            seen = LaneId::KEYS.position(stored.position);
            // A slice would hold all that was read with it.
            let key = Bytes::copy_from_slice(&stored.message.body);
            self.push(key, stored.time, Some(seen));
        }
        let done = end || messages.is_empty() || seen >= last;
        self.opening = (!done).then_some((seen, last));
        done
    }

    /// Whether the key is in it.
    pub(crate) fn contains(&self, key: &Bytes, settings: &Deduplication, now: UnixMillis) -> bool {
        let entry = self.by_key.get(key).and_then(|number| self.entries.get(number));
        entry.is_some_and(|entry| !is_old(entry, settings, now))
    }

    /// Takes the key of a message that is on its way to the log.
    pub(crate) fn add(&mut self, key: Bytes, now: UnixMillis) {
        self.push(key, now, None);
    }

    /// The message will never be recorded: its key is no key.
    pub(crate) fn forget(&mut self, key: &Bytes) {
        if let Some(number) = self.by_key.remove(key) {
            self.entries.remove(&number);
        }
    }

    /// The log has the key at this place. Returns the place where it need not have it: this one, if the key is out of the
    /// window already, or an earlier one, if it was out of it in between.
    pub(crate) fn recorded(&mut self, key: &Bytes, position: Position) -> Option<Position> {
        let entry = self.by_key.get(key).and_then(|number| self.entries.get_mut(number));
        match entry {
            Some(entry) => entry.position.replace(position),
            None => Some(position),
        }
    }

    /// Removes what is too old or too many; returns where the log has it.
    pub(crate) fn trim(&mut self, settings: &Deduplication, now: UnixMillis) -> Vec<Position> {
        let mut gone = Vec::new();
        while let Some(first) = self.entries.first_entry() {
            if self.by_key.len() as u64 <= settings.size && !is_old(first.get(), settings, now) {
                break;
            }
            let (number, entry) = first.remove_entry();
            if self.by_key.get(&entry.key) == Some(&number) {
                self.by_key.remove(&entry.key);
            }
            gone.extend(entry.position);
        }
        gone
    }

    fn push(&mut self, key: Bytes, since: UnixMillis, position: Option<Position>) {
        self.next += 1;
        self.by_key.insert(key.clone(), self.next);
        self.entries.insert(self.next, Entry { key, since, position });
    }
}

fn is_old(entry: &Entry, settings: &Deduplication, now: UnixMillis) -> bool {
    settings.ttl_ms.is_some_and(|ttl| entry.since.0.saturating_add(ttl) <= now.0)
}
