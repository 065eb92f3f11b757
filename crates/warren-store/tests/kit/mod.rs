//! Small worlds for the store's tests.
#![allow(dead_code, reason = "each test binary uses its share")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use proptest::prelude::*;
use warren_proto::shard::{Enqueue, EnqueuedMessage, Op, OpeningState, QueueState, Record, SettleReason};
use warren_store::{Done, GroupLog, LogEntry, Store, StoreError, StoreOptions};
use warren_types::{
    GroupId, LogIndex, Message, NodeId, Position, PositionRange, QueueId, SessionId, ShortStr, Term,
    UnixMillis,
};

pub(crate) fn open(dir: &Path) -> Store {
    Store::open(dir, small()).expect("opens")
}

/// Small enough that tests reach the limits.
pub(crate) fn small() -> StoreOptions {
    StoreOptions { tail_bytes: 16 << 10, queue_bytes: 1 << 20, ..StoreOptions::default() }
}

/// Copies the files as they are now: what a crash at this moment would leave. A compaction that ends meanwhile would
/// make a picture of no moment at all: then once more.
pub(crate) fn crash_image(from: &Path, to: &Path) {
    loop {
        let before = listing(from);
        std::fs::remove_dir_all(to).unwrap_or_default();
        std::fs::create_dir_all(to.join("log")).unwrap();
        let copied = before
            .iter()
            .filter(|(name, _)| name != Path::new("LOCK"))
            .all(|(name, _)| std::fs::copy(from.join(name), to.join(name)).is_ok());
        if copied && listing(from) == before {
            return;
        }
    }
}

/// Names and sizes, also of the log's directory.
fn listing(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut found = Vec::new();
    for below in ["", "log"] {
        for file in std::fs::read_dir(dir.join(below)).unwrap().map(Result::unwrap) {
            let data = file.metadata();
            if data.as_ref().is_ok_and(std::fs::Metadata::is_file) {
                let name = Path::new(below).join(file.file_name());
                found.push((name, data.map_or(0, |data| data.len())));
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn entry(index: u64, payload: impl Into<Bytes>) -> LogEntry {
    LogEntry {
        index: LogIndex(index),
        term: Term(1),
        node: NodeId(7),
        kind: LogEntry::RECORD,
        payload: payload.into(),
    }
}

pub(crate) fn ignore() -> Done {
    Box::new(|outcome| outcome.expect("written"))
}

/// Runs something that takes a `Done` and waits for its outcome.
pub(crate) fn wait(ask: impl FnOnce(Done)) -> Result<(), StoreError> {
    let (tell, told) = sync_channel(1);
    ask(Box::new(move |outcome| tell.send(outcome).unwrap()));
    told.recv().unwrap()
}

pub(crate) fn append(log: &GroupLog, entries: Vec<LogEntry>) {
    wait(|done| log.append(entries, done)).expect("appended");
}

pub(crate) fn all(log: &GroupLog) -> Vec<LogEntry> {
    let Some((first, last)) = log.first_last() else {
        return Vec::new();
    };
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut next = first.0;
    while next <= last.0 {
        let read = log.read(LogIndex(next), LogIndex(last.0 + 1), 1 << 20).expect("readable");
        next = read.last().expect("at least one").index.0 + 1;
        entries.extend(read);
    }
    entries
}

pub(crate) const G: GroupId = GroupId(1);
pub(crate) const Q1: QueueId = QueueId(1);
pub(crate) const Q2: QueueId = QueueId(2);

pub(crate) fn message(body: impl Into<Bytes>) -> Message {
    Message {
        exchange: ShortStr::try_from("amq.direct").unwrap(),
        routing_key: ShortStr::try_from("key").unwrap(),
        properties: Bytes::from_static(&[0, 0]),
        body: body.into(),
    }
}

/// An enqueue of messages with sequences from `first_seq`.
pub(crate) fn enqueue(session: u64, first_seq: u64, messages: &[(&[QueueId], &str)]) -> Op {
    let messages: Vec<EnqueuedMessage> = messages
        .iter()
        .zip(first_seq..)
        .map(|((queues, body), seq)| EnqueuedMessage {
            seq,
            queues: queues.to_vec(),
            message: message(body.to_string()),
        })
        .collect();
    let last_seq = messages.last().map_or(0, |message| message.seq);
    Op::Enqueue(Enqueue { session: SessionId(session), last_seq, messages })
}

pub(crate) fn settle(queue: QueueId, ranges: &[(u64, u64)]) -> Op {
    Op::Settle { queue, reason: SettleReason::Acked, ranges: self::ranges(ranges) }
}

pub(crate) fn ranges(ranges: &[(u64, u64)]) -> Vec<PositionRange> {
    ranges
        .iter()
        .map(|(first, last)| PositionRange { first: Position(*first), last: Position(*last) })
        .collect()
}

pub(crate) fn record(ops: impl Into<Vec<Op>>) -> Record {
    Record { time: UnixMillis(1_700_000_000_000), ops: ops.into() }
}

/// A replicated queue as anybody would write it: the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NaiveQueue {
    pub(crate) next: u64,
    pub(crate) mark: u64,
    pub(crate) used: bool,
    /// Position, delivery count, body.
    pub(crate) messages: Vec<(u64, u32, Bytes)>,
}

/// A shard as anybody would write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Naive {
    pub(crate) queues: BTreeMap<u64, NaiveQueue>,
    pub(crate) sessions: BTreeMap<u64, u64>,
    pub(crate) refused: BTreeMap<u64, std::collections::BTreeSet<u64>>,
}

impl Naive {
    fn queue(&mut self, queue: QueueId) -> &mut NaiveQueue {
        self.queues.entry(queue.0).or_insert_with(|| NaiveQueue { next: 1, ..NaiveQueue::default() })
    }

    pub(crate) fn apply(&mut self, record: &Record) -> Vec<Position> {
        let inside = |ranges: &[PositionRange], position: u64| {
            ranges.iter().any(|range| (range.first.0..=range.last.0).contains(&position))
        };
        let mut positions = Vec::new();
        for op in &record.ops {
            match op {
                Op::Enqueue(enqueue) => {
                    let passed = self.sessions.get(&enqueue.session.0).copied().unwrap_or_default();
                    for message in &enqueue.messages {
                        for queue in &message.queues {
                            if message.seq <= passed {
                                positions.push(Position(0));
                                continue;
                            }
                            let queue = self.queue(*queue);
                            positions.push(Position(queue.next));
                            queue.messages.push((queue.next, 0, message.message.body.clone()));
                            queue.next += 1;
                        }
                    }
                    let passed = self.sessions.entry(enqueue.session.0).or_default();
                    *passed = (*passed).max(enqueue.last_seq);
                }
                Op::Settle { queue, ranges, .. } => {
                    if let Some(queue) = self.queues.get_mut(&queue.0) {
                        queue.messages.retain(|(position, ..)| !inside(ranges, *position));
                    }
                }
                Op::Return { queue, ranges } => {
                    for range in ranges {
                        let queue = self.queues.get_mut(&queue.0);
                        for (position, count, _) in queue.into_iter().flat_map(|queue| &mut queue.messages) {
                            *count += u32::from(inside(&[*range], *position));
                        }
                    }
                }
                Op::Reserve { queue, up_to } => {
                    let queue = self.queue(*queue);
                    queue.mark = queue.mark.max(up_to.0);
                }
                Op::Purge { queue, up_to, keep } => {
                    if let Some(queue) = self.queues.get_mut(&queue.0) {
                        let stays = |position: u64| position > up_to.0 || inside(keep, position);
                        queue.messages.retain(|(position, ..)| stays(*position));
                    }
                }
                Op::DropQueue { queue } => {
                    self.queues.remove(&queue.0);
                }
                Op::Refuse { session, learned, sequences } => {
                    let refused = self.refused.entry(session.0).or_default();
                    refused.extend(sequences);
                    refused.retain(|sequence| sequence > learned);
                    self.sessions.entry(session.0).or_default();
                }
                Op::CloseSession { session } => {
                    self.refused.remove(&session.0);
                    self.sessions.remove(&session.0);
                }
                Op::MarkUsed { queue } => self.queue(*queue).used = true,
            }
        }
        positions
    }

    /// What a leader finds.
    pub(crate) fn opening(&self, applied: u64) -> OpeningState {
        let queue_state = |(id, queue): (&u64, &NaiveQueue)| QueueState {
            queue: QueueId(*id),
            next_position: Position(queue.next),
            live: queue.messages.len() as u64,
            live_bytes: queue.messages.iter().map(|(_, _, body)| body.len() as u64).sum(),
            mark: Position(queue.mark),
            maybe_delivered: PositionRange::collect(
                queue
                    .messages
                    .iter()
                    .map(|(position, ..)| Position(*position))
                    .filter(|at| at.0 <= queue.mark),
            ),
            used: queue.used,
        };
        OpeningState {
            applied: LogIndex(applied),
            queues: self.queues.iter().map(queue_state).collect(),
            sessions: self.sessions.iter().map(|(session, seq)| (SessionId(*session), *seq)).collect(),
            refused: (self.refused.iter().filter(|(_, refused)| !refused.is_empty()))
                .map(|(session, refused)| (SessionId(*session), refused.iter().copied().collect()))
                .collect(),
        }
    }
}

/// Records over three queues and two sessions whose bodies all have `BODY` bytes, so that sums of bytes are exact.
pub(crate) const BODY: usize = 600;

pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    proptest::collection::vec(any_op(), 1..4).prop_map(record)
}

fn any_op() -> impl Strategy<Value = Op> {
    let queue = || (1_u64..4).prop_map(QueueId);
    let some_ranges = || {
        proptest::collection::vec((0_u64..40, 0_u64..6), 1..4).prop_map(|list| {
            ranges(&list.iter().map(|(first, more)| (*first, first + more)).collect::<Vec<_>>())
        })
    };
    let queues = proptest::sample::subsequence(vec![QueueId(1), QueueId(2), QueueId(3)], 0..=3);
    let messages = proptest::collection::vec((queues, any::<u8>()), 0..8);
    prop_oneof![
        8 => (1_u64..3, 1_u64..30, messages).prop_map(|(session, first_seq, messages)| {
            let messages: Vec<EnqueuedMessage> = messages
                .into_iter()
                .zip(first_seq..)
                .map(|((queues, fill), seq)| EnqueuedMessage { seq, queues, message: message(vec![fill; BODY]) })
                .collect();
            let last_seq = first_seq + messages.len() as u64;
            Op::Enqueue(Enqueue { session: SessionId(session), last_seq, messages })
        }),
        6 => (queue(), some_ranges())
            .prop_map(|(queue, ranges)| Op::Settle { queue, reason: SettleReason::Acked, ranges }),
        2 => (queue(), some_ranges()).prop_map(|(queue, ranges)| Op::Return { queue, ranges }),
        2 => (queue(), 0_u64..50).prop_map(|(queue, up_to)| Op::Reserve { queue, up_to: Position(up_to) }),
        1 => (queue(), 0_u64..50, some_ranges())
            .prop_map(|(queue, up_to, keep)| Op::Purge { queue, up_to: Position(up_to), keep }),
        1 => queue().prop_map(|queue| Op::DropQueue { queue }),
        3 => (1_u64..3).prop_map(|session| Op::CloseSession { session: SessionId(session) }),
        1 => queue().prop_map(|queue| Op::MarkUsed { queue }),
        2 => (1_u64..3, 0_u64..20, proptest::collection::btree_set(1_u64..30, 0..4)).prop_map(
            |(session, learned, sequences)| Op::Refuse {
                session: SessionId(session),
                learned,
                sequences: sequences.into_iter().collect(),
            },
        ),
    ]
}
