//! What a leader does, one statement a test, in small worlds.

mod kit;

use kit::*;
use warren_proto::session::{
    Answer, Ask, DeleteOutcome, HomeFrame, LeaderFrame, Subscribe, SubscribeOutcome,
};
use warren_proto::shard::Op;
use warren_queue::{Input, SessionKey};
use warren_types::{AckMode, NodeId, Position, QueueHost, QueueId, SessionId, SubscriptionId};

#[test]
fn a_publish_is_confirmed_only_when_its_record_is_applied() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.hold = true;
    bench.publish(1, &["a", "b"]);
    assert_eq!(bench.marks(1).0, 0);
    bench.commit(1);
    assert_eq!(bench.marks(1).0, 2);
}

#[test]
fn publishes_that_wait_for_a_slot_become_one_record() {
    let mut bench =
        Bench::with(warren_queue::LeaderConfig { proposals_in_flight: 1, ..config() }, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench.attach(2, 2, 1);
    bench.hold = true;
    for (key, text) in [(1, "a"), (1, "b"), (2, "x"), (1, "c")] {
        bench.publish(key, &[text]);
    }
    assert_eq!(bench.pending.len(), 1);
    bench.commit(1);
    assert_eq!(bench.pending.len(), 1);
    assert_eq!(bench.pending[0].ops.len(), 2, "one Enqueue a session: {:?}", bench.pending[0]);
    bench.commit(1);
    assert_eq!((bench.marks(1).0, bench.marks(2).0), (3, 1));
}

#[test]
fn acknowledgements_wait_for_a_publish_to_be_recorded_with_but_not_for_long() {
    let config = warren_queue::LeaderConfig { settle_within_ms: 10, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench.frame(1, HomeFrame::Subscribe(consumer(7, 0)));
    bench.publish(1, &["a", "b", "c"]);
    assert_eq!(bench.delivered(1, 7), ["a", "b", "c"]);
    let before = bench.records.len();
    bench.settle(1, &[range(1, 1)]);
    assert_eq!((bench.records.len(), bench.marks(1).1), (before, 0));
    assert_eq!(bench.counts(), (0, 2), "it counts at once");
    bench.publish(1, &["d"]);
    let settles = |op: &Op| matches!(op, Op::Settle { .. });
    assert!(bench.records.last().unwrap().ops.iter().any(settles), "{:?}", bench.records);
    assert_eq!((bench.records.len(), bench.marks(1).1), (before + 1, 1));

    bench.settle(1, &[range(2, 2)]);
    bench.now.0 += 9;
    bench.settle(1, &[range(3, 3)]);
    assert_eq!((bench.records.len(), bench.marks(1).1), (before + 1, 0));
    assert_eq!(bench.leader.lazy_until(), Some(warren_types::UnixMillis(bench.now.0 + 1)));
    bench.now.0 += 1;
    bench.flush();
    assert_eq!((bench.records.len(), bench.marks(1).1), (before + 2, 3));
    assert_eq!(bench.store.live(Q), [Position(4)]);
}

#[test]
fn no_more_is_proposed_than_may_be_in_flight_but_for_one_record() {
    let config = warren_queue::LeaderConfig { record_bytes: 4, in_flight_bytes: 10, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench.hold = true;
    bench.publish(1, &["larger than what may be in flight", "b", "c"]);
    assert_eq!(bench.pending.len(), 1);
    bench.publish(1, &["1234", "5678", "9012", "3456"]);
    bench.commit(1);
    assert_eq!(bench.pending.len(), 3, "bc, 1234 and 5678 are ten octets");
    bench.commit(3);
    bench.commit(2);
    assert_eq!(bench.marks(1).0, 7);
}

#[test]
fn a_record_is_cut_at_its_bounds_and_one_large_message_still_passes() {
    let config = warren_queue::LeaderConfig { record_bytes: 10, record_messages: 3, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench.publish(1, &["1234", "5678", "9", "abcdefghijklmnop", "q", "r", "s", "t"]);
    let sizes: Vec<usize> = bench
        .ops()
        .filter_map(|op| if let Op::Enqueue(enqueue) = op { Some(enqueue.messages.len()) } else { None })
        .collect();
    assert_eq!(sizes, [3, 1, 3, 1]);
    assert_eq!(bench.marks(1).0, 8);
}

#[test]
fn a_repeated_publish_is_not_stored_twice() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.hold = true;
    bench.publish(1, &["a", "b"]);
    // The stream breaks before anything was confirmed; the home offers both again, and a new one.
    bench.attach(2, 1, 2);
    bench.publish(2, &["a", "b", "c"]);
    bench.hold = false;
    bench.commit(9);
    assert_eq!(bench.counts().0, 3);
    assert_eq!(bench.marks(2).0, 3);
}

#[test]
fn a_new_leader_drops_what_an_earlier_one_had_applied() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.hold = true;
    bench.publish(1, &["a"]);
    bench.publish(1, &["b"]);
    bench.hold = false;
    bench.fail_over(1, &[]);
    bench.attach(2, 1, 2);
    assert!(bench.frames(2).contains(&LeaderFrame::Attached { epoch: 2, last_seq: 1 }));
    bench.publish(2, &["a", "b"]);
    assert_eq!(bench.store.live(Q), [Position(1), Position(2)]);
}

#[test]
fn a_gap_in_a_sessions_sequences_ends_its_stream() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.frames(1);
    bench.frame(1, HomeFrame::Publish { first_seq: 3, messages: Vec::new() });
    assert_eq!(bench.frames(1), [LeaderFrame::NotLeader]);
    assert_eq!(bench.counts().0, 1);
}

#[test]
fn a_stream_that_does_not_begin_with_attach_is_refused() {
    let mut bench = Bench::new();
    bench.subscribe(7, 1, 0);
    assert_eq!(bench.frames(7), [LeaderFrame::NotLeader]);
}

#[test]
fn a_publish_to_a_deleted_queue_counts_as_done() {
    let mut bench = Bench::new();
    bench.directory.newest = QueueId(5);
    bench.attach(1, 1, 1);
    bench.publish_to(1, &[QueueId(5)], &["a"]);
    assert_eq!(bench.marks(1).0, 1);
    assert_eq!(bench.leader.list(), []);
}

#[test]
fn a_publish_to_a_queue_that_this_nodes_catalogue_has_not_met_waits_for_it() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish_to(1, &[Q], &["before"]);
    bench.publish_to(1, &[Q, QueueId(9)], &["a"]);
    bench.publish_to(1, &[Q], &["behind"]);
    assert_eq!(
        bench.ask(1, Ask::Info { queue: Q, uses: false, after_deaths: false }),
        None,
        "asked after what waits"
    );
    assert_eq!(bench.store.live(Q), [Position(1)]);
    bench.directory.declare(QueueId(9), false);
    bench.directory.revision += 1;
    bench.wait(250);
    assert_eq!(bench.marks(1).0, 3);
    assert_eq!(bench.store.live(Q), [Position(1), Position(2), Position(3)]);
    assert_eq!(bench.store.live(QueueId(9)), [Position(1)]);
}

#[test]
fn a_queue_that_was_deleted_before_this_nodes_catalogue_met_it_gets_nothing() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish_to(1, &[QueueId(9)], &["a"]);
    assert_eq!(bench.marks(1).0, 0);
    bench.directory.newest = QueueId(9);
    bench.directory.revision += 1;
    bench.wait(6000);
    assert_eq!(bench.marks(1).0, 1);
    assert_eq!(bench.leader.list().iter().map(|counts| counts.queue).collect::<Vec<_>>(), [] as [QueueId; 0]);
}

#[test]
fn a_home_that_comes_back_while_something_of_it_waits_offers_it_again() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish_to(1, &[QueueId(9)], &["a"]);
    bench.attach(2, 1, 2);
    bench.publish_to(2, &[QueueId(9)], &["a"]);
    bench.directory.declare(QueueId(9), false);
    bench.directory.revision += 1;
    bench.wait(250);
    assert_eq!(bench.marks(2).0, 1);
    assert_eq!(bench.store.live(QueueId(9)), [Position(1)]);
}

#[test]
fn one_message_goes_to_all_its_queues() {
    let mut bench = Bench::with(config(), Directory::with([1, 2]));
    bench.attach(1, 1, 1);
    bench.publish_to(1, &[Q, QueueId(2)], &["a"]);
    assert_eq!(bench.leader.counts(QueueId(2)).unwrap().ready, 1);
    assert_eq!(bench.counts(), (1, 0));
}

#[test]
fn messages_are_delivered_in_order_up_to_the_prefetch() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b", "c", "d"]);
    bench.subscribe(1, 10, 2);
    assert_eq!(bench.delivered(1, 10), ["a", "b"]);
    assert_eq!(bench.counts(), (2, 2));
    bench.settle(1, &[range(1, 1)]);
    assert_eq!(bench.delivered(1, 10), ["c"]);
    assert_eq!(bench.store.live(Q).len(), 3);
}

#[test]
fn subscribed_comes_before_the_first_delivery() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.frames(1);
    bench.subscribe(1, 10, 0);
    let frames = bench.frames(1);
    assert!(matches!(frames[0], LeaderFrame::Subscribed { outcome: SubscribeOutcome::Subscribed, .. }));
    assert!(matches!(frames[1], LeaderFrame::Deliver { .. }), "{frames:?}");
}

#[test]
fn deliveries_of_one_batch_travel_in_one_frame() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 0);
    bench.frames(1);
    bench.publish(1, &["a", "b", "c"]);
    let delivers = bench.frames(1).into_iter().filter(|frame| matches!(frame, LeaderFrame::Deliver { .. }));
    assert_eq!(delivers.count(), 1);
}

#[test]
fn the_transit_window_stops_deliveries_until_they_are_credited() {
    let config = warren_queue::LeaderConfig { transit_messages: 2, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 0);
    bench.publish(1, &["a", "b", "c", "d"]);
    assert_eq!(bench.delivered(1, 10), ["a", "b"]);
    bench.credit(1, 10, 1, 1);
    assert_eq!(bench.delivered(1, 10), ["c"]);
}

#[test]
fn a_message_larger_than_the_transit_window_passes_alone() {
    let config = warren_queue::LeaderConfig { transit_bytes: 3, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 0);
    bench.publish(1, &["too large", "b"]);
    assert_eq!(bench.delivered(1, 10), ["too large"]);
    bench.credit(1, 10, 1, 9);
    assert_eq!(bench.delivered(1, 10), ["b"]);
}

#[test]
fn consumers_that_take_nothing_leave_room_for_others_and_are_served_again_when_they_do() {
    // Windows of 64 octets, together 100: beyond that one each, at 400 none.
    let config = warren_queue::LeaderConfig {
        transit_messages: 32,
        transit_bytes: 64,
        transit_bytes_all: 100,
        ..config()
    };
    let mut bench = Bench::with(config, Directory::with([1, 2]));
    bench.attach(1, 1, 1);
    let message = "0123456789abcdef";
    for subscription in 10..60 {
        bench.subscribe(1, subscription, 0);
    }
    for _ in 0..100 {
        bench.publish(1, &[message]);
    }
    let taken: Vec<usize> = (10..60).map(|subscription| bench.delivered(1, subscription).len()).collect();
    let octets = 16 * taken.iter().sum::<usize>();
    assert!((400..500).contains(&octets), "{octets} octets are under way: {taken:?}");
    // Another queue of the host: nobody gets anything until there is room again.
    let other = warren_types::QueueId(2);
    bench.frame(1, HomeFrame::Subscribe(Subscribe { queue: other, ..consumer(99, 0) }));
    bench.publish_to(1, &[other], &["other"]);
    assert_eq!(bench.delivered(1, 99), [""; 0]);
    for (subscription, messages) in (10..60).zip(&taken) {
        let messages = u32::try_from(*messages).unwrap();
        bench.credit(1, subscription, messages, u64::from(messages) * 16);
    }
    assert_eq!(bench.delivered(1, 99), ["other"]);
    let more: usize = (10..60).map(|subscription| bench.delivered(1, subscription).len()).sum();
    assert!(more > 0);
    // A consumer that goes takes what it had under way along.
    for subscription in 10..60 {
        bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(subscription) });
    }
    bench.publish_to(1, &[other], &["a", "b", "c"]);
    assert_eq!(bench.delivered(1, 99), ["a", "b", "c"]);
}

#[test]
fn a_raised_prefetch_lets_more_through_and_a_lowered_one_less() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 1);
    bench.publish(1, &["a", "b", "c", "d"]);
    assert_eq!(bench.delivered(1, 10), ["a"]);
    bench.frame(1, HomeFrame::SetPrefetch { subscription: SubscriptionId(10), prefetch: 3 });
    assert_eq!(bench.delivered(1, 10), ["b", "c"]);
    bench.frame(1, HomeFrame::SetPrefetch { subscription: SubscriptionId(10), prefetch: 1 });
    bench.settle(1, &[range(1, 2)]);
    assert_eq!(bench.delivered(1, 10), [""; 0]);
    bench.settle(1, &[range(3, 3)]);
    assert_eq!(bench.delivered(1, 10), ["d"]);
}

#[test]
fn consumers_of_one_priority_take_turns() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 0);
    bench.subscribe(1, 11, 0);
    bench.subscribe(1, 12, 1);
    bench.publish(1, &["a", "b", "c", "d", "e"]);
    assert_eq!(bench.delivered(1, 10), ["a", "d"]);
    assert_eq!(bench.delivered(1, 11), ["b", "e"]);
    assert_eq!(bench.delivered(1, 12), ["c"]);
}

#[test]
fn the_highest_priority_with_room_is_served_first() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 0);
    let mut high = consumer(11, 2);
    high.priority = 5;
    bench.frame(1, HomeFrame::Subscribe(high));
    bench.publish(1, &["a", "b", "c"]);
    assert_eq!(bench.delivered(1, 11), ["a", "b"]);
    assert_eq!(bench.delivered(1, 10), ["c"]);
    bench.settle(1, &[range(2, 2)]);
    bench.publish(1, &["d", "e"]);
    assert_eq!(bench.delivered(1, 11), ["d"]);
    assert_eq!(bench.delivered(1, 10), ["e"]);
}

#[test]
fn an_exclusive_consumer_keeps_others_out_and_is_kept_out_by_others() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    let mut exclusive = consumer(10, 0);
    exclusive.exclusive = true;
    bench.frame(1, HomeFrame::Subscribe(exclusive.clone()));
    bench.subscribe(1, 11, 0);
    assert_eq!(bench.outcome(1), [SubscribeOutcome::Subscribed, SubscribeOutcome::ExclusiveUse]);
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(10) });
    bench.subscribe(1, 11, 0);
    bench.frame(1, HomeFrame::Subscribe(exclusive));
    assert_eq!(bench.outcome(1), [SubscribeOutcome::Subscribed, SubscribeOutcome::ExclusiveUse]);
}

#[test]
fn a_returned_message_is_delivered_before_newer_ones_and_marked() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b", "c", "d"]);
    bench.subscribe(1, 10, 3);
    bench.delivered(1, 10);
    bench.give_back(1, &[range(3, 3), range(1, 1)], true, true);
    assert_eq!(bench.delivered(1, 10), ["a*", "c*"]);
    assert_eq!(bench.counts(), (1, 3));
}

#[test]
fn a_message_that_no_client_saw_comes_back_unmarked() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    bench.subscribe(1, 10, 1);
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(10) });
    bench.give_back(1, &[range(1, 1)], false, false);
    assert_eq!(bench.get(1), Some((Some("a".to_owned()), 1)));
}

#[test]
fn only_failed_deliveries_are_counted_and_recorded() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.subscribe(1, 10, 1);
    let count = |bench: &mut Bench| {
        let frames = bench.frames(1).into_iter();
        frames
            .filter_map(|frame| match frame {
                LeaderFrame::Deliver { deliveries, .. } => Some(deliveries[0].delivery_count),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(count(&mut bench), [0]);
    bench.give_back(1, &[range(1, 1)], true, true);
    assert_eq!(count(&mut bench), [1]);
    bench.give_back(1, &[range(1, 1)], false, true);
    assert_eq!(count(&mut bench), [1]);
    assert_eq!(bench.ops().filter(|op| matches!(op, Op::Return { .. })).count(), 1);
    // And the next leader knows it too.
    bench.fail_over(0, &[]);
    bench.attach_with(2, 1, 2, vec![consumer(10, 1)], Vec::new());
    let frames = bench.frames(2);
    assert!(
        frames.iter().any(|frame| matches!(frame, LeaderFrame::Deliver { deliveries, .. }
            if deliveries[0].delivery_count == 1 && deliveries[0].redelivered)),
        "{frames:?}"
    );
}

#[test]
fn settling_what_another_session_holds_changes_nothing_but_is_acknowledged() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.attach(2, 2, 1);
    bench.publish(1, &["a"]);
    bench.subscribe(1, 10, 0);
    bench.settle(2, &[range(1, u64::MAX)]);
    assert_eq!(bench.marks(2).1, 1);
    assert_eq!(bench.counts(), (0, 1));
}

#[test]
fn a_settle_is_acknowledged_only_when_recorded_and_never_delivered_again_before() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    bench.subscribe(1, 10, 1);
    bench.frames(1);
    bench.hold = true;
    bench.settle(1, &[range(1, 1)]);
    bench.input(Input::SessionLost(SessionKey(1)));
    bench.attach_with(2, 1, 2, vec![consumer(10, 5)], vec![held(None, &[range(1, 1)])]);
    assert_eq!(bench.marks(1).1, 0);
    assert_eq!(bench.delivered(2, 10), ["b"]);
    bench.commit(9);
    assert_eq!(bench.store.live(Q), [Position(2)]);
    assert_eq!(bench.marks(2).1, 1);
}

#[test]
fn get_takes_the_first_message_and_says_how_many_are_left() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    assert_eq!(bench.get(1), Some((Some("a".to_owned()), 1)));
    assert_eq!(bench.get(1), Some((Some("b".to_owned()), 0)));
    assert_eq!(bench.get(1), Some((None, 0)));
    bench.give_back(1, &[range(1, 2)], false, true);
    assert_eq!(bench.get(1), Some((Some("a*".to_owned()), 1)));
}

#[test]
fn get_sees_what_its_session_published_just_before() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.hold = true;
    bench.publish(1, &["a"]);
    assert_eq!(bench.get(1), None);
    bench.commit(9);
    // One round for the publish, one for the mark.
    let frames = bench.frames(1);
    assert!(
        frames.iter().any(|frame| matches!(
            frame,
            LeaderFrame::Reply { answer: Answer::Got { delivery: Some(_), .. }, .. }
        )),
        "{frames:?}"
    );
}

#[test]
fn a_get_answer_lost_with_its_stream_is_not_a_lost_message() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.get(1);
    bench.attach(2, 1, 2);
    assert_eq!(bench.get(2), Some((Some("a".to_owned()), 0)));
}

#[test]
fn nothing_is_delivered_above_a_committed_mark() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    bench.hold = true;
    bench.subscribe(1, 10, 0);
    assert_eq!(bench.delivered(1, 10), [""; 0]);
    assert_eq!(bench.pending[0].ops, [Op::Reserve { queue: Q, up_to: Position(2) }]);
    bench.commit(1);
    assert_eq!(bench.delivered(1, 10), ["a", "b"]);
}

#[test]
fn the_mark_rides_on_the_enqueue_when_a_consumer_waits() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 0);
    bench.hold = true;
    bench.publish(1, &["a", "b"]);
    assert_eq!(bench.pending.len(), 1);
    assert!(bench.pending[0].ops.contains(&Op::Reserve { queue: Q, up_to: Position(2) }));
    bench.commit(1);
    assert_eq!(bench.delivered(1, 10), ["a", "b"]);
    assert!(bench.pending.is_empty());
}

#[test]
fn a_queue_without_consumers_reserves_nothing() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    assert_eq!(bench.ops().filter(|op| matches!(op, Op::Reserve { .. })).count(), 0);
}

#[test]
fn a_backlog_is_delivered_with_few_marks() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    for _ in 0..20 {
        bench.publish(1, &["m"; 100]);
    }
    bench.subscribe(1, 10, 10);
    let mut next = 1;
    while next <= 2000 {
        let count = bench.delivered(1, 10).len() as u64;
        assert!(count > 0, "stalled at {next}");
        bench.credit(1, 10, count as u32, count);
        bench.settle(1, &[range(next, next + count - 1)]);
        next += count;
    }
    let marks = bench.ops().filter(|op| matches!(op, Op::Reserve { .. })).count();
    assert!(marks <= 12, "{marks} marks for 2000 messages");
    assert_eq!(bench.store.live(Q), []);
}

#[test]
fn a_transient_host_needs_no_marks() {
    let mut bench = Bench::with(
        warren_queue::LeaderConfig { host: QueueHost::Node(NodeId(1)), ..config() },
        Directory::with([1]),
    );
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 0);
    bench.publish(1, &["a"]);
    assert_eq!(bench.delivered(1, 10), ["a"]);
    assert_eq!(bench.ops().filter(|op| matches!(op, Op::Reserve { .. })).count(), 0);
}

#[test]
fn purge_takes_what_is_ready_and_leaves_what_is_delivered() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b", "c", "d"]);
    bench.subscribe(1, 10, 2);
    bench.delivered(1, 10);
    assert_eq!(bench.ask(1, Ask::Purge { queue: Q }), Some(Answer::Purged(2)));
    assert_eq!(bench.counts(), (0, 2));
    assert_eq!(bench.store.live(Q), [Position(1), Position(2)]);
    bench.publish(1, &["e"]);
    bench.give_back(1, &[range(2, 2)], false, true);
    assert_eq!(bench.delivered(1, 10), ["b*"]);
    bench.settle(1, &[range(1, 2)]);
    assert_eq!(bench.delivered(1, 10), ["e"]);
}

#[test]
fn purge_is_answered_only_when_recorded() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.hold = true;
    assert_eq!(bench.ask(1, Ask::Purge { queue: Q }), None);
    bench.commit(1);
    let frames = bench.frames(1);
    assert!(frames.iter().any(|frame| matches!(frame, LeaderFrame::Reply { answer: Answer::Purged(1), .. })));
}

#[test]
fn a_queue_is_deleted_only_when_unused_and_empty_as_asked() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.subscribe(1, 10, 1);
    let check = |if_unused, if_empty| Ask::CheckDelete { queue: Q, if_unused, if_empty };
    let outcome = |outcome| Some(Answer::CheckDelete(outcome));
    assert_eq!(bench.ask(1, check(true, false)), outcome(DeleteOutcome::InUse));
    bench.publish(1, &["b"]);
    assert_eq!(bench.ask(1, check(false, true)), outcome(DeleteOutcome::NotEmpty));
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(10) });
    bench.frames(1);
    assert_eq!(bench.ask(1, check(true, false)), outcome(DeleteOutcome::May { messages: 1 }));
    // For some seconds nobody may begin to use it.
    bench.subscribe(1, 11, 1);
    assert_eq!(bench.outcome(1), [SubscribeOutcome::NoQueue]);
    bench.wait(5001);
    bench.subscribe(1, 12, 1);
    assert_eq!(bench.outcome(1), [SubscribeOutcome::Subscribed]);
}

#[test]
fn a_deleted_queue_cancels_its_consumers_and_is_forgotten() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.subscribe(1, 10, 1);
    bench.frames(1);
    bench.directory.queues.clear();
    bench.input(Input::QueueDeleted(Q));
    assert_eq!(bench.frames(1), [LeaderFrame::Cancelled { subscription: SubscriptionId(10) }]);
    assert_eq!(bench.store.opening_state().queues, []);
    assert_eq!(bench.leader.stats().cached_bytes, 0);
    // An acknowledgement of what it held is harmless.
    bench.settle(1, &[range(1, 1)]);
    assert_eq!(bench.marks(1).1, 1);
    assert_eq!(bench.ask(1, Ask::Info { queue: Q, uses: false, after_deaths: false }), Some(Answer::NoQueue));
    bench.subscribe(1, 11, 1);
    assert_eq!(bench.outcome(1), [SubscribeOutcome::NoQueue]);
}

#[test]
fn a_publish_that_waits_does_not_bring_a_deleted_queue_back() {
    let config = warren_queue::LeaderConfig { proposals_in_flight: 1, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench.hold = true;
    bench.publish(1, &["a"]);
    bench.publish(1, &["b"]);
    bench.directory.queues.clear();
    bench.input(Input::QueueDeleted(Q));
    bench.hold = false;
    bench.commit(9);
    assert_eq!(bench.store.opening_state().queues, []);
    assert_eq!(bench.marks(1).0, 2);
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let mut bench = Bench::new();
    bench.directory.declare(Q, true);
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.subscribe(1, 10, 1);
    bench.subscribe(1, 11, 1);
    assert_eq!(bench.ops().filter(|op| matches!(op, Op::MarkUsed { .. })).count(), 1);
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(10) });
    assert_eq!(bench.deletes, []);
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(11) });
    assert_eq!(bench.deletes, [Q]);
    bench.wait(5000);
    bench.wait(5000);
    assert!(bench.deletes.len() >= 2, "asked for again until it is gone");
}

#[test]
fn a_queue_that_goes_is_not_there_for_who_declares_it_and_is_for_who_counts() {
    let mut bench = Bench::new();
    bench.directory.declare(Q, true);
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 1);
    let declares = Ask::Info { queue: Q, uses: true, after_deaths: false };
    let counts = Ask::Info { queue: Q, uses: false, after_deaths: false };
    assert!(matches!(bench.ask(1, declares.clone()), Some(Answer::Info(_))));
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(10) });
    assert_eq!(bench.deletes, [Q]);
    assert_eq!(bench.ask(1, declares), Some(Answer::NoQueue));
    assert!(matches!(bench.ask(1, counts), Some(Answer::Info(_))));
}

#[test]
fn an_auto_delete_queue_outlives_a_broken_stream_but_not_a_lost_session() {
    let mut bench = Bench::new();
    bench.directory.declare(Q, true);
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 1);
    bench.input(Input::SessionLost(SessionKey(1)));
    bench.wait(2000);
    bench.attach_with(2, 1, 2, vec![consumer(10, 1)], Vec::new());
    bench.wait(4000);
    assert_eq!(bench.deletes, []);
    bench.input(Input::SessionLost(SessionKey(2)));
    bench.wait(3000);
    assert_eq!(bench.deletes, [Q]);
}

#[test]
fn a_used_auto_delete_queue_to_which_nobody_comes_back_goes_after_the_grace() {
    let mut bench = Bench::new();
    bench.directory.declare(Q, true);
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 1);
    bench.fail_over(0, &[1]);
    bench.wait(2999);
    assert_eq!(bench.deletes, []);
    bench.wait(1);
    assert_eq!(bench.deletes, [Q]);
}

#[test]
fn a_lost_session_keeps_what_it_holds_for_the_grace_only() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.attach(2, 2, 1);
    bench.publish(1, &["a", "b"]);
    bench.subscribe(1, 10, 1);
    bench.input(Input::SessionLost(SessionKey(1)));
    bench.subscribe(2, 20, 0);
    bench.wait(2999);
    assert_eq!(bench.delivered(2, 20), ["b"]);
    bench.wait(1);
    assert_eq!(bench.delivered(2, 20), ["a*"]);
    assert_eq!(bench.leader.counts(Q).unwrap().consumers, 1);
}

#[test]
fn what_a_dead_node_held_goes_back_at_once() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.attach(2, 2, 1);
    bench.publish(1, &["a"]);
    bench.subscribe(1, 10, 1);
    bench.subscribe(2, 20, 0);
    bench.input(Input::SessionLost(SessionKey(1)));
    bench.input(Input::NodeDead(NodeId(1)));
    assert_eq!(bench.delivered(2, 20), ["a*"]);
}

#[test]
fn a_node_that_starts_anew_gives_up_what_its_earlier_start_held() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.subscribe(1, 10, 1);
    bench.frames(1);
    // Node 1 again, at a later start, as another session.
    bench.attach(2, 101, 1);
    assert_eq!(bench.frames(1), [LeaderFrame::NotLeader]);
    assert!(bench.ops().any(|op| *op == Op::CloseSession { session: SessionId(1) }));
    assert_eq!(bench.store.opening_state().sessions, []);
    assert_eq!(bench.get(2), Some((Some("a*".to_owned()), 0)));
    // And the earlier start, should it still live somewhere, is refused.
    bench.attach(3, 1, 9);
    assert_eq!(bench.frames(3), [LeaderFrame::NotLeader]);
}

#[test]
fn an_older_attachment_of_a_session_is_refused_and_a_newer_one_replaces() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 5);
    bench.attach(2, 1, 4);
    assert_eq!(bench.frames(2), [LeaderFrame::NotLeader]);
    bench.frames(1);
    bench.attach(3, 1, 6);
    assert_eq!(bench.frames(1), [LeaderFrame::NotLeader]);
    assert_eq!(bench.frames(3), [LeaderFrame::Attached { epoch: 6, last_seq: 0 }]);
}

#[test]
fn deliveries_lost_with_a_stream_are_sent_again_unmarked_and_claimed_ones_are_not() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b", "c"]);
    bench.subscribe(1, 10, 3);
    // The home got only the first.
    bench.attach_with(2, 1, 2, vec![consumer(10, 3)], vec![held(Some(10), &[range(1, 1)])]);
    assert_eq!(bench.delivered(2, 10), ["b", "c"]);
    assert_eq!(bench.counts(), (0, 3));
}

#[test]
fn a_new_leader_withholds_what_may_be_held_until_every_node_has_spoken() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.attach(2, 2, 1);
    bench.subscribe(1, 10, 1);
    bench.subscribe(2, 20, 1);
    bench.publish(1, &["a", "b", "c"]);
    bench.fail_over(0, &[1, 2]);
    bench.attach_with(3, 1, 2, vec![consumer(10, 2)], vec![held(Some(10), &[range(1, 1)])]);
    assert_eq!(bench.delivered(3, 10), [""; 0]);
    bench.attach_with(4, 2, 2, vec![consumer(20, 1)], vec![held(Some(20), &[range(2, 2)])]);
    // "c" was reserved with the others, so it may have been delivered.
    assert_eq!(bench.delivered(3, 10), ["c*"]);
    assert_eq!(bench.counts(), (0, 3));
    bench.settle(4, &[range(2, 2)]);
    assert_eq!(bench.store.live(Q), [Position(1), Position(3)]);
}

#[test]
fn a_new_leader_releases_what_nobody_claims_after_the_grace() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 1);
    bench.publish(1, &["a"]);
    bench.fail_over(0, &[1, 2]);
    bench.attach_with(2, 2, 1, vec![consumer(20, 0)], Vec::new());
    assert_eq!(bench.counts(), (0, 1));
    bench.wait(3000);
    assert_eq!(bench.delivered(2, 20), ["a*"]);
    // The late one is told nothing; its acknowledgement changes nothing.
    bench.attach_with(1, 1, 2, vec![consumer(10, 1)], vec![held(Some(10), &[range(1, 1)])]);
    bench.settle(1, &[range(1, 1)]);
    assert_eq!(bench.store.live(Q), [Position(1)]);
}

#[test]
fn a_dead_node_is_not_waited_for_after_a_failover() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 1);
    bench.publish(1, &["a"]);
    bench.fail_over(0, &[1, 2]);
    bench.attach_with(2, 2, 1, vec![consumer(20, 0)], Vec::new());
    bench.input(Input::NodeDead(NodeId(1)));
    assert_eq!(bench.delivered(2, 20), ["a*"]);
}

#[test]
fn what_was_never_delivered_is_not_marked_after_a_failover() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "b"]);
    bench.fail_over(0, &[1]);
    bench.attach_with(2, 1, 2, vec![consumer(10, 0)], Vec::new());
    assert_eq!(bench.delivered(2, 10), ["a", "b"]);
}

#[test]
fn a_claim_of_what_does_not_exist_is_ignored() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.fail_over(0, &[1]);
    bench.attach_with(2, 1, 2, Vec::new(), vec![held(None, &[range(1, u64::MAX)])]);
    assert_eq!(bench.counts(), (1, 0));
}

#[test]
fn a_backlog_larger_than_the_cache_is_read_back_in_order() {
    let config = warren_queue::LeaderConfig { cache_bytes: 64, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    let texts: Vec<String> = (0..500).map(|number| format!("{number:016}")).collect();
    for chunk in texts.chunks(50) {
        bench.publish(1, &chunk.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert!(bench.leader.stats().cached_bytes <= 64);
    bench.subscribe(1, 10, 0);
    let mut got = Vec::new();
    loop {
        let more = bench.delivered(1, 10);
        if more.is_empty() {
            break;
        }
        bench.credit(1, 10, more.len() as u32, 16 * more.len() as u64);
        got.extend(more);
    }
    assert_eq!(got, texts);
    assert!(bench.loads > 0);
}

#[test]
fn an_idle_queue_gives_its_cache_to_one_with_a_consumer() {
    let config = warren_queue::LeaderConfig { cache_bytes: 100, ..config() };
    let mut bench = Bench::with(config, Directory::with([1, 2]));
    bench.attach(1, 1, 1);
    bench.publish_to(1, &[QueueId(2)], &["x".repeat(90).as_str()]);
    bench.publish(1, &["y".repeat(50).as_str(), "z".repeat(50).as_str()]);
    assert_eq!(bench.leader.stats().cached_bytes, 90);
    bench.subscribe(1, 10, 1);
    assert_eq!(bench.delivered(1, 10).len(), 1);
    assert!(bench.leader.stats().cached_bytes <= 50);
    // What was put out of memory is still there.
    let got = bench.ask(1, Ask::Get { queue: QueueId(2), ack_mode: AckMode::Manual });
    assert!(matches!(got, Some(Answer::Got { delivery: Some(_), .. })));
}

#[test]
fn the_machine_says_when_too_much_waits_for_the_log() {
    let config = warren_queue::LeaderConfig { proposals_in_flight: 1, gather_bytes: 100, ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench.hold = true;
    bench.publish(1, &["first"]);
    assert!(!bench.leader.is_full());
    bench.publish(1, &["x".repeat(100).as_str()]);
    assert!(bench.leader.is_full());
    bench.commit(2);
    assert!(!bench.leader.is_full());
}

#[test]
fn a_session_that_never_comes_back_is_forgotten() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.publish(1, &["a"]);
    bench.input(Input::SessionLost(SessionKey(1)));
    bench.wait(3000);
    bench.wait(24 * 3600 * 1000);
    assert_eq!(bench.store.opening_state().sessions, []);
    assert_eq!(bench.leader.stats().sessions, 0);
}

#[test]
fn lists_and_counts_tell_ready_and_unacked_apart() {
    let mut bench = Bench::with(config(), Directory::with([1, 2]));
    bench.attach(1, 1, 1);
    bench.publish(1, &["a", "bb", "ccc"]);
    bench.subscribe(1, 10, 1);
    let Some(Answer::List(list)) = bench.ask(1, Ask::List) else { panic!("no list") };
    assert_eq!(list.len(), 1);
    let counts = list[0];
    assert_eq!((counts.ready, counts.unacked, counts.consumers, counts.ready_bytes), (2, 1, 1, 5));
    assert_eq!(
        bench.ask(1, Ask::Info { queue: QueueId(2), uses: false, after_deaths: false }),
        Some(Answer::Info(warren_proto::session::Counts { queue: QueueId(2), ..Default::default() }))
    );
}
