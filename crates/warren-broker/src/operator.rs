//! The operators' surface, over what the node knows.

pub(crate) mod clients;
pub(crate) mod properties;
mod settings;
mod trace;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use warren_catalogue::{
    check_new_queue, check_not_default_exchange, check_queue_name, hash_password, is_hidden,
};
use warren_proto::catalogue::{
    ApplyTo, BindingRecord, Command, DeclareQueue, Destination, ExchangeKind, ExchangeRecord,
    PermissionRecord, PolicyRecord, UserRecord,
};
use warren_proto::operate::Whose;
use warren_proto::session::{Answer, Ask, Counts};
use warren_raft::GroupStatus;
use warren_types::{FieldTable, GroupId, NodeId, QueueHost, QueueId, QueueSpec, ShardId};

use crate::admin::{
    Admin, AdminError, BindingInfo, ConnectionInfo, ExchangeInfo, NodeChange, NodeInfo, PermissionInfo,
    PolicyInfo, QueueInfo, ShardInfo, UserInfo,
};
use crate::alarm::{self, Resources};
use crate::broker::{Broker, random};
use crate::history;
use crate::members;
use crate::request::delete::delete_queue;
use crate::request::stream;

/// How long a listing waits for a leader before it shows the queue without counts.
const COUNTS_DEADLINE: Duration = Duration::from_secs(5);

/// The surface of one node.
pub(crate) struct Operator {
    broker: Arc<Broker>,
    draining: AtomicBool,
}

impl Operator {
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        Self { broker, draining: AtomicBool::new(false) }
    }

    /// From now on the node is not ready.
    pub(crate) fn draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn specs(&self, vhost: Option<&str>) -> Vec<Arc<QueueSpec>> {
        let catalogue = self.broker.catalogue().read();
        let mut specs: Vec<Arc<QueueSpec>> = match vhost {
            Some(vhost) => catalogue.queues(vhost).cloned().collect(),
            None => catalogue.vhosts().flat_map(|vhost| catalogue.queues(vhost)).cloned().collect(),
        };
        // Nobody has declared those that answers go to, and those that remember what came to an exchange.
        specs.retain(|spec| !is_hidden(&spec.name));
        specs.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
        specs
    }

    async fn ask(&self, host: QueueHost, ask: Ask) -> Option<Answer> {
        tokio::time::timeout(COUNTS_DEADLINE, self.broker.session(host).ask(ask)).await.ok().flatten()
    }

    fn info(&self, spec: Arc<QueueSpec>, counts: Option<Counts>) -> QueueInfo {
        let leader = self.broker.queue_leader(spec.host);
        let members = match spec.host {
            QueueHost::Node(node) => vec![node],
            QueueHost::Shard(shard) => {
                let catalogue = self.broker.catalogue().read();
                catalogue.shard(shard).map(|shard| shard.replicas.clone()).unwrap_or_default()
            }
        };
        let catalogue = self.broker.catalogue().read();
        let policy = catalogue.queue_policy(&spec);
        let (user, operator) = (policy.policy.map(str::to_owned), policy.operator_policy.map(str::to_owned));
        let effective_policy = policy.definition;
        drop(catalogue);
        let online = members.iter().copied().filter(|node| self.in_contact(*node)).collect();
        QueueInfo {
            ready: counts.map(|counts| counts.ready),
            unacked: counts.map(|counts| counts.unacked),
            consumers: counts.map(|counts| counts.consumers),
            ready_bytes: counts.map(|counts| counts.ready_bytes),
            delayed: counts.map(|counts| counts.delayed),
            total: counts.map(|counts| counts.total),
            recent: counts.map(|counts| (counts.recent, counts.recent_ms)).unwrap_or_default(),
            active: counts
                .and_then(|counts| counts.active)
                .map(|(session, subscription)| (session.0, subscription.0)),
            spec,
            leader,
            members,
            online,
            policy: user,
            operator_policy: operator,
            effective_policy,
        }
    }

    fn in_contact(&self, node: NodeId) -> bool {
        node == self.broker.node()
            || self.broker.peers().table().get(&node).is_some_and(warren_rpc::PeerStatus::is_connected)
    }

    fn metadata_voters(&self) -> HashSet<NodeId> {
        let nodes: Vec<NodeId> = self.broker.catalogue().read().nodes().map(|node| node.id).collect();
        nodes.into_iter().filter(|node| self.broker.raft().votes_in_metadata(*node)).collect()
    }

    fn find(&self, vhost: &str, name: &str) -> Result<Arc<QueueSpec>, AdminError> {
        self.broker.catalogue().read().queue(vhost, name).cloned().ok_or(AdminError::NotFound)
    }

    /// What a binding leads to is nobody's own.
    fn check_end_not_locked(&self, binding: &BindingInfo) -> Result<(), AdminError> {
        let queue = self.find(&binding.vhost, &binding.destination).ok().filter(|_| binding.to_queue);
        queue.map_or(Ok(()), |queue| clients::check_not_locked(&queue))
    }

    async fn change(&self, command: Command) -> Result<bool, AdminError> {
        Ok(self.broker.change(command).await?.created)
    }
}

fn record_of(binding: BindingInfo) -> Result<BindingRecord, AdminError> {
    let BindingInfo { vhost, source, destination, to_queue, routing_key, arguments } = binding;
    check_not_default_exchange(&source)?;
    let destination = if to_queue {
        Destination::Queue(destination)
    } else {
        check_not_default_exchange(&destination)?;
        Destination::Exchange(destination)
    };
    Ok(BindingRecord { vhost, source, destination, routing_key, arguments })
}

fn lag_of(status: Option<&GroupStatus>) -> Vec<(NodeId, u64)> {
    let replicas = status.map(|status| status.replicas.as_slice()).unwrap_or_default();
    replicas.iter().map(|replica| (replica.node, replica.lag)).collect()
}

#[async_trait]
impl Admin for Operator {
    fn node_name(&self) -> String {
        self.broker.config().node_name.clone()
    }

    fn cluster_name(&self) -> String {
        let catalogue = self.broker.catalogue().read();
        let given = catalogue.global_parameter("cluster_name").map(|json| json.trim_matches('"').to_owned());
        given.or_else(|| catalogue.cluster().map(|cluster| cluster.name.clone())).unwrap_or_default()
    }

    fn ready(&self) -> Result<(), String> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(String::from("this node is stopping"));
        }
        if self.broker.catalogue().read().cluster().is_none() {
            return Err(String::from("the cluster has not formed yet"));
        }
        if !self.broker.is_announced() {
            return Err(String::from("the cluster does not know yet that this node has started"));
        }
        if !self.broker.raft().has_majority() {
            return Err(String::from("this node is not in contact with a majority of the cluster"));
        }
        let leaderless = self.shards().iter().filter(|shard| shard.leader.is_none()).count();
        if leaderless > 0 {
            return Err(format!("{leaderless} groups have no leader yet"));
        }
        Ok(())
    }

    fn login(&self, user: &str, password: &[u8]) -> Option<Vec<String>> {
        let catalogue = self.broker.catalogue().read();
        catalogue.authenticate(user, password).ok()?;
        catalogue.user(user).map(|user| user.tags.clone())
    }

    fn resources(&self) -> Resources {
        self.broker.alarms().resources()
    }

    fn guest_loopback_only(&self) -> bool {
        self.broker.config().guest_loopback_only
    }

    fn connections_max(&self) -> usize {
        self.broker.config().max_connections
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        let mut led: HashMap<NodeId, usize> = HashMap::new();
        let shards = self.shards();
        for shard in &shards {
            if let (Some(_), Some(leader)) = (shard.shard, shard.leader) {
                *led.entry(leader).or_default() += 1;
            }
        }
        let metadata = self.broker.leader_of(GroupId::METADATA);
        let voters = self.metadata_voters();
        let held = |node: NodeId| {
            shards.iter().filter(move |shard| shard.shard.is_some() && shard.members.contains(&node))
        };
        let catalogue = self.broker.catalogue().read();
        catalogue
            .nodes()
            .map(|node| NodeInfo {
                id: node.id,
                name: node.name.clone(),
                address: node.address.clone(),
                running: self.in_contact(node.id),
                this: node.id == self.broker.node(),
                metadata_leader: metadata == Some(node.id),
                shards_led: led.get(&node.id).copied().unwrap_or_default(),
                duty: node.duty.as_str(),
                zone: node.zone.clone(),
                metadata_voter: voters.contains(&node.id),
                replicas: held(node.id).count(),
                moving: held(node.id).filter(|shard| !shard.settled).count(),
                alarms: if node.id == self.broker.node() {
                    self.broker.alarms().own()
                } else {
                    alarm::of_peer(self.broker.peers(), node.id)
                },
            })
            .collect()
    }

    fn shards(&self) -> Vec<ShardInfo> {
        let settled: HashSet<ShardId> = {
            let shards: Vec<ShardId> =
                self.broker.catalogue().read().shards().map(|shard| shard.shard).collect();
            shards.into_iter().filter(|shard| self.broker.raft().is_settled(*shard)).collect()
        };
        let local: HashMap<GroupId, GroupStatus> =
            self.broker.raft().groups_status().into_iter().map(|status| (status.group, status)).collect();
        let catalogue = self.broker.catalogue().read();
        let members: Vec<NodeId> = catalogue.nodes().map(|node| node.id).collect();
        let groups = std::iter::once((GroupId::METADATA, members, None)).chain(
            catalogue
                .shards()
                .map(|shard| (GroupId::from(shard.shard), shard.replicas.clone(), Some(shard.preferred))),
        );
        groups
            .map(|(group, members, preferred)| {
                let status = local.get(&group);
                let shard: Option<ShardId> = group.shard();
                ShardInfo {
                    shard,
                    leader: self.broker.leader_of(group),
                    members,
                    preferred,
                    term: status.map(|status| status.term.0).unwrap_or_default(),
                    last_log: status.map(|status| status.last_log.0),
                    applied: status.map(|status| status.applied.0),
                    settled: shard.is_none_or(|shard| settled.contains(&shard)),
                    lag: lag_of(status),
                }
            })
            .collect()
    }

    fn connections(&self) -> Vec<ConnectionInfo> {
        let mut infos: Vec<ConnectionInfo> =
            self.broker.connections().all().iter().map(|connection| connection.info.lock().clone()).collect();
        infos.sort_by_key(|info| info.id);
        infos
    }

    async fn queues(&self, vhost: Option<&str>) -> Vec<QueueInfo> {
        let specs = self.specs(vhost);
        let mut hosts: Vec<QueueHost> = specs.iter().map(|spec| spec.host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let answers = hosts.iter().map(|host| async move { (*host, self.ask(*host, Ask::List).await) });
        let mut counts: BTreeMap<QueueId, Counts> = BTreeMap::new();
        let mut answered = Vec::new();
        for (host, answer) in futures_util::future::join_all(answers).await {
            if let Some(Answer::List(listed)) = answer {
                answered.push(host);
                counts.extend(listed.into_iter().map(|counts| (counts.queue, counts)));
            }
        }
        specs
            .into_iter()
            .map(|spec| {
                let found = counts.get(&spec.id).copied();
                // A leader that has not had to do with a queue yet does not list it: it is empty.
                let empty =
                    || answered.contains(&spec.host).then(|| Counts { queue: spec.id, ..Counts::default() });
                let counts = found.or_else(empty);
                self.info(spec, counts)
            })
            .collect()
    }

    async fn queue(&self, vhost: &str, name: &str) -> Option<QueueInfo> {
        let spec = self.find(vhost, name).ok()?;
        let counts =
            match self.ask(spec.host, Ask::Info { queue: spec.id, uses: false, after_deaths: false }).await {
                Some(Answer::Info(counts)) => Some(counts),
                Some(_) | None => None,
            };
        Some(self.info(spec, counts))
    }

    fn queue_specs(&self, vhost: Option<&str>) -> Vec<Arc<QueueSpec>> {
        self.specs(vhost)
    }

    fn vhosts(&self) -> Vec<String> {
        self.broker.catalogue().read().vhosts().map(str::to_owned).collect()
    }

    fn exchanges(&self, vhost: Option<&str>) -> Vec<ExchangeInfo> {
        let catalogue = self.broker.catalogue().read();
        let vhosts = catalogue.vhosts().filter(|name| vhost.is_none_or(|vhost| vhost == *name));
        vhosts
            .flat_map(|vhost| catalogue.exchanges(vhost).map(move |exchange| (vhost, exchange)))
            .map(|(vhost, exchange)| ExchangeInfo {
                vhost: vhost.to_owned(),
                name: exchange.name.clone(),
                kind: exchange.kind.as_str().to_owned(),
                durable: exchange.durable,
                auto_delete: exchange.auto_delete,
                internal: exchange.internal,
                arguments: exchange.arguments.clone(),
                policy: catalogue.exchange_policy(vhost, &exchange.name).policy.map(str::to_owned),
            })
            .collect()
    }

    fn bindings(&self, vhost: Option<&str>) -> Vec<BindingInfo> {
        let mut bindings: Vec<BindingInfo> = self
            .specs(vhost)
            .iter()
            .map(|spec| BindingInfo {
                vhost: spec.vhost.to_string(),
                source: String::new(),
                destination: spec.name.to_string(),
                to_queue: true,
                routing_key: spec.name.to_string(),
                arguments: FieldTable::default(),
            })
            .collect();
        let catalogue = self.broker.catalogue().read();
        for name in catalogue.vhosts().filter(|name| vhost.is_none_or(|vhost| vhost == *name)) {
            bindings.extend(catalogue.bindings(name).map(|binding| {
                let (destination, to_queue) = match binding.destination {
                    Destination::Queue(name) => (name, true),
                    Destination::Exchange(name) => (name, false),
                };
                BindingInfo {
                    vhost: binding.vhost,
                    source: binding.source,
                    destination,
                    to_queue,
                    routing_key: binding.routing_key,
                    arguments: binding.arguments,
                }
            }));
        }
        bindings
    }

    fn users(&self) -> Vec<UserInfo> {
        let catalogue = self.broker.catalogue().read();
        catalogue
            .users()
            .map(|user| UserInfo {
                name: user.name.clone(),
                password_hash: user.password_hash.clone(),
                tags: user.tags.clone(),
            })
            .collect()
    }

    fn permissions(&self) -> Vec<PermissionInfo> {
        let catalogue = self.broker.catalogue().read();
        catalogue
            .permissions()
            .map(|permission| PermissionInfo {
                user: permission.user.clone(),
                vhost: permission.vhost.clone(),
                configure: permission.configure.clone(),
                write: permission.write.clone(),
                read: permission.read.clone(),
            })
            .collect()
    }

    async fn create_vhost(&self, name: &str, user: Option<&str>) -> Result<bool, AdminError> {
        let created = self.change(Command::CreateVhost { name: name.to_owned() }).await?;
        if let (true, Some(user)) = (created, user) {
            let all = || String::from(".*");
            self.change(Command::SetPermissions(PermissionRecord {
                user: user.to_owned(),
                vhost: name.to_owned(),
                configure: all(),
                write: all(),
                read: all(),
            }))
            .await?;
        }
        Ok(created)
    }

    async fn delete_vhost(&self, name: &str) -> Result<(), AdminError> {
        if !self.vhosts().iter().any(|vhost| vhost == name) {
            return Err(AdminError::NotFound);
        }
        self.change(Command::DeleteVhost { name: name.to_owned() }).await?;
        self.close_deleted(Whose::Vhost(name.to_owned())).await;
        Ok(())
    }

    async fn put_user(
        &self,
        name: &str,
        password: Result<String, String>,
        tags: Vec<String>,
    ) -> Result<bool, AdminError> {
        let password_hash = match password {
            Ok(password) => {
                let salt = random::<4>().map_err(|error| AdminError::Unavailable(error.to_string()))?;
                hash_password(salt, password.as_bytes())
            }
            Err(hash) => hash,
        };
        self.change(Command::PutUser(UserRecord { name: name.to_owned(), password_hash, tags })).await
    }

    async fn delete_user(&self, name: &str) -> Result<(), AdminError> {
        if self.broker.catalogue().read().user(name).is_none() {
            return Err(AdminError::NotFound);
        }
        self.change(Command::DeleteUser { name: name.to_owned() }).await?;
        self.close_deleted(Whose::User(name.to_owned())).await;
        Ok(())
    }

    async fn set_permissions(&self, permission: PermissionInfo) -> Result<bool, AdminError> {
        let PermissionInfo { user, vhost, configure, write, read } = permission;
        self.change(Command::SetPermissions(PermissionRecord { user, vhost, configure, write, read })).await
    }

    async fn clear_permissions(&self, vhost: &str, user: &str) -> Result<(), AdminError> {
        let known = self.permissions().iter().any(|one| one.vhost == vhost && one.user == user);
        if !known {
            return Err(AdminError::NotFound);
        }
        let command = Command::ClearPermissions { user: user.to_owned(), vhost: vhost.to_owned() };
        self.change(command).await.map(drop)
    }

    async fn declare_queue(
        &self,
        vhost: &str,
        name: &str,
        durable: bool,
        auto_delete: bool,
        arguments: FieldTable,
    ) -> Result<bool, AdminError> {
        let command = DeclareQueue {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            durable,
            exclusive: None,
            auto_delete,
            arguments,
            home: self.broker.node(),
        };
        if self.find(vhost, name).is_err() {
            check_queue_name(name)?;
            let stored = self.broker.catalogue().read().stored_arguments(
                vhost,
                name,
                durable,
                None,
                auto_delete,
                &command.arguments,
            );
            check_new_queue(&command, &stored)?;
        }
        self.change(Command::DeclareQueue(command)).await
    }

    async fn delete_queue(
        &self,
        vhost: &str,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(), AdminError> {
        let spec = self.find(vhost, name)?;
        clients::check_not_locked(&spec)?;
        delete_queue(&self.broker, &spec, if_unused, if_empty).await?;
        Ok(())
    }

    async fn purge_queue(&self, vhost: &str, name: &str) -> Result<u64, AdminError> {
        let spec = self.find(vhost, name)?;
        clients::check_not_locked(&spec)?;
        stream::refuse("queue.purge", &spec)?;
        match self.ask(spec.host, Ask::Purge { queue: spec.id }).await {
            Some(Answer::Purged(count)) => Ok(count),
            Some(Answer::NoQueue) => Err(AdminError::NotFound),
            Some(_) | None => {
                Err(AdminError::Unavailable(String::from("the queue's leader did not answer in time")))
            }
        }
    }

    async fn declare_exchange(&self, exchange: ExchangeInfo) -> Result<bool, AdminError> {
        let ExchangeInfo { vhost, name, kind, durable, auto_delete, internal, arguments, policy: _ } =
            exchange;
        let kind = ExchangeKind::parse(&kind)?;
        let exchange = ExchangeRecord { name, kind, durable, auto_delete, internal, arguments };
        self.change(Command::DeclareExchange { vhost, exchange }).await
    }

    async fn delete_exchange(&self, vhost: &str, name: &str, if_unused: bool) -> Result<(), AdminError> {
        let command = Command::DeleteExchange { vhost: vhost.to_owned(), name: name.to_owned(), if_unused };
        self.change(command).await.map(drop)
    }

    async fn bind(&self, binding: BindingInfo) -> Result<bool, AdminError> {
        self.check_end_not_locked(&binding)?;
        Ok(history::bind(&self.broker, record_of(binding)?).await?)
    }

    async fn unbind(&self, binding: BindingInfo) -> Result<(), AdminError> {
        self.check_end_not_locked(&binding)?;
        self.change(Command::Unbind(record_of(binding)?)).await.map(drop)
    }

    fn policies(&self, vhost: Option<&str>, operator: bool) -> Vec<PolicyInfo> {
        let catalogue = self.broker.catalogue().read();
        let vhosts = catalogue.vhosts().filter(|name| vhost.is_none_or(|vhost| vhost == *name));
        vhosts
            .flat_map(|vhost| catalogue.policies(vhost, operator))
            .cloned()
            .map(|record| {
                let PolicyRecord { vhost, name, operator, pattern, apply_to, priority, definition } = record;
                let apply_to = apply_to.as_str().to_owned();
                PolicyInfo { vhost, name, operator, pattern, apply_to, priority, definition }
            })
            .collect()
    }

    async fn put_policy(&self, policy: PolicyInfo) -> Result<bool, AdminError> {
        let PolicyInfo { vhost, name, operator, pattern, apply_to, priority, definition } = policy;
        let apply_to = ApplyTo::parse(&apply_to)?;
        let record = PolicyRecord { vhost, name, operator, pattern, apply_to, priority, definition };
        self.change(Command::SetPolicy(record)).await
    }

    async fn change_node(&self, node: &str, change: NodeChange) -> Result<(), AdminError> {
        members::change_node(&self.broker, node, change).await
    }

    async fn delete_policy(&self, vhost: &str, name: &str, operator: bool) -> Result<(), AdminError> {
        let (vhost, name) = (vhost.to_owned(), name.to_owned());
        self.change(Command::ClearPolicy { vhost, name, operator }).await.map(drop)
    }
}
