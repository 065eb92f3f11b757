//! Those who consume, or poll: they acknowledge, requeue, reject, leave and move on.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{BEAT, COMMIT_PATIENCE, Field, SILENCE};
use crate::amqp::{Client, Event, Method};
use crate::chance::Chance;
use crate::history::MessageId;
use crate::kinds::Kind;
use crate::network::Host;

/// Consumes one queue at a time, for ever.
pub(crate) struct Consumer {
    pub(crate) number: u32,
    pub(crate) field: Field,
    pub(crate) chance: Chance,
    /// The first queue.
    pub(crate) queue: usize,
    /// Of streams: the last offset that it has seen.
    pub(crate) read_up_to: BTreeMap<usize, u64>,
}

/// What a consumer holds, in order of their tags.
#[derive(Default)]
struct Held {
    open: BTreeMap<u64, MessageId>,
    /// On a channel with transactions: what it has acknowledged since the last commit.
    transaction: Option<BTreeMap<u64, MessageId>>,
}

/// Acknowledgements of a transaction after which it is committed.
const COMMIT_MAX: usize = 12;

impl Held {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.transaction.as_ref().is_none_or(BTreeMap::is_empty)
    }
}

impl Consumer {
    pub(crate) async fn run(mut self) {
        loop {
            let (host, mut client) = self.field.connect(&mut self.chance).await;
            if self.drains() {
                self.queue = self.own_queue();
            }
            let ended = if self.field.kind(self.queue) == Kind::Stream {
                self.read(&mut client, host).await
            } else if self.chance.permille(150) && !self.drains() {
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
    pub(super) fn own_queue(&self) -> usize {
        self.number as usize % self.field.queues()
    }

    pub(super) fn drains(&self) -> bool {
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
        let mut held = Held::default();
        if self.chance.permille(150) {
            client.ask(Method::new(90, 10), 90, 11).await?;
            held.transaction = Some(BTreeMap::new());
        }
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
                        held.open.insert(tag, id);
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
        let Held { open, transaction } = held;
        if let Some(acknowledged) = transaction {
            return self.transact(client, session, open, acknowledged).await;
        }
        let (history, kind) = (&self.field.history, self.chance.within(0, 100));
        let Some((&first, &id)) = open.first_key_value() else { return Ok(()) };
        let mortal = self.field.kind(self.queue).is_mortal();
        if !self.drains() {
            if mortal && (30..45).contains(&kind) {
                client.send(1, Method::new(60, 90).longlong(first).octet(0)).await?;
                history.returned_to_queue(session, id);
                open.remove(&first);
                return Ok(());
            }
            if kind < 6 || (mortal && kind < 20) {
                client.send(1, Method::new(60, 90).longlong(first).octet(1)).await?;
                history.returned_to_queue(session, id);
                open.remove(&first);
                return Ok(());
            }
            if !mortal && kind < 9 {
                let Some((&last, _)) = open.last_key_value() else { return Ok(()) };
                client.send(1, Method::new(60, 120).longlong(last).octet(3)).await?;
                std::mem::take(open).into_values().for_each(|id| history.returned_to_queue(session, id));
                return Ok(());
            }
        }
        let answered = acknowledge(client, open, kind < 30).await?;
        answered.into_values().for_each(|id| history.acknowledged(session, id));
        Ok(())
    }

    /// Acknowledges in a transaction, commits it, or takes it back: then everything is held as before.
    async fn transact(
        &mut self,
        client: &mut Client,
        session: u64,
        open: &mut BTreeMap<u64, MessageId>,
        acknowledged: &mut BTreeMap<u64, MessageId>,
    ) -> io::Result<()> {
        if !open.is_empty() && acknowledged.len() < COMMIT_MAX && self.chance.permille(800) {
            acknowledged.extend(acknowledge(client, open, self.chance.permille(300)).await?);
            return Ok(());
        }
        let ends = std::mem::take(acknowledged);
        let commits = self.drains() || self.chance.permille(800);
        client.send(1, Method::new(90, if commits { 20 } else { 30 })).await?;
        if commits {
            ends.values().for_each(|id| self.field.history.commits_acknowledgement(session, *id));
        }
        loop {
            let event = timeout(COMMIT_PATIENCE, client.next()).await;
            match event.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))? {
                Event::Method { class: 90, method: 21 | 31, .. } => break,
                other => open.extend(self.take(other, session)?),
            }
        }
        if commits {
            ends.into_values().for_each(|id| self.field.history.committed_acknowledgement(session, id));
        } else {
            open.extend(ends);
        }
        Ok(())
    }

    pub(super) fn take(&self, event: Event, session: u64) -> io::Result<Option<(u64, MessageId)>> {
        match event {
            Event::Message { tag, redelivered, offset, body } => {
                let id = self.field.history.delivered(session, redelivered, offset, &body);
                Ok(id.map(|id| (tag, id)))
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

/// Acknowledges the first of these, or all; returns which.
pub(super) async fn acknowledge(
    client: &mut Client,
    open: &mut BTreeMap<u64, MessageId>,
    all: bool,
) -> io::Result<BTreeMap<u64, MessageId>> {
    let tag = if all { open.last_key_value() } else { open.first_key_value() };
    let Some((&tag, _)) = tag else { return Ok(BTreeMap::new()) };
    client.send(1, Method::new(60, 80).longlong(tag).octet(u8::from(all))).await?;
    let later = open.split_off(&(tag + 1));
    Ok(std::mem::replace(open, later))
}
