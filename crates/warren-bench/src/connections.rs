//! `warren bench connections`: many connections, with a channel each where there are channels, held open; what they take
//! in time and memory.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::arguments::Common;
use crate::clock::{monotonic_ns, ns_as_seconds, seconds_as_ns};
use crate::dialect::Dialect;
use crate::error::BenchError;
use crate::latency::{Latency, Summary};
use crate::print;
use crate::process::{Cost, round, usage};
use crate::report::{Lines, grouped};
use crate::workers::{in_parallel, share};

/// The command line of `warren bench connections`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConnectionsArguments {
    #[command(flatten)]
    common: Common,
    /// How many connections.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    count: u64,
    /// How many are opened at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    workers: u16,
    /// Keep them open for S seconds.
    #[arg(long, value_name = "S", default_value_t = 2.0)]
    hold: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    label: Option<String>,
    count: u64,
    /// How long it took to open them all.
    seconds: f64,
    per_second: f64,
    /// Opening one, in milliseconds.
    open_ms: Option<Summary>,
    broker: Option<Cost>,
    /// How much the brokers' memory, added up, had grown for each connection when all had been open for a while.
    memory_bytes_per_connection: Option<f64>,
}

/// Files that this process needs besides the connections.
const OTHER_FILES: u64 = 50;

/// Runs it.
///
/// # Errors
/// What a broker says, or when this process may not open so many files.
pub(crate) fn connections<D: Dialect>(arguments: &ConnectionsArguments) -> Result<ExitCode, BenchError> {
    allow_files(arguments.count + OTHER_FILES)?;
    let uris = arguments.common.uris(D::SCHEME)?;
    let workers = usize::from(arguments.workers);
    let before = usage(&arguments.common.pids);
    let start_ns = monotonic_ns();
    let opened = in_parallel(workers, |worker| {
        let mut latency = Latency::new()?;
        let mut links = Vec::new();
        let uris = uris.iter().cycle().skip(worker);
        for (_, uri) in (0..share(arguments.count, worker, workers)).zip(uris) {
            let from_ns = monotonic_ns();
            links.push(D::open_idle(uri)?);
            latency.record(from_ns, monotonic_ns());
        }
        Ok((latency, links))
    })?;
    let seconds = ns_as_seconds(monotonic_ns() - start_ns);
    let opened_usage = usage(&arguments.common.pids);
    thread::sleep(Duration::from_nanos(seconds_as_ns(arguments.hold)));
    let held = usage(&arguments.common.pids);
    let mut latency = Latency::new()?;
    let mut links = Vec::new();
    for (one, some) in opened {
        latency.merge(&one);
        links.extend(some);
    }
    // Closing in good order shows that every one of them was still alive.
    links.into_iter().try_for_each(D::close)?;
    let count = arguments.count;
    let grown = before.zip(held).map(|(before, held)| held.rss_bytes.saturating_sub(before.rss_bytes));
    let peak = held.map_or(0, |held| held.rss_bytes);
    let report = Report {
        label: arguments.common.label.clone(),
        count,
        seconds: round(seconds, 1_000.0),
        per_second: round(count as f64 / seconds, 10.0),
        open_ms: latency.summary(),
        broker: before.zip(opened_usage).map(|(before, after)| Cost::between(&before, &after, peak, count)),
        memory_bytes_per_connection: grown.map(|bytes| round(bytes as f64 / count as f64, 1.0)),
    };
    print(arguments.common.output, &report, || report.table());
    Ok(ExitCode::SUCCESS)
}

/// Raises this process's limit of open files to what is needed, as far as it may.
fn allow_files(needed: u64) -> Result<(), BenchError> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        let maximum = limit.maximum.unwrap_or_default();
        return Err(BenchError::Usage(format!(
            "this process may open {maximum} files and needs {needed}: raise the limit (ulimit -n) or lower --count"
        )));
    }
    limit.current = Some(needed);
    setrlimit(Resource::Nofile, limit).map_err(|error| BenchError::System {
        doing: "raising the limit of open files",
        source: error.into(),
    })
}

impl Report {
    fn table(&self) -> String {
        let mut lines = Lines::default();
        let rate = grouped(self.per_second as u64);
        lines.add("connections opened", format!("{} in {} s  {rate}/s", grouped(self.count), self.seconds));
        lines.latency("opening one", self.open_ms.as_ref());
        if let Some(cost) = &self.broker {
            lines.cost(cost, "connection");
        }
        if let Some(bytes) = self.memory_bytes_per_connection {
            lines
                .add("memory a connection", format!("{} bytes, all brokers together", grouped(bytes as u64)));
        }
        lines.0
    }
}
