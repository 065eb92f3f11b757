//! Spine 14: where a message's bytes are. They come with a log entry; what is still needed when that part of the
//! log is purged has been moved to the message store, one value per queue and position, or, for a message that
//! went to several queues, one value per log entry and message.

use std::collections::BTreeSet;

use bytes::Bytes;
use warren_proto::shard::{EnqueuedMessage, Op, Record};
use warren_types::{GroupId, Message, QueueId, ShardId};

use crate::keys::Space;
use crate::rocks::Rocks;
use crate::shard::{Run, ShardState, Unmoved};
use crate::values::{self, Moved};
use crate::{LogEntry, StoreError, checksum};

/// The messages of a log entry, numbered as [`Run::ordinal`] counts them.
pub(crate) fn messages(group: GroupId, entry: LogEntry) -> Result<Vec<EnqueuedMessage>, StoreError> {
    if entry.kind != LogEntry::RECORD {
        return Err(StoreError::Damaged { group, index: entry.index });
    }
    let index = entry.index;
    let record =
        Record::decode(entry.payload).map_err(|reason| StoreError::Record { group, index, reason })?;
    Ok(record
        .ops
        .into_iter()
        .filter_map(|op| match op {
            Op::Enqueue(enqueue) => Some(enqueue.messages),
            Op::Settle { .. }
            | Op::Return { .. }
            | Op::Reserve { .. }
            | Op::Purge { .. }
            | Op::DropQueue { .. }
            | Op::CloseSession { .. }
            | Op::Refuse { .. }
            | Op::MarkUsed { .. } => None,
        })
        .flatten()
        .collect())
}

/// The positions of a run with the number of the message at each, in order.
pub(crate) fn places(
    run: &Run,
    queue: QueueId,
    messages: &[EnqueuedMessage],
) -> impl Iterator<Item = (u64, usize)> {
    let first = run.ordinal() as usize;
    let named = messages.iter().enumerate().skip(first).flat_map(move |(ordinal, message)| {
        message.queues.iter().filter(move |id| **id == queue).map(move |_| ordinal)
    });
    (run.first..=run.last()).zip(named)
}

/// One value of the message store.
pub(crate) enum Body {
    Message { queue: QueueId, position: u64, value: Vec<u8> },
    Shared { entry: u64, ordinal: u32, value: Vec<u8> },
}

/// A live message of a log entry: where it is in its queue, and its number in the entry.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    queue: QueueId,
    position: u64,
    ordinal: usize,
}

/// The live messages of one log entry. Cheap: for use under the replica's lock.
pub(crate) fn live(state: &ShardState, unmoved: &Unmoved, messages: &[EnqueuedMessage]) -> Vec<Place> {
    let mut found = Vec::new();
    for (queue, first) in &unmoved.runs {
        let Some((run, live)) = state.live_of(*queue, *first).filter(|(run, _)| run.entry == unmoved.entry)
        else {
            continue;
        };
        let mut live = live.into_iter().peekable();
        for (position, ordinal) in places(&run, *queue, messages) {
            while live.peek().is_some_and(|(_, last)| *last < position) {
                live.next();
            }
            if live.peek().is_none_or(|(first, _)| *first > position) {
                continue;
            }
            found.push(Place { queue: *queue, position, ordinal });
        }
    }
    found
}

/// Gives `put` what the message store needs of one log entry's live messages: each body once.
pub(crate) fn bodies<E>(
    entry: u64,
    live: &[Place],
    messages: &[EnqueuedMessage],
    mut put: impl FnMut(Body) -> Result<(), E>,
) -> Result<(), E> {
    let mut shared = BTreeSet::new();
    for Place { queue, position, ordinal } in live.iter().copied() {
        let Some(message) = messages.get(ordinal) else {
            continue;
        };
        let value = if message.queues.len() > 1 {
            let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
            if shared.insert(ordinal) {
                put(Body::Shared { entry, ordinal, value: values::encode_shared(&message.message) })?;
            }
            values::encode_reference(entry, ordinal)
        } else {
            values::encode_own(&message.message)
        };
        put(Body::Message { queue, position, value })?;
    }
    Ok(())
}

/// Reads moved messages at ascending `positions` of one queue; those that are not there are left out.
pub(crate) fn read_moved(
    rocks: &Rocks,
    space: Space,
    queue: QueueId,
    positions: impl Iterator<Item = u64>,
    mut take: impl FnMut(u64, Message) -> bool,
) -> Result<(), StoreError> {
    let damaged = || StoreError::DamagedState { group: GroupId::from(space.shard), what: "a message" };
    for position in positions {
        let Some(value) = sealed(rocks, space.shard, &space.message(queue, position))? else {
            continue;
        };
        let message = match values::decode_moved(&value).ok_or_else(damaged)? {
            Moved::Own(message) => message,
            Moved::Shared { entry, ordinal } => {
                let Some(value) = sealed(rocks, space.shard, &space.shared(entry, ordinal))? else {
                    continue;
                };
                values::decode_shared(&value).ok_or_else(damaged)?
            }
        };
        if !take(position, message) {
            break;
        }
    }
    Ok(())
}

fn sealed(rocks: &Rocks, shard: ShardId, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
    let Some(value) = rocks.get_state(key)? else {
        return Ok(None);
    };
    let value = Bytes::from(value);
    match checksum::unseal(key, &value) {
        Some(inner) => Ok(Some(value.slice_ref(inner))),
        None => Err(StoreError::DamagedState { group: GroupId::from(shard), what: "a message" }),
    }
}
