//! Load for NATS with JetStream, with the options and the reports of `warren bench`: a yardstick, not shipped.

use std::process::ExitCode;

use clap::Parser;
use warren_bench::{NatsCommand, nats};

/// Load NATS with JetStream and say honestly how it did.
#[derive(Debug, Parser)]
#[command(name = "warren-bench-nats", version)]
struct Cli {
    #[command(subcommand)]
    command: NatsCommand,
}

fn main() -> ExitCode {
    nats(Cli::parse().command)
}
