//! What tools of RabbitMQ ask and that is always the same here, or has nothing behind it.

use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Asked;
use super::overview::RABBITMQ_VERSION;
use crate::answer::{self, Answer};
use crate::auth::{Caller, Credentials};
use crate::error::ApiError;
use crate::path::Fixed;
use crate::query;

/// What a broker answers that lets nobody change replicas: here the cluster places them by itself.
const NO_REPLICA_CHANGES: &str = "Broker settings disallow quorum queue replica operations.";

impl Asked<'_> {
    pub(super) async fn fixed(&self, fixed: Fixed) -> Result<Answer, ApiError> {
        match fixed {
            Fixed::Auth => Ok(Answer::Document(json!({ "oauth_enabled": false }))),
            Fixed::AuthAttempts(node) => {
                self.caller.must_monitor()?;
                self.must_be_node(&node)?;
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
            Fixed::NothingOf(vhost) => {
                self.caller.must_see(self.admin, &vhost)?;
                Ok(Answer::List(Vec::new()))
            }
            Fixed::FeatureFlags => Ok(super::features::flags()),
            Fixed::DeprecatedFeatures { used } => Ok(self.deprecated_features(used)),
            Fixed::Memory { node, relative } => self.memory(&node, relative),
            Fixed::QuorumStatus { vhost, name } => self.quorum_status(&vhost, &name).await,
            Fixed::Login
            | Fixed::EnableFeature(_)
            | Fixed::QuorumReplicas
            | Fixed::Done
            | Fixed::Reset(_)
            | Fixed::QueueAction { .. } => Err(ApiError::ObjectNotFound),
        }
    }

    /// What there is nothing to do for.
    pub(super) async fn act(&self, fixed: Fixed) -> Result<Answer, ApiError> {
        match fixed {
            Fixed::Done => {
                self.caller.must_administrate()?;
                Ok(Answer::Done)
            }
            Fixed::Reset(node) => {
                self.caller.must_administrate()?;
                node.map_or(Ok(()), |node| self.must_be_node(&node))?;
                Ok(Answer::Done)
            }
            Fixed::AuthAttempts(node) => {
                self.caller.must_administrate()?;
                self.must_be_node(&node)?;
                Ok(Answer::Done)
            }
            Fixed::EnableFeature(name) => {
                self.caller.must_administrate()?;
                super::features::enable(&name)
            }
            Fixed::QuorumReplicas => {
                self.caller.must_administrate()?;
                Err(ApiError::Disallowed(NO_REPLICA_CHANGES.to_owned()))
            }
            Fixed::QueueAction { vhost, name } => {
                self.caller.must_see(self.admin, &vhost)?;
                let absent = |_| ApiError::ParentNotFound("queue_not_found".to_owned());
                self.must_exist(&vhost, &name).await.map_err(absent)?;
                self.object.must_have(&["action"])?;
                match self.object.text("action")?.unwrap_or_default() {
                    // Queues are always in step.
                    "sync" | "cancel_sync" => Ok(Answer::Done),
                    other => Err(ApiError::term("unknown", other)),
                }
            }
            Fixed::Auth
            | Fixed::Login
            | Fixed::HashPassword(_)
            | Fixed::Version
            | Fixed::Nothing
            | Fixed::NothingOf(_)
            | Fixed::FeatureFlags
            | Fixed::DeprecatedFeatures { .. }
            | Fixed::Memory { .. }
            | Fixed::QuorumStatus { .. } => Err(ApiError::MethodNotAllowed("HEAD, GET, OPTIONS")),
        }
    }

    pub(super) fn must_be_node(&self, name: &str) -> Result<(), ApiError> {
        let known = self.admin.nodes().iter().any(|node| node.name == name);
        if known { Ok(()) } else { Err(ApiError::ObjectNotFound) }
    }
}

/// Answers a login by a form with what a client then sends as its `authorization`.
///
/// # Errors
/// 401 as for any login, 400 for a form that is none.
pub(super) fn login(
    form: &[u8],
    log_in: impl FnOnce(Credentials) -> Result<Caller, ApiError>,
) -> Result<Response, ApiError> {
    let form = std::str::from_utf8(form).map_err(|_| ApiError::BadRequest("not a form".to_owned()))?;
    let pairs = query::pairs(form)?;
    let value = |key: &str| pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let (Some(name), Some(password)) = (value("username"), value("password")) else {
        return Err(ApiError::LoginFailed);
    };
    let token = STANDARD.encode(format!("{name}:{password}"));
    let caller = log_in(Credentials { name, password })?;
    Ok(answer::json(
        StatusCode::OK,
        &json!({
            "token": { "type": "basic", "value": token },
            "user": { "name": caller.name, "tags": caller.tags },
        }),
    ))
}
