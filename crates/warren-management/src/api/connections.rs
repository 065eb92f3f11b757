//! The asked node's client connections.

use axum::http::HeaderMap;
use serde_json::{Value, json};
use warren_broker::admin::ConnectionInfo;

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;
use crate::table;

const REASON: &str = "Closed via management plugin";
/// What fits into a reply text beside its code.
const REASON_MAX_BYTES: usize = 200;

impl Asked<'_> {
    pub(super) fn connections(&self, vhost: Option<&str>) -> Answer {
        let mut connections = self.visible_connections();
        connections.retain(|connection| vhost.is_none_or(|vhost| connection.vhost == vhost));
        let node = self.admin.node_name();
        Answer::List(connections.iter().map(|connection| shape_connection(connection, &node)).collect())
    }

    pub(super) fn connection(&self, name: &str) -> Result<Answer, ApiError> {
        let connections = self.visible_connections();
        let connection = connections.iter().find(|connection| connection.name == name);
        let connection = connection.ok_or(ApiError::ObjectNotFound)?;
        Ok(Answer::Document(shape_connection(connection, &self.admin.node_name())))
    }

    pub(super) fn close_connection(&self, name: &str, headers: &HeaderMap) -> Result<Answer, ApiError> {
        let connections = self.admin.connections();
        let connection = connections.iter().find(|connection| connection.name == name);
        let connection = connection.ok_or(ApiError::ObjectNotFound)?;
        if !self.caller.is_administrator() && connection.user != self.caller.name {
            return Err(ApiError::NotAuthorised("User not authorised to access object".to_owned()));
        }
        let reason = headers.get("x-reason").and_then(|reason| reason.to_str().ok());
        let reason = reason.filter(|reason| reason.len() <= REASON_MAX_BYTES).unwrap_or(REASON);
        if self.admin.close_connection(name, reason) {
            Ok(Answer::Done)
        } else {
            Err(ApiError::ObjectNotFound)
        }
    }

    fn visible_connections(&self) -> Vec<ConnectionInfo> {
        let mut connections = self.admin.connections();
        connections.retain(|connection| self.caller.is_monitor() || connection.user == self.caller.name);
        connections
    }
}

fn shape_connection(connection: &ConnectionInfo, node: &str) -> Value {
    // The name is `PEER:PORT -> HOST:PORT`.
    let (peer, own) = connection.name.split_once(" -> ").unwrap_or((&connection.name, ""));
    let address = |text: &str| {
        let (host, port) = text.rsplit_once(':').unwrap_or((text, "0"));
        (host.trim_matches(['[', ']']).to_owned(), port.parse::<u16>().unwrap_or(0))
    };
    let ((peer_host, peer_port), (host, port)) = (address(peer), address(own));
    let mut shape = json!({
        "name": connection.name,
        "node": node,
        "state": "running",
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
        "ssl": false,
        "ssl_protocol": null,
        "ssl_cipher": null,
        "ssl_hash": null,
        "ssl_key_exchange": null,
        "peer_cert_subject": null,
        "peer_cert_issuer": null,
        "peer_cert_validity": null,
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
