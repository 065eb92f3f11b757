//! Spine 7 and 12: this node's end of the session with one host. One task a host: it keeps what is unconfirmed, finds
//! the leader, attaches, and passes frames both ways; `warren-queue`'s `HomeSession` decides what they say.
//!
//! Before: `request::publish`. After: `host`, in process or through `warren-rpc`.

mod handle;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};
use warren_amqp::properties::with_header;
use warren_proto::session::{Answer, Ask, Delivery, HomeFrame, LeaderFrame, Subscribe, SubscribeOutcome};
use warren_queue::{HomeConfig, HomeOutput, HomeSession, SessionKey, stream_offset};
use warren_rpc::Rope;
use warren_types::{
    AMQPValue, GroupId, NodeId, Position, PositionRange, QueueHost, QueueId, RequestId, SubscriptionId,
};

pub(crate) use self::handle::{SessionHandle, SessionInput};
use crate::broker::Broker;
use crate::host::HostInput;
use crate::mailbox::Mailbox;
use crate::pace::Heard;
use crate::registry::ConnectionEvent;

/// Inputs taken before the outputs are looked after.
const INPUTS_PER_TURN: usize = 64;
/// Frames from a leader taken in one turn.
const FRAMES_PER_TURN: usize = 128;
/// Publishes that may be unconfirmed before publishers wait.
const UNCONFIRMED_MAX_BYTES: usize = 16 * 1024 * 1024;
/// Most between attempts to reach a leader that is not there (yet).
const RETRY_MAX: Duration = Duration::from_millis(50);
/// Before the second attempt; doubled each time. The first is made at once.
const RETRY_MIN: Duration = Duration::from_millis(1);

/// Starts the session with a host.
pub(crate) fn start(broker: &Arc<Broker>, host: QueueHost) -> SessionHandle {
    let (handle, receiver) = SessionHandle::new();
    let config = HomeConfig::new(broker.session_id(), broker.node(), broker.incarnation());
    let task = SessionTask {
        broker: Arc::clone(broker),
        host,
        home: HomeSession::new(config),
        epoch: 0,
        eagerness: Eagerness::default(),
        dialled: None,
        was_attached: false,
        inputs: receiver,
        outbox: VecDeque::new(),
        consumers: HashMap::new(),
        subscribing: HashMap::new(),
        asked: HashMap::new(),
        recording: Vec::new(),
        paced: Heard::default(),
        next_request: 0,
        outputs: Vec::new(),
    };
    tokio::spawn(task.run());
    handle
}

/// The stream to a leader.
struct Link {
    node: NodeId,
    to: ToLeader,
    from: FromLeader,
}

enum ToLeader {
    Local { inputs: mpsc::Sender<HostInput>, key: SessionKey },
    Remote(mpsc::Sender<Rope>),
}

enum FromLeader {
    Local(Arc<Mailbox<LeaderFrame>>),
    Remote(mpsc::Receiver<Bytes>),
}

/// The stream is of no more use.
struct Ended;

/// How eagerly a leader is looked for: the longer it has not answered, the less. A node that is gone would else be dialled
/// on every round trip; one that takes over is kept waiting no longer than it has taken so far.
#[derive(Debug, Default)]
struct Eagerness {
    failures: u32,
}

impl Eagerness {
    fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// A leader has answered, or another one is known.
    fn renew(&mut self) {
        self.failures = 0;
    }

    /// Before the next attempt.
    fn pause(&self) -> Duration {
        match self.failures {
            0 => Duration::ZERO,
            failures => RETRY_MIN.saturating_mul(1 << (failures - 1).min(10)).min(RETRY_MAX),
        }
    }
}

impl FromLeader {
    /// Waits for frames. Cancel safe.
    async fn receive(&mut self, into: &mut Vec<LeaderFrame>) -> Result<(), Ended> {
        match self {
            Self::Local(answers) => match answers.recv_many(into, FRAMES_PER_TURN).await {
                0 => Err(Ended),
                _ => Ok(()),
            },
            Self::Remote(answers) => {
                let mut next = Some(answers.recv().await.ok_or(Ended)?);
                while let Some(bytes) = next {
                    let frame = LeaderFrame::decode(bytes).map_err(|refused| {
                        warn!(%refused, "a leader's frame makes no sense: attaching afresh");
                        Ended
                    })?;
                    into.push(frame);
                    next = if into.len() < FRAMES_PER_TURN { answers.try_recv().ok() } else { None };
                }
                Ok(())
            }
        }
    }
}

impl ToLeader {
    /// Sends the first frame of the outbox, and those behind it while there is room. Cancel safe.
    async fn send(&self, outbox: &mut VecDeque<HomeFrame>) -> Result<(), Ended> {
        match self {
            Self::Local { inputs, key } => {
                let mut permit = Some(inputs.reserve().await.map_err(|_| Ended)?);
                while let Some(room) = permit
                    && let Some(frame) = outbox.pop_front()
                {
                    room.send(HostInput::Frame(*key, frame));
                    permit = inputs.try_reserve().ok();
                }
            }
            Self::Remote(frames) => {
                let mut permit = Some(frames.reserve().await.map_err(|_| Ended)?);
                while let Some(room) = permit
                    && let Some(frame) = outbox.pop_front()
                {
                    room.send(frame.encode().into());
                    permit = frames.try_reserve().ok();
                }
            }
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let (ToLeader::Local { inputs, key }, FromLeader::Local(answers)) = (&self.to, &self.from) {
            answers.close();
            tell_gone(inputs, *key);
        }
    }
}

/// Tells a host that a stream has ended, without waiting.
pub(crate) fn tell_gone(inputs: &mpsc::Sender<HostInput>, key: SessionKey) {
    if let Err(mpsc::error::TrySendError::Full(gone)) = inputs.try_send(HostInput::Gone(key)) {
        let inputs = inputs.clone();
        tokio::spawn(async move {
            // A host that has stopped has forgotten the stream anyway.
            let _stopped = inputs.send(gone).await;
        });
    }
}

type Connecting = Pin<Box<dyn Future<Output = Option<Link>> + Send>>;

enum Turn {
    FromLeader(Result<(), Ended>),
    Sent(Result<(), Ended>),
    Inputs(usize),
    Connected(Option<Link>),
    Moved,
    Catalogue,
}

/// A consumer of this node at this host.
struct Consumer {
    subscribe: Subscribe,
    mailbox: Arc<Mailbox<ConnectionEvent>>,
}

struct SessionTask {
    broker: Arc<Broker>,
    host: QueueHost,
    home: HomeSession,
    epoch: u64,
    eagerness: Eagerness,
    /// The node that was to lead at the last attempt.
    dialled: Option<NodeId>,
    /// The last stream's other end has led.
    was_attached: bool,
    inputs: mpsc::Receiver<SessionInput>,
    outbox: VecDeque<HomeFrame>,
    consumers: HashMap<SubscriptionId, Consumer>,
    subscribing: HashMap<SubscriptionId, oneshot::Sender<SubscribeOutcome>>,
    asked: HashMap<RequestId, (Option<QueueId>, oneshot::Sender<Answer>)>,
    /// Who waits until everything settled is recorded.
    recording: Vec<oneshot::Sender<()>>,
    paced: Heard,
    next_request: u64,
    outputs: Vec<HomeOutput>,
}

impl SessionTask {
    async fn run(mut self) {
        let mut link: Option<Link> = None;
        let mut connecting: Option<Connecting> = None;
        let mut frames = Vec::new();
        let mut inputs = Vec::new();
        let mut leaders = self.broker.leaders();
        let mut hosts = self.broker.hosts().changes();
        // Only transient queues of other nodes ever move.
        let may_move = matches!(self.host, QueueHost::Node(node) if node != self.broker.node());
        let mut revisions = self.broker.catalogue().revision();
        loop {
            if link.is_none() && connecting.is_none() {
                let leader = self.leader();
                if leader != self.dialled {
                    self.eagerness.renew();
                }
                self.dialled = leader;
                connecting = Some(self.connect(leader));
            }
            let has_link = link.is_some();
            let sends = has_link && !self.outbox.is_empty();
            let takes = self.outbox.is_empty() && self.home.unconfirmed_bytes() < UNCONFIRMED_MAX_BYTES;
            let outbox = &mut self.outbox;
            let (from, to) =
                link.as_mut().map_or((None, None), |link| (Some(&mut link.from), Some(&link.to)));
            let turn = tokio::select! {
                biased;
                received = receive(from, &mut frames), if has_link => {
                    Turn::FromLeader(received)
                }
                sent = send(to, outbox), if sends => Turn::Sent(sent),
                count = self.inputs.recv_many(&mut inputs, INPUTS_PER_TURN), if takes => Turn::Inputs(count),
                connected = connect(connecting.as_mut()), if !has_link => {
                    Turn::Connected(connected)
                }
                _ = leaders.changed() => Turn::Moved,
                _ = hosts.changed() => Turn::Moved,
                _ = revisions.changed(), if may_move => Turn::Catalogue,
            };
            match turn {
                Turn::FromLeader(received) => {
                    for frame in frames.drain(..) {
                        self.home.on_frame(frame, &mut self.outputs);
                    }
                    if self.home.is_attached() {
                        self.was_attached = true;
                        self.eagerness.renew();
                    }
                    let not_leader = self.outputs.contains(&HomeOutput::NotLeader);
                    if received.is_err() || not_leader {
                        self.act();
                        self.lose(&mut link);
                    }
                }
                Turn::Sent(Ok(())) => {}
                Turn::Sent(Err(Ended)) => self.lose(&mut link),
                Turn::Inputs(0) => break,
                Turn::Inputs(_) => {
                    for input in inputs.drain(..) {
                        self.take(input);
                    }
                }
                Turn::Connected(connected) => {
                    connecting = None;
                    if connected.is_none() {
                        self.eagerness.failed();
                        if may_move {
                            self.abandon();
                        }
                    }
                    if let Some(connected) = connected {
                        self.epoch += 1;
                        self.was_attached = false;
                        self.outbox.clear();
                        self.home.connected(self.epoch, &mut self.outputs);
                        link = Some(connected);
                    }
                }
                Turn::Moved => {
                    let leader = self.leader();
                    if link.as_ref().is_some_and(|link| leader.is_some_and(|leader| leader != link.node)) {
                        self.lose(&mut link);
                    }
                    // Here a host may just have begun; elsewhere only another leader is worth less patience.
                    if link.is_none() && (leader != self.dialled || leader == Some(self.broker.node())) {
                        self.eagerness.renew();
                        connecting = None;
                    }
                }
                Turn::Catalogue => self.follow_moves(),
            }
            self.home.flush(&mut self.outputs);
            self.act();
            if !self.recording.is_empty() && self.home.unsettled_count() == 0 {
                for waiting in self.recording.drain(..) {
                    // Who waited may have lost patience.
                    let _gone = waiting.send(());
                }
            }
        }
    }

    /// The stream ended: everything that is not confirmed is kept and offered to the next leader.
    fn lose(&mut self, link: &mut Option<Link>) {
        if link.take().is_some() {
            if !self.was_attached {
                self.eagerness.failed();
            }
            debug!(host = %self.host, "lost the leader");
            self.home.disconnected();
            self.outbox.clear();
            self.paced.end(self.broker.hosts().paces());
        }
    }

    /// A transient queue whose node was lost is somewhere else now, or gone: so are its consumers.
    fn follow_moves(&mut self) {
        let moved: Vec<(SubscriptionId, Option<QueueHost>)> = {
            let catalogue = self.broker.catalogue().read();
            let host_of = |queue| catalogue.queue_by_id(queue).map(|spec| spec.host);
            let consumers = self.consumers.iter();
            consumers
                .map(|(subscription, consumer)| (*subscription, host_of(consumer.subscribe.queue)))
                .filter(|(_, host)| *host != Some(self.host))
                .collect()
        };
        for (subscription, host) in moved {
            let Some(consumer) = self.consumers.remove(&subscription) else { continue };
            self.home.unsubscribe(subscription, &mut self.outputs);
            match host {
                None => {
                    let _gone = consumer.mailbox.push(ConnectionEvent::Cancelled(subscription));
                }
                Some(host) => {
                    let session = self.broker.session(host);
                    tokio::spawn(async move {
                        let (outcome, told) = oneshot::channel();
                        let Consumer { subscribe, mailbox } = consumer;
                        let input =
                            SessionInput::Subscribe { subscribe, mailbox: Arc::clone(&mailbox), outcome };
                        let sent = session.inputs().send(input).await;
                        if sent.is_err() || !matches!(told.await, Ok(SubscribeOutcome::Subscribed)) {
                            let _gone = mailbox.push(ConnectionEvent::Cancelled(subscription));
                        }
                    });
                }
            }
        }
    }

    /// The node does not answer: publishes to queues that went with it, or live elsewhere by now, are lost with it.
    fn abandon(&mut self) {
        if self.home.unconfirmed_count() == 0 {
            return;
        }
        let catalogue = self.broker.catalogue().read();
        let host = self.host;
        let gone = |queue| catalogue.queue_by_id(queue).is_none_or(|spec| spec.host != host);
        self.home.abandon(gone, &mut self.outputs);
    }

    fn leader(&self) -> Option<NodeId> {
        match self.host {
            QueueHost::Shard(shard) => self.broker.leader_of(GroupId::from(shard)),
            QueueHost::Node(node) => Some(node),
        }
    }

    /// Opens a stream to the leader, a little later if it was not to be reached before.
    fn connect(&self, leader: Option<NodeId>) -> Connecting {
        let (broker, host) = (Arc::clone(&self.broker), self.host);
        let pause = self.eagerness.pause();
        Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            match leader {
                Some(node) if node == broker.node() => connect_local(&broker, host).await,
                Some(node) => match broker.peers().open_session(node, host).await {
                    Ok((frames, answers)) => {
                        Some(Link { node, to: ToLeader::Remote(frames), from: FromLeader::Remote(answers) })
                    }
                    Err(refused) => {
                        debug!(%host, %node, %refused, "cannot reach the leader");
                        None
                    }
                },
                None => None,
            }
        })
    }

    fn take(&mut self, input: SessionInput) {
        match input {
            SessionInput::Publish { batch, .. } => {
                for (token, publish) in batch {
                    self.home.publish(token, publish);
                }
            }
            SessionInput::Subscribe { subscribe, mailbox, outcome } => {
                let consumer = Consumer { subscribe: subscribe.clone(), mailbox };
                self.consumers.insert(subscribe.subscription, consumer);
                self.subscribing.insert(subscribe.subscription, outcome);
                self.home.subscribe(subscribe, &mut self.outputs);
            }
            SessionInput::Unsubscribe(subscription) => {
                self.consumers.remove(&subscription);
                self.subscribing.remove(&subscription);
                self.home.unsubscribe(subscription, &mut self.outputs);
            }
            SessionInput::SetPrefetch { subscription, prefetch } => {
                self.home.set_prefetch(subscription, prefetch, &mut self.outputs);
            }
            SessionInput::Settle { queue, positions, rejected } => {
                self.home.settle(queue, positions, rejected);
            }
            SessionInput::GiveBack { queue, positions, failed, delivered } => {
                self.home.give_back(queue, &PositionRange::collect(positions), failed, delivered);
            }
            SessionInput::Recorded(waiting) => self.recording.push(waiting),
            SessionInput::Credit { subscription, messages, bytes } => {
                self.home.credit(subscription, messages, bytes);
            }
            SessionInput::Ask { ask, answer } => {
                self.next_request += 1;
                let request = RequestId(self.next_request);
                let gets_from = if let Ask::Get { queue, .. } = &ask { Some(*queue) } else { None };
                self.asked.insert(request, (gets_from, answer));
                self.home.ask(request, ask, &mut self.outputs);
            }
        }
    }

    fn act(&mut self) {
        // What cannot be handed over goes back to its queue, which makes more outputs.
        while !self.outputs.is_empty() {
            let mut homeless: Vec<(QueueId, Vec<Position>)> = Vec::new();
            for output in std::mem::take(&mut self.outputs) {
                self.carry_out(output, &mut homeless);
            }
            if !homeless.is_empty() {
                for (queue, positions) in homeless {
                    self.home.give_back(queue, &PositionRange::collect(positions), false, false);
                }
                self.home.flush(&mut self.outputs);
            }
        }
    }

    fn carry_out(&mut self, output: HomeOutput, homeless: &mut Vec<(QueueId, Vec<Position>)>) {
        match output {
            HomeOutput::Send(frame) => self.outbox.push_back(frame),
            HomeOutput::Confirmed(tokens) => self.broker.connections().settle_publishes(&tokens, false),
            HomeOutput::Rejected(tokens) => self.broker.connections().settle_publishes(&tokens, true),
            HomeOutput::Pace { queue, pause_ms } => {
                self.paced.hear(self.broker.hosts().paces(), queue, pause_ms);
            }
            HomeOutput::Deliver { subscription, queue, mut deliveries } => {
                if self
                    .consumers
                    .get(&subscription)
                    .is_some_and(|consumer| consumer.subscribe.offset.is_some())
                {
                    deliveries.iter_mut().for_each(add_offset);
                }
                let positions: Vec<Position> = deliveries.iter().map(|delivery| delivery.position).collect();
                let event = ConnectionEvent::Deliver { subscription, host: self.host, queue, deliveries };
                let taken =
                    self.consumers.get(&subscription).is_some_and(|consumer| consumer.mailbox.push(event));
                if !taken {
                    // The connection ended before it could say so.
                    homeless.push((queue, positions));
                    self.consumers.remove(&subscription);
                    self.home.unsubscribe(subscription, &mut self.outputs);
                }
            }
            HomeOutput::Subscribed { subscription, outcome } => {
                if outcome != SubscribeOutcome::Subscribed {
                    self.consumers.remove(&subscription);
                }
                if let Some(waiting) = self.subscribing.remove(&subscription) {
                    // A connection that ended meanwhile unsubscribes.
                    let _gone = waiting.send(outcome);
                }
            }
            HomeOutput::Cancelled { subscription } => {
                if let Some(consumer) = self.consumers.remove(&subscription) {
                    let _gone = consumer.mailbox.push(ConnectionEvent::Cancelled(subscription));
                }
            }
            // Looked for where frames come in.
            HomeOutput::NotLeader => {}
            HomeOutput::Answer { request, answer } => {
                let Some((gets_from, waiting)) = self.asked.remove(&request) else { return };
                if let Err(Answer::Got { delivery: Some(delivery), .. }) = waiting.send(answer)
                    && let Some(queue) = gets_from
                {
                    homeless.push((queue, vec![delivery.position]));
                }
            }
        }
    }
}

// What is not there is waited for without end: the branch is off then.

async fn receive(from: Option<&mut FromLeader>, frames: &mut Vec<LeaderFrame>) -> Result<(), Ended> {
    match from {
        Some(from) => from.receive(frames).await,
        None => std::future::pending().await,
    }
}

async fn send(to: Option<&ToLeader>, outbox: &mut VecDeque<HomeFrame>) -> Result<(), Ended> {
    match to {
        Some(to) => to.send(outbox).await,
        None => std::future::pending().await,
    }
}

async fn connect(connecting: Option<&mut Connecting>) -> Option<Link> {
    match connecting {
        Some(connecting) => connecting.await,
        None => std::future::pending().await,
    }
}

async fn connect_local(broker: &Arc<Broker>, host: QueueHost) -> Option<Link> {
    let handle = broker.hosts().get(host)?;
    let key = broker.hosts().next_key();
    let answers = Arc::new(Mailbox::new());
    let inputs = handle.inputs().clone();
    inputs.send(HostInput::Open { key, answers: Arc::clone(&answers) }).await.ok()?;
    Some(Link { node: broker.node(), to: ToLeader::Local { inputs, key }, from: FromLeader::Local(answers) })
}

/// Tells a reader of a stream where it is: header `x-stream-offset`.
fn add_offset(delivery: &mut Delivery) {
    let offset = i64::try_from(stream_offset(delivery.position)).unwrap_or(i64::MAX);
    let properties = &delivery.message.properties;
    delivery.message.properties =
        with_header(properties, "x-stream-offset", Some(&AMQPValue::LongLongInt(offset)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_that_does_not_answer_is_dialled_at_once_and_then_less_and_less() {
        let mut eagerness = Eagerness::default();
        assert_eq!(eagerness.pause(), Duration::ZERO);
        let mut waited = Duration::ZERO;
        let mut attempts = 0;
        while waited < Duration::from_secs(10) {
            eagerness.failed();
            let pause = eagerness.pause();
            assert!(pause <= waited.max(RETRY_MIN) + RETRY_MIN, "{pause:?} after {waited:?}");
            waited += pause;
            attempts += 1;
        }
        assert!(attempts < 210, "{attempts}");
        eagerness.renew();
        assert_eq!(eagerness.pause(), Duration::ZERO);
    }
}
