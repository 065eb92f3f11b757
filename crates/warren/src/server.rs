//! `warren server`: reads the configuration, runs a node and its HTTP listeners, and ends them in order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::config::{self, Arity, DEFAULT_FILE, Flags, Loaded, SETTINGS, Surroundings};

/// The exit code for a configuration that cannot be used (sysexits' `EX_CONFIG`): a supervisor should not try again.
const BAD_CONFIGURATION: u8 = 78;

/// The command line of `warren server`: a flag for every setting, and two that are only flags.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// The configuration file.
    config: Option<PathBuf>,
    /// Only check and print the configuration.
    check_config: bool,
    /// The settings' flags that were given.
    flags: Flags,
}

impl Args for Arguments {
    fn augment_args(command: clap::Command) -> clap::Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help(format!("A TOML file [built-in: {DEFAULT_FILE} if it exists] [variable: WARREN_CONFIG]"));
        let check = Arg::new("check-config")
            .long("check-config")
            .action(ArgAction::SetTrue)
            .help("Check the configuration, list every mistake, print the effective values and exit (0: right, 1: wrong)");
        let after = "Every flag is also a TOML key (data_dir = \"...\") and a variable (WARREN_DATA_DIR=...; with _FILE \
                     appended, the name of a file that holds the value). Flags win over variables, variables over the file.";
        SETTINGS.iter().fold(command.arg(config).arg(check).after_help(after), |command, setting| {
            let built_in = setting.default.filter(|default| !default.is_empty());
            let built_in = built_in.map(|default| format!(" [built-in: {default}]")).unwrap_or_default();
            let action = match setting.arity {
                Arity::One => ArgAction::Set,
                Arity::Many => ArgAction::Append,
            };
            command.arg(
                Arg::new(setting.key)
                    .long(setting.flag())
                    .value_name(setting.value_name)
                    .action(action)
                    .help(format!("{}{built_in} [variable: {}]", setting.help, setting.variable())),
            )
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Arguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut arguments = Self::default();
        arguments.update_from_arg_matches(matches)?;
        Ok(arguments)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config = matches.get_one::<PathBuf>("config").cloned();
        self.check_config = matches.get_flag("check-config");
        for setting in SETTINGS {
            if let Some(values) = matches.get_many::<String>(setting.key) {
                self.flags.insert(setting.key, values.cloned().collect());
            }
        }
        Ok(())
    }
}

/// Runs the command and says how it ended: 0 after SIGTERM, 1 after a fatal error, 78 for a bad configuration.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    let variables: BTreeMap<String, String> = config::variables();
    let around = Surroundings { variables: &variables, default_file: Path::new(DEFAULT_FILE) };
    let loaded = config::load(arguments.config.as_deref(), &arguments.flags, &around, &config::host_name());
    for mistake in &loaded.mistakes {
        eprintln!("error: {mistake}");
    }
    if arguments.check_config {
        for warning in &loaded.warnings {
            eprintln!("warning: {warning}");
        }
        print!("{}", loaded.printed);
        return if loaded.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if !loaded.mistakes.is_empty() {
        eprintln!("error: the configuration has {} mistake(s); nothing was started", loaded.mistakes.len());
        return ExitCode::from(BAD_CONFIGURATION);
    }
    start(&loaded)
}

fn start(loaded: &Loaded) -> ExitCode {
    crate::logging::start(&loaded.config);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    ExitCode::FAILURE
}
