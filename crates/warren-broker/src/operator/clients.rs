//! Clients, asked of every node; and messages that operators publish and get as a client would.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use warren_amqp::Publish;
use warren_proto::operate::{Flow, Question, Reply, Traffic, Whose};
use warren_proto::session::{Answer, Ask};
use warren_types::{
    AckMode, AmqpError, ChannelNumber, Message, NodeId, Position, PublishToken, QueueSpec, ReplyCode,
    SessionPublish, ShortStr,
};

use super::trace::{Done, is_traced, tell};
use super::{Operator, properties};
use crate::admin::{AdminError, AfterGet, Clients, ConnectionInfo, GotInfo, PublishInfo};
use crate::broker::Broker;
use crate::delay::take_delay;
use crate::mailbox::Mailbox;
use crate::registry::{ConnectionEvent, await_confirms};
use crate::request::Caller;
use crate::request::publish::Publisher;
use crate::session::SessionInput;

/// How long another node has to answer; one that does not is left out.
const NODE_DEADLINE: Duration = Duration::from_secs(3);
/// How long a node's connections have to describe themselves; those that do not are listed without channels.
const DESCRIBE_DEADLINE: Duration = Duration::from_secs(2);
/// How long an operator's publish waits for its confirm.
const CONFIRM_DEADLINE: Duration = Duration::from_secs(30);
/// How long a change waits for the nodes in contact to have seen it; one that is slower than that sees it later.
const SEEN_DEADLINE: Duration = Duration::from_millis(300);
/// Most body bytes that one get returns.
const GET_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Answers another node's question, or this one's own.
pub(crate) async fn answer(broker: &Broker, question: Question) -> Reply {
    match question {
        Question::List { detailed } => Reply::Connections(list(broker, detailed).await),
        Question::Count { vhost, user } => Reply::Counts(broker.connections().count(&vhost, &user)),
        Question::Close { name, reason } => Reply::Closed(close(broker, &name, &reason)),
        Question::CloseAll { whose, reason } => Reply::Closed(close_all(broker, &whose, &reason)),
        Question::Seen(revision) => {
            let mut now = broker.catalogue().revision();
            // Too slow, or stopping: it says what it has.
            drop(tokio::time::timeout(SEEN_DEADLINE, now.wait_for(|now| *now >= revision)).await);
            Reply::Seen(broker.catalogue().current_revision())
        }
        Question::Flow => Reply::Flow(broker.connections().traffic().look()),
    }
}

async fn list(broker: &Broker, detailed: bool) -> Vec<ConnectionInfo> {
    let described = broker.connections().all().into_iter().map(|connection| async move {
        let mut info = connection.info.lock().clone();
        if detailed {
            let (tell, told) = oneshot::channel();
            if connection.mailbox.push(ConnectionEvent::Describe(tell))
                && let Ok(Ok(open)) = tokio::time::timeout(DESCRIBE_DEADLINE, told).await
            {
                info.open = open;
            }
        }
        info
    });
    let mut infos = join_all(described).await;
    infos.sort_by_key(|info| info.id);
    infos
}

fn close(broker: &Broker, name: &str, reason: &str) -> bool {
    let connections = broker.connections().all();
    let Some(connection) = connections.iter().find(|connection| connection.info.lock().name == name) else {
        return false;
    };
    connection.mailbox.push(ConnectionEvent::Close(AmqpError::new(ReplyCode::ConnectionForced, reason)))
}

fn close_all(broker: &Broker, whose: &Whose, reason: &str) -> bool {
    let mut any = false;
    for connection in broker.connections().all() {
        let wanted = {
            let info = connection.info.lock();
            match whose {
                Whose::Vhost(vhost) => info.vhost == *vhost,
                Whose::User(user) => info.user == *user,
            }
        };
        if wanted {
            let error = AmqpError::new(ReplyCode::ConnectionForced, reason);
            any |= connection.mailbox.push(ConnectionEvent::Close(error));
        }
    }
    any
}

impl Broker {
    /// Waits until all nodes in contact have seen what this one has: a binding that is reported counts for what is published
    /// through any of them.
    pub(crate) async fn seen_everywhere(&self) {
        let revision = self.catalogue().current_revision();
        self.ask_nodes(&Question::Seen(revision), SEEN_DEADLINE).await;
    }

    /// Puts a question to every other node; those that do not answer in time are left out.
    pub(crate) async fn ask_nodes(&self, question: &Question, deadline: Duration) -> Vec<(NodeId, Reply)> {
        let nodes: Vec<NodeId> = self
            .peers()
            .table()
            .iter()
            .filter(|(_, peer)| peer.is_connected())
            .map(|(node, _)| *node)
            .collect();
        let payload = question.encode();
        let asked = nodes.into_iter().map(|node| {
            let payload = payload.clone();
            async move {
                let reply = self.peers().call(node, warren_rpc::BROKER, 0, payload, deadline).await;
                match reply.map(|bytes| Reply::decode(&bytes)) {
                    Ok(Ok(reply)) => Some((node, reply)),
                    Ok(Err(error)) => {
                        tracing::debug!(%node, %error, "an answer makes no sense");
                        None
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a node does not answer");
                        None
                    }
                }
            }
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

#[async_trait]
impl Clients for Operator {
    async fn all_connections(&self, detailed: bool) -> Vec<ConnectionInfo> {
        let question = Question::List { detailed };
        let (mut all, others) = futures_util::future::join(
            list(&self.broker, detailed),
            self.broker.ask_nodes(&question, NODE_DEADLINE),
        )
        .await;
        for (_, reply) in others {
            if let Reply::Connections(connections) = reply {
                all.extend(connections);
            }
        }
        all
    }

    fn own_flow(&self) -> Flow {
        self.broker.connections().traffic().look()
    }

    async fn flow(&self) -> Flow {
        let own = self.own_flow();
        let others = self.broker.ask_nodes(&Question::Flow, NODE_DEADLINE).await;
        let others = others.into_iter().filter_map(|(_, reply)| match reply {
            Reply::Flow(flow) => Some(flow),
            Reply::Connections(_) | Reply::Counts(_) | Reply::Closed(_) | Reply::Seen(_) => None,
        });
        others.fold(own, |sum, one| Flow {
            total: sum.total.and(one.total),
            recent: sum.recent.and(one.recent),
            recent_ms: sum.recent_ms.max(one.recent_ms),
        })
    }

    async fn close_connection(&self, name: &str, reason: &str) -> bool {
        if close(&self.broker, name, reason) {
            return true;
        }
        let question = Question::Close { name: name.to_owned(), reason: reason.to_owned() };
        let replies = self.broker.ask_nodes(&question, NODE_DEADLINE).await;
        replies.iter().any(|(_, reply)| *reply == Reply::Closed(true))
    }

    async fn get_messages(
        &self,
        user: &str,
        vhost: &str,
        queue: &str,
        count: u32,
        after: AfterGet,
    ) -> Result<Vec<GotInfo>, AdminError> {
        let spec = self.find(vhost, queue)?;
        check_gettable(&spec)?;
        let mut got = Vec::new();
        let mut positions = Vec::new();
        let mut bytes = 0;
        let mut failed = None;
        let traced = is_traced(&self.broker.catalogue().read(), vhost);
        let mut told = Vec::new();
        let ack_mode = if after == AfterGet::Ack { AckMode::Automatic } else { AckMode::Manual };
        while got.len() < count as usize && bytes < GET_MAX_BYTES {
            match self.ask(spec.host, Ask::Get { queue: spec.id, ack_mode }).await {
                Some(Answer::Got { delivery: Some(delivery), remaining }) => {
                    let message = delivery.message;
                    bytes += message.body.len();
                    positions.push(delivery.position);
                    if traced {
                        told.push((delivery.redelivered, message.clone()));
                    }
                    got.push(GotInfo {
                        redelivered: delivery.redelivered,
                        exchange: message.exchange.as_str().to_owned(),
                        routing_key: message.routing_key.as_str().to_owned(),
                        remaining,
                        properties: properties::to_table(&message.properties),
                        payload: message.body,
                    });
                }
                Some(Answer::Got { delivery: None, .. }) => break,
                Some(Answer::NoQueue) => {
                    failed = Some(AdminError::NotFound);
                    break;
                }
                Some(_) | None => {
                    failed = Some(AdminError::Unavailable(String::from(
                        "the queue's leader did not answer in time",
                    )));
                    break;
                }
            }
        }
        tell(&self.broker, user, vhost, Done::Got(queue, &told)).await;
        // Whatever else happened: what was taken is dealt with.
        self.finish_get(&spec, positions, after).await;
        match failed {
            Some(error) if got.is_empty() => Err(error),
            Some(_) | None => Ok(got),
        }
    }

    async fn publish(&self, publish: PublishInfo) -> Result<bool, AdminError> {
        let PublishInfo { user, vhost, exchange, routing_key, properties, payload } = publish;
        let message = Message {
            exchange: short("exchange", &exchange)?,
            routing_key: short("routing key", &routing_key)?,
            properties: properties::from_table(&properties)?,
            body: checked_size(&self.broker, payload)?,
        };
        let connections = self.broker.connections();
        let caller = Caller {
            broker: Arc::clone(&self.broker),
            connection: connections.next_id(),
            user: Arc::from(user),
            vhost: Arc::from(vhost),
            mailbox: Arc::new(Mailbox::new()),
        };
        connections.insert_inner(caller.connection, Arc::clone(&caller.mailbox));
        let published = publish_as(&caller, message).await;
        connections.remove_inner(caller.connection);
        published
    }
}

impl Operator {
    /// Closes what is connected to a vhost, or as a user, that was deleted. A node that does not answer keeps its
    /// connections: they find nothing there any more.
    pub(super) async fn close_deleted(&self, whose: Whose) {
        let reason = match &whose {
            Whose::Vhost(vhost) => format!("vhost '{vhost}' is deleted"),
            Whose::User(user) => format!("user '{user}' is deleted"),
        };
        close_all(&self.broker, &whose, &reason);
        self.broker.ask_nodes(&Question::CloseAll { whose, reason }, NODE_DEADLINE).await;
    }

    async fn finish_get(&self, spec: &QueueSpec, positions: Vec<Position>, after: AfterGet) {
        if positions.is_empty() {
            return;
        }
        let queue = spec.id;
        let input = match after {
            AfterGet::Ack => return,
            AfterGet::Requeue => SessionInput::GiveBack { queue, positions, failed: false, delivered: true },
            AfterGet::RequeueFailed => {
                SessionInput::GiveBack { queue, positions, failed: true, delivered: true }
            }
            AfterGet::Reject => SessionInput::Settle { queue, positions, rejected: true },
        };
        // A node that is stopping gives back what it holds.
        let _stopping = self.broker.session(spec.host).inputs().send(input).await;
    }
}

/// A queue of one connection is nobody else's to touch.
pub(super) fn check_not_locked(spec: &QueueSpec) -> Result<(), AdminError> {
    if spec.exclusive.is_none() {
        return Ok(());
    }
    Err(crate::request::locked(&spec.name, &spec.vhost).into())
}

fn check_gettable(spec: &QueueSpec) -> Result<(), AdminError> {
    check_not_locked(spec)?;
    let stream = warren_types::AMQPValue::LongString("stream".into());
    if spec.arguments.inner().get("x-queue-type") == Some(&stream) {
        let text = format!(
            "basic.get not supported by stream queues queue '{}' in vhost '{}'",
            spec.name, spec.vhost
        );
        return Err(AmqpError::new(ReplyCode::NotImplemented, text).into());
    }
    Ok(())
}

fn short(what: &str, text: &str) -> Result<ShortStr, AdminError> {
    ShortStr::try_from(text).map_err(|_| {
        AmqpError::new(ReplyCode::PreconditionFailed, format!("the {what} is longer than 255 bytes")).into()
    })
}

fn checked_size(broker: &Broker, payload: Bytes) -> Result<Bytes, AdminError> {
    let limit = broker.config().max_message_size_bytes;
    if payload.len() as u64 > limit {
        let text = format!("message size {} is larger than configured max size {limit}", payload.len());
        return Err(AmqpError::new(ReplyCode::PreconditionFailed, text).into());
    }
    Ok(payload)
}

/// Routes a message as the caller's, sends it on and waits until all its queues have it.
async fn publish_as(caller: &Caller, message: Message) -> Result<bool, AdminError> {
    let channel = ChannelNumber(0);
    let mut publish = Publish { channel, opening: 0, number: 1, mandatory: true, message };
    let mut publisher = Publisher::new(caller);
    publisher.refresh(caller);
    let mut route = publisher.route_one(caller, &mut publish);
    if !route.as_ref().is_ok_and(|route| !route.unroutable) {
        // This node may not have heard of the queue yet.
        caller.broker.linearize().await?;
        publisher.refresh(caller);
        route = publisher.route_one(caller, &mut publish);
    }
    let route = route?;
    let queues = route.targets.iter().flat_map(|(_, queues)| queues).copied().collect();
    let published = Done::Published(&publish.message, queues);
    tell(&caller.broker, &caller.user, &caller.vhost, published).await;
    publisher.count(&route, publish.mandatory);
    caller.broker.connections().traffic().add(std::mem::take(&mut publisher.counted));
    if route.targets.is_empty() {
        return Ok(false);
    }
    let token = PublishToken { connection: caller.connection, channel, opening: 0, number: 1 };
    let delay_ms = if route.delays { take_delay(&mut publish.message) } else { 0 };
    let confirmed = async {
        for (host, queues) in &route.targets {
            let message =
                SessionPublish { queues: queues.clone(), message: publish.message.clone(), delay_ms };
            let input = SessionInput::publish(vec![(token, message)]);
            caller.broker.session(*host).inputs().send(input).await.ok()?;
        }
        let taken = await_confirms(&caller.mailbox, route.targets.len()).await?;
        Some(taken && !route.unroutable)
    };
    match tokio::time::timeout(CONFIRM_DEADLINE, confirmed).await {
        Ok(Some(taken)) => {
            let traffic = caller.broker.connections().traffic();
            traffic.add(Traffic { confirm: u64::from(taken), ..Traffic::default() });
            Ok(taken)
        }
        Ok(None) | Err(_) => {
            Err(AdminError::Unavailable(String::from("the message was not confirmed in time")))
        }
    }
}
