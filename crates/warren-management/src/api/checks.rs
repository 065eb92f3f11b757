//! Health checks that say something about the cluster. Those about listeners are in `listening`.

use serde_json::{Value, json};
use warren_broker::admin::Admin;

use super::Asked;
use crate::answer::Answer;

fn ok() -> Answer {
    Answer::Document(json!({ "status": "ok" }))
}

/// Whether as many nodes are there as the cluster has.
pub(super) fn cluster_size(admin: &dyn Admin) -> Answer {
    let nodes = admin.nodes();
    let online = nodes.iter().filter(|node| node.running).count();
    if online == nodes.len() {
        return ok();
    }
    Answer::No(json!({
        "status": "failed",
        "reason": "not all nodes of the cluster are running",
        "online": online,
        "target": nodes.len(),
    }))
}

impl Asked<'_> {
    /// Whether a group would lose its majority if this node stopped now.
    pub(super) fn quorum_critical(&self) -> Answer {
        let nodes = self.admin.nodes();
        if nodes.len() == 1 {
            return Answer::Document(json!({ "status": "ok", "reason": "single node cluster" }));
        }
        let this = nodes.iter().find(|node| node.this).map(|node| node.id);
        let others_running: Vec<_> =
            nodes.iter().filter(|node| node.running && !node.this).map(|node| node.id).collect();
        let critical: Vec<Value> = self
            .admin
            .shards()
            .into_iter()
            .filter(|group| {
                let left = group.members.iter().filter(|member| others_running.contains(member)).count();
                this.is_some_and(|this| group.members.contains(&this)) && left * 2 <= group.members.len()
            })
            .map(|group| match group.shard {
                Some(shard) => json!({ "name": format!("shard {shard}"), "type": "shard" }),
                None => json!({ "name": "metadata", "type": "metadata" }),
            })
            .collect();
        if critical.is_empty() {
            return ok();
        }
        Answer::No(json!({
            "status": "failed",
            "reason": "There are groups that would lose their quorum if the target node is shut down",
            "queues": critical,
        }))
    }

    /// Whether every group of queues has a leader.
    pub(super) fn leaders(&self) -> Answer {
        let leaderless: Vec<Value> = self
            .admin
            .shards()
            .into_iter()
            .filter(|group| group.leader.is_none())
            .filter_map(|group| group.shard)
            .map(|shard| json!({ "name": format!("shard {shard}"), "type": "shard" }))
            .collect();
        if leaderless.is_empty() {
            return ok();
        }
        Answer::No(
            json!({ "status": "failed", "reason": "There are groups without a leader", "queues": leaderless }),
        )
    }

    /// Whether the catalogue is there.
    pub(super) fn metadata_store(&self) -> Answer {
        if self.admin.vhosts().is_empty() {
            return Answer::No(json!({ "status": "failed", "reason": "the cluster has not formed yet" }));
        }
        ok()
    }
}
