//! The whole state as bytes and back, and its fingerprint.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use warren_proto::DecodeError;
use warren_proto::catalogue::{Snapshot, VhostSnapshot};

use crate::access::Grant;
use crate::apply::target;
use crate::policy::Policy;
use crate::state::Catalogue;
use crate::topic_access::TopicGrant;
use crate::topology::{BindingKey, Vhost};

const WHAT: &str = "catalogue snapshot";

impl Catalogue {
    /// The whole state. Equal states are equal bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        Snapshot {
            revision: self.revision,
            next_queue: self.last_queue.saturating_add(1),
            cluster: self.cluster.clone(),
            nodes: self.nodes().cloned().collect(),
            shards: self.shards().cloned().collect(),
            vhosts: self.vhosts().map(|vhost| self.vhost_snapshot(vhost)).collect(),
            users: self.users().cloned().collect(),
            permissions: self.permissions().cloned().collect(),
            removed: self.removed.iter().copied().collect(),
            user_limits: self.user_limits.iter().map(|(user, limits)| (user.clone(), *limits)).collect(),
            topic_permissions: self.topic_permissions().cloned().collect(),
            parameters: self.parameters.values().cloned().collect(),
        }
        .encode()
    }

    fn vhost_snapshot(&self, vhost: &str) -> VhostSnapshot {
        VhostSnapshot {
            name: vhost.to_owned(),
            topology_revision: self.topology_revision(vhost),
            exchanges: self.exchanges(vhost).cloned().collect(),
            queues: self.queues(vhost).cloned().collect(),
            bindings: self.bindings(vhost).collect(),
            policies: [false, true]
                .into_iter()
                .flat_map(|operator| self.policies(vhost, operator))
                .cloned()
                .collect(),
            metadata: self.vhosts.get(vhost).map(|vhost| vhost.metadata.clone()).unwrap_or_default(),
            limits: self.vhosts.get(vhost).map(|vhost| vhost.limits).unwrap_or_default(),
        }
    }

    /// The state that [`Catalogue::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`]: damaged, of a newer version, or naming what is not in it.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let snapshot = Snapshot::decode(bytes)?;
        let mut catalogue = Self {
            revision: snapshot.revision,
            last_queue: snapshot.next_queue.saturating_sub(1),
            cluster: snapshot.cluster,
            nodes: snapshot.nodes.into_iter().map(|node| (node.id, node)).collect(),
            removed: snapshot.removed.into_iter().collect(),
            users: snapshot.users.into_iter().map(|user| (user.name.clone(), user)).collect(),
            user_limits: snapshot.user_limits.into_iter().collect(),
            ..Self::default()
        };
        for shard in snapshot.shards {
            catalogue.hosting.add_shard(shard.shard);
            catalogue.shards.insert(shard.shard, shard);
        }
        for vhost in snapshot.vhosts {
            let name = Arc::from(vhost.name.as_str());
            for queue in &vhost.queues {
                catalogue.hosting.insert(queue);
            }
            catalogue.vhosts.insert(name, restore_vhost(vhost)?);
        }
        for record in snapshot.permissions {
            let (user, vhost) = (record.user.clone(), record.vhost.clone());
            let grant = Grant::compile(record)
                .map_err(|_| DecodeError::Field { what: WHAT, field: "permissions" })?;
            catalogue.grants.entry(user).or_default().insert(vhost, grant);
        }
        for record in snapshot.topic_permissions {
            let key = (record.user.clone(), record.vhost.clone(), record.exchange.clone());
            let grant = TopicGrant::compile(record)
                .map_err(|_| DecodeError::Field { what: WHAT, field: "topic_permissions" })?;
            catalogue.topic_grants.insert(key, grant);
        }
        for record in snapshot.parameters {
            let key = (record.vhost.clone(), record.component.clone(), record.name.clone());
            catalogue.parameters.insert(key, record);
        }
        Ok(catalogue)
    }

    /// 64 bits that are equal for equal states: to compare replicas with.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let digest: [u8; 32] = Sha256::digest(self.encode()).into();
        digest.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk))
    }
}

fn restore_vhost(snapshot: VhostSnapshot) -> Result<Vhost, DecodeError> {
    let mut vhost = Vhost::default();
    vhost.topology_revision = snapshot.topology_revision;
    vhost.metadata = snapshot.metadata;
    vhost.limits = snapshot.limits;
    for policy in snapshot.policies {
        let policy =
            Policy::compile(policy).map_err(|_| DecodeError::Field { what: WHAT, field: "policies" })?;
        vhost.policies.insert(policy);
    }
    snapshot.exchanges.into_iter().for_each(|exchange| vhost.insert_exchange(exchange));
    snapshot.queues.into_iter().for_each(|queue| vhost.put_queue(queue));
    for binding in snapshot.bindings {
        let broken = || DecodeError::Field { what: WHAT, field: "bindings" };
        let target = target(&vhost, &binding.destination).ok_or_else(broken)?;
        let key = BindingKey::new(target, &binding.routing_key, &binding.arguments);
        match vhost.bind(&binding.source, key, binding.arguments) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(broken()),
        }
    }
    Ok(vhost)
}
