//! The whole broker in one object, and who asks.

use serde_json::{Value, json};

use super::Asked;
use super::rates::{Happened, churn, put_publishes};
use crate::answer::Answer;
use crate::error::ApiError;

/// The RabbitMQ whose behaviour Warren has: what clients of the HTTP API compare. Our own version is beside it.
pub(crate) use warren_broker::RABBITMQ_VERSION;

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
        let happened = Happened::of_all(queues.iter());
        let (ready_rate, unacked_rate) = happened.growth();
        let mut stats = happened.message_stats();
        let flow = self.admin.flow().await;
        if self.caller.is_monitor() {
            put_publishes(&mut stats, &flow);
        }
        let mut overview = json!({
            "management_version": RABBITMQ_VERSION,
            "rabbitmq_version": RABBITMQ_VERSION,
            "product_name": "Warren",
            "product_version": self.admin.version(),
            "erlang_version": "none",
            "erlang_full_version": "none",
            "crypto_lib_version": "rustls",
            "cluster_tags": {},
            "node_tags": {},
            "cluster_name": self.admin.cluster_name(),
            "rates_mode": "basic",
            "sample_retention_policies": { "global": [], "basic": [], "detailed": [] },
            "exchange_types": exchange_types(),
            "disable_stats": false,
            "enable_queue_totals": false,
            "default_queue_type": "classic",
            "is_op_policy_updating_enabled": false,
            "message_stats": stats,
            "churn_rates": churn(&flow),
            "queue_totals": {
                "messages": ready + unacked,
                "messages_details": { "rate": ready_rate + unacked_rate },
                "messages_ready": ready,
                "messages_ready_details": { "rate": ready_rate },
                "messages_unacknowledged": unacked,
                "messages_unacknowledged_details": { "rate": unacked_rate },
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
            overview.insert("listeners".to_owned(), self.shape_listeners());
            overview.insert("contexts".to_owned(), self.shape_contexts());
        }
        Ok(Answer::Document(overview))
    }

    /// Of this node: others are asked themselves.
    fn shape_listeners(&self) -> Value {
        let node = self.admin.node_name();
        self.listeners.iter().map(|listener| listener.shape(&node)).collect()
    }

    pub(super) fn shape_contexts(&self) -> Value {
        let node = self.admin.node_name();
        self.listeners.iter().filter_map(|listener| listener.context(&node)).collect()
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
