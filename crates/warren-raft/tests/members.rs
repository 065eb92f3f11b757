//! Nodes that come and go after the cluster has formed: replicas, votes and leaders follow.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used, reason = "tests")]

mod kit;

use std::time::{Duration, Instant};

use kit::{World, wait_for};
use warren_types::{GroupId, ShardId};

const SHARD: ShardId = ShardId(1);

#[test]
fn a_node_without_a_replica_knows_every_leader_and_learns_of_a_new_one_at_once() {
    let mut world = World::formed(5);
    let group = GroupId::from(SHARD);
    let holders = world.node(0).raft.catalogue().read().shard(SHARD).unwrap().replicas.clone();
    assert_eq!(holders.len(), 3);
    let leader = world.leader(SHARD);
    let id = world.ids[leader];
    wait_for("everybody knows the leader", || {
        world.running().all(|node| node.raft.leader_of(group) == Some(id))
    });
    world.kill(leader);
    let mut new = None;
    wait_for("another leader is elected", || {
        new = world.nodes.iter().position(|node| node.as_ref().is_some_and(|node| node.leads(SHARD)));
        new.is_some()
    });
    let new = world.ids[new.unwrap()];
    let began = Instant::now();
    wait_for("everybody knows it", || world.running().all(|node| node.raft.leader_of(group) == Some(new)));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
