//! Load for NATS with JetStream, with the options and the report of `warren bench run`: a yardstick, not shipped.

use std::process::ExitCode;

use clap::Parser;
use warren_bench::{NatsArguments, nats};

/// Publish to streams of NATS and consume from them: throughput, latency, losses, what a message costs the servers.
#[derive(Debug, Parser)]
#[command(name = "warren-bench-nats", version)]
struct Cli {
    #[command(flatten)]
    arguments: NatsArguments,
}

fn main() -> ExitCode {
    nats(Cli::parse().arguments)
}
