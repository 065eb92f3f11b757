//! What is asked for on the command line. Each seed is run by a process of its own, so that nothing is left of the one before.

use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::world::{self, Outcome};

const SEED: &str = "WARREN_SIMULATION_SEED";
const USAGE: &str = "warren-simulation [--seconds N] [--seeds N] [--seed FIRST] [--plant MISTAKE]   many seeds, until one fails
warren-simulation run --seed SEED [--trace] [--plant MISTAKE]                  one seed
MISTAKE: skip-sync, confirm-early, forget-sequence, serve-early. RUST_LOG=info with `run` shows what the nodes log.";

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
struct Arguments {
    run: bool,
    trace: bool,
    seed: Option<u64>,
    seeds: Option<u64>,
    seconds: Option<u64>,
    plant: Option<String>,
}

fn arguments() -> Option<Arguments> {
    let mut found = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut number = || given.next()?.parse().ok();
        match argument.as_str() {
            "run" => found.run = true,
            "--trace" => found.trace = true,
            "--seed" => found.seed = Some(number()?),
            "--seeds" => found.seeds = Some(number()?),
            "--seconds" => found.seconds = Some(number()?),
            "--plant" => found.plant = Some(given.next()?),
            _ => return None,
        }
    }
    Some(found)
}

pub(crate) fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match (arguments.run, std::env::var_os(SEED)) {
        (true, Some(_)) => one(&arguments),
        (true, None) => match child(&arguments, arguments.seed.unwrap_or(1)).status() {
            Ok(status) if status.success() => ExitCode::SUCCESS,
            Ok(_) => ExitCode::FAILURE,
            Err(error) => failed(&error),
        },
        (false, _) => many(&arguments),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("warren-simulation: {error}");
    ExitCode::from(2)
}

/// This program once more, with the clock and the chance of a simulation.
fn child(arguments: &Arguments, seed: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_default());
    command.args(["run", "--seed", &seed.to_string()]).env(SEED, seed.to_string());
    if arguments.trace {
        command.arg("--trace");
    }
    if let Some(plant) = &arguments.plant {
        command.args(["--plant", plant]);
    }
    command
}

fn many(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let first = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()) * 1000);
    let seconds = arguments.seconds.unwrap_or(if arguments.seeds.is_some() { u64::MAX } else { 60 });
    let mut count = 0;
    let mut simulated = 0.0;
    while began.elapsed() < Duration::from_secs(seconds) && count < arguments.seeds.unwrap_or(u64::MAX) {
        let seed = first + count;
        count += 1;
        let ran = child(arguments, seed).stderr(Stdio::inherit()).output();
        let ran = match ran {
            Ok(ran) => ran,
            Err(error) => return failed(&error),
        };
        let text = String::from_utf8_lossy(&ran.stdout);
        if !ran.status.success() {
            print!("{text}");
            let plant = arguments.plant.as_ref().map(|plant| format!(" --plant {plant}")).unwrap_or_default();
            println!(
                "seed {seed} FAILS, number {count} of this run. Again: ./warren.sh simulate run --seed {seed}{plant} --trace"
            );
            return ExitCode::FAILURE;
        }
        let ms = text
            .split_whitespace()
            .skip_while(|word| *word != "ms:")
            .nth(1)
            .and_then(|ms| ms.parse::<f64>().ok());
        simulated += ms.unwrap_or_default() / 1000.0;
    }
    println!(
        "{count} seeds from {first}, {simulated:.0} simulated seconds in {:.0} s: nothing found",
        began.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}

fn one(arguments: &Arguments) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    if let Ok(filter) = filter {
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
    }
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        said(panic);
    }));
    if let Err(error) = plant(arguments.plant.as_deref()) {
        return failed(&error);
    }
    let seed = arguments.seed.unwrap_or(1);
    let root = std::path::Path::new("/dev/shm");
    let directory = if root.is_dir() { tempfile::tempdir_in(root) } else { tempfile::tempdir() };
    let ran = directory.and_then(|directory| world::run(seed, directory.path(), arguments.trace));
    let Outcome { mut violations, hash, events, simulated_ms, faults, confirmed, deliveries } = match ran {
        Ok(outcome) => outcome,
        Err(error) => return failed(&error),
    };
    let panics = PANICS.load(Ordering::Relaxed);
    if panics > 0 {
        violations.push(format!("{panics} tasks panicked"));
    }
    println!(
        "seed {seed} trace {hash:016x} of {events} events, ms: {simulated_ms} faults: {faults} confirmed: {confirmed} deliveries: {deliveries}"
    );
    for violation in &violations {
        println!("VIOLATION {violation}");
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(debug_assertions)]
fn plant(mistake: Option<&str>) -> Result<(), String> {
    use warren_store::simulation::{Planted, plant};
    plant(match mistake {
        None => return Ok(()),
        Some("skip-sync") => Planted::SkipSync,
        Some("confirm-early") => Planted::ConfirmEarly,
        Some("forget-sequence") => Planted::ForgetSequence,
        Some("serve-early") => Planted::ServeEarly,
        Some(other) => return Err(format!("no such mistake: {other}")),
    });
    Ok(())
}

#[cfg(not(debug_assertions))]
fn plant(mistake: Option<&str>) -> Result<(), String> {
    mistake.map_or(Ok(()), |_| Err("a release build makes no mistakes".to_owned()))
}
