//! Nodes that come and go after the cluster has formed: replicas, votes and leaders follow.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::expect_used, reason = "tests")]

mod kit;

use std::time::{Duration, Instant};

use kit::{World, wait_for};
use warren_catalogue::Duty;
use warren_proto::catalogue::Command;
use warren_types::{GroupId, NodeId, Position, QueueId, ShardId};

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

fn placed(world: &World, node: usize) -> Vec<Vec<NodeId>> {
    world.node(node).raft.catalogue().read().shards().map(|shard| shard.replicas.clone()).collect()
}

/// Every shard is where the catalogue says, on so many nodes, and nothing moves.
fn wait_settled(world: &World, node: usize, replicas: usize) {
    wait_for("every shard is settled", || {
        let shards = placed(world, node);
        shards.iter().all(|shard| shard.len() == replicas)
            && (1..=world.options.shards).all(|shard| world.node(node).raft.is_settled(ShardId(shard)))
    });
}

fn set_duty(world: &World, asked: usize, node: usize, duty: Duty) {
    world.node(asked).propose(Command::SetDuty { node: world.ids[node], duty });
}

fn is_told_that_it_was_removed(world: &World, node: usize) -> bool {
    world.node(node).raft.fatal().borrow().as_deref().is_some_and(|reason| reason.contains("was removed"))
}

fn messages(world: &World, node: usize) -> usize {
    let replica = world.node(node).store.replica(SHARD).unwrap();
    replica.load(QueueId(1), Position(0), 10_000, 1 << 30).unwrap().0.len()
}

#[test]
fn a_cluster_grows_from_one_to_five_and_shrinks_back_to_one_and_keeps_every_record() {
    let mut world = World::alone(5);
    world.publish(SHARD, 3, 1..=50, 200);
    (1..5).for_each(|node| world.start(node));
    wait_for("five nodes vote in the metadata group", || {
        world.ids.iter().all(|id| world.node(0).raft.votes_in_metadata(*id))
    });
    wait_settled(&world, 0, 3);
    wait_for("the replicas are spread", || {
        let shards = placed(&world, 0);
        let load = |id: &NodeId| shards.iter().filter(|shard| shard.contains(id)).count();
        world.ids.iter().all(|id| (1..=2).contains(&load(id)))
    });
    wait_settled(&world, 0, 3);
    world.publish(SHARD, 3, 51..=100, 200);
    for (leaving, left) in [(vec![0, 1], 3), (vec![2, 3], 1)] {
        for node in &leaving {
            set_duty(&world, 4, *node, Duty::Leaving);
        }
        wait_for("they are removed", || {
            let catalogue = world.node(4).raft.catalogue().read();
            leaving.iter().all(|node| catalogue.is_removed(world.ids[*node]))
        });
        for node in leaving {
            wait_for("it stops", || is_told_that_it_was_removed(&world, node));
            world.kill(node);
        }
        wait_settled(&world, 4, left);
        let last = if left == 3 { 150 } else { 200 };
        world.publish(SHARD, 3, last - 49..=last, 200);
    }
    assert_eq!(messages(&world, 4), 200, "each once");
    wait_for("one node votes", || world.node(4).raft.groups_status()[0].members.len() == 1);
}

#[test]
fn a_node_that_comes_back_blank_at_its_address_replaces_its_former_self() {
    let mut world = World::formed(3);
    world.publish(SHARD, 3, 1..=50, 200);
    let former = world.ids[2];
    world.wipe(2);
    world.start(2);
    wait_for("its former self is removed", || world.node(0).raft.catalogue().read().is_removed(former));
    wait_settled(&world, 0, 3);
    wait_for("it votes", || world.node(0).raft.votes_in_metadata(world.ids[2]));
    assert!(!world.node(0).raft.votes_in_metadata(former));
    world.publish(SHARD, 3, 51..=60, 200);
    world.wait_same(SHARD);
}

#[test]
fn a_dead_node_is_removed_and_refused_when_it_comes_back() {
    let mut world = World::formed(3);
    world.publish(SHARD, 3, 1..=20, 200);
    wait_settled(&world, 0, 3);
    let dead = world.ids[2];
    world.kill(2);
    wait_for("the loss is noticed", || {
        world.node(0).peers.table().get(&dead).is_some_and(|peer| !peer.is_connected())
    });
    assert_eq!(world.node(0).raft.removal_hazard(dead), None);
    set_duty(&world, 0, 2, Duty::Leaving);
    wait_for("it is removed", || world.node(0).raft.catalogue().read().is_removed(dead));
    wait_settled(&world, 0, 2);
    world.start(2);
    wait_for("it is told so", || is_told_that_it_was_removed(&world, 2));
    world.publish(SHARD, 3, 21..=30, 200);
    // One of two: what it alone has in a majority must not be thrown away.
    world.kill(2);
    world.kill(1);
    wait_for("the loss is noticed", || world.node(0).raft.removal_hazard(world.ids[1]).is_some());
}

/// All that it has on its disk is that it was taken in.
#[test]
fn a_node_that_was_removed_before_it_heard_of_the_cluster_is_told_so_by_its_seeds() {
    let mut world = World::alone(3);
    world.start(1);
    world.start(2);
    wait_settled(&world, 0, 3);
    let taken_in = world.node(2).store.get_blob("promise").unwrap().unwrap();
    world.wipe_store(2);
    world.fill_store(2, "promise", &taken_in);
    set_duty(&world, 0, 2, Duty::Leaving);
    wait_for("it is removed", || world.node(0).raft.catalogue().read().is_removed(world.ids[2]));
    world.start(2);
    wait_for("it is told so", || is_told_that_it_was_removed(&world, 2));
}

/// Nothing of any shard is on a node's disk but what its former replica has promised.
fn wait_deleted(world: &World, node: usize) {
    wait_for("what was there is deleted", || {
        (1..=world.options.shards).all(|shard| {
            let store = &world.node(node).store;
            let log = store.log(GroupId(shard)).unwrap();
            log.first_last().is_none()
                && log.vote().is_some()
                && store.guard(ShardId(shard)).unwrap().is_some()
        })
    });
}

#[test]
fn a_drained_node_leads_nothing_keeps_nothing_and_gets_its_share_back() {
    let mut world = World::alone(4);
    world.publish(SHARD, 3, 1..=20, 100);
    (1..4).for_each(|node| world.start(node));
    wait_settled(&world, 0, 3);
    let drained = world.ids[0];
    let mut last = 20;
    for _ in 0..2 {
        set_duty(&world, 1, 0, Duty::Drained);
        wait_for("its replicas are elsewhere", || {
            placed(&world, 1).iter().all(|shard| !shard.contains(&drained))
        });
        wait_settled(&world, 1, 3);
        wait_for("its replicas have stopped", || world.node(0).raft.groups_status().len() == 1);
        wait_deleted(&world, 0);
        world.publish(SHARD, 3, last + 1..=last + 20, 100);
        world.stop(0);
        world.start(0);
        wait_for("it is back", || world.node(0).raft.has_majority());
        assert_eq!(world.node(0).raft.groups_status().len(), 1, "nothing of what is gone");
        set_duty(&world, 1, 0, Duty::Full);
        wait_for("it holds some again", || placed(&world, 1).iter().any(|shard| shard.contains(&drained)));
        wait_settled(&world, 1, 3);
        world.publish(SHARD, 3, last + 21..=last + 40, 100);
        last += 40;
        let holders = placed(&world, 1)[0].clone();
        wait_for("each holder has every message once", || {
            let holders = (0..4).filter(|node| holders.contains(&world.ids[*node]));
            holders.into_iter().all(|node| messages(&world, node) == usize::try_from(last).unwrap())
        });
    }
}

#[test]
fn a_copy_of_a_data_directory_is_refused_while_the_original_runs() {
    let mut world = World::formed(3);
    world.stop(2);
    let twin = world.twin(2);
    world.start(2);
    wait_for("the original is back", || world.node(2).raft.has_majority());
    world.start(twin);
    wait_for("the copy is told so", || {
        world.node(twin).raft.fatal().borrow().as_deref().is_some_and(|reason| reason.contains("is a copy"))
    });
    assert!(world.node(2).raft.has_majority());
}

#[test]
fn a_node_of_another_cluster_is_refused_by_its_seeds() {
    let mut world = World::alone(2);
    let seeds = std::mem::take(&mut world.options.seeds);
    world.start(1);
    wait_for("it has formed a cluster of its own", || {
        world.node(1).raft.catalogue().read().cluster().is_some()
    });
    world.stop(1);
    world.options.seeds = seeds;
    world.start(1);
    wait_for("it is told so", || {
        world
            .node(1)
            .raft
            .fatal()
            .borrow()
            .as_deref()
            .is_some_and(|reason| reason.contains("belongs to cluster"))
    });
}
