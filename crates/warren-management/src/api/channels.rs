//! Channels and consumers of the whole cluster.

use std::collections::HashMap;

use serde_json::{Value, json};
use warren_broker::admin::{ChannelInfo, ConnectionInfo, ConsumerInfo};
use warren_types::{AMQPValue, QueueSpec};

use super::connections::peer_of;
use super::{Asked, NodeNames};
use crate::answer::Answer;
use crate::error::ApiError;
use crate::table;

impl Asked<'_> {
    pub(super) async fn channels(
        &self,
        vhost: Option<&str>,
        connection: Option<&str>,
    ) -> Result<Answer, ApiError> {
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        let connections = self.visible_connections(true).await;
        if connection.is_some_and(|name| !connections.iter().any(|known| known.name == name)) {
            return Err(ApiError::ObjectNotFound);
        }
        let names = self.node_names();
        let wanted = connections.iter().filter(|known| {
            vhost.is_none_or(|vhost| known.vhost == vhost) && connection.is_none_or(|name| known.name == name)
        });
        let channels =
            wanted.flat_map(|known| known.open.iter().map(|channel| shape(known, channel, &names)));
        Ok(Answer::List(channels.collect()))
    }

    pub(super) async fn channel(&self, name: &str) -> Result<Answer, ApiError> {
        let names = self.node_names();
        for connection in self.visible_connections(true).await {
            for channel in &connection.open {
                if channel_name(&connection, channel) == name {
                    let mut document = shape(&connection, channel, &names);
                    if let Value::Object(document) = &mut document {
                        let consumers = channel.consumers.iter();
                        let single = self.single_active(Some(&connection.vhost), None).await;
                        let details: Vec<Value> = consumers
                            .map(|consumer| shape_consumer(&connection, channel, consumer, &single, &names))
                            .collect();
                        document.insert("consumer_details".to_owned(), details.into());
                        document.insert("publishes".to_owned(), json!([]));
                        document.insert("deliveries".to_owned(), json!([]));
                    }
                    return Ok(Answer::Document(document));
                }
            }
        }
        Err(ApiError::ObjectNotFound)
    }

    pub(super) async fn consumers(&self, vhost: Option<&str>) -> Result<Answer, ApiError> {
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        Ok(Answer::List(self.consumers_of(vhost, None).await))
    }

    /// The consumers of a queue, or of all queues that the caller sees.
    pub(super) async fn consumers_of(&self, vhost: Option<&str>, queue: Option<&str>) -> Vec<Value> {
        let names = self.node_names();
        let single = self.single_active(vhost, queue).await;
        let mut consumers = Vec::new();
        for connection in self.admin.all_connections(true).await {
            if vhost.is_some_and(|vhost| connection.vhost != vhost) || !self.caller.sees(&connection.vhost) {
                continue;
            }
            for channel in &connection.open {
                let wanted =
                    channel.consumers.iter().filter(|one| queue.is_none_or(|queue| one.queue == queue));
                consumers
                    .extend(wanted.map(|one| shape_consumer(&connection, channel, one, &single, &names)));
            }
        }
        consumers
    }

    /// The queues with a single active consumer, and who that is.
    async fn single_active(&self, vhost: Option<&str>, queue: Option<&str>) -> SingleActive {
        let is_single = |spec: &QueueSpec| {
            spec.arguments.inner().get("x-single-active-consumer") == Some(&AMQPValue::Boolean(true))
                && queue.is_none_or(|queue| *spec.name == *queue)
        };
        if !self.admin.queue_specs(vhost).iter().any(|spec| is_single(spec)) {
            return SingleActive::new();
        }
        let known = match (vhost, queue) {
            (Some(vhost), Some(queue)) => self.admin.queue(vhost, queue).await.into_iter().collect(),
            (_, None) | (None, Some(_)) => self.admin.queues(vhost).await,
        };
        let single = known.into_iter().filter(|queue| is_single(&queue.spec));
        let name = |spec: &QueueSpec| (spec.vhost.to_string(), spec.name.to_string());
        single.map(|queue| (name(&queue.spec), queue.active)).collect()
    }
}

/// By virtual host and queue: the single active consumer's session and number, where its leader told.
type SingleActive = HashMap<(String, String), Option<(u64, u64)>>;

/// Whether the consumer gets messages, and the word for it.
fn activity(vhost: &str, consumer: &ConsumerInfo, single: &SingleActive) -> (bool, &'static str) {
    match single.get(&(vhost.to_owned(), consumer.queue.clone())) {
        None => (true, "up"),
        Some(active) if *active == Some((consumer.session, consumer.subscription)) => (true, "single_active"),
        Some(_) => (false, "waiting"),
    }
}

fn channel_name(connection: &ConnectionInfo, channel: &ChannelInfo) -> String {
    format!("{} ({})", connection.name, channel.number)
}

fn shape(connection: &ConnectionInfo, channel: &ChannelInfo, names: &NodeNames) -> Value {
    let (peer_host, peer_port) = peer_of(connection);
    json!({
        "name": channel_name(connection, channel),
        "number": channel.number,
        "node": names.get(connection.node),
        "user": connection.user,
        "user_who_performed_action": connection.user,
        "vhost": connection.vhost,
        "state": "running",
        "connection_details": { "name": connection.name, "peer_host": peer_host, "peer_port": peer_port },
        "consumer_count": channel.consumers.len(),
        "confirm": channel.unconfirmed.is_some(),
        "transactional": channel.transactional,
        "prefetch_count": channel.prefetch,
        "global_prefetch_count": channel.global_prefetch,
        "messages_unacknowledged": channel.unacknowledged,
        "messages_unconfirmed": channel.unconfirmed.unwrap_or_default(),
        "messages_uncommitted": 0,
        "acks_uncommitted": 0,
        "pending_raft_commands": 0,
        "reductions": 0,
    })
}

fn shape_consumer(
    connection: &ConnectionInfo,
    channel: &ChannelInfo,
    consumer: &ConsumerInfo,
    single: &SingleActive,
    names: &NodeNames,
) -> Value {
    let (active, activity_status) = activity(&connection.vhost, consumer, single);
    let (peer_host, peer_port) = peer_of(connection);
    json!({
        "consumer_tag": consumer.tag,
        "ack_required": consumer.ack_required,
        "active": active,
        "activity_status": activity_status,
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch,
        "arguments": table::to_json(&consumer.arguments),
        "consumer_timeout": 0,
        "queue": { "name": consumer.queue, "vhost": connection.vhost },
        "channel_details": {
            "name": channel_name(connection, channel),
            "number": channel.number,
            "node": names.get(connection.node),
            "user": connection.user,
            "connection_name": connection.name,
            "peer_host": peer_host,
            "peer_port": peer_port,
        },
    })
}
