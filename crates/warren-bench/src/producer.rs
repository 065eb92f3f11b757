//! A producer: which message is next, whether it may go out, what its answers mean for the books. Knows no protocol.

use crate::arguments::{Plan, queues_of};
use crate::confirms::Confirms;
use crate::dialect::Message;
use crate::measure::Measure;
use crate::pacing::Pacing;
use crate::stamp::{SEQUENCE_MAX, Stamp};

/// One producer.
#[derive(Debug)]
pub(crate) struct Producer<M> {
    index: u16,
    run: u8,
    /// One for each of its queues, used in turn.
    templates: Vec<M>,
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
}

/// Bytes that are put together before they are written: fewer cost system calls, more cost cache misses.
const CHUNK_BYTES: usize = 64 * 1024;

/// How far a producer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// A full chunk; there may be more to send.
    Chunk,
    /// All that can be sent now.
    All,
}

impl<M: Message> Producer<M> {
    /// Producer number `index` of the plan, whose messages for one queue `template` makes.
    pub(crate) fn new(
        plan: &Plan,
        index: usize,
        run: u8,
        pacing: Pacing,
        template: impl Fn(usize) -> M,
    ) -> Self {
        // With a fanout a message goes to all queues anyway: one template does.
        let queues =
            if plan.spread().to_all { vec![0] } else { queues_of(index, plan.producers, plan.queues) };
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
        }
    }

    /// Appends to `out` what may go out now, up to a chunk.
    pub(crate) fn fill(&mut self, now_ns: u64, out: &mut Vec<u8>, measure: &mut Measure) -> Filled {
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
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        if self.may_send() { self.pacing.due_ns(self.sequence) } else { None }
    }

    /// No more messages from now on.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether all that it had to send is sent.
    pub(crate) fn is_done(&self) -> bool {
        self.stopped || self.sequence >= self.limit
    }

    /// Messages that wait for their confirm.
    pub(crate) fn waiting(&self) -> u64 {
        self.confirms.as_ref().map_or(0, Confirms::waiting)
    }

    /// The connection was blocked by the broker, or freed again.
    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// The broker has message `number` (from 1), with `multiple` also all before it.
    ///
    /// # Errors
    /// In words, when no confirms were asked for.
    #[inline]
    pub(crate) fn on_confirmed(
        &mut self,
        number: u64,
        multiple: bool,
        now_ns: u64,
        measure: &mut Measure,
    ) -> Result<(), &'static str> {
        let confirms = self.confirms.as_mut().ok_or(NOT_ASKED)?;
        confirms.on_answer(number, multiple, |answer| {
            measure.ledger.on_confirmed(self.index, answer.sequence);
            measure.confirm.record(answer.sent_ns, now_ns);
        });
        measure.last_confirm_ns = now_ns;
        Ok(())
    }

    /// The broker refuses message `number` (from 1), with `multiple` also all before it.
    ///
    /// # Errors
    /// In words, when no confirms were asked for.
    pub(crate) fn on_refused(
        &mut self,
        number: u64,
        multiple: bool,
        now_ns: u64,
        measure: &mut Measure,
    ) -> Result<(), &'static str> {
        let confirms = self.confirms.as_mut().ok_or(NOT_ASKED)?;
        confirms.on_answer(number, multiple, |_answer| measure.ledger.counts.nacked += 1);
        measure.last_confirm_ns = now_ns;
        Ok(())
    }
}

const NOT_ASKED: &str = "a confirm that nobody asked for";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::account::{Ledger, Ours};
    use crate::arguments::RunArguments;
    use crate::stamp::STAMP_BYTES;
    use crate::uri::Scheme;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArguments,
    }

    /// A message of nothing but its stamp, and as many bytes more.
    #[derive(Debug)]
    struct Bare(usize);

    impl Message for Bare {
        fn put(&self, out: &mut Vec<u8>, stamp: Stamp) {
            out.extend(stamp.to_bytes());
            out.resize(out.len() + self.0, 0);
        }
    }

    fn producer(line: &str, pacing: Pacing) -> (Producer<Bare>, Measure) {
        let words = std::iter::once("run").chain(line.split_whitespace());
        let plan = Plan::new(Cli::try_parse_from(words).unwrap().run, Scheme::Amqp).unwrap();
        let measure = Measure::new(Ledger::new(Ours::Run(9), plan.spread())).unwrap();
        (Producer::new(&plan, 0, 9, pacing, |_queue| Bare(plan.body_bytes - STAMP_BYTES)), measure)
    }

    fn stamps(bytes: &[u8]) -> Vec<(u64, u64)> {
        let stamps = bytes.chunks(STAMP_BYTES).map(|bytes| Stamp::read(bytes).unwrap());
        stamps.map(|stamp| (stamp.sequence, stamp.sent_ns)).collect()
    }

    #[test]
    fn the_window_holds_a_producer_back_until_confirms_come() {
        let (mut producer, mut measure) = producer("--confirm-window 2 --size 16", Pacing::Free);
        let mut out = Vec::new();
        assert_eq!(producer.fill(5, &mut out, &mut measure), Filled::All);
        assert_eq!(stamps(&out), [(0, 5), (1, 5)]);
        producer.on_confirmed(1, true, 9, &mut measure).unwrap();
        out.clear();
        assert_eq!(producer.fill(10, &mut out, &mut measure), Filled::All);
        assert_eq!(stamps(&out), [(2, 10)]);
        assert_eq!((measure.ledger.counts.published, measure.ledger.counts.confirmed), (3, 1));
    }

    #[test]
    fn a_nacked_message_was_answered_but_is_not_missing() {
        let (mut producer, mut measure) = producer("--confirm-window 9 --messages 3 --size 16", Pacing::Free);
        producer.fill(5, &mut Vec::new(), &mut measure);
        producer.on_refused(2, true, 9, &mut measure).unwrap();
        producer.on_confirmed(3, true, 9, &mut measure).unwrap();
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
        producer.on_confirmed(1, true, 51_000_000, &mut measure).unwrap();
        out.clear();
        producer.fill(51_000_000, &mut out, &mut measure);
        assert_eq!(stamps(&out), [(1, 2_000_000)]);
        producer.on_confirmed(2, true, 52_000_000, &mut measure).unwrap();
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
        assert!(out.len() >= CHUNK_BYTES && out.len() < CHUNK_BYTES + 1_000);
        producer.stop();
        out.clear();
        assert_eq!(producer.fill(1, &mut out, &mut measure), Filled::All);
        assert!(out.is_empty());
    }
}
