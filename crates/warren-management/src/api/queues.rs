//! Queues: listed with their counts, declared, deleted, purged.

use serde_json::{Map, Value, json};
use warren_broker::admin::QueueInfo;
use warren_types::{AMQPValue, QueueSpec};

use super::rates::Happened;
use super::{Asked, NodeNames, checked_name, created};
use crate::answer::Answer;
use crate::auth::Access;
use crate::error::ApiError;
use crate::table;

impl Asked<'_> {
    pub(super) async fn queues(&self, vhost: Option<&str>) -> Result<Answer, ApiError> {
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        let names = self.node_names();
        let mut queues = self.admin.queues(vhost).await;
        queues.retain(|queue| self.caller.sees(&queue.spec.vhost));
        Ok(Answer::List(queues.iter().map(|queue| shape_queue(queue, &names)).collect()))
    }

    pub(super) async fn queue(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, vhost)?;
        let queue = self.admin.queue(vhost, name).await.ok_or(ApiError::ObjectNotFound)?;
        let mut document = shape_queue(&queue, &self.node_names());
        if let Value::Object(document) = &mut document {
            let details = self.consumers_of(Some(vhost), Some(name)).await;
            let tag_of = |flag: &dyn Fn(&Value) -> bool| {
                details
                    .iter()
                    .find(|consumer| flag(consumer))
                    .map(|consumer| consumer["consumer_tag"].clone())
            };
            if let Some(tag) = tag_of(&|consumer| consumer["activity_status"] == "single_active") {
                document.insert("single_active_consumer_tag".to_owned(), tag);
            }
            if let Some(tag) = tag_of(&|consumer| consumer["exclusive"] == true) {
                document.insert("exclusive_consumer_tag".to_owned(), tag);
            }
            document.insert("consumer_details".to_owned(), details.into());
        }
        Ok(Answer::Document(document))
    }

    pub(super) async fn put_queue(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        self.vhost_of_put(vhost)?;
        checked_name("queue's name", name)?;
        self.caller.must_have(Access::Configure, vhost, name)?;
        // As in AMQP, whoever wants it durable says so.
        let durable = self.object.truth("durable", false)?;
        let auto_delete = self.object.truth("auto_delete", false)?;
        let arguments = table::from_json(self.object.get("arguments"))?;
        // As in AMQP: who declares again what is there is not asked.
        if self.must_exist(vhost, name).await.is_err() {
            let dead_letters = arguments.inner().get("x-dead-letter-exchange");
            self.caller.must_forward(vhost, name, dead_letters)?;
        }
        let new = self.admin.declare_queue(vhost, name, durable, auto_delete, arguments).await;
        new.map(created).map_err(|error| ApiError::on_put(error, "vhost_not_found"))
    }

    pub(super) async fn delete_queue(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, vhost)?;
        self.caller.must_have(Access::Configure, vhost, name)?;
        self.must_exist(vhost, name).await?;
        self.admin.delete_queue(vhost, name, self.flag("if-unused"), self.flag("if-empty")).await?;
        Ok(Answer::Done)
    }

    pub(super) async fn purge_queue(&self, vhost: &str, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_see(self.admin, vhost)?;
        self.caller.must_have(Access::Read, vhost, name)?;
        self.must_exist(vhost, name).await?;
        self.admin.purge_queue(vhost, name).await?;
        Ok(Answer::Done)
    }

    /// A vhost named in a PUT: 404 with the words for a missing parent.
    pub(super) fn vhost_of_put(&self, vhost: &str) -> Result<(), ApiError> {
        match self.caller.must_see(self.admin, vhost) {
            Err(ApiError::ObjectNotFound) => Err(ApiError::ParentNotFound("vhost_not_found".to_owned())),
            seen => seen,
        }
    }

    /// The broker deletes what is not there without complaint, as AMQP does; HTTP says 404.
    pub(super) async fn must_exist(&self, vhost: &str, name: &str) -> Result<(), ApiError> {
        self.admin.queue(vhost, name).await.map(|_| ()).ok_or(ApiError::ObjectNotFound)
    }
}

fn shape_queue(queue: &QueueInfo, names: &NodeNames) -> Value {
    let spec = &queue.spec;
    let leader = queue.leader.map(|node| names.get(node));
    let mut shape = Map::new();
    let mut put = |key: &str, value: Value| shape.insert(key.to_owned(), value);
    put("name", (*spec.name).into());
    put("vhost", (*spec.vhost).into());
    put("type", queue_type(spec).into());
    put("durable", spec.durable.into());
    put("auto_delete", spec.auto_delete.into());
    put("exclusive", spec.exclusive.is_some().into());
    put("arguments", table::to_json(&spec.arguments));
    put("node", leader.clone().into());
    put("leader", leader.into());
    put("members", names.all(&queue.members).into());
    put("online", names.all(&queue.online).into());
    put("state", state(queue).into());
    put("policy", queue.policy.clone().into());
    put("operator_policy", queue.operator_policy.clone().into());
    put("effective_policy_definition", table::to_json(&queue.effective_policy));
    // Counts that nobody could tell are left out, as RabbitMQ does for a queue that is down: 0 would be a lie.
    let happened = Happened::of(queue);
    let (ready_rate, unacked_rate) = happened.growth();
    let counts = [
        (
            "messages",
            queue.ready.zip(queue.unacked).map(|(ready, unacked)| ready + unacked),
            ready_rate + unacked_rate,
        ),
        ("messages_ready", queue.ready, ready_rate),
        ("messages_unacknowledged", queue.unacked, unacked_rate),
    ];
    for (name, count, rate) in counts {
        if let Some(count) = count {
            put(name, count.into());
            put(&format!("{name}_details"), json!({ "rate": rate }));
        }
    }
    if !happened.is_nothing() {
        put("message_stats", happened.message_stats().into());
    }
    if let Some(delayed) = queue.delayed {
        put("messages_delayed", delayed.into());
    }
    if let Some(consumers) = queue.consumers {
        put("consumers", consumers.into());
    }
    if let Some(bytes) = queue.ready_bytes {
        put("message_bytes_ready", bytes.into());
    }
    Value::Object(shape)
}

/// What it was declared as. One engine serves all types; classic is what absence means.
pub(crate) fn queue_type(spec: &QueueSpec) -> String {
    match spec.arguments.inner().get("x-queue-type") {
        // The two words of older clients for the default.
        Some(AMQPValue::LongString(kind)) if !matches!(kind.as_bytes(), b"" | b"undefined") => {
            String::from_utf8_lossy(kind.as_bytes()).into_owned()
        }
        Some(_) | None => "classic".to_owned(),
    }
}

fn state(queue: &QueueInfo) -> &'static str {
    let majority = queue.online.len() * 2 > queue.members.len();
    match queue.leader {
        _ if !majority => "minority",
        Some(_) => "running",
        None => "down",
    }
}
