use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use warren_broker::MemoryWatermark;

use super::*;

const HOST: &str = "rabbit-hole";

/// A small outside world: variables, flags, and perhaps a file.
#[derive(Default)]
struct World {
    variables: BTreeMap<String, String>,
    flags: Flags,
    file: Option<String>,
}

impl World {
    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, key: &'static str, values: &[&str]) -> Self {
        self.flags.insert(key, values.iter().map(|value| (*value).to_owned()).collect());
        self
    }

    fn file(mut self, text: &str) -> Self {
        self.file = Some(text.to_owned());
        self
    }

    fn load(&self) -> Loaded {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warren.toml");
        if let Some(text) = &self.file {
            fs::write(&path, text).unwrap();
        }
        load(None, &self.flags, &Surroundings { variables: &self.variables, default_file: &path }, HOST)
    }

    fn mistakes(&self) -> Vec<String> {
        let name = |text: String| {
            text.rsplit_once("/warren.toml").map_or(text.clone(), |(_, end)| format!("file{end}"))
        };
        self.load().mistakes.iter().map(|mistake| name(mistake.to_string())).collect()
    }
}

#[test]
fn without_any_configuration_a_complete_single_node_results() {
    let loaded = World::default().load();
    assert_eq!(loaded.mistakes, []);
    assert_eq!(loaded.file, None);
    let config = loaded.config.broker;
    assert_eq!(config.node_name, "warren@rabbit-hole");
    assert_eq!(config.amqp_listen, ["0.0.0.0:5672".parse().unwrap()]);
    assert_eq!(config.cluster_advertise, "rabbit-hole:25672");
    assert_eq!((config.seeds.len(), config.expect, config.shards, config.replication_factor), (0, 1, 16, 3));
    assert_eq!((config.default_user.as_str(), config.guest_loopback_only), ("guest", true));
}

#[test]
fn flags_win_over_variables_over_the_file_over_what_is_built_in() {
    let file = World::default().file("heartbeat_s = 1\nchannel_max = 1\nshards = 1\n");
    let variables = file.variable("WARREN_CHANNEL_MAX", "2").variable("WARREN_SHARDS", "2");
    let all = variables.flag("shards", &["3"]);
    let loaded = all.load();
    assert_eq!(loaded.mistakes, []);
    let config = loaded.config.broker;
    assert_eq!((config.heartbeat_s, config.channel_max, config.shards), (1, 2, 3));
    assert_eq!(config.replication_factor, 3);
    for line in ["heartbeat_s = 1  # ", "channel_max = 2  # WARREN_CHANNEL_MAX", "shards = 3  # --shards"] {
        assert!(loaded.printed.contains(line), "{line} in\n{}", loaded.printed);
    }
    assert!(loaded.printed.contains("warren.toml:1"), "{}", loaded.printed);
    assert!(loaded.printed.contains("replication_factor = 3  # built-in"), "{}", loaded.printed);
}

#[test]
fn a_list_is_an_array_or_commas_or_a_repeated_flag() {
    let expected = vec!["a:1".to_owned(), "b:2".to_owned()];
    for world in [
        World::default().flag("seeds", &["a:1", "b:2"]),
        World::default().file("seeds = [\"a:1\", \"b:2\"]"),
        World::default().file("seeds = \"a:1, b:2\""),
        World::default().variable("WARREN_SEEDS", "b:2,a:1,"),
        World::default().flag("seeds", &["a:1,b:2,a:1"]),
    ] {
        let loaded = world.flag("cluster_insecure", &["true"]).load();
        assert_eq!(
            (loaded.mistakes, loaded.config.broker.seeds, loaded.config.broker.expect),
            (vec![], expected.clone(), 2)
        );
    }
}

#[test]
fn every_mistake_is_listed_with_its_place() {
    let world = World::default()
        .file("data_dir = \"\"\nframe_max = 4096\n\nheartbeat_s = \"often\"\nshards = [1]\nlog_format = \"jsn\"\n")
        .variable("WARREN_CHANNEL_MAX", "70000")
        .flag("amqp_listen", &["nowhere", "127.0.0.1:5672"])
        .flag("log_level", &["loud"]);
    assert_eq!(
        world.mistakes(),
        [
            "file:2: unknown key \"frame_max\", did you mean \"frame_max_bytes\"?",
            "file:5: shards: cannot be of type array",
            "--amqp-listen: amqp_listen: \"nowhere\" is no ADDRESS:PORT",
            "file:1: data_dir: is empty",
            "file:4: heartbeat_s: \"often\" is no whole number",
            "WARREN_CHANNEL_MAX: channel_max: 70000 is not within 1 to 65535",
            "file:6: log_format: \"jsn\" is none of text, json, did you mean \"json\"?",
            "--log-level: log_level: \"loud\" is none of error, warn, info, debug, trace",
        ]
    );
}

#[test]
fn what_contradicts_itself_is_a_mistake() {
    assert_eq!(
        World::default().flag("expect", &["3"]).mistakes(),
        [
            "--expect: expect: more than one node is expected but there are no seeds: name their addresses in seeds"
        ]
    );
    assert_eq!(
        World::default().flag("http_listen", &["127.0.0.1:5672"]).mistakes(),
        ["two listeners share port 5672"]
    );
    for key in ["amqps_listen", "https_listen"] {
        let flag = key.replace('_', "-");
        assert_eq!(
            World::default().flag(key, &[":5671"]).mistakes(),
            [format!("--{flag}: {key}: needs tls_cert and tls_key")]
        );
    }
    assert_eq!(
        World::default()
            .flag("amqps_listen", &[":5671"])
            .flag("tls_cert", &["/nowhere/cert.pem"])
            .flag("tls_key", &["/nowhere/key.pem"])
            .flag("tls_fail_if_no_peer_cert", &["true"])
            .mistakes(),
        [
            "--tls-fail-if-no-peer-cert: tls_fail_if_no_peer_cert: works only with tls_verify_peer = true",
            "--tls-cert: tls_cert: /nowhere/cert.pem: No such file or directory (os error 2)",
        ]
    );
    assert_eq!(
        World::default().flag("tls_verify_peer", &["true"]).mistakes(),
        ["--tls-verify-peer: tls_verify_peer: needs tls_ca, the authority of the clients' certificates"]
    );
}

/// A file that holds a usable secret, and its folder.
fn secret_file() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    fs::write(&path, "a secret of more than 16 bytes\n").unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn without_a_proof_the_cluster_port_is_open_to_this_machine_only_unless_asked_otherwise() {
    let (_folder, file) = secret_file();
    let listen = |world: World| {
        let loaded = world.load();
        assert_eq!(loaded.mistakes, []);
        loaded.config.broker.cluster_listen.to_string()
    };
    assert_eq!(listen(World::default()), "127.0.0.1:25672");
    assert_eq!(listen(World::default().flag("cluster_listen", &["[::]:1"])), "[::]:1");
    assert_eq!(listen(World::default().flag("cluster_listen", &["127.0.0.5:1"])), "127.0.0.5:1");
    assert_eq!(listen(World::default().flag("cluster_insecure", &["true"])), "0.0.0.0:25672");
    assert_eq!(listen(World::default().flag("cluster_secret_file", &[&file])), "0.0.0.0:25672");
    let local = World::default().flag("seeds", &["127.0.0.1:25672,localhost:25673,[::1]:25674"]);
    let loaded = local.load();
    assert_eq!(loaded.mistakes, []);
    assert_eq!(loaded.config.broker.cluster_listen.to_string(), "127.0.0.1:25672");
    assert_eq!(loaded.config.broker.cluster_advertise, "127.0.0.1:25672");
    assert!(loaded.printed.contains("cluster_listen = \"127.0.0.1:25672\""), "{}", loaded.printed);
}

#[test]
fn nodes_on_other_machines_without_a_proof_are_warned_of() {
    let (_folder, file) = secret_file();
    let world = || World::default().flag("seeds", &["a:25672,b:25672"]);
    for open in [world(), World::default().flag("cluster_listen", &["10.0.0.1:25672"])] {
        let loaded = open.load();
        assert_eq!(loaded.mistakes, []);
        assert!(loaded.warnings[0].contains("cluster_secret_file"), "{:?}", loaded.warnings);
    }
    let insecure = world().flag("cluster_insecure", &["true"]).load();
    assert_eq!((insecure.mistakes.len(), insecure.warnings.len()), (0, 1));
    assert_eq!(world().flag("cluster_secret_file", &[&file]).mistakes(), [""; 0]);
    assert_eq!(world().variable("WARREN_CLUSTER_SECRET", "a secret of some length").mistakes(), [""; 0]);
}

#[test]
fn a_secret_is_given_once_is_long_enough_and_is_never_shown() {
    let (_folder, file) = secret_file();
    let from_variable = World::default().variable("WARREN_CLUSTER_SECRET_FILE", &file).load();
    assert_eq!(from_variable.mistakes, []);
    assert_eq!(
        from_variable.config.broker.cluster_credentials,
        warren_broker::security::Credentials::SecretFile(file.clone().into())
    );
    let text = "a secret of some length";
    let loaded = World::default().flag("cluster_secret", &[text]).load();
    assert!(!loaded.printed.contains(text) && !format!("{:?}", loaded.config).contains(text));
    let both = World::default().flag("cluster_secret", &[text]).flag("cluster_secret_file", &[&file]);
    assert_eq!(
        both.mistakes(),
        ["only one of cluster_secret, cluster_secret_file and cluster_tls_cert can prove a node"]
    );
    for (key, value, start) in [
        ("cluster_secret", "short", "--cluster-secret: cluster_secret: a secret has 5 bytes"),
        (
            "cluster_secret_file",
            "/nowhere/secret",
            "--cluster-secret-file: cluster_secret_file: /nowhere/secret: ",
        ),
        ("cluster_tls_cert", "/nowhere/cert", "--cluster-tls-cert: cluster_tls_cert: goes together"),
    ] {
        let mistakes = World::default().flag(key, &[value]).mistakes();
        assert!(mistakes[0].starts_with(start), "{mistakes:?}");
    }
}

#[test]
fn broken_toml_and_a_missing_file_are_mistakes() {
    let broken = World::default().file("shards = 2\nheartbeat_s =\n");
    let mistakes = broken.mistakes();
    assert!(mistakes.iter().any(|text| text.starts_with("file:2: not TOML: ")), "{mistakes:?}");
    let around =
        Surroundings { variables: &BTreeMap::new(), default_file: Path::new("/nowhere/warren.toml") };
    let loaded = load(Some(Path::new("/nowhere/at-all.toml")), &Flags::new(), &around, HOST);
    assert!(
        loaded.mistakes[0].to_string().starts_with("cannot read /nowhere/at-all.toml: "),
        "{:?}",
        loaded.mistakes
    );
}

#[test]
fn the_administrator_comes_from_rabbitmqs_variables_or_our_own_which_win() {
    let theirs =
        World::default().variable("RABBITMQ_DEFAULT_USER", "ann").variable("RABBITMQ_DEFAULT_PASS", "secret");
    let config = theirs.load().config.broker;
    assert_eq!((config.default_user.as_str(), config.default_password.as_str()), ("ann", "secret"));
    let both = theirs.variable("WARREN_DEFAULT_USER", "bob");
    assert_eq!(both.load().config.broker.default_user, "bob");
}

#[test]
fn a_password_is_read_from_a_file_and_never_printed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "hunter2\n").unwrap();
    let world = World::default().variable("WARREN_DEFAULT_PASSWORD_FILE", path.to_str().unwrap());
    let loaded = world.load();
    assert_eq!(loaded.config.broker.default_password, "hunter2");
    assert!(!loaded.printed.contains("hunter2"), "{}", loaded.printed);
    assert!(
        loaded.printed.contains("default_password = \"***\"  # WARREN_DEFAULT_PASSWORD_FILE"),
        "{}",
        loaded.printed
    );
}

#[test]
fn the_printed_configuration_can_be_read_back() {
    let world = World::default().flag("seeds", &["a:1,[::1]:2,c:3"]).flag("http_listen", &["none"]);
    let first = world.flag("cluster_insecure", &["true"]).load();
    let again = World::default().file(&first.printed.replace("\"***\"", "\"guest\"")).load();
    assert_eq!(again.mistakes, []);
    assert_eq!(format!("{:?}", again.config), format!("{:?}", first.config));
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_warned_about_and_a_strange_one_is_not() {
    let loaded = World::default()
        .variable("WARREN_HEARTBEATS", "5")
        .variable("WARREN_PORT_5672_TCP_ADDR", "10.0.0.1")
        .variable("WARREN_NODE", "http://127.0.0.1:15672")
        .load();
    assert_eq!(loaded.mistakes, []);
    assert_eq!(
        loaded.warnings,
        ["the variable WARREN_HEARTBEATS is not known and ignored; did you mean WARREN_HEARTBEAT_S?"]
    );
}

#[test]
fn an_address_to_dial_needs_a_host_and_a_port() {
    for (text, right) in [
        ("warren-0.warren-nodes:25672", true),
        ("[fe80::1]:25672", true),
        ("fe80::1:25672", false),
        ("host", false),
        ("host:0", false),
        ("host:70000", false),
        (":25672", false),
        ("ho st:1", false),
    ] {
        let world = World::default().flag("cluster_insecure", &["true"]);
        let mistakes = world.flag("seeds", &[text]).load().mistakes;
        assert_eq!(mistakes.is_empty(), right, "{text}: {mistakes:?}");
    }
}

#[test]
fn every_setting_is_read_and_its_default_is_right() {
    let loaded = World::default().load();
    let mut world = World::default();
    for setting in SETTINGS {
        let line = format!("{} = ", setting.key);
        assert!(
            loaded.printed.lines().any(|printed| printed.starts_with(&line)),
            "{} is never read",
            setting.key
        );
        // Asked for by name, the cluster port is opened where it was asked for, also without a proof.
        if let Some(default) = setting.default.filter(|_| setting.key != "cluster_listen") {
            world = world.variable(&setting.variable(), default);
        }
    }
    let spelled_out = world.load();
    assert_eq!(spelled_out.mistakes, []);
    assert_eq!(format!("{:?}", spelled_out.config), format!("{:?}", loaded.config));
}

#[test]
fn sizes_and_shares_are_read_as_rabbitmq_reads_them() {
    for (text, bytes) in [
        ("0", Some(0)),
        ("50MB", Some(50_000_000)),
        ("50mb", Some(50_000_000)),
        ("2GiB", Some(2 << 30)),
        ("1 k", Some(1000)),
        ("1_000", Some(1000)),
        ("", None),
        ("MB", None),
        ("5 potatoes", None),
        ("-1", None),
        ("99999999999TiB", None),
    ] {
        let loaded = World::default().flag("disk_free_limit", &[text]).load();
        assert_eq!(loaded.mistakes.is_empty(), bytes.is_some(), "{text}: {:?}", loaded.mistakes);
        if let Some(bytes) = bytes {
            assert_eq!(loaded.config.broker.disk_free_limit_bytes, bytes, "{text}");
        }
    }
    for (text, watermark) in [
        ("0.4", Some(MemoryWatermark::Percent(40))),
        ("1", Some(MemoryWatermark::Percent(100))),
        ("0", Some(MemoryWatermark::Percent(0))),
        ("2GB", Some(MemoryWatermark::Bytes(2_000_000_000))),
        ("1.5", None),
        ("nan", None),
        ("lots", None),
    ] {
        let loaded = World::default().variable("RABBITMQ_VM_MEMORY_HIGH_WATERMARK", text).load();
        assert_eq!(loaded.mistakes.is_empty(), watermark.is_some(), "{text}: {:?}", loaded.mistakes);
        if let Some(watermark) = watermark {
            assert_eq!(loaded.config.broker.memory_high_watermark, watermark, "{text}");
        }
    }
}
