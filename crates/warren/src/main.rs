//! The `warren` binary: `server` is the broker, everything else asks a running node through its HTTP API.

mod config;
mod files;
mod logging;
mod operator;
mod server;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use operator::Connection;

// RocksDB, frames and bodies make many allocations of all sizes from many threads: glibc's allocator keeps the peaks.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A message broker that AMQP 0-9-1 clients cannot tell from RabbitMQ.
#[derive(Debug, Parser)]
#[command(name = "warren", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node until SIGTERM. Without any flag: a complete single node.
    Server(server::Arguments),
    /// Show the cluster on one screen: nodes, shards, leaders, lag.
    Status(Connection),
    /// List the nodes; drain, remove and replace one.
    Nodes(operator::NodesArguments),
    /// List the queues: messages, consumers, leader.
    Queues(operator::QueuesArguments),
    /// List, add, change and delete users.
    #[command(subcommand)]
    Users(operator::Users),
    /// List, add, change and delete virtual hosts.
    #[command(subcommand)]
    Vhosts(operator::Vhosts),
    /// List, set and clear what users may do in virtual hosts.
    #[command(subcommand)]
    Permissions(operator::Permissions),
    /// List, set and clear which routing keys users may use with topic exchanges.
    #[command(subcommand)]
    TopicPermissions(operator::TopicPermissions),
    /// List, set and clear limits of virtual hosts and users.
    #[command(subcommand)]
    Limits(operator::Limits),
    /// List, set and clear parameters, of components and global ones.
    #[command(subcommand)]
    Parameters(operator::Parameters),
    /// List, set and delete policies, users' and operators'.
    #[command(subcommand)]
    Policies(operator::Policies),
    /// Export and import everything that is declared, in RabbitMQ's JSON.
    #[command(subcommand)]
    Definitions(operator::Definitions),
    /// Ask one question; the exit code is the answer: 0 yes, 1 no.
    Check(operator::CheckArguments),
    /// Load any AMQP 0-9-1 broker and say honestly how it did.
    Bench(warren_bench::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Server(arguments) => server::run(&arguments),
        Command::Status(connection) => operator::finish(operator::status(&connection)),
        Command::Nodes(arguments) => operator::finish(operator::nodes(&arguments)),
        Command::Queues(arguments) => operator::finish(operator::queues(&arguments)),
        Command::Users(command) => operator::finish(operator::users(&command)),
        Command::Vhosts(command) => operator::finish(operator::vhosts(&command)),
        Command::Permissions(command) => operator::finish(operator::permissions(&command)),
        Command::TopicPermissions(command) => operator::finish(operator::topic_permissions(&command)),
        Command::Limits(command) => operator::finish(operator::limits(&command)),
        Command::Parameters(command) => operator::finish(operator::parameters(&command)),
        Command::Policies(command) => operator::finish(operator::policies(&command)),
        Command::Definitions(command) => operator::finish(operator::definitions(&command)),
        Command::Check(arguments) => operator::finish(operator::check(&arguments)),
        Command::Bench(arguments) => warren_bench::bench(arguments),
    }
}
