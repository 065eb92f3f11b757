//! Reads: plain look-ups. What is listed comes in an order that is the same on every node.

use std::collections::BTreeSet;
use std::sync::Arc;

use warren_proto::catalogue::{
    BindingRecord, ClusterRecord, Destination, ExchangeRecord, NodeState, ParameterRecord, PermissionRecord,
    ShardRecord, UserLimits, UserRecord, VhostLimits, VhostMetadata,
};
use warren_types::{ExclusiveOwner, FieldTable, NodeId, QueueHost, QueueId, QueueSpec, ShardId};

use crate::state::Catalogue;
use crate::topology::{BindingKey, Exchange, Incoming, Target, Vhost};

impl Catalogue {
    /// Raised by one with every command that changed something.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision at the last change to the virtual host's exchanges, queues and bindings: routes found at the
    /// same one are still right. 0 when there is no such virtual host; never the same for one deleted and made anew.
    #[must_use]
    pub fn topology_revision(&self, vhost: &str) -> u64 {
        self.vhosts.get(vhost).map_or(0, |vhost| vhost.topology_revision)
    }

    /// The cluster, once formed.
    #[must_use]
    pub fn cluster(&self) -> Option<&ClusterRecord> {
        self.cluster.as_ref()
    }

    /// The nodes, by id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeState> {
        self.nodes.values()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<&NodeState> {
        self.nodes.get(&node)
    }

    /// Whether a node was a member and was removed.
    #[must_use]
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// The shards, by id.
    pub fn shards(&self) -> impl ExactSizeIterator<Item = &ShardRecord> {
        self.shards.values()
    }

    /// A shard.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<&ShardRecord> {
        self.shards.get(&shard)
    }

    /// The virtual hosts' names, in order.
    pub fn vhosts(&self) -> impl ExactSizeIterator<Item = &str> {
        self.vhosts.keys().map(|name| &**name)
    }

    /// Is there such a virtual host?
    #[must_use]
    pub fn has_vhost(&self, vhost: &str) -> bool {
        self.vhosts.contains_key(vhost)
    }

    /// What operators say of a virtual host.
    #[must_use]
    pub fn vhost_metadata(&self, vhost: &str) -> Option<&VhostMetadata> {
        self.vhosts.get(vhost).map(|vhost| &vhost.metadata)
    }

    /// A virtual host's limits; none for one that does not exist.
    #[must_use]
    pub fn vhost_limits(&self, vhost: &str) -> VhostLimits {
        self.vhosts.get(vhost).map(|vhost| vhost.limits).unwrap_or_default()
    }

    /// A user's limits.
    #[must_use]
    pub fn user_limits(&self, user: &str) -> UserLimits {
        self.user_limits.get(user).copied().unwrap_or_default()
    }

    /// The arguments that a queue declared so would be stored with: the virtual host's default type stands in for an
    /// absent one.
    #[must_use]
    pub fn stored_arguments(
        &self,
        vhost: &str,
        name: &str,
        durable: bool,
        exclusive: Option<ExclusiveOwner>,
        auto_delete: bool,
        declared: &FieldTable,
    ) -> FieldTable {
        match self.vhosts.get(vhost) {
            Some(vhost) => vhost.arguments_of(name, durable, exclusive, auto_delete, declared).into_owned(),
            None => declared.clone(),
        }
    }

    /// The parameters, by virtual host (global ones first), component and name.
    pub fn parameters(&self) -> impl Iterator<Item = &ParameterRecord> {
        self.parameters.values()
    }

    /// A global parameter's JSON.
    #[must_use]
    pub fn global_parameter(&self, name: &str) -> Option<&str> {
        let key = (None, String::new(), name.to_owned());
        self.parameters.get(&key).map(|record| record.value.as_str())
    }

    /// The users, by name.
    pub fn users(&self) -> impl ExactSizeIterator<Item = &UserRecord> {
        self.users.values()
    }

    /// A user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&UserRecord> {
        self.users.get(name)
    }

    /// All permissions, by user and virtual host.
    pub fn permissions(&self) -> impl Iterator<Item = &PermissionRecord> {
        self.grants.values().flat_map(|by_vhost| by_vhost.values().map(|grant| &grant.record))
    }

    /// A user's permissions, by virtual host.
    pub fn permissions_of_user(&self, user: &str) -> impl Iterator<Item = &PermissionRecord> {
        self.grants.get(user).into_iter().flat_map(|by_vhost| by_vhost.values().map(|grant| &grant.record))
    }

    /// A user's permissions in a virtual host.
    #[must_use]
    pub fn permissions_of(&self, user: &str, vhost: &str) -> Option<&PermissionRecord> {
        self.grant(user, vhost).map(|grant| &grant.record)
    }

    /// An exchange; the empty name is the default exchange.
    #[must_use]
    pub fn exchange(&self, vhost: &str, name: &str) -> Option<&ExchangeRecord> {
        Some(&self.vhosts.get(vhost)?.exchanges.get(name)?.record)
    }

    /// The queue that keeps the last messages of an exchange whose type does that.
    #[must_use]
    pub fn history(&self, vhost: &str, exchange: &str) -> Option<&Arc<QueueSpec>> {
        self.vhosts.get(vhost)?.exchanges.get(exchange)?.history.as_ref()
    }

    /// The exchanges of a virtual host, by name, the default exchange first.
    pub fn exchanges(&self, vhost: &str) -> impl Iterator<Item = &ExchangeRecord> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.exchanges.values().map(|exchange| &exchange.record))
    }

    /// A queue.
    #[must_use]
    pub fn queue(&self, vhost: &str, name: &str) -> Option<&Arc<QueueSpec>> {
        self.vhosts.get(vhost)?.queue(name)
    }

    /// A queue by its number.
    #[must_use]
    pub fn queue_by_id(&self, queue: QueueId) -> Option<&Arc<QueueSpec>> {
        self.hosting.get(queue)
    }

    /// The queues of a virtual host, in the order they were declared.
    pub fn queues(&self, vhost: &str) -> impl Iterator<Item = &Arc<QueueSpec>> {
        self.vhosts
            .get(vhost)
            .into_iter()
            .flat_map(|vhost| vhost.queue_ids.iter().filter_map(|queue| self.hosting.get(*queue)))
    }

    /// The queues of a host, in the order they were declared.
    pub fn queues_of_host(&self, host: QueueHost) -> impl Iterator<Item = &Arc<QueueSpec>> {
        self.hosting.of_host(host)
    }

    /// How many queues there are.
    #[must_use]
    pub fn queue_count(&self) -> usize {
        self.hosting.len()
    }

    /// How many queues a host has.
    #[must_use]
    pub fn queue_count_of_host(&self, host: QueueHost) -> usize {
        self.hosting.count(host)
    }

    /// The number that the next queue will get.
    #[must_use]
    pub fn next_queue_id(&self) -> QueueId {
        QueueId(self.last_queue.saturating_add(1))
    }

    /// The bindings that lead to a queue, without the one by its name that the default exchange implies.
    pub fn bindings_of_queue(&self, queue: QueueId) -> impl Iterator<Item = BindingRecord> {
        let vhost = self.hosting.get(queue).and_then(|spec| self.named_vhost(&spec.vhost));
        vhost
            .and_then(|(name, vhost)| Some((name, vhost, vhost.bound_queue(queue)?)))
            .into_iter()
            .flat_map(|(name, vhost, bound)| vhost.records_of(name, &bound.incoming))
    }

    /// The bindings that an exchange is the source of.
    pub fn bindings_of_exchange(&self, vhost: &str, name: &str) -> impl Iterator<Item = BindingRecord> {
        self.named_exchange(vhost, name)
            .into_iter()
            .flat_map(|(name, vhost, exchange)| vhost.records_from(name, exchange))
    }

    /// The bindings that lead to an exchange.
    pub fn bindings_to_exchange(&self, vhost: &str, name: &str) -> impl Iterator<Item = BindingRecord> {
        self.named_exchange(vhost, name)
            .into_iter()
            .flat_map(|(name, vhost, exchange)| vhost.records_of(name, &exchange.incoming))
    }

    /// All bindings of a virtual host, by source; those that the default exchange implies are not among them.
    pub fn bindings(&self, vhost: &str) -> impl Iterator<Item = BindingRecord> {
        self.named_vhost(vhost).into_iter().flat_map(|(name, vhost)| {
            vhost.exchanges.values().flat_map(move |exchange| vhost.records_from(name, exchange))
        })
    }

    fn named_vhost(&self, vhost: &str) -> Option<(&str, &Vhost)> {
        self.vhosts.get_key_value(vhost).map(|(name, vhost)| (&**name, vhost))
    }

    fn named_exchange(&self, vhost: &str, name: &str) -> Option<(&str, &Vhost, &Exchange)> {
        let (vhost_name, vhost) = self.named_vhost(vhost)?;
        Some((vhost_name, vhost, vhost.exchanges.get(name)?))
    }
}

impl Vhost {
    fn records_from(&self, name: &str, exchange: &Exchange) -> impl Iterator<Item = BindingRecord> {
        exchange
            .outgoing
            .iter()
            .filter_map(move |(key, arguments)| self.record(name, &exchange.record.name, key, arguments))
    }

    fn records_of(&self, name: &str, incoming: &BTreeSet<Incoming>) -> impl Iterator<Item = BindingRecord> {
        incoming.iter().filter_map(move |(source, key)| {
            self.record(name, source, key, self.exchanges.get(source)?.outgoing.get(key)?)
        })
    }

    fn record(
        &self,
        vhost: &str,
        source: &str,
        key: &BindingKey,
        arguments: &FieldTable,
    ) -> Option<BindingRecord> {
        Some(BindingRecord {
            vhost: vhost.to_owned(),
            source: source.to_owned(),
            destination: match &key.target {
                Target::Queue(queue) => Destination::Queue(self.bound_queue(*queue)?.spec.name.to_string()),
                Target::Exchange(name) => Destination::Exchange(name.to_string()),
            },
            routing_key: key.routing_key.to_string(),
            arguments: arguments.clone(),
        })
    }
}
