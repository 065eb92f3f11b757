//! The paths of clients, of messages that operators publish and get, and of what tools ask without a thing of ours behind it.

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

/// What tools of RabbitMQ ask for and that is always the same here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// How logins are possible: by password.
    Auth,
    /// Attempts to log in: they are in the log, not counted.
    AuthAttempts,
    HashPassword(String),
    Version,
    /// Lists of which there is nothing here: extensions, feature flags, deprecated features.
    Nothing,
    /// Actions that there is nothing to do for: starting a vhost, rebalancing, resetting statistics.
    Done,
    /// `sync` and `cancel_sync` of a queue.
    QueueAction {
        vhost: String,
        name: String,
    },
}

impl Fixed {
    pub(super) fn named(parts: &[&str]) -> Option<Self> {
        let owned = |text: &&str| (*text).to_owned();
        Some(match parts {
            ["auth"] => Self::Auth,
            ["auth", "attempts", _] | ["auth", "attempts", _, "source"] => Self::AuthAttempts,
            ["auth", "hash_password", password] => Self::HashPassword(owned(password)),
            ["version"] => Self::Version,
            ["extensions" | "feature-flags" | "deprecated-features"] | ["deprecated-features", "used"] => {
                Self::Nothing
            }
            ["vhosts", _, "start", _] | ["rebalance", "queues"] | ["reset"] | ["reset", _] => Self::Done,
            ["queues", vhost, name, "actions"] => {
                Self::QueueAction { vhost: owned(vhost), name: owned(name) }
            }
            _ => return None,
        })
    }

    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Self::Auth | Self::HashPassword(_) | Self::Version | Self::Nothing => "HEAD, GET, OPTIONS",
            Self::AuthAttempts => "HEAD, GET, DELETE, OPTIONS",
            Self::Done => "POST, DELETE, OPTIONS",
            Self::QueueAction { .. } => "POST, OPTIONS",
        }
    }
}
