//! The cluster's nodes. Of the others only what every node knows; of this one also its process.

use serde_json::{Value, json};
use warren_broker::Resources;
use warren_broker::admin::{NodeChange, NodeInfo};

use super::Asked;
use super::overview::{RABBITMQ_VERSION, exchange_types};
use crate::answer::Answer;
use crate::error::ApiError;
use crate::process::Process;

impl Asked<'_> {
    pub(super) fn nodes(&self) -> Result<Answer, ApiError> {
        self.caller.must_monitor()?;
        let own = Process::read(self.started);
        let mut nodes = self.admin.nodes();
        nodes.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Answer::List(nodes.iter().map(|node| self.shape_node(node, &own)).collect()))
    }

    pub(super) fn node(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_monitor()?;
        let nodes = self.admin.nodes();
        let node = nodes.iter().find(|node| node.name == name).ok_or(ApiError::ObjectNotFound)?;
        Ok(Answer::Document(self.shape_node(node, &Process::read(self.started))))
    }

    /// Warren's own: what has to move moves afterwards, and the node's `duty`, `replicas` and `moving` tell how far it is.
    pub(super) async fn change_node(&self, name: &str, change: NodeChange) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        self.admin.change_node(name, change).await?;
        Ok(Answer::Done)
    }

    /// Strict clients fail on the whole list when a key is absent from one node: numbers of other nodes, which this
    /// one does not know, are 0.
    fn shape_node(&self, node: &NodeInfo, own: &Process) -> Value {
        let process = if node.this { *own } else { Process::default() };
        let resources = if node.this { self.admin.resources() } else { Resources::default() };
        let mut shape = json!({
            "name": node.name,
            "type": "disc",
            "running": node.running,
            "being_drained": node.duty != "full",
            "os_pid": process.id.to_string(),
            // Clients read it into 32 bits.
            "uptime": process.uptime_ms.min(u32::MAX.into()),
            "run_queue": 0,
            "processors": process.processors,
            "rates_mode": "basic",
            "fd_used": process.open_files,
            "fd_total": process.open_files_max,
            "sockets_used": if node.this { self.admin.connections().len() } else { 0 },
            "sockets_total": process.open_files_max,
            "mem_used": process.resident_bytes,
            "mem_limit": resources.memory_limit,
            "mem_alarm": node.alarms.memory,
            "mem_calculation_strategy": "rss",
            "disk_free_limit": resources.disk_limit,
            "disk_free_alarm": node.alarms.disk,
            // Erlang's processes and their usual limit: here there are none, but strict clients want a limit.
            "proc_used": 0,
            "proc_total": 1_048_576,
            "net_ticktime": 0,
            "enabled_plugins": ["rabbitmq_management", "rabbitmq_prometheus"],
            "exchange_types": exchange_types(),
            "auth_mechanisms": auth_mechanisms(),
            "rabbitmq_version": RABBITMQ_VERSION,
            "erlang_version": "none",
            "erlang_full_version": "none",
            "crypto_lib_version": "rustls",
            // Where older clients look for the version.
            "applications": [{ "name": "rabbit", "description": "RabbitMQ", "version": RABBITMQ_VERSION }],
            // Beyond RabbitMQ.
            "address": node.address,
            "node_id": format!("{:016x}", node.id.0),
            "metadata_leader": node.metadata_leader,
            "shards_led": node.shards_led,
            "metadata_voter": node.metadata_voter,
            "duty": node.duty,
            "zone": node.zone,
            "replicas": node.replicas,
            "moving": node.moving,
        });
        if let Value::Object(shape) = &mut shape {
            for nothing in ["log_files", "config_files", "partitions", "cluster_links"] {
                shape.insert(nothing.to_owned(), Value::Array(Vec::new()));
            }
            shape.insert("disk_free".to_owned(), resources.disk_free.into());
            let contexts = if node.this { self.shape_contexts() } else { json!([]) };
            shape.insert("contexts".to_owned(), contexts);
        }
        shape
    }
}

fn auth_mechanisms() -> Value {
    ["PLAIN", "AMQPLAIN"]
        .iter()
        .map(|name| json!({ "name": name, "description": "", "enabled": true }))
        .collect()
}
