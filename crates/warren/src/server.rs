//! `warren server`: reads the configuration, runs a node and its HTTP listeners, and ends them in order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warren_broker::security::Renewable;
use warren_broker::tls::{ServerTls, TlsError};
use warren_broker::{Node, StartError};
use warren_management::{ListenerKind, Management, TakeOverError};

use crate::config::{self, Arity, DEFAULT_FILE, Flags, Loaded, SETTINGS, ServerConfig, Surroundings};
use crate::files;
use crate::operator::say;

/// The exit code for a configuration that cannot be used (sysexits' `EX_CONFIG`): a supervisor should not try again.
const BAD_CONFIGURATION: u8 = 78;
/// How often a starting node is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(50);
/// How long blocking tasks may take to end after everything else has.
const LINGER: Duration = Duration::from_secs(2);
/// Until definitions that could not be taken over yet are tried again.
const TAKE_OVER_AGAIN: Duration = Duration::from_millis(500);
/// Set for a process that another one has become: it does not do so again.
const AGAIN: &str = "_WARREN_STARTED_AGAIN";

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
        say(&loaded.printed);
        return if loaded.mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if !loaded.mistakes.is_empty() {
        eprintln!("error: the configuration has {} mistake(s); nothing was started", loaded.mistakes.len());
        return ExitCode::from(BAD_CONFIGURATION);
    }
    start(loaded)
}

fn start(loaded: Loaded) -> ExitCode {
    crate::logging::start(&loaded.config);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("warren").build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run_node(loaded));
    // A blocking task that hangs on a broken disk must not hold the process.
    runtime.shutdown_timeout(LINGER);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            if matches!(&failure, Failure::Start(error) if error.may_help_to_start_again()) {
                start_again();
            }
            ExitCode::FAILURE
        }
    }
}

/// Replaces this process by a new one with the same command line, once: that one finds word of the damage that ended this one,
/// and begins anew if the other nodes can rebuild it. Returns only if that cannot be done.
fn start_again() {
    if std::env::var_os(AGAIN).is_some() {
        return;
    }
    tracing::warn!("starting again, because of the damage");
    let program = std::env::current_exe();
    let error = match program {
        Ok(program) => Command::new(program).args(std::env::args_os().skip(1)).env(AGAIN, "1").exec(),
        Err(error) => error,
    };
    tracing::error!(%error, "cannot start again");
}

/// Why a node ended by itself.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the node does not start: {0}")]
    Start(#[from] StartError),
    #[error("cannot listen on {address} for {purpose}: {error}")]
    Listen { address: SocketAddr, purpose: &'static str, error: std::io::Error },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot read the definitions in {}: {error}", file.display())]
    Definitions { file: PathBuf, error: std::io::Error },
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    #[error("the node cannot go on: {0}")]
    Fatal(String),
}

/// From the first listener to the last: returns after SIGTERM or SIGINT, or when the node fails.
async fn run_node(loaded: Loaded) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::Signals)?;
    let mut config = loaded.config;
    let (http_max, metrics_max) = introduce(&mut config, loaded.file.as_deref());

    // Probes are answered from here on, also while the node reads its log.
    let management = Management::new();
    let http_stop = CancellationToken::new();
    let mut http = JoinSet::new();
    let https = config.https_tls.clone().filter(|_| config.https_listen.is_some());
    let https = https.map(ServerTls::load).transpose()?;
    for (address, kind, most, tls, purpose) in [
        (config.http_listen, ListenerKind::Api, http_max, None, "HTTP"),
        (config.https_listen, ListenerKind::Api, http_max, https.clone(), "HTTPS"),
        (config.metrics_listen, ListenerKind::Metrics, metrics_max, None, "metrics"),
    ] {
        let Some(address) = address else { continue };
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|error| Failure::Listen { address, purpose, error })?;
        let address = listener.local_addr().unwrap_or(address);
        tracing::info!(%address, "listening for {purpose}");
        management.listens(
            match (kind, tls.is_some()) {
                (ListenerKind::Metrics, _) => "http/prometheus",
                (ListenerKind::Api, false) => "http",
                (ListenerKind::Api, true) => "https",
            },
            address,
            tls.clone(),
        );
        http.spawn(warren_management::serve(
            management.clone(),
            listener,
            kind,
            most,
            tls,
            http_stop.clone(),
        ));
    }
    if let Some(https) = https {
        let renewables = vec![Renewable::Listener("HTTPS", https)];
        tokio::spawn(warren_broker::security::follow(renewables, http_stop.clone()));
    }

    // Said now, and not when somebody already relies on it.
    let definitions = config.definitions.as_deref().map(read_definitions).transpose()?;
    let cluster_listen = config.broker.cluster_listen;
    let node = tokio::select! {
        node = Node::start(config.broker) => node?,
        () = signals.next() => {
            tracing::info!("stopped before the node had started");
            return Ok(());
        }
    };
    for address in node.amqp_addresses() {
        tracing::info!(%address, "listening for AMQP");
        management.listens("amqp", *address, None);
    }
    for address in node.amqps_addresses() {
        tracing::info!(%address, "listening for AMQP with TLS");
        management.listens("amqp/ssl", *address, node.amqps_tls().cloned());
    }
    tracing::info!(address = %cluster_listen, "listening for other nodes");
    management.listens("clustering", cluster_listen, None);
    management.attach(node.admin());

    if let Some(definitions) = definitions {
        let (management, stop) = (management.clone(), http_stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(take_over(management, definitions)));
    }

    let outcome = until_told(&node, &mut signals).await;
    if outcome.is_ok() {
        tracing::info!("stopping; a second signal skips the drain");
        tokio::select! {
            () = node.stop() => {}
            () = signals.next() => tracing::warn!("told again: stopping at once"),
        }
    }
    http_stop.cancel();
    while http.join_next().await.is_some() {}
    outcome
}

/// The definitions' JSON; what it says is looked at when the cluster serves.
fn read_definitions(file: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error| Failure::Definitions { file: file.to_owned(), error };
    let text = std::fs::read(file).map_err(failed)?;
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(failed(std::io::Error::other(error))),
    }
}

/// Takes definitions over as soon as the cluster can. A cluster that serves goes on serving without them where it cannot.
async fn take_over(management: Management, definitions: Vec<u8>) {
    loop {
        match management.take_over(&definitions).await {
            Ok(true) => return tracing::info!("the definitions are taken over"),
            Ok(false) => return tracing::info!("the definitions were taken over before"),
            Err(TakeOverError::Unavailable(reason)) => {
                tracing::debug!(reason, "the definitions wait");
                tokio::time::sleep(TAKE_OVER_AGAIN).await;
            }
            Err(TakeOverError::Refused(reason)) => {
                return tracing::error!(reason, "the definitions are NOT taken over");
            }
        }
    }
}

/// Says once that clients are served, and waits for a signal or the node's failure.
async fn until_told(node: &Node, signals: &mut Signals) -> Result<(), Failure> {
    let (admin, mut fatal) = (node.admin(), node.fatal());
    let mut poll = tokio::time::interval(READY_POLL);
    let mut announced = false;
    loop {
        tokio::select! {
            () = signals.next() => return Ok(()),
            fatal = fatal.wait_for(Option::is_some) => {
                let reason = fatal.ok().and_then(|reason| reason.clone());
                let reason = reason.unwrap_or_else(|| "replication ended without a reason".to_owned());
                let is_damage = node.note_fatal(&reason);
                let failure = Failure::Fatal(reason);
                tracing::error!("{failure}");
                if is_damage {
                    start_again();
                }
                // At once: closing the store would try to write what it could not write, and RocksDB ends the process
                // with an assertion then. The log on the disk has everything that was promised.
                std::process::exit(1);
            }
            _ = poll.tick(), if !announced => {
                if admin.ready().is_ok() {
                    announced = true;
                    tracing::info!("ready: clients are served");
                    // The phrase that tools of RabbitMQ's world wait for.
                    say("Server startup complete\n");
                }
            }
        }
    }
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Cancel safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The start of the story in the log: who, where, with what. Returns how many connections each port of the HTTP API and
/// that of the metrics may have.
fn introduce(config: &mut ServerConfig, file: Option<&Path>) -> (usize, usize) {
    let limit = files::raise_limit();
    let ports = [config.http_listen, config.https_listen].iter().flatten().count().max(1);
    let broker = &mut config.broker;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = broker.node_name,
        data_dir = %broker.data_dir.display(),
        config_file = file.map(|path| path.display().to_string()),
        seeds = ?broker.seeds,
        open_files_max = limit,
        "Warren starts"
    );
    if limit.is_some_and(|limit| limit < files::ADVISED) {
        let (open_files_max, advised) = (limit, files::ADVISED);
        tracing::warn!(open_files_max, advised, "few open files: each connection takes one");
    }
    let shares = files::divide(limit.unwrap_or(files::ADVISED));
    let count = |share: u64| usize::try_from(share).unwrap_or(usize::MAX);
    broker.store_open_files = i32::try_from(shares.store).unwrap_or(i32::MAX);
    broker.cluster_connections_max = count(shares.cluster);
    if count(shares.amqp) < broker.max_connections && limit.is_some() {
        if limit.is_some_and(|limit| limit < files::ADVISED) {
            tracing::warn!(max_connections = shares.amqp, "fewer AMQP connections are taken than configured");
        }
        broker.max_connections = count(shares.amqp);
    }
    (count(shares.http) / ports, count(shares.metrics))
}
