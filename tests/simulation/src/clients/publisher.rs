//! Those who publish: with confirms, or in transactions.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{BEAT, COMMIT_PATIENCE, FAN, Field, LATE, SILENCE};
use crate::amqp::{Client, Event, Method, Publish, Value};
use crate::chance::Chance;
use crate::history::{Fate, MessageId, Published};
use crate::kinds::{Kind, priority};

/// A key is used again among so many that follow it.
const KEYS_BACK: u64 = 6;

/// Publishes with confirms until it is enough.
pub(crate) struct Publisher {
    pub(crate) number: u32,
    pub(crate) field: Field,
    pub(crate) chance: Chance,
    /// Keys that were used.
    pub(crate) keys: u64,
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
        let pause_ms = self.chance.of([6, 30, 90]);
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

    /// Publishes one message, to one queue or all; now, or with a delay.
    async fn send(&mut self, client: &mut Client, id: MessageId, fate: Fate) -> io::Result<()> {
        let length = if self.chance.permille(20) {
            self.chance.within(2000, 60_000)
        } else {
            self.chance.within(16, 200)
        };
        let body = id.body(usize::try_from(length).unwrap_or(16));
        let targets = self.field.targets();
        let (mut due_ms, mut headers) = (0, Vec::new());
        let queues = if self.chance.permille(100) {
            (0..targets).collect()
        } else {
            if self.chance.permille(60) {
                let delay_ms = self.chance.of([30, 300, 1500, 4000]);
                due_ms = self.field.trace.now_ms() + delay_ms;
                headers.push(("x-delay", Value::Number(delay_ms)));
            }
            vec![self.chance.index(targets)]
        };
        let key = if due_ms == 0 { self.key() } else { None };
        headers.extend(key.map(|key| ("x-deduplication-header", Value::Number(key))));
        let mortal = matches!(queues.as_slice(), [queue] if self.field.kind(*queue).is_mortal());
        let expires = mortal && due_ms == 0 && self.chance.permille(200);
        let expires_in_ms = expires.then(|| self.chance.of([1, 20, 150, 1000]));
        let name = match queues.as_slice() {
            [queue] => self.field.name(*queue),
            _ => String::new(),
        };
        let exchange = match (due_ms, queues.len()) {
            (0, 1) => "",
            (0, _) => FAN,
            (_, _) => LATE,
        };
        self.field.history.published(id, Published { queues, due_ms, key }, fate);
        let publish =
            Publish { exchange, key: &name, priority: priority(id), headers: &headers, expires_in_ms };
        client.publish(publish, &body).await
    }

    /// A new key, or one that was used, if a queue looks at them.
    fn key(&mut self) -> Option<u64> {
        if !self.field.kinds.contains(&Kind::Dedup) || self.chance.permille(300) {
            return None;
        }
        let again = self.chance.permille(300);
        if again && self.keys > 0 {
            let back = self.chance.within(0, KEYS_BACK.min(self.keys));
            return Some(u64::from(self.number) << 32 | (self.keys - back));
        }
        self.keys += 1;
        Some(u64::from(self.number) << 32 | self.keys)
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
