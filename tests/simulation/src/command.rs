//! What is asked for on the command line. Each seed is run by a process of its own, so that nothing is left of the one before.

use std::io::{Read, Seek, SeekFrom, Write};
use std::process::{Command, ExitCode, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::world::{self, Outcome};

const SEED: &str = "WARREN_SIMULATION_SEED";
const USAGE: &str = "warren-simulation [--seconds N] [--seeds N] [--seed FIRST] [--jobs N] [--keep-going] [--restless] [--plant MISTAKE]
                                                                  many seeds, until one fails; as many at once as there are cores
warren-simulation run --seed SEED [--trace] [--restless] [--plant MISTAKE]     one seed
In restless runs nodes come and go all the time. A seed that has not ended after five minutes of the processor is ended, and
has failed. Many seeds: one that fails is run once more, and it is said whether that was the same run.
MISTAKE: skip-sync, confirm-early, forget-sequence, serve-early. RUST_LOG=info with `run` shows what the nodes log.";

/// A run that works longer does not end. Its own time counts: a busy machine must not fail it.
const LONGEST: Duration = Duration::from_secs(300);
/// One that neither works nor ends, in time of the machine.
const STUCK: Duration = Duration::from_secs(3600);

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[derive(Default)]
struct Arguments {
    run: bool,
    trace: bool,
    seed: Option<u64>,
    seeds: Option<u64>,
    seconds: Option<u64>,
    /// How many seeds are run at once.
    jobs: Option<usize>,
    /// Also after a seed that failed.
    keep_going: bool,
    plant: Option<String>,
    /// Nodes come and go all the time.
    restless: bool,
}

fn arguments() -> Option<Arguments> {
    let mut found = Arguments::default();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut number = || given.next()?.parse::<u64>().ok();
        match argument.as_str() {
            "run" => found.run = true,
            "--trace" => found.trace = true,
            "--seed" => found.seed = Some(number()?),
            "--seeds" => found.seeds = Some(number()?),
            "--seconds" => found.seconds = Some(number()?),
            "--jobs" => found.jobs = Some(usize::try_from(number()?).ok()?),
            "--keep-going" => found.keep_going = true,
            "--restless" => found.restless = true,
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
            Err(error) => failed_to(&error),
        },
        (false, _) => many(&arguments),
    }
}

fn failed_to(error: &dyn std::fmt::Display) -> ExitCode {
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
    if arguments.restless {
        command.arg("--restless");
    }
    if let Some(plant) = &arguments.plant {
        command.args(["--plant", plant]);
    }
    command
}

/// What a run says, which is ended when it does not end: a mistake may do something for ever in one simulated millisecond.
fn output(command: &mut Command) -> std::io::Result<Output> {
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut run = command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
    let began = Instant::now();
    let status = loop {
        if let Some(status) = run.try_wait()? {
            break status;
        }
        if worked(run.id()).is_some_and(|worked| worked > LONGEST) || began.elapsed() > STUCK {
            run.kill()?;
            writeln!(stderr, "the run did not end")?;
            break run.wait()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let read = |file: &mut std::fs::File| {
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut text).map(|_| text)
    };
    Ok(Output { status, stdout: read(&mut stdout)?, stderr: read(&mut stderr)? })
}

/// How long the main thread of a process has had a processor; `None` where the system does not tell.
fn worked(process: u32) -> Option<Duration> {
    let said = std::fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
    Some(Duration::from_nanos(said.split_whitespace().next()?.parse().ok()?))
}

/// Many seeds, one after the other by each of several workers.
struct Many<'a> {
    arguments: &'a Arguments,
    first: u64,
    most: u64,
    until: Option<Instant>,
    /// Seeds that were begun.
    begun: AtomicU64,
    /// Nothing more is begun.
    over: AtomicBool,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    count: u64,
    simulated_ms: f64,
    failed: Vec<u64>,
    error: Option<String>,
}

impl Many<'_> {
    fn work(&self) {
        while !self.over.load(Ordering::Relaxed) && self.until.is_none_or(|until| Instant::now() < until) {
            let number = self.begun.fetch_add(1, Ordering::Relaxed);
            if number >= self.most {
                return;
            }
            let seed = self.first + number;
            let ran = output(&mut child(self.arguments, seed));
            let again = ran.as_ref().ok().filter(|ran| !ran.status.success());
            let again = again.and_then(|_| output(&mut child(self.arguments, seed)).ok());
            let mut found = self.found.lock();
            match ran {
                Ok(ran) => self.judge(seed, &ran, again.as_ref(), &mut found),
                Err(error) => {
                    found.error = Some(error.to_string());
                    self.over.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn judge(&self, seed: u64, ran: &Output, again: Option<&Output>, found: &mut Found) {
        found.count += 1;
        let text = String::from_utf8_lossy(&ran.stdout);
        if ran.status.success() {
            let ms = text.split_whitespace().skip_while(|word| *word != "ms:").nth(1);
            found.simulated_ms += ms.and_then(|ms| ms.parse::<f64>().ok()).unwrap_or_default();
            return;
        }
        print!("{}{text}", String::from_utf8_lossy(&ran.stderr));
        let mut options =
            self.arguments.plant.as_ref().map(|plant| format!(" --plant {plant}")).unwrap_or_default();
        if self.arguments.restless {
            options += " --restless";
        }
        let count = found.count;
        println!(
            "seed {seed} FAILS, number {count} of this run. Again: ./warren.sh simulate run --seed {seed}{options} --trace"
        );
        if again.is_none_or(|again| again.stdout != ran.stdout) {
            let text = again.map(|again| String::from_utf8_lossy(&again.stdout)).unwrap_or_default();
            println!("seed {seed} WAS ANOTHER RUN the second time, which must not be: {text}");
        }
        found.failed.push(seed);
        if !self.arguments.keep_going {
            self.over.store(true, Ordering::Relaxed);
        }
    }
}

fn many(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let first = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()) * 1000);
    let seconds = arguments.seconds.or(arguments.seeds.is_none().then_some(60));
    let many = Many {
        arguments,
        first,
        most: arguments.seeds.unwrap_or(u64::MAX),
        until: seconds.and_then(|seconds| began.checked_add(Duration::from_secs(seconds))),
        begun: AtomicU64::new(0),
        over: AtomicBool::new(false),
        found: Mutex::default(),
    };
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| many.work());
        }
    });
    let Found { count, simulated_ms, failed, error } = many.found.into_inner();
    if let Some(error) = error {
        return failed_to(&error);
    }
    let said = if failed.is_empty() { "nothing found".to_owned() } else { format!("failed: {failed:?}") };
    println!(
        "{count} seeds from {first}, {:.0} simulated seconds in {:.0} s: {said}",
        simulated_ms / 1000.0,
        began.elapsed().as_secs_f64()
    );
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(arguments: &Arguments) -> ExitCode {
    if let Err(error) = listen() {
        return failed_to(&error);
    }
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        said(panic);
    }));
    if let Err(error) = plant(arguments.plant.as_deref()) {
        return failed_to(&error);
    }
    let seed = arguments.seed.unwrap_or(1);
    let root = std::path::Path::new("/dev/shm");
    let directory = if root.is_dir() { tempfile::tempdir_in(root) } else { tempfile::tempdir() };
    let ran = directory
        .and_then(|directory| world::run(seed, directory.path(), arguments.trace, arguments.restless));
    let Outcome { mut violations, hash, events, simulated_ms, faults, confirmed, deliveries } = match ran {
        Ok(outcome) => outcome,
        Err(error) => return failed_to(&error),
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

/// Prints what the nodes log, as far as RUST_LOG asks for it. What that needs of chance is not taken from the seed's, of
/// which only the main thread draws: a run that is listened to is the same run. (Seen with one level for everything; with
/// levels of single crates seed 530001 ran otherwise.)
fn listen() -> Result<(), String> {
    let installs = || {
        if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_default_env() {
            tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
        }
    };
    std::thread::spawn(installs).join().map_err(|_| "nothing can be logged".to_owned())
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
