//! What can be told of a set of definitions before anything of it is done: so that a bad one leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};

use warren_broker::admin::{self, Pattern};
use warren_types::AmqpError;

use super::Step;
use crate::api::Asked;
use crate::error::ApiError;

impl Asked<'_> {
    /// That what the steps name is there or among them, that they could be done each by itself, and that no virtual host
    /// gets more queues than it may have.
    ///
    /// # Errors
    /// 400 that says what is wrong.
    pub(super) fn check_steps(&self, steps: &[Step]) -> Result<(), ApiError> {
        let mut users: BTreeSet<String> = self.admin.users().into_iter().map(|user| user.name).collect();
        let mut vhosts: BTreeSet<String> = self.admin.vhosts().into_iter().collect();
        let mut limits: BTreeMap<&str, Option<u64>> = BTreeMap::new();
        for step in steps {
            match step {
                Step::User { name, .. } => drop(users.insert(name.clone())),
                Step::Vhost { name, limits: said, .. } => {
                    vhosts.insert(name.clone());
                    if let Some(said) = said {
                        limits.insert(name, said.max_queues);
                    }
                }
                Step::VhostLimits { vhost, limits: said } => drop(limits.insert(vhost, said.max_queues)),
                _ => {}
            }
        }
        let bad = |list: &str, text: String| Err(ApiError::BadRequest(format!("{list}: {text}")));
        for step in steps {
            if let Some(vhost) = step.vhost().filter(|vhost| !vhosts.contains(*vhost)) {
                return bad(step.list(), format!("there is no virtual host '{vhost}'"));
            }
            if let Some(user) = step.user().filter(|user| !users.contains(*user)) {
                return bad(step.list(), format!("there is no user '{user}'"));
            }
            if let Err(error) = step.check() {
                return bad(step.list(), error.text);
            }
        }
        self.check_queue_limits(steps, &limits)
    }

    fn check_queue_limits(&self, steps: &[Step], said: &BTreeMap<&str, Option<u64>>) -> Result<(), ApiError> {
        let mut new: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for step in steps {
            if let Step::Queue { vhost, name, .. } = step {
                new.entry(vhost).or_default().insert(name);
            }
        }
        for (vhost, mut names) in new {
            let limit = match said.get(vhost) {
                Some(limit) => *limit,
                None => self.admin.vhost_limits(vhost).max_queues,
            };
            let Some(limit) = limit else { continue };
            let there = self.admin.queue_specs(Some(vhost));
            names.retain(|name| !there.iter().any(|spec| *spec.name == **name));
            let count = names.len() as u64;
            if count > 0 && there.len() as u64 + count > limit {
                return Err(ApiError::BadRequest(format!(
                    "Adding {count} queue(s) to virtual host \"{vhost}\" would exceed the limit of {limit} queue(s).\n\n\
                     This virtual host currently has {} queue(s) defined.\n\nImport aborted!",
                    there.len()
                )));
            }
        }
        Ok(())
    }
}

impl Step {
    /// The list of the document that it is from.
    fn list(&self) -> &'static str {
        match self {
            Self::User { .. } => "users",
            Self::Vhost { .. } => "vhosts",
            Self::Permission(_) => "permissions",
            Self::Exchange(_) => "exchanges",
            Self::TopicPermission(_) => "topic_permissions",
            Self::Parameter(_) | Self::VhostLimits { .. } => "parameters",
            Self::Policy(policy) if policy.operator => "parameters",
            Self::Policy(_) => "policies",
            Self::Queue { .. } => "queues",
            Self::Binding(_) => "bindings",
        }
    }

    /// The virtual host that must be there.
    fn vhost(&self) -> Option<&str> {
        match self {
            Self::User { .. } | Self::Vhost { .. } => None,
            Self::Permission(permission) => Some(&permission.vhost),
            Self::Exchange(exchange) => Some(&exchange.vhost),
            Self::TopicPermission(topic) => Some(&topic.vhost),
            Self::Parameter(parameter) => parameter.vhost.as_deref(),
            Self::VhostLimits { vhost, .. } | Self::Queue { vhost, .. } => Some(vhost),
            Self::Policy(policy) => Some(&policy.vhost),
            Self::Binding(binding) => Some(&binding.vhost),
        }
    }

    /// The user that must be there.
    fn user(&self) -> Option<&str> {
        match self {
            Self::Permission(permission) => Some(&permission.user),
            Self::TopicPermission(topic) => Some(&topic.user),
            _ => None,
        }
    }

    fn check(&self) -> Result<(), AmqpError> {
        let patterns = |patterns: &[&String]| {
            patterns.iter().try_for_each(|pattern| Pattern::compile(pattern).map(drop))
        };
        match self {
            Self::Permission(one) => patterns(&[&one.configure, &one.write, &one.read]),
            Self::TopicPermission(one) => patterns(&[&one.write, &one.read]),
            Self::Exchange(exchange) => admin::check_exchange(exchange),
            Self::Policy(policy) => admin::check_policy(policy),
            Self::Queue { vhost, name, durable, auto_delete, arguments } => {
                admin::check_queue(vhost, name, *durable, *auto_delete, arguments)
            }
            Self::User { .. }
            | Self::Vhost { .. }
            | Self::Parameter(_)
            | Self::VhostLimits { .. }
            | Self::Binding(_) => Ok(()),
        }
    }
}
