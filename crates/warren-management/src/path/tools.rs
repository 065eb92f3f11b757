//! The paths of what tools of RabbitMQ ask for and that has no thing of ours behind it, or that is always the same here.

/// What such a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fixed {
    /// How logins are possible: by password.
    Auth,
    /// A form with a name and a password, which are answered with a token.
    Login,
    /// Attempts to log in: they are in the log, not counted.
    AuthAttempts(String),
    HashPassword(String),
    Version,
    /// Lists of which there is nothing here: extensions, links of federation, the stream protocol's clients.
    Nothing,
    /// The same of a virtual host.
    NothingOf(String),
    /// The features that every node of RabbitMQ's version has.
    FeatureFlags,
    EnableFeature(String),
    /// What RabbitMQ is about to give up; `used`: of that, what is in use.
    DeprecatedFeatures {
        used: bool,
    },
    /// What a node's memory is used for.
    Memory {
        node: String,
        relative: bool,
    },
    /// The replicas of a queue.
    QuorumStatus {
        vhost: String,
        name: String,
    },
    /// Replicas are added to a queue, or taken away.
    QuorumReplicas,
    /// Actions that there is nothing to do for: starting a vhost, rebalancing.
    Done,
    /// As these: statistics begin anew.
    Reset(Option<String>),
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
            ["login"] => Self::Login,
            ["auth", "attempts", node] | ["auth", "attempts", node, "source"] => {
                Self::AuthAttempts(owned(node))
            }
            ["auth", "hash_password", password] => Self::HashPassword(owned(password)),
            ["version"] => Self::Version,
            ["extensions" | "shovels" | "federation-links"]
            | ["federation-links", "state", "down"]
            | ["stream", "connections" | "consumers" | "publishers"] => Self::Nothing,
            ["shovels" | "federation-links", vhost]
            | ["federation-links", vhost, "state", "down"]
            | ["stream", "connections" | "consumers" | "publishers", vhost] => Self::NothingOf(owned(vhost)),
            ["feature-flags"] => Self::FeatureFlags,
            ["feature-flags", name, "enable"] => Self::EnableFeature(owned(name)),
            ["deprecated-features"] => Self::DeprecatedFeatures { used: false },
            ["deprecated-features", "used"] => Self::DeprecatedFeatures { used: true },
            ["nodes", node, "memory"] => Self::Memory { node: owned(node), relative: false },
            ["nodes", node, "memory", "relative"] => Self::Memory { node: owned(node), relative: true },
            ["queues", "quorum", vhost, name, "status"] => {
                Self::QuorumStatus { vhost: owned(vhost), name: owned(name) }
            }
            ["queues", "quorum", "replicas", "on", _, "grow" | "shrink"]
            | ["queues", "quorum", _, _, "replicas", "add" | "delete"] => Self::QuorumReplicas,
            ["vhosts", _, "start", _] | ["rebalance", "queues"] => Self::Done,
            ["reset"] => Self::Reset(None),
            ["reset", node] => Self::Reset(Some(owned(node))),
            ["queues", vhost, name, "actions"] => {
                Self::QueueAction { vhost: owned(vhost), name: owned(name) }
            }
            _ => return None,
        })
    }

    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Self::Auth
            | Self::HashPassword(_)
            | Self::Version
            | Self::Nothing
            | Self::NothingOf(_)
            | Self::FeatureFlags
            | Self::DeprecatedFeatures { .. }
            | Self::Memory { .. } => "HEAD, GET, OPTIONS",
            Self::Login => "POST, DELETE, OPTIONS",
            Self::EnableFeature(_) => "PUT, OPTIONS",
            Self::QuorumStatus { .. } => "GET, OPTIONS",
            Self::QuorumReplicas => "POST, DELETE, OPTIONS",
            Self::AuthAttempts(_) => "HEAD, GET, DELETE, OPTIONS",
            Self::Reset(_) => "DELETE, OPTIONS",
            Self::Done | Self::QueueAction { .. } => "POST, OPTIONS",
        }
    }
}
