//! Policies: which one counts for an object, and what it comes to with an operator's and the object's own arguments.
//!
//! Of the policies that match an object's name and kind the one of the highest priority counts, alone; of equals the
//! first by name. The same is true of operators' policies, beside them.

use std::collections::BTreeMap;

use warren_proto::catalogue::{ApplyTo, PolicyRecord};
use warren_types::{AmqpError, FieldTable, QueueSpec, ReplyCode};

use crate::access::Pattern;
use crate::arguments::queue_type;
use crate::names::{is_hidden, refuse};
use crate::policy_keys::{check_definition, merge, suits, with_policy};
use crate::state::Catalogue;

/// What policies say about one object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EffectivePolicy<'a> {
    /// The name of the users' policy that counts.
    pub policy: Option<&'a str>,
    /// The name of the operators' policy that counts.
    pub operator_policy: Option<&'a str>,
    /// What both come to.
    pub definition: FieldTable,
}

/// A policy, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    record: PolicyRecord,
    pattern: Pattern,
}

impl Policy {
    /// # Errors
    /// 406 `Validation failed` and what is wrong with the pattern or the definition.
    pub(crate) fn compile(record: PolicyRecord) -> Result<Self, AmqpError> {
        check_definition(&record.definition, record.operator)?;
        let for_queues = match record.apply_to {
            ApplyTo::Queues | ApplyTo::ClassicQueues | ApplyTo::QuorumQueues | ApplyTo::Streams => true,
            ApplyTo::All | ApplyTo::Exchanges => false,
        };
        if record.operator && !for_queues && record.apply_to != ApplyTo::All {
            return Err(refuse(
                ReplyCode::PreconditionFailed,
                "Validation failed\n\noperator policies are for queues\n",
            ));
        }
        // Unlike a permission's, an empty pattern matches everything.
        let pattern = if record.pattern.is_empty() { ".*" } else { record.pattern.as_str() };
        let pattern = Pattern::compile(pattern).map_err(|error| {
            refuse(ReplyCode::PreconditionFailed, format!("Validation failed\n\n{}\n", error.text))
        })?;
        Ok(Self { record, pattern })
    }

    fn is_for_queue(&self, name: &str, queue_type: &str) -> bool {
        let kind = match self.record.apply_to {
            ApplyTo::All | ApplyTo::Queues => true,
            ApplyTo::Exchanges => false,
            ApplyTo::ClassicQueues => queue_type == "classic",
            ApplyTo::QuorumQueues => queue_type == "quorum",
            ApplyTo::Streams => queue_type == "stream",
        };
        kind && self.pattern.matches(name) && suits(&self.record.definition, queue_type)
    }

    fn is_for_exchange(&self, name: &str) -> bool {
        matches!(self.record.apply_to, ApplyTo::All | ApplyTo::Exchanges) && self.pattern.matches(name)
    }
}

/// Whether a policy could be set.
///
/// # Errors
/// 406 `Validation failed` and what is wrong with the pattern or the definition.
pub fn check_policy(record: PolicyRecord) -> Result<(), AmqpError> {
    Policy::compile(record).map(drop)
}

/// A virtual host's policies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    users: BTreeMap<String, Policy>,
    operators: BTreeMap<String, Policy>,
}

impl Policies {
    fn of(&self, operator: bool) -> &BTreeMap<String, Policy> {
        if operator { &self.operators } else { &self.users }
    }

    fn of_mut(&mut self, operator: bool) -> &mut BTreeMap<String, Policy> {
        if operator { &mut self.operators } else { &mut self.users }
    }

    pub(crate) fn get(&self, operator: bool, name: &str) -> Option<&PolicyRecord> {
        self.of(operator).get(name).map(|policy| &policy.record)
    }

    pub(crate) fn insert(&mut self, policy: Policy) {
        self.of_mut(policy.record.operator).insert(policy.record.name.clone(), policy);
    }

    /// False when there is none of that name.
    pub(crate) fn remove(&mut self, operator: bool, name: &str) -> bool {
        self.of_mut(operator).remove(name).is_some()
    }

    pub(crate) fn of_exchange(&self, name: &str) -> EffectivePolicy<'_> {
        self.matching(|policy| policy.is_for_exchange(name))
    }

    fn of_queue(&self, queue: &QueueSpec) -> EffectivePolicy<'_> {
        // What the broker made for itself is as it made it.
        if is_hidden(&queue.name) {
            return EffectivePolicy::default();
        }
        let queue_type = queue_type(&queue.arguments);
        self.matching(|policy| policy.is_for_queue(&queue.name, queue_type))
    }

    fn matching(&self, matches: impl Fn(&Policy) -> bool) -> EffectivePolicy<'_> {
        let first = |operator: bool| {
            let matching = self.of(operator).values().filter(|policy| matches(policy));
            let mut found: Option<&PolicyRecord> = None;
            for policy in matching {
                if found.is_none_or(|found| policy.record.priority > found.priority) {
                    found = Some(&policy.record);
                }
            }
            found
        };
        let (user, operator) = (first(false), first(true));
        EffectivePolicy {
            policy: user.map(|policy| policy.name.as_str()),
            operator_policy: operator.map(|policy| policy.name.as_str()),
            definition: merge(
                user.map(|policy| &policy.definition),
                operator.map(|policy| &policy.definition),
            ),
        }
    }
}

impl Catalogue {
    /// A virtual host's policies by name: users', or operators'.
    pub fn policies(&self, vhost: &str, operator: bool) -> impl Iterator<Item = &PolicyRecord> {
        let vhost = self.vhosts.get(vhost).into_iter();
        vhost.flat_map(move |vhost| vhost.policies.of(operator).values().map(|policy| &policy.record))
    }

    /// What policies say about a queue. Cost: a match for every policy of its virtual host.
    #[must_use]
    pub fn queue_policy(&self, queue: &QueueSpec) -> EffectivePolicy<'_> {
        self.vhosts.get(&queue.vhost).map(|vhost| vhost.policies.of_queue(queue)).unwrap_or_default()
    }

    /// What policies say about an exchange. Cost as of [`Catalogue::queue_policy`].
    #[must_use]
    pub fn exchange_policy(&self, vhost: &str, name: &str) -> EffectivePolicy<'_> {
        self.vhosts.get(vhost).map(|vhost| vhost.policies.of_exchange(name)).unwrap_or_default()
    }

    /// A queue's arguments as if what policies say had been declared: of the two the one that RabbitMQ lets count, by
    /// its rule for each key.
    #[must_use]
    pub fn effective_arguments(&self, queue: &QueueSpec) -> FieldTable {
        with_policy(&queue.arguments, &self.queue_policy(queue).definition, queue_type(&queue.arguments))
    }
}
