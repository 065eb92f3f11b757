//! The configuration of `warren server`: every setting with its meaning, checked once at start, every mistake
//! listed. Order: built-in < file < environment < flags.

mod reader;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use warren_broker::BrokerConfig;

use self::reader::Reader;
use self::settings::Privacy;
pub(crate) use self::settings::{Arity, SETTINGS};
use self::sources::Gathered;
pub(crate) use self::sources::{DEFAULT_FILE, Flags, Mistake, Surroundings};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    /// What the node is started with.
    pub(crate) broker: BrokerConfig,
    /// Where the HTTP API listens, if anywhere.
    pub(crate) http_listen: Option<SocketAddr>,
    /// Where the metrics are read, if anywhere.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// How log lines are written.
    pub(crate) log_format: LogFormat,
    /// Which are written.
    pub(crate) log_level: String,
}

/// What came of reading the configuration.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The configuration; its fields that are listed in `mistakes` hold their built-in values.
    pub(crate) config: ServerConfig,
    /// Everything that is wrong. The server starts only when this is empty.
    pub(crate) mistakes: Vec<Mistake>,
    /// What is odd but harmless.
    pub(crate) warnings: Vec<String>,
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// The effective values as TOML, one setting a line with its origin, secrets masked.
    pub(crate) printed: String,
}

/// Reads and checks the configuration. `config` is the file that `--config` names.
pub(crate) fn load(
    config: Option<&Path>,
    flags: &Flags,
    around: &Surroundings<'_>,
    host_name: &str,
) -> Loaded {
    let gathered = Gathered::read(config, flags, around);
    let mut reader = Reader::new(&gathered);
    let config = read_all(&mut reader, host_name);
    let (shown, mut mistakes) = reader.finish();
    mistakes.splice(0..0, gathered.mistakes.iter().cloned());
    let printed = print(&gathered, &shown);
    Loaded { config, mistakes, warnings: gathered.warnings, file: gathered.file, printed }
}

/// The environment's variables, those that are UTF-8.
pub(crate) fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// This machine's name, for the built-in node name.
pub(crate) fn host_name() -> String {
    // What the kernel says is right inside containers too; the variable is a shell's invention.
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

fn read_all(reader: &mut Reader<'_>, host_name: &str) -> ServerConfig {
    let defaults = BrokerConfig::default();
    let cluster_listen = reader.address("cluster_listen");
    let http_listen = reader.optional_address("http_listen");
    let metrics_listen = reader.optional_address("metrics_listen");
    let amqp_listen = reader.addresses("amqp_listen");
    if amqp_listen.is_empty() {
        reader.refuse("amqp_listen", "at least one address is needed");
    }
    if !reader.addresses("amqps_listen").is_empty() {
        reader.refuse(
            "amqps_listen",
            "this version has no TLS listeners: leave it empty and terminate TLS in front",
        );
    }
    let others = [Some(cluster_listen), http_listen, metrics_listen];
    refuse_shared_ports(
        reader,
        &amqp_listen.iter().copied().chain(others.into_iter().flatten()).collect::<Vec<_>>(),
    );
    let seeds = reader.host_ports("seeds");
    let expect = reader.number("expect", 1..=99, seeds.len().max(1) as u64);
    if seeds.is_empty() && expect > 1 {
        reader.refuse(
            "expect",
            "more than one node is expected but there are no seeds: name their addresses in seeds",
        );
    }
    let broker = BrokerConfig {
        data_dir: reader.path("data_dir", default_data_dir),
        node_name: reader.name("node_name", &format!("warren@{host_name}")),
        amqp_listen,
        cluster_listen,
        cluster_advertise: reader.advertised("cluster_advertise", cluster_listen, host_name).to_string(),
        zone: reader.optional_text("zone"),
        seeds: seeds.iter().map(ToString::to_string).collect(),
        expect,
        shards: reader.number("shards", 1..=1024, defaults.shards.into()),
        replication_factor: reader.number("replication_factor", 1..=9, defaults.replication_factor.into()),
        default_user: reader.name("default_user", &defaults.default_user),
        default_password: reader.text("default_password", &defaults.default_password),
        guest_loopback_only: reader.truth("guest_loopback_only", defaults.guest_loopback_only),
        heartbeat_s: reader.number("heartbeat_s", 0..=65_535, defaults.heartbeat_s.into()),
        frame_max_bytes: reader.number("frame_max_bytes", 4096..=16_777_216, defaults.frame_max_bytes.into()),
        channel_max: reader.number("channel_max", 1..=65_535, defaults.channel_max.into()),
        max_message_size_bytes: reader.number(
            "max_message_size_bytes",
            1..=536_870_912,
            defaults.max_message_size_bytes,
        ),
        consumer_timeout_ms: reader.number(
            "consumer_timeout_ms",
            0..=31_536_000_000,
            defaults.consumer_timeout_ms,
        ),
        handshake_timeout_ms: reader.number(
            "handshake_timeout_ms",
            100..=3_600_000,
            defaults.handshake_timeout_ms,
        ),
        max_connections: reader.number("max_connections", 1..=10_000_000, defaults.max_connections as u64),
        cache_bytes: reader.number("cache_bytes", 1_048_576..=1 << 40, defaults.cache_bytes),
        shutdown_timeout_ms: reader.number(
            "shutdown_timeout_ms",
            100..=3_600_000,
            defaults.shutdown_timeout_ms,
        ),
        disk_free_limit_bytes: reader.size("disk_free_limit", defaults.disk_free_limit_bytes),
        memory_high_watermark: reader.watermark("memory_high_watermark", defaults.memory_high_watermark),
    };
    ServerConfig {
        broker,
        http_listen,
        metrics_listen,
        log_format: reader.choice(
            "log_format",
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            LogFormat::Text,
        ),
        log_level: reader.log_level("log_level"),
    }
}

/// Two listeners on one port are a mistake that the system would tell much later, and only for one of them.
fn refuse_shared_ports(reader: &mut Reader<'_>, all: &[SocketAddr]) {
    for (i, one) in all.iter().enumerate() {
        let shared = |other: &&SocketAddr| {
            one.port() == other.port()
                && (one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified())
        };
        if one.port() != 0 && all.iter().skip(i + 1).any(|other| shared(&other)) {
            reader.refuse_all(&format!("two listeners share port {}", one.port()));
        }
    }
}

fn default_data_dir() -> PathBuf {
    let system = Path::new("/var/lib/warren");
    let writable =
        rustix::fs::access(system, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok();
    if writable { system.to_path_buf() } else { PathBuf::from("./warren-data") }
}

fn print(gathered: &Gathered, shown: &BTreeMap<&'static str, Vec<String>>) -> String {
    let mut out = String::new();
    for setting in SETTINGS {
        let values = shown.get(setting.key).map(Vec::as_slice).unwrap_or_default();
        let quoted = |value: &String| match setting.privacy {
            Privacy::Secret => "\"***\"".to_owned(),
            Privacy::Public if value.parse::<u64>().is_ok() || value == "true" || value == "false" => {
                value.clone()
            }
            Privacy::Public => toml::Value::from(value.as_str()).to_string(),
        };
        let text = match (setting.arity, values.first()) {
            (Arity::Many, _) => format!("[{}]", values.iter().map(quoted).collect::<Vec<_>>().join(", ")),
            (Arity::One, Some(value)) => quoted(value),
            (Arity::One, None) => continue,
        };
        let origin =
            gathered.given.get(setting.key).map_or("built-in".to_owned(), |given| given.origin.to_string());
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "{} = {text}  # {origin}", setting.key);
    }
    out
}
