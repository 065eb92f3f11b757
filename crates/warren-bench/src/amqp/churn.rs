//! `warren bench churn`: things that are opened and closed again as quickly as possible, each waited for.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::amqp::link::Link;
use crate::amqp::topology::{declare_queue, delete_queue};
use crate::arguments::{Common, QueueArguments};
use crate::clock::{monotonic_ns, ns_as_seconds, own_cpu_ns, seconds_as_ns};
use crate::error::BenchError;
use crate::latency::{Latency, Summary};
use crate::print;
use crate::process::{Cost, round, usage};
use crate::report::{Lines, grouped};
use crate::uri::Scheme;
use crate::workers::{in_parallel, share};

/// The command line of `warren bench churn`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChurnArguments {
    /// What comes and goes.
    #[arg(value_enum)]
    what: What,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    queue: QueueArguments,
    /// How many come and go at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    workers: u16,
    /// End after N, all workers together.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after S seconds (10 if --count is not given either).
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
}

/// What comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum What {
    /// A connection with one channel: TCP, login, channel, and a close that is answered.
    Connection,
    /// A channel on a connection that stays.
    Channel,
    /// A queue: declared and deleted.
    Queue,
}

#[derive(Debug, Serialize)]
struct Report {
    label: Option<String>,
    what: What,
    workers: u16,
    /// How many came and went.
    count: u64,
    seconds: f64,
    per_second: f64,
    /// One coming and going, in milliseconds.
    cycle_ms: Option<Summary>,
    broker: Option<Cost>,
    client_cpu_us_each: Option<f64>,
}

/// How long it goes on when nothing was said.
const DEFAULT_SECONDS: f64 = 10.0;

/// Runs it.
///
/// # Errors
/// What a broker says; the command line's nonsense.
pub(crate) fn churn(arguments: &ChurnArguments) -> Result<ExitCode, BenchError> {
    let uris = arguments.common.uris(Scheme::Amqp)?;
    let settings = arguments.queue.settings()?;
    let unlimited = arguments.count.is_none();
    let seconds = arguments.seconds.or(unlimited.then_some(DEFAULT_SECONDS));
    let workers = usize::from(arguments.workers);
    let before = usage(&arguments.common.pids);
    let (start_ns, own_before_ns) = (monotonic_ns(), own_cpu_ns());
    let until_ns = seconds.map_or(u64::MAX, |seconds| start_ns + seconds_as_ns(seconds));
    let latencies = in_parallel(workers, |worker| {
        let uri = uris
            .iter()
            .cycle()
            .nth(worker)
            .ok_or_else(|| BenchError::Usage("no URI was given".to_owned()))?;
        let limit = arguments.count.map_or(u64::MAX, |count| share(count, worker, workers));
        let mut latency = Latency::new()?;
        let mut held = match arguments.what {
            What::Connection => None,
            What::Channel | What::Queue => Some(Link::open_with_channel(uri)?),
        };
        let mut done = 0;
        while done < limit {
            let from_ns = monotonic_ns();
            if from_ns >= until_ns {
                break;
            }
            match (&mut held, arguments.what) {
                (Some(link), What::Channel) => {
                    link.open_channel(OTHER_CHANNEL)?;
                    link.close_channel(OTHER_CHANNEL)?;
                }
                (Some(link), What::Queue) => {
                    let name = format!("{}-{worker}-{done}", arguments.queue.queue_prefix);
                    declare_queue(link, &name, &settings)?;
                    if !arguments.queue.keep {
                        delete_queue(link, &name)?;
                    }
                }
                (None, _) | (Some(_), What::Connection) => Link::open_with_channel(uri)?.close()?,
            }
            latency.record(from_ns, monotonic_ns());
            done += 1;
        }
        held.map_or(Ok(()), Link::close)?;
        Ok(latency)
    })?;
    let seconds = ns_as_seconds(monotonic_ns() - start_ns);
    let mut latency = Latency::new()?;
    latencies.iter().for_each(|one| latency.merge(one));
    let count = latency.count();
    let own_cpu_us = own_cpu_ns().saturating_sub(own_before_ns) as f64 / 1e3;
    let after = usage(&arguments.common.pids);
    let report = Report {
        label: arguments.common.label.clone(),
        what: arguments.what,
        workers: arguments.workers,
        count,
        seconds: round(seconds, 1_000.0),
        per_second: round(count as f64 / seconds, 10.0),
        cycle_ms: latency.summary(),
        broker: before
            .zip(after)
            .map(|(before, after)| Cost::between(&before, &after, before.rss_bytes, count)),
        client_cpu_us_each: (count > 0).then(|| round(own_cpu_us / count as f64, 100.0)),
    };
    print(arguments.common.output, &report, || report.table());
    Ok(ExitCode::SUCCESS)
}

/// The channel that comes and goes, beside the connection's own.
const OTHER_CHANNEL: u16 = 2;

impl Report {
    fn table(&self) -> String {
        let mut lines = Lines::default();
        let (thing, things) = match self.what {
            What::Connection => ("connection", "connections"),
            What::Channel => ("channel", "channels"),
            What::Queue => ("queue", "queues"),
        };
        lines.add(
            things,
            format!("{} in {} s  {}/s", grouped(self.count), self.seconds, grouped(self.per_second as u64)),
        );
        lines.latency("coming and going", self.cycle_ms.as_ref());
        if let Some(cost) = &self.broker {
            lines.cost(cost, thing);
        }
        if let Some(each) = self.client_cpu_us_each {
            lines.add("client CPU", format!("{each} us a {thing}"));
        }
        lines.0
    }
}
