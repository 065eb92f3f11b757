//! `warren bench`: load for any AMQP 0-9-1 broker, and honest figures about it; beside it the same for NATS, for
//! developers. One thread, as light on CPU as it can be, since it shares the machine with what it measures. stdout is
//! data, stderr is talk; the exit code is the answer: 0 all well, 1 a confirmed message was lost, 2 usage, 3 the broker
//! refused or broke off, 6 not allowed, 7 unreachable, 8 not finished in time.
//!
//! It knows nothing of Warren: it speaks a protocol over a socket and reads `/proc`.

mod account;
mod amqp;
mod arguments;
mod clock;
mod confirms;
mod connection;
mod connections;
mod dialect;
mod engine;
mod error;
mod latency;
mod measure;
mod nats;
mod pacing;
mod process;
mod producer;
mod progress;
mod report;
mod socket;
mod stamp;
mod uri;
mod workers;

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Serialize;

use self::amqp::Amqp;
use self::amqp::churn::{self, ChurnArguments};
use self::amqp::declare::{self, DeclareArguments};
use self::arguments::{Mode, Output, Plan, RunArguments};
use self::clock::monotonic_ns;
use self::connections::{ConnectionsArguments, connections};
use self::dialect::Dialect;
use self::engine::{Ending, Engine};
use self::error::BenchError;
use self::nats::Nats;
use self::report::Report;
use self::uri::Scheme;

/// The command line of `warren bench`.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Publish and consume: throughput, latency, losses, what a message costs the broker.
    // A script may give its common options first and others after them: the last one counts.
    #[command(args_override_self = true)]
    Run(Box<RunArguments>),
    /// Open and close connections, channels or queues as quickly as possible.
    Churn(ChurnArguments),
    /// Declare many queues over one connection: time and memory.
    Declare(DeclareArguments),
    /// Open many connections and hold them: time and memory.
    Connections(ConnectionsArguments),
}

/// `warren bench`: runs until it is done, prints the report, gives the exit code.
pub fn bench(arguments: Arguments) -> ExitCode {
    let result = match arguments.kind {
        Kind::Run(arguments) => Plan::new(*arguments, Scheme::Amqp).and_then(|plan| run::<Amqp>(&plan)),
        Kind::Churn(arguments) => churn::churn(&arguments),
        Kind::Declare(arguments) => declare::declare(&arguments),
        Kind::Connections(arguments) => connections::<Amqp>(&arguments),
    };
    answer(result)
}

/// What the yardstick for NATS does.
#[derive(Debug, Subcommand)]
pub enum NatsCommand {
    /// Publish to streams and consume from them: throughput, latency, losses, what a message costs the servers. A queue is
    /// a stream with one durable consumer; `--queue-type quorum` gives it three replicas, each `--argument` is set in its
    /// configuration.
    #[command(args_override_self = true)]
    Run(Box<NatsRun>),
    /// Open many connections and hold them: time and memory.
    Connections(NatsConnections),
}

/// The command line of a run, which is the one of `warren bench run`.
#[derive(Debug, Args)]
pub struct NatsRun {
    #[command(flatten)]
    run: RunArguments,
}

/// The command line of `warren bench connections`.
#[derive(Debug, Args)]
pub struct NatsConnections {
    #[command(flatten)]
    connections: ConnectionsArguments,
}

/// The yardstick for NATS: runs until it is done, prints the report, gives the exit code.
pub fn nats(command: NatsCommand) -> ExitCode {
    answer(match command {
        NatsCommand::Run(run_it) => Plan::new(run_it.run, Scheme::Nats).and_then(|plan| run::<Nats>(&plan)),
        NatsCommand::Connections(arguments) => connections::<Nats>(&arguments.connections),
    })
}

fn answer(result: Result<ExitCode, BenchError>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        error.exit_code()
    })
}

/// A confirmed message was lost.
const LOST: u8 = 1;
/// Something did not happen in time.
const UNFINISHED: u8 = 8;

fn run<D: Dialect>(plan: &Plan) -> Result<ExitCode, BenchError> {
    let began_ns = monotonic_ns();
    let mut control = D::control(plan)?;
    let expected = match plan.mode {
        Mode::Both | Mode::PublishOnly => {
            D::set_up(plan, &mut control)?;
            0
        }
        Mode::ConsumeOnly => plan.messages.map_or_else(|| D::depth(plan, &mut control), Ok)?,
    };
    // Not a secret, only different from the run before.
    let run_tag = (monotonic_ns() / 1_000_003) as u8;
    let mut outcome = Engine::<D>::open(plan, run_tag, expected)?.run();
    let report = Report::new(plan, &outcome, began_ns, expected);
    print(plan.common.output, &report, || report.table());
    let closed = outcome.close();
    if !plan.keep {
        D::tear_down(plan, &mut control)?;
    }
    D::close(control)?;
    if let Ending::Failed(error) = outcome.ending {
        return Err(error);
    }
    closed?;
    if report.lost.is_some_and(|lost| lost > 0) {
        eprintln!("error: {} confirmed messages were lost", report.lost.unwrap_or_default());
        return Ok(ExitCode::from(LOST));
    }
    if !matches!(outcome.ending, Ending::Complete) {
        eprintln!("error: the run is not finished: {} deliveries did not come", report.undelivered);
        return Ok(ExitCode::from(UNFINISHED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a report the way that was asked for.
fn print<T: Serialize>(output: Output, report: &T, table: impl FnOnce() -> String) {
    match output {
        Output::Table => print!("{}", table()),
        Output::Json => match serde_json::to_string(report) {
            Ok(text) => println!("{text}"),
            Err(error) => eprintln!("error: the report cannot be written as JSON: {error}"),
        },
    }
}
