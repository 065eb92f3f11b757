//! What a route costs: `cargo bench -p warren-catalogue --bench routing`. Each run takes another message, so nothing is
//! remembered from one to the next.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a measurement")]

#[path = "../tests/world/mod.rs"]
mod world;

use std::cell::Cell;

use divan::Bencher;
use warren_catalogue::routing::{RouteInput, RouteSet};
use warren_catalogue::{Catalogue, ExchangeKind};
use warren_proto::catalogue::Command;
use world::*;

const BINDINGS: usize = 10_000;

fn main() {
    divan::main();
}

fn route(bencher: Bencher, catalogue: &Catalogue, exchange: &str, key: impl Fn(usize) -> String + Sync) {
    let keys: Vec<String> = (0..BINDINGS).map(key).collect();
    let place = Cell::new(0);
    let mut set = RouteSet::default();
    bencher.bench_local(|| {
        let index = place.get();
        place.set((index + 1) % keys.len());
        let key = keys.get(index).map(String::as_str).unwrap_or_default();
        catalogue.route("/", exchange, RouteInput::new(&[key], &|| None), &mut set).unwrap();
        assert!(!set.is_empty());
    });
}

/// A topic exchange with 10,000 bindings of 5 words, with `*` and `#`, each to a queue of its own.
#[divan::bench]
fn topic_with_10_000_bindings(bencher: Bencher) {
    let mut catalogue = world();
    for i in 0..BINDINGS {
        declared(&mut catalogue, queue(&format!("q{i}")));
        let key = format!("region.{}.*.device-{i}.#", i % 100);
        apply(&mut catalogue, Command::Bind(to_queue("amq.topic", &format!("q{i}"), &key)));
    }
    route(bencher, &catalogue, "amq.topic", |i| format!("region.{}.eu.device-{i}.alarm", i % 100));
}

/// As before, but the bindings begin with `*` and `#`, and 100 patterns are tried in vain for each message.
#[divan::bench]
fn topic_with_10_000_bindings_that_begin_with_wildcards(bencher: Bencher) {
    let mut catalogue = world();
    for i in 0..BINDINGS {
        declared(&mut catalogue, queue(&format!("q{i}")));
        let key = if i % 2 == 0 { format!("*.{i}.a") } else { format!("#.{i}") };
        apply(&mut catalogue, Command::Bind(to_queue("amq.topic", &format!("q{i}"), &key)));
    }
    route(bencher, &catalogue, "amq.topic", |i| {
        if i % 2 == 0 { format!("x.{i}.a") } else { format!("x.y.z.{i}") }
    });
}

/// A direct exchange with 10,000 bindings.
#[divan::bench]
fn direct_with_10_000_bindings(bencher: Bencher) {
    let mut catalogue = world();
    for i in 0..BINDINGS {
        declared(&mut catalogue, queue(&format!("q{i}")));
        apply(&mut catalogue, Command::Bind(to_queue("amq.direct", &format!("q{i}"), &format!("k{i}"))));
    }
    route(bencher, &catalogue, "amq.direct", |i| format!("k{i}"));
}

/// A consistent hash over 10 and 100 queues.
#[divan::bench(args = [10, 100])]
fn consistent_hash(bencher: Bencher, queues: usize) {
    let mut catalogue = world();
    apply(&mut catalogue, declare(exchange("h", ExchangeKind::ConsistentHash)));
    for i in 0..queues {
        declared(&mut catalogue, queue(&format!("q{i}")));
        apply(&mut catalogue, Command::Bind(to_queue("h", &format!("q{i}"), "1")));
    }
    route(bencher, &catalogue, "h", |i| format!("key-{i}"));
}
