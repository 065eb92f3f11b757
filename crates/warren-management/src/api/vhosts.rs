//! Virtual hosts.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use warren_broker::admin::VhostMetadata;

use super::users::tags;
use super::{Asked, checked_name, created};
use crate::answer::Answer;
use crate::body::Object;
use crate::error::ApiError;

impl Asked<'_> {
    pub(super) async fn vhosts(&self) -> Answer {
        let mut vhosts = self.admin.vhosts();
        vhosts.retain(|vhost| self.caller.is_monitor() || self.caller.sees(vhost));
        let state = self.cluster_state();
        let mut counts: HashMap<String, (u64, u64)> = HashMap::new();
        for queue in self.admin.queues(None).await {
            let (ready, unacked) = counts.entry(queue.spec.vhost.to_string()).or_default();
            *ready += queue.ready.unwrap_or_default();
            *unacked += queue.unacked.unwrap_or_default();
        }
        let count = |vhost: &str| counts.get(vhost).copied().unwrap_or_default();
        Answer::List(vhosts.iter().map(|vhost| self.shape_vhost(vhost, &state, count(vhost))).collect())
    }

    pub(super) async fn vhost(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, name)?;
        let queues = self.admin.queues(Some(name)).await;
        let ready = queues.iter().filter_map(|queue| queue.ready).sum();
        let unacked = queues.iter().filter_map(|queue| queue.unacked).sum();
        Ok(Answer::Document(self.shape_vhost(name, &self.cluster_state(), (ready, unacked))))
    }

    pub(super) async fn put_vhost(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        checked_name("vhost's name", name)?;
        let before = self.admin.vhost_metadata(name).unwrap_or_default();
        let metadata = read_metadata(self.object, before.clone())?;
        let new = self.admin.create_vhost(name, Some(&self.caller.name)).await;
        let new = new.map_err(|error| ApiError::on_put(error, "not_found"))?;
        if metadata != before {
            let set = self.admin.set_vhost_metadata(name, metadata).await;
            set.map_err(|error| ApiError::on_put(error, "not_found"))?;
        }
        Ok(created(new))
    }

    pub(super) async fn delete_vhost(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        let metadata = self.admin.vhost_metadata(name).ok_or(ApiError::ObjectNotFound)?;
        if metadata.protected {
            let text = format!("Cannot delete protected virtual host '{name}'");
            return Err(ApiError::PreconditionFailed(text));
        }
        self.admin.delete_vhost(name).await?;
        Ok(Answer::Done)
    }

    fn cluster_state(&self) -> Map<String, Value> {
        let running = self.admin.nodes().into_iter().filter(|node| node.running);
        running.map(|node| (node.name, json!("running"))).collect()
    }

    /// `counts`: messages that are ready in its queues, and those that are unacknowledged.
    fn shape_vhost(&self, name: &str, cluster_state: &Map<String, Value>, counts: (u64, u64)) -> Value {
        let (ready, unacked) = counts;
        let metadata = self.admin.vhost_metadata(name).unwrap_or_default();
        let default_queue_type = match metadata.default_queue_type.as_str() {
            "" => "classic",
            told => told,
        };
        json!({
            "name": name,
            "description": metadata.description,
            "tags": metadata.tags,
            "metadata": shape_metadata(&metadata),
            "default_queue_type": default_queue_type,
            "tracing": metadata.traced,
            "protected_from_deletion": metadata.protected,
            "cluster_state": cluster_state,
            "messages": ready + unacked,
            "messages_ready": ready,
            "messages_unacknowledged": unacked,
        })
    }
}

/// What is said of a vhost, as its `metadata`.
pub(super) fn shape_metadata(metadata: &VhostMetadata) -> Value {
    let mut shape = json!({ "description": metadata.description, "tags": metadata.tags });
    if let (false, Value::Object(shape)) = (metadata.default_queue_type.is_empty(), &mut shape) {
        shape.insert("default_queue_type".to_owned(), metadata.default_queue_type.as_str().into());
    }
    shape
}

/// What a PUT or a set of definitions says of a vhost, over what was said before.
///
/// # Errors
/// 400 for a field of the wrong kind, or a queue type that does not exist.
pub(super) fn read_metadata(object: &Object, mut metadata: VhostMetadata) -> Result<VhostMetadata, ApiError> {
    if let Some(Value::Object(inner)) = object.get("metadata") {
        metadata = read_metadata(&Object::of(inner.clone()), metadata)?;
    }
    if let Some(description) = object.text("description")? {
        metadata.description = description.to_owned();
    }
    if let Some(found) = object.get("tags") {
        metadata.tags = tags(Some(found))?;
    }
    if let Some(queue_type) = object.text("default_queue_type")? {
        metadata.default_queue_type = match queue_type {
            // How older brokers write that there is none.
            "undefined" => String::new(),
            "" | "classic" | "quorum" | "stream" => queue_type.to_owned(),
            other => return Err(ApiError::BadRequest(format!("unsupported queue type '{other}'"))),
        };
    }
    metadata.protected = object.truth("protected_from_deletion", metadata.protected)?;
    metadata.traced = object.truth("tracing", metadata.traced)?;
    Ok(metadata)
}
