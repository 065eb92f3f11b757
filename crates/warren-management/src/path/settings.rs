//! The paths of settings: limits, topic permissions, parameters, and what else operators say.

/// What such a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    VhostProtection(String),
    TopicPermissions { vhost: Option<String>, user: Option<String> },
    TopicPermission { vhost: String, user: String, exchange: Option<String> },
    UsersWithoutPermissions,
    BulkDelete,
    Parameters { component: Option<String>, vhost: Option<String> },
    Parameter { component: String, vhost: String, name: String },
    GlobalParameters,
    GlobalParameter(String),
    VhostLimits(Option<String>),
    VhostLimit { vhost: String, name: String },
    UserLimits(Option<String>),
    UserLimit { user: String, name: String },
}

impl Setting {
    pub(super) fn named(parts: &[&str]) -> Option<Self> {
        let owned = |text: &&str| (*text).to_owned();
        let some = |text: &&str| Some((*text).to_owned());
        Some(match parts {
            ["vhosts", vhost, "deletion", "protection"] => Self::VhostProtection(owned(vhost)),
            ["vhosts", vhost, "topic-permissions"] => {
                Self::TopicPermissions { vhost: some(vhost), user: None }
            }
            ["users", user, "topic-permissions"] => Self::TopicPermissions { vhost: None, user: some(user) },
            ["topic-permissions"] => Self::TopicPermissions { vhost: None, user: None },
            ["topic-permissions", vhost, user] => {
                Self::TopicPermission { vhost: owned(vhost), user: owned(user), exchange: None }
            }
            ["topic-permissions", vhost, user, exchange] => {
                Self::TopicPermission { vhost: owned(vhost), user: owned(user), exchange: some(exchange) }
            }
            ["users", "without-permissions"] => Self::UsersWithoutPermissions,
            ["users", "bulk-delete"] => Self::BulkDelete,
            ["parameters"] => Self::Parameters { component: None, vhost: None },
            ["parameters", component] => Self::Parameters { component: some(component), vhost: None },
            ["parameters", component, vhost] => {
                Self::Parameters { component: some(component), vhost: some(vhost) }
            }
            ["parameters", component, vhost, name] => {
                Self::Parameter { component: owned(component), vhost: owned(vhost), name: owned(name) }
            }
            ["global-parameters"] => Self::GlobalParameters,
            ["global-parameters", name] => Self::GlobalParameter(owned(name)),
            ["vhost-limits"] => Self::VhostLimits(None),
            ["vhost-limits", vhost] => Self::VhostLimits(some(vhost)),
            ["vhost-limits", vhost, name] => Self::VhostLimit { vhost: owned(vhost), name: owned(name) },
            ["user-limits"] => Self::UserLimits(None),
            ["user-limits", user] => Self::UserLimits(some(user)),
            ["user-limits", user, name] => Self::UserLimit { user: owned(user), name: owned(name) },
            _ => return None,
        })
    }

    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Self::VhostProtection(_) => "POST, DELETE, OPTIONS",
            Self::TopicPermission { .. } | Self::Parameter { .. } | Self::GlobalParameter(_) => {
                "HEAD, GET, PUT, DELETE, OPTIONS"
            }
            Self::BulkDelete => "POST, OPTIONS",
            Self::VhostLimit { .. } | Self::UserLimit { .. } => "PUT, DELETE, OPTIONS",
            Self::TopicPermissions { .. }
            | Self::UsersWithoutPermissions
            | Self::Parameters { .. }
            | Self::GlobalParameters
            | Self::VhostLimits(_)
            | Self::UserLimits(_) => "HEAD, GET, OPTIONS",
        }
    }
}
