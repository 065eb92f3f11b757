//! A queue's replicas as RabbitMQ tells of a quorum queue's.

use serde_json::{Value, json};
use warren_types::QueueHost;

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;

impl Asked<'_> {
    /// One line for each replica. How far another node is, this one knows only of what it leads.
    pub(super) async fn quorum_status(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, vhost)?;
        let queue = self.admin.queue(vhost, name).await.ok_or(ApiError::ObjectNotFound)?;
        let QueueHost::Shard(shard) = queue.spec.host else {
            let body = json!({ "status": "failed", "reason": "classic_queue_not_supported" });
            return Ok(Answer::No(body));
        };
        let groups = self.admin.shards();
        let group = groups.iter().find(|group| group.shard == Some(shard)).ok_or(ApiError::ObjectNotFound)?;
        let names = self.node_names();
        let this = self.admin.nodes().into_iter().find(|node| node.this).map(|node| node.id);
        let status = group.members.iter().map(|member| {
            let lag = group.lag.iter().find(|(node, _)| node == member).map(|(_, entries)| *entries);
            let last = match lag {
                Some(entries) => group.last_log.map(|last| last.saturating_sub(entries)),
                None if this == Some(*member) => group.last_log,
                None => None,
            };
            let applied = group.applied.filter(|_| this == Some(*member));
            let state = match (queue.online.contains(member), group.leader == Some(*member)) {
                (false, _) => "noproc",
                (true, true) => "leader",
                (true, false) => "follower",
            };
            json!({
                "Node Name": names.get(*member),
                "Raft State": state,
                "Membership": "voter",
                "Last Log Index": number(last),
                "Last Written": number(last),
                "Last Applied": number(applied),
                "Commit Index": number(applied),
                "Snapshot Index": Value::Null,
                "Term": group.term,
                "Machine Version": 0,
            })
        });
        Ok(Answer::Document(status.collect()))
    }
}

/// What is not known is empty, as in RabbitMQ.
fn number(value: Option<u64>) -> Value {
    value.map_or_else(|| "".into(), Value::from)
}
