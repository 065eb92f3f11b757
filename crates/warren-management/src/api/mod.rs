//! One request to one answer. Each file here is a resource; this one leads to them.

mod bindings;
mod channels;
mod checks;
mod components;
mod connections;
mod definitions;
mod exchanges;
mod features;
mod health;
mod limits;
mod listening;
mod memory;
mod messages;
mod nodes;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod queues;
mod quorum;
mod rates;
mod shards;
mod tools;
mod topic_permissions;
mod users;
mod vhosts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderValue, Method, Request, StatusCode, header};
use axum::response::Response;
use warren_broker::admin::Admin;
use warren_types::NodeId;

pub(crate) use self::overview::RABBITMQ_VERSION;

use crate::answer::{self, Answer};
use crate::auth::Caller;
use crate::body::Object;
use crate::error::ApiError;
use crate::list::ListQuery;
use crate::listeners::Listener;
use crate::path::{Check, Client, Fixed, Resource, Setting};
use crate::{Management, body, query};

/// Longest name of anything: AMQP's short string.
const NAME_MAX_BYTES: usize = 255;
/// The global parameter that says which set of definitions was taken over last at a start; not exported.
const TAKEN_OVER: &str = "internal_definitions_hash";

/// Answers a request from `peer`. `started` is when this process began to serve.
///
/// A change that was begun is finished by the broker also when the asker goes away.
pub(crate) async fn respond(
    management: &Management,
    peer: IpAddr,
    started: Instant,
    request: Request<Body>,
) -> Response {
    match answer(management, peer, started, request).await {
        Ok(response) => response,
        Err(error) => answer::refusal(&error),
    }
}

async fn answer(
    management: &Management,
    peer: IpAddr,
    started: Instant,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let Some(resource) = Resource::named(head.uri.path())? else { return Err(ApiError::ObjectNotFound) };
    if head.method == Method::OPTIONS {
        let mut response = answer::empty(StatusCode::OK);
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(resource.allowed()));
        return Ok(response);
    }
    if !resource.allows(head.method.as_str()) {
        return Err(ApiError::MethodNotAllowed(resource.allowed()));
    }
    if let Some(answer) = health::without_login(management, &resource) {
        return finish(answer, &ListQuery::default());
    }
    if !takes_json(&head.headers) {
        return Err(ApiError::NotAcceptable);
    }
    let starting = || ApiError::Unavailable("the node is starting".to_owned());
    let admin = management.admin().ok_or_else(starting)?;
    if resource == Resource::Fixed(Fixed::Login) {
        return log_in_by_form(admin.as_ref(), &head.method, body, peer).await;
    }
    let caller = Caller::login(admin.as_ref(), &head.headers, peer)?;
    let query = query::pairs(head.uri.query().unwrap_or_default())?;
    let list = ListQuery::read(&query)?;
    let object = match head.method {
        Method::POST if matches!(resource, Resource::Definitions { .. }) => {
            // Nobody sends twenty megabytes who may not.
            caller.must_administrate()?;
            body::read_form_or_json(body, head.headers.get(header::CONTENT_TYPE)).await?
        }
        Method::POST if matches!(resource, Resource::Client(Client::Publish { .. })) => {
            body::read_definitions(body).await?
        }
        Method::PUT | Method::POST => body::read(body).await?,
        _ => Object::default(),
    };
    let listeners = management.listeners();
    let asked = Asked {
        admin: admin.as_ref(),
        caller: &caller,
        query: &query,
        object: &object,
        started,
        listeners: &listeners,
    };
    let answer = match head.method {
        Method::PUT => asked.put(resource).await?,
        Method::POST => asked.post(resource).await?,
        Method::DELETE => asked.delete(resource, &head.headers).await?,
        _ => asked.get(resource).await?,
    };
    finish(answer, &list)
}

/// Takes a set of definitions over, for whoever has started this node, unless the last one that was taken over so was the same.
/// True when something was done.
///
/// # Errors
/// As a POST of it.
pub(crate) async fn take_over(
    admin: &dyn Admin,
    document: &[u8],
    started: Instant,
) -> Result<bool, ApiError> {
    let hash = format!("{:016x}", bindings::fnv1a(document));
    let known = admin.parameters().into_iter().find(|one| one.vhost.is_none() && one.name == TAKEN_OVER);
    let mark = parameters::record(None, "", TAKEN_OVER, &hash.into());
    if known.is_some_and(|known| known.value == mark.value) {
        return Ok(false);
    }
    let (caller, object) = (Caller::operator(), body::parse(document)?);
    let asked = Asked { admin, caller: &caller, query: &[], object: &object, started, listeners: &[] };
    asked.import(None).await?;
    admin.set_parameter(mark).await?;
    Ok(true)
}

/// Whether the asker takes what this API speaks.
fn takes_json(headers: &axum::http::HeaderMap) -> bool {
    let accepted: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let kinds = || accepted.iter().flat_map(|value| value.split(','));
    let is_json = |kind: &str| {
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(kind.as_str(), "" | "*/*" | "*" | "application/*" | "application/json")
    };
    accepted.is_empty() || kinds().any(is_json)
}

/// A token of ours is the name and the password themselves: there is nothing to end at a log-out.
async fn log_in_by_form(
    admin: &dyn Admin,
    method: &Method,
    body: Body,
    peer: IpAddr,
) -> Result<Response, ApiError> {
    if method == Method::DELETE {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let form = body::read_form(body).await?;
    tools::login(&form, |credentials| Caller::of(admin, credentials, peer))
}

fn finish(answer: Answer, list: &ListQuery) -> Result<Response, ApiError> {
    Ok(match answer {
        Answer::Document(document) => answer::json(StatusCode::OK, &list.only_columns(document)),
        Answer::List(items) => answer::json(StatusCode::OK, &list.apply(items)?),
        Answer::Created => answer::empty(StatusCode::CREATED),
        Answer::CreatedAt(location) => {
            let mut response = answer::empty(StatusCode::CREATED);
            // It is percent-encoded: always a header.
            if let Ok(location) = HeaderValue::from_str(&location) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            response
        }
        Answer::Done => answer::empty(StatusCode::NO_CONTENT),
        Answer::No(document) => answer::json(StatusCode::SERVICE_UNAVAILABLE, &document),
    })
}

/// A request of somebody who logged in.
struct Asked<'a> {
    admin: &'a dyn Admin,
    caller: &'a Caller,
    query: &'a [(String, String)],
    object: &'a Object,
    started: Instant,
    /// Where this node listens.
    listeners: &'a [Listener],
}

impl Asked<'_> {
    async fn get(&self, resource: Resource) -> Result<Answer, ApiError> {
        match resource {
            Resource::Check(check) => self.check(check),
            Resource::Overview => self.overview().await,
            Resource::WhoAmI => Ok(self.who_am_i()),
            Resource::ClusterName => Ok(self.cluster_name()),
            Resource::Nodes => self.nodes(),
            Resource::Node(name) => self.node(&name),
            Resource::Shards => self.shards(),
            Resource::Vhosts => Ok(self.vhosts().await),
            Resource::Vhost(name) => self.vhost(&name).await,
            Resource::VhostPermissions(name) => self.permissions_of_vhost(&name),
            Resource::Users => self.users(),
            Resource::User(name) => self.user(&name),
            Resource::UserPermissions(name) => self.permissions_of_user(&name),
            Resource::Permissions => self.permissions(),
            Resource::Permission { vhost, user } => self.permission(&vhost, &user),
            Resource::Queues { vhost } => self.queues(vhost.as_deref()).await,
            Resource::Queue { vhost, name } => self.queue(&vhost, &name).await,
            Resource::QueueBindings { vhost, name } => self.bindings_of_queue(&vhost, &name).await,
            Resource::Exchanges { vhost } => self.exchanges(vhost.as_deref()),
            Resource::Exchange { vhost, name } => self.exchange(&vhost, &name),
            Resource::ExchangeBindings { vhost, name, end } => self.bindings_of_exchange(&vhost, &name, end),
            Resource::Bindings { vhost } => self.bindings(vhost.as_deref()),
            Resource::BindingsBetween { vhost, source, destination, to_queue } => {
                self.bindings_between(&vhost, &source, &destination, to_queue)
            }
            Resource::Binding { vhost, source, destination, to_queue, properties } => {
                self.binding(&vhost, &source, &destination, to_queue, &properties)
            }
            Resource::Policies { vhost, operator } => self.policies(vhost.as_deref(), operator),
            Resource::Policy { vhost, name, operator } => self.policy(&vhost, &name, operator),
            Resource::Definitions { vhost } => self.definitions(vhost.as_deref()),
            Resource::Connections => Ok(self.connections(None).await),
            Resource::VhostConnections(vhost) => {
                self.caller.must_see(self.admin, &vhost)?;
                Ok(self.connections(Some(&vhost)).await)
            }
            Resource::Connection(name) => self.connection(&name).await,
            Resource::Setting(setting) => self.setting(setting),
            Resource::Client(client) => self.client(client).await,
            Resource::Fixed(fixed) => self.fixed(fixed).await,
            Resource::Live
            | Resource::Ready
            | Resource::QueueContents { .. }
            | Resource::NodeChange { .. } => Err(ApiError::ObjectNotFound),
        }
    }

    /// Which resources come here is decided by [`Resource::allowed`].
    async fn put(&self, resource: Resource) -> Result<Answer, ApiError> {
        match resource {
            Resource::Vhost(name) => self.put_vhost(&name).await,
            Resource::User(name) => self.put_user(&name).await,
            Resource::Permission { vhost, user } => self.put_permission(&vhost, &user).await,
            Resource::Queue { vhost, name } => self.put_queue(&vhost, &name).await,
            Resource::Exchange { vhost, name } => self.put_exchange(&vhost, &name).await,
            Resource::Policy { vhost, name, operator } => self.put_policy(&vhost, &name, operator).await,
            Resource::ClusterName => self.put_cluster_name().await,
            Resource::Setting(setting) => self.put_setting(setting).await,
            Resource::Fixed(fixed) => self.act(fixed).await,
            other => Err(ApiError::MethodNotAllowed(other.allowed())),
        }
    }

    /// As [`Self::put`].
    async fn post(&self, resource: Resource) -> Result<Answer, ApiError> {
        match resource {
            Resource::BindingsBetween { vhost, source, destination, to_queue } => {
                self.post_binding(&vhost, &source, &destination, to_queue).await
            }
            Resource::Definitions { vhost } => self.import(vhost.as_deref()).await,
            Resource::NodeChange { name, change } => self.change_node(&name, change).await,
            Resource::Setting(Setting::VhostProtection(vhost)) => self.protect(&vhost, true).await,
            Resource::Setting(Setting::BulkDelete) => self.bulk_delete().await,
            Resource::Client(Client::Get { vhost, name }) => self.get_messages(&vhost, &name).await,
            Resource::Client(Client::Publish { vhost, name }) => self.publish(&vhost, &name).await,
            Resource::Fixed(fixed) => self.act(fixed).await,
            other => Err(ApiError::MethodNotAllowed(other.allowed())),
        }
    }

    /// As [`Self::put`].
    async fn delete(&self, resource: Resource, headers: &axum::http::HeaderMap) -> Result<Answer, ApiError> {
        match resource {
            Resource::Vhost(name) => self.delete_vhost(&name).await,
            Resource::User(name) => self.delete_user(&name).await,
            Resource::Permission { vhost, user } => self.delete_permission(&vhost, &user).await,
            Resource::Queue { vhost, name } => self.delete_queue(&vhost, &name).await,
            Resource::QueueContents { vhost, name } => self.purge_queue(&vhost, &name).await,
            Resource::Exchange { vhost, name } => self.delete_exchange(&vhost, &name).await,
            Resource::Policy { vhost, name, operator } => self.delete_policy(&vhost, &name, operator).await,
            Resource::Binding { vhost, source, destination, to_queue, properties } => {
                self.delete_binding(&vhost, &source, &destination, to_queue, &properties).await
            }
            Resource::Connection(name) => self.close_connection(&name, headers).await,
            Resource::Client(Client::ConnectionsOfUser(user)) => {
                self.close_connections_of_user(&user, headers).await
            }
            Resource::Setting(setting) => self.delete_setting(setting).await,
            Resource::Fixed(fixed) => self.act(fixed).await,
            other => Err(ApiError::MethodNotAllowed(other.allowed())),
        }
    }

    fn check(&self, check: Check) -> Result<Answer, ApiError> {
        Ok(match check {
            Check::Ready
            | Check::BelowLimit
            | Check::ServesClients
            | Check::Alarms
            | Check::LocalAlarms
            | Check::VirtualHosts => health::check(self.admin, &check),
            Check::QuorumCritical => self.quorum_critical(),
            Check::Leaders => self.leaders(),
            Check::Port(port) => self.port_listener(&port)?,
            Check::Protocols(protocols) => self.protocol_listener(&protocols),
            Check::Certificates { within, unit } => self.certificates(&within, &unit)?,
            Check::ClusterSize => checks::cluster_size(self.admin),
            Check::Metadata => self.metadata_store(),
            // As in RabbitMQ, which has given up to send a message for it.
            Check::Aliveness(vhost) => {
                self.caller.must_see(self.admin, &vhost)?;
                health::ok_answer()
            }
        })
    }

    fn setting(&self, setting: Setting) -> Result<Answer, ApiError> {
        match setting {
            Setting::TopicPermissions { vhost, user } => {
                self.topic_permissions(vhost.as_deref(), user.as_deref())
            }
            Setting::TopicPermission { vhost, user, exchange } => {
                self.topic_permission(&vhost, &user, exchange.as_deref())
            }
            Setting::UsersWithoutPermissions => self.users_without_permissions(),
            Setting::Parameters { component, vhost } => {
                self.parameters(component.as_deref(), vhost.as_deref())
            }
            Setting::Parameter { component, vhost, name } => self.parameter(&component, &vhost, &name),
            Setting::GlobalParameters => self.global_parameters(),
            Setting::GlobalParameter(name) => self.global_parameter(&name),
            Setting::VhostLimits(vhost) => self.vhost_limits(vhost.as_deref()),
            Setting::UserLimits(user) => self.user_limits(user.as_deref()),
            Setting::VhostProtection(_)
            | Setting::BulkDelete
            | Setting::VhostLimit { .. }
            | Setting::UserLimit { .. } => Err(ApiError::MethodNotAllowed("OPTIONS")),
        }
    }

    async fn put_setting(&self, setting: Setting) -> Result<Answer, ApiError> {
        match setting {
            Setting::TopicPermission { vhost, user, exchange } => {
                self.put_topic_permission(&vhost, &user, exchange.as_deref()).await
            }
            Setting::Parameter { component, vhost, name } => {
                self.put_parameter(&component, &vhost, &name).await
            }
            Setting::GlobalParameter(name) => self.put_global_parameter(&name).await,
            Setting::VhostLimit { vhost, name } => self.set_vhost_limit(&vhost, &name, true).await,
            Setting::UserLimit { user, name } => self.set_user_limit(&user, &name, true).await,
            Setting::VhostProtection(_)
            | Setting::TopicPermissions { .. }
            | Setting::UsersWithoutPermissions
            | Setting::BulkDelete
            | Setting::Parameters { .. }
            | Setting::GlobalParameters
            | Setting::VhostLimits(_)
            | Setting::UserLimits(_) => Err(ApiError::MethodNotAllowed("HEAD, GET, OPTIONS")),
        }
    }

    async fn delete_setting(&self, setting: Setting) -> Result<Answer, ApiError> {
        match setting {
            Setting::VhostProtection(vhost) => self.protect(&vhost, false).await,
            Setting::TopicPermission { vhost, user, exchange } => {
                self.delete_topic_permission(&vhost, &user, exchange.as_deref()).await
            }
            Setting::Parameter { component, vhost, name } => {
                self.delete_parameter(&component, &vhost, &name).await
            }
            Setting::GlobalParameter(name) => self.delete_global_parameter(&name).await,
            Setting::VhostLimit { vhost, name } => self.set_vhost_limit(&vhost, &name, false).await,
            Setting::UserLimit { user, name } => self.set_user_limit(&user, &name, false).await,
            Setting::TopicPermissions { .. }
            | Setting::UsersWithoutPermissions
            | Setting::BulkDelete
            | Setting::Parameters { .. }
            | Setting::GlobalParameters
            | Setting::VhostLimits(_)
            | Setting::UserLimits(_) => Err(ApiError::MethodNotAllowed("HEAD, GET, OPTIONS")),
        }
    }

    async fn client(&self, client: Client) -> Result<Answer, ApiError> {
        match client {
            Client::Channels { vhost, connection } => {
                self.channels(vhost.as_deref(), connection.as_deref()).await
            }
            Client::Channel(name) => self.channel(&name).await,
            Client::Consumers(vhost) => self.consumers(vhost.as_deref()).await,
            Client::ConnectionsOfUser(user) => self.connections_of_user(&user).await,
            Client::Get { .. } | Client::Publish { .. } => Err(ApiError::MethodNotAllowed("POST, OPTIONS")),
        }
    }

    /// Whether a query parameter is `true`.
    fn flag(&self, key: &str) -> bool {
        self.query.iter().any(|(name, value)| name == key && value == "true")
    }

    fn node_names(&self) -> NodeNames {
        NodeNames::of(self.admin)
    }
}

/// The names of nodes, for listings that name many.
pub(crate) struct NodeNames(BTreeMap<NodeId, String>);

impl NodeNames {
    pub(crate) fn of(admin: &dyn Admin) -> Self {
        Self(admin.nodes().into_iter().map(|node| (node.id, node.name)).collect())
    }

    /// The node's name, or its number for one that the cluster has forgotten.
    pub(crate) fn get(&self, node: NodeId) -> String {
        self.0.get(&node).cloned().unwrap_or_else(|| format!("{:016x}", node.0))
    }

    pub(crate) fn all(&self, nodes: &[NodeId]) -> Vec<String> {
        nodes.iter().map(|node| self.get(*node)).collect()
    }
}

/// A name from a path that becomes a name in the catalogue.
fn checked_name(what: &str, name: &str) -> Result<(), ApiError> {
    match name.len() {
        0 => Err(ApiError::BadRequest(format!("the {what} is empty"))),
        1..=NAME_MAX_BYTES => Ok(()),
        length => {
            Err(ApiError::BadRequest(format!("the {what} has {length} bytes, {NAME_MAX_BYTES} are allowed")))
        }
    }
}

fn created(new: bool) -> Answer {
    if new { Answer::Created } else { Answer::Done }
}
