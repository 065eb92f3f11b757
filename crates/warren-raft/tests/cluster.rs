//! Clusters of three over loopback: what holds when nodes come, go, crash and come back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod kit;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use kit::{PATIENCE, World, last_seq, record, wait_for};
use warren_proto::catalogue::Command;
use warren_types::{GroupId, ShardId};

const SHARD: ShardId = ShardId(1);

fn vhost(name: &str) -> Command {
    Command::CreateVhost { name: name.to_owned() }
}

#[test]
fn nodes_form_one_cluster_whatever_the_order_and_time_of_their_starts() {
    for order in [[0, 1, 2], [2, 0, 1]] {
        let mut world = World::new(3);
        for node in order {
            world.start(node);
            // Long enough to form with the others, if it wanted to without the last.
            std::thread::sleep(Duration::from_millis(600));
        }
        world.wait_ready();
        let clusters: BTreeSet<u64> =
            world.running().map(|node| node.raft.catalogue().read().cluster().unwrap().id).collect();
        assert_eq!(clusters.len(), 1);
        assert_eq!(world.node(0).raft.catalogue().read().nodes().count(), 3);
    }
}

#[test]
fn two_of_three_expected_nodes_form_nothing() {
    let mut world = World::new(3);
    world.start(0);
    world.start(1);
    std::thread::sleep(Duration::from_secs(3));
    for node in world.running() {
        assert!(node.raft.catalogue().read().cluster().is_none());
        assert!(!node.raft.has_majority());
    }
    world.start(2);
    world.wait_ready();
}

#[test]
fn a_node_alone_is_a_cluster_and_finds_everything_again() {
    let mut world = World::formed(1);
    world.node(0).propose(vhost("kept"));
    world.publish(SHARD, 5, 1..=50, 100);
    let loaded = |world: &World| {
        let replica = world.node(0).store.replica(SHARD).unwrap();
        replica.load(warren_types::QueueId(1), warren_types::Position(0), 1000, 1 << 30).unwrap().0
    };
    let before = loaded(&world);
    assert_eq!(before.len(), 50);
    for crash in [true, false] {
        if crash {
            world.kill(0)
        } else {
            world.stop(0)
        }
        world.start(0);
        world.wait_ready();
        assert!(world.node(0).raft.catalogue().read().has_vhost("kept"));
        assert_eq!(loaded(&world), before);
        let opening = world.node(0).hosted.lock().now[&SHARD].opening.clone();
        assert_eq!(opening.sessions.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), [50]);
    }
}

#[test]
fn a_command_from_any_node_is_seen_there_when_it_returns_and_elsewhere_after_a_linearizable_read() {
    let world = World::formed(3);
    for (turn, name) in ["a", "b", "c"].into_iter().enumerate() {
        let node = world.node(turn);
        node.propose(vhost(name));
        assert!(node.raft.catalogue().read().has_vhost(name));
        for other in world.running() {
            other.block(other.raft.linearize(PATIENCE)).unwrap();
            assert!(other.raft.catalogue().read().has_vhost(name));
        }
    }
}

#[test]
fn leaders_are_spread_over_the_nodes() {
    let world = World::formed(3);
    wait_for("each node leads one", || (0..3).all(|node| world.node(node).hosted.lock().now.len() == 1));
}

#[test]
fn records_come_back_in_order_without_a_gap_and_replicas_agree() {
    let world = World::formed(3);
    let leader = world.node(world.leader(SHARD));
    let (proposer, applied) = {
        let hosted = leader.hosted.lock();
        let host = &hosted.now[&SHARD];
        (host.proposer.clone(), host.applied.clone())
    };
    for seq in 1..=500 {
        proposer.propose(&record(9, seq, 200)).unwrap();
    }
    wait_for("all are applied", || applied.lock().len() == 500);
    let sequences: Vec<u64> = applied.lock().iter().map(|record| last_seq(record, 9)).collect();
    assert_eq!(sequences, (1..=500).collect::<Vec<_>>());
    let indexes: Vec<u64> = applied.lock().iter().map(|record| record.index.0).collect();
    assert!(indexes.windows(2).all(|pair| pair[1] == pair[0] + 1));
    world.wait_same(SHARD);
}

#[test]
fn after_a_leader_is_killed_another_one_has_every_record_and_it_comes_back_by_the_log() {
    let mut world = World::formed(3);
    world.publish(SHARD, 7, 1..=100, 500);
    let killed = world.leader(SHARD);
    let victim = world.nodes[killed].take().unwrap();
    let began = Instant::now();
    let ending = std::thread::spawn(move || victim.kill());
    let successor = world.leader(SHARD);
    let took = began.elapsed();
    println!("another leader after {took:?}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    ending.join().unwrap();
    let opening = world.node(successor).hosted.lock().now[&SHARD].opening.clone();
    assert_eq!(opening.sessions.iter().map(|(_, seq)| *seq).collect::<Vec<_>>(), [100]);
    world.publish(SHARD, 7, 101..=200, 500);
    world.start(killed);
    world.wait_same(SHARD);
}

#[test]
fn a_node_that_the_log_cannot_help_any_more_gets_a_snapshot() {
    let mut world = World::new(3);
    world.options.checkpoint_bytes = 64 << 10;
    // A purge that did not come to its end on a busy machine is tried again.
    world.options.checkpoint_interval = Duration::from_secs(1);
    world.options.keep_log_bytes = 256 << 10;
    world.store_options.log_segment_bytes = 256 << 10;
    world.store_options.log_bytes = 512 << 10;
    (0..3).for_each(|node| world.start(node));
    world.wait_ready();
    world.publish(SHARD, 7, 1..=10, 1000);
    let lagging = (world.leader(SHARD) + 1) % 3;
    world.kill(lagging);
    // A batch of the log is never cut: in portions, it comes to many files.
    for first in (11..=391).step_by(10) {
        world.publish(SHARD, 7, first..=first + 9, 10_000);
    }
    let first_kept = |world: &World| {
        let leader = world.node(world.leader(SHARD));
        leader.store.log(GroupId::from(SHARD)).unwrap().first_last().unwrap().0.0
    };
    wait_for("the log is purged", || first_kept(&world) > 50);
    world.start(lagging);
    world.wait_same(SHARD);
    // What it got it can serve: the bodies came along.
    let replica = world.node(lagging).store.replica(SHARD).unwrap();
    let (messages, _) =
        replica.load(warren_types::QueueId(1), warren_types::Position(0), 1000, 1 << 30).unwrap();
    assert_eq!(messages.len(), 400);
    drop(replica);
    // And it can do without its log what it could do with it.
    world.kill(lagging);
    world.start(lagging);
    world.wait_same(SHARD);
}

#[test]
fn a_stopping_node_hands_its_leaderships_over_first() {
    let mut world = World::formed(3);
    let leaving = world.leader(SHARD);
    let node = world.node(leaving);
    node.block(node.raft.transfer_all_leadership());
    wait_for("it leads nothing", || node.hosted.lock().now.is_empty());
    world.stop(leaving);
    world.publish(SHARD, 3, 1..=10, 10);
    world.node((leaving + 1) % 3).propose(vhost("later"));
}

#[test]
fn without_a_majority_nothing_is_hosted_and_with_it_everything_goes_on() {
    let mut world = World::formed(3);
    world.publish(SHARD, 3, 1..=10, 10);
    let left = world.leader(SHARD);
    let others: Vec<usize> = (0..3).filter(|node| *node != left).collect();
    others.iter().for_each(|node| world.kill(*node));
    let node = world.node(left);
    wait_for("the lone leader hosts nothing", || node.hosted.lock().now.is_empty());
    wait_for("it says so", || !node.raft.has_majority());
    let refused = node.block(node.raft.propose(vhost("never"), Duration::from_millis(500)));
    assert!(refused.is_err());
    world.start(others[0]);
    world.publish(SHARD, 3, 11..=20, 10);
    world.start(others[1]);
    world.wait_same(SHARD);
    wait_for("all are in contact", || world.running().all(|node| node.raft.has_majority()));
}

#[test]
fn a_node_that_lost_its_disk_joins_as_another_one_and_never_forms_a_second_cluster() {
    let mut world = World::formed(3);
    let cluster = world.node(0).raft.catalogue().read().cluster().unwrap().id;
    world.wipe(2);
    world.start(2);
    wait_for("it is taken in", || {
        let catalogue = world.node(2).raft.catalogue().read();
        catalogue.cluster().map(|found| found.id) == Some(cluster) && catalogue.node(world.ids[2]).is_some()
    });
    world.node(2).propose(vhost("from the newcomer"));
    wait_for("it has a vote", || {
        let status = world.node(0).raft.groups_status();
        status[0].members.contains(&world.ids[2])
    });
}

#[test]
fn a_cluster_of_one_grows_and_its_shards_with_it() {
    let mut world = World::new(3);
    world.options.expect = 1;
    let seeds = std::mem::take(&mut world.options.seeds);
    world.start(0);
    wait_for("it has formed", || world.node(0).raft.catalogue().read().cluster().is_some());
    world.publish(SHARD, 3, 1..=10, 10);
    world.options.seeds = vec![seeds[0].clone()];
    world.start(1);
    world.start(2);
    wait_for("every shard has three replicas that vote", || {
        let shards: Vec<_> =
            world.node(0).raft.catalogue().read().shards().map(|shard| shard.replicas.len()).collect();
        shards == [3, 3, 3]
            && world.running().all(|node| {
                let status = node.raft.groups_status();
                status.len() == 4 && status.iter().all(|group| group.members.len() == 3)
            })
    });
    world.publish(SHARD, 3, 11..=20, 10);
    world.wait_same(SHARD);
}

#[test]
fn a_confirmed_record_survives_crashes_of_one_node_after_the_other() {
    let mut world = World::formed(3);
    for round in 0..4_u64 {
        world.publish(SHARD, 3, round * 50 + 1..=round * 50 + 50, 300);
        let node = world.leader(SHARD);
        world.kill(node);
        world.publish(SHARD, 3, round * 50 + 1..=round * 50 + 50, 300);
        world.start(node);
    }
    world.wait_same(SHARD);
    let leader = world.node(world.leader(SHARD));
    let replica = leader.store.replica(SHARD).unwrap();
    let (messages, end) =
        replica.load(warren_types::QueueId(1), warren_types::Position(0), 1000, 1 << 30).unwrap();
    assert!(end);
    assert_eq!(messages.len(), 200, "each once");
}

#[test]
fn a_member_that_lost_its_log_but_not_its_name_takes_no_part() {
    let mut world = World::formed(3);
    world.publish(SHARD, 3, 1..=20, 100);
    world.wipe_store(2);
    world.start(2);
    world.publish(SHARD, 3, 21..=40, 100);
    // Long enough for elections, had its vote counted for anything.
    std::thread::sleep(Duration::from_secs(2));
    let node = world.node(2);
    assert!(node.raft.catalogue().read().cluster().is_none());
    assert!(node.raft.groups_status().iter().all(|group| group.term.0 == 0 && group.last_log.0 == 0));
    assert!(world.running().all(|node| node.raft.fatal().borrow().is_none()));
    // Nor does it help a minority to a majority.
    let other = (0..2).find(|node| *node != world.leader(SHARD)).unwrap();
    world.kill(other);
    let left = world.node(1 - other);
    wait_for("nothing is hosted", || left.hosted.lock().now.is_empty());
}
