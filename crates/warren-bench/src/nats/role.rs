//! A connection's half of the load in NATS: a producer, whose confirms are answers to its inbox, or a consumer.

use crate::dialect::Role;
use crate::error::BenchError;
use crate::measure::Measure;
use crate::nats::link::{FIRST_SID, refusal};
use crate::nats::wire::{Incoming, Said, Template, next_said, number, put_ack};
use crate::producer::Producer;
use crate::stamp::Stamp;

/// Which half of the load a connection carries.
#[derive(Debug)]
pub(crate) enum NatsRole {
    /// It publishes.
    Producer(Box<Producer<Template>>),
    /// It consumes. The queues of its subscriptions, the first of which is number [`FIRST_SID`].
    Consumer(Vec<usize>),
}

impl Role for NatsRole {
    type Message = Template;

    fn absorb(
        &mut self,
        bytes: &[u8],
        address: &str,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<usize, BenchError> {
        let mut rest = bytes;
        while let Some((said, used)) =
            next_said(rest).map_err(|wrong| BenchError::protocol(address, &wrong.to_string()))?
        {
            match said {
                Said::Message(message) => self
                    .on_message(&message, now_ns, out, measure)
                    .map_err(|what| BenchError::protocol(address, &what))?,
                Said::Ping => out.extend_from_slice(b"PONG\r\n"),
                Said::Refusal(what) => return Err(refusal(address, what)),
                // A server tells all its clients when another one joins its cluster.
                Said::Info(_) | Said::Pong | Said::Ok => {}
            }
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    fn acknowledge_rest(&mut self, _out: &mut Vec<u8>) {}

    fn producer(&self) -> Option<&Producer<Template>> {
        match self {
            Self::Producer(producer) => Some(producer),
            Self::Consumer(_) => None,
        }
    }

    fn producer_mut(&mut self) -> Option<&mut Producer<Template>> {
        match self {
            Self::Producer(producer) => Some(producer),
            Self::Consumer(_) => None,
        }
    }
}

impl NatsRole {
    /// A message of a subscription. Errors say in words what is wrong with it.
    #[inline]
    fn on_message(
        &mut self,
        message: &Incoming<'_>,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<(), String> {
        match self {
            Self::Producer(producer) => {
                let number = last_token(message.subject)
                    .and_then(number)
                    .ok_or_else(|| wrong("an answer to no message", message.subject))?;
                if is_stored(message) {
                    producer.on_confirmed(number, false, now_ns, measure)?;
                } else {
                    producer.on_refused(number, false, now_ns, measure)?;
                }
            }
            // Without a reply subject it is a status: that a consumer is idle, for example.
            Self::Consumer(_) if message.reply.is_empty() => {}
            Self::Consumer(queues) => {
                let queue = (message.sid as usize)
                    .checked_sub(FIRST_SID as usize)
                    .and_then(|index| queues.get(index))
                    .ok_or_else(|| wrong("a delivery of no subscription", message.subject))?;
                let redelivered = was_delivered_before(message.reply)
                    .ok_or_else(|| wrong("a delivery without JetStream's reply subject", message.reply))?;
                let stamp = Stamp::read(message.payload);
                if measure.ledger.on_delivered(*queue, stamp, redelivered)
                    && let Some(stamp) = stamp
                {
                    measure.delivery.record(stamp.sent_ns, now_ns);
                }
                measure.on_delivery(now_ns);
                put_ack(out, message.reply);
            }
        }
        Ok(())
    }
}

/// Whether JetStream's answer to a message says that a stream has it: `{"stream":"NAME","seq":NUMBER}`. Else it has an
/// `error`, or is a status without content: no stream listens.
#[inline]
fn is_stored(answer: &Incoming<'_>) -> bool {
    answer.headers.is_empty() && answer.payload.starts_with(b"{\"stream\":")
}

/// What is behind the last dot of a subject.
#[inline]
fn last_token(subject: &[u8]) -> Option<&[u8]> {
    subject.rsplit(|byte| *byte == b'.').next()
}

/// Reads how often a message was delivered from its reply subject,
/// `$JS.ACK.STREAM.CONSUMER.DELIVERED.STREAM-SEQUENCE.CONSUMER-SEQUENCE.TIME.PENDING` (a newer form has a domain and an
/// account before the stream, and may have a token at the end). None: it is no such subject.
#[inline]
fn was_delivered_before(reply: &[u8]) -> Option<bool> {
    let rest = reply.strip_prefix(b"$JS.ACK.")?;
    let tokens = rest.iter().filter(|byte| **byte == b'.').count() + 1;
    let place = if tokens == 7 { 2 } else { 4 };
    let delivered = rest.split(|byte| *byte == b'.').nth(place).and_then(number)?;
    Some(delivered > 1)
}

fn wrong(what: &str, where_from: &[u8]) -> String {
    format!("{what}: {}", String::from_utf8_lossy(where_from))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::account::{Counts, Ledger, Ours};
    use crate::arguments::{Plan, RunArguments};
    use crate::dialect::Message as _;
    use crate::pacing::Pacing;
    use crate::uri::Scheme;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArguments,
    }

    fn plan(line: &str) -> Plan {
        let words = std::iter::once("run").chain(line.split_whitespace());
        Plan::new(Cli::try_parse_from(words).unwrap().run, Scheme::Nats).unwrap()
    }

    /// What a consumer of queues 4 and 5 answers to `input`, and what the books say then.
    fn consumed(input: &[u8]) -> Result<(String, Counts), BenchError> {
        let plan = plan("--queues 6");
        let mut measure = Measure::new(Ledger::new(Ours::Run(1), plan.spread())).unwrap();
        let mut role = NatsRole::Consumer(vec![4, 5]);
        let mut out = Vec::new();
        assert_eq!(role.absorb(input, "h:1", 9, &mut out, &mut measure)?, input.len());
        Ok((String::from_utf8(out).unwrap(), measure.ledger.counts))
    }

    fn delivery(sid: u32, reply: &str, sequence: u64) -> Vec<u8> {
        let mut sent = Vec::new();
        Template::new("q", None, 16).put(&mut sent, Stamp { run: 1, producer: 0, sequence, sent_ns: 3 });
        let body = sent.strip_prefix(b"PUB q 16\r\n").unwrap();
        [format!("MSG q {sid} {reply} 16\r\n").as_bytes(), body].concat()
    }

    #[test]
    fn a_delivery_is_counted_and_acknowledged_to_where_it_says() {
        let first = delivery(2, "$JS.ACK.s.c.1.7.1.99.0", 0);
        let again = delivery(2, "$JS.ACK.s.c.2.7.2.99.0", 0);
        let newer = delivery(3, "$JS.ACK._.account.s.c.1.8.3.99.0.token", 1);
        let (out, counts) = consumed(&[b"PING\r\n".to_vec(), first, again, newer].concat()).unwrap();
        assert_eq!(
            out,
            "PONG\r\nPUB $JS.ACK.s.c.1.7.1.99.0 4\r\n+ACK\r\nPUB $JS.ACK.s.c.2.7.2.99.0 4\r\n+ACK\r\n\
             PUB $JS.ACK._.account.s.c.1.8.3.99.0.token 4\r\n+ACK\r\n"
        );
        assert_eq!((counts.delivered, counts.redelivered, counts.duplicates), (3, 1, 1));
        assert_eq!((counts.duplicates_unflagged, counts.out_of_order), (0, 0));
    }

    #[test]
    fn what_is_no_delivery_is_an_error_and_a_status_is_none() {
        assert_eq!(consumed(b"HMSG q 2 16 16\r\nNATS/1.0 100\r\n\r\n\r\n").unwrap().0, "");
        for input in [
            delivery(9, "$JS.ACK.s.c.1.7.1.99.0", 0),
            delivery(1, "$JS.ACK.s.c.1.7.1.99.0", 0),
            delivery(2, "elsewhere", 0),
            b"-ERR 'Slow Consumer'\r\n".to_vec(),
            b"nonsense\r\n".to_vec(),
        ] {
            assert!(consumed(&input).is_err(), "{}", String::from_utf8_lossy(&input));
        }
    }

    #[test]
    fn answers_confirm_or_refuse_the_message_whose_number_they_go_to() {
        let plan = plan("--confirm-window 4 --messages 4 --size 16");
        let mut measure = Measure::new(Ledger::new(Ours::Run(1), plan.spread())).unwrap();
        let producer = Producer::new(&plan, 0, 1, Pacing::Free, |_queue| Template::new("q", Some("in"), 16));
        let mut role = NatsRole::Producer(Box::new(producer));
        let mut out = Vec::new();
        role.producer_mut().unwrap().fill(5, &mut out, &mut measure);
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("in.0000000001 16\r\n") && text.contains("in.0000000004 16\r\n"), "{text}");
        let input = b"MSG in.0000000002 2 24\r\n{\"stream\":\"s\", \"seq\":12}\r\n\
            MSG in.0000000001 2 22\r\n{\"error\":{\"code\":503}}\r\n\
            HMSG in.0000000003 2 16 16\r\nNATS/1.0 503\r\n\r\n\r\n";
        role.absorb(input, "h:1", 9, &mut out, &mut measure).unwrap();
        let counts = measure.ledger.counts;
        assert_eq!((counts.published, counts.confirmed, counts.nacked), (4, 1, 2));
        assert_eq!((role.producer().unwrap().waiting(), measure.ledger.missing()), (1, 1));
        assert!(role.absorb(b"MSG in.x 2 0\r\n\r\n", "h:1", 9, &mut out, &mut measure).is_err());
    }
}
