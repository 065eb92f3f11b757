//! What records do to a shard's state: tables for each operation, and a naive shard for everything else.

#![allow(clippy::unwrap_used, reason = "tests")]

mod kit;

use kit::{Naive, Q1, Q2, any_record, enqueue, ranges, record, settle};
use proptest::prelude::*;
use warren_proto::shard::{Op, QueueState, Record};
use warren_store::shard::{ApplyError, Change, ShardState};
use warren_types::{LogIndex, Position, QueueId, SessionId, Term};

/// First and last position.
type Range = (u64, u64);

/// Applies records at 1, 2, …
fn state(records: &[Record]) -> ShardState {
    let mut state = ShardState::new();
    for (record, index) in records.iter().zip(1..) {
        state.apply(LogIndex(index), Term(1), record).unwrap();
    }
    state
}

fn queue(state: &ShardState, id: QueueId) -> QueueState {
    state.opening().queues.into_iter().find(|queue| queue.queue == id).unwrap()
}

/// The live positions of a queue, found by raising the mark above them.
fn live(state: &ShardState, id: QueueId) -> Vec<u64> {
    let mut state = state.clone();
    let index = LogIndex(state.applied().0 + 1);
    let mark = Op::Reserve { queue: id, up_to: Position(u64::MAX) };
    state.apply(index, Term(1), &record([mark])).unwrap();
    queue(&state, id).maybe_delivered.into_iter().flat_map(|range| range.iter()).map(|at| at.0).collect()
}

fn counts(state: &ShardState, id: QueueId) -> Vec<(u64, u32)> {
    state
        .everything()
        .flat_map(|change| match change {
            Change::PutRun { queue, counts, .. } if queue == id => counts,
            _ => Vec::new(),
        })
        .collect()
}

#[test]
fn each_queue_gives_its_own_positions_in_order() {
    let mut state = ShardState::new();
    let given = state.apply(
        LogIndex(1),
        Term(1),
        &record([enqueue(1, 1, &[(&[Q1], "a"), (&[Q1, Q2], "b"), (&[], "c"), (&[Q2], "d")])]),
    );
    assert_eq!(given.unwrap(), [Position(1), Position(2), Position(1), Position(2)]);
    let given = state.apply(LogIndex(2), Term(1), &record([enqueue(1, 5, &[(&[Q1], "e")])]));
    assert_eq!(given.unwrap(), [Position(3)]);
    assert_eq!(queue(&state, Q1).next_position, Position(4));
    assert_eq!(queue(&state, Q1).live_bytes, 3);
}

#[test]
fn a_sequence_that_the_session_has_passed_is_skipped() {
    let mut state = state(&[record([enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b")])])]);
    let repeated =
        record([enqueue(1, 2, &[(&[Q1, Q2], "b"), (&[Q1], "c")]), enqueue(2, 2, &[(&[Q1], "other")])]);
    let given = state.apply(LogIndex(2), Term(1), &repeated).unwrap();
    assert_eq!(given, [Position(0), Position(0), Position(3), Position(4)]);
    assert_eq!(live(&state, Q1), [1, 2, 3, 4]);
    assert_eq!(state.opening().sessions, [(SessionId(1), 3), (SessionId(2), 2)]);
}

#[test]
fn a_closed_session_begins_anew() {
    let state = state(&[
        record([enqueue(1, 7, &[(&[Q1], "a")])]),
        record([Op::CloseSession { session: SessionId(1) }]),
        record([enqueue(1, 1, &[(&[Q1], "b")])]),
    ]);
    assert_eq!(live(&state, Q1), [1, 2]);
    assert_eq!(state.opening().sessions, [(SessionId(1), 1)]);
}

#[test]
fn settling_is_final_and_repeating_it_is_harmless() {
    let five = enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b"), (&[Q1], "c"), (&[Q1], "d"), (&[Q1], "e")]);
    let cases: &[(&[Range], &[u64])] = &[
        (&[(1, 1)], &[2, 3, 4, 5]),
        (&[(2, 3), (5, 5)], &[1, 4]),
        (&[(2, 3), (2, 3), (3, 4)], &[1, 5]),
        (&[(0, 0), (6, 900)], &[1, 2, 3, 4, 5]),
        (&[(0, u64::MAX)], &[]),
        (&[(4, 2)], &[1, 2, 3, 4, 5]),
    ];
    for (settled, expected) in cases {
        let once = state(&[record([five.clone()]), record([settle(Q1, settled)])]);
        assert_eq!(live(&once, Q1), *expected, "settled {settled:?}");
        assert_eq!(queue(&once, Q1).live, expected.len() as u64, "settled {settled:?}");
        assert_eq!(queue(&once, Q1).live_bytes, expected.len() as u64, "settled {settled:?}");
        assert_eq!(queue(&once, Q1).next_position, Position(6));
        let twice = state(&[record([five.clone()]), record([settle(Q1, settled), settle(Q1, settled)])]);
        assert_eq!(once.fingerprint(), twice.fingerprint(), "settled {settled:?}");
    }
}

#[test]
fn settling_the_rest_leaves_nothing_behind() {
    let state = state(&[
        record([enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b"), (&[Q1], "c")])]),
        record([Op::Return { queue: Q1, ranges: ranges(&[(1, 3)]) }, settle(Q1, &[(2, 2)])]),
        record([settle(Q1, &[(1, 1), (3, 3)])]),
    ]);
    assert_eq!(state.runs(), 0);
    assert_eq!(counts(&state, Q1), []);
    assert_eq!(queue(&state, Q1).live_bytes, 0);
}

#[test]
fn an_entry_settles_what_it_brought_itself() {
    let state = state(&[record([
        enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b")]),
        settle(Q1, &[(1, 1)]),
        enqueue(1, 3, &[(&[Q1], "c")]),
    ])]);
    assert_eq!(live(&state, Q1), [2, 3]);
}

#[test]
fn returns_count_only_what_is_live() {
    let state = state(&[
        record([enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b"), (&[Q1], "c")])]),
        record([settle(Q1, &[(2, 2)]), Op::Return { queue: Q1, ranges: ranges(&[(1, 90), (3, 3)]) }]),
        record([Op::Return { queue: Q2, ranges: ranges(&[(1, 1)]) }]),
    ]);
    assert_eq!(counts(&state, Q1), [(1, 1), (3, 2)]);
    assert_eq!(state.opening().queues.len(), 1);
}

#[test]
fn the_mark_only_rises_and_names_what_is_live_below_it() {
    let reserve = |up_to| Op::Reserve { queue: Q1, up_to: Position(up_to) };
    let state = state(&[
        record([reserve(3), enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b"), (&[Q1], "c"), (&[Q1], "d")])]),
        record([reserve(1), settle(Q1, &[(2, 2)])]),
    ]);
    assert_eq!(queue(&state, Q1).mark, Position(3));
    assert_eq!(queue(&state, Q1).maybe_delivered, ranges(&[(1, 1), (3, 3)]));
}

#[test]
fn a_purge_spares_what_is_kept_and_what_is_newer() {
    let five = enqueue(1, 1, &[(&[Q1], "a"), (&[Q1], "b"), (&[Q1], "c"), (&[Q1], "d"), (&[Q1], "e")]);
    let purge = |up_to, keep| Op::Purge { queue: Q1, up_to: Position(up_to), keep: ranges(keep) };
    let cases: &[(Op, &[u64])] = &[
        (purge(4, &[]), &[5]),
        (purge(4, &[(2, 3)]), &[2, 3, 5]),
        (purge(9, &[(4, 4), (1, 1)]), &[1, 4]),
        (purge(0, &[]), &[1, 2, 3, 4, 5]),
        (purge(u64::MAX, &[]), &[]),
    ];
    for (purge, expected) in cases {
        let state = state(&[record([five.clone()]), record([purge.clone()])]);
        assert_eq!(live(&state, Q1), *expected, "{purge:?}");
    }
}

#[test]
fn a_dropped_queue_is_forgotten() {
    let state = state(&[
        record([enqueue(1, 1, &[(&[Q1, Q2], "a")]), Op::MarkUsed { queue: Q2 }]),
        record([Op::DropQueue { queue: Q1 }]),
    ]);
    let queues = state.opening().queues;
    assert_eq!(queues.len(), 1);
    assert!(queues[0].used);
    assert_eq!(live(&state, Q2), [1]);
}

#[test]
fn an_entry_is_applied_once() {
    let mut state = ShardState::new();
    // A blank entry at 0 is what a new log may begin with.
    state.set_applied(LogIndex(0), Term(0)).unwrap();
    state.apply(LogIndex(5), Term(2), &record([enqueue(1, 1, &[(&[Q1], "a")])])).unwrap();
    let before = state.fingerprint();
    for index in [0, 4, 5] {
        assert_eq!(
            state.apply(LogIndex(index), Term(2), &record([enqueue(1, 2, &[(&[Q1], "b")])])),
            Err(ApplyError::OutOfTurn { found: LogIndex(index), applied: LogIndex(5) }),
        );
    }
    assert_eq!(state.fingerprint(), before);
    assert_eq!((state.applied(), state.applied_term()), (LogIndex(5), Term(2)));
}

#[test]
fn a_backlog_costs_memory_by_the_entry_not_by_the_message() {
    let mut state = ShardState::new();
    let messages: Vec<(&[QueueId], &str)> = vec![(&[Q1], "body"); 100];
    for index in 1..=2000 {
        let record = record([enqueue(1, index * 100, &messages)]);
        state.apply(LogIndex(index), Term(1), &record).unwrap();
    }
    assert_eq!(queue(&state, Q1).live, 200_000);
    assert!(state.memory() < 2000 * 44, "{} bytes", state.memory());
}

#[test]
fn a_checkpoint_names_only_what_changed() {
    let mut state = ShardState::new();
    for index in 1..=100 {
        let record = record([enqueue(1, index * 2, &[(&[Q1], "a"), (&[Q1], "b")])]);
        state.apply(LogIndex(index), Term(1), &record).unwrap();
    }
    assert_eq!(state.take_changes().len(), 102, "the queue, its runs, the session");
    assert_eq!(state.take_changes(), []);
    let settled = record([settle(Q1, &[(1, 21), (24, 24)])]);
    state.apply(LogIndex(101), Term(1), &settled).unwrap();
    let changes = state.take_changes();
    let removed = Change::DeleteRuns { queue: Q1, first: 1, last: 20, runs: 10 };
    assert_eq!(changes.len(), 4, "{changes:?}");
    assert!(changes.contains(&removed), "{changes:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_agrees_with_a_naive_shard(records in proptest::collection::vec(any_record(), 1..40)) {
        let mut state = ShardState::new();
        let mut naive = Naive::default();
        for (record, index) in records.iter().zip(1..) {
            let given = state.apply(LogIndex(index), Term(1), record).unwrap();
            prop_assert_eq!(given, naive.apply(record));
            prop_assert_eq!(state.opening(), naive.opening(index));
            for (id, queue) in &naive.queues {
                let expected: Vec<(u64, u32)> =
                    queue.messages.iter().filter(|(_, count, _)| *count > 0).map(|(at, count, _)| (*at, *count)).collect();
                prop_assert_eq!(counts(&state, QueueId(*id)), expected);
                let positions: Vec<u64> = queue.messages.iter().map(|(position, ..)| *position).collect();
                prop_assert_eq!(live(&state, QueueId(*id)), positions);
            }
        }
    }

    #[test]
    fn equal_records_make_equal_fingerprints_and_others_do_not(records in proptest::collection::vec(any_record(), 1..20)) {
        let (one, two) = (state(&records), state(&records));
        prop_assert_eq!(one.fingerprint(), two.fingerprint());
        let mut more = one.clone();
        let index = LogIndex(one.applied().0 + 1);
        more.apply(index, Term(1), &record([enqueue(9, 1, &[(&[Q1], "x")])])).unwrap();
        let mut blank = one.clone();
        blank.set_applied(index, Term(1)).unwrap();
        prop_assert_ne!(more.fingerprint(), blank.fingerprint());
    }
}
