//! What a cluster costs that has nothing to do. Run by hand: `cargo test -p warren-raft --test idle -- --ignored`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod kit;

use std::time::Duration;

use kit::{World, wait_for};
use warren_types::ShardId;

/// CPU time of this process, in clock ticks of 10 ms.
fn ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[ignore = "measures, for a person to read"]
fn an_idle_node_costs_little() {
    let mut world = World::new(3);
    world.options.shards = 16;
    (0..3).for_each(|node| world.start(node));
    world.wait_ready();
    std::thread::sleep(Duration::from_secs(3));
    let before = ticks();
    std::thread::sleep(Duration::from_secs(10));
    let percent = (ticks() - before) as f64 / 10.0;
    println!("17 groups, 3 nodes: {percent:.1} % of a core, {:.1} % a node", percent / 3.0);
}

#[test]
#[ignore = "measures, for a person to read"]
fn another_leader_is_there_soon_after_a_crash() {
    let mut times = Vec::new();
    let mut world = World::new(3);
    world.options.shards = 16;
    (0..3).for_each(|node| world.start(node));
    world.wait_ready();
    for round in 0..8 {
        std::thread::sleep(Duration::from_secs(1));
        let killed = round % 3;
        let led: Vec<ShardId> = world.node(killed).hosted.lock().now.keys().copied().collect();
        // From the moment at which its sockets close.
        let victim = world.nodes[killed].take().unwrap();
        let began = std::time::Instant::now();
        let ending = std::thread::spawn(move || victim.kill());
        wait_for("all shards are hosted again", || {
            led.iter().all(|shard| world.running().any(|node| node.hosted.lock().now.contains_key(shard)))
        });
        times.push((led.len(), began.elapsed()));
        ending.join().unwrap();
        world.start(killed);
        wait_for("it is back", || world.running().all(|node| node.raft.has_majority()));
    }
    println!("shards taken over and how long all of them took: {times:?}");
}

#[test]
#[ignore = "measures, for a person to read"]
fn records_pass_quickly() {
    let mut world = World::new(3);
    world.options.shards = 1;
    (0..3).for_each(|node| world.start(node));
    world.wait_ready();
    let shard = ShardId(1);
    for (body, window, count) in [(100, 1, 300), (1000, 8, 3000), (16_000, 8, 3000)] {
        let leader = world.node(world.leader(shard));
        let (proposer, applied) = {
            let hosted = leader.hosted.lock();
            let host = &hosted.now[&shard];
            (host.proposer.clone(), host.applied.clone())
        };
        applied.lock().clear();
        let (before, began) = (ticks(), std::time::Instant::now());
        for seq in 1..=count {
            while seq > applied.lock().len() + window {
                std::thread::yield_now();
            }
            proposer.propose(&kit::record(body as u64, seq as u64, body)).unwrap();
        }
        wait_for("all applied", || applied.lock().len() == count);
        let took = began.elapsed();
        println!(
            "{body} bytes, {window} in flight: {:.0} records/s, {:.0} us of CPU each",
            count as f64 / took.as_secs_f64(),
            (ticks() - before) as f64 * 10_000.0 / count as f64
        );
    }
}
