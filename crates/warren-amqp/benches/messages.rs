//! What a message costs here: a publish read, a delivery written, an ack read. Prints nanoseconds per message, the
//! best of several runs. `cargo bench -p warren-amqp`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../tests/world/mod.rs"]
mod world;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use warren_amqp::Action;
use warren_amqp::client;
use warren_types::{AckMode, SubscriptionId};
use world::{C1, World, message, source};

const RUNS: usize = 30;
/// Messages that one read of the shell brings.
const BATCH: usize = 64;
const BATCHES: usize = 100;

fn report(name: &str, mut run: impl FnMut() -> Duration) {
    let best = (0..RUNS).map(|_| run()).min().unwrap();
    println!("{name}: {:.0} ns", best.as_nanos() as f64 / (BATCH * BATCHES) as f64);
}

fn main() {
    let sample = message(&[7; 1024]);
    let mut publishes = BytesMut::new();
    for _ in 0..BATCH {
        client::encode_publish(C1, false, &sample, 131_072, &mut publishes);
    }
    report("a 1 KiB publish read, the copy into the read buffer included", || {
        let mut world = World::with_channel();
        let start = Instant::now();
        for _ in 0..BATCHES {
            world.input = BytesMut::with_capacity(publishes.len());
            world.raw(&publishes);
            while let Some(action) = world.next() {
                assert!(matches!(black_box(action), Action::Publish(_)));
            }
        }
        start.elapsed()
    });
    report("a 1 KiB delivery written", || {
        let mut world = World::with_channel();
        world.consume(1, AckMode::Manual);
        let start = Instant::now();
        let mut position = 0;
        for _ in 0..BATCHES {
            world.out.clear();
            for _ in 0..BATCH {
                position += 1;
                let (subscription, out) = (SubscriptionId(1), &mut world.out);
                let source = source(position, Some(1));
                let counts = warren_amqp::frame::DeliveryCounts::default();
                world.connection.deliver(C1, subscription, source, false, counts, &sample, out);
            }
            black_box(world.connection.take_handed_over());
        }
        start.elapsed()
    });
    report("an ack read", || {
        let mut world = World::with_channel();
        world.consume(1, AckMode::Manual);
        for position in 0..(BATCH * BATCHES) as u64 {
            world.deliver(1, position);
            world.out.clear();
        }
        let mut acks = BytesMut::new();
        for tag in 0..(BATCH * BATCHES) as u64 {
            client::encode_ack(C1, tag + 1, false, &mut acks);
        }
        let start = Instant::now();
        for batch in acks.chunks(BATCH * 21) {
            world.input = BytesMut::with_capacity(batch.len());
            world.raw(batch);
            black_box(world.actions());
        }
        start.elapsed()
    });
}
