//! The placement's moves: whatever nodes come, go and die, each step is safe and there is an end to them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a test may"
)]

mod world;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use warren_catalogue::{Catalogue, Duty, ShardRecord, Site, metadata_voters, next_moves};
use warren_proto::catalogue::Command;
use warren_types::{NodeId, ShardId};
use world::*;

fn site(node: u64, zone: Option<&str>) -> Site {
    Site { node: NodeId(node), zone: zone.map(str::to_owned), duty: Duty::Full, alive: true }
}

fn shards(count: u32, replicas: &[u64]) -> Vec<ShardRecord> {
    let replicas: Vec<NodeId> = replicas.iter().map(|node| NodeId(*node)).collect();
    let preferred = replicas[0];
    (1..=count)
        .map(|shard| ShardRecord { shard: ShardId(shard), replicas: replicas.clone(), preferred })
        .collect()
}

fn has_majority(sites: &[Site], replicas: &[NodeId]) -> bool {
    let alive =
        replicas.iter().filter(|node| sites.iter().any(|site| site.node == **node && site.alive)).count();
    alive * 2 > replicas.len()
}

fn load(shards: &[ShardRecord], node: NodeId) -> usize {
    shards.iter().filter(|shard| shard.replicas.contains(&node)).count()
}

/// Carries moves out, each checked, until there are none; how many replicas were added.
fn settle(sites: &[Site], shards: &mut [ShardRecord], replication: u32, at_once: usize) -> usize {
    let mut added = 0;
    for _ in 0..10_000 {
        let moves = next_moves(sites, shards, replication, |_| true, at_once);
        if moves.is_empty() {
            return added;
        }
        let mut replaced = 0;
        for moved in moves {
            let before = shards.iter_mut().find(|shard| shard.shard == moved.shard).unwrap();
            let (old, new): (BTreeSet<_>, BTreeSet<_>) =
                (before.replicas.iter().collect(), moved.replicas.iter().collect());
            assert_eq!(new.len(), moved.replicas.len(), "never two replicas on a node: {moved:?}");
            assert!(moved.replicas.contains(&moved.preferred), "{moved:?}");
            assert_ne!(*before, moved, "a move changes something");
            let (come, go) = (new.difference(&old).count(), old.difference(&new).count());
            assert!(come <= 1 && go <= 1, "one replica a step: {before:?} {moved:?}");
            if come + go > 0 {
                replaced += 1;
                assert!(has_majority(sites, &before.replicas) && has_majority(sites, &moved.replicas));
                for node in new.difference(&old) {
                    let place = sites.iter().find(|site| site.node == **node).unwrap();
                    assert!(place.alive && place.duty == Duty::Full, "{place:?}");
                }
            }
            added += come;
            *before = moved;
        }
        assert!(replaced <= at_once);
    }
    panic!("no end of moves: {shards:?}");
}

#[test]
fn a_cluster_that_grows_from_one_to_three_puts_every_shard_on_all_and_spreads_the_leaders() {
    let sites = [site(1, None), site(2, None), site(3, None)];
    let mut shards = shards(16, &[1]);
    assert_eq!(settle(&sites, &mut shards, 3, 2), 32, "no replica moves twice");
    assert!(shards.iter().all(|shard| shard.replicas.len() == 3));
    for node in 1..=3 {
        let led = shards.iter().filter(|shard| shard.preferred == NodeId(node)).count();
        assert!((5..=6).contains(&led), "{led}");
    }
}

#[test]
fn a_new_node_gets_its_share_and_nothing_else_moves() {
    let sites: Vec<Site> = (1..=4).map(|node| site(node, None)).collect();
    let mut shards = shards(16, &[1, 2, 3]);
    // 48 replicas, 12 a node.
    assert_eq!(settle(&sites, &mut shards, 3, 2), 12);
    assert!((1..=4).all(|node| load(&shards, NodeId(node)) == 12));
}

#[test]
fn who_leaves_a_cluster_of_as_many_as_replicas_is_not_replaced_and_who_is_drained_keeps_its_replicas() {
    let mut sites = vec![site(1, None), site(2, None), site(3, None)];
    let mut shards = shards(4, &[1, 2, 3]);
    sites[0].duty = Duty::Drained;
    assert_eq!(settle(&sites, &mut shards, 3, 2), 0);
    assert!(shards.iter().all(|shard| shard.replicas.len() == 3 && shard.preferred != NodeId(1)));
    sites[0].duty = Duty::Leaving;
    settle(&sites, &mut shards, 3, 2);
    assert!(shards.iter().all(|shard| shard.replicas.len() == 2 && !shard.replicas.contains(&NodeId(1))));
}

#[test]
fn a_dead_node_that_holds_the_only_copy_is_not_moved_away_from() {
    let mut sites = vec![site(1, None), site(2, None)];
    sites[0].duty = Duty::Leaving;
    sites[0].alive = false;
    let before = shards(2, &[1]);
    let mut after = before.clone();
    settle(&sites, &mut after, 1, 2);
    assert!(after.iter().all(|shard| shard.replicas == before[0].replicas));
}

#[test]
fn a_shard_that_waits_for_a_lost_newcomer_is_given_another_and_holds_up_nobody() {
    let mut sites: Vec<Site> = (1..=5).map(|node| site(node, None)).collect();
    let mut all = shards(2, &[1, 2, 3]);
    all[0].replicas = vec![NodeId(1), NodeId(2), NodeId(4)];
    sites[3].alive = false;
    sites[3].duty = Duty::Leaving;
    sites[2].duty = Duty::Leaving;
    let moves = next_moves(&sites, &all, 3, |shard| shard.shard != ShardId(1), 1);
    assert_eq!(moves[0].replicas, [NodeId(1), NodeId(2), NodeId(5)]);
}

#[test]
fn only_so_many_shards_move_at_once_and_one_on_the_move_is_left_alone() {
    let sites: Vec<Site> = (1..=3).map(|node| site(node, None)).collect();
    let all = shards(8, &[1]);
    let grown = |settled: &dyn Fn(&ShardRecord) -> bool| -> Vec<u32> {
        let moves = next_moves(&sites, &all, 3, settled, 2);
        moves.iter().filter(|moved| moved.replicas.len() > 1).map(|moved| moved.shard.0).collect()
    };
    assert_eq!(grown(&|_| true), [1, 2]);
    assert_eq!(grown(&|shard| shard.shard != ShardId(1)), [2]);
    assert_eq!(grown(&|shard| shard.shard.0 > 2), [0_u32; 0]);
}

#[test]
fn replicas_in_one_zone_are_spread_when_another_zone_comes() {
    let sites =
        [site(1, Some("a")), site(2, Some("a")), site(3, Some("a")), site(4, Some("b")), site(5, Some("c"))];
    let mut all = shards(6, &[1, 2, 3]);
    settle(&sites, &mut all, 3, 2);
    for shard in &all {
        assert!(shard.replicas.contains(&NodeId(4)) && shard.replicas.contains(&NodeId(5)), "{shard:?}");
    }
}

#[test]
fn metadata_voters_are_odd_at_most_five_and_change_as_little_as_can_be() {
    let voters = |sites: &[Site], current: &[u64]| -> Vec<u64> {
        let current = current.iter().map(|node| NodeId(*node)).collect();
        metadata_voters(sites, &current).iter().map(|node| node.0).collect()
    };
    let mut sites: Vec<Site> = (1..=7).map(|node| site(node, None)).collect();
    assert_eq!(voters(&sites[..1], &[1]), [1]);
    assert_eq!(voters(&sites[..2], &[1]), [1, 2]);
    assert_eq!(voters(&sites[..4], &[2, 3, 4]), [2, 3, 4]);
    assert_eq!(voters(&sites, &[3, 4, 5, 6, 7]), [3, 4, 5, 6, 7]);
    sites[4].duty = Duty::Leaving;
    assert_eq!(voters(&sites, &[3, 4, 5, 6, 7]), [1, 3, 4, 6, 7]);
    sites[5].alive = false;
    assert_eq!(voters(&sites, &[1, 3, 4, 6, 7]), [1, 2, 3, 4, 7]);
    // One voter is one disk that must not be lost with all that the cluster knows, and of two neither may be away.
    let mut three: Vec<Site> = (1..=3).map(|node| site(node, None)).collect();
    three[0].duty = Duty::Drained;
    assert_eq!(voters(&three, &[1, 2, 3]), [1, 2, 3]);
    assert_eq!(voters(&three, &[2, 3]), [1, 2, 3]);
    three[1].duty = Duty::Drained;
    assert_eq!(voters(&three, &[1, 2, 3]), [1, 2, 3]);
    assert_eq!(voters(&three, &[3]), [1, 2, 3]);
    assert_eq!(voters(&three[1..], &[2, 3]), [3], "two would be worse than one");
    three[1].duty = Duty::Leaving;
    assert_eq!(voters(&three, &[1, 2, 3]), [3]);
    for site in &mut sites {
        site.duty = Duty::Leaving;
    }
    assert_eq!(voters(&sites, &[3, 4]), [3, 4], "never nobody");
}

#[test]
fn a_removed_node_is_not_taken_in_again_and_the_last_full_one_keeps_its_duty() {
    let mut catalogue = formed(2, 2);
    let duty = |node: u64, duty| Command::SetDuty { node: NodeId(node), duty };
    apply(&mut catalogue, duty(1, Duty::Leaving));
    assert!(catalogue.apply(&duty(2, Duty::Drained)).unwrap_err().to_string().contains("the last one"));
    assert!(catalogue.apply(&Command::RemoveNode { node: NodeId(1) }).is_err(), "it holds replicas");
    for shard in 1..=2 {
        let record = ShardRecord { shard: ShardId(shard), replicas: vec![NodeId(2)], preferred: NodeId(2) };
        apply(&mut catalogue, Command::SetShardReplicas(record));
    }
    apply(&mut catalogue, Command::RemoveNode { node: NodeId(1) });
    assert!(catalogue.is_removed(NodeId(1)));
    let mut catalogue = Catalogue::decode(&catalogue.encode()).unwrap();
    assert!(catalogue.apply(&Command::AddNode(node(1))).unwrap_err().to_string().contains("was removed"));
    assert!(catalogue.apply(&Command::RemoveNode { node: NodeId(2) }).is_err(), "the only one");
    apply(&mut catalogue, Command::AddNode(node(3)));
    apply(&mut catalogue, duty(3, Duty::Drained));
    assert_eq!(catalogue.node(NodeId(3)).unwrap().duty, Duty::Drained);
    assert_eq!(Catalogue::decode(&catalogue.encode()).unwrap().encode(), catalogue.encode());
}

#[derive(Clone, Debug)]
enum Step {
    Add(Option<u8>),
    Kill(usize),
    Revive(usize),
    Duty(usize, Duty),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        proptest::option::of(0..3_u8).prop_map(Step::Add),
        (0..8_usize).prop_map(Step::Kill),
        (0..8_usize).prop_map(Step::Revive),
        (0..8_usize, proptest::sample::select(Duty::ALL.to_vec()))
            .prop_map(|(node, duty)| Step::Duty(node, duty)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_moves_are_safe_and_end(
        first in 1..5_u64, count in 1..20_u32, replication in 1..5_u32, at_once in 1..4_usize,
        steps in proptest::collection::vec(step(), 1..12),
    ) {
        let mut sites: Vec<Site> = (1..=first).map(|node| site(node, None)).collect();
        let mut shards = shards(count, &[1]);
        settle(&sites, &mut shards, replication, at_once);
        for step in steps {
            match step {
                Step::Add(zone) if sites.len() < 8 => {
                    let zone = zone.map(|zone| zone.to_string());
                    sites.push(site(sites.len() as u64 + 1, zone.as_deref()));
                }
                Step::Add(_) => {}
                Step::Kill(node) => if let Some(site) = sites.get_mut(node) { site.alive = false },
                Step::Revive(node) => if let Some(site) = sites.get_mut(node) { site.alive = true },
                Step::Duty(node, duty) => {
                    let others = sites.iter().enumerate().filter(|(i, site)| *i != node && site.duty == Duty::Full);
                    if (duty == Duty::Full || others.count() > 0) && let Some(site) = sites.get_mut(node) {
                        site.duty = duty;
                    }
                }
            }
            settle(&sites, &mut shards, replication, at_once);
        }
        // Once all are there: nobody who leaves holds anything, and the load is even where no zone stands against it.
        for site in &mut sites {
            site.alive = true;
            site.zone = None;
        }
        settle(&sites, &mut shards, replication, at_once);
        let full: Vec<&Site> = sites.iter().filter(|site| site.duty == Duty::Full).collect();
        let loads: BTreeMap<NodeId, usize> = sites.iter().map(|site| (site.node, load(&shards, site.node))).collect();
        for site in sites.iter().filter(|site| site.duty == Duty::Leaving) {
            prop_assert_eq!(loads[&site.node], 0);
        }
        let want = (replication as usize).min(full.len());
        prop_assert!(shards.iter().all(|shard| shard.replicas.len() >= want));
        let most = full.iter().map(|site| loads[&site.node]).max().unwrap();
        let least = full.iter().map(|site| loads[&site.node]).min().unwrap();
        prop_assert!(most - least <= 1, "{:?}", loads);
    }
}
