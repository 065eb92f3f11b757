//! What a run reports: a JSON object, or the same as a table.

use serde::Serialize;

use crate::account::Counts;
use crate::arguments::{Ack, Mode, Plan};
use crate::clock::{ns_as_seconds, own_cpu_ns};
use crate::dialect::Dialect;
use crate::engine::{Ending, Outcome};
use crate::latency::Summary;
use crate::process::{Cost, round, usage};
use crate::uri::BrokerUri;

/// A run's report.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) label: Option<String>,
    pub(crate) parameters: Parameters,
    /// How the run ended: complete, stalled, out of time, failed.
    pub(crate) ending: &'static str,
    /// What failed.
    pub(crate) failure: Option<String>,
    /// Of the whole run, warm-up included.
    pub(crate) counts: Counts,
    /// Confirmed to the publisher and never delivered; none when that cannot be told.
    pub(crate) lost: Option<u64>,
    /// Deliveries that did not come for messages that were published or expected.
    pub(crate) undelivered: u64,
    /// How often the broker blocked a publisher.
    pub(crate) blocked: u64,
    /// Length of the measured stretch: after the warm-up, to the last thing that happened.
    pub(crate) seconds: f64,
    /// From the start of the program to the first delivery, connecting included; none: nothing was delivered.
    pub(crate) first_delivery_s: Option<f64>,
    /// From the first delivery to the last.
    pub(crate) delivering_s: Option<f64>,
    /// Messages a second in it.
    pub(crate) rates: Rates,
    /// From publish to confirm, in milliseconds.
    pub(crate) confirm_ms: Option<Summary>,
    /// From publish to delivery, in milliseconds.
    pub(crate) end_to_end_ms: Option<Summary>,
    /// The brokers' processes, added up.
    pub(crate) broker: Option<Cost>,
    /// This client's own CPU for each message, in microseconds.
    pub(crate) client_cpu_us_per_message: Option<f64>,
}

/// The parameters that a figure depends on.
#[derive(Debug, Serialize)]
pub(crate) struct Parameters {
    brokers: Vec<String>,
    mode: &'static str,
    producers: usize,
    consumers: usize,
    queues: usize,
    body_bytes: usize,
    confirm_window: Option<u32>,
    manual_ack: bool,
    prefetch: u16,
    multi_ack: u32,
    persistent: bool,
    durable: bool,
    arguments: Vec<String>,
    exchange: String,
    rate: Option<f64>,
    warmup_s: f64,
}

/// Messages a second, each until its last one.
#[derive(Debug, Serialize)]
pub(crate) struct Rates {
    pub(crate) published: f64,
    pub(crate) confirmed: f64,
    pub(crate) delivered: f64,
}

impl Report {
    /// The report of a run that has just ended. `began_ns`: when the program was started; `expected`: what a run that
    /// only consumes waited for.
    pub(crate) fn new<D: Dialect>(plan: &Plan, outcome: &Outcome<D>, began_ns: u64, expected: u64) -> Self {
        let (measure, window) = (&outcome.measure, &outcome.window);
        let (counts, before) = (measure.ledger.counts, window.counts);
        let rate = |count: u64, until_ns: u64| {
            let seconds = ns_as_seconds(until_ns.saturating_sub(window.start_ns));
            if seconds > 0.0 { round(count as f64 / seconds, 10.0) } else { 0.0 }
        };
        let seconds = |from_ns: u64, to_ns: u64| round(ns_as_seconds(to_ns.saturating_sub(from_ns)), 1_000.0);
        let first_ns = (measure.first_delivery_ns > 0).then_some(measure.first_delivery_ns);
        let copies = plan.spread().copies();
        let handled = match (plan.mode, plan.confirm_window) {
            (Mode::ConsumeOnly, _) => counts.distinct() - before.distinct(),
            (Mode::Both, None) => (counts.distinct() - before.distinct()) / copies,
            (Mode::PublishOnly, None) => counts.published - before.published,
            (Mode::Both | Mode::PublishOnly, Some(_)) => counts.confirmed - before.confirmed,
        };
        let (ending, failure) = match &outcome.ending {
            Ending::Complete => ("complete", None),
            Ending::Stalled => ("stalled", None),
            Ending::OutOfTime => ("out of time", None),
            Ending::Failed(error) => ("failed", Some(error.to_string())),
        };
        let knows_loss = plan.mode == Mode::Both && plan.confirm_window.is_some();
        let undelivered = match plan.mode {
            Mode::Both => ((counts.published.saturating_sub(counts.returned)) * copies)
                .saturating_sub(counts.distinct()),
            Mode::PublishOnly => 0,
            Mode::ConsumeOnly => expected.saturating_sub(counts.distinct() + counts.foreign),
        };
        let own_cpu_us = own_cpu_ns().saturating_sub(window.own_cpu_ns) as f64 / 1e3;
        Self {
            label: plan.common.label.clone(),
            parameters: Parameters::of(plan),
            ending,
            // A run that broke off leaves messages under way: none of them is known to be lost.
            lost: (knows_loss && failure.is_none()).then(|| measure.ledger.missing()),
            failure,
            counts,
            undelivered,
            blocked: measure.blocked,
            seconds: seconds(window.start_ns, measure.last_ns()),
            first_delivery_s: first_ns.map(|first_ns| seconds(began_ns, first_ns)),
            delivering_s: first_ns.map(|first_ns| seconds(first_ns, measure.last_delivery_ns)),
            rates: Rates {
                published: rate(counts.published - before.published, measure.last_publish_ns),
                confirmed: rate(counts.confirmed - before.confirmed, measure.last_confirm_ns),
                delivered: rate(counts.delivered - before.delivered, measure.last_delivery_ns),
            },
            confirm_ms: measure.confirm.summary(),
            end_to_end_ms: measure.delivery.summary(),
            broker: window
                .usage
                .zip(usage(&plan.common.pids))
                .map(|(before, after)| Cost::between(&before, &after, window.rss_peak_bytes, handled)),
            client_cpu_us_per_message: (handled > 0).then(|| round(own_cpu_us / handled as f64, 100.0)),
        }
    }

    /// The table, line by line.
    pub(crate) fn table(&self) -> String {
        let mut lines = Lines::default();
        let ending = match &self.failure {
            Some(failure) => format!("{}: {failure}", self.ending),
            None => self.ending.to_owned(),
        };
        lines.add("ending", ending);
        lines.add("measured", format!("{} s", self.seconds));
        let counts = &self.counts;
        for (name, count, rate) in [
            ("published", counts.published, Some(self.rates.published)),
            ("confirmed", counts.confirmed, Some(self.rates.confirmed)),
            ("delivered", counts.delivered, Some(self.rates.delivered)),
            ("nacked", counts.nacked, None),
            ("returned", counts.returned, None),
            ("redelivered", counts.redelivered, None),
            ("duplicates", counts.duplicates, None),
            ("duplicates without the flag", counts.duplicates_unflagged, None),
            ("out of order", counts.out_of_order, None),
            ("of other runs", counts.foreign, None),
            ("undelivered", self.undelivered, None),
        ] {
            let rate = rate.map(|rate| format!("  {}/s", grouped(rate as u64))).unwrap_or_default();
            lines.add(name, format!("{}{rate}", grouped(count)));
        }
        let lost = self.lost.map_or("not known (needs confirms and consumers)".to_owned(), grouped);
        lines.add("lost", lost);
        if self.blocked > 0 {
            lines.add("publishers blocked", format!("{} times", self.blocked));
        }
        lines.latency("confirm", self.confirm_ms.as_ref());
        lines.latency("end to end", self.end_to_end_ms.as_ref());
        if let Some(cost) = &self.broker {
            lines.cost(cost, "message");
        }
        if let Some(each) = self.client_cpu_us_per_message {
            lines.add("client CPU", format!("{each} us a message"));
        }
        lines.0
    }
}

impl Parameters {
    fn of(plan: &Plan) -> Self {
        let uris = plan.producer_uris.iter().chain(&plan.consumer_uris);
        let mut brokers: Vec<_> = uris.map(BrokerUri::address).collect();
        brokers.sort();
        brokers.dedup();
        Self {
            brokers,
            mode: match plan.mode {
                Mode::Both => "publish and consume",
                Mode::PublishOnly => "publish only",
                Mode::ConsumeOnly => "consume only",
            },
            producers: plan.producers,
            consumers: plan.consumers,
            queues: plan.queues,
            body_bytes: plan.body_bytes,
            confirm_window: plan.confirm_window,
            manual_ack: plan.ack == Ack::Manual,
            prefetch: plan.prefetch,
            multi_ack: plan.multi_ack,
            persistent: plan.persistent,
            durable: plan.queue_settings.durable,
            arguments: plan
                .queue_settings
                .arguments
                .iter()
                .map(|(name, value)| format!("{name}={value:?}"))
                .collect(),
            exchange: format!("{:?}", plan.exchange).to_lowercase(),
            rate: plan.rate,
            warmup_s: ns_as_seconds(plan.warmup_ns),
        }
    }
}

/// A table of names and values.
#[derive(Debug, Default)]
pub(crate) struct Lines(pub(crate) String);

impl Lines {
    /// Adds a line.
    pub(crate) fn add(&mut self, name: &str, value: impl std::fmt::Display) {
        self.0.push_str(&format!("{name:<28}{value}\n"));
    }

    /// Adds latencies, if there are any.
    pub(crate) fn latency(&mut self, name: &str, summary: Option<&Summary>) {
        if let Some(Summary { p50, p95, p99, p999, max, .. }) = summary {
            self.add(name, format!("p50 {p50}  p95 {p95}  p99 {p99}  p99.9 {p999}  max {max} ms"));
        }
    }

    /// Adds what the brokers cost, for each `thing`.
    pub(crate) fn cost(&mut self, cost: &Cost, thing: &str) {
        const MIB: f64 = 1_048_576.0;
        let each = |value: Option<f64>, unit: &str| {
            value.map(|value| format!(", {value} {unit} a {thing}")).unwrap_or_default()
        };
        self.add("broker CPU", format!("{} s{}", cost.cpu_s, each(cost.cpu_us_per_message, "us")));
        let (peak, start) = (cost.rss_peak_bytes as f64 / MIB, cost.rss_start_bytes as f64 / MIB);
        self.add("broker memory", format!("peak {peak:.1} MiB, at the start {start:.1} MiB"));
        match cost.written_bytes {
            Some(bytes) => {
                let mib = bytes as f64 / MIB;
                self.add(
                    "broker disk writes",
                    format!("{mib:.1} MiB{}", each(cost.written_bytes_per_message, "bytes")),
                );
            }
            None => self.add("broker disk writes", "not readable (another user's process)"),
        }
    }
}

/// A number with a comma between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_grouped() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        cases.iter().for_each(|(number, text)| assert_eq!(grouped(*number), *text));
    }
}
