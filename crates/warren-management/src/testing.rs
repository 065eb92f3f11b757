//! A broker made of fixed values, for the tests of this crate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use warren_broker::admin::{
    Admin, AdminError, AfterGet, BindingInfo, ChannelInfo, Clients, ConnectionInfo, ConsumerInfo,
    ExchangeInfo, Flow, GotInfo, NodeChange, NodeInfo, ParameterRecord, PermissionInfo, PolicyInfo,
    PublishInfo, QueueInfo, Settings, ShardInfo, Tally, TopicPermissionRecord, Traffic, UserInfo, UserLimits,
    VhostLimits, VhostMetadata,
};
use warren_broker::{AlarmSet, Resources};
use warren_types::{
    AmqpError, ConnectionId, FieldTable, NodeId, QueueHost, QueueId, QueueSpec, ReplyCode, ShardId,
};

use crate::{Management, api};

const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);

/// Two nodes, `warren@a` (this) and `warren@b`; vhosts `/` and `other`; users whose password is their name:
/// `guest` (administrator), `ann` (management, `/`), `mon` (monitoring), `bob` (no tag).
pub(crate) struct Fake {
    pub(crate) ready: Result<(), String>,
    /// What nodes are short of.
    pub(crate) alarms: HashMap<NodeId, AlarmSet>,
    /// What was changed, as text.
    pub(crate) changes: Mutex<Vec<String>>,
}

impl Default for Fake {
    fn default() -> Self {
        Self { ready: Ok(()), alarms: HashMap::new(), changes: Mutex::default() }
    }
}

impl Fake {
    fn note(&self, change: String) {
        self.changes.lock().unwrap().push(change);
    }
}

fn queue(vhost: &str, name: &str, leader: Option<NodeId>, counts: Option<(u64, u64)>) -> QueueInfo {
    QueueInfo {
        active: None,
        spec: Arc::new(QueueSpec {
            id: QueueId(1),
            vhost: vhost.into(),
            name: name.into(),
            host: QueueHost::Shard(ShardId(1)),
            durable: true,
            exclusive: None,
            auto_delete: false,
            arguments: FieldTable::default(),
        }),
        ready: counts.map(|(ready, _)| ready),
        unacked: counts.map(|(_, unacked)| unacked),
        consumers: counts.map(|_| 2),
        ready_bytes: counts.map(|(ready, _)| ready * 10),
        delayed: counts.map(|_| 5),
        total: counts.map(|_| Tally { publish: 6, deliver: 3, ack: 2, ..Tally::default() }),
        recent: (Tally { publish: 5, ..Tally::default() }, 5_000),
        leader,
        members: vec![A, B],
        policy: (name == "hello").then(|| "limit".to_owned()),
        operator_policy: None,
        effective_policy: FieldTable::default(),
        online: if counts.is_some() { vec![A, B] } else { vec![A] },
    }
}

#[async_trait]
impl Admin for Fake {
    fn node_name(&self) -> String {
        "warren@a".to_owned()
    }

    fn cluster_name(&self) -> String {
        "test".to_owned()
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.clone()
    }

    fn login(&self, user: &str, password: &[u8]) -> Option<Vec<String>> {
        let known = self.users().into_iter().find(|known| known.name == user)?;
        (password == user.as_bytes()).then_some(known.tags)
    }

    fn resources(&self) -> Resources {
        Resources { memory_limit: 1000, disk_free: 70_000_000, disk_limit: 50_000_000 }
    }

    fn guest_loopback_only(&self) -> bool {
        true
    }

    fn connections_max(&self) -> usize {
        100
    }

    fn nodes(&self) -> Vec<NodeInfo> {
        let node = |id: NodeId, name: &str| NodeInfo {
            id,
            name: name.to_owned(),
            address: format!("{name}:25672"),
            running: id == A,
            this: id == A,
            metadata_leader: id == A,
            shards_led: 1,
            duty: "full",
            zone: None,
            metadata_voter: true,
            replicas: 2,
            moving: 0,
            alarms: self.alarms.get(&id).copied().unwrap_or_default(),
        };
        vec![node(A, "warren@a"), node(B, "warren@b")]
    }

    fn shards(&self) -> Vec<ShardInfo> {
        let group = |shard: Option<u32>, leader: Option<NodeId>, lag: Vec<(NodeId, u64)>| ShardInfo {
            shard: shard.map(ShardId),
            leader,
            members: vec![A, B],
            preferred: Some(A),
            term: 3,
            last_log: Some(10),
            applied: Some(9),
            settled: true,
            lag,
        };
        vec![
            group(None, Some(A), vec![]),
            group(Some(1), Some(A), vec![(B, 7)]),
            group(Some(2), None, vec![]),
        ]
    }

    fn connections(&self) -> Vec<ConnectionInfo> {
        vec![ConnectionInfo {
            id: ConnectionId(1),
            name: "127.0.0.1:4000 -> 127.0.0.1:5672".to_owned(),
            user_provided_name: Some("tests".to_owned()),
            user: "guest".to_owned(),
            vhost: "/".to_owned(),
            channels: 2,
            connected_at: 1_000,
            heartbeat_s: 60,
            frame_max: 131_072,
            client_properties: FieldTable::default(),
            node: A,
            open: Vec::new(),
            blocked: false,
            tls: None,
        }]
    }

    async fn queues(&self, vhost: Option<&str>) -> Vec<QueueInfo> {
        let all = vec![
            queue("/", "hello", Some(A), Some((3, 1))),
            queue("/", "orphan", None, None),
            queue("other", "theirs", Some(B), Some((0, 0))),
        ];
        all.into_iter().filter(|queue| vhost.is_none_or(|vhost| *queue.spec.vhost == *vhost)).collect()
    }

    async fn queue(&self, vhost: &str, name: &str) -> Option<QueueInfo> {
        self.queues(Some(vhost)).await.into_iter().find(|queue| *queue.spec.name == *name)
    }

    fn queue_specs(&self, vhost: Option<&str>) -> Vec<Arc<QueueSpec>> {
        let all = [
            queue("/", "hello", None, None),
            queue("/", "orphan", None, None),
            queue("other", "theirs", None, None),
        ];
        let all = all.into_iter().map(|queue| queue.spec);
        all.filter(|spec| vhost.is_none_or(|vhost| *spec.vhost == *vhost)).collect()
    }

    fn vhosts(&self) -> Vec<String> {
        vec!["/".to_owned(), "other".to_owned()]
    }

    fn exchanges(&self, vhost: Option<&str>) -> Vec<ExchangeInfo> {
        let exchange = |vhost: &str, name: &str| ExchangeInfo {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            kind: "direct".to_owned(),
            durable: true,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::default(),
            policy: None,
        };
        let all = vec![exchange("/", ""), exchange("/", "logs"), exchange("other", "")];
        all.into_iter().filter(|exchange| vhost.is_none_or(|vhost| exchange.vhost == vhost)).collect()
    }

    fn bindings(&self, vhost: Option<&str>) -> Vec<BindingInfo> {
        let binding = |source: &str, key: &str| BindingInfo {
            vhost: "/".to_owned(),
            source: source.to_owned(),
            destination: "hello".to_owned(),
            to_queue: true,
            routing_key: key.to_owned(),
            arguments: FieldTable::default(),
        };
        let all = vec![binding("", "hello"), binding("logs", "a/b")];
        all.into_iter().filter(|binding| vhost.is_none_or(|vhost| binding.vhost == vhost)).collect()
    }

    fn users(&self) -> Vec<UserInfo> {
        let user = |name: &str, tags: &[&str]| UserInfo {
            name: name.to_owned(),
            password_hash: "hash".to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        vec![
            user("ann", &["management"]),
            user("bob", &[]),
            user("guest", &["administrator"]),
            user("mon", &["monitoring"]),
        ]
    }

    fn permissions(&self) -> Vec<PermissionInfo> {
        let permission = |user: &str, configure: &str| PermissionInfo {
            user: user.to_owned(),
            vhost: "/".to_owned(),
            configure: configure.to_owned(),
            write: ".*".to_owned(),
            read: String::new(),
        };
        vec![permission("ann", "^ann"), permission("bob", ".*"), permission("guest", ".*")]
    }

    async fn create_vhost(&self, name: &str, user: Option<&str>) -> Result<bool, AdminError> {
        self.note(format!("create vhost {name} for {}", user.unwrap_or("nobody")));
        Ok(!self.vhosts().iter().any(|vhost| vhost == name))
    }

    async fn delete_vhost(&self, name: &str) -> Result<(), AdminError> {
        self.note(format!("delete vhost {name}"));
        Ok(())
    }

    async fn put_user(
        &self,
        name: &str,
        password: Result<String, String>,
        tags: Vec<String>,
    ) -> Result<bool, AdminError> {
        self.note(format!("put user {name} {password:?} {tags:?}"));
        Ok(!self.users().iter().any(|user| user.name == name))
    }

    async fn delete_user(&self, name: &str) -> Result<(), AdminError> {
        self.note(format!("delete user {name}"));
        Ok(())
    }

    async fn set_permissions(&self, permission: PermissionInfo) -> Result<bool, AdminError> {
        let PermissionInfo { user, vhost, configure, write, read } = permission;
        self.note(format!("permit {user} {vhost} {configure} {write} {read}"));
        Ok(false)
    }

    async fn clear_permissions(&self, vhost: &str, user: &str) -> Result<(), AdminError> {
        self.note(format!("clear {vhost} {user}"));
        Ok(())
    }

    async fn declare_queue(
        &self,
        vhost: &str,
        name: &str,
        durable: bool,
        auto_delete: bool,
        arguments: FieldTable,
    ) -> Result<bool, AdminError> {
        let arguments = crate::table::to_json(&arguments);
        self.note(format!("declare {vhost} {name} durable={durable} auto_delete={auto_delete} {arguments}"));
        match name {
            "hello" => {
                let text = "inequivalent arg 'durable' for queue 'hello' in vhost '/': received 'false' but current is 'true'";
                Err(AmqpError::new(ReplyCode::PreconditionFailed, text).into())
            }
            "slow" => Err(AdminError::Unavailable("no leader".to_owned())),
            _ => Ok(true),
        }
    }

    async fn delete_queue(
        &self,
        vhost: &str,
        name: &str,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(), AdminError> {
        self.note(format!("delete {vhost} {name} if_unused={if_unused} if_empty={if_empty}"));
        Ok(())
    }

    async fn purge_queue(&self, vhost: &str, name: &str) -> Result<u64, AdminError> {
        self.note(format!("purge {vhost} {name}"));
        Ok(3)
    }

    async fn declare_exchange(&self, exchange: ExchangeInfo) -> Result<bool, AdminError> {
        let ExchangeInfo { vhost, name, kind, durable, auto_delete, internal, arguments, policy: _ } =
            exchange;
        let arguments = crate::table::to_json(&arguments);
        self.note(format!(
            "exchange {vhost} {name} {kind} durable={durable} auto_delete={auto_delete} internal={internal} {arguments}"
        ));
        if name.starts_with("amq.") {
            return Err(AmqpError::new(ReplyCode::AccessRefused, "reserved").into());
        }
        Ok(name != "logs")
    }

    async fn delete_exchange(&self, vhost: &str, name: &str, if_unused: bool) -> Result<(), AdminError> {
        self.note(format!("delete exchange {vhost} {name} if_unused={if_unused}"));
        Ok(())
    }

    async fn bind(&self, binding: BindingInfo) -> Result<bool, AdminError> {
        let BindingInfo { vhost, source, destination, to_queue, routing_key, arguments } = binding;
        let arguments = crate::table::to_json(&arguments);
        self.note(format!("bind {vhost} {source} {destination} queue={to_queue} {routing_key} {arguments}"));
        if destination == "none" {
            return Err(AmqpError::new(ReplyCode::NotFound, "no queue 'none' in vhost '/'").into());
        }
        Ok(true)
    }

    async fn unbind(&self, binding: BindingInfo) -> Result<(), AdminError> {
        let BindingInfo { vhost, source, destination, routing_key, .. } = binding;
        self.note(format!("unbind {vhost} {source} {destination} {routing_key}"));
        Ok(())
    }

    fn policies(&self, vhost: Option<&str>, operator: bool) -> Vec<PolicyInfo> {
        let policy = |vhost: &str, name: &str| PolicyInfo {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            operator,
            pattern: "^h".to_owned(),
            apply_to: "queues".to_owned(),
            priority: 3,
            definition: crate::table::from_json(Some(&serde_json::json!({ "max-length": 5 }))).unwrap(),
        };
        let all = if operator {
            vec![policy("/", "cap")]
        } else {
            vec![policy("/", "limit"), policy("other", "theirs")]
        };
        all.into_iter().filter(|policy| vhost.is_none_or(|vhost| policy.vhost == vhost)).collect()
    }

    async fn put_policy(&self, policy: PolicyInfo) -> Result<bool, AdminError> {
        let PolicyInfo { vhost, name, operator, pattern, apply_to, priority, definition } = policy;
        let definition = crate::table::to_json(&definition);
        self.note(format!(
            "policy {vhost} {name} operator={operator} {pattern} {apply_to} {priority} {definition}"
        ));
        if definition == serde_json::json!({}) {
            let text = "Validation failed\n\nno policy provided\n";
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, text).into());
        }
        Ok(name == "new")
    }

    async fn delete_policy(&self, vhost: &str, name: &str, operator: bool) -> Result<(), AdminError> {
        self.note(format!("delete policy {vhost} {name} operator={operator}"));
        Ok(())
    }

    async fn change_node(&self, node: &str, change: NodeChange) -> Result<(), AdminError> {
        if !self.nodes().iter().any(|known| known.name == node) {
            return Err(AdminError::NotFound);
        }
        self.changes.lock().unwrap().push(format!("{change:?} {node}"));
        Ok(())
    }
}

#[async_trait]
impl Clients for Fake {
    fn own_flow(&self) -> Flow {
        Flow { total: Traffic { publish: 9, confirm: 8, ..Traffic::default() }, ..Flow::default() }
    }

    async fn flow(&self) -> Flow {
        let total = Traffic { publish: 9, confirm: 8, connection_created: 2, ..Traffic::default() };
        Flow { total, recent: Traffic { publish: 5, ..Traffic::default() }, recent_ms: 5_000 }
    }

    async fn all_connections(&self, detailed: bool) -> Vec<ConnectionInfo> {
        let consumer = ConsumerInfo {
            tag: "ctag1".to_owned(),
            queue: "hello".to_owned(),
            ack_required: true,
            exclusive: false,
            prefetch: 5,
            arguments: FieldTable::default(),
            session: 1,
            subscription: 1,
        };
        let channel = ChannelInfo {
            number: 1,
            unacknowledged: 2,
            unconfirmed: Some(0),
            transactional: false,
            prefetch: 5,
            global_prefetch: 0,
            consumers: vec![consumer],
        };
        let mut all = self.connections();
        let far = "127.0.0.1:4001 -> 127.0.0.1:5673".to_owned();
        all.push(ConnectionInfo { node: B, name: far, user: "ann".to_owned(), ..all[0].clone() });
        if detailed {
            all.iter_mut().for_each(|connection| connection.open.push(channel.clone()));
        }
        all
    }

    async fn close_connection(&self, name: &str, reason: &str) -> bool {
        self.note(format!("close {name}: {reason}"));
        true
    }

    async fn get_messages(
        &self,
        _user: &str,
        vhost: &str,
        queue: &str,
        count: u32,
        after: AfterGet,
    ) -> Result<Vec<GotInfo>, AdminError> {
        self.note(format!("get {vhost} {queue} {count} {after:?}"));
        if queue != "hello" {
            return Err(AdminError::NotFound);
        }
        let properties = serde_json::json!({ "delivery_mode": 2, "headers": { "h": 1 } });
        let message = |payload: &[u8]| GotInfo {
            redelivered: false,
            exchange: String::new(),
            routing_key: queue.to_owned(),
            remaining: 1,
            properties: crate::table::from_json(Some(&properties)).unwrap(),
            payload: payload.to_vec().into(),
        };
        Ok(vec![message(b"hi there"), message(&[0xff, 0])])
    }

    async fn publish(&self, publish: PublishInfo) -> Result<bool, AdminError> {
        let PublishInfo { user, vhost, exchange, routing_key, properties, payload } = publish;
        let properties = crate::table::to_json(&properties);
        self.note(format!("publish {user} {vhost} {exchange} {routing_key} {properties} {payload:?}"));
        if exchange == "none" {
            return Err(AmqpError::new(ReplyCode::NotFound, "no exchange 'none' in vhost '/'").into());
        }
        Ok(routing_key == "hello")
    }
}

/// `/` is protected, `other` limited to 3 queues; `ann` to 2 connections.
#[async_trait]
impl Settings for Fake {
    fn vhost_metadata(&self, vhost: &str) -> Option<VhostMetadata> {
        self.vhosts().contains(&vhost.to_owned()).then(|| VhostMetadata {
            description: format!("the vhost {vhost}"),
            tags: vec!["t".to_owned()],
            default_queue_type: if vhost == "other" { "quorum".to_owned() } else { String::new() },
            protected: vhost == "/",
            traced: false,
        })
    }

    fn vhost_limits(&self, vhost: &str) -> VhostLimits {
        VhostLimits { max_connections: None, max_queues: (vhost == "other").then_some(3) }
    }

    fn user_limits(&self, user: &str) -> UserLimits {
        UserLimits { max_connections: (user == "ann").then_some(2), max_channels: None }
    }

    fn topic_permissions(&self) -> Vec<TopicPermissionRecord> {
        vec![TopicPermissionRecord {
            user: "ann".to_owned(),
            vhost: "/".to_owned(),
            exchange: "amq.topic".to_owned(),
            write: "^a".to_owned(),
            read: ".*".to_owned(),
        }]
    }

    fn may_bind_topic(&self, _: &str, _: &str, _: &str, _: &str) -> Result<(), AdminError> {
        Ok(())
    }

    fn parameters(&self) -> Vec<ParameterRecord> {
        let parameter = |vhost: Option<&str>, component: &str, name: &str, value: &str| ParameterRecord {
            vhost: vhost.map(str::to_owned),
            component: component.to_owned(),
            name: name.to_owned(),
            value: value.to_owned(),
        };
        vec![
            parameter(None, "", "cluster_tags", "{\"a\":1}"),
            parameter(None, "", "internal_cluster_id", "\"x\""),
            parameter(Some("/"), "shovel", "move", "{\"src-queue\":\"hello\"}"),
        ]
    }

    fn hash_password(&self, password: &str) -> Option<String> {
        Some(format!("hash of {password}"))
    }

    async fn set_vhost_metadata(&self, vhost: &str, metadata: VhostMetadata) -> Result<(), AdminError> {
        let VhostMetadata { description, tags, default_queue_type, protected, traced } = metadata;
        self.note(format!(
            "say of {vhost}: {description} {tags:?} {default_queue_type} protected={protected} traced={traced}"
        ));
        Ok(())
    }

    async fn set_vhost_limits(&self, vhost: &str, limits: VhostLimits) -> Result<(), AdminError> {
        let VhostLimits { max_connections, max_queues } = limits;
        self.note(format!("limit vhost {vhost} connections={max_connections:?} queues={max_queues:?}"));
        Ok(())
    }

    async fn set_user_limits(&self, user: &str, limits: UserLimits) -> Result<(), AdminError> {
        let UserLimits { max_connections, max_channels } = limits;
        self.note(format!("limit user {user} connections={max_connections:?} channels={max_channels:?}"));
        Ok(())
    }

    async fn set_topic_permissions(&self, record: TopicPermissionRecord) -> Result<bool, AdminError> {
        let TopicPermissionRecord { user, vhost, exchange, write, read } = record;
        self.note(format!("topic {user} {vhost} {exchange} {write} {read}"));
        Ok(true)
    }

    async fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<(), AdminError> {
        self.note(format!("clear topic {user} {vhost} {exchange:?}"));
        Ok(())
    }

    async fn set_parameter(&self, record: ParameterRecord) -> Result<bool, AdminError> {
        let ParameterRecord { vhost, component, name, value } = record;
        self.note(format!("parameter {vhost:?} {component} {name} {value}"));
        Ok(true)
    }

    async fn clear_parameter(
        &self,
        vhost: Option<&str>,
        component: &str,
        name: &str,
    ) -> Result<(), AdminError> {
        self.note(format!("clear parameter {vhost:?} {component} {name}"));
        Ok(())
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Null for an empty body.
    pub(crate) body: Value,
}

/// A client of the API over a [`Fake`].
pub(crate) struct Client {
    pub(crate) fake: Arc<Fake>,
    management: Management,
    authorization: Option<String>,
    accept: Option<String>,
    peer: IpAddr,
}

impl Client {
    /// Logs in as this user from loopback.
    pub(crate) fn of(user: &str) -> Self {
        Self::new(Fake::default())
            .with_authorization(&format!("Basic {}", STANDARD.encode(format!("{user}:{user}"))))
    }

    /// Without credentials.
    pub(crate) fn new(fake: Fake) -> Self {
        let (fake, management) = (Arc::new(fake), Management::new());
        management.attach(fake.clone());
        management.listens("amqp", ([127, 0, 0, 1], 5672).into(), None);
        management.listens("http", ([127, 0, 0, 1], 15672).into(), None);
        Self { fake, management, authorization: None, accept: None, peer: IpAddr::from([127, 0, 0, 1]) }
    }

    /// Of a node whose broker does not run yet.
    pub(crate) fn of_starting_node() -> Self {
        Self { management: Management::new(), ..Self::of("guest") }
    }

    pub(crate) fn with_authorization(mut self, header: &str) -> Self {
        self.authorization = Some(header.to_owned());
        self
    }

    pub(crate) fn accepting(mut self, kinds: &str) -> Self {
        self.accept = Some(kinds.to_owned());
        self
    }

    pub(crate) fn from(mut self, peer: &str) -> Self {
        self.peer = peer.parse().unwrap();
        self
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        if let Some(accept) = &self.accept {
            request = request.header("accept", accept);
        }
        let request = request.body(body.into()).unwrap();
        let response = api::respond(&self.management, self.peer, Instant::now(), request).await;
        let (head, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Reply { status: head.status, headers: head.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "").await
    }

    pub(crate) fn changes(&self) -> Vec<String> {
        self.fake.changes.lock().unwrap().clone()
    }
}
