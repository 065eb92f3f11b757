//! One request to one answer. Each file here is a resource; this one leads to them.

mod bindings;
mod connections;
mod definitions;
mod exchanges;
mod health;
mod nodes;
mod overview;
mod permissions;
mod policies;
mod queues;
mod shards;
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
use crate::path::Resource;
use crate::{Management, body, query};

/// Longest name of anything: AMQP's short string.
const NAME_MAX_BYTES: usize = 255;

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
    let starting = || ApiError::Unavailable("the node is starting".to_owned());
    let admin = management.admin().ok_or_else(starting)?;
    let caller = Caller::login(admin.as_ref(), &head.headers, peer)?;
    let query = query::pairs(head.uri.query().unwrap_or_default())?;
    let list = ListQuery::read(&query)?;
    let object = match head.method {
        Method::POST if matches!(resource, Resource::Definitions { .. }) => {
            // Nobody sends twenty megabytes who may not.
            caller.must_administrate()?;
            body::read_definitions(body).await?
        }
        Method::PUT | Method::POST => body::read(body).await?,
        _ => Object::default(),
    };
    let asked = Asked { admin: admin.as_ref(), caller: &caller, query: &query, object: &object, started };
    let answer = match head.method {
        Method::PUT => asked.put(resource).await?,
        Method::POST => asked.post(resource).await?,
        Method::DELETE => asked.delete(resource, &head.headers).await?,
        _ => asked.get(resource).await?,
    };
    finish(answer, &list)
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
}

impl Asked<'_> {
    async fn get(&self, resource: Resource) -> Result<Answer, ApiError> {
        match resource {
            Resource::Check(check) => Ok(health::check(self.admin, check)),
            Resource::Overview => self.overview().await,
            Resource::WhoAmI => Ok(self.who_am_i()),
            Resource::ClusterName => Ok(self.cluster_name()),
            Resource::Nodes => self.nodes(),
            Resource::Node(name) => self.node(&name),
            Resource::Shards => self.shards(),
            Resource::Vhosts => Ok(self.vhosts()),
            Resource::Vhost(name) => self.vhost(&name),
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
            Resource::Connections => Ok(self.connections(None)),
            Resource::VhostConnections(vhost) => {
                self.caller.must_see(self.admin, &vhost)?;
                Ok(self.connections(Some(&vhost)))
            }
            Resource::Connection(name) => self.connection(&name),
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
            Resource::Connection(name) => self.close_connection(&name, headers),
            other => Err(ApiError::MethodNotAllowed(other.allowed())),
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
