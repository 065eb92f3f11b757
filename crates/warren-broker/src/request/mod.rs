//! Spine 5: what a channel asks of the broker, one file a request. Everything here waits for the catalogue or for a
//! queue's leader; the connection's task goes on writing meanwhile.

mod bind;
mod consume;
mod declare;
pub(crate) mod delete;
pub(crate) mod direct_reply;
mod exchange;
mod get;
mod inspect;
pub(crate) mod publish;
mod purge;
pub(crate) mod stream;

use std::sync::Arc;
use std::time::Duration;

use warren_amqp::{Reply, Request};
use warren_catalogue::{Catalogue, is_stream, no_queue};
use warren_proto::session::{Answer, Ask};
use warren_raft::ProposeError;
use warren_types::table::integer;
use warren_types::{
    AmqpError, ConnectionId, ExclusiveOwner, FieldTable, QueueHost, QueueId, QueueSpec, ReplyCode,
    SubscriptionId,
};

use crate::admin::ConsumerInfo;
use crate::broker::Broker;
use crate::mailbox::Mailbox;
use crate::registry::ConnectionEvent;

/// How long a change of the catalogue may take before the client is told that it failed.
pub(crate) const CATALOGUE_DEADLINE: Duration = Duration::from_secs(30);
/// How long a queue's leader may take to answer: longer than any failover.
pub(crate) const LEADER_DEADLINE: Duration = Duration::from_secs(30);

/// Who asks.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) broker: Arc<Broker>,
    pub(crate) connection: ConnectionId,
    pub(crate) user: Arc<str>,
    pub(crate) vhost: Arc<str>,
    pub(crate) mailbox: Arc<Mailbox<ConnectionEvent>>,
}

/// What the connection must remember of a request that was carried out.
#[derive(Debug, PartialEq)]
pub(crate) enum Remember {
    Nothing,
    /// It owns an exclusive queue: to be released at its end.
    Owner,
    /// A consumer, and where it is.
    Consumer {
        subscription: SubscriptionId,
        host: QueueHost,
        queue: QueueId,
        /// The queue may go with its last consumer.
        auto_delete: bool,
        /// It is told how often a delivery has failed: RabbitMQ does so of quorum queues only.
        counts: bool,
        /// How long it may hold a delivery; 0 is for ever.
        timeout_ms: u64,
        /// What listings show of it.
        info: Box<ConsumerInfo>,
    },
    /// A consumer of answers, at this node: the channel's requests ask for answers to that queue.
    ReplyConsumer {
        subscription: SubscriptionId,
        queue: Arc<QueueSpec>,
    },
    /// It is gone.
    NoConsumer {
        subscription: SubscriptionId,
    },
    /// What its user may do was looked at again.
    Rechecked,
}

/// The outcome of a request.
pub(crate) struct Performed {
    pub(crate) reply: Result<Reply, AmqpError>,
    pub(crate) remember: Remember,
}

impl From<Result<Reply, AmqpError>> for Performed {
    fn from(reply: Result<Reply, AmqpError>) -> Self {
        Self { reply, remember: Remember::Nothing }
    }
}

/// Carries out a request of a channel. `subscription` is the number a new consumer will have.
pub(crate) async fn perform(caller: Caller, request: Request, subscription: SubscriptionId) -> Performed {
    match request {
        Request::ExchangeDeclare(declare) => exchange::declare(&caller, declare).await.into(),
        Request::ExchangeDelete(delete) => exchange::delete(&caller, delete).await.into(),
        Request::ExchangeBind(bind) => bind::exchange(&caller, bind, bind::Change::Bind).await.into(),
        Request::ExchangeUnbind(bind) => bind::exchange(&caller, bind, bind::Change::Unbind).await.into(),
        Request::QueueDeclare(declare) => declare::declare(&caller, declare).await,
        Request::QueueBind(bind) => bind::queue(&caller, bind, bind::Change::Bind).await.into(),
        Request::QueueUnbind(bind) => bind::queue(&caller, bind, bind::Change::Unbind).await.into(),
        Request::QueuePurge(purge) => purge::purge(&caller, &purge.queue).await.into(),
        Request::QueueDelete(delete) => {
            delete::delete(&caller, &delete.queue, delete.if_unused, delete.if_empty)
                .await
                .map(Reply::Deleted)
                .into()
        }
        Request::Consume(consume) => consume::consume(&caller, consume, subscription).await,
        Request::Cancel(cancel) => Performed {
            reply: Ok(Reply::Done),
            remember: Remember::NoConsumer { subscription: cancel.subscription },
        },
        Request::Get(get) => get::get(&caller, get).await.into(),
        Request::UpdateSecret(_) => {
            Performed { reply: caller.recheck().map(|()| Reply::Done), remember: Remember::Rechecked }
        }
        // The connection deals with these itself: they concern what it holds.
        Request::Recover(_) | Request::TxCommit(_) => {
            Err(AmqpError::new(ReplyCode::InternalError, "request reached the wrong place")).into()
        }
    }
}

impl Caller {
    /// This connection as the owner of exclusive queues.
    pub(crate) fn owner(&self) -> ExclusiveOwner {
        ExclusiveOwner {
            node: self.broker.node(),
            incarnation: self.broker.incarnation(),
            connection: self.connection,
        }
    }

    /// After `connection.update-secret`. Users of the catalogue have no secret that expires: the new one is not looked
    /// at, as in RabbitMQ; but a user that was deleted, or lost its access to the vhost, goes.
    ///
    /// # Errors
    /// 530 as said.
    fn recheck(&self) -> Result<(), AmqpError> {
        let catalogue = self.broker.catalogue().read();
        if catalogue.user(&self.user).is_none() {
            return Err(AmqpError::new(
                ReplyCode::NotAllowed,
                "New secret was refused by one of the backends",
            ));
        }
        catalogue.vhost_access(&self.user, &self.vhost)
    }

    /// The queue of that name. A miss is confirmed by the cluster before it becomes the client's 404.
    ///
    /// # Errors
    /// 404 without such a queue or for one that stands behind direct reply-to, 405 when it is exclusive to another connection.
    pub(crate) async fn queue(&self, name: &str) -> Result<Arc<QueueSpec>, AmqpError> {
        if direct_reply::is_reply_queue(name) {
            return Err(no_queue(&self.vhost, name));
        }
        let spec = match self.local_queue(name) {
            Some(spec) => spec,
            None => {
                self.broker.linearize().await?;
                self.local_queue(name).ok_or_else(|| no_queue(&self.vhost, name))?
            }
        };
        self.check_owner(&spec)?;
        Ok(spec)
    }

    pub(crate) fn local_queue(&self, name: &str) -> Option<Arc<QueueSpec>> {
        self.broker.catalogue().read().queue(&self.vhost, name).cloned()
    }

    /// # Errors
    /// 405 when the queue is exclusive to another connection.
    pub(crate) fn check_owner(&self, spec: &QueueSpec) -> Result<(), AmqpError> {
        match spec.exclusive {
            Some(owner) if owner != self.owner() => Err(locked(&spec.name, &self.vhost)),
            Some(_) | None => Ok(()),
        }
    }
}

/// 405 for a queue.
pub(crate) fn locked(name: &str, vhost: &str) -> AmqpError {
    AmqpError::new(
        ReplyCode::ResourceLocked,
        format!(
            "cannot obtain exclusive access to locked queue '{name}' in vhost '{vhost}'. It could be originally \
             declared on another connection or the exclusive property value does not match that of the original \
             declaration."
        ),
    )
}

/// How long a client may hold a delivery of the queue, unless its consumer says otherwise; 0 is for ever.
pub(crate) fn consumer_timeout_ms(broker: &Broker, catalogue: &Catalogue, spec: &QueueSpec) -> u64 {
    if is_stream(&spec.arguments) {
        // What a reader of a stream holds is in nobody's way.
        return 0;
    }
    let asked = asked_timeout_ms(&catalogue.effective_arguments(spec));
    asked.unwrap_or(broker.config().consumer_timeout_ms)
}

/// `x-consumer-timeout`, of a queue or of a consumer; what is no number is refused where it is said.
pub(crate) fn asked_timeout_ms(arguments: &FieldTable) -> Option<u64> {
    let asked = arguments.inner().get("x-consumer-timeout").and_then(integer)?;
    u64::try_from(asked).ok()
}

/// 541 when the metadata group could not do it in time.
pub(crate) fn catalogue_failed(error: &ProposeError) -> AmqpError {
    AmqpError::new(
        ReplyCode::InternalError,
        format!("the cluster's catalogue cannot be changed now: {error}"),
    )
}

/// 541 when a queue's leader did not answer in time.
pub(crate) fn leader_silent(spec: &QueueSpec) -> AmqpError {
    AmqpError::new(
        ReplyCode::InternalError,
        format!("the leader of queue '{}' in vhost '{}' did not answer in time", spec.name, spec.vhost),
    )
}

/// Asks a queue's leader and waits, within [`LEADER_DEADLINE`].
///
/// # Errors
/// 541 when no answer comes in time; 404 when the queue is gone.
pub(crate) async fn ask(broker: &Broker, spec: &QueueSpec, ask: Ask) -> Result<Answer, AmqpError> {
    ask_host(broker, spec, ask).await.map(|(answer, _)| answer)
}

/// As [`ask`], with the host that answered: a transient queue moves when its node is lost, and the question with it.
///
/// # Errors
/// As [`ask`].
pub(crate) async fn ask_host(
    broker: &Broker,
    spec: &QueueSpec,
    ask: Ask,
) -> Result<(Answer, QueueHost), AmqpError> {
    let mut revisions = broker.catalogue().revision();
    let asked = async {
        loop {
            revisions.borrow_and_update();
            let now = broker.catalogue().read().queue_by_id(spec.id).map(|spec| spec.host);
            let host = match (spec.host, now) {
                (QueueHost::Shard(_), _) => spec.host,
                (QueueHost::Node(_), Some(host)) => host,
                (QueueHost::Node(_), None) => return Some((Answer::NoQueue, spec.host)),
            };
            let session = broker.session(host);
            let moved = async {
                while broker.catalogue().read().queue_by_id(spec.id).map(|spec| spec.host) == Some(host) {
                    if revisions.changed().await.is_err() {
                        std::future::pending().await
                    }
                }
            };
            tokio::select! {
                biased;
                answer = session.ask(ask.clone()) => return Some((answer?, host)),
                () = moved, if matches!(host, QueueHost::Node(_)) => {}
            }
        }
    };
    match tokio::time::timeout(LEADER_DEADLINE, asked).await {
        Ok(Some((Answer::NoQueue, _))) => Err(no_queue(&spec.vhost, &spec.name)),
        Ok(Some(answered)) => Ok(answered),
        Ok(None) | Err(_) => Err(leader_silent(spec)),
    }
}

/// The counts of a queue that is declared: ready messages and consumers.
/// `uses`: the time after which it goes unused begins anew.
pub(crate) async fn counts(broker: &Broker, spec: &QueueSpec, uses: bool) -> Result<(u64, u32), AmqpError> {
    let queue: QueueId = spec.id;
    match ask(broker, spec, Ask::Info { queue, uses, after_deaths: false }).await? {
        Answer::Info(counts) => Ok((counts.ready, counts.consumers)),
        other => Err(unexpected(&other)),
    }
}

/// 541 for an answer to another question.
pub(crate) fn unexpected(answer: &Answer) -> AmqpError {
    AmqpError::new(ReplyCode::InternalError, format!("unexpected answer from a queue's leader: {answer:?}"))
}
