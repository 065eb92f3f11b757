//! Who asks, and what they may see: HTTP Basic, tags, and permissions of vhosts.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use warren_broker::admin::{Admin, Pattern, PermissionInfo};
use warren_types::AMQPValue;

use crate::error::ApiError;

/// Somebody who logged in and has a tag.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) tags: Vec<String>,
    permissions: Vec<PermissionInfo>,
}

/// Who somebody says to be.
pub(crate) struct Credentials {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// What is done to a named thing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Declare or delete.
    Configure,
    /// Purge, and bind from.
    Read,
    /// Bind to.
    Write,
}

impl Caller {
    /// Logs in with the request's `authorization` header.
    ///
    /// # Errors
    /// 401 in RabbitMQ's three shapes: no credentials, a failed login, and somebody who may not come in this way.
    pub(crate) fn login(admin: &dyn Admin, headers: &HeaderMap, peer: IpAddr) -> Result<Self, ApiError> {
        Self::of(admin, credentials(headers)?, peer)
    }

    /// As [`Self::login`], with what was told otherwise than by a header.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn of(admin: &dyn Admin, credentials: Credentials, peer: IpAddr) -> Result<Self, ApiError> {
        let Credentials { name, password } = credentials;
        let tags = admin.login(&name, password.as_bytes()).ok_or(ApiError::LoginFailed)?;
        // An IPv4 client of a dual-stack socket comes as ::ffff:127.0.0.1.
        if name == "guest" && admin.guest_loopback_only() && !peer.to_canonical().is_loopback() {
            return Err(ApiError::NotAuthorised("User can only log in via localhost".to_owned()));
        }
        let known = ["administrator", "monitoring", "policymaker", "management"];
        if !tags.iter().any(|tag| known.contains(&tag.as_str())) {
            return Err(ApiError::NotAuthorised("Not management user".to_owned()));
        }
        let mut permissions = admin.permissions();
        permissions.retain(|permission| permission.user == name);
        Ok(Self { name, tags, permissions })
    }

    /// Whoever has started this node.
    pub(crate) fn operator() -> Self {
        Self { name: String::new(), tags: vec!["administrator".to_owned()], permissions: Vec::new() }
    }

    fn has(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    pub(crate) fn is_administrator(&self) -> bool {
        self.has("administrator")
    }

    /// Sees nodes and everybody's connections.
    pub(crate) fn is_monitor(&self) -> bool {
        self.is_administrator() || self.has("monitoring")
    }

    /// # Errors
    /// 401 unless an administrator.
    pub(crate) fn must_administrate(&self) -> Result<(), ApiError> {
        if self.is_administrator() {
            Ok(())
        } else {
            Err(ApiError::NotAuthorised("Not administrator user".to_owned()))
        }
    }

    /// # Errors
    /// 401 unless a policymaker or an administrator.
    pub(crate) fn must_make_policies(&self) -> Result<(), ApiError> {
        if self.is_administrator() || self.has("policymaker") {
            Ok(())
        } else {
            Err(ApiError::NotAuthorised("User not authorised to access object".to_owned()))
        }
    }

    /// # Errors
    /// 401 unless monitoring or administrator.
    pub(crate) fn must_monitor(&self) -> Result<(), ApiError> {
        if self.is_monitor() { Ok(()) } else { Err(ApiError::NotAuthorised("Not monitor user".to_owned())) }
    }

    /// Whether the objects of a vhost are shown.
    pub(crate) fn sees(&self, vhost: &str) -> bool {
        self.is_administrator() || self.permissions.iter().any(|permission| permission.vhost == vhost)
    }

    /// # Errors
    /// 404 for a vhost that does not exist, 401 for one without permissions.
    pub(crate) fn must_see(&self, admin: &dyn Admin, vhost: &str) -> Result<(), ApiError> {
        if !admin.vhosts().iter().any(|known| known == vhost) {
            return Err(ApiError::ObjectNotFound);
        }
        if self.sees(vhost) {
            Ok(())
        } else {
            Err(ApiError::NotAuthorised("User not authorised to access virtual host".to_owned()))
        }
    }

    /// Whether an exchange may be used for what dies in a queue, or for what another exchange cannot route.
    ///
    /// # Errors
    /// 401 when the caller may not write to it, or not read from `source`.
    pub(crate) fn must_forward(
        &self,
        vhost: &str,
        source: &str,
        exchange: Option<&AMQPValue>,
    ) -> Result<(), ApiError> {
        let Some(AMQPValue::LongString(exchange)) = exchange else { return Ok(()) };
        let exchange = exchange.to_string();
        let name = if exchange.is_empty() { "amq.default" } else { exchange.as_str() };
        self.must_have(Access::Read, vhost, source)?;
        self.must_have(Access::Write, vhost, name)
    }

    /// # Errors
    /// 401 when the caller's permissions in the vhost do not cover the name. An administrator may everything.
    pub(crate) fn must_have(&self, access: Access, vhost: &str, name: &str) -> Result<(), ApiError> {
        let covered = |permission: &PermissionInfo| {
            let pattern = match access {
                Access::Configure => &permission.configure,
                Access::Read => &permission.read,
                Access::Write => &permission.write,
            };
            // Patterns were checked when they were set; one that does not compile covers nothing.
            Pattern::compile(pattern).is_ok_and(|pattern| pattern.matches(name))
        };
        let vhosts = self.permissions.iter().filter(|permission| permission.vhost == vhost);
        if self.is_administrator() || vhosts.into_iter().any(covered) {
            Ok(())
        } else {
            Err(ApiError::NotAuthorised("Access refused.".to_owned()))
        }
    }
}

fn credentials(headers: &HeaderMap) -> Result<Credentials, ApiError> {
    let header = headers.get(header::AUTHORIZATION).ok_or(ApiError::NoCredentials)?;
    let decoded = header
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
        .and_then(|(_, encoded)| STANDARD.decode(encoded.trim()).ok())
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(ApiError::LoginFailed)?;
    decoded
        .split_once(':')
        .map(|(name, password)| Credentials { name: name.to_owned(), password: password.to_owned() })
        .ok_or(ApiError::LoginFailed)
}
