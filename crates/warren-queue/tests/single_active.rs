//! `x-single-active-consumer`: who gets messages, who follows, and who it is after a change of leaders.

mod kit;

use kit::*;
use warren_proto::session::{HomeFrame, Subscribe};
use warren_types::{NodeId, SubscriptionId};

fn single(subscription: u64, prefetch: u32, active: bool) -> Subscribe {
    Subscribe { single_active: true, active, ..consumer(subscription, prefetch) }
}

fn subscribe(bench: &mut Bench, key: u64, subscription: u64, prefetch: u32) {
    bench.frame(key, HomeFrame::Subscribe(single(subscription, prefetch, false)));
}

#[test]
fn only_the_first_consumer_gets_messages_also_when_it_has_no_room() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    subscribe(&mut bench, 1, 10, 2);
    // A higher priority changes nothing.
    bench.frame(1, HomeFrame::Subscribe(Subscribe { priority: 5, ..single(11, 0, false) }));
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
    bench.attach_with(4, 2, 2, vec![single(20, 0, false)], vec![]);
    bench.publish(4, &["b"]);
    assert_eq!(bench.delivered(4, 20), [""; 0], "the other node has not said who was active");
    bench.attach_with(3, 1, 2, vec![single(10, 0, true)], vec![]);
    assert_eq!(bench.delivered(3, 10), ["b"]);
    assert_eq!(bench.delivered(4, 20), [""; 0]);
}

#[test]
fn after_a_change_of_leaders_one_that_waited_follows_an_active_one_that_is_gone() {
    let mut bench = Bench::new();
    bench.fail_over(0, &[1, 2]);
    bench.attach_with(4, 2, 2, vec![single(20, 0, false)], vec![]);
    bench.publish(4, &["a"]);
    assert_eq!(bench.delivered(4, 20), [""; 0]);
    bench.input(warren_queue::Input::NodeDead(NodeId(1)));
    bench.flush();
    assert_eq!(bench.delivered(4, 20), ["a"]);
}
