//! Virtual hosts.

use serde_json::{Map, Value, json};

use super::{Asked, checked_name, created};
use crate::answer::Answer;
use crate::error::ApiError;

impl Asked<'_> {
    pub(super) fn vhosts(&self) -> Answer {
        let mut vhosts = self.admin.vhosts();
        vhosts.retain(|vhost| self.caller.is_monitor() || self.caller.sees(vhost));
        let state = self.cluster_state();
        Answer::List(vhosts.iter().map(|vhost| shape_vhost(vhost, &state)).collect())
    }

    pub(super) fn vhost(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, name)?;
        Ok(Answer::Document(shape_vhost(name, &self.cluster_state())))
    }

    pub(super) async fn put_vhost(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        checked_name("vhost's name", name)?;
        let new = self.admin.create_vhost(name, Some(&self.caller.name)).await;
        new.map(created).map_err(|error| ApiError::on_put(error, "not_found"))
    }

    pub(super) async fn delete_vhost(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        if !self.admin.vhosts().iter().any(|vhost| vhost == name) {
            return Err(ApiError::ObjectNotFound);
        }
        self.admin.delete_vhost(name).await?;
        Ok(Answer::Done)
    }

    fn cluster_state(&self) -> Map<String, Value> {
        let running = self.admin.nodes().into_iter().filter(|node| node.running);
        running.map(|node| (node.name, json!("running"))).collect()
    }
}

fn shape_vhost(name: &str, cluster_state: &Map<String, Value>) -> Value {
    json!({
        "name": name,
        "description": "",
        "tags": [],
        "metadata": { "description": "", "tags": [] },
        "default_queue_type": "classic",
        "tracing": false,
        "protected_from_deletion": false,
        "cluster_state": cluster_state,
    })
}
