//! Who publishes to a queue in memory waits while that grows though its consumers take what they can.

mod kit;

use kit::*;
use warren_proto::session::Ask;
use warren_queue::{Input, LeaderConfig};
use warren_types::{Message, NodeId, QueueHost};

const BODY: usize = 64 << 10;

fn in_memory() -> Bench {
    let config = LeaderConfig { host: QueueHost::Node(NodeId(1)), ..config() };
    let mut bench = Bench::with(config, Directory::with([1]));
    bench.attach(1, 1, 1);
    bench
}

fn publish(bench: &mut Bench, count: usize) {
    let message = Message { body: vec![7; BODY].into(), ..Message::default() };
    bench.publish_messages(1, vec![message; count]);
}

/// The consumer takes what it was given, as fast as it comes, for a second.
fn take_for_a_second(bench: &mut Bench) {
    for _ in 0..50 {
        bench.now.0 += 20;
        let count = bench.take_deliveries(1, 10).len();
        bench.credit(1, 10, count as u32, (count * BODY) as u64);
        bench.settle_all(1);
    }
}

#[test]
fn they_wait_while_it_is_long_and_no_longer() {
    let mut bench = in_memory();
    bench.subscribe(1, 10, 0);
    publish(&mut bench, 1_000);
    bench.now.0 += 100;
    let count = bench.take_deliveries(1, 10).len();
    assert!(count < 500, "{count}: the window bounds what is on its way");
    bench.credit(1, 10, count as u32, (count * BODY) as u64);
    assert!(matches!(bench.paces[..], [(Q, pause)] if pause > 0), "{:?}", bench.paces);
    take_for_a_second(&mut bench);
    assert_eq!(bench.counts().0, 0, "all is taken");
    assert_eq!(bench.paces.last(), Some(&(Q, 0)));
}

#[test]
fn they_do_not_where_nobody_takes_or_who_takes_holds_what_it_may() {
    let mut bench = in_memory();
    publish(&mut bench, 1_000);
    bench.wait(500);
    bench.subscribe(1, 10, 10);
    for _ in 0..20 {
        publish(&mut bench, 10);
        bench.wait(50);
    }
    assert_eq!(bench.paces, []);
}

#[test]
fn they_go_on_when_its_consumers_stop_when_it_is_purged_and_when_it_is_deleted() {
    for end in 0..3 {
        let mut bench = in_memory();
        bench.subscribe(1, 10, 0);
        publish(&mut bench, 1_000);
        bench.now.0 += 100;
        let count = bench.take_deliveries(1, 10).len();
        bench.credit(1, 10, count as u32, (count * BODY) as u64);
        assert!(matches!(bench.paces[..], [(Q, pause)] if pause > 0), "{:?}", bench.paces);
        match end {
            0 => (0..10).for_each(|_| bench.wait(250)),
            1 => drop(bench.ask(1, Ask::Purge { queue: Q })),
            _ => bench.input(Input::QueueDeleted(Q)),
        }
        assert_eq!(bench.paces.last(), Some(&(Q, 0)), "{end}");
    }
}

#[test]
fn a_replicated_queue_grows_on_disk_and_nobody_waits_for_it() {
    let mut bench = Bench::new();
    bench.attach(1, 1, 1);
    bench.subscribe(1, 10, 0);
    publish(&mut bench, 1_000);
    take_for_a_second(&mut bench);
    assert_eq!(bench.paces, []);
}
