//! Definitions: everything that is declared, as one document in RabbitMQ's shape, out and in.
//!
//! A document is read whole and checked before anything of it is done. What is there already stays as it is (exchanges, queues,
//! bindings) or is overwritten (users, permissions, policies); nothing is deleted, so importing twice is importing once.

mod check;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use warren_broker::admin::{
    AdminError, BindingInfo, ExchangeInfo, ParameterRecord, PermissionInfo, PolicyInfo,
    TopicPermissionRecord, UserLimits, VhostLimits, VhostMetadata,
};
use warren_types::{FieldTable, QueueSpec};

use super::exchanges::read_exchange;
use super::limits::{read_user_limits, read_vhost_limits};
use super::overview::RABBITMQ_VERSION;
use super::parameters::{Kind, OPERATOR_POLICY, check_global, kind_of, record};
use super::permissions::shape_permission;
use super::policies::{read_policy, shape_policy};
use super::queues::queue_type;
use super::topic_permissions::shape_topic_permission;
use super::users::{read_password, tags};
use super::vhosts::{read_metadata, shape_metadata};
use super::{Asked, checked_name};
use crate::answer::Answer;
use crate::body::Object;
use crate::error::ApiError;
use crate::table;

/// Names that begin so are the broker's own and are not exported.
const RESERVED: &str = "amq.";

/// One thing of a document, in the order in which they are done.
enum Step {
    User {
        name: String,
        password: Result<String, String>,
        tags: Vec<String>,
        limits: Option<UserLimits>,
    },
    /// What is said of it, over what was said before.
    Vhost {
        name: String,
        said: Object,
        limits: Option<VhostLimits>,
    },
    Permission(PermissionInfo),
    Exchange(ExchangeInfo),
    TopicPermission(TopicPermissionRecord),
    Parameter(ParameterRecord),
    VhostLimits {
        vhost: String,
        limits: VhostLimits,
    },
    Policy(PolicyInfo),
    Queue {
        vhost: String,
        name: String,
        durable: bool,
        auto_delete: bool,
        arguments: FieldTable,
    },
    Binding(BindingInfo),
}

impl Asked<'_> {
    /// Everything, or one virtual host's without naming it.
    pub(super) fn definitions(&self, vhost: Option<&str>) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        let mut document = Map::new();
        let mut put = |key: &str, value: Value| document.insert(key.to_owned(), value);
        put("rabbit_version", RABBITMQ_VERSION.into());
        put("rabbitmq_version", RABBITMQ_VERSION.into());
        put("product_name", "Warren".into());
        put("product_version", self.admin.version().into());
        if vhost.is_none() {
            put("users", self.admin.users().iter().map(|user| self.shape_user(user)).collect());
            put("vhosts", self.admin.vhosts().iter().map(|name| self.vhost_definition(name)).collect());
            put("permissions", self.admin.permissions().iter().map(shape_permission).collect());
            let topics = self.admin.topic_permissions();
            put("topic_permissions", topics.iter().map(shape_topic_permission).collect());
            put("global_parameters", self.all_global_parameters().into());
        }
        let shape = Shape { with_vhost: vhost.is_none() };
        let mut parameters = self.vhost_parameters(vhost);
        if vhost.is_some() {
            parameters.iter_mut().filter_map(Value::as_object_mut).for_each(|one| drop(one.remove("vhost")));
        }
        put("parameters", parameters.into());
        let of_users = self.admin.policies(vhost, false);
        put("policies", of_users.iter().map(|policy| shape.policy(policy)).collect());
        let specs = self.admin.queue_specs(vhost);
        let kept = specs.iter().filter(|spec| spec.exclusive.is_none());
        put("queues", kept.map(|spec| shape.queue(spec)).collect());
        let exchanges = self.admin.exchanges(vhost);
        let declared = exchanges.iter().filter(|exchange| !is_own(&exchange.name));
        put("exchanges", declared.map(|exchange| shape.exchange(exchange)).collect());
        let gone: BTreeSet<(&str, &str)> = specs
            .iter()
            .filter(|spec| spec.exclusive.is_some())
            .map(|spec| (&*spec.vhost, &*spec.name))
            .collect();
        let bindings = self.admin.bindings(vhost);
        let bindings = bindings.iter().filter(|binding| {
            let to_gone =
                binding.to_queue && gone.contains(&(binding.vhost.as_str(), binding.destination.as_str()));
            !binding.source.is_empty() && !to_gone
        });
        put("bindings", bindings.map(|binding| shape.binding(binding)).collect());
        Ok(Answer::Document(Value::Object(document)))
    }

    /// Takes a document over: a whole one, or one for a virtual host.
    pub(super) async fn import(&self, vhost: Option<&str>) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        if let Some(vhost) = vhost {
            self.vhost_of_put(vhost)?;
        }
        let steps = read(self.object, vhost)?;
        self.check_steps(&steps)?;
        if self.flag("dry_run") {
            return Ok(Answer::Document(json!({ "dry_run": true, "objects": steps.len() })));
        }
        let exchanges: BTreeSet<(String, String)> =
            self.admin.exchanges(vhost).into_iter().map(|exchange| (exchange.vhost, exchange.name)).collect();
        let queues: BTreeSet<(String, String)> = self
            .admin
            .queue_specs(vhost)
            .iter()
            .map(|spec| (spec.vhost.to_string(), spec.name.to_string()))
            .collect();
        for step in steps {
            let done = match step {
                Step::User { name, password, tags, limits } => {
                    self.import_user(&name, password, tags, limits).await
                }
                Step::Vhost { name, said, limits } => {
                    let before = self.admin.vhost_metadata(&name).unwrap_or_default();
                    let metadata = read_metadata(&said, before.clone())?;
                    self.import_vhost(&name, (metadata != before).then_some(metadata), limits).await
                }
                Step::TopicPermission(record) => self.admin.set_topic_permissions(record).await,
                Step::Parameter(record) => self.admin.set_parameter(record).await,
                Step::VhostLimits { vhost, limits } => {
                    self.admin.set_vhost_limits(&vhost, limits).await.map(|()| false)
                }
                Step::Permission(permission) => self.admin.set_permissions(permission).await,
                Step::Exchange(exchange)
                    if exchanges.contains(&(exchange.vhost.clone(), exchange.name.clone())) =>
                {
                    Ok(false)
                }
                Step::Exchange(exchange) => self.admin.declare_exchange(exchange).await,
                Step::Policy(policy) => self.admin.put_policy(policy).await,
                Step::Queue { vhost, name, .. } if queues.contains(&(vhost.clone(), name.clone())) => {
                    Ok(false)
                }
                Step::Queue { vhost, name, durable, auto_delete, arguments } => {
                    self.admin.declare_queue(&vhost, &name, durable, auto_delete, arguments).await
                }
                Step::Binding(binding) => self.admin.bind(binding).await,
            };
            // A document that names what is not there is a bad one, not a missing page.
            done.map_err(|error| match ApiError::on_put(error, "not_found") {
                ApiError::ParentNotFound(reason) => ApiError::BadRequest(reason),
                other => other,
            })?;
        }
        Ok(Answer::Done)
    }

    async fn import_user(
        &self,
        name: &str,
        password: Result<String, String>,
        tags: Vec<String>,
        limits: Option<UserLimits>,
    ) -> Result<bool, AdminError> {
        let new = self.admin.put_user(name, password, tags).await?;
        if let Some(limits) = limits {
            self.admin.set_user_limits(name, limits).await?;
        }
        Ok(new)
    }

    async fn import_vhost(
        &self,
        name: &str,
        metadata: Option<VhostMetadata>,
        limits: Option<VhostLimits>,
    ) -> Result<bool, AdminError> {
        let new = self.admin.create_vhost(name, None).await?;
        if let Some(metadata) = metadata {
            self.admin.set_vhost_metadata(name, metadata).await?;
        }
        if let Some(limits) = limits {
            self.admin.set_vhost_limits(name, limits).await?;
        }
        Ok(new)
    }

    fn vhost_definition(&self, name: &str) -> Value {
        let metadata = self.admin.vhost_metadata(name).unwrap_or_default();
        json!({
            "name": name,
            "description": metadata.description,
            "tags": metadata.tags,
            "metadata": shape_metadata(&metadata),
            "protected_from_deletion": metadata.protected,
            "tracing": metadata.traced,
        })
    }
}

fn is_own(exchange: &str) -> bool {
    exchange.is_empty() || exchange.starts_with(RESERVED)
}

/// How a document writes things down.
struct Shape {
    with_vhost: bool,
}

impl Shape {
    fn queue(&self, spec: &QueueSpec) -> Value {
        self.in_vhost(
            &spec.vhost,
            json!({
                "name": *spec.name,
                "type": queue_type(spec),
                "durable": spec.durable,
                "auto_delete": spec.auto_delete,
                "arguments": table::to_json(&spec.arguments),
            }),
        )
    }

    fn exchange(&self, exchange: &ExchangeInfo) -> Value {
        self.in_vhost(
            &exchange.vhost,
            json!({
                "name": exchange.name,
                "type": exchange.kind,
                "durable": exchange.durable,
                "auto_delete": exchange.auto_delete,
                "internal": exchange.internal,
                "arguments": table::to_json(&exchange.arguments),
            }),
        )
    }

    fn binding(&self, binding: &BindingInfo) -> Value {
        self.in_vhost(
            &binding.vhost,
            json!({
                "source": binding.source,
                "destination": binding.destination,
                "destination_type": if binding.to_queue { "queue" } else { "exchange" },
                "routing_key": binding.routing_key,
                "arguments": table::to_json(&binding.arguments),
            }),
        )
    }

    fn policy(&self, policy: &PolicyInfo) -> Value {
        let mut value = shape_policy(policy);
        if let (false, Value::Object(object)) = (self.with_vhost, &mut value) {
            object.remove("vhost");
        }
        value
    }

    fn in_vhost(&self, vhost: &str, mut value: Value) -> Value {
        if let (true, Value::Object(object)) = (self.with_vhost, &mut value) {
            object.insert("vhost".to_owned(), vhost.into());
        }
        value
    }
}

/// Reads a whole document.
///
/// # Errors
/// 400 that says what is wrong where.
fn read(document: &Object, vhost: Option<&str>) -> Result<Vec<Step>, ApiError> {
    let mut steps = Vec::new();
    if vhost.is_none() {
        for user in items(document, "users")? {
            steps.push(Step::User {
                name: required(&user, "users", "name")?,
                password: read_password(&user)?,
                tags: tags(user.get("tags"))?,
                limits: user.get("limits").map(read_user_limits).transpose()?,
            });
        }
        for vhost in items(document, "vhosts")? {
            let name = required(&vhost, "vhosts", "name")?;
            checked_name("vhost's name", &name)?;
            // Refused here, before anything is done.
            read_metadata(&vhost, VhostMetadata::default())?;
            let limits = vhost.get("limits").map(read_vhost_limits).transpose()?;
            steps.push(Step::Vhost { name, said: vhost, limits });
        }
        for permission in items(document, "permissions")? {
            let field = |key: &str| required(&permission, "permissions", key);
            steps.push(Step::Permission(PermissionInfo {
                user: field("user")?,
                vhost: field("vhost")?,
                configure: field("configure")?,
                write: field("write")?,
                read: field("read")?,
            }));
        }
    }
    let vhost_of = |item: &Object, list: &str| match vhost {
        Some(vhost) => Ok(vhost.to_owned()),
        None => required(item, list, "vhost"),
    };
    for exchange in items(document, "exchanges")? {
        let name = required(&exchange, "exchanges", "name")?;
        if is_own(&name) {
            tracing::warn!(exchange = name, "a system exchange among the definitions is skipped");
            continue;
        }
        steps.push(Step::Exchange(read_exchange(
            &exchange,
            &vhost_of(&exchange, "exchanges")?,
            &name,
            true,
        )?));
    }
    if vhost.is_none() {
        for topic in items(document, "topic_permissions")? {
            let field = |key: &str| required(&topic, "topic_permissions", key);
            steps.push(Step::TopicPermission(TopicPermissionRecord {
                user: field("user")?,
                vhost: field("vhost")?,
                exchange: field("exchange")?,
                write: field("write")?,
                read: field("read")?,
            }));
        }
        for parameter in items(document, "global_parameters")? {
            let name = required(&parameter, "global_parameters", "name")?;
            let value = parameter.get("value").cloned().unwrap_or_default();
            check_global(&name, &value)?;
            steps.push(Step::Parameter(record(None, "", &name, &value)));
        }
    }
    for policy in items(document, "policies")? {
        let (name, vhost) = (required(&policy, "policies", "name")?, vhost_of(&policy, "policies")?);
        steps.push(Step::Policy(read_policy(&policy, &vhost, &name, false)?));
    }
    for parameter in items(document, "parameters")? {
        let field = |key: &str| required(&parameter, "parameters", key);
        let (component, name) = (field("component")?, field("name")?);
        let vhost = vhost_of(&parameter, "parameters")?;
        let value = parameter.get("value").cloned().unwrap_or_default();
        if component == OPERATOR_POLICY {
            let policy = value.as_object().cloned().unwrap_or_default();
            steps.push(Step::Policy(read_policy(&Object::of(policy), &vhost, &name, true)?));
            continue;
        }
        // What would be lost silently had better stop the import.
        steps.push(match kind_of(&component, &name)? {
            Kind::VhostLimits => Step::VhostLimits { limits: read_vhost_limits(&value)?, vhost },
            Kind::Kept => Step::Parameter(record(Some(&vhost), &component, &name, &value)),
        });
    }
    for queue in items(document, "queues")? {
        let name = required(&queue, "queues", "name")?;
        if name.starts_with(RESERVED) {
            tracing::warn!(queue = name, "a queue with a reserved name among the definitions is skipped");
            continue;
        }
        steps.push(Step::Queue {
            vhost: vhost_of(&queue, "queues")?,
            name,
            durable: queue.truth("durable", true)?,
            auto_delete: queue.truth("auto_delete", false)?,
            arguments: table::from_json(queue.get("arguments"))?,
        });
    }
    for binding in items(document, "bindings")? {
        let field = |key: &str| required(&binding, "bindings", key);
        let (source, destination) = (field("source")?, field("destination")?);
        let to_queue = match field("destination_type")?.as_str() {
            "queue" => true,
            "exchange" => false,
            other => {
                return Err(ApiError::BadRequest(format!("bindings: no destination can be a '{other}'")));
            }
        };
        if source.is_empty() || (to_queue && destination.starts_with(RESERVED)) {
            continue;
        }
        steps.push(Step::Binding(BindingInfo {
            vhost: vhost_of(&binding, "bindings")?,
            source,
            destination,
            to_queue,
            routing_key: binding.text("routing_key")?.unwrap_or_default().to_owned(),
            arguments: table::from_json(binding.get("arguments"))?,
        }));
    }
    Ok(steps)
}

/// The objects of a list; an absent one is empty.
fn items(document: &Object, list: &str) -> Result<Vec<Object>, ApiError> {
    let bad = || ApiError::BadRequest(format!("{list} must be a list of objects"));
    let Some(value) = document.get(list) else { return Ok(Vec::new()) };
    let items = value.as_array().ok_or_else(bad)?.iter();
    items.map(|item| item.as_object().map(|object| Object::of(object.clone())).ok_or_else(bad)).collect()
}

fn required(item: &Object, list: &str, key: &str) -> Result<String, ApiError> {
    let missing = || ApiError::BadRequest(format!("{list}: missing: {key}"));
    item.text(key)?.map(str::to_owned).ok_or_else(missing)
}
