//! Publishers and consumers of several kinds. Each connects to whichever node it likes and goes to another when that is gone.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::amqp::{Client, Event, HEARTBEAT_S, Method};
use crate::chance::Chance;
use crate::history::{Fate, History, MessageId};
use crate::kinds::{DEAD, Kind, priority};
use crate::network::{CLIENTS, Host, Net, Port};
use crate::trace::Trace;

/// The exchange that is bound to all queues.
pub(crate) const FAN: &str = "fan";
const SILENCE: Duration = Duration::from_secs(2 * HEARTBEAT_S as u64);
const BEAT: Duration = Duration::from_secs(HEARTBEAT_S as u64 / 2);
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// How long a commit may take.
const COMMIT_PATIENCE: Duration = Duration::from_secs(40);

/// What clients share.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) net: Net,
    pub(crate) history: History,
    pub(crate) trace: Trace,
    /// What the queues are.
    pub(crate) kinds: Arc<[Kind]>,
    pub(crate) switches: Arc<Switches>,
}

/// What clients are told.
#[derive(Default)]
pub(crate) struct Switches {
    /// Nothing more is published.
    pub(crate) enough: AtomicBool,
    /// Consumers acknowledge everything at once and stay.
    pub(crate) drain: AtomicBool,
    /// Publishers that have not ended.
    pub(crate) publishers: AtomicU32,
    /// Machines that clients know.
    pub(crate) nodes: AtomicUsize,
}

impl Field {
    fn queues(&self) -> usize {
        self.kinds.len()
    }

    /// Those that are published to.
    fn targets(&self) -> usize {
        self.kinds.iter().filter(|kind| **kind != Kind::Dead).count()
    }

    fn kind(&self, queue: usize) -> Kind {
        self.kinds.get(queue).copied().unwrap_or(Kind::Plain)
    }

    fn name(&self, queue: usize) -> String {
        match self.kind(queue) {
            Kind::Dead => DEAD.to_owned(),
            Kind::Plain | Kind::Priority | Kind::SingleActive | Kind::Mortal { .. } => format!("q{queue}"),
        }
    }

    /// A connection to any node, and which one; tries until there is one.
    async fn connect(&self, chance: &mut Chance) -> (Host, Client) {
        loop {
            let host = 1 + chance.index(self.switches.nodes.load(Ordering::Relaxed));
            let opening = async {
                let stream = self.net.connect(CLIENTS, host, Port::Amqp).await?;
                Client::open(stream).await
            };
            if let Ok(Ok(client)) = timeout(CONNECT_PATIENCE, opening).await {
                return (host, client);
            }
            sleep(Duration::from_millis(chance.within(50, 400))).await;
        }
    }

    /// Makes queues and the exchange; tries until they are there.
    pub(crate) async fn declare(&self, mut chance: Chance) {
        loop {
            let (_, mut client) = self.connect(&mut chance).await;
            if self.try_declare(&mut client).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(300)).await;
        }
    }

    async fn try_declare(&self, client: &mut Client) -> io::Result<()> {
        let fan = Method::new(40, 10).short(0).shortstr(FAN).shortstr("fanout").octet(2).table();
        client.ask(fan, 40, 11).await?;
        for queue in 0..self.queues() {
            let (name, arguments) = (self.name(queue), self.kind(queue).arguments());
            let declare = Method::new(50, 10).short(0).shortstr(&name).octet(2).arguments(&arguments);
            client.ask(declare, 50, 11).await?;
            if self.kind(queue) == Kind::Dead {
                continue;
            }
            let bind =
                Method::new(50, 20).short(0).shortstr(&name).shortstr(FAN).shortstr("").octet(0).table();
            client.ask(bind, 50, 21).await?;
        }
        Ok(())
    }

    /// How many messages are ready in each queue; `None` if a question is not answered.
    pub(crate) async fn depths(&self, mut chance: Chance) -> Option<Vec<u32>> {
        let (_, mut client) = self.connect(&mut chance).await;
        let mut depths = Vec::new();
        for queue in 0..self.queues() {
            let passive = Method::new(50, 10).short(0).shortstr(&self.name(queue)).octet(1).table();
            let mut answer = client.ask(passive, 50, 11).await.ok()?;
            answer.shortstr();
            depths.push(answer.long());
        }
        Some(depths)
    }
}

/// Publishes with confirms until it is enough.
pub(crate) struct Publisher {
    pub(crate) number: u32,
    pub(crate) field: Field,
    pub(crate) chance: Chance,
}

impl Publisher {
    pub(crate) async fn run(mut self) {
        let mut connection = 0;
        while !self.field.switches.enough.load(Ordering::Relaxed) {
            let (host, mut client) = self.field.connect(&mut self.chance).await;
            connection += 1;
            self.field.trace.note(format_args!("publisher {} is on {host} as {connection}", self.number));
            let mut open = BTreeMap::new();
            let ended = if self.chance.permille(200) {
                self.transact(&mut client, connection, &mut open).await
            } else {
                self.publish(&mut client, connection, &mut open).await
            };
            for id in open.into_values() {
                self.field.history.unknown(id);
            }
            match ended {
                Ok(()) => drop(client.close().await),
                Err(error) => {
                    self.field.trace.note(format_args!("publisher {} lost {host}: {error}", self.number))
                }
            }
        }
        self.field.switches.publishers.fetch_sub(1, Ordering::Relaxed);
    }

    async fn publish(
        &mut self,
        client: &mut Client,
        connection: u32,
        open: &mut BTreeMap<u64, MessageId>,
    ) -> io::Result<()> {
        client.ask(Method::new(85, 10).octet(0), 85, 11).await?;
        let window = 1 + self.chance.index(24);
        let pause_ms = self.chance.of([4, 15, 60]);
        let life = 20 + self.chance.within(0, 400);
        let mut number: u32 = 0;
        let mut silent = Duration::ZERO;
        loop {
            let enough = self.field.switches.enough.load(Ordering::Relaxed) || u64::from(number) >= life;
            if enough && open.is_empty() {
                return Ok(());
            }
            let wait = if enough || open.len() >= window {
                BEAT
            } else {
                number += 1;
                let id = MessageId { publisher: self.number, connection, number };
                open.insert(u64::from(number), id);
                self.send(client, id, Fate::Open).await?;
                Duration::from_millis(self.chance.within(0, pause_ms))
            };
            match timeout(wait, client.next()).await {
                Ok(event) => {
                    silent = Duration::ZERO;
                    self.take(event?, open)?;
                }
                Err(_) => {
                    silent += wait;
                    if silent > SILENCE {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    if wait == BEAT {
                        client.beat().await?;
                    }
                }
            }
        }
    }

    /// Publishes one message, to one queue or all.
    async fn send(&mut self, client: &mut Client, id: MessageId, fate: Fate) -> io::Result<()> {
        let length = if self.chance.permille(20) {
            self.chance.within(2000, 60_000)
        } else {
            self.chance.within(16, 200)
        };
        let body = id.body(usize::try_from(length).unwrap_or(16));
        let targets = self.field.targets();
        if self.chance.permille(100) {
            self.field.history.published(id, (0..targets).collect(), fate);
            client.publish(FAN, "", priority(id), &body).await
        } else {
            let queue = self.chance.index(targets);
            self.field.history.published(id, vec![queue], fate);
            client.publish("", &self.field.name(queue), priority(id), &body).await
        }
    }

    /// Publishes in transactions, most of which are committed.
    async fn transact(
        &mut self,
        client: &mut Client,
        connection: u32,
        open: &mut BTreeMap<u64, MessageId>,
    ) -> io::Result<()> {
        client.ask(Method::new(90, 10), 90, 11).await?;
        let mut number: u32 = 0;
        for _ in 0..self.chance.within(2, 30) {
            if self.field.switches.enough.load(Ordering::Relaxed) {
                break;
            }
            for _ in 0..self.chance.within(1, 9) {
                number += 1;
                let id = MessageId { publisher: self.number, connection, number };
                open.insert(u64::from(number), id);
                self.send(client, id, Fate::Uncommitted).await?;
            }
            if self.chance.permille(150) {
                sleep(Duration::from_millis(self.chance.within(0, 300))).await;
                client.ask(Method::new(90, 30), 90, 31).await?;
                open.clear();
            } else {
                open.values().for_each(|id| self.field.history.commits(*id));
                self.commit(client).await?;
                std::mem::take(open).into_values().for_each(|id| self.field.history.confirmed(id));
            }
            sleep(Duration::from_millis(self.chance.within(0, 100))).await;
        }
        Ok(())
    }

    async fn commit(&self, client: &mut Client) -> io::Result<()> {
        client.send(1, Method::new(90, 20)).await?;
        let answered = timeout(COMMIT_PATIENCE, async {
            loop {
                match client.next().await? {
                    Event::Method { class: 90, method: 21, .. } => return Ok(()),
                    Event::Returned { body } => self.field.history.returned(&body),
                    Event::Heartbeat => {}
                    other => return Err(io::Error::other(format!("{other:?}"))),
                }
            }
        });
        answered.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn take(&self, event: Event, open: &mut BTreeMap<u64, MessageId>) -> io::Result<()> {
        match event {
            Event::Method { class: 60, method: method @ (80 | 120), mut arguments } => {
                let (tag, bits) = (arguments.longlong(), arguments.octet());
                let later = open.split_off(&(tag + 1));
                let mut answered = std::mem::replace(open, later);
                if bits & 1 == 0 {
                    let one = answered.remove(&tag);
                    open.extend(answered);
                    answered = one.map(|id| (tag, id)).into_iter().collect();
                }
                for id in answered.into_values() {
                    if method == 80 {
                        self.field.history.confirmed(id);
                    } else {
                        self.field.history.unknown(id);
                    }
                }
                Ok(())
            }
            Event::Returned { body } => {
                self.field.history.returned(&body);
                Ok(())
            }
            Event::Heartbeat => Ok(()),
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }
}

/// Consumes one queue at a time, for ever.
pub(crate) struct Consumer {
    pub(crate) number: u32,
    pub(crate) field: Field,
    pub(crate) chance: Chance,
    /// The first queue.
    pub(crate) queue: usize,
}

/// What a consumer holds, in order of their tags.
type Held = BTreeMap<u64, MessageId>;

impl Consumer {
    pub(crate) async fn run(mut self) {
        loop {
            let (host, mut client) = self.field.connect(&mut self.chance).await;
            if self.drains() {
                self.queue = self.own_queue();
            }
            let ended = if self.chance.permille(150) && !self.drains() {
                self.poll(&mut client, host).await
            } else {
                self.consume(&mut client, host).await
            };
            match ended {
                // Some go without a word.
                Ok(()) if self.chance.permille(700) => drop(client.close().await),
                Ok(()) => drop(client),
                Err(error) => {
                    self.field.trace.note(format_args!("consumer {} lost {host}: {error}", self.number));
                }
            }
            if !self.drains() && self.chance.permille(300) {
                self.queue = self.chance.index(self.field.queues());
            }
            sleep(Duration::from_millis(self.chance.within(1, 500))).await;
        }
    }

    /// At the end each queue has a consumer.
    fn own_queue(&self) -> usize {
        self.number as usize % self.field.queues()
    }

    fn drains(&self) -> bool {
        self.field.switches.drain.load(Ordering::Relaxed)
    }

    /// With `basic.consume`.
    async fn consume(&mut self, client: &mut Client, host: Host) -> io::Result<()> {
        let prefetch = self.chance.of([1, 3, 20, 100]);
        client.ask(Method::new(60, 10).long(0).short(prefetch).octet(0), 60, 11).await?;
        let session = self.field.history.consumes(self.queue, host, usize::from(prefetch));
        self.field.trace.note(format_args!(
            "consumer {} of q{} is on {host} as {session}, prefetch {prefetch}",
            self.number, self.queue
        ));
        let consume = Method::new(60, 20)
            .short(0)
            .shortstr(&self.field.name(self.queue))
            .shortstr("c")
            .octet(0)
            .table();
        client.send(1, consume).await?;
        let ended = self.handle(client, session).await;
        self.field.history.session_ended(session);
        ended
    }

    async fn handle(&mut self, client: &mut Client, session: u64) -> io::Result<()> {
        let slow_ms = self.chance.of([0, 5, 50]);
        let mut life = 5 + self.chance.within(0, 300);
        let mut held = Held::new();
        let mut silent = Duration::ZERO;
        let mut idle = 0;
        loop {
            let busy = !held.is_empty();
            let think_ms = if self.drains() { 0 } else { slow_ms };
            let wait =
                if busy { Duration::from_millis(self.chance.within(0, think_ms + 1)) } else { BEAT / 4 };
            match timeout(wait, client.next()).await {
                Ok(event) => {
                    silent = Duration::ZERO;
                    if let Some((tag, id)) = self.take(event?, session)? {
                        held.insert(tag, id);
                        life = life.saturating_sub(1);
                    }
                }
                Err(_) if busy => self.settle(client, session, &mut held).await?,
                Err(_) => {
                    silent += wait;
                    idle += 1;
                    client.beat().await?;
                    if silent > SILENCE {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
            }
            let leaves = if self.drains() { self.queue != self.own_queue() } else { life == 0 || idle > 30 };
            if leaves {
                return Ok(());
            }
        }
    }

    /// Answers some of what is held.
    async fn settle(&mut self, client: &mut Client, session: u64, held: &mut Held) -> io::Result<()> {
        let (history, kind) = (&self.field.history, self.chance.within(0, 100));
        let Some((&first, &id)) = held.first_key_value() else { return Ok(()) };
        let mortal = self.field.kind(self.queue).is_mortal();
        if !self.field.switches.drain.load(Ordering::Relaxed) {
            if mortal && (30..45).contains(&kind) {
                client.send(1, Method::new(60, 90).longlong(first).octet(0)).await?;
                history.returned_to_queue(session, id);
                held.remove(&first);
                return Ok(());
            }
            if kind < 6 || (mortal && kind < 20) {
                client.send(1, Method::new(60, 90).longlong(first).octet(1)).await?;
                history.returned_to_queue(session, id);
                held.remove(&first);
                return Ok(());
            }
            if !mortal && kind < 9 {
                let Some((&last, _)) = held.last_key_value() else { return Ok(()) };
                client.send(1, Method::new(60, 120).longlong(last).octet(3)).await?;
                std::mem::take(held).into_values().for_each(|id| history.returned_to_queue(session, id));
                return Ok(());
            }
        }
        if kind < 30 {
            let Some((&last, _)) = held.last_key_value() else { return Ok(()) };
            client.send(1, Method::new(60, 80).longlong(last).octet(1)).await?;
            std::mem::take(held).into_values().for_each(|id| history.acknowledged(session, id));
        } else {
            client.send(1, Method::new(60, 80).longlong(first).octet(0)).await?;
            history.acknowledged(session, id);
            held.remove(&first);
        }
        Ok(())
    }

    fn take(&self, event: Event, session: u64) -> io::Result<Option<(u64, MessageId)>> {
        match event {
            Event::Message { tag, redelivered, body, .. } => {
                Ok(self.field.history.delivered(session, redelivered, &body).map(|id| (tag, id)))
            }
            Event::Heartbeat | Event::Method { class: 60, method: 21, .. } => Ok(None),
            Event::Method { class, method, mut arguments } => {
                let (code, text) = (arguments.short(), arguments.shortstr());
                Err(io::Error::other(format!("{class}.{method} {code} {text}")))
            }
            other => Err(io::Error::other(format!("{other:?}"))),
        }
    }

    /// With `basic.get`.
    async fn poll(&mut self, client: &mut Client, host: Host) -> io::Result<()> {
        let session = self.field.history.consumes(self.queue, host, 0);
        self.field
            .trace
            .note(format_args!("consumer {} polls q{} on {host} as {session}", self.number, self.queue));
        let ended = self.get(client, session).await;
        self.field.history.session_ended(session);
        ended
    }

    async fn get(&mut self, client: &mut Client, session: u64) -> io::Result<()> {
        for _ in 0..self.chance.within(1, 60) {
            client
                .send(1, Method::new(60, 70).short(0).shortstr(&self.field.name(self.queue)).octet(0))
                .await?;
            let event = timeout(SILENCE, async {
                loop {
                    match client.next().await {
                        Ok(Event::Heartbeat) => {}
                        other => return other,
                    }
                }
            });
            let event = event.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            if let Event::Method { class: 60, method: 72, .. } = event {
                sleep(Duration::from_millis(self.chance.within(10, 300))).await;
                client.beat().await?;
                continue;
            }
            if let Some((tag, id)) = self.take(event, session)? {
                client.send(1, Method::new(60, 80).longlong(tag).octet(0)).await?;
                self.field.history.acknowledged(session, id);
            }
        }
        Ok(())
    }
}
