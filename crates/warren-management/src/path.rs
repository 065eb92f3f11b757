//! From a path to the thing it names and what may be done with it.

mod clients;
mod settings;
mod tools;

use warren_broker::admin::NodeChange;

use crate::error::ApiError;
use crate::query::decode_part;

pub(crate) use self::clients::Client;
pub(crate) use self::settings::Setting;
pub(crate) use self::tools::Fixed;

/// Longest path that is looked at: three names of 255 bytes, each byte percent-encoded, and some words.
const PATH_MAX_BYTES: usize = 4096;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Live,
    Ready,
    Check(Check),
    Overview,
    WhoAmI,
    ClusterName,
    Nodes,
    Node(String),
    Shards,
    NodeChange { name: String, change: NodeChange },
    Vhosts,
    Vhost(String),
    VhostPermissions(String),
    Users,
    User(String),
    UserPermissions(String),
    Permissions,
    Permission { vhost: String, user: String },
    Queues { vhost: Option<String> },
    Queue { vhost: String, name: String },
    QueueContents { vhost: String, name: String },
    QueueBindings { vhost: String, name: String },
    Exchanges { vhost: Option<String> },
    Exchange { vhost: String, name: String },
    ExchangeBindings { vhost: String, name: String, end: End },
    Bindings { vhost: Option<String> },
    BindingsBetween { vhost: String, source: String, destination: String, to_queue: bool },
    Binding { vhost: String, source: String, destination: String, to_queue: bool, properties: String },
    Policies { vhost: Option<String>, operator: bool },
    Policy { vhost: String, name: String, operator: bool },
    Definitions { vhost: Option<String> },
    Connections,
    VhostConnections(String),
    Connection(String),
    Setting(Setting),
    Client(Client),
    Fixed(Fixed),
}

/// A health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Serves AMQP in contact with a majority; asked without login.
    Ready,
    /// Takes another AMQP connection; asked without login.
    BelowLimit,
    /// Both; asked without login.
    ServesClients,
    /// No memory or disk alarm in the cluster.
    Alarms,
    /// None on this node.
    LocalAlarms,
    /// Every vhost runs.
    VirtualHosts,
    /// No group would lose its majority with this node.
    QuorumCritical,
    /// Every group of queues has a leader.
    Leaders,
    /// A listener on this port; it may be no number.
    Port(String),
    /// Listeners of these protocols, with commas between them.
    Protocols(String),
    /// No certificate of a listener runs out within so many of these.
    Certificates { within: String, unit: String },
    /// As many nodes as the cluster has are there; asked without login.
    ClusterSize,
    /// The catalogue is there.
    Metadata,
    /// A message goes through the vhost.
    Aliveness(String),
}

/// Which end of a binding an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

impl Check {
    fn named(parts: &[&str]) -> Option<Self> {
        Some(match parts {
            ["is-in-service"] => Self::Ready,
            ["below-node-connection-limit"] => Self::BelowLimit,
            ["ready-to-serve-clients"] => Self::ServesClients,
            ["alarms"] => Self::Alarms,
            ["local-alarms"] => Self::LocalAlarms,
            ["virtual-hosts"] => Self::VirtualHosts,
            ["node-is-quorum-critical" | "node-is-mirror-sync-critical"] => Self::QuorumCritical,
            ["quorum-queues-without-elected-leaders", ..] => Self::Leaders,
            ["reached-target-cluster-size"] => Self::ClusterSize,
            ["metadata-store", "initialized"] | ["metadata-store", "initialized", "with-data"] => {
                Self::Metadata
            }
            ["port-listener", port] => Self::Port((*port).to_owned()),
            ["protocol-listener", protocols] => Self::Protocols((*protocols).to_owned()),
            ["certificate-expiration", within, unit] => {
                Self::Certificates { within: (*within).to_owned(), unit: (*unit).to_owned() }
            }
            _ => return None,
        })
    }
}

impl Resource {
    /// What `path` (undecoded, without its query) names; `None` for nothing.
    ///
    /// # Errors
    /// 400 for a path that is too long or not percent-encoded UTF-8.
    pub(crate) fn named(path: &str) -> Result<Option<Self>, ApiError> {
        if path.len() > PATH_MAX_BYTES {
            return Err(ApiError::BadRequest(format!("the path is longer than {PATH_MAX_BYTES} bytes")));
        }
        let Some(path) = path.strip_prefix('/') else { return Ok(None) };
        let path = path.strip_suffix('/').unwrap_or(path);
        let parts: Vec<String> = path.split('/').map(decode_part).collect::<Result<_, _>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(match parts.split_first() {
            Some((&"health", rest)) => Self::of_health(rest),
            Some((&"api", rest)) => Self::of_api(rest),
            Some(_) | None => None,
        })
    }

    fn of_health(parts: &[&str]) -> Option<Self> {
        match parts {
            ["live" | "startup"] => Some(Self::Live),
            ["ready"] => Some(Self::Ready),
            _ => None,
        }
    }

    fn of_api(parts: &[&str]) -> Option<Self> {
        let owned = |text: &&str| (*text).to_owned();
        // In a path the default exchange cannot be empty.
        let exchange = |text: &&str| if *text == "amq.default" { String::new() } else { owned(text) };
        Some(match parts {
            ["overview"] => Self::Overview,
            ["whoami"] => Self::WhoAmI,
            ["cluster-name"] => Self::ClusterName,
            ["nodes"] => Self::Nodes,
            ["nodes", name] => Self::Node(owned(name)),
            ["warren", "shards"] => Self::Shards,
            ["warren", "nodes", name, change] => Self::NodeChange {
                name: owned(name),
                change: match *change {
                    "drain" => NodeChange::Drain,
                    "undrain" => NodeChange::Undrain,
                    "remove" => NodeChange::Remove,
                    "replace" => NodeChange::Replace,
                    _ => return None,
                },
            },
            ["vhosts"] => Self::Vhosts,
            ["vhosts", vhost] => Self::Vhost(owned(vhost)),
            ["vhosts", vhost, "permissions"] => Self::VhostPermissions(owned(vhost)),
            ["vhosts", vhost, "connections"] => Self::VhostConnections(owned(vhost)),
            ["users"] => Self::Users,
            ["users", name] if !matches!(*name, "bulk-delete" | "without-permissions") => {
                Self::User(owned(name))
            }
            ["users", name, "permissions"] => Self::UserPermissions(owned(name)),
            ["permissions"] => Self::Permissions,
            ["permissions", vhost, user] => Self::Permission { vhost: owned(vhost), user: owned(user) },
            ["queues"] | ["queues", "detailed"] => Self::Queues { vhost: None },
            ["queues", vhost] => Self::Queues { vhost: Some(owned(vhost)) },
            ["queues", vhost, name] => Self::Queue { vhost: owned(vhost), name: owned(name) },
            ["queues", vhost, name, "contents"] => {
                Self::QueueContents { vhost: owned(vhost), name: owned(name) }
            }
            ["queues", vhost, name, "bindings"] => {
                Self::QueueBindings { vhost: owned(vhost), name: owned(name) }
            }
            ["exchanges"] => Self::Exchanges { vhost: None },
            ["exchanges", vhost] => Self::Exchanges { vhost: Some(owned(vhost)) },
            ["exchanges", vhost, name] => Self::Exchange { vhost: owned(vhost), name: exchange(name) },
            ["exchanges", vhost, name, "bindings", end] => Self::ExchangeBindings {
                vhost: owned(vhost),
                name: exchange(name),
                end: match *end {
                    "source" => End::Source,
                    "destination" => End::Destination,
                    _ => return None,
                },
            },
            ["bindings"] => Self::Bindings { vhost: None },
            ["bindings", vhost] => Self::Bindings { vhost: Some(owned(vhost)) },
            ["bindings", vhost, "e", source, kind @ ("q" | "e"), destination] => Self::BindingsBetween {
                vhost: owned(vhost),
                source: exchange(source),
                destination: if *kind == "q" { owned(destination) } else { exchange(destination) },
                to_queue: *kind == "q",
            },
            ["bindings", vhost, "e", source, kind @ ("q" | "e"), destination, properties] => Self::Binding {
                vhost: owned(vhost),
                source: exchange(source),
                destination: if *kind == "q" { owned(destination) } else { exchange(destination) },
                to_queue: *kind == "q",
                properties: owned(properties),
            },
            [kind @ ("policies" | "operator-policies"), rest @ ..] => {
                let operator = *kind == "operator-policies";
                match rest {
                    [] => Self::Policies { vhost: None, operator },
                    [vhost] => Self::Policies { vhost: Some(owned(vhost)), operator },
                    [vhost, name] => Self::Policy { vhost: owned(vhost), name: owned(name), operator },
                    [_, _, _, ..] => return None,
                }
            }
            ["definitions" | "all-configuration"] => Self::Definitions { vhost: None },
            ["definitions" | "all-configuration", vhost] => Self::Definitions { vhost: Some(owned(vhost)) },
            ["connections"] => Self::Connections,
            ["connections", name] => Self::Connection(owned(name)),
            ["health", "checks", rest @ ..] => Self::Check(Check::named(rest)?),
            ["aliveness-test", vhost] => Self::Check(Check::Aliveness(owned(vhost))),
            ["healthchecks", "node"] | ["healthchecks", "node", _] => Self::Check(Check::Ready),
            other => {
                return Setting::named(other)
                    .map(Self::Setting)
                    .or_else(|| Client::named(other).map(Self::Client))
                    .or_else(|| Fixed::named(other).map(Self::Fixed));
            }
        })
    }

    /// The methods it knows, as the `allow` header lists them.
    pub(crate) fn allowed(&self) -> &'static str {
        match self {
            Self::Vhost(_)
            | Self::User(_)
            | Self::Permission { .. }
            | Self::Queue { .. }
            | Self::Policy { .. }
            | Self::Exchange { .. } => "HEAD, GET, PUT, DELETE, OPTIONS",
            Self::BindingsBetween { .. } | Self::Definitions { .. } => "HEAD, GET, POST, OPTIONS",
            Self::Binding { .. } => "HEAD, GET, DELETE, OPTIONS",
            Self::QueueContents { .. } => "DELETE, OPTIONS",
            Self::NodeChange { .. } => "POST, OPTIONS",
            Self::Connection(_) => "HEAD, GET, DELETE, OPTIONS",
            Self::ClusterName => "HEAD, GET, PUT, OPTIONS",
            Self::Setting(setting) => setting.allowed(),
            Self::Client(client) => client.allowed(),
            Self::Fixed(fixed) => fixed.allowed(),
            Self::Live
            | Self::Ready
            | Self::Check(_)
            | Self::Overview
            | Self::WhoAmI
            | Self::Nodes
            | Self::Node(_)
            | Self::Shards
            | Self::Vhosts
            | Self::VhostPermissions(_)
            | Self::Users
            | Self::UserPermissions(_)
            | Self::Permissions
            | Self::Queues { .. }
            | Self::QueueBindings { .. }
            | Self::Exchanges { .. }
            | Self::ExchangeBindings { .. }
            | Self::Bindings { .. }
            | Self::Policies { .. }
            | Self::Connections
            | Self::VhostConnections(_) => "HEAD, GET, OPTIONS",
        }
    }

    /// Whether `method` is one of [`Self::allowed`].
    pub(crate) fn allows(&self, method: &str) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Option<Resource> {
        Resource::named(path).unwrap()
    }

    #[test]
    fn the_vhost_slash_and_other_encoded_parts_are_names() {
        let queue = |vhost: &str, name: &str| {
            Some(Resource::Queue { vhost: vhost.to_owned(), name: name.to_owned() })
        };
        assert_eq!(named("/api/queues/%2F/hello"), queue("/", "hello"));
        assert_eq!(named("/api/queues/%2f/a%2Fb%20c"), queue("/", "a/b c"));
        assert_eq!(named("/api/queues/v/bindings"), queue("v", "bindings"));
        assert_eq!(named("/api/queues/v/%C3%BC+"), queue("v", "ü+"));
    }

    #[test]
    fn one_trailing_slash_is_tolerated_and_two_are_an_empty_name() {
        assert_eq!(named("/api/queues/"), Some(Resource::Queues { vhost: None }));
        assert_eq!(named("/api/queues//"), Some(Resource::Queues { vhost: Some(String::new()) }));
        assert_eq!(named("/api/overview/"), Some(Resource::Overview));
    }

    #[test]
    fn the_default_exchange_has_a_name_in_paths_only() {
        assert_eq!(
            named("/api/exchanges/%2F/amq.default"),
            Some(Resource::Exchange { vhost: "/".to_owned(), name: String::new() })
        );
        assert_eq!(
            named("/api/bindings/%2F/e/amq.default/q/amq.default"),
            Some(Resource::BindingsBetween {
                vhost: "/".to_owned(),
                source: String::new(),
                destination: "amq.default".to_owned(),
                to_queue: true
            })
        );
    }

    #[test]
    fn what_is_not_there_names_nothing() {
        for path in [
            "",
            "/",
            "/api",
            "/api/",
            "/apis/overview",
            "/api/queues/a/b/c",
            "/api/health/checks/luck",
            "/health",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
    }

    #[test]
    fn broken_and_overlong_paths_are_refused() {
        assert!(Resource::named("/api/queues/%").is_err());
        assert!(Resource::named("/api/queues/%FF").is_err());
        assert!(Resource::named(&format!("/api/queues/{}", "a".repeat(5000))).is_err());
    }
}
