//! The table of everything `warren server` can be told: one row is a flag, a TOML key and a `WARREN_...` variable.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting {
    /// Its TOML key. The flag is the same with dashes, the variable is the same in capitals after `WARREN_`.
    pub(crate) key: &'static str,
    /// What its value looks like, for `--help`.
    pub(crate) value_name: &'static str,
    /// The built-in value as it would be written in a variable; `None` when there is none or it is worked out.
    pub(crate) default: Option<&'static str>,
    /// How many values it takes.
    pub(crate) arity: Arity,
    /// Whether its value may be shown.
    pub(crate) privacy: Privacy,
    /// Another variable that means the same, for those who come from RabbitMQ.
    pub(crate) alias: Option<&'static str>,
    /// What it does, in one or two sentences.
    pub(crate) help: &'static str,
}

/// How many values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arity {
    /// Exactly one.
    One,
    /// A list: an array in TOML, commas in a variable, commas or a repeated flag on the command line.
    Many,
}

/// Whether a setting's value may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privacy {
    /// It may.
    Public,
    /// It is printed as `***`.
    Secret,
}

const fn one(
    key: &'static str,
    value_name: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, value_name, default, arity: Arity::One, privacy: Privacy::Public, alias: None, help }
}

const fn many(
    key: &'static str,
    value_name: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { key, value_name, default, arity: Arity::Many, privacy: Privacy::Public, alias: None, help }
}

/// All settings, in the order of `--help` and of the printed configuration.
pub(crate) const SETTINGS: &[Setting] = &[
    one(
        "data_dir",
        "DIR",
        None,
        "Where everything is kept. Built-in: /var/lib/warren if that can be written to, else ./warren-data",
    ),
    one("node_name", "NAME", None, "The node's name, unique in its cluster. Built-in: warren@HOSTNAME"),
    many("amqp_listen", "ADDR:PORT", Some("0.0.0.0:5672"), "Where AMQP clients connect"),
    many(
        "amqps_listen",
        "ADDR:PORT",
        Some(""),
        "Where AMQP clients connect with TLS, usually 0.0.0.0:5671. Needs tls_cert and tls_key",
    ),
    one(
        "tls_cert",
        "FILE",
        Some(""),
        "The certificate for clients, and those between it and its authority (PEM). Read again every few seconds and on SIGHUP",
    ),
    one("tls_key", "FILE", Some(""), "That certificate's key (PEM, without a password)"),
    one("tls_ca", "FILE", Some(""), "The authority of AMQP clients' own certificates (PEM)"),
    one(
        "tls_verify_peer",
        "true|false",
        Some("false"),
        "Whether AMQP clients are asked for a certificate, which must then be by tls_ca",
    ),
    one(
        "tls_fail_if_no_peer_cert",
        "true|false",
        Some("false"),
        "Whether AMQP clients without a certificate are refused; only with tls_verify_peer",
    ),
    one(
        "tls_login_from",
        "distinguished_name|common_name",
        Some("distinguished_name"),
        "What in a client's certificate is its user's name, for the mechanism EXTERNAL",
    ),
    one(
        "tls_handshake_timeout_ms",
        "MS",
        Some("5000"),
        "How long an AMQP client may take for the TLS handshake, in milliseconds",
    ),
    one(
        "proxy_protocol",
        "true|false",
        Some("false"),
        "Whether load balancers begin every AMQP connection with a PROXY header (version 1 or 2). It is believed: nobody \
         else may reach the port then",
    ),
    one("cluster_listen", "ADDR:PORT", Some("0.0.0.0:25672"), "Where the other nodes of the cluster connect"),
    one(
        "cluster_advertise",
        "HOST:PORT",
        None,
        "How the other nodes reach this node. Built-in: cluster_listen's address, or the host name if that is every address",
    ),
    one(
        "http_listen",
        "ADDR:PORT",
        Some("0.0.0.0:15672"),
        "The HTTP API and the health paths; 'none' turns it off",
    ),
    one(
        "https_listen",
        "ADDR:PORT",
        Some("none"),
        "The HTTP API with TLS, usually 0.0.0.0:15671. Needs tls_cert and tls_key; clients are not asked for certificates",
    ),
    one(
        "metrics_listen",
        "ADDR:PORT",
        Some("0.0.0.0:15692"),
        "Prometheus metrics and the health paths; 'none' turns it off",
    ),
    one(
        "zone",
        "NAME",
        Some(""),
        "The zone (rack, data centre) that this node stands in: replicas of a shard are spread over zones",
    ),
    Setting {
        privacy: Privacy::Secret,
        ..one(
            "cluster_secret",
            "SECRET",
            Some(""),
            "What all nodes of the cluster know and nobody else, at least 16 bytes. Better in cluster_secret_file",
        )
    },
    one(
        "cluster_secret_file",
        "FILE",
        Some(""),
        "The same in a file, read again every few seconds. To change it: put the new secret in a line before the old one \
         on each node in turn, then remove the old one",
    ),
    one(
        "cluster_tls_cert",
        "FILE",
        Some(""),
        "Instead of a secret: this node's certificate (PEM), by an authority that certifies nodes of this cluster only",
    ),
    one("cluster_tls_key", "FILE", Some(""), "That certificate's key (PEM)"),
    one(
        "cluster_tls_ca",
        "FILE",
        Some(""),
        "The authority's certificate (PEM): whoever it has certified is a node",
    ),
    one(
        "cluster_encrypt",
        "true|false",
        Some("true"),
        "Whether nodes encrypt what they say to each other; false on all nodes: they only prove who they are",
    ),
    one(
        "cluster_insecure",
        "true|false",
        Some("false"),
        "Without a secret or certificates the cluster port is open to whoever reaches it: true says that this is meant",
    ),
    many(
        "seeds",
        "HOST:PORT",
        Some(""),
        "The cluster addresses of all first members, this node's may be among them. Empty: a cluster of one",
    ),
    one(
        "expect",
        "N",
        None,
        "How many nodes form the cluster at its first start. Built-in: the number of seeds, or 1",
    ),
    one("shards", "N", Some("16"), "How many shards the cluster is made with at its first start (1 to 1024)"),
    one(
        "replication_factor",
        "N",
        Some("3"),
        "How many nodes keep each shard, fewer while the cluster is smaller (1 to 9)",
    ),
    one(
        "heartbeat_s",
        "SECONDS",
        Some("60"),
        "The heartbeat offered to AMQP clients, in seconds; 0 offers none",
    ),
    one("frame_max_bytes", "BYTES", Some("131072"), "The largest AMQP frame, in bytes (4096 to 16777216)"),
    one("channel_max", "N", Some("2047"), "The most channels on one AMQP connection (1 to 65535)"),
    one(
        "max_message_size_bytes",
        "BYTES",
        Some("16777216"),
        "The largest message body, in bytes; above it a publish is refused with 406",
    ),
    one(
        "consumer_timeout_ms",
        "MS",
        Some("1800000"),
        "How long a consumer may hold a delivery before it goes back to its queue, in milliseconds; 0 is for ever",
    ),
    one(
        "handshake_timeout_ms",
        "MS",
        Some("10000"),
        "How long a client may take from its connect to connection.open, in milliseconds",
    ),
    one("max_connections", "N", Some("100000"), "The most AMQP connections on this node"),
    one(
        "guest_loopback_only",
        "true|false",
        Some("true"),
        "Whether the user 'guest' may log in only from this machine",
    ),
    Setting {
        alias: Some("RABBITMQ_DEFAULT_USER"),
        ..one(
            "default_user",
            "NAME",
            Some("guest"),
            "The administrator that is created when the cluster forms",
        )
    },
    Setting {
        alias: Some("RABBITMQ_DEFAULT_PASS"),
        privacy: Privacy::Secret,
        ..one(
            "default_password",
            "PASSWORD",
            Some("guest"),
            "That administrator's password. Better as a variable or WARREN_DEFAULT_PASSWORD_FILE than as a flag",
        )
    },
    one(
        "definitions",
        "FILE",
        Some(""),
        "Definitions (JSON, as RabbitMQ exports them) that are taken over once the cluster serves, and again whenever the file \
         is another one at a start. What is there already stays or is overwritten, nothing is deleted",
    ),
    one(
        "snapshot_bandwidth",
        "SIZE",
        Some("64MiB"),
        "Bytes a second that this node sends of replicas that move to other nodes or are rebuilt there, in bytes or with a \
         unit; 0: as fast as it goes",
    ),
    one(
        "cache_bytes",
        "BYTES",
        Some("134217728"),
        "Memory for ready messages of all the shards this node leads, in bytes; the rest waits on disk",
    ),
    one(
        "shutdown_timeout_ms",
        "MS",
        Some("20000"),
        "How long a drain may take after SIGTERM, in milliseconds",
    ),
    one(
        "disk_free_limit",
        "SIZE",
        Some("50MB"),
        "Free disk space below which publishers of the whole cluster are stopped, in bytes or with a unit (kB, MB, GB, \
         KiB, MiB, GiB); what the store has yet to write, 70 to 250 MB, comes on top; 0 never stops them",
    ),
    Setting {
        alias: Some("RABBITMQ_VM_MEMORY_HIGH_WATERMARK"),
        ..one(
            "memory_high_watermark",
            "SHARE|SIZE",
            Some("0.6"),
            "Memory above which publishers of the whole cluster are stopped: a share of the machine's or control \
             group's memory (0.6), or a size (2GB); 0 never stops them",
        )
    },
    one("log_format", "text|json", Some("text"), "How log lines are written to stderr"),
    one(
        "log_level",
        "LEVEL",
        Some("info"),
        "error, warn, info, debug or trace of Warren itself, or a list by target such as 'info,openraft=debug'",
    ),
];

impl Setting {
    /// The setting with this TOML key.
    pub(crate) fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Its flag, without the leading dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Its variable.
    pub(crate) fn variable(&self) -> String {
        format!("WARREN_{}", self.key.to_ascii_uppercase())
    }
}

/// The candidate that was probably meant by `unknown`, if one is near enough.
pub(crate) fn suggestion<'a>(
    unknown: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let near = unknown.to_ascii_lowercase().replace('-', "_");
    candidates
        .into_iter()
        .map(|candidate| (distance(&near, &candidate.to_ascii_lowercase()), candidate))
        .min_by_key(|(distance, _)| *distance)
        // A third of the letters wrong is another word.
        .filter(|(distance, candidate)| *distance * 3 <= candidate.len())
        .map(|(_, candidate)| candidate)
}

/// How unlike two names are. One that begins the other, as `frame_max` does `frame_max_bytes`, is nearly the same.
fn distance(typed: &str, candidate: &str) -> usize {
    let begins = typed.len() >= 4 && (candidate.starts_with(typed) || typed.starts_with(candidate));
    if begins { 1 } else { edit_distance(typed, candidate) }
}

/// Levenshtein's distance, in characters.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        let mut next = vec![before];
        for (b, above) in right.iter().zip(row.iter().skip(1)) {
            let changed = diagonal + usize::from(a != *b);
            before = changed.min(above + 1).min(before + 1);
            diagonal = *above;
            next.push(before);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_is_answered_with_what_was_meant() {
        let keys = || SETTINGS.iter().map(|setting| setting.key);
        for (typed, meant) in [
            ("frame-max-bytes", Some("frame_max_bytes")),
            ("heartbeats", Some("heartbeat_s")),
            ("amqp_listn", Some("amqp_listen")),
            ("Seeds", Some("seeds")),
            ("frame_max", Some("frame_max_bytes")),
            ("vm_memory_high_watermark", Some("memory_high_watermark")),
            ("x", None),
        ] {
            assert_eq!(suggestion(typed, keys()), meant, "{typed}");
        }
    }

    #[test]
    fn the_edit_distance_counts_insertions_deletions_and_changes() {
        for (left, right, distance) in
            [("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("same", "same", 0)]
        {
            assert_eq!(edit_distance(left, right), distance, "{left} {right}");
        }
    }

    #[test]
    fn no_key_is_there_twice() {
        for (i, setting) in SETTINGS.iter().enumerate() {
            assert!(SETTINGS[i + 1..].iter().all(|other| other.key != setting.key), "{}", setting.key);
        }
    }
}
