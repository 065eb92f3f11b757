//! What clients saw, and what they must never see. Every rule is checked at the moment it can be broken; what can only be
//! told at the end is in [`History::judge`].

mod checks;
mod streams;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

pub(crate) use self::streams::From;
use self::streams::Stream;
use crate::kinds::Kind;
use crate::network::Host;
use crate::trace::Trace;

/// After so long without any disturbance what a client has sent is recorded.
const CALM_MS: u64 = 4000;

/// When an acknowledgement is sent that nobody has said anything about.
const NEVER: u64 = u64::MAX;

/// How long a delivery may be on its way behind which the broker has closed the connection.
const ON_THE_WAY_MS: u64 = 500;

/// One message: publisher, its connection, and its number on that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId {
    pub(crate) publisher: u32,
    pub(crate) connection: u32,
    pub(crate) number: u32,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.publisher, self.connection, self.number)
    }
}

impl MessageId {
    /// A body of `length` octets at least, which no other message has.
    pub(crate) fn body(self, length: usize) -> Vec<u8> {
        let mut body = Vec::with_capacity(length);
        for part in [self.publisher, self.connection, self.number, length as u32] {
            body.extend(part.to_be_bytes());
        }
        let filling = (self.number ^ self.publisher << 5) as u8;
        body.resize(length.max(16), filling);
        body
    }

    /// Whose body it is, if it is one.
    pub(crate) fn of_body(body: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            body.get(at..at + 4).and_then(|word| <[u8; 4]>::try_from(word).ok()).map(u32::from_be_bytes)
        };
        let id = Self { publisher: word(0)?, connection: word(4)?, number: word(8)? };
        (id.body(word(12)? as usize) == body).then_some(id)
    }
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its transaction is not committed: nobody may see it.
    Uncommitted,
    /// Sent, no answer.
    Open,
    Confirmed,
    /// Refused, or never answered.
    Unknown,
}

struct Message {
    published: Published,
    fate: Fate,
}

/// What a message is published as.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    pub(crate) queues: Vec<usize>,
    /// Nobody may have it before; 0: it is not delayed.
    pub(crate) due_ms: u64,
    /// What queues that deduplicate know it by.
    pub(crate) key: Option<u64>,
}

#[derive(Default)]
struct Copy {
    deliveries: u32,
    /// Sent acknowledgements: when, from which session. [`NEVER`] for one that may or may not count.
    acks: Vec<(u64, u64)>,
    /// Sessions that hold it, and since when.
    holders: BTreeMap<u64, u64>,
}

/// A consumer, from `basic.consume` to its end.
struct Session {
    queue: usize,
    host: Host,
    prefetch: usize,
    held: usize,
    /// The newest message that came for the first time, of each publisher's connection.
    /// And of each priority.
    newest: BTreeMap<(u32, u32, u32), u32>,
    began: u64,
    ended: Option<u64>,
}

/// When the cluster was disturbed.
#[derive(Default)]
struct Disturbances {
    /// The calm that is now began then.
    calm_since: Option<u64>,
    /// Calms that are over.
    calms: Vec<(u64, u64)>,
    /// The last disturbance that touched a machine.
    touched: BTreeMap<Host, u64>,
    /// Ends of processes there.
    died: BTreeMap<Host, Vec<u64>>,
}

/// Everything that clients saw. Cheap to clone.
#[derive(Clone)]
pub(crate) struct History(Arc<Mutex<Inner>>);

struct Inner {
    trace: Trace,
    kinds: Arc<[Kind]>,
    /// Of a queue with one consumer at a time: the session that its last delivery went to.
    active: BTreeMap<usize, u64>,
    messages: BTreeMap<MessageId, Message>,
    copies: BTreeMap<(usize, MessageId), Copy>,
    /// What queues that deduplicate have delivered of each key.
    keys: BTreeMap<(usize, u64), MessageId>,
    /// Of each that is a stream.
    streams: BTreeMap<usize, Stream>,
    sessions: BTreeMap<u64, Session>,
    next_session: u64,
    disturbances: Disturbances,
    violations: Vec<String>,
    /// What is a violation unless the session is found to have ended: what came was on its way for a while then. When, of
    /// which session.
    suspects: Vec<(u64, u64, String)>,
    confirmed: u64,
    deliveries: u64,
}

/// Violations that are kept: one bug makes many.
const VIOLATIONS_MAX: usize = 20;

impl History {
    pub(crate) fn new(trace: Trace, kinds: Arc<[Kind]>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            trace,
            kinds,
            active: BTreeMap::new(),
            messages: BTreeMap::new(),
            copies: BTreeMap::new(),
            keys: BTreeMap::new(),
            streams: BTreeMap::new(),
            sessions: BTreeMap::new(),
            next_session: 0,
            disturbances: Disturbances::default(),
            violations: Vec::new(),
            suspects: Vec::new(),
            confirmed: 0,
            deliveries: 0,
        })))
    }

    pub(crate) fn published(&self, id: MessageId, published: Published, fate: Fate) {
        self.0.lock().messages.insert(id, Message { published, fate });
    }

    /// The commit of its transaction goes out.
    pub(crate) fn commits(&self, id: MessageId) {
        if let Some(message) = self.0.lock().messages.get_mut(&id) {
            message.fate = Fate::Open;
        }
    }

    pub(crate) fn confirmed(&self, id: MessageId) {
        let mut inner = self.0.lock();
        let Some(message) = inner.messages.get_mut(&id) else { return };
        let before = std::mem::replace(&mut message.fate, Fate::Confirmed);
        inner.confirmed += 1;
        if before != Fate::Open {
            inner.violation(format_args!("contradiction: {id} is confirmed after it was {before:?}"));
        }
        inner.trace.clone().note(format_args!("confirmed {id}"));
    }

    /// It was refused, or its connection is gone.
    pub(crate) fn unknown(&self, id: MessageId) {
        if let Some(message) = self.0.lock().messages.get_mut(&id)
            && message.fate == Fate::Open
        {
            message.fate = Fate::Unknown;
        }
    }

    pub(crate) fn returned(&self, body: &[u8]) {
        let mut inner = self.0.lock();
        let id = MessageId::of_body(body);
        inner.violation(format_args!("returned as unroutable: {id:?}"));
    }

    pub(crate) fn consumes(&self, queue: usize, host: Host, prefetch: usize) -> u64 {
        let mut inner = self.0.lock();
        inner.next_session += 1;
        let (number, began) = (inner.next_session, inner.trace.now_ms());
        let session = Session { queue, host, prefetch, held: 0, newest: BTreeMap::new(), began, ended: None };
        inner.sessions.insert(number, session);
        number
    }

    /// A delivery came; returns whose it is.
    pub(crate) fn delivered(
        &self,
        session: u64,
        redelivered: bool,
        offset: Option<u64>,
        body: &[u8],
    ) -> Option<MessageId> {
        let mut guard = self.0.lock();
        let inner = &mut *guard;
        let now = inner.trace.now_ms();
        inner.deliveries += 1;
        let queue = inner.sessions.get(&session)?.queue;
        let known = MessageId::of_body(body)
            .filter(|id| inner.messages.get(id).is_some_and(|message| inner.comes_to(message, queue)));
        let Some(id) = known else {
            inner.violation(format_args!(
                "invented: queue {queue} delivered {} octets that nobody published to it",
                body.len()
            ));
            return None;
        };
        inner.trace.clone().note(format_args!(
            "delivered {id} of q{queue} to {session}{}",
            if redelivered { " again" } else { "" }
        ));
        inner.check_message(queue, id, now);
        if !redelivered {
            inner.check_order(session, queue, id);
        }
        match inner.kind(queue) {
            Kind::Stream => inner.check_place(session, queue, offset, id, redelivered),
            Kind::Dead => {}
            Kind::SingleActive => {
                inner.check_copy(session, queue, id, redelivered, now);
                inner.check_active(session, queue, id, now);
            }
            Kind::Plain | Kind::Priority | Kind::Mortal { .. } | Kind::Dedup => {
                inner.check_copy(session, queue, id, redelivered, now);
            }
        }
        if inner.kind(queue) != Kind::Stream {
            let copy = inner.copies.entry((queue, id)).or_default();
            copy.deliveries += 1;
            copy.holders.insert(session, now);
        }
        let late = inner.may_be_late(session, now);
        if let Some(of) = inner.sessions.get_mut(&session) {
            of.held += 1;
            if of.prefetch != 0 && of.held > of.prefetch && !late {
                let (held, prefetch) = (of.held, of.prefetch);
                inner.violation(format_args!(
                    "prefetch: session {session} holds {held} with a prefetch of {prefetch}"
                ));
            }
        }
        Some(id)
    }

    /// An acknowledgement went out.
    pub(crate) fn acknowledged(&self, session: u64, id: MessageId) {
        let mut inner = self.0.lock();
        let now = inner.trace.now_ms();
        let Some(queue) = inner.give_up(session, id) else { return };
        if let Some(copy) = inner.copies.get_mut(&(queue, id)) {
            copy.acks.push((now, session));
        }
    }

    /// The commit of an acknowledgement goes out: from now on it may count.
    pub(crate) fn commits_acknowledgement(&self, session: u64, id: MessageId) {
        let mut inner = self.0.lock();
        let Some(queue) = inner.give_up(session, id) else { return };
        if let Some(copy) = inner.copies.get_mut(&(queue, id)) {
            copy.acks.push((NEVER, session));
        }
    }

    /// The commit was answered: it counts.
    pub(crate) fn committed_acknowledgement(&self, session: u64, id: MessageId) {
        let mut inner = self.0.lock();
        let now = inner.trace.now_ms();
        let Some(queue) = inner.sessions.get(&session).map(|of| of.queue) else { return };
        if let Some(copy) = inner.copies.get_mut(&(queue, id)) {
            copy.acks.push((now, session));
        }
    }

    /// A reject with requeue went out.
    pub(crate) fn returned_to_queue(&self, session: u64, id: MessageId) {
        self.0.lock().give_up(session, id);
    }

    /// The consumer is no more; what it held is the broker's again.
    pub(crate) fn session_ended(&self, session: u64) {
        let mut inner = self.0.lock();
        let now = inner.trace.now_ms();
        if let Some(of) = inner.sessions.get_mut(&session) {
            of.ended = Some(now);
            of.held = 0;
        }
        inner.suspects.retain(|(at, of, _)| *of != session || at.saturating_add(ON_THE_WAY_MS) < now);
        for copy in inner.copies.values_mut() {
            copy.holders.remove(&session);
        }
    }

    /// Something happened to these machines, or goes on happening.
    pub(crate) fn disturbed(&self, hosts: &[Host]) {
        let mut inner = self.0.lock();
        let now = inner.trace.now_ms();
        let of = &mut inner.disturbances;
        if let Some(since) = of.calm_since.take() {
            of.calms.push((since, now));
        }
        for host in hosts {
            of.touched.insert(*host, now);
        }
    }

    pub(crate) fn died(&self, host: Host) {
        let mut inner = self.0.lock();
        let now = inner.trace.now_ms();
        inner.disturbances.died.entry(host).or_default().push(now);
    }

    /// Nothing is wrong any more.
    pub(crate) fn calm(&self) {
        let mut inner = self.0.lock();
        let now = inner.trace.now_ms();
        inner.disturbances.calm_since.get_or_insert(now);
    }

    pub(crate) fn violation(&self, text: fmt::Arguments<'_>) {
        self.0.lock().violation(text);
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        let inner = self.0.lock();
        let suspects = inner.suspects.iter().map(|(at, _, text)| format!("at {at} ms: {text}"));
        inner.violations.iter().cloned().chain(suspects).take(VIOLATIONS_MAX).collect()
    }

    pub(crate) fn counts(&self) -> (u64, u64) {
        let inner = self.0.lock();
        (inner.confirmed, inner.deliveries)
    }

    /// Messages that were confirmed and that nobody has acknowledged yet, by queue; of a stream, that the last readers have
    /// not read.
    pub(crate) fn outstanding(&self) -> BTreeMap<usize, Vec<MessageId>> {
        let inner = self.0.lock();
        let mut left: BTreeMap<usize, Vec<MessageId>> = BTreeMap::new();
        let dead = inner.kinds.iter().position(|kind| *kind == Kind::Dead);
        for (id, message) in inner.messages.iter().filter(|(_, message)| message.fate == Fate::Confirmed) {
            // Each of these may stand for one of the queues that it may have died in.
            let mut deaths = dead.map_or(0, |dead| inner.acks(dead, *id));
            for queue in &message.published.queues {
                if inner.is_done(*queue, *id, message) {
                    continue;
                }
                if inner.kind(*queue).is_mortal() && deaths > 0 {
                    deaths -= 1;
                } else {
                    left.entry(*queue).or_default().push(*id);
                }
            }
        }
        left
    }

    /// The queues are said to be empty: what is missing now is lost.
    pub(crate) fn judge(&self) {
        let left = self.outstanding();
        let mut inner = self.0.lock();
        for (queue, ids) in left {
            let first: Vec<String> = ids.iter().take(5).map(ToString::to_string).collect();
            inner.violation(format_args!(
                "lost: {} confirmed messages of q{queue}: {}",
                ids.len(),
                first.join(" ")
            ));
        }
    }
}

impl Inner {
    fn acks(&self, queue: usize, id: MessageId) -> usize {
        self.copies.get(&(queue, id)).map_or(0, |copy| copy.acks.len())
    }

    /// Whether somebody has had it from the queue, or what came before it with its key.
    fn is_done(&self, queue: usize, id: MessageId, message: &Message) -> bool {
        if let Some(stream) = self.streams.get(&queue) {
            return stream.was_read_at_the_end(id);
        }
        let first = message.published.key.and_then(|key| self.keys.get(&(queue, key)));
        self.acks(queue, *first.unwrap_or(&id)) > 0
    }

    fn kind(&self, queue: usize) -> Kind {
        self.kinds.get(queue).copied().unwrap_or(Kind::Plain)
    }

    fn violation(&mut self, text: fmt::Arguments<'_>) {
        let text = format!("at {} ms: {text}", self.trace.now_ms());
        self.trace.note(format_args!("VIOLATION {text}"));
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(text);
        }
    }

    /// The session has it no more; returns the queue.
    fn give_up(&mut self, session: u64, id: MessageId) -> Option<usize> {
        let of = self.sessions.get_mut(&session)?;
        of.held = of.held.saturating_sub(1);
        let queue = of.queue;
        if let Some(copy) = self.copies.get_mut(&(queue, id)) {
            copy.holders.remove(&session);
        }
        Some(queue)
    }
}
