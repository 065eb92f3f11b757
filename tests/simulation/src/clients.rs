//! Publishers and consumers of several kinds. Each connects to whichever node it likes and goes to another when that is gone.

mod consumer;
mod publisher;
mod reader;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{sleep, timeout};

pub(crate) use self::consumer::Consumer;
pub(crate) use self::publisher::Publisher;
use crate::amqp::{Client, HEARTBEAT_S, Method, Value};
use crate::chance::Chance;
use crate::history::History;
use crate::kinds::{DEAD, Kind};
use crate::network::{CLIENTS, Host, Net, Port};
use crate::trace::Trace;

/// The exchange that is bound to all queues.
pub(crate) const FAN: &str = "fan";
/// The one that delays, for all queues by their names.
const LATE: &str = "late";
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
            Kind::Plain
            | Kind::Priority
            | Kind::SingleActive
            | Kind::Mortal { .. }
            | Kind::Dedup
            | Kind::Stream => format!("q{queue}"),
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
        let late = Method::new(40, 10).short(0).shortstr(LATE).shortstr("x-delayed-message").octet(2);
        client.ask(late.arguments(&[("x-delayed-type", Value::Text("direct"))]), 40, 11).await?;
        for queue in 0..self.queues() {
            let (name, arguments) = (self.name(queue), self.kind(queue).arguments());
            let declare = Method::new(50, 10).short(0).shortstr(&name).octet(2).arguments(&arguments);
            client.ask(declare, 50, 11).await?;
            if self.kind(queue) == Kind::Dead {
                continue;
            }
            for (exchange, key) in [(FAN, ""), (LATE, name.as_str())] {
                let bind = Method::new(50, 20).short(0).shortstr(&name).shortstr(exchange).shortstr(key);
                client.ask(bind.octet(0).table(), 50, 21).await?;
            }
        }
        Ok(())
    }

    /// How many messages are ready in each queue that is to become empty; `None` if a question is not answered.
    pub(crate) async fn depths(&self, mut chance: Chance) -> Option<Vec<u32>> {
        let (_, mut client) = self.connect(&mut chance).await;
        let mut depths = Vec::new();
        for queue in (0..self.queues()).filter(|queue| self.kind(*queue) != Kind::Stream) {
            let passive = Method::new(50, 10).short(0).shortstr(&self.name(queue)).octet(1).table();
            let mut answer = client.ask(passive, 50, 11).await.ok()?;
            answer.shortstr();
            depths.push(answer.long());
        }
        Some(depths)
    }
}
