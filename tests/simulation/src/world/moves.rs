//! Machines come into the cluster and go from it; and what must be true of the replicas at the end, wherever they are.

use std::sync::atomic::Ordering;

use warren_broker::admin::NodeChange;
use warren_types::{NodeId, ShardId};

use super::World;
use crate::machine::{Death, Machine};
use crate::network::Host;

/// Until replicas are where they should be and have applied the same.
const SETTLE_MS: u64 = 60_000;

impl World {
    /// A machine that is not in the cluster starts, with the seeds of the others.
    pub(super) fn join(&mut self) {
        let Some(host) = self.spare.pop_first() else { return };
        self.field.switches.nodes.fetch_max(host, Ordering::Relaxed);
        self.start(host);
    }

    /// An operator changes what a node is there for, through any that is there. The cluster may refuse.
    pub(super) fn set_duty(&mut self, host: Host, change: NodeChange) {
        let there =
            |machine: &&Machine| machine.node().is_some() && !self.paused_until.contains_key(&machine.host);
        let Some(machine) = self.machines.iter().find(there) else { return };
        match change {
            NodeChange::Remove | NodeChange::Replace => {
                self.leaving.insert(host);
            }
            NodeChange::Drain | NodeChange::Undrain => {}
        }
        machine.operate(host, change);
    }

    /// A node loses its disk. Only one of a run does, and only while all replicas are where they should be: two lost disks may
    /// be all that had a message.
    pub(super) fn wipe(&mut self, host: Host, back_after_ms: u64) {
        let well = self.paused_until.is_empty()
            && self.back_at.is_empty()
            && self.heal_at.is_none()
            && self.disk_until.is_empty()
            && self.leaving.is_empty();
        let settled = self.machines.iter().filter_map(Machine::is_settled).all(|settled| settled);
        if self.wiped || !well || !settled || !self.is_up(host) {
            return;
        }
        self.wiped = true;
        self.trace.note(format_args!("node {host}: loses its disk"));
        self.back_after.insert(host, back_after_ms);
        self.die(host, Death::Power);
        if let Some(machine) = self.machines.get_mut(host - 1) {
            machine.wipe();
        }
    }

    /// Whether a node ends because it was removed.
    pub(super) fn has_left(&self, host: Host, reason: &str) -> bool {
        self.leaving.contains(&host) && reason.contains("was removed from its cluster")
    }

    /// It can come again, as a new node.
    pub(super) fn take_away(&mut self, host: Host) {
        self.trace.note(format_args!("node {host}: was removed"));
        self.die(host, Death::Process);
        self.back_at.remove(&host);
        if let Some(machine) = self.machines.get_mut(host - 1) {
            machine.wipe();
        }
        self.leaving.remove(&host);
        self.spare.insert(host);
    }

    /// Replicas that have applied the same are the same.
    pub(super) fn compare(&mut self, shards: u32) {
        let mut differs = String::new();
        let same = self.until(SETTLE_MS, |world| {
            if world.trace.now_ms() % 200 != 0 {
                return false;
            }
            differs.clear();
            for shard in (1..=shards).map(ShardId) {
                if let Some(how) = world.difference(shard) {
                    differs = format!("{shard}: {how}");
                }
            }
            if let Some(how) = world.leaderless() {
                differs = how;
            }
            differs.is_empty()
        });
        if !same {
            self.history.violation(format_args!("stuck or different: {differs}"));
        }
        for machine in self.machines.iter().filter(|machine| !self.spare.contains(&machine.host)) {
            if machine.node().is_none() {
                self.history.violation(format_args!("node {} is not up", machine.host));
            }
        }
    }

    /// A node that knows no leader of a shard. For a moment there may be none: a leadership may just go back to its place.
    fn leaderless(&self) -> Option<String> {
        self.machines.iter().find_map(|machine| {
            let shards = machine.node()?.admin().shards();
            let without = shards.iter().find(|shard| shard.leader.is_none())?;
            Some(format!("node {} knows no leader of {:?}", machine.host, without.shard))
        })
    }

    /// How a shard's replicas differ, or why that cannot be said.
    fn difference(&self, shard: ShardId) -> Option<String> {
        let known = self.machines.iter().find_map(|machine| {
            let shards = machine.node()?.admin().shards();
            shards.into_iter().find(|known| known.shard == Some(shard))
        });
        let Some(known) = known else { return Some("nobody knows it".to_owned()) };
        if !known.settled {
            return Some(format!("not settled on {:?}; {}", known.members, self.nodes()));
        }
        let mut replicas = Vec::new();
        for member in &known.members {
            match self.machine_of(*member) {
                Some(machine) => replicas.push(machine.replica(shard)),
                None => return Some(format!("{member} is not up; {}", self.nodes())),
            }
        }
        let differ = replicas.windows(2).any(|pair| pair.first() != pair.last());
        (differ || replicas.contains(&None)).then(|| format!("{replicas:x?}"))
    }

    /// Who is in the cluster, as the first that is up knows.
    fn nodes(&self) -> String {
        let Some(node) = self.machines.iter().find_map(Machine::node) else { return String::new() };
        let nodes = node.admin().nodes();
        let told = nodes.iter().map(|node| {
            format!("{} {} {} {}", node.name, node.id, node.duty, if node.running { "up" } else { "down" })
        });
        told.collect::<Vec<_>>().join(", ")
    }

    fn machine_of(&self, node: NodeId) -> Option<&Machine> {
        self.machines.iter().find(|machine| machine.id() == Some(node))
    }
}
