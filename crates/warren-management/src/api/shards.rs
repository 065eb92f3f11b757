//! Warren's own: the Raft groups as the asked node sees them.

use serde_json::{Map, Value, json};
use warren_broker::admin::ShardInfo;

use super::{Asked, NodeNames};
use crate::answer::Answer;
use crate::error::ApiError;

impl Asked<'_> {
    pub(super) fn shards(&self) -> Result<Answer, ApiError> {
        self.caller.must_monitor()?;
        let names = self.node_names();
        Ok(Answer::List(self.admin.shards().iter().map(|shard| shape_shard(shard, &names)).collect()))
    }
}

/// `shard` is null for the metadata group; `lag` is there when the asked node leads.
fn shape_shard(shard: &ShardInfo, names: &NodeNames) -> Value {
    let lag: Map<String, Value> =
        shard.lag.iter().map(|(node, entries)| (names.get(*node), json!(entries))).collect();
    json!({
        "name": shard.shard.map_or("metadata".to_owned(), |number| number.to_string()),
        "shard": shard.shard.map(|number| number.0),
        "leader": shard.leader.map(|node| names.get(node)),
        "members": names.all(&shard.members),
        "preferred": shard.preferred.map(|node| names.get(node)),
        "term": shard.term,
        "last_log": shard.last_log,
        "applied": shard.applied,
        "settled": shard.settled,
        "lag": lag,
    })
}
