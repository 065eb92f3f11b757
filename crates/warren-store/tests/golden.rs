//! Logs of earlier versions mean what they always meant. A file of `golden/` is one record a line, in hexadecimal; it
//! is never changed. A new version of the record adds a file.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use warren_proto::shard::{OpeningState, QueueState, Record};
use warren_store::shard::ShardState;
use warren_types::{LogIndex, Position, PositionRange, QueueId, SessionId, Term};

fn records(file: &str) -> Vec<Bytes> {
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    let line = |line: &str| line.as_bytes().chunks(2).map(byte).collect::<Vec<_>>().into();
    file.lines().map(line).collect()
}

#[test]
fn a_log_of_version_1_replays_to_the_same_state() {
    let mut state = ShardState::new();
    let mut given = Vec::new();
    for (bytes, index) in records(include_str!("golden/shard-1.hex")).into_iter().zip(1..) {
        let record = Record::decode(bytes.clone()).unwrap();
        assert_eq!(record.encode(), bytes, "record {index}");
        given.push(state.apply(LogIndex(index), Term(index / 4), &record).unwrap());
    }
    let given: Vec<Vec<u64>> =
        given.into_iter().map(|list| list.into_iter().map(|at| at.0).collect()).collect();
    assert_eq!(given, [vec![1, 2, 1, 3], vec![0, 4, 1], vec![], vec![], vec![2, 5], vec![]]);
    let range = |first, last| PositionRange { first: Position(first), last: Position(last) };
    let first = QueueState {
        queue: QueueId(1),
        next_position: Position(6),
        live: 3,
        live_bytes: 9,
        mark: Position(4),
        maybe_delivered: vec![range(1, 1), range(3, 3)],
        used: true,
    };
    let second = QueueState {
        queue: QueueId(300),
        next_position: Position(3),
        live: 1,
        live_bytes: 3,
        mark: Position(0),
        maybe_delivered: vec![],
        used: false,
    };
    let expected = OpeningState {
        applied: LogIndex(6),
        queues: vec![first, second],
        sessions: vec![(SessionId(0xfeed_beef), 7)],
        refused: vec![],
    };
    assert_eq!(state.opening(), expected);
    assert_eq!(state.fingerprint(), 10_498_759_774_895_593_019);
}
