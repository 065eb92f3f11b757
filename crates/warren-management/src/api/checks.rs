//! Health checks that say something about the cluster, and what tools of RabbitMQ ask that is always the same here.

use serde_json::{Value, json};

use super::Asked;
use super::overview::RABBITMQ_VERSION;
use crate::answer::Answer;
use crate::error::ApiError;
use crate::path::{Fixed, Protocol};

fn ok() -> Answer {
    Answer::Document(json!({ "status": "ok" }))
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

    /// Whether clients may connect to this port of the node.
    pub(super) fn port_listener(&self, port: u16) -> Answer {
        let ports = self.admin.client_ports();
        if ports.contains(&port) {
            return Answer::Document(json!({ "status": "ok", "port": port }));
        }
        Answer::No(
            json!({ "status": "failed", "reason": "No active listener", "missing": port, "ports": ports }),
        )
    }

    /// Whether this node speaks the protocol.
    pub(super) fn protocol_listener(&self, protocol: Protocol) -> Answer {
        match protocol {
            Protocol::Amqp => Answer::Document(json!({ "status": "ok", "protocol": "amqp" })),
            Protocol::Http => Answer::Document(json!({ "status": "ok", "protocol": "http" })),
            Protocol::Other => Answer::No(json!({
                "status": "failed",
                "reason": "No active listener",
                "protocols": ["amqp", "http"],
            })),
        }
    }

    /// Whether as many nodes are there as the cluster has.
    pub(super) fn cluster_size(&self) -> Answer {
        let nodes = self.admin.nodes();
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

    /// Whether the catalogue is there.
    pub(super) fn metadata_store(&self) -> Answer {
        if self.admin.vhosts().is_empty() {
            return Answer::No(json!({ "status": "failed", "reason": "the cluster has not formed yet" }));
        }
        ok()
    }

    pub(super) fn fixed(&self, fixed: Fixed) -> Result<Answer, ApiError> {
        match fixed {
            Fixed::Auth => Ok(Answer::Document(json!({ "oauth_enabled": false }))),
            Fixed::AuthAttempts => {
                self.caller.must_monitor()?;
                Ok(Answer::List(Vec::new()))
            }
            Fixed::HashPassword(password) => {
                self.caller.must_administrate()?;
                let failed = || ApiError::Unavailable("no random numbers".to_owned());
                let hash = self.admin.hash_password(&password).ok_or_else(failed)?;
                Ok(Answer::Document(json!({ "ok": hash })))
            }
            Fixed::Version => Ok(Answer::Document(json!(RABBITMQ_VERSION))),
            Fixed::Nothing => Ok(Answer::List(Vec::new())),
            Fixed::Done | Fixed::QueueAction { .. } => Err(ApiError::ObjectNotFound),
        }
    }

    /// What there is nothing to do for.
    pub(super) async fn act(&self, fixed: Fixed) -> Result<Answer, ApiError> {
        match fixed {
            Fixed::Done => {
                self.caller.must_administrate()?;
                Ok(Answer::Done)
            }
            Fixed::AuthAttempts => {
                self.caller.must_monitor()?;
                Ok(Answer::Done)
            }
            Fixed::QueueAction { vhost, name } => {
                self.caller.must_see(self.admin, &vhost)?;
                self.must_exist(&vhost, &name).await?;
                match self.object.text("action")?.unwrap_or_default() {
                    // Queues are always in step.
                    "sync" | "cancel_sync" => Ok(Answer::Done),
                    other => Err(ApiError::BadRequest(format!("unknown action: {other}"))),
                }
            }
            Fixed::Auth | Fixed::HashPassword(_) | Fixed::Version | Fixed::Nothing => {
                Err(ApiError::MethodNotAllowed("HEAD, GET, OPTIONS"))
            }
        }
    }
}
