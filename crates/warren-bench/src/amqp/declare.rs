//! `warren bench declare`: many queues over one connection, what they take in time and memory, and what deleting them takes.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::amqp::link::Link;
use crate::amqp::topology::{put_declare, put_delete};
use crate::amqp::wire::{MethodId, method};
use crate::arguments::{Common, QueueArguments};
use crate::clock::{monotonic_ns, ns_as_seconds};
use crate::error::BenchError;
use crate::print;
use crate::process::{Cost, Usage, round, usage};
use crate::report::{Lines, grouped};
use crate::uri::Scheme;

/// The command line of `warren bench declare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DeclareArguments {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    queue: QueueArguments,
    /// How many queues.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
    /// Declarations under way at once; AMQP answers them in order. 1: each is waited for.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pipeline: u32,
}

#[derive(Debug, Serialize)]
struct Report {
    label: Option<String>,
    count: u64,
    pipeline: u32,
    declared: Phase,
    /// None with --keep.
    deleted: Option<Phase>,
    /// How much the brokers' memory, added up, grew for each queue.
    memory_bytes_per_queue: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Phase {
    seconds: f64,
    per_second: f64,
    broker: Option<Cost>,
}

/// Runs it.
///
/// # Errors
/// What the broker says; the command line's nonsense.
pub(crate) fn declare(arguments: &DeclareArguments) -> Result<ExitCode, BenchError> {
    let settings = arguments.queue.settings()?;
    let uris = arguments.common.uris(Scheme::Amqp)?;
    let uri = uris.first().ok_or_else(|| BenchError::Usage("no URI was given".to_owned()))?;
    let mut link = Link::open_with_channel(uri)?;
    let name = |number: u64| format!("{}-{number}", arguments.queue.queue_prefix);
    let put = |out: &mut Vec<u8>, number: u64| put_declare(out, &name(number), &settings);
    let (declared, before, after) = phase(&mut link, arguments, "declared", method::QUEUE_DECLARE_OK, put)?;
    let deleted = if arguments.queue.keep {
        None
    } else {
        let put = |out: &mut Vec<u8>, number: u64| put_delete(out, &name(number));
        Some(phase(&mut link, arguments, "deleted", method::QUEUE_DELETE_OK, put)?.0)
    };
    link.close()?;
    let grown = before.zip(after).map(|(before, after)| after.rss_bytes.saturating_sub(before.rss_bytes));
    let report = Report {
        label: arguments.common.label.clone(),
        count: arguments.count,
        pipeline: arguments.pipeline,
        declared,
        deleted,
        memory_bytes_per_queue: grown.map(|bytes| round(bytes as f64 / arguments.count as f64, 1.0)),
    };
    print(arguments.common.output, &report, || report.table());
    Ok(ExitCode::SUCCESS)
}

/// Asks for every queue once and waits for every answer; the brokers' usage before and after.
fn phase(
    link: &mut Link,
    arguments: &DeclareArguments,
    done: &'static str,
    answer: MethodId,
    put: impl Fn(&mut Vec<u8>, u64),
) -> Result<(Phase, Option<Usage>, Option<Usage>), BenchError> {
    let (count, pipeline) = (arguments.count, u64::from(arguments.pipeline));
    let before = usage(&arguments.common.pids);
    let start_ns = monotonic_ns();
    let (mut asked, mut answered, mut told_s) = (0, 0, 0);
    let mut out = Vec::new();
    while answered < count {
        // Half of the pipeline at once: one write for many.
        if asked < count && asked - answered <= pipeline / 2 {
            let until = count.min(answered + pipeline);
            out.clear();
            (asked..until).for_each(|number| put(&mut out, number));
            asked = until;
            link.send(&out)?;
        }
        link.wait_for(answer, "a declaration")?;
        answered += 1;
        let passed_s = ns_as_seconds(monotonic_ns() - start_ns) as u64;
        if passed_s > told_s && !arguments.common.quiet {
            told_s = passed_s;
            eprintln!("{passed_s:>4} s  {done} {} of {}", grouped(answered), grouped(count));
        }
    }
    let seconds = ns_as_seconds(monotonic_ns() - start_ns);
    let after = usage(&arguments.common.pids);
    let broker =
        before.zip(after).map(|(before, after)| Cost::between(&before, &after, before.rss_bytes, count));
    let phase =
        Phase { seconds: round(seconds, 1_000.0), per_second: round(count as f64 / seconds, 10.0), broker };
    Ok((phase, before, after))
}

impl Report {
    fn table(&self) -> String {
        let mut lines = Lines::default();
        let deleted = self.deleted.as_ref().map(|phase| ("deleted", phase));
        for (name, phase) in std::iter::once(("declared", &self.declared)).chain(deleted) {
            let rate = grouped(phase.per_second as u64);
            lines.add(name, format!("{} queues in {} s  {rate}/s", grouped(self.count), phase.seconds));
            if let Some(cost) = &phase.broker {
                lines.cost(cost, "queue");
            }
        }
        if let Some(bytes) = self.memory_bytes_per_queue {
            lines.add("memory a queue", format!("{} bytes, all brokers together", grouped(bytes as u64)));
        }
        lines.0
    }
}
