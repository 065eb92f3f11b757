//! Small worlds for the store's tests.
#![allow(dead_code, reason = "each test binary uses its share")]

use std::path::Path;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use warren_proto::shard::{Enqueue, EnqueuedMessage, Op, Record, SettleReason};
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

/// Copies the files as they are now: what a crash at this moment would leave.
pub(crate) fn crash_image(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        if file.file_name() != "LOCK" {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
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
