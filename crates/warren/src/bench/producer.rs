//! A publishing channel: which message is next, whether it may go out, what the broker's answers mean.

use super::arguments::Plan;
use super::confirms::Confirms;
use super::content::Incoming;
use super::link::CHANNEL;
use super::measure::Measure;
use super::pacing::Pacing;
use super::topology::queues_of;
use super::wire::{MethodId, Reader, SEQUENCE_MAX, Stamp, Template, WireError, method, put_method};

/// One producer.
#[derive(Debug)]
pub(super) struct Producer {
    index: u16,
    run: u8,
    /// One for each of its queues, used in turn.
    templates: Vec<Template>,
    turn: usize,
    /// The next message's.
    sequence: u64,
    confirms: Option<Confirms>,
    pacing: Pacing,
    /// Its share of the messages.
    limit: u64,
    /// The time for publishing is over.
    stopped: bool,
    /// The broker asked for a pause (connection.blocked or channel.flow).
    paused: bool,
    returning: Incoming<()>,
}

/// Bytes that are put together before they are written: fewer cost system calls, more cost cache misses.
const CHUNK_BYTES: usize = 64 * 1024;

/// How far a producer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// A full chunk; there may be more to send.
    Chunk,
    /// All that can be sent now.
    All,
}

impl Producer {
    /// Producer number `index` of the plan, on a connection with this `frame_max`.
    pub(super) fn new(plan: &Plan, index: usize, run: u8, frame_max: usize, pacing: Pacing) -> Self {
        // With a fanout a message goes to all queues anyway: one template does.
        let queues =
            if plan.spread().to_all { vec![0] } else { queues_of(index, plan.producers, plan.queues) };
        let template =
            |queue: usize| Template::new(CHANNEL, &plan.envelope(queue), plan.body_bytes, frame_max);
        Self {
            // There are at most 65,535 producers.
            index: u16::try_from(index).unwrap_or(u16::MAX),
            run,
            templates: queues.into_iter().map(template).collect(),
            turn: 0,
            sequence: 0,
            confirms: plan.confirm_window.map(Confirms::new),
            pacing,
            limit: plan.share_of(index).unwrap_or(SEQUENCE_MAX).min(SEQUENCE_MAX),
            stopped: false,
            paused: false,
            returning: Incoming::Idle,
        }
    }

    /// Appends to `out` what may go out now, up to a chunk.
    pub(super) fn fill(&mut self, now_ns: u64, out: &mut Vec<u8>, measure: &mut Measure) -> Filled {
        let first = self.sequence;
        let filled = self.fill_chunk(now_ns, out);
        if self.sequence > first {
            measure.ledger.counts.published += self.sequence - first;
            measure.last_publish_ns = now_ns;
        }
        filled
    }

    fn fill_chunk(&mut self, now_ns: u64, out: &mut Vec<u8>) -> Filled {
        while out.len() < CHUNK_BYTES {
            if !self.may_send() {
                return Filled::All;
            }
            let Some(sent_ns) = self.pacing.stamp_ns(self.sequence, now_ns) else {
                return Filled::All;
            };
            let Some(template) = self.templates.get(self.turn) else {
                return Filled::All;
            };
            template
                .put(out, Stamp { run: self.run, producer: self.index, sequence: self.sequence, sent_ns });
            if let Some(confirms) = &mut self.confirms {
                confirms.on_sent(sent_ns);
            }
            self.sequence += 1;
            self.turn = if self.turn + 1 == self.templates.len() { 0 } else { self.turn + 1 };
        }
        Filled::Chunk
    }

    fn may_send(&self) -> bool {
        !self.stopped
            && !self.paused
            && self.sequence < self.limit
            && self.confirms.as_ref().is_none_or(Confirms::has_room)
    }

    /// When the next message is due, if nothing but time holds it back.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        if self.may_send() { self.pacing.due_ns(self.sequence) } else { None }
    }

    /// No more messages from now on.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether all that it had to send is sent.
    pub(super) fn is_done(&self) -> bool {
        self.stopped || self.sequence >= self.limit
    }

    /// Messages that wait for their confirm.
    pub(super) fn waiting(&self) -> u64 {
        self.confirms.as_ref().map_or(0, Confirms::waiting)
    }

    /// The connection was blocked by the broker, or freed again.
    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// A method on the channel. Errors say in words what is wrong with it.
    pub(super) fn on_method(
        &mut self,
        id: MethodId,
        mut arguments: Reader<'_>,
        now_ns: u64,
        out: &mut Vec<u8>,
        measure: &mut Measure,
    ) -> Result<(), String> {
        let wrong = |wrong: WireError| wrong.to_string();
        match id {
            method::BASIC_ACK => {
                let (number, bits) = (arguments.u64().map_err(wrong)?, arguments.u8().map_err(wrong)?);
                let Some(confirms) = &mut self.confirms else {
                    return Err("a confirm that nobody asked for".to_owned());
                };
                confirms.on_answer(number, bits & 1 != 0, |answer| {
                    measure.ledger.on_confirmed(self.index, answer.sequence);
                    measure.confirm.record(answer.sent_ns, now_ns);
                });
                measure.last_confirm_ns = now_ns;
            }
            method::BASIC_NACK => {
                let (number, bits) = (arguments.u64().map_err(wrong)?, arguments.u8().map_err(wrong)?);
                let Some(confirms) = &mut self.confirms else {
                    return Err("a confirm that nobody asked for".to_owned());
                };
                confirms.on_answer(number, bits & 1 != 0, |_answer| measure.ledger.counts.nacked += 1);
                measure.last_confirm_ns = now_ns;
            }
            method::BASIC_RETURN => self.returning = Incoming::AwaitingHeader(()),
            method::CHANNEL_FLOW => {
                let active = arguments.u8().map_err(wrong)? & 1 != 0;
                self.paused = !active;
                put_method(out, CHANNEL, method::CHANNEL_FLOW_OK, |out| out.push(u8::from(active)));
            }
            other => return Err(format!("method {}.{} to a producer", other.0, other.1)),
        }
        Ok(())
    }

    /// A content header: of a returned message.
    pub(super) fn on_header(&mut self, body_bytes: u64, measure: &mut Measure) -> Result<(), String> {
        let returned = self.returning.on_header(body_bytes)?;
        count_returned(returned, measure);
        Ok(())
    }

    /// A part of a body: of a returned message.
    pub(super) fn on_body(&mut self, payload: &[u8], measure: &mut Measure) -> Result<(), String> {
        let returned = self.returning.on_body(payload)?;
        count_returned(returned, measure);
        Ok(())
    }
}

fn count_returned(returned: Option<((), Option<Stamp>)>, measure: &mut Measure) {
    if let Some(((), Some(stamp))) = returned {
        measure.ledger.on_returned(stamp);
    }
}

/// Appends `confirm.select`.
pub(super) fn put_confirm_select(out: &mut Vec<u8>) {
    put_method(out, CHANNEL, method::CONFIRM_SELECT, |out| out.push(0));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::account::{Ledger, Ours};
    use super::super::arguments::RunArguments;
    use super::super::wire::{Frame, next_frame};
    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArguments,
    }

    fn producer(line: &str, pacing: Pacing) -> (Producer, Measure) {
        let words = std::iter::once("run").chain(line.split_whitespace());
        let plan = Plan::new(Cli::try_parse_from(words).unwrap().run).unwrap();
        let measure = Measure::new(Ledger::new(Ours::Run(9), plan.spread())).unwrap();
        (Producer::new(&plan, 0, 9, 131_072, pacing), measure)
    }

    fn stamps(mut bytes: &[u8]) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        while let Some((frame, used)) = next_frame(bytes).unwrap() {
            if let Frame::Body { payload, .. } = frame {
                let stamp = Stamp::read(payload).unwrap();
                found.push((stamp.sequence, stamp.sent_ns));
            }
            bytes = &bytes[used..];
        }
        found
    }

    fn answer(producer: &mut Producer, measure: &mut Measure, id: MethodId, number: u64, now_ns: u64) {
        let mut arguments = number.to_be_bytes().to_vec();
        arguments.push(1);
        producer.on_method(id, Reader(&arguments), now_ns, &mut Vec::new(), measure).unwrap();
    }

    #[test]
    fn the_window_holds_a_producer_back_until_confirms_come() {
        let (mut producer, mut measure) = producer("--confirm-window 2 --size 16", Pacing::Free);
        let mut out = Vec::new();
        assert_eq!(producer.fill(5, &mut out, &mut measure), Filled::All);
        assert_eq!(stamps(&out), [(0, 5), (1, 5)]);
        answer(&mut producer, &mut measure, method::BASIC_ACK, 1, 9);
        out.clear();
        assert_eq!(producer.fill(10, &mut out, &mut measure), Filled::All);
        assert_eq!(stamps(&out), [(2, 10)]);
        assert_eq!((measure.ledger.counts.published, measure.ledger.counts.confirmed), (3, 1));
    }

    #[test]
    fn a_nacked_message_was_answered_but_is_not_missing() {
        let (mut producer, mut measure) = producer("--confirm-window 9 --messages 3 --size 16", Pacing::Free);
        producer.fill(5, &mut Vec::new(), &mut measure);
        answer(&mut producer, &mut measure, method::BASIC_NACK, 2, 9);
        answer(&mut producer, &mut measure, method::BASIC_ACK, 3, 9);
        let counts = measure.ledger.counts;
        assert_eq!((counts.nacked, counts.confirmed, producer.waiting()), (2, 1, 0));
        assert_eq!((measure.ledger.missing(), producer.is_done()), (1, true));
    }

    #[test]
    fn at_a_fixed_rate_latency_counts_from_when_a_message_was_due() {
        let pacing = Pacing::fixed(1_000.0, 0, 1, 1_000_000);
        let (mut producer, mut measure) = producer("--confirm-window 1 --size 16", pacing);
        let mut out = Vec::new();
        assert_eq!(producer.next_due_ns(), Some(1_000_000));
        producer.fill(1_000_000, &mut out, &mut measure);
        // The broker takes 50 ms for the first confirm: the second message was due 49 ms ago, and that is its time.
        assert_eq!(producer.next_due_ns(), None);
        answer(&mut producer, &mut measure, method::BASIC_ACK, 1, 51_000_000);
        out.clear();
        producer.fill(51_000_000, &mut out, &mut measure);
        assert_eq!(stamps(&out), [(1, 2_000_000)]);
        answer(&mut producer, &mut measure, method::BASIC_ACK, 2, 52_000_000);
        let summary = measure.confirm.summary().unwrap();
        assert!((summary.max - 50.0).abs() < 0.1 && (summary.p50 - 50.0).abs() < 0.1, "{summary:?}");
    }

    #[test]
    fn a_pause_and_a_stop_are_obeyed() {
        let (mut producer, mut measure) = producer("--no-confirms --size 1000", Pacing::Free);
        producer.pause(true);
        let mut out = Vec::new();
        assert_eq!(producer.fill(1, &mut out, &mut measure), Filled::All);
        assert!(out.is_empty());
        producer.pause(false);
        assert_eq!(producer.fill(1, &mut out, &mut measure), Filled::Chunk);
        assert!(out.len() >= CHUNK_BYTES && out.len() < CHUNK_BYTES + 1_100);
        producer.stop();
        out.clear();
        assert_eq!(producer.fill(1, &mut out, &mut measure), Filled::All);
        assert!(out.is_empty());
    }
}
