//! Dead messages on their way from the queue they left to the queues that their dead-letter exchange names: the node's own
//! publisher. A leader's task hands them in; once every target has confirmed it is told, and only then forgets them.
//!
//! Before: `host`. After: `session`, as for any publish. Bounded by what each queue may have on its way at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use warren_amqp::properties::{Death, Properties, dead_letter};
use warren_catalogue::routing::{RouteInput, RouteSet};
use warren_catalogue::{Catalogue, ExchangeKind, queue_settings};
use warren_queue::DeadLetter;
use warren_types::{
    ChannelNumber, Position, PublishToken, QueueHost, QueueId, QueueSpec, SessionPublish, ShortStr,
};

use crate::broker::Broker;
use crate::clock;
use crate::delay::take_delay;
use crate::mailbox::Mailbox;
use crate::registry::{ConnectionEvent, INTERNAL};
use crate::router::{draw, hashed_property};
use crate::session::SessionInput;

/// Taken in one turn.
const PER_TURN: usize = 128;

/// Between attempts to learn from the cluster where dead messages go.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Until one that stays where it is, because it goes nowhere or is refused, is tried again: twice as long each time.
const TRY_AGAIN: Duration = Duration::from_secs(1);
const TRY_AGAIN_MAX: Duration = Duration::from_secs(15);

/// Where a host's task learns which of its dead letters are safe.
pub(crate) type Buried = Mailbox<(QueueId, Position)>;

/// A dead message, and who waits for it.
pub(crate) struct Burial {
    /// The queue that it left, as the catalogue had it then.
    spec: Arc<QueueSpec>,
    letter: Box<DeadLetter>,
    done: Arc<Buried>,
    /// The cluster has been asked where it goes: what the catalogue here does not have is not there.
    certain: bool,
    /// How often it was tried.
    tried: u32,
}

impl Burial {
    pub(crate) fn new(spec: Arc<QueueSpec>, letter: Box<DeadLetter>, done: Arc<Buried>) -> Self {
        Self { spec, letter, done, certain: false, tried: 0 }
    }

    /// It is safe, or is given up: its leader may forget it. Another leader finds it again, and does the same.
    fn end(self) {
        let _stopped = self.done.push((self.letter.queue, self.letter.position));
    }
}

struct Outstanding {
    hosts: usize,
    /// One of the targets does not take it.
    refused: bool,
    burial: Burial,
}

type Batches = Vec<(QueueHost, Vec<(PublishToken, SessionPublish)>)>;

/// Runs until the node stops.
pub(crate) async fn run(broker: Arc<Broker>, burials: Arc<Mailbox<Burial>>, running: CancellationToken) {
    let confirms = Arc::clone(broker.connections().internal());
    let mut undertaker = Undertaker { broker, number: 0, outstanding: HashMap::new(), kept: Vec::new() };
    let (mut taken, mut told) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            () = running.cancelled() => break,
            _ = confirms.recv_many(&mut told, PER_TURN) => undertaker.confirmed(&mut told),
            _ = burials.recv_many(&mut taken, PER_TURN) => {
                let unknown = undertaker.bury(&mut taken);
                if !unknown.is_empty() {
                    let (broker, burials) = (Arc::clone(&undertaker.broker), Arc::clone(&burials));
                    tokio::spawn(running.clone().run_until_cancelled_owned(ask_cluster(broker, unknown, burials)));
                }
            }
        }
        undertaker.try_again(&burials, &running);
    }
}

/// Makes the catalogue here as new as the cluster's, however long that takes (their queues keep the messages), and hands
/// them in again.
async fn ask_cluster(broker: Arc<Broker>, unknown: Vec<Burial>, burials: Arc<Mailbox<Burial>>) {
    while let Err(error) = broker.linearize_miss().await {
        debug!(%error, "dead messages wait to know where they go");
        tokio::time::sleep(ASK_AGAIN).await;
    }
    for burial in unknown {
        let _stopping = burials.push(Burial { certain: true, ..burial });
    }
}

fn hand_in_again(broker: &Broker, burial: Burial, burials: &Mailbox<Burial>) {
    // Its leader leads no more: the next one has it.
    if burial.done.is_closed() {
        return;
    }
    let spec = broker.catalogue().read().queue_by_id(burial.letter.queue).cloned();
    // Deleted, and its messages with it.
    let Some(spec) = spec else { return burial.end() };
    let settings = queue_settings(&broker.catalogue().read().effective_arguments(&spec));
    let Burial { mut letter, done, tried, .. } = burial;
    letter.settings = Arc::new(settings);
    let _stopping =
        burials.push(Burial { spec, letter, done, certain: false, tried: tried.saturating_add(1) });
}

struct Undertaker {
    broker: Arc<Broker>,
    number: u64,
    outstanding: HashMap<u64, Outstanding>,
    /// Those that are to be tried again.
    kept: Vec<Burial>,
}

impl Undertaker {
    /// Hands those in again, after a while, that could not be buried now; with what is asked of their queues then.
    fn try_again(&mut self, burials: &Arc<Mailbox<Burial>>, running: &CancellationToken) {
        let mut waits: BTreeMap<Duration, Vec<Burial>> = BTreeMap::new();
        for burial in std::mem::take(&mut self.kept) {
            let wait = TRY_AGAIN.saturating_mul(1 << burial.tried.min(10)).min(TRY_AGAIN_MAX);
            waits.entry(wait).or_default().push(burial);
        }
        for (wait, kept) in waits {
            let (broker, burials) = (Arc::clone(&self.broker), Arc::clone(burials));
            let again = async move {
                tokio::time::sleep(wait).await;
                kept.into_iter().for_each(|burial| hand_in_again(&broker, burial, &burials));
            };
            tokio::spawn(running.clone().run_until_cancelled_owned(again));
        }
    }

    /// It goes nowhere: that is its end, unless its queue keeps it.
    fn give_up(&mut self, burial: Burial) {
        if burial.letter.settings.keeps_dead_letters {
            self.kept.push(burial);
        } else {
            burial.end();
        }
    }

    /// Sends each on its way. Gives back those for which the catalogue here has no queue, though the cluster may.
    fn bury(&mut self, burials: &mut Vec<Burial>) -> Vec<Burial> {
        let (mut unknown, mut nowhere) = (Vec::new(), Vec::new());
        let mut batches = Batches::new();
        {
            let catalogue = self.broker.catalogue().read();
            let time = clock::now().0 / 1000;
            for burial in burials.drain(..) {
                let targets = match route(&catalogue, &burial, time) {
                    Some(targets) if !targets.is_empty() => targets,
                    None if !burial.certain => {
                        unknown.push(burial);
                        continue;
                    }
                    Some(_) => {
                        burial.end();
                        continue;
                    }
                    None => {
                        nowhere.push(burial);
                        continue;
                    }
                };
                self.number += 1;
                let number = self.number;
                let token =
                    PublishToken { connection: INTERNAL, channel: ChannelNumber(0), opening: 0, number };
                let outstanding = Outstanding { hosts: targets.len(), refused: false, burial };
                self.outstanding.insert(number, outstanding);
                for (host, publish) in targets {
                    match batches.iter_mut().find(|(known, _)| *known == host) {
                        Some((_, batch)) => batch.push((token, publish)),
                        None => batches.push((host, vec![(token, publish)])),
                    }
                }
            }
        }
        nowhere.into_iter().for_each(|burial| self.give_up(burial));
        for (host, batch) in batches {
            let session = self.broker.session(host);
            match session.inputs().try_send(SessionInput::publish(batch)) {
                Ok(()) => {}
                // One host that takes nothing now must not hold up the others.
                Err(TrySendError::Full(input)) => {
                    tokio::spawn(async move {
                        let _stopping = session.inputs().send(input).await;
                    });
                }
                Err(TrySendError::Closed(_)) => debug!(%host, "stopping: the next leader buries them"),
            }
        }
        unknown
    }

    fn confirmed(&mut self, events: &mut Vec<ConnectionEvent>) {
        for event in events.drain(..) {
            match event {
                ConnectionEvent::Confirmed(tokens) => {
                    tokens.iter().for_each(|token| self.count_down(token.number, false));
                }
                ConnectionEvent::Rejected(tokens) => {
                    tokens.iter().for_each(|token| self.count_down(token.number, true));
                }
                // It consumes nothing and nobody closes it.
                ConnectionEvent::Deliver { .. }
                | ConnectionEvent::Cancelled(_)
                | ConnectionEvent::Describe(_)
                | ConnectionEvent::AlarmsOver
                | ConnectionEvent::TurnSeen
                | ConnectionEvent::Close(_) => {}
            }
        }
    }

    fn count_down(&mut self, number: u64, refused: bool) {
        let Some(outstanding) = self.outstanding.get_mut(&number) else { return };
        outstanding.hosts -= 1;
        outstanding.refused |= refused;
        if outstanding.hosts == 0
            && let Some(outstanding) = self.outstanding.remove(&number)
        {
            if outstanding.refused {
                self.give_up(outstanding.burial);
            } else {
                outstanding.burial.end();
            }
        }
    }
}

/// The changed message for each host with a queue that gets it: no host where there is only a way round in a circle.
/// `None` where there is no such exchange or no route.
fn route(catalogue: &Catalogue, burial: &Burial, time: u64) -> Option<Vec<(QueueHost, SessionPublish)>> {
    let Burial { spec, letter, .. } = burial;
    let settings = &letter.settings;
    let name = settings.dead_letter_exchange.as_deref()?;
    // A name that is too long names nothing.
    let exchange = ShortStr::try_from(name).ok()?;
    let key = settings.dead_letter_routing_key.as_deref().and_then(|key| ShortStr::try_from(key).ok());
    let death = Death {
        queue: &spec.name,
        reason: letter.reason.as_str(),
        time,
        exchange: &exchange,
        routing_key: key.as_ref(),
    };
    let mut dead = dead_letter(&letter.message, &death);
    let delays = catalogue.exchange(&spec.vhost, name).map(|exchange| exchange.kind)
        == Some(ExchangeKind::DelayedMessage);
    let delay_ms = if delays { take_delay(&mut dead.message) } else { 0 };
    let mut keys: Vec<&str> = vec![dead.message.routing_key.as_str()];
    keys.extend(dead.extra_keys.iter().map(String::as_str));
    let headers = || Properties::new(&dead.message.properties).headers();
    let mut set = RouteSet::default();
    let property = |property| hashed_property(&dead.message, property);
    let input = RouteInput { property: &property, random: &draw, ..RouteInput::new(&keys, &headers) };
    if let Err(missing) = catalogue.route(&spec.vhost, name, input, &mut set) {
        debug!(queue = %spec.name, %missing, "no exchange for a dead message");
        return None;
    }
    let mut targeted = set.iter().chain(set.histories()).peekable();
    targeted.peek()?;
    let mut targets: Vec<(QueueHost, SessionPublish)> = Vec::new();
    for (host, queue) in targeted {
        let circle = catalogue.queue_by_id(queue).is_some_and(|target| dead.would_cycle(&target.name));
        if circle {
            debug!(queue = %spec.name, target = %queue, "a dead message is dropped: it goes round in a circle");
            continue;
        }
        match targets.iter_mut().find(|(known, _)| *known == host) {
            Some((_, publish)) => publish.queues.push(queue),
            None => {
                let publish = SessionPublish { queues: vec![queue], message: dead.message.clone(), delay_ms };
                targets.push((host, publish));
            }
        }
    }
    Some(targets)
}
