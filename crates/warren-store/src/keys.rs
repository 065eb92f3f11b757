//! The whole key layout, in one place. Numbers are big-endian, so that keys sort as the numbers do.
//!
//! | Column family | Key | Value |
//! | --- | --- | --- |
//! | `log` | group, `h`, kind | vote, committed, purge marker (sealed) |
//! | `log` | group, `l`, index | one log entry: checksum, term, leader, payload |
//! | `state` | group, 0, `A` | applied index, generation, purge floor, Raft's own (sealed) |
//! | `state` | shard, generation, `Q`, queue | next position, mark, used (sealed) |
//! | `state` | shard, generation, `R`, queue, first position | one run with its settled ranges and counts (sealed) |
//! | `state` | shard, generation, `N`, session | last sequence (sealed) |
//! | `state` | shard, generation, `M`, queue, position | a moved message, or where its shared body is (sealed) |
//! | `state` | shard, generation, `S`, log index, ordinal | a message that went to several queues (sealed) |
//! | `state` | `ff ff ff ff`, name | a blob (sealed) |
//!
//! A shard's generation changes when a snapshot replaces its state; other generations are rubbish.

use warren_types::{GroupId, QueueId, SessionId, ShardId};

/// The last number of a key.
pub(crate) fn last_number(key: &[u8]) -> Option<u64> {
    key.last_chunk::<8>().map(|index| u64::from_be_bytes(*index))
}

pub(crate) fn applied(group: GroupId) -> [u8; 9] {
    let mut key = [0; 9];
    fill(&mut key, &[&group.0.to_be_bytes(), &0_u32.to_be_bytes(), b"A"]);
    key
}

pub(crate) fn blob(name: &str) -> Vec<u8> {
    let mut key = vec![0xff; 4];
    key.extend_from_slice(name.as_bytes());
    key
}

/// The keys of one generation of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) shard: ShardId,
    pub(crate) generation: u32,
}

impl Space {
    /// The first key of this generation: everything from here to [`Space::end`] is its.
    pub(crate) fn start(self) -> Vec<u8> {
        [self.shard.0.to_be_bytes(), self.generation.to_be_bytes()].concat()
    }

    pub(crate) fn end(self) -> Vec<u8> {
        Self { generation: self.generation.saturating_add(1), ..self }.start()
    }

    /// Prefix of everything of one kind.
    pub(crate) fn kind(self, kind: u8) -> Vec<u8> {
        let mut key = self.start();
        key.push(kind);
        key
    }

    pub(crate) fn queue(self, queue: QueueId) -> Vec<u8> {
        self.one(b'Q', queue.0)
    }

    pub(crate) fn session(self, session: SessionId) -> Vec<u8> {
        self.one(b'N', session.0)
    }

    pub(crate) fn run(self, queue: QueueId, first: u64) -> Vec<u8> {
        self.two(b'R', queue.0, first)
    }

    pub(crate) fn message(self, queue: QueueId, position: u64) -> Vec<u8> {
        self.two(b'M', queue.0, position)
    }

    pub(crate) fn shared(self, index: u64, ordinal: u32) -> Vec<u8> {
        let mut key = self.one(b'S', index);
        key.extend_from_slice(&ordinal.to_be_bytes());
        key
    }

    /// The keys of one kind and one first number: `(from, to)`, the end excluded.
    pub(crate) fn all_of(self, kind: u8, number: u64) -> (Vec<u8>, Vec<u8>) {
        let end = match number.checked_add(1) {
            Some(next) => self.one(kind, next),
            None => self.kind(kind.saturating_add(1)),
        };
        (self.one(kind, number), end)
    }

    fn one(self, kind: u8, number: u64) -> Vec<u8> {
        let mut key = self.kind(kind);
        key.extend_from_slice(&number.to_be_bytes());
        key
    }

    fn two(self, kind: u8, first: u64, second: u64) -> Vec<u8> {
        let mut key = self.one(kind, first);
        key.extend_from_slice(&second.to_be_bytes());
        key
    }
}

/// The number after the kind byte of a key in a [`Space`].
pub(crate) fn first_number(key: &[u8]) -> Option<u64> {
    key.get(9..).and_then(|rest| rest.first_chunk::<8>()).map(|number| u64::from_be_bytes(*number))
}

fn fill(key: &mut [u8], parts: &[&[u8]]) {
    let bytes = parts.iter().flat_map(|part| part.iter());
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from;
    }
}
