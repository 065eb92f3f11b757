//! Which replica moves next when nodes come and go, and who votes in the metadata group. Pure: the metadata leader asks,
//! proposes what it is told, waits until it is so, and asks again.
//!
//! A move changes one replica of a shard. It is asked for only where a majority of the shard's replicas is alive before
//! and after; Raft adds the new replica, lets it catch up, and only then changes who votes. Every move makes the whole
//! better by one measure that never gets worse again (who must go, who is missing, zones, balance), so that there
//! is an end.

use std::collections::{BTreeMap, BTreeSet};

use warren_proto::catalogue::{Duty, ShardRecord};
use warren_types::NodeId;

/// Most voters of the metadata group; all other nodes follow it without a vote.
pub const METADATA_VOTERS_MAX: usize = 5;
/// Fewest of which one may be lost.
const METADATA_VOTERS_SAFE: usize = 3;
/// Changes of preferred leaders that are asked for at once.
const PREFERENCES_AT_ONCE: usize = 8;

/// A node as the placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The node.
    pub node: NodeId,
    /// The zone it stands in.
    pub zone: Option<String>,
    /// What it is there for.
    pub duty: Duty,
    /// In contact.
    pub alive: bool,
}

/// The next changes of shards' records, best first; none when everything is as it should be, or must wait.
/// `settled` says whether a shard's members are those of its record; `at_once` is how many shards may be on the move.
#[must_use]
pub fn next_moves(
    sites: &[Site],
    shards: &[ShardRecord],
    replication: u32,
    settled: impl Fn(&ShardRecord) -> bool,
    at_once: usize,
) -> Vec<ShardRecord> {
    let mut plan = Plan::new(sites, shards, replication);
    // A shard that waits for a node which is gone is not moving, and must not keep the others from it.
    let moving =
        shards.iter().filter(|shard| !settled(shard) && shard.replicas.iter().all(|node| plan.alive(*node)));
    let mut room = at_once.saturating_sub(moving.count());
    let mut changed = Vec::new();
    for shard in shards {
        let may = room > 0 && (settled(shard) || shard.replicas.iter().any(|node| plan.is_lost(*node)));
        if may && let Some(moved) = plan.repair(shard) {
            room -= 1;
            plan.take(shard, &moved);
            changed.push(moved);
        }
    }
    while room > 0 {
        let still = |shard: &&ShardRecord| {
            settled(shard) && !changed.iter().any(|moved: &ShardRecord| moved.shard == shard.shard)
        };
        let Some((shard, moved)) = plan.balance(shards.iter().filter(still)) else { break };
        room -= 1;
        plan.take(shard, &moved);
        changed.push(moved);
    }
    let preferred: Vec<ShardRecord> = {
        let rest = shards.iter().filter(|shard| !changed.iter().any(|moved| moved.shard == shard.shard));
        plan.prefer(rest)
    };
    changed.extend(preferred);
    changed
}

struct Plan<'a> {
    sites: BTreeMap<NodeId, &'a Site>,
    /// Replicas that a shard should have at least, and at most.
    want: (usize, usize),
    load: BTreeMap<NodeId, usize>,
    led: BTreeMap<NodeId, usize>,
}

impl<'a> Plan<'a> {
    fn new(sites: &'a [Site], shards: &[ShardRecord], replication: u32) -> Self {
        let replication = usize::try_from(replication).unwrap_or(usize::MAX).max(1);
        let full = sites.iter().filter(|site| site.duty == Duty::Full).count();
        let staying = sites.iter().filter(|site| site.duty != Duty::Leaving).count();
        let mut plan = Self {
            sites: sites.iter().map(|site| (site.node, site)).collect(),
            want: (replication.min(full), replication.min(staying).max(1)),
            load: sites.iter().map(|site| (site.node, 0)).collect(),
            led: sites.iter().map(|site| (site.node, 0)).collect(),
        };
        for shard in shards {
            plan.count(shard, |count| *count += 1);
        }
        plan
    }

    fn count(&mut self, shard: &ShardRecord, change: impl Fn(&mut usize)) {
        for node in &shard.replicas {
            change(self.load.entry(*node).or_default());
        }
        change(self.led.entry(shard.preferred).or_default());
    }

    fn take(&mut self, before: &ShardRecord, after: &ShardRecord) {
        self.count(before, |count| *count = count.saturating_sub(1));
        self.count(after, |count| *count += 1);
    }

    fn alive(&self, node: NodeId) -> bool {
        self.sites.get(&node).is_some_and(|site| site.alive)
    }

    fn duty(&self, node: NodeId) -> Duty {
        // A node that the cluster has forgotten is on its way out.
        self.sites.get(&node).map_or(Duty::Leaving, |site| site.duty)
    }

    fn is_full(&self, node: NodeId) -> bool {
        self.duty(node) == Duty::Full
    }

    /// Gone and not coming back.
    fn is_lost(&self, node: NodeId) -> bool {
        self.duty(node) == Duty::Leaving && !self.alive(node)
    }

    fn zone(&self, node: NodeId) -> Option<&str> {
        self.sites.get(&node).and_then(|site| site.zone.as_deref())
    }

    fn load_of(&self, node: NodeId) -> usize {
        self.load.get(&node).copied().unwrap_or_default()
    }

    fn led_of(&self, node: NodeId) -> usize {
        self.led.get(&node).copied().unwrap_or_default()
    }

    /// Pairs of replicas in one zone.
    fn conflicts(&self, replicas: &[NodeId]) -> usize {
        let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
        for zone in replicas.iter().filter_map(|node| self.zone(*node)) {
            *zones.entry(zone).or_default() += 1;
        }
        zones.values().map(|count| count * (count - 1) / 2).sum()
    }

    fn has_majority(&self, replicas: &[NodeId]) -> bool {
        replicas.iter().filter(|node| self.alive(**node)).count() * 2 > replicas.len()
    }

    /// The record with other replicas, if a majority is there before and after.
    fn with(&self, shard: &ShardRecord, replicas: Vec<NodeId>) -> Option<ShardRecord> {
        if replicas.is_empty() || !self.has_majority(&shard.replicas) || !self.has_majority(&replicas) {
            return None;
        }
        let mut record = ShardRecord { replicas, ..shard.clone() };
        if !record.replicas.contains(&record.preferred) || !self.is_full(record.preferred) {
            record.preferred = self.best_leader(&record.replicas)?;
        }
        Some(record)
    }

    fn best_leader(&self, replicas: &[NodeId]) -> Option<NodeId> {
        replicas
            .iter()
            .copied()
            .min_by_key(|node| (!self.is_full(*node), !self.alive(*node), self.led_of(*node), *node))
    }

    /// The best node for one more replica beside `rest`, of those that are not among `taken`.
    fn candidate(&self, rest: &[NodeId], taken: &[NodeId]) -> Option<NodeId> {
        let free = self
            .sites
            .values()
            .filter(|site| site.duty == Duty::Full && site.alive && !taken.contains(&site.node));
        free.map(|site| site.node).min_by_key(|node| {
            let mut all = rest.to_vec();
            all.push(*node);
            (self.conflicts(&all), self.load_of(*node), *node)
        })
    }

    /// What is wrong with one shard by itself: a replica where none should be, too few, too many, two in one zone.
    fn repair(&self, shard: &ShardRecord) -> Option<ShardRecord> {
        let replicas = &shard.replicas;
        // Leaving before drained, and of those the dead first.
        let misplaced = replicas
            .iter()
            .copied()
            .filter(|node| !self.is_full(*node))
            .min_by_key(|node| (self.duty(*node) != Duty::Leaving, self.alive(*node), *node));
        if let Some(node) = misplaced {
            let rest: Vec<NodeId> = replicas.iter().copied().filter(|other| *other != node).collect();
            if let Some(place) = self.candidate(&rest, replicas) {
                let mut moved = rest.clone();
                moved.push(place);
                if let Some(record) = self.with(shard, moved) {
                    return Some(record);
                }
            }
            // Nowhere to go to: who leaves leaves, who is drained keeps it.
            if self.duty(node) == Duty::Leaving
                && let Some(record) = self.with(shard, rest)
            {
                return Some(record);
            }
        }
        if replicas.len() < self.want.0
            && let Some(place) = self.candidate(replicas, replicas)
        {
            let mut more = replicas.clone();
            more.push(place);
            return self.with(shard, more);
        }
        let without = |node: &NodeId| -> Vec<NodeId> {
            replicas.iter().copied().filter(|other| other != node).collect()
        };
        if replicas.len() > self.want.1 {
            let spare = replicas.iter().copied().min_by_key(|node| {
                let load = usize::MAX - self.load_of(*node);
                (self.is_full(*node), self.alive(*node), self.conflicts(&without(node)), load, *node)
            })?;
            return self.with(shard, without(&spare));
        }
        let now = self.conflicts(replicas);
        if now == 0 {
            return None;
        }
        let better = replicas.iter().filter_map(|node| {
            let mut moved = without(node);
            moved.push(self.candidate(&moved, replicas)?);
            let conflicts = self.conflicts(&moved);
            (conflicts < now).then_some((conflicts, moved))
        });
        let (_, moved) = better.min_by_key(|(conflicts, _)| *conflicts)?;
        self.with(shard, moved)
    }

    /// A replica from a node that has many to one that has few, if that leaves the zones as good as they are.
    fn balance<'s>(
        &self,
        shards: impl Iterator<Item = &'s ShardRecord> + Clone,
    ) -> Option<(&'s ShardRecord, ShardRecord)> {
        let mut nodes: Vec<NodeId> = self
            .sites
            .values()
            .filter(|site| site.duty == Duty::Full && site.alive)
            .map(|site| site.node)
            .collect();
        nodes.sort_unstable_by_key(|node| (self.load_of(*node), *node));
        for poor in &nodes {
            for rich in nodes.iter().rev() {
                if self.load_of(*rich) < self.load_of(*poor) + 2 {
                    break;
                }
                let movable = shards
                    .clone()
                    .filter(|shard| shard.replicas.contains(rich) && !shard.replicas.contains(poor));
                // Rather one that is led elsewhere: then no leader moves.
                let mut movable: Vec<&ShardRecord> = movable.collect();
                movable.sort_by_key(|shard| (shard.preferred == *rich, shard.shard));
                for shard in movable {
                    let replicas: Vec<NodeId> =
                        shard.replicas.iter().map(|node| if node == rich { *poor } else { *node }).collect();
                    if self.conflicts(&replicas) <= self.conflicts(&shard.replicas)
                        && let Some(moved) = self.with(shard, replicas)
                    {
                        return Some((shard, moved));
                    }
                }
            }
        }
        None
    }

    /// Leaders away from where none should be, and from nodes that have many to those that have few.
    fn prefer<'s>(&mut self, shards: impl Iterator<Item = &'s ShardRecord> + Clone) -> Vec<ShardRecord> {
        let mut changed: Vec<ShardRecord> = Vec::new();
        for shard in shards.clone() {
            let fits = shard.replicas.contains(&shard.preferred) && self.is_full(shard.preferred);
            if !fits && let Some(best) = self.best_leader(&shard.replicas).filter(|best| self.is_full(*best))
            {
                let record = ShardRecord { preferred: best, ..shard.clone() };
                self.take(shard, &record);
                changed.push(record);
            }
        }
        while changed.len() < PREFERENCES_AT_ONCE {
            let open = |shard: &&ShardRecord| !changed.iter().any(|done| done.shard == shard.shard);
            let best = shards.clone().filter(open).filter(|shard| self.is_full(shard.preferred)).filter_map(
                |shard| {
                    let to = shard
                        .replicas
                        .iter()
                        .copied()
                        .filter(|node| self.is_full(*node) && self.alive(*node));
                    let to = to.min_by_key(|node| (self.led_of(*node), *node))?;
                    let gain = self.led_of(shard.preferred).checked_sub(self.led_of(to) + 2)?;
                    Some((gain, shard, to))
                },
            );
            let Some((_, shard, to)) =
                best.max_by_key(|(gain, shard, _)| (*gain, std::cmp::Reverse(shard.shard)))
            else {
                break;
            };
            let record = ShardRecord { preferred: to, ..shard.clone() };
            self.take(shard, &record);
            changed.push(record);
        }
        changed
    }
}

/// Who should vote in the metadata group: an odd number of at most [`METADATA_VOTERS_MAX`] nodes (two of two), over as
/// many zones as there are, rather those that vote already. Never nobody, as long as `current` is somebody. Where fewer than three
/// nodes are left beside drained ones, so many of these vote, too, that there are three: of one or two voters none may be lost.
#[must_use]
pub fn metadata_voters(sites: &[Site], current: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let of_duty = |duty| sites.iter().filter(move |site| site.duty == duty);
    let mut eligible: Vec<&Site> = of_duty(Duty::Full).collect();
    let missing = METADATA_VOTERS_SAFE.saturating_sub(eligible.len());
    let mut drained: Vec<&Site> = of_duty(Duty::Drained).collect();
    if !eligible.is_empty() && drained.len() >= missing {
        drained.sort_unstable_by_key(|site| (!site.alive, !current.contains(&site.node), site.node));
        eligible.extend(drained.into_iter().take(missing));
    }
    let count = match eligible.len() {
        0 => return current.clone(),
        few @ (1 | 2) => few,
        many => {
            let count = many.min(METADATA_VOTERS_MAX);
            count - (1 - count % 2)
        }
    };
    let mut chosen: BTreeSet<NodeId> = BTreeSet::new();
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    while chosen.len() < count {
        let next = eligible.iter().filter(|site| !chosen.contains(&site.node)).min_by_key(|site| {
            let crowd = site.zone.as_deref().and_then(|zone| zones.get(zone)).copied().unwrap_or_default();
            (!site.alive, crowd, !current.contains(&site.node), site.node)
        });
        let Some(site) = next else { break };
        chosen.insert(site.node);
        if let Some(zone) = site.zone.as_deref() {
            *zones.entry(zone).or_default() += 1;
        }
    }
    chosen
}
