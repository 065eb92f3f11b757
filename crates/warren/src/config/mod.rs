//! The configuration of `warren server`: every setting with its meaning, checked once at start, every mistake
//! listed. Order: built-in < file < environment < flags.

mod reader;
mod security;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use warren_broker::tls::TlsFiles;
use warren_broker::{BrokerConfig, LoginFrom};

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
    /// Where the HTTP API listens with TLS, if anywhere.
    pub(crate) https_listen: Option<SocketAddr>,
    /// The certificates of `https_listen`; there when that is.
    pub(crate) https_tls: Option<TlsFiles>,
    /// Where the metrics are read, if anywhere.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// What is taken over once the cluster serves.
    pub(crate) definitions: Option<PathBuf>,
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
    let (config, warnings) = read_all(&mut reader, host_name);
    let (shown, mut mistakes) = reader.finish();
    mistakes.splice(0..0, gathered.mistakes.iter().cloned());
    let printed = print(&gathered, &shown);
    let warnings = gathered.warnings.into_iter().chain(warnings).collect();
    Loaded { config, mistakes, warnings, file: gathered.file, printed }
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

/// The configuration, and what should be said at start.
fn read_all(reader: &mut Reader<'_>, host_name: &str) -> (ServerConfig, Option<String>) {
    let defaults = BrokerConfig::default();
    let seeds = reader.host_ports("seeds");
    let cluster = security::cluster_port(reader, &seeds, host_name);
    let http_listen = reader.optional_address("http_listen");
    let metrics_listen = reader.optional_address("metrics_listen");
    let amqp_listen = reader.addresses("amqp_listen");
    if amqp_listen.is_empty() {
        reader.refuse("amqp_listen", "at least one address is needed");
    }
    let amqps_listen = reader.addresses("amqps_listen");
    let https_listen = reader.optional_address("https_listen");
    let tls = security::listeners(reader, !amqps_listen.is_empty(), https_listen.is_some());
    let others = [Some(cluster.listen), http_listen, https_listen, metrics_listen];
    refuse_shared_ports(
        reader,
        &amqp_listen
            .iter()
            .chain(&amqps_listen)
            .copied()
            .chain(others.into_iter().flatten())
            .collect::<Vec<_>>(),
    );
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
        amqps_listen,
        amqps_tls: tls.amqps,
        amqps_login_from: reader.choice(
            "tls_login_from",
            &[("distinguished_name", LoginFrom::DistinguishedName), ("common_name", LoginFrom::CommonName)],
            defaults.amqps_login_from,
        ),
        tls_handshake_timeout_ms: reader.number(
            "tls_handshake_timeout_ms",
            100..=600_000,
            defaults.tls_handshake_timeout_ms,
        ),
        proxy_protocol: reader.truth("proxy_protocol", defaults.proxy_protocol),
        cluster_listen: cluster.listen,
        cluster_advertise: cluster.advertise,
        cluster_credentials: cluster.credentials,
        cluster_encryption: cluster.encryption,
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
        // The limit of open files decides on these.
        cluster_connections_max: defaults.cluster_connections_max,
        store_open_files: defaults.store_open_files,
        snapshot_bytes_per_s: reader.size("snapshot_bandwidth", defaults.snapshot_bytes_per_s),
        cache_bytes: reader.number("cache_bytes", 1_048_576..=1 << 40, defaults.cache_bytes),
        shutdown_timeout_ms: reader.number(
            "shutdown_timeout_ms",
            100..=3_600_000,
            defaults.shutdown_timeout_ms,
        ),
        disk_free_limit_bytes: reader.size("disk_free_limit", defaults.disk_free_limit_bytes),
        memory_high_watermark: reader.watermark("memory_high_watermark", defaults.memory_high_watermark),
    };
    let config = ServerConfig {
        broker,
        http_listen,
        https_listen,
        https_tls: tls.https,
        metrics_listen,
        definitions: reader.optional_path("definitions"),
        log_format: reader.choice(
            "log_format",
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            LogFormat::Text,
        ),
        log_level: reader.log_level("log_level"),
    };
    (config, cluster.warning)
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
            Privacy::Secret if !value.is_empty() => "\"***\"".to_owned(),
            Privacy::Public if value.parse::<u64>().is_ok() || value == "true" || value == "false" => {
                value.clone()
            }
            Privacy::Public | Privacy::Secret => toml::Value::from(value.as_str()).to_string(),
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
