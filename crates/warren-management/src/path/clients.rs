//! The paths of clients, and of messages that operators publish and get.

/// What a path about clients and messages names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Channels { vhost: Option<String>, connection: Option<String> },
    Channel(String),
    Consumers(Option<String>),
    ConnectionsOfUser(String),
    Get { vhost: String, name: String },
    Publish { vhost: String, name: String },
}

impl Client {
    pub(super) fn named(parts: &[&str]) -> Option<Self> {
        let owned = |text: &&str| (*text).to_owned();
        Some(match parts {
            ["channels"] => Self::Channels { vhost: None, connection: None },
            ["vhosts", vhost, "channels"] => Self::Channels { vhost: Some(owned(vhost)), connection: None },
            ["connections", name, "channels"] => {
                Self::Channels { vhost: None, connection: Some(owned(name)) }
            }
            ["channels", name] => Self::Channel(owned(name)),
            ["consumers"] => Self::Consumers(None),
            ["consumers", vhost] => Self::Consumers(Some(owned(vhost))),
            ["connections", "username", user] => Self::ConnectionsOfUser(owned(user)),
            ["queues", vhost, name, "get"] => Self::Get { vhost: owned(vhost), name: owned(name) },
            ["exchanges", vhost, name, "publish"] => Self::Publish {
                vhost: owned(vhost),
                // In a path the default exchange cannot be empty.
                name: if *name == "amq.default" { String::new() } else { owned(name) },
            },
            _ => return None,
        })
    }

    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Self::Channels { .. } | Self::Channel(_) | Self::Consumers(_) => "HEAD, GET, OPTIONS",
            Self::ConnectionsOfUser(_) => "HEAD, GET, DELETE, OPTIONS",
            Self::Get { .. } | Self::Publish { .. } => "POST, OPTIONS",
        }
    }
}
