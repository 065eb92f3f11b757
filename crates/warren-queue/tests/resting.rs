//! What comes back rests before it is delivered again, where its queue asks for that.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test's world")]

mod kit;

use std::sync::Arc;

use kit::*;
use warren_proto::session::{Answer, Ask};
use warren_types::{DelayedRetry, QueueSettings, Retried};

fn bench(which: Retried) -> Bench {
    let delayed_retry = Some(DelayedRetry { which, min_ms: 100, max_ms: 250 });
    let settings = QueueSettings { delayed_retry, strict_levels: true, ..QueueSettings::default() };
    let mut directory = Directory::with([1]);
    directory.settings.insert(Q, Arc::new(settings));
    let mut bench = Bench::with(config(), directory);
    bench.attach(1, 1, 1);
    bench
}

fn counts(bench: &mut Bench) -> (u64, u64, u64) {
    let answer = bench.ask(1, Ask::Info { queue: Q, uses: false, after_deaths: false });
    let Some(Answer::Info(counts)) = answer else { panic!("{answer:?}") };
    (counts.ready, counts.unacked, counts.delayed)
}

/// Delivers the one message and gives it back.
fn give_back(bench: &mut Bench, failed: bool) {
    let delivered = bench.take_deliveries(1, 1);
    assert_eq!(delivered.len(), 1);
    let place = warren_types::PositionRange::one(delivered[0].position);
    bench.give_back(1, &[place], failed, true);
}

#[test]
fn it_rests_longer_with_every_failure_and_not_longer_than_the_most() {
    let mut bench = bench(Retried::All);
    bench.subscribe(1, 1, 10);
    bench.publish(1, &["a"]);
    for rest in [100, 200, 250, 250] {
        give_back(&mut bench, true);
        assert_eq!(counts(&mut bench), (0, 0, 1), "neither ready nor held");
        bench.wait(rest - 1);
        assert!(bench.delivered(1, 1).is_empty(), "before its {rest} ms are over");
        bench.wait(1);
    }
    assert_eq!(bench.delivered(1, 1).len(), 1);
}

#[test]
fn what_has_not_failed_rests_as_for_the_first_failure() {
    let mut bench = bench(Retried::All);
    bench.subscribe(1, 1, 10);
    bench.publish(1, &["a"]);
    for _ in 0..3 {
        give_back(&mut bench, false);
        bench.wait(99);
        assert!(bench.delivered(1, 1).is_empty());
        bench.wait(1);
    }
}

#[test]
fn which_ones_rest_is_asked_for() {
    for (which, failed, rests) in [
        (Retried::Failed, true, true),
        (Retried::Failed, false, false),
        (Retried::Returned, true, false),
        (Retried::Returned, false, true),
    ] {
        let mut bench = bench(which);
        bench.subscribe(1, 1, 10);
        bench.publish(1, &["a"]);
        give_back(&mut bench, failed);
        assert_eq!(bench.delivered(1, 1).is_empty(), rests, "{which:?}, failed: {failed}");
    }
}

#[test]
fn others_go_by_while_one_rests_and_it_comes_before_newer_ones_afterwards() {
    let mut bench = bench(Retried::All);
    bench.subscribe(1, 1, 1);
    bench.publish(1, &["a"]);
    give_back(&mut bench, true);
    bench.publish(1, &["b", "c"]);
    assert_eq!(bench.delivered(1, 1), ["b"]);
    bench.wait(100);
    bench.settle_all(1);
    assert_eq!(bench.delivered(1, 1), ["a*"]);
}

#[test]
fn a_home_that_comes_back_still_holds_what_rests() {
    let mut bench = bench(Retried::All);
    bench.subscribe(1, 1, 10);
    bench.publish(1, &["a"]);
    let delivered = bench.take_deliveries(1, 1);
    let place = warren_types::PositionRange::one(delivered[0].position);
    bench.input(warren_queue::Input::SessionLost(warren_queue::SessionKey(1)));
    bench.wait(4000);
    bench.attach_with(2, 1, 2, vec![consumer(1, 10)], vec![held(Some(1), &[place])]);
    bench.wait(1000);
    assert!(bench.delivered(2, 1).is_empty(), "it holds it");
    bench.settle(2, &[place]);
    assert!(bench.store.live(Q).is_empty());
}

#[test]
fn a_queue_with_what_rests_is_not_empty_and_a_purge_takes_that_too() {
    let mut bench = bench(Retried::All);
    bench.subscribe(1, 1, 10);
    bench.publish(1, &["a"]);
    give_back(&mut bench, true);
    let may = bench.ask(1, Ask::CheckDelete { queue: Q, if_unused: false, if_empty: true });
    assert_eq!(may, Some(Answer::CheckDelete(warren_proto::session::DeleteOutcome::NotEmpty)));
    assert_eq!(bench.ask(1, Ask::Purge { queue: Q }), Some(Answer::Purged(1)));
    bench.wait(100);
    assert!(bench.delivered(1, 1).is_empty());
    assert!(bench.store.live(Q).is_empty());
}

#[test]
fn at_the_next_leader_it_is_ready() {
    let mut bench = bench(Retried::All);
    bench.subscribe(1, 1, 10);
    bench.publish(1, &["a"]);
    give_back(&mut bench, true);
    bench.fail_over(0, &[1]);
    bench.attach_with(2, 1, 2, vec![consumer(1, 10)], Vec::new());
    let again = bench.delivered(2, 1);
    assert_eq!(again.len(), 1, "{again:?}");
}
