//! Spine 5 to 7: the publishes of one read become batches, one a host. Knows no socket.
//!
//! Before: `connection`. After: `router`, then the hosts' sessions.

use std::collections::HashMap;
use std::sync::Arc;

use warren_amqp::{Publish, Settlement};
use warren_proto::operate::Traffic;
use warren_types::{
    AmqpError, ChannelNumber, DeliveryRef, Message, PublishToken, QueueHost, QueueId, ReplyCode,
    SessionPublish, ShortStr, SubscriptionId,
};

use super::Caller;
use super::inspect::{check_user, inspect, is_plain};
use crate::confirm::Confirms;
use crate::connection::Wake;
use crate::delay::take_delay;
use crate::router::{Route, Router};

/// Publishes gathered before they are sent on, whatever else is in the read.
const BATCH_MAX: usize = 512;
/// Their bytes.
const BATCH_MAX_BYTES: usize = 256 * 1024;

/// What one host gets.
pub(crate) type HostBatch = (QueueHost, Vec<(PublishToken, SessionPublish)>);

/// What becomes of a batch besides what is sent on.
pub(crate) enum Verdict {
    /// No queue took it: it is done. Mandatory ones go back to their publisher first.
    Unroutable(Publish),
    /// No queue took it, and it goes back to its publisher; it is confirmed when an exchange has remembered it.
    Returned(Publish),
    /// It may be that no queue takes it. Whoever wants to know is told that it failed.
    Unknown(Publish),
    /// It closes its channel.
    Refused { channel: ChannelNumber, opening: u32, error: AmqpError },
    /// What the client settled behind publishes that are routed now.
    Settled(Settlement, Vec<DeliveryRef>),
    /// What it settled behind one that has closed the channel: it never said so.
    Unsaid(Vec<DeliveryRef>),
}

/// What is gathered before it is sent on.
enum Gathered {
    Publish(Publish),
    /// It stands behind a publish, which may close its channel.
    Settle {
        channel: ChannelNumber,
        outcome: Settlement,
        deliveries: Vec<DeliveryRef>,
    },
}

impl Gathered {
    fn message_bytes(&self) -> usize {
        match self {
            Self::Publish(publish) => publish.message.size(),
            Self::Settle { .. } => 0,
        }
    }
}

/// What it means that this node's catalogue does not have something.
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// Perhaps nothing: the cluster may know better.
    MayLag,
    /// It was just made as new as the cluster's: there is no such thing.
    Current,
    /// The cluster was asked, and has not answered: nobody can say.
    Unanswered(AmqpError),
}

impl From<Result<(), AmqpError>> for View {
    fn from(read: Result<(), AmqpError>) -> Self {
        read.map_or_else(Self::Unanswered, |()| Self::Current)
    }
}

/// Gathers and routes one connection's publishes.
pub(crate) struct Publisher {
    router: Router,
    batch: Vec<Gathered>,
    bytes: usize,
    /// Channels with a consumer of answers, and the queue that these go to.
    reply_queues: HashMap<ChannelNumber, (SubscriptionId, ShortStr)>,
    /// Its virtual host is traced.
    is_traced: bool,
    /// What was published there and not yet told, and where it went.
    traced: Vec<(ChannelNumber, Message, Vec<QueueId>)>,
    /// What was done and has not been added to the node's counters.
    pub(crate) counted: Traffic,
}

/// Why routing stopped before the end of the batch.
pub(crate) enum Routed {
    /// It did not.
    All,
    /// The next publish finds no exchange or no queue here; the cluster may know better. Route again after a
    /// linearizable read, with what came of it.
    AskCluster,
}

impl Publisher {
    pub(crate) fn new(caller: &Caller) -> Self {
        let broker = Arc::downgrade(&caller.broker);
        let is_local = move |host| broker.upgrade().is_some_and(|broker| broker.serves(host));
        let router = Router::new(Arc::clone(&caller.vhost), Arc::clone(&caller.user), is_local);
        Self {
            router,
            batch: Vec::new(),
            bytes: 0,
            reply_queues: HashMap::new(),
            is_traced: false,
            traced: Vec::new(),
            counted: Traffic::default(),
        }
    }

    /// The channel's requests may ask for direct answers from now on.
    pub(crate) fn begin_replies(
        &mut self,
        channel: ChannelNumber,
        consumer: SubscriptionId,
        queue: ShortStr,
    ) {
        self.reply_queues.insert(channel, (consumer, queue));
    }

    /// A consumer is gone: if it took answers, its channel's requests may not ask for them any more.
    pub(crate) fn end_replies(&mut self, consumer: SubscriptionId) {
        self.reply_queues.retain(|_, (known, _)| *known != consumer);
    }

    /// Whether the channel has a consumer of answers.
    pub(crate) fn takes_replies(&self, channel: ChannelNumber) -> bool {
        self.reply_queues.contains_key(&channel)
    }

    /// Takes a publish; true when it is time to route.
    pub(crate) fn push(&mut self, publish: Publish) -> bool {
        self.bytes += publish.message.size();
        self.batch.push(Gathered::Publish(publish));
        self.batch.len() >= BATCH_MAX || self.bytes >= BATCH_MAX_BYTES
    }

    /// Takes what the client has settled; gives it back where there is no publish before it.
    pub(crate) fn settle_in_turn(
        &mut self,
        channel: ChannelNumber,
        outcome: Settlement,
        deliveries: Vec<DeliveryRef>,
    ) -> Option<Vec<DeliveryRef>> {
        if self.batch.is_empty() {
            return Some(deliveries);
        }
        self.batch.push(Gathered::Settle { channel, outcome, deliveries });
        None
    }

    /// Bytes of what is gathered.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Routes one message on the spot.
    ///
    /// # Errors
    /// What closes its channel: 403, 404, 406.
    pub(crate) fn route_one(
        &mut self,
        caller: &Caller,
        publish: &mut Publish,
    ) -> Result<Arc<Route>, AmqpError> {
        let mut extra = Vec::new();
        let plain = is_plain(&publish.message);
        if !plain {
            self.router.allow(&caller.broker.catalogue().read(), &publish.message)?;
            let reply_queue = self.reply_queues.get(&publish.channel).map(|(_, queue)| queue);
            extra = inspect(reply_queue, publish)?;
        }
        let route = match self.router.cached(&publish.message) {
            Some(route) if extra.is_empty() => route,
            Some(_) | None => {
                self.router.resolve(&caller.broker.catalogue().read(), &publish.message, &extra)?
            }
        };
        if !plain {
            check_user(caller, &publish.message)?;
        }
        Ok(route)
    }

    /// Drops what was learnt from an older catalogue.
    pub(crate) fn refresh(&mut self, caller: &Caller) {
        if self.router.refresh(caller.broker.catalogue().current_revision()) {
            let catalogue = caller.broker.catalogue().read();
            self.is_traced = catalogue.vhost_metadata(&caller.vhost).is_some_and(|vhost| vhost.traced);
        }
    }

    /// Whether the connection's virtual host is traced, as of the last refresh.
    pub(crate) fn is_traced(&self) -> bool {
        self.is_traced
    }

    /// Counts a publish that was routed.
    pub(crate) fn count(&mut self, route: &Route, mandatory: bool) {
        self.counted.publish += 1;
        self.counted.return_unroutable += u64::from(route.unroutable && mandatory);
        self.counted.drop_unroutable += u64::from(route.targets.is_empty() && !mandatory);
    }

    /// Notes a publish for the trace, if there is one.
    pub(crate) fn trace(&mut self, channel: ChannelNumber, message: &Message, route: &Route) {
        if self.is_traced {
            let queues = route.targets.iter().flat_map(|(_, queues)| queues).copied().collect();
            self.traced.push((channel, message.clone(), queues));
        }
    }

    /// What is to be told.
    pub(crate) fn take_traced(&mut self) -> Vec<(ChannelNumber, Message, Vec<QueueId>)> {
        std::mem::take(&mut self.traced)
    }

    /// Routes what was gathered, in order.
    pub(crate) fn route(
        &mut self,
        caller: &Caller,
        confirms: &mut Confirms,
        wake: &mut Wake,
        view: &View,
        hosts: &mut Vec<HostBatch>,
        verdicts: &mut Vec<Verdict>,
    ) -> Routed {
        self.refresh(caller);
        // A channel that one publish closes takes no later one of this read.
        let mut closed: Vec<(ChannelNumber, u32)> = Vec::new();
        let mut gathered = std::mem::take(&mut self.batch).into_iter();
        self.bytes = 0;
        while let Some(next) = gathered.next() {
            let mut publish = match next {
                Gathered::Publish(publish) => publish,
                Gathered::Settle { channel, outcome, deliveries } => {
                    verdicts.push(match closed.iter().any(|(closed, _)| *closed == channel) {
                        true => Verdict::Unsaid(deliveries),
                        false => Verdict::Settled(outcome, deliveries),
                    });
                    continue;
                }
            };
            let Publish { channel, opening, number, .. } = publish;
            if closed.contains(&(channel, opening)) {
                continue;
            }
            // What routing takes out of them is wanted again where it must be done again.
            let properties = (!is_plain(&publish.message)).then(|| publish.message.properties.clone());
            let mut route = self.route_one(caller, &mut publish);
            if is_miss(&route) {
                match view {
                    View::MayLag => {
                        if let Some(properties) = properties {
                            publish.message.properties = properties;
                        }
                        self.batch.push(Gathered::Publish(publish));
                        self.batch.extend(gathered);
                        self.bytes = self.batch.iter().map(Gathered::message_bytes).sum();
                        return Routed::AskCluster;
                    }
                    View::Current => {}
                    View::Unanswered(_) if route.is_ok() => {
                        verdicts.push(Verdict::Unknown(publish));
                        continue;
                    }
                    View::Unanswered(error) => route = Err(error.clone()),
                }
            }
            if let Ok(route) = &route {
                self.trace(channel, &publish.message, route);
                self.count(route, publish.mandatory);
            }
            match route {
                Ok(route) if route.targets.is_empty() => verdicts.push(Verdict::Unroutable(publish)),
                Ok(route) => {
                    if route.unroutable && publish.mandatory {
                        // An exchange remembers it, and no queue has it.
                        verdicts.push(Verdict::Returned(publish.clone()));
                    }
                    let token = PublishToken { connection: caller.connection, channel, opening, number };
                    confirms.expect(token, route.targets.len());
                    wake.published(&route);
                    distribute(&route, token, publish, hosts);
                }
                Err(error) => {
                    closed.push((channel, opening));
                    verdicts.push(Verdict::Refused { channel, opening, error });
                }
            }
        }
        Routed::All
    }
}

/// Whether the catalogue here has no exchange or no queue for the message.
pub(crate) fn is_miss(route: &Result<Arc<Route>, AmqpError>) -> bool {
    match route {
        Ok(route) => route.unroutable,
        Err(error) => error.code == ReplyCode::NotFound,
    }
}

fn distribute(route: &Route, token: PublishToken, mut publish: Publish, hosts: &mut Vec<HostBatch>) {
    let delay_ms = if route.delays { take_delay(&mut publish.message) } else { 0 };
    for (host, queues) in &route.targets {
        let message = SessionPublish { queues: queues.clone(), message: publish.message.clone(), delay_ms };
        match hosts.iter_mut().find(|(known, _)| known == host) {
            Some((_, batch)) => batch.push((token, message)),
            None => hosts.push((*host, vec![(token, message)])),
        }
    }
}
