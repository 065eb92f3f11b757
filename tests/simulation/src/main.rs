//! A whole cluster in one thread: the broker's own code from clients' octets to the log, over a clock, a network and disks
//! that follow from one seed. See `tests/README.md`.

mod amqp;
mod chance;
mod clients;
mod command;
mod disk;
mod faults;
mod history;
mod kinds;
mod machine;
mod network;
mod runtime;
mod trace;
mod world;

use std::process::ExitCode;

fn main() -> ExitCode {
    command::main()
}
