//! Measurements: `cargo test --release -p warren-catalogue --test speed -- --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a measurement reads the clock"
)]

mod world;

use std::time::Instant;

use warren_catalogue::Catalogue;
use warren_catalogue::routing::{RouteInput, RouteSet};
use warren_proto::catalogue::Command;
use world::*;

fn nanoseconds(catalogue: &Catalogue, exchange: &str, keys: &[String]) -> u128 {
    let mut set = RouteSet::default();
    let begin = Instant::now();
    for key in keys {
        catalogue.route("/", exchange, RouteInput::new(&[key], &|| None), &mut set).unwrap();
        assert_eq!(set.len(), 1);
    }
    begin.elapsed().as_nanos() / keys.len() as u128
}

#[test]
#[ignore = "a measurement"]
fn routes_and_changes_with_100_000_queues_and_10_000_bindings() {
    let mut catalogue = world();
    let begin = Instant::now();
    let ids: Vec<_> = (0..100_000).map(|i| declared(&mut catalogue, queue(&format!("queue-{i}")))).collect();
    println!("declare: {} ns", begin.elapsed().as_nanos() / 100_000);
    let begin = Instant::now();
    for i in 0..10_000 {
        let topic = format!("region.{}.*.device-{i}.#", i % 100);
        apply(&mut catalogue, Command::Bind(to_queue("amq.topic", &format!("queue-{i}"), &topic)));
        apply(
            &mut catalogue,
            Command::Bind(to_queue("amq.direct", &format!("queue-{i}"), &format!("key-{i}"))),
        );
        apply(&mut catalogue, Command::Bind(to_queue("amq.fanout", &format!("queue-{i}"), "")));
    }
    println!("bind: {} ns", begin.elapsed().as_nanos() / 30_000);
    let keys = |key: &dyn Fn(usize) -> String| -> Vec<String> { (0..10_000).map(key).collect() };
    let topics = keys(&|i| format!("region.{}.eu.device-{i}.alarm", i % 100));
    println!("route topic: {} ns", nanoseconds(&catalogue, "amq.topic", &topics));
    println!("route direct: {} ns", nanoseconds(&catalogue, "amq.direct", &keys(&|i| format!("key-{i}"))));
    println!("route default: {} ns", nanoseconds(&catalogue, "", &keys(&|i| format!("queue-{}", i * 10))));
    let begin = Instant::now();
    let bytes = catalogue.encode();
    println!("encode: {} ms, {} bytes", begin.elapsed().as_millis(), bytes.len());
    let begin = Instant::now();
    assert_eq!(Catalogue::decode(&bytes).unwrap().queue_count(), 100_000);
    println!("decode: {} ms", begin.elapsed().as_millis());
    let begin = Instant::now();
    for queue in &ids {
        apply(&mut catalogue, Command::DeleteQueue { queue: *queue });
    }
    println!("delete: {} ns", begin.elapsed().as_nanos() / 100_000);
    assert_eq!(catalogue.bindings("/").count(), 0);
}
