//! Client connections, of every node.

use axum::http::HeaderMap;
use serde_json::{Value, json};
use warren_broker::admin::ConnectionInfo;

use super::{Asked, NodeNames};
use crate::answer::Answer;
use crate::error::ApiError;
use crate::table;

const REASON: &str = "Closed via management plugin";
/// What fits into a reply text beside its code.
const REASON_MAX_BYTES: usize = 200;

impl Asked<'_> {
    pub(super) async fn connections(&self, vhost: Option<&str>) -> Answer {
        let mut connections = self.visible_connections(false).await;
        connections.retain(|connection| vhost.is_none_or(|vhost| connection.vhost == vhost));
        let names = self.node_names();
        Answer::List(connections.iter().map(|connection| shape_connection(connection, &names)).collect())
    }

    pub(super) async fn connection(&self, name: &str) -> Result<Answer, ApiError> {
        let connections = self.visible_connections(false).await;
        let connection = connections.iter().find(|connection| connection.name == name);
        let connection = connection.ok_or(ApiError::ObjectNotFound)?;
        Ok(Answer::Document(shape_connection(connection, &self.node_names())))
    }

    pub(super) async fn close_connection(&self, name: &str, headers: &HeaderMap) -> Result<Answer, ApiError> {
        let connections = self.admin.all_connections(false).await;
        let connection = connections.iter().find(|connection| connection.name == name);
        let connection = connection.ok_or(ApiError::ObjectNotFound)?;
        if !self.caller.is_administrator() && connection.user != self.caller.name {
            return Err(ApiError::NotAuthorised("User not authorised to access object".to_owned()));
        }
        if self.admin.close_connection(name, reason_of(headers)).await {
            Ok(Answer::Done)
        } else {
            Err(ApiError::ObjectNotFound)
        }
    }

    pub(super) async fn connections_of_user(&self, user: &str) -> Result<Answer, ApiError> {
        let mut connections = self.visible_connections(false).await;
        connections.retain(|connection| connection.user == user);
        let names = self.node_names();
        let short = connections.iter().map(|connection| {
            json!({
                "name": connection.name,
                "vhost": connection.vhost,
                "user": connection.user,
                "node": names.get(connection.node),
            })
        });
        Ok(Answer::List(short.collect()))
    }

    pub(super) async fn close_connections_of_user(
        &self,
        user: &str,
        headers: &HeaderMap,
    ) -> Result<Answer, ApiError> {
        if user != self.caller.name {
            self.caller.must_administrate()?;
        }
        for connection in self.admin.all_connections(false).await {
            if connection.user == user {
                // One that is gone by now is what was asked for.
                self.admin.close_connection(&connection.name, reason_of(headers)).await;
            }
        }
        Ok(Answer::Done)
    }

    pub(super) async fn visible_connections(&self, detailed: bool) -> Vec<ConnectionInfo> {
        let mut connections = self.admin.all_connections(detailed).await;
        connections.retain(|connection| self.caller.is_monitor() || connection.user == self.caller.name);
        connections
    }
}

fn reason_of(headers: &HeaderMap) -> &str {
    let reason = headers.get("x-reason").and_then(|reason| reason.to_str().ok());
    reason.filter(|reason| reason.len() <= REASON_MAX_BYTES).unwrap_or(REASON)
}

// The name is `PEER:PORT -> HOST:PORT`.
fn address(text: &str) -> (String, u16) {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    (host.trim_matches(['[', ']']).to_owned(), port.parse::<u16>().unwrap_or(0))
}

/// The client's end.
pub(super) fn peer_of(connection: &ConnectionInfo) -> (String, u16) {
    address(connection.name.split_once(" -> ").map_or(connection.name.as_str(), |(peer, _)| peer))
}

fn shape_connection(connection: &ConnectionInfo, names: &NodeNames) -> Value {
    let (peer_host, peer_port) = peer_of(connection);
    let (host, port) = address(connection.name.split_once(" -> ").map_or("", |(_, own)| own));
    let tls = connection.tls.as_ref();
    let certificate = tls.and_then(|tls| tls.peer.as_ref());
    let mut shape = json!({
        "name": connection.name,
        "node": names.get(connection.node),
        "state": if connection.blocked { "blocked" } else { "running" },
        "type": "network",
        "protocol": "AMQP 0-9-1",
        "user": connection.user,
        "user_who_performed_action": connection.user,
        "vhost": connection.vhost,
        "connected_at": connection.connected_at,
        "host": host,
        "port": port,
        "peer_host": peer_host,
        "peer_port": peer_port,
        "ssl": tls.is_some(),
        "ssl_protocol": tls.map(|tls| tls.protocol.as_str()),
        "ssl_cipher": tls.map(|tls| tls.cipher.as_str()),
        "ssl_hash": tls.map(|tls| tls.hash.as_str()),
        "ssl_key_exchange": tls.map(|tls| tls.key_exchange.as_str()),
        "peer_cert_subject": certificate.map(|peer| peer.subject.as_str()),
        "peer_cert_issuer": certificate.map(|peer| peer.issuer.as_str()),
        "peer_cert_validity": certificate.map(|peer| peer.validity.as_str()),
        "frame_max": connection.frame_max,
        "timeout": connection.heartbeat_s,
        "channels": connection.channels,
        "client_properties": table::to_json(&connection.client_properties),
    });
    if let (Some(name), Value::Object(shape)) = (&connection.user_provided_name, &mut shape) {
        shape.insert("user_provided_name".to_owned(), name.as_str().into());
    }
    shape
}
