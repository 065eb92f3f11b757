//! Those who read a stream: from its beginning, from where they were, or what is new. At the end, everything once more.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::time::timeout;

use super::consumer::{Consumer, acknowledge};
use super::{BEAT, SILENCE};
use crate::amqp::{Client, Event, Method, Value};
use crate::history::{From, MessageId};
use crate::network::Host;

impl Consumer {
    /// Reads with `basic.consume`.
    pub(super) async fn read(&mut self, client: &mut Client, host: Host) -> io::Result<()> {
        let at_the_end = self.drains();
        let prefetch = self.chance.of(if at_the_end { [50, 100, 200] } else { [1, 10, 100] });
        let up_to = self.read_up_to.get(&self.queue);
        let from = match (self.chance.within(0, 10), up_to) {
            _ if at_the_end => From::First,
            (0, _) | (_, None) => From::First,
            (1 | 2, _) => From::Next,
            (_, Some(up_to)) => From::Offset(up_to + 1),
        };
        client.ask(Method::new(60, 10).long(0).short(prefetch).octet(0), 60, 11).await?;
        let session = self.field.history.consumes(self.queue, host, usize::from(prefetch));
        self.field.history.reads(session, self.queue, from, at_the_end);
        self.field.trace.note(format_args!(
            "consumer {} reads q{} on {host} from {from:?} as {session}, prefetch {prefetch}",
            self.number, self.queue
        ));
        let offset = match from {
            From::First => Value::Text("first"),
            From::Next => Value::Text("next"),
            From::Offset(offset) => Value::Number(offset),
        };
        let consume = Method::new(60, 20).short(0).shortstr(&self.field.name(self.queue)).shortstr("c");
        client.send(1, consume.octet(0).arguments(&[("x-stream-offset", offset)])).await?;
        let ended = self.read_on(client, session, usize::from(prefetch), at_the_end).await;
        self.field.history.session_ended(session);
        ended
    }

    async fn read_on(
        &mut self,
        client: &mut Client,
        session: u64,
        prefetch: usize,
        at_the_end: bool,
    ) -> io::Result<()> {
        let slow_ms = if at_the_end { 0 } else { self.chance.of([0, 5, 50]) };
        let mut life = 5 + self.chance.within(0, 200);
        let mut open: BTreeMap<u64, MessageId> = BTreeMap::new();
        let mut silent = Duration::ZERO;
        let mut idle = 0;
        loop {
            let leaves = if self.drains() {
                !at_the_end || self.queue != self.own_queue()
            } else {
                life == 0 || idle > 30
            };
            if leaves {
                return Ok(());
            }
            let busy = !open.is_empty();
            let wait =
                if busy { Duration::from_millis(self.chance.within(0, slow_ms + 1)) } else { BEAT / 4 };
            match timeout(wait, client.next()).await {
                Ok(event) => {
                    silent = Duration::ZERO;
                    let event = event?;
                    if let Event::Message { offset: Some(offset), .. } = &event {
                        self.read_up_to.insert(self.queue, *offset);
                    }
                    open.extend(self.take(event, session)?);
                    life = life.saturating_sub(1);
                    if open.len() < prefetch.div_ceil(2) {
                        continue;
                    }
                }
                Err(_) if busy => {}
                Err(_) => {
                    silent += wait;
                    idle += 1;
                    client.beat().await?;
                    if silent > SILENCE {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    continue;
                }
            }
            let answered = acknowledge(client, &mut open, !self.chance.permille(100)).await?;
            answered.into_values().for_each(|id| self.field.history.acknowledged(session, id));
        }
    }
}
