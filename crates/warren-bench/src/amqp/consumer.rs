//! A consuming channel: deliveries go into the books, acknowledgements go out.

use crate::amqp::content::Incoming;
use crate::amqp::link::{CHANNEL, Link};
use crate::amqp::wire::{MethodId, Reader, WireError, Write as _, method, put_ack, put_method};
use crate::arguments::{Ack, Plan, queues_of};
use crate::error::BenchError;
use crate::measure::Measure;
use crate::stamp::Stamp;

/// One consumer's connection.
#[derive(Debug)]
pub(crate) struct Consumer {
    ack: Ack,
    /// Deliveries that one basic.ack covers.
    multi_ack: u32,
    /// Deliveries not acknowledged yet, the last of them `last_tag`.
    unacked: u32,
    last_tag: u64,
    incoming: Incoming<Delivery>,
}

#[derive(Debug)]
struct Delivery {
    tag: u64,
    redelivered: bool,
    queue: usize,
}

impl Consumer {
    /// A consumer of the plan.
    pub(crate) fn new(plan: &Plan) -> Self {
        Self { ack: plan.ack, multi_ack: plan.multi_ack, unacked: 0, last_tag: 0, incoming: Incoming::Idle }
    }

    /// Sets the prefetch on the channel of consumer number `index`.
    pub(crate) fn prepare(plan: &Plan, link: &mut Link) -> Result<(), BenchError> {
        if plan.prefetch == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        put_method(&mut out, CHANNEL, method::BASIC_QOS, |out| {
            out.u32(0);
            out.u16(plan.prefetch);
            out.push(0);
        });
        link.call(&out, method::BASIC_QOS_OK, "basic.qos").map(|_arguments| ())
    }

    /// Subscribes consumer number `index` to its queues. The consumer tag is the queue's number.
    pub(crate) fn subscribe(plan: &Plan, index: usize, link: &mut Link) -> Result<(), BenchError> {
        for queue in queues_of(index, plan.consumers, plan.queues) {
            let mut out = Vec::new();
            put_method(&mut out, CHANNEL, method::BASIC_CONSUME, |out| {
                const NO_ACK: u8 = 0b10;
                out.u16(0);
                out.short(&plan.queue_name(queue));
                out.short(&queue.to_string());
                out.push(if plan.ack == Ack::Auto { NO_ACK } else { 0 });
                out.table(&[]);
            });
            link.call(&out, method::BASIC_CONSUME_OK, "basic.consume")?;
        }
        Ok(())
    }

    /// A method on the channel. Errors say in words what is wrong with it.
    #[inline]
    pub(crate) fn on_method(&mut self, id: MethodId, arguments: Reader<'_>) -> Result<(), String> {
        match id {
            method::BASIC_DELIVER => {
                let delivery = read_delivery(arguments).map_err(|wrong| wrong.to_string())?;
                self.incoming = Incoming::AwaitingHeader(delivery);
                Ok(())
            }
            method::BASIC_CANCEL => Err("basic.cancel: a queue is gone".to_owned()),
            other => Err(format!("method {}.{} to a consumer", other.0, other.1)),
        }
    }

    /// A content header.
    #[inline]
    pub(crate) fn on_header(
        &mut self,
        body_bytes: u64,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<(), String> {
        if let Some((delivery, stamp)) = self.incoming.on_header(body_bytes)? {
            self.on_delivered(&delivery, stamp, now_ns, out, measure);
        }
        Ok(())
    }

    /// A part of a body.
    #[inline]
    pub(crate) fn on_body(
        &mut self,
        payload: &[u8],
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<(), String> {
        if let Some((delivery, stamp)) = self.incoming.on_body(payload)? {
            self.on_delivered(&delivery, stamp, now_ns, out, measure);
        }
        Ok(())
    }

    #[inline]
    fn on_delivered(
        &mut self,
        delivery: &Delivery,
        stamp: Option<Stamp>,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) {
        if measure.ledger.on_delivered(delivery.queue, stamp, delivery.redelivered)
            && let Some(stamp) = stamp
        {
            measure.delivery.record(stamp.sent_ns, now_ns);
        }
        measure.on_delivery(now_ns);
        if self.ack == Ack::Auto {
            return;
        }
        self.unacked += 1;
        self.last_tag = delivery.tag;
        if self.unacked >= self.multi_ack {
            self.acknowledge(out);
        }
    }

    /// Acknowledges what is not yet: the rest that is no full `multi_ack`.
    pub(crate) fn acknowledge(&mut self, out: &mut Vec<u8>) {
        if self.unacked > 0 {
            put_ack(out, CHANNEL, self.last_tag, self.unacked > 1);
            self.unacked = 0;
        }
    }
}

#[inline]
fn read_delivery(mut arguments: Reader<'_>) -> Result<Delivery, WireError> {
    let consumer_tag = arguments.short()?;
    let tag = arguments.u64()?;
    let redelivered = arguments.u8()? & 1 != 0;
    let queue = consumer_tag
        .iter()
        .filter(|byte| byte.is_ascii_digit())
        .take(5)
        .fold(0, |number, byte| number * 10 + usize::from(byte - b'0'));
    Ok(Delivery { tag, redelivered, queue })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::account::{Ledger, Ours};
    use crate::amqp::wire::{Frame, next_frame};
    use crate::arguments::RunArguments;
    use crate::uri::Scheme;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArguments,
    }

    /// Delivers messages with these tags to a consumer; what it acknowledges, as (tag, multiple).
    fn acknowledged(line: &str, tags: std::ops::RangeInclusive<u64>) -> Vec<(u64, bool)> {
        let words = std::iter::once("run").chain(line.split_whitespace());
        let plan = Plan::new(Cli::try_parse_from(words).unwrap().run, Scheme::Amqp).unwrap();
        let mut measure = Measure::new(Ledger::new(Ours::Any, plan.spread())).unwrap();
        let (mut consumer, mut out) = (Consumer::new(&plan), Vec::new());
        for tag in tags.clone() {
            let mut arguments = Vec::new();
            arguments.short("12");
            arguments.u64(tag);
            arguments.push(0);
            arguments.short("");
            arguments.short("q");
            consumer.on_method(method::BASIC_DELIVER, Reader(&arguments)).unwrap();
            consumer.on_header(16, 5, &mut out, &mut measure).unwrap();
            consumer.on_body(&u128::from(tag << 8).to_be_bytes(), 5, &mut out, &mut measure).unwrap();
        }
        assert_eq!(measure.ledger.counts.delivered, tags.end() - tags.start() + 1);
        consumer.acknowledge(&mut out);
        let mut found = Vec::new();
        let mut bytes = out.as_slice();
        while let Some((Frame::Method { mut arguments, .. }, used)) = next_frame(bytes).unwrap() {
            found.push((arguments.u64().unwrap(), arguments.u8().unwrap() != 0));
            bytes = &bytes[used..];
        }
        found
    }

    #[test]
    fn each_delivery_is_acknowledged_alone_or_with_those_before_it() {
        assert_eq!(acknowledged("", 1..=3), [(1, false), (2, false), (3, false)]);
        assert_eq!(acknowledged("--multi-ack 3", 1..=7), [(3, true), (6, true), (7, false)]);
        assert_eq!(acknowledged("--ack auto", 1..=3), []);
    }

    #[test]
    fn the_queue_is_known_by_the_consumer_tag() {
        let mut arguments = Vec::new();
        arguments.short("417");
        arguments.u64(8);
        arguments.push(1);
        let delivery = read_delivery(Reader(&arguments)).unwrap();
        assert_eq!((delivery.queue, delivery.tag, delivery.redelivered), (417, 8, true));
        assert!(read_delivery(Reader(&arguments[..8])).is_err());
    }
}
