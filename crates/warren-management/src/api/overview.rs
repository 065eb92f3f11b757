//! The whole broker in one object, and who asks.

use serde_json::{Value, json};

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;

/// The RabbitMQ whose behaviour Warren has: what clients of the HTTP API compare. Our own version is beside it.
pub(crate) use warren_broker::RABBITMQ_VERSION;

/// What counts messages through the broker in RabbitMQ's overview.
const MESSAGE_RATES: &[&str] = &[
    "publish",
    "confirm",
    "return_unroutable",
    "drop_unroutable",
    "deliver",
    "deliver_no_ack",
    "get",
    "get_no_ack",
    "get_empty",
    "deliver_get",
    "redeliver",
    "ack",
    "disk_reads",
    "disk_writes",
];

const EXCHANGE_TYPES: &[&str] = &[
    "direct",
    "fanout",
    "headers",
    "topic",
    "x-consistent-hash",
    "x-delayed-message",
    "x-local-random",
    "x-modulus-hash",
    "x-random",
    "x-recent-history",
];

impl Asked<'_> {
    pub(super) async fn overview(&self) -> Result<Answer, ApiError> {
        let mut queues = self.admin.queues(None).await;
        queues.retain(|queue| self.caller.sees(&queue.spec.vhost));
        let ready: u64 = queues.iter().filter_map(|queue| queue.ready).sum();
        let unacked: u64 = queues.iter().filter_map(|queue| queue.unacked).sum();
        let consumers: u64 = queues.iter().filter_map(|queue| queue.consumers).map(u64::from).sum();
        let exchanges = self
            .admin
            .exchanges(None)
            .into_iter()
            .filter(|exchange| self.caller.sees(&exchange.vhost))
            .count();
        let connections = self.visible_connections(false).await;
        let channels: u64 = connections.iter().map(|connection| u64::from(connection.channels)).sum();
        let mut overview = json!({
            "management_version": RABBITMQ_VERSION,
            "rabbitmq_version": RABBITMQ_VERSION,
            "product_name": "Warren",
            "product_version": self.admin.version(),
            "erlang_version": "none",
            "erlang_full_version": "none",
            "cluster_name": self.admin.cluster_name(),
            // Rates are not measured: read the counters of the metrics endpoint.
            "rates_mode": "none",
            "sample_retention_policies": { "global": [], "basic": [], "detailed": [] },
            "exchange_types": exchange_types(),
            "disable_stats": false,
            "enable_queue_totals": false,
            "default_queue_type": "classic",
            "is_op_policy_updating_enabled": false,
            "message_stats": MESSAGE_RATES.iter().flat_map(|name| zeros(name)).collect::<serde_json::Map<_, _>>(),
            "churn_rates": {},
            "queue_totals": {
                "messages": ready + unacked,
                "messages_details": { "rate": 0.0 },
                "messages_ready": ready,
                "messages_ready_details": { "rate": 0.0 },
                "messages_unacknowledged": unacked,
                "messages_unacknowledged_details": { "rate": 0.0 },
            },
            "object_totals": {
                "channels": channels,
                "connections": connections.len(),
                "consumers": consumers,
                "exchanges": exchanges,
                "queues": queues.len(),
            },
            "statistics_db_event_queue": 0,
        });
        if let (true, Value::Object(overview)) = (self.caller.is_monitor(), &mut overview) {
            overview.insert("node".to_owned(), self.admin.node_name().into());
            overview.insert("listeners".to_owned(), json!([]));
            overview.insert("contexts".to_owned(), json!([]));
        }
        Ok(Answer::Document(overview))
    }

    pub(super) fn who_am_i(&self) -> Answer {
        Answer::Document(json!({ "name": self.caller.name, "tags": self.caller.tags }))
    }

    pub(super) fn cluster_name(&self) -> Answer {
        Answer::Document(json!({ "name": self.admin.cluster_name() }))
    }
}

pub(super) fn exchange_types() -> Value {
    EXCHANGE_TYPES
        .iter()
        .map(|name| json!({ "name": name, "description": format!("AMQP {name} exchange"), "enabled": true }))
        .collect()
}

fn zeros(name: &str) -> [(String, Value); 2] {
    [(name.to_owned(), json!(0)), (format!("{name}_details"), json!({ "rate": 0.0 }))]
}
