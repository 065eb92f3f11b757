//! A long run: `warren-fuzz --seconds 60 [--seed N] [--target NAME]`, or one round again: `--round N`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use warren_fuzz::{TARGETS, Target, input};

struct Options {
    seconds: u64,
    seed: u64,
    target: Option<String>,
    round: Option<u64>,
}

fn options() -> Result<Options, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut options = Options { seconds: 30, seed: now, target: None, round: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value:?} is no number"));
        match name.as_str() {
            "--seconds" => options.seconds = number()?,
            "--seed" => options.seed = number()?,
            "--round" => options.round = Some(number()?),
            "--target" if TARGETS.iter().any(|target| target.name == value) => options.target = Some(value),
            "--target" => {
                let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
                return Err(format!("--target: {value:?} is none of {}", names.join(", ")));
            }
            _ => return Err(format!("{name} is no option: --seconds, --seed, --target, --round")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("error: {text}");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<&Target> = TARGETS
        .iter()
        .filter(|target| options.target.as_deref().is_none_or(|name| name == target.name))
        .collect();
    let mut failed = 0;
    for target in &chosen {
        let share = Duration::from_secs(options.seconds) / u32::try_from(chosen.len()).unwrap_or(1).max(1);
        let (began, seeds) = (Instant::now(), (target.seeds)());
        let mut round = options.round.unwrap_or(0);
        loop {
            let (octets, mut chance) = input(target, &seeds, options.seed, round);
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&octets, &mut chance))).is_err() {
                let (name, seed) = (target.name, options.seed);
                eprintln!("FAILED: --target {name} --seed {seed} --round {round}, octets: {octets:02x?}");
                failed += 1;
                break;
            }
            round += 1;
            if began.elapsed() >= share || options.round.is_some() {
                break;
            }
        }
        println!("{}: {round} rounds, seed {}", target.name, options.seed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
