//! `x-single-active-consumer`: who gets messages, who follows, and who it is after a change of leaders.

mod kit;

use kit::*;
use warren_proto::session::{HomeFrame, Subscribe};
use warren_types::{NodeId, QueueSettings, SubscriptionId};

/// `active`: that it was the one under an earlier leader, and since when.
fn single(subscription: u64, prefetch: u32, active: Option<u64>) -> Subscribe {
    Subscribe { single_active: true, active, ..consumer(subscription, prefetch) }
}

fn subscribe(bench: &mut Bench, key: u64, subscription: u64, prefetch: u32) {
    bench.frame(key, HomeFrame::Subscribe(single(subscription, prefetch, None)));
}

#[test]
fn only_the_first_consumer_gets_messages_also_when_it_has_no_room() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    subscribe(&mut bench, 1, 10, 2);
    // A higher priority changes nothing.
    bench.frame(1, HomeFrame::Subscribe(Subscribe { priority: 5, ..single(11, 0, None) }));
    bench.publish(1, &["a", "b", "c"]);
    assert_eq!(bench.delivered(1, 10), ["a", "b"]);
    assert_eq!(bench.delivered(1, 11), [""; 0]);
    bench.settle(1, &[range(1, 1)]);
    assert_eq!(bench.delivered(1, 10), ["c"]);
}

#[test]
fn the_next_in_order_follows_an_active_one_that_is_cancelled() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.attach(2, 2, 1);
    subscribe(&mut bench, 1, 10, 0);
    subscribe(&mut bench, 2, 20, 0);
    subscribe(&mut bench, 1, 11, 0);
    bench.publish(1, &["a"]);
    assert_eq!(bench.delivered(1, 10), ["a"]);
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(10) });
    bench.publish(1, &["b"]);
    assert_eq!(bench.delivered(2, 20), ["b"]);
    bench.frame(2, HomeFrame::Unsubscribe { subscription: SubscriptionId(20) });
    bench.publish(1, &["c"]);
    assert_eq!(bench.delivered(1, 11), ["c"]);
}

#[test]
fn a_waiting_one_that_goes_is_skipped_and_one_that_comes_later_waits_behind_all() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    for subscription in [10, 11, 12] {
        subscribe(&mut bench, 1, subscription, 0);
    }
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(11) });
    subscribe(&mut bench, 1, 13, 0);
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(10) });
    bench.publish(1, &["a"]);
    assert_eq!(bench.delivered(1, 12), ["a"]);
    assert_eq!(bench.delivered(1, 13), [""; 0]);
}

#[test]
fn the_active_one_keeps_its_turn_while_its_session_may_come_back_and_loses_it_when_its_node_is_dead() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.attach(2, 2, 1);
    subscribe(&mut bench, 1, 10, 0);
    subscribe(&mut bench, 2, 20, 0);
    bench.input(warren_queue::Input::SessionLost(warren_queue::SessionKey(1)));
    bench.publish(2, &["a"]);
    assert_eq!(bench.delivered(2, 20), [""; 0]);
    bench.input(warren_queue::Input::NodeDead(NodeId(1)));
    bench.flush();
    assert_eq!(bench.delivered(2, 20), ["a"]);
}

#[test]
fn after_a_change_of_leaders_the_one_that_was_active_stays_so_whoever_attaches_first() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.attach(2, 2, 1);
    subscribe(&mut bench, 1, 10, 0);
    subscribe(&mut bench, 2, 20, 0);
    bench.publish(1, &["a"]);
    assert_eq!(bench.delivered(1, 10), ["a"]);
    bench.settle(1, &[range(1, 1)]);
    bench.fail_over(9, &[1, 2]);
    bench.attach_with(4, 2, 2, vec![single(20, 0, None)], vec![]);
    bench.publish(4, &["b"]);
    assert_eq!(bench.delivered(4, 20), [""; 0], "the other node has not said who was active");
    bench.attach_with(3, 1, 2, vec![single(10, 0, Some(1))], vec![]);
    assert_eq!(bench.delivered(3, 10), ["b"]);
    assert_eq!(bench.delivered(4, 20), [""; 0]);
}

#[test]
fn after_a_change_of_leaders_one_that_waited_follows_an_active_one_that_is_gone() {
    let mut bench = Bench::new();
    bench.fail_over(0, &[1, 2]);
    bench.attach_with(4, 2, 2, vec![single(20, 0, None)], vec![]);
    bench.publish(4, &["a"]);
    assert_eq!(bench.delivered(4, 20), [""; 0]);
    bench.input(warren_queue::Input::NodeDead(NodeId(1)));
    bench.flush();
    assert_eq!(bench.delivered(4, 20), ["a"]);
}

#[test]
fn of_two_that_were_active_the_later_one_is_whoever_attaches_first() {
    for order in [[1, 2], [2, 1]] {
        let mut bench = Bench::new();
        bench.attach(1, 1, 1);
        bench.attach(2, 2, 1);
        subscribe(&mut bench, 1, 10, 0);
        subscribe(&mut bench, 2, 20, 0);
        bench.publish(2, &["a"]);
        let since = bench.active_since(1, 10);
        // The first one's node cannot be reached, and does not know that it is given up.
        bench.input(warren_queue::Input::NodeDead(NodeId(1)));
        bench.flush();
        assert_eq!(bench.delivered(2, 20), ["a*"]);
        bench.publish(2, &["b"]);
        let later = bench.active_since(2, 20);
        assert!(later > since, "{later} {since}");
        bench.settle(2, &[range(1, 2)]);
        bench.fail_over(9, &[1, 2]);
        for node in order {
            let (subscription, since) = if node == 1 { (10, since) } else { (20, later) };
            let subscriptions = vec![single(subscription, 0, Some(since))];
            bench.attach_with(node + 2, node, 2, subscriptions, vec![]);
        }
        bench.publish(3, &["c"]);
        assert_eq!(bench.delivered(3, 10), [""; 0], "{order:?}");
        assert!(bench.active_since(4, 20) > later);
        assert_eq!(bench.delivered(4, 20), ["c"]);
    }
}

/// A quorum queue.
fn by_priority() -> Bench {
    let mut directory = Directory::with([1]);
    let settings = QueueSettings { active_by_priority: true, ..QueueSettings::default() };
    directory.settings.insert(Q, std::sync::Arc::new(settings));
    let mut bench = Bench::with(config(), directory);
    bench.attach(1, 1, 1);
    bench
}

fn subscribe_at(bench: &mut Bench, subscription: u64, priority: i32) {
    bench.frame(1, HomeFrame::Subscribe(Subscribe { priority, ..single(subscription, 0, None) }));
}

#[test]
fn in_a_quorum_queue_one_of_higher_priority_takes_over_at_once_where_nothing_is_held() {
    let mut bench = by_priority();
    subscribe_at(&mut bench, 10, 0);
    subscribe_at(&mut bench, 11, 0);
    bench.publish(1, &["a"]);
    assert_eq!(bench.delivered(1, 10), ["a"]);
    bench.settle(1, &[range(1, 1)]);
    subscribe_at(&mut bench, 12, 1);
    bench.publish(1, &["b"]);
    assert_eq!(bench.delivered(1, 12), ["b"]);
    // Back to the one that has waited longest.
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(12) });
    bench.publish(1, &["c"]);
    assert_eq!(bench.delivered(1, 10), ["c"]);
}

#[test]
fn in_a_quorum_queue_the_active_one_gets_nothing_new_until_it_holds_nothing_and_another_takes_over() {
    let mut bench = by_priority();
    subscribe_at(&mut bench, 10, 0);
    bench.publish(1, &["a", "b"]);
    assert_eq!(bench.delivered(1, 10), ["a", "b"]);
    subscribe_at(&mut bench, 11, 3);
    subscribe_at(&mut bench, 12, 7);
    bench.settle(1, &[range(1, 1)]);
    bench.publish(1, &["c"]);
    assert_eq!(bench.delivered(1, 10), [""; 0]);
    assert_eq!(bench.delivered(1, 12), [""; 0]);
    // What it gives back goes to the next one, too.
    bench.give_back(1, &[range(2, 2)], true, true);
    assert_eq!(bench.delivered(1, 12), ["b*", "c"]);
    assert_eq!(bench.delivered(1, 11), [""; 0]);
}

#[test]
fn in_a_quorum_queue_the_active_one_goes_on_where_the_one_that_was_to_take_over_is_gone() {
    let mut bench = by_priority();
    subscribe_at(&mut bench, 10, 0);
    bench.publish(1, &["a"]);
    subscribe_at(&mut bench, 11, 1);
    bench.publish(1, &["b"]);
    assert_eq!(bench.delivered(1, 10), ["a"]);
    bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(11) });
    assert_eq!(bench.delivered(1, 10), ["b"]);
}

#[test]
fn in_a_quorum_queue_of_those_that_wait_the_highest_priority_follows_and_the_oldest_of_it() {
    let mut bench = by_priority();
    for (subscription, priority) in [(10, 9), (11, 1), (12, 5), (13, 5)] {
        subscribe_at(&mut bench, subscription, priority);
    }
    for (position, subscription) in (1..).zip([10, 12, 13, 11]) {
        bench.publish(1, &["a"]);
        assert_eq!(bench.delivered(1, subscription), ["a"]);
        bench.settle(1, &[range(position, position)]);
        bench.frame(1, HomeFrame::Unsubscribe { subscription: SubscriptionId(subscription) });
    }
}
