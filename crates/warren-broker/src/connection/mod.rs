//! Spine 1 and 15: one task a connection. It reads, lets the machine decode and step, carries out what the machine asks
//! for, and writes. While something it asked for is outstanding it does not read on (and so slows the client),
//! but it goes on writing.
//!
//! Before: `listener`. After: `request`, `session`; and back through the mailbox.

mod act;
mod cancel;
mod commit;
mod dead_letters;
mod deliver;
mod describe;
mod lapse;
mod pressure;
mod recheck;
mod settle;
mod trace;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, info};
use warren_amqp::frame::DeliveryCounts;
use warren_amqp::{Action, Beat, Connection as Machine, Ending, External, Mechanism, Publish, Settlement};
use warren_proto::session::Delivery;
use warren_types::{AmqpError, ChannelNumber, QueueHost, QueueId, SubscriptionId};

use self::commit::{Asked, Commit};
pub(crate) use self::dead_letters::Wake;
use self::pressure::Pressure;
use crate::admin::{ConnectionInfo, ConsumerInfo};
use crate::broker::{Broker, LoginError};
use crate::clock;
use crate::config::LoginFrom;
use crate::confirm::Confirms;
use crate::incoming;
use crate::mailbox::Mailbox;
use crate::registry::{Flow, Registered};
use crate::request::publish::{Publisher, View};
use crate::request::{Caller, Performed};
use crate::session::{SessionHandle, SessionInput};
use crate::tls::TlsInfo;

/// First read buffer: most connections are idle most of the time.
const READ_MIN: usize = 2 * 1024;
/// Read buffer of a busy connection.
const READ_MAX: usize = 64 * 1024;
/// Once this much waits to be written, nothing more is taken for the client.
pub(crate) const OUT_MAX: usize = 256 * 1024;
/// Events taken in one turn.
const EVENTS_PER_TURN: usize = 64;
/// After the last frame of a close: how long the peer may take to close its side.
const LINGER: Duration = Duration::from_secs(5);
/// How long a server's `connection.close` waits for the connection's exclusive queues to be gone.
const RELEASE_WAIT: Duration = Duration::from_secs(2);
/// How long the answer to a server's `connection.close` is waited for.
const CLOSE_OK_WAIT: Duration = Duration::from_secs(10);

/// Serves one client until it goes. `tls` is what its handshake told of it.
pub(crate) async fn serve<S>(
    broker: Arc<Broker>,
    stream: S,
    peer: SocketAddr,
    local: SocketAddr,
    tls: Option<TlsInfo>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let id = broker.connections().next_id();
    let mailbox = Arc::new(Mailbox::new());
    let name = format!("{peer} -> {local}");
    let external = certified_user(tls.as_ref(), broker.config().amqps_login_from);
    let way = match (&tls, &external) {
        (None, _) => External::Unknown,
        (Some(_), Ok(user)) if broker.recognise(user.clone(), peer.ip()).is_ok() => External::Offered,
        (Some(_), Ok(_) | Err(_)) => External::Taken,
    };
    let machine = Machine::new(Arc::clone(broker.machine_config(way)));
    let registered = Arc::new(Registered {
        mailbox: Arc::clone(&mailbox),
        info: Mutex::new(ConnectionInfo {
            id,
            name: name.clone(),
            user_provided_name: None,
            user: String::new(),
            vhost: String::new(),
            channels: 0,
            connected_at: clock::now().0,
            heartbeat_s: 0,
            frame_max: 0,
            client_properties: warren_types::FieldTable::default(),
            node: broker.node(),
            open: Vec::new(),
            blocked: false,
            tls: tls.as_ref().map(TlsInfo::shown),
        }),
        flow: Flow::default(),
        cut: Notify::new(),
    });
    broker.connections().insert(id, Arc::clone(&registered));
    let task = Task {
        machine,
        external,
        caller: Caller {
            broker: Arc::clone(&broker),
            connection: id,
            user: Arc::from(""),
            vhost: Arc::from(""),
            mailbox: Arc::clone(&mailbox),
        },
        registered,
        peer,
        name,
        input: BytesMut::new(),
        out: BytesMut::new(),
        publisher: None,
        confirms: Confirms::default(),
        wake: Wake::default(),
        consumers: HashMap::new(),
        described: HashMap::new(),
        channels_counted: 0,
        channels_elsewhere: 0,
        channel_limit: None,
        limits_revision: None,
        early: Vec::new(),
        cancelled: Vec::new(),
        outbox: VecDeque::new(),
        stashed: None,
        pending: None,
        pressure: Pressure::default(),
        commits: HashMap::new(),
        commits_begun: 0,
        owns_queues: false,
        holds_back: false,
        is_blocked: false,
        ending: None,
        born: Instant::now(),
        lapse_every: lapse::LOOK_EVERY,
        last_got: None,
        transactions: commit::Transactions::default(),
    };
    task.run(stream).await;
    mailbox.close();
    broker.connections().remove(id);
}

fn certified_user(tls: Option<&TlsInfo>, from: LoginFrom) -> Result<String, LoginError> {
    let certificate = tls.and_then(|tls| tls.peer.as_ref()).ok_or(LoginError::NoCertificate)?;
    let name = match from {
        LoginFrom::DistinguishedName => Some(certificate.subject.distinguished_name()),
        LoginFrom::CommonName => certificate.subject.common_name(),
    };
    name.filter(|name| !name.is_empty()).ok_or(LoginError::NoName)
}

/// A consumer of this connection.
#[derive(Clone, Copy)]
struct Consumer {
    host: QueueHost,
    channel: ChannelNumber,
    queue: QueueId,
    /// The queue may go with its last consumer.
    auto_delete: bool,
    /// It is told how often a delivery has failed.
    counts: bool,
    /// How long it says that it may hold a delivery.
    timeout_ms: Option<u64>,
}

impl Consumer {
    /// What its client is told of a message's earlier deliveries.
    fn told(&self, delivery: &Delivery) -> DeliveryCounts {
        match self.counts {
            true => DeliveryCounts { acquired: delivery.acquired_count, failed: delivery.delivery_count },
            false => DeliveryCounts::default(),
        }
    }
}

/// What is outstanding: until it is there, nothing more of the client is looked at.
struct Pending {
    what: What,
    done: Pin<Box<dyn Future<Output = Done> + Send>>,
}

#[derive(Clone, Copy)]
enum What {
    Request {
        channel: ChannelNumber,
    },
    /// The leader has still to deliver what was published before the cancel.
    LastDeliveries {
        channel: ChannelNumber,
        subscription: SubscriptionId,
    },
    Login,
    Catalogue,
    /// What the cluster knows of a publish that a transaction keeps.
    Check,
    /// What the cluster knows of the publishes of a transaction that is committed.
    Commit,
    /// Too much is on its way in: others are first.
    Turn,
    /// The consumers of a queue that it publishes to cannot keep up.
    Pace,
    Vhost,
    Closing,
    /// The exclusive queues of a connection that the server closes.
    ClosingByServer,
}

enum Done {
    Performed(Performed),
    /// The last deliveries are in the mailbox.
    Delivered,
    Login {
        mechanism: Mechanism,
        user: String,
        result: Result<String, LoginError>,
    },
    /// The catalogue is as new as the cluster's was, or that is not known.
    Catalogue(Result<(), AmqpError>),
    Check(Box<Publish>, Result<(), AmqpError>),
    Commit(Box<Asked>, Result<(), AmqpError>),
    Turn(Option<incoming::Turn>),
    Paced,
    /// Open, and how many channels the user has on other nodes.
    Vhost(Result<u64, AmqpError>),
    Released,
    /// The exclusive queues are gone, or not yet.
    ReleasedBeforeClose(bool),
}

/// How the connection ends, and by when.
struct Ended {
    deadline: Instant,
    /// The client is to see that nothing more comes, once the last octet is out.
    half_closes: bool,
    discard_input: bool,
}

enum Turn {
    Wrote(std::io::Result<usize>),
    Read(std::io::Result<usize>),
    Events,
    Done(Box<Done>),
    Room,
    Alarm,
    Lapse,
}

struct Task {
    machine: Machine,
    /// Whom SASL EXTERNAL takes the client for.
    external: Result<String, LoginError>,
    caller: Caller,
    registered: Arc<Registered>,
    peer: SocketAddr,
    name: String,
    input: BytesMut,
    out: BytesMut,
    publisher: Option<Publisher>,
    confirms: Confirms,
    wake: Wake,
    consumers: HashMap<SubscriptionId, Consumer>,
    /// Those of them that a client asked for, as listings show them.
    described: HashMap<SubscriptionId, ConsumerInfo>,
    /// Channels of this connection among those that the node counts for its user.
    channels_counted: usize,
    /// The user's channels on other nodes when the connection was opened.
    channels_elsewhere: u64,
    /// Most channels of the user, and at which revision of the catalogue that was read.
    channel_limit: Option<u64>,
    limits_revision: Option<u64>,
    /// Deliveries of a consumer whose consume-ok is not written yet.
    early: Vec<(SubscriptionId, QueueHost, QueueId, Vec<Delivery>)>,
    /// Consumers whose queue went while a request is outstanding: its answer comes first.
    cancelled: Vec<SubscriptionId>,
    outbox: VecDeque<(SessionHandle, SessionInput)>,
    stashed: Option<Action>,
    pending: Option<Pending>,
    pressure: Pressure,
    commits: HashMap<u64, Commit>,
    commits_begun: u64,
    owns_queues: bool,
    /// Its exclusive queues go before it is told that it is closed: nothing is written until then.
    holds_back: bool,
    /// An alarm has stopped it: nothing is read.
    is_blocked: bool,
    ending: Option<Ended>,
    /// The machine's clock counts from here.
    born: Instant,
    /// How often to look for deliveries that are held too long.
    lapse_every: Duration,
    /// Where the last message that was got is from.
    last_got: Option<QueueId>,
    transactions: commit::Transactions,
}

impl Task {
    async fn run<S>(mut self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut read, mut write) = tokio::io::split(stream);
        let mut events = Vec::new();
        let handshake_by =
            Instant::now() + Duration::from_millis(self.caller.broker.config().handshake_timeout_ms);
        let alarm = tokio::time::sleep_until(handshake_by);
        tokio::pin!(alarm);
        let mut beats = Beats::default();
        let lapse = tokio::time::sleep_until(self.born + self.lapse_every);
        tokio::pin!(lapse);
        debug!(connection = %self.name, "accepted");
        let registered = Arc::clone(&self.registered);
        loop {
            self.machine.set_time(self.now_ms());
            if self.out.len() < OUT_MAX {
                self.caller.mailbox.try_recv_many(&mut events, EVENTS_PER_TURN);
                self.take_events(&mut events);
            }
            let takes_answers = !self.takes_no_answers();
            if takes_answers {
                let before = self.out.len();
                self.advance();
                self.count_answers(before);
            }
            self.count_incoming();
            self.report_handed_over();
            if lapse.deadline() > Instant::now() + self.lapse_every {
                lapse.as_mut().reset(Instant::now() + self.lapse_every);
            }
            let deadline = self.deadline(&mut beats, handshake_by);
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            let reads = match &self.ending {
                Some(ended) => ended.discard_input,
                None => {
                    takes_answers
                        && self.pending.is_none()
                        && self.outbox.is_empty()
                        && self.stashed.is_none()
                        && !self.is_blocked
                }
            };
            if self.ending.is_some() && !reads && self.out.is_empty() {
                break;
            }
            if self.out.is_empty()
                && let Some(ended) = &mut self.ending
                && std::mem::take(&mut ended.half_closes)
            {
                // Some clients wait for this before they close; one that is gone has nothing to see.
                let _gone = write.shutdown().await;
            }
            if reads {
                self.make_room();
            }
            self.registered.flow.note_unwritten(self.out.len());
            let turn = tokio::select! {
                biased;
                wrote = write.write_buf(&mut self.out), if !self.out.is_empty() && !self.holds_back => Turn::Wrote(wrote),
                done = wait(&mut self.pending), if self.pending.is_some() => Turn::Done(Box::new(done)),
                () = room(&mut self.outbox), if !self.outbox.is_empty() => Turn::Room,
                count = self.caller.mailbox.recv_many(&mut events, EVENTS_PER_TURN), if self.out.len() < OUT_MAX => {
                    if count == 0 { break }
                    Turn::Events
                }
                got = read.read_buf(&mut self.input), if reads => Turn::Read(got),
                () = alarm.as_mut() => Turn::Alarm,
                () = lapse.as_mut(), if self.ending.is_none() => Turn::Lapse,
                () = registered.cut.notified() => break,
            };
            match turn {
                Turn::Wrote(Ok(0)) | Turn::Wrote(Err(_)) | Turn::Read(Ok(0)) | Turn::Read(Err(_)) => {
                    if self.ending.is_none() {
                        self.log_lost();
                    }
                    break;
                }
                Turn::Wrote(Ok(octets)) => {
                    beats.wrote = true;
                    self.registered.flow.note_written(octets);
                    self.count_written();
                }
                Turn::Read(Ok(_)) => {
                    beats.read = true;
                    if self.ending.is_some() {
                        self.discard();
                    }
                }
                Turn::Events => self.take_events(&mut events),
                Turn::Done(done) => {
                    let before = self.out.len();
                    self.on_done(*done);
                    self.count_answers(before);
                }
                Turn::Room => {}
                Turn::Lapse => {
                    self.lapse();
                    lapse.as_mut().reset(Instant::now() + self.lapse_every);
                }
                Turn::Alarm => {
                    if !self.on_alarm(&mut beats) {
                        break;
                    }
                }
            }
        }
        self.clean_up().await;
        // Whatever is still to be written is worth one try: a close-ok or an error text.
        let _lost = tokio::time::timeout(Duration::from_secs(1), async {
            while !self.out.is_empty() && write.write_buf(&mut self.out).await.is_ok_and(|wrote| wrote > 0) {}
            write.shutdown().await
        })
        .await;
    }

    /// Decodes and acts until something is outstanding or the input runs dry.
    fn advance(&mut self) {
        self.apply_channel_limit();
        self.step();
        if self.ending.is_some() && !self.input.is_empty() {
            self.discard();
        }
        self.count_channels();
    }

    fn step(&mut self) {
        while self.pending.is_none() && self.outbox.is_empty() && self.ending.is_none() && !self.is_blocked {
            let action = match self.stashed.take() {
                Some(action) => action,
                None => match self.machine.next(&mut self.input, &mut self.out) {
                    Some(Action::Publish(publish)) => {
                        self.block_if_alarmed();
                        if self.publisher.as_mut().is_some_and(|publisher| publisher.push(publish)) {
                            self.route(&View::MayLag);
                        }
                        continue;
                    }
                    // Also behind publishes: these may yet close its channel.
                    Some(settle @ Action::Settle { .. }) => {
                        self.act(settle);
                        continue;
                    }
                    Some(action) => action,
                    None => {
                        // A message of several frames, or one of a transaction.
                        if self.machine.take_content_came() {
                            self.block_if_alarmed();
                        }
                        break;
                    }
                },
            };
            if self.publisher.as_ref().is_some_and(|publisher| !publisher.is_empty()) {
                // The order of a channel: what was published before it goes first.
                self.route(&View::MayLag);
                if self.pending.is_some() || !self.outbox.is_empty() {
                    self.stashed = Some(action);
                    break;
                }
            }
            self.act(action);
        }
        if self.pending.is_none()
            && self.outbox.is_empty()
            && self.publisher.as_ref().is_some_and(|publisher| !publisher.is_empty())
        {
            self.route(&View::MayLag);
        }
    }

    /// A connection that publishes during an alarm is stopped, until [`ConnectionEvent::AlarmsOver`]: the publish at
    /// hand still counts, nothing more is read.
    fn block_if_alarmed(&mut self) {
        if !self.is_blocked
            && let Some(reason) = self.caller.broker.alarms().cluster().reason()
        {
            self.is_blocked = true;
            self.pressure.blocked_at = Some(Instant::now());
            self.look_later_at_what_it_keeps();
            self.registered.info.lock().blocked = true;
            self.machine.block(reason, &mut self.out);
        }
    }

    /// Goes on, if the alarms are still over.
    fn unblock(&mut self) {
        if self.is_blocked && self.caller.broker.alarms().cluster().reason().is_none() {
            self.is_blocked = false;
            self.registered.info.lock().blocked = false;
            self.machine.unblock(&mut self.out);
        }
    }

    fn end(&mut self, ending: Ending) {
        // Only where nobody has come in. After a close-ok the client closes, and some see an end that comes first as an
        // error of the connection.
        let half_closes = ending == Ending::Graceful && self.publisher.is_none();
        let (wait, discard_input) = match ending {
            Ending::Graceful => (LINGER, true),
            Ending::ByServer => (CLOSE_OK_WAIT, true),
            Ending::Done => (Duration::ZERO, false),
            Ending::Silent { delay_ms } => (Duration::from_millis(delay_ms), true),
        };
        if ending == Ending::ByServer && self.owns_queues && self.pending.is_none() {
            // A client that sees the close may declare them again at once.
            self.holds_back = true;
            let caller = self.caller.clone();
            self.wait_for(What::ClosingByServer, async move {
                let release = caller.broker.release_owner(caller.owner());
                Done::ReleasedBeforeClose(tokio::time::timeout(RELEASE_WAIT, release).await.is_ok())
            });
        }
        self.ending = Some(Ended { deadline: Instant::now() + wait, half_closes, discard_input });
    }

    /// After the end: the machine looks for a close-ok, everything else is dropped.
    fn discard(&mut self) {
        while let Some(action) = self.machine.next(&mut self.input, &mut self.out) {
            match action {
                Action::Closed(ending) => self.end(ending),
                Action::ChannelClosed { returned, waiting, subscriptions, .. } => {
                    self.channel_closed(&returned, &waiting, &subscriptions);
                }
                Action::Publish(_)
                | Action::CheckPublish(_)
                | Action::RolledBack { .. }
                | Action::Route
                | Action::Authenticate { .. }
                | Action::OpenVhost { .. }
                | Action::Settle { .. }
                | Action::Prefetch { .. }
                | Action::Request { .. }
                | Action::Closing => {}
            }
        }
        // A machine that is closed leaves what it does not read.
        if self.input.len() > READ_MAX {
            self.input.clear();
        }
    }

    fn wait_for(&mut self, what: What, done: impl Future<Output = Done> + Send + 'static) {
        self.pending = Some(Pending { what, done: Box::pin(done) });
    }

    fn make_room(&mut self) {
        let spare = self.input.capacity() - self.input.len();
        if spare < READ_MIN {
            let wanted = if self.input.is_empty() && spare == 0 && self.input.capacity() == 0 {
                READ_MIN
            } else {
                READ_MAX
            };
            self.input.reserve(wanted);
        }
    }

    fn vhost_is_open(&self) -> bool {
        self.publisher.is_some()
    }

    /// When time next matters: the end, the handshake's limit, or a heartbeat.
    fn deadline(&self, beats: &mut Beats, handshake_by: Instant) -> Instant {
        if let Some(ended) = &self.ending {
            return ended.deadline;
        }
        if !self.vhost_is_open() {
            return handshake_by;
        }
        let Some(interval_ms) = self.machine.heartbeat_tick_ms() else {
            return Instant::now() + Duration::from_secs(3600);
        };
        *beats.next.get_or_insert_with(|| Instant::now() + Duration::from_millis(interval_ms))
    }

    /// Time has come: false when the connection is over.
    fn on_alarm(&mut self, beats: &mut Beats) -> bool {
        if self.ending.is_some() {
            return false;
        }
        if !self.vhost_is_open() {
            info!(connection = %self.name, "handshake timed out");
            return false;
        }
        beats.next = None;
        // A connection that does not read cannot hear its client.
        let reads = self.pending.is_none() && self.outbox.is_empty() && !self.takes_no_answers();
        let read_any = std::mem::take(&mut beats.read) || !reads;
        let wrote_any = std::mem::take(&mut beats.wrote);
        match self.machine.heartbeat(read_any, wrote_any, &mut self.out) {
            Beat::Nothing | Beat::Send => true,
            Beat::Dead => {
                let timeout_s = self.machine.limits().heartbeat_s;
                info!(connection = %self.name, timeout_s, "missed heartbeats from client");
                false
            }
        }
    }

    fn note_state(&self) {
        let mut info = self.registered.info.lock();
        let limits = self.machine.limits();
        if info.user.is_empty() {
            info.user = self.caller.user.to_string();
        }
        info.vhost = self.caller.vhost.to_string();
        info.channels = u16::try_from(self.machine.channels().count()).unwrap_or(u16::MAX);
        info.heartbeat_s = limits.heartbeat_s;
        info.frame_max = limits.frame_max;
        if info.user_provided_name.is_none() && info.client_properties.inner().is_empty() {
            info.client_properties = self.machine.client_properties().clone();
            if let Some(warren_types::AMQPValue::LongString(name)) =
                info.client_properties.inner().get("connection_name")
            {
                info.user_provided_name = Some(name.to_string());
            }
        }
    }

    fn log_lost(&self) {
        if self.vhost_is_open() {
            info!(connection = %self.name, "client unexpectedly closed TCP connection");
        } else {
            debug!(connection = %self.name, "closed before it was opened");
        }
    }
}

/// What passed on the socket since the last look, and when the next one is due.
#[derive(Default)]
struct Beats {
    read: bool,
    wrote: bool,
    next: Option<Instant>,
}

async fn wait(pending: &mut Option<Pending>) -> Done {
    match pending {
        Some(pending) => pending.done.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Waits until the first of the outbox has room, and sends it and those behind it that have room too. Cancel safe.
async fn room(outbox: &mut VecDeque<(SessionHandle, SessionInput)>) {
    let Some((session, input)) = outbox.front_mut() else { return };
    session.make_room(input).await;
    if let Ok(permit) = session.clone().inputs().reserve().await {
        if let Some((_, input)) = outbox.pop_front() {
            permit.send(input);
        }
    } else {
        outbox.pop_front();
    }
    while let Some((session, input)) = outbox.pop_front() {
        if let Some(input) = session.offer(input) {
            outbox.push_front((session, input));
            break;
        }
    }
}
