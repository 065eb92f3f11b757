//! What a run publishes to and consumes from: its queues, its exchange, which producer and which consumer goes where.

use clap::ValueEnum;

use crate::amqp::link::{CHANNEL, Link};
use crate::amqp::wire::{Envelope, Field, Reader, Write as _, method, put_method};
use crate::arguments::Plan;
use crate::error::BenchError;

/// How messages find their queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exchange {
    /// The default exchange: the routing key is the queue's name.
    Default,
    /// A direct exchange, a key for each queue.
    Direct,
    /// A topic exchange, a pattern with `*` and `#` for each queue.
    Topic,
    /// A headers exchange, a value for each queue.
    Headers,
    /// A fanout exchange: every message to every queue.
    Fanout,
}

impl Exchange {
    fn kind(self) -> Option<&'static str> {
        match self {
            Self::Default => None,
            Self::Direct => Some("direct"),
            Self::Topic => Some("topic"),
            Self::Headers => Some("headers"),
            Self::Fanout => Some("fanout"),
        }
    }
}

/// The arguments of queue.declare besides its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSettings {
    /// Survives a restart.
    pub(crate) durable: bool,
    /// `x-` arguments.
    pub(crate) arguments: Vec<(String, Field)>,
}

impl Plan {
    /// How a message for queue number `queue` is addressed.
    pub(crate) fn envelope(&self, queue: usize) -> Envelope {
        let (exchange, routing_key, headers) = match self.exchange {
            Exchange::Default => (String::new(), self.queue_name(queue), Vec::new()),
            Exchange::Direct => (self.exchange_name(), key(queue), Vec::new()),
            Exchange::Topic => {
                (self.exchange_name(), format!("bench.{}.message.sent", key(queue)), Vec::new())
            }
            Exchange::Headers => (self.exchange_name(), String::new(), header(queue)),
            Exchange::Fanout => (self.exchange_name(), String::new(), Vec::new()),
        };
        Envelope { exchange, routing_key, mandatory: self.mandatory, persistent: self.persistent, headers }
    }

    fn exchange_name(&self) -> String {
        format!("{}-{}", self.queue_prefix, self.exchange.kind().unwrap_or_default())
    }

    /// Makes queues, exchange and bindings anew: what an earlier run left under these names is deleted.
    ///
    /// # Errors
    /// What the broker says.
    pub(crate) fn set_up(&self, link: &mut Link) -> Result<(), BenchError> {
        self.tear_down(link)?;
        for queue in 0..self.queues {
            declare_queue(link, &self.queue_name(queue), &self.queue_settings)?;
        }
        let Some(kind) = self.exchange.kind() else {
            return Ok(());
        };
        let exchange = self.exchange_name();
        let mut out = Vec::new();
        put_method(&mut out, CHANNEL, method::EXCHANGE_DECLARE, |out| {
            out.u16(0);
            out.short(&exchange);
            out.short(kind);
            out.push(if self.queue_settings.durable { 0b10 } else { 0 });
            out.table(&[]);
        });
        link.call(&out, method::EXCHANGE_DECLARE_OK, "exchange.declare")?;
        for queue in 0..self.queues {
            let (pattern, headers) = match self.exchange {
                Exchange::Default | Exchange::Fanout => (String::new(), Vec::new()),
                Exchange::Direct => (key(queue), Vec::new()),
                Exchange::Topic => (format!("*.{}.#", key(queue)), Vec::new()),
                Exchange::Headers => (String::new(), header(queue)),
            };
            bind(link, &self.queue_name(queue), &exchange, &pattern, &headers)?;
        }
        // Bindings that no message matches: routing has to find its way past them.
        for extra in 0..self.extra_bindings {
            let (pattern, headers) = match self.exchange {
                Exchange::Default | Exchange::Fanout => break,
                Exchange::Direct => (format!("other-{extra}"), Vec::new()),
                Exchange::Topic => (format!("*.other-{extra}.#"), Vec::new()),
                Exchange::Headers => (String::new(), header(self.queues + extra)),
            };
            bind(link, &self.queue_name(extra % self.queues.max(1)), &exchange, &pattern, &headers)?;
        }
        Ok(())
    }

    /// Deletes queues and exchange; what is not there is no error.
    pub(crate) fn tear_down(&self, link: &mut Link) -> Result<(), BenchError> {
        (0..self.queues).try_for_each(|queue| delete_queue(link, &self.queue_name(queue)))?;
        if self.exchange.kind().is_none() {
            return Ok(());
        }
        let mut out = Vec::new();
        put_method(&mut out, CHANNEL, method::EXCHANGE_DELETE, |out| {
            out.u16(0);
            out.short(&self.exchange_name());
            out.push(0);
        });
        link.call(&out, method::EXCHANGE_DELETE_OK, "exchange.delete").map(|_arguments| ())
    }

    /// How many messages are ready in the queues, which must exist.
    pub(crate) fn depth(&self, link: &mut Link) -> Result<u64, BenchError> {
        (0..self.queues).map(|queue| queue_depth(link, &self.queue_name(queue))).sum()
    }
}

fn key(queue: usize) -> String {
    format!("queue-{queue}")
}

fn header(queue: usize) -> Vec<(String, Field)> {
    vec![("queue".to_owned(), Field::Integer(i64::try_from(queue).unwrap_or(i64::MAX)))]
}

/// Appends a queue.declare.
pub(crate) fn put_declare(out: &mut Vec<u8>, queue: &str, settings: &QueueSettings) {
    put_method(out, CHANNEL, method::QUEUE_DECLARE, |out| {
        out.u16(0);
        out.short(queue);
        out.push(if settings.durable { 0b10 } else { 0 });
        out.table(&settings.arguments);
    });
}

/// Appends a queue.delete.
pub(crate) fn put_delete(out: &mut Vec<u8>, queue: &str) {
    put_method(out, CHANNEL, method::QUEUE_DELETE, |out| {
        out.u16(0);
        out.short(queue);
        out.push(0);
    });
}

/// Declares a queue and waits for the answer.
pub(crate) fn declare_queue(
    link: &mut Link,
    queue: &str,
    settings: &QueueSettings,
) -> Result<(), BenchError> {
    let mut out = Vec::new();
    put_declare(&mut out, queue, settings);
    link.call(&out, method::QUEUE_DECLARE_OK, "queue.declare").map(|_arguments| ())
}

/// Deletes a queue and waits for the answer.
pub(crate) fn delete_queue(link: &mut Link, queue: &str) -> Result<(), BenchError> {
    let mut out = Vec::new();
    put_delete(&mut out, queue);
    link.call(&out, method::QUEUE_DELETE_OK, "queue.delete").map(|_arguments| ())
}

fn queue_depth(link: &mut Link, queue: &str) -> Result<u64, BenchError> {
    let mut out = Vec::new();
    put_method(&mut out, CHANNEL, method::QUEUE_DECLARE, |out| {
        const PASSIVE: u8 = 1;
        out.u16(0);
        out.short(queue);
        out.push(PASSIVE);
        out.table(&[]);
    });
    let arguments = link.call(&out, method::QUEUE_DECLARE_OK, "queue.declare")?;
    let mut arguments = Reader(&arguments);
    let messages = arguments.short().and_then(|_name| arguments.u32());
    Ok(messages.map_or(0, u64::from))
}

fn bind(
    link: &mut Link,
    queue: &str,
    exchange: &str,
    pattern: &str,
    headers: &[(String, Field)],
) -> Result<(), BenchError> {
    let mut out = Vec::new();
    put_method(&mut out, CHANNEL, method::QUEUE_BIND, |out| {
        out.u16(0);
        out.short(queue);
        out.short(exchange);
        out.short(pattern);
        out.push(0);
        out.table(headers);
    });
    link.call(&out, method::QUEUE_BIND_OK, "queue.bind").map(|_arguments| ())
}
