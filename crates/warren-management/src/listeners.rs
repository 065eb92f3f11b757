//! Where this node listens, as its program tells when a listener is there: tools look for ports in the overview, probes ask
//! whether one is open.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use warren_broker::tls::ServerTls;

/// A socket that is listened on.
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    /// RabbitMQ's word for what is spoken there.
    pub(crate) protocol: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<ServerTls>,
}

impl Listener {
    pub(crate) fn shape(&self, node: &str) -> Value {
        json!({
            "node": node,
            "protocol": self.protocol,
            "ip_address": self.address.ip().to_string(),
            "port": self.address.port(),
            "socket_opts": {},
        })
    }

    /// What RabbitMQ lists as a web context; `None` for what is no HTTP.
    pub(crate) fn context(&self, node: &str) -> Option<Value> {
        let (description, protocol) = match self.protocol {
            "http" => ("RabbitMQ Management", "http"),
            "https" => ("RabbitMQ Management", "https"),
            "http/prometheus" => ("RabbitMQ Prometheus", "http/prometheus"),
            _ => return None,
        };
        Some(json!({
            "node": node,
            "description": description,
            "path": "/",
            "ip": self.address.ip().to_string(),
            // RabbitMQ writes this one as a string.
            "port": self.address.port().to_string(),
            "protocol": protocol,
            "cowboy_opts": "[]",
            "ssl_opts": [],
        }))
    }
}

/// All of them, in the order in which they were opened. There are as many as the configuration names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(Arc<Mutex<Vec<Listener>>>);

impl Listeners {
    pub(crate) fn add(&self, listener: Listener) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(listener);
    }

    pub(crate) fn all(&self) -> Vec<Listener> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// RabbitMQ's word for a protocol that a probe calls otherwise.
pub(crate) fn protocol_named(name: &str) -> String {
    let name = name.to_lowercase();
    match name.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp0_9_1" | "amqp10" | "amqp1.0" | "amqp1-0"
        | "amqp1_0" => "amqp",
        "amqps" => "amqp/ssl",
        "mqtts" | "mqtt+tls" | "mqtt+ssl" => "mqtt/ssl",
        "stomps" | "stomp+tls" | "stomp+ssl" => "stomp/ssl",
        "http1" | "http1.1" | "http_api" | "management" | "management_ui" | "ui" => "http",
        "cli" | "distribution" => "clustering",
        "prometheus" => "http/prometheus",
        other => other,
    }
    .to_owned()
}
