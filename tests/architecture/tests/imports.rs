//! The manifests compared with the table "Crates and who may import whom" of ARCHITECTURE.md.
//!
//! What is compared is what the manifests name under `[dependencies]`, for any platform and optional or not. What
//! tests and build scripts use is not restricted, except where a test below says so.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The crates that decide and never wait: the rows of the table whose kind is `pure`.
const PURE: [&str; 5] = ["warren-types", "warren-proto", "warren-amqp", "warren-catalogue", "warren-queue"];

/// External crates that are known to one crate of ours each.
const HIDDEN: [(&str, &[&str]); 6] = [
    ("openraft", &["warren-raft"]),
    ("rocksdb", &["warren-store"]),
    ("tonic", &["warren-rpc"]),
    ("tonic-prost", &["warren-rpc"]),
    ("amq-protocol", &["warren-amqp"]),
    ("amq-protocol-types", &["warren-types"]),
];

/// External crates that bring clocks, sockets, threads or randomness.
const IMPURE: [&str; 14] = [
    "tokio",
    "tokio-util",
    "tokio-stream",
    "futures-util",
    "async-trait",
    "parking_lot",
    "socket2",
    "rustix",
    "libc",
    "getrandom",
    "rand",
    "hyper",
    "axum",
    "mio",
];

/// Names of crates, by the name of the crate that depends on them.
type Dependencies = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// One row of the table.
struct Row {
    kind: String,
    may_import: BTreeSet<String>,
}

/// The rows of the table of crates, by name.
fn table() -> BTreeMap<String, Row> {
    let page = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is readable");
    let rows: BTreeMap<String, Row> = page
        .lines()
        .skip_while(|line| !line.starts_with("## Crates and who may import whom"))
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .filter_map(row)
        .collect();
    assert!(!rows.is_empty(), "the table of crates is not where it was in ARCHITECTURE.md");
    rows
}

/// `` | `warren-x` what it is | kind | a, b | ``; any other line is no row.
fn row(line: &str) -> Option<(String, Row)> {
    let cells: Vec<&str> =
        line.strip_prefix('|')?.trim_end().strip_suffix('|')?.split('|').map(str::trim).collect();
    let [name, kind, imports] = cells.as_slice() else { return None };
    let (name, _) = name.strip_prefix('`')?.split_once('`')?;
    let may_import =
        imports.split(',').map(str::trim).filter(|i| *i != "-").map(|i| format!("warren-{i}")).collect();
    Some((name.to_owned(), Row { kind: (*kind).to_owned(), may_import }))
}

/// What each package of the workspace names under `[dependencies]`.
fn normal_dependencies() -> Dependencies {
    dependencies(|kind| kind.is_none())
}

/// What each package of the workspace names, if `wanted` accepts its kind: none, `dev` or `build`.
fn dependencies(wanted: impl Fn(Option<&str>) -> bool) -> Dependencies {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("the metadata lists packages");
    packages
        .iter()
        .map(|package| {
            let named = package["dependencies"].as_array().expect("a package lists its dependencies");
            let named =
                named.iter().filter(|d| wanted(d["kind"].as_str())).map(|d| text(&d["name"])).collect();
            (text(&package["name"]), named)
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a name is a string").to_owned()
}

/// The crates under `crates/`: all of the workspace but those under `tests/`.
fn ours() -> Dependencies {
    let mut all = normal_dependencies();
    all.remove(env!("CARGO_PKG_NAME")).expect("this crate is in the workspace");
    all.remove("warren-fuzz").expect("the hostile octets are in the workspace");
    all.remove("warren-simulation").expect("the simulation is in the workspace");
    all
}

/// `crate -> dependency` for each dependency that `forbidden` names.
fn offences(of: &Dependencies, forbidden: impl Fn(&str, &str) -> bool) -> Vec<String> {
    of.iter()
        .flat_map(|(name, imports)| imports.iter().map(move |i| (name, i)))
        .filter(|(name, import)| forbidden(name, import))
        .map(|(name, import)| format!("{name} -> {import}"))
        .collect()
}

#[test]
fn every_crate_has_a_row_in_the_table_and_every_row_has_a_crate() {
    let crates: Vec<String> = ours().into_keys().collect();
    let rows: Vec<String> = table().into_keys().collect();
    assert_eq!(crates, rows);
}

#[test]
fn a_crate_imports_nothing_of_ours_that_the_table_does_not_allow() {
    let crates = ours();
    let table = table();
    let found = offences(&crates, |name, import| {
        crates.contains_key(import) && table.get(name).is_some_and(|row| !row.may_import.contains(import))
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_table_points_downwards_only() {
    let table = table();
    let mut below: BTreeSet<&String> = BTreeSet::new();
    loop {
        let next: Vec<&String> = table
            .iter()
            .filter(|(name, row)| !below.contains(name) && row.may_import.iter().all(|i| below.contains(i)))
            .map(|(name, _)| name)
            .collect();
        if next.is_empty() {
            break;
        }
        below.extend(next);
    }
    let stuck: Vec<&String> = table.keys().filter(|name| !below.contains(name)).collect();
    assert!(stuck.is_empty(), "these import each other, or a crate that is not in the table: {stuck:?}");
}

#[test]
fn the_pure_crates_are_those_that_the_table_calls_pure() {
    let said: BTreeSet<String> =
        table().into_iter().filter(|(_, row)| row.kind == "pure").map(|(name, _)| name).collect();
    assert_eq!(said, PURE.iter().map(|p| (*p).to_owned()).collect());
}

#[test]
fn a_pure_crate_imports_pure_crates_only() {
    let crates = ours();
    let found = offences(&crates, |name, import| {
        PURE.contains(&name) && crates.contains_key(import) && !PURE.contains(&import)
    });
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_pure_crate_imports_no_runtime_lock_socket_or_randomness() {
    let found = offences(&ours(), |name, import| PURE.contains(&name) && IMPURE.contains(&import));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_tests_of_a_pure_crate_use_no_runtime_either() {
    let all = dependencies(|kind| kind == Some("dev"));
    let found = offences(&all, |name, import| PURE.contains(&name) && import.starts_with("tokio"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn openraft_rocksdb_tonic_and_amq_protocol_are_each_known_to_one_crate_only() {
    let all = dependencies(|_| true);
    let found = offences(&all, |name, import| {
        HIDDEN.iter().any(|(hidden, knowers)| *hidden == import && !knowers.contains(&name))
    });
    assert!(found.is_empty(), "{found:#?}");
    for (hidden, knowers) in HIDDEN {
        for knower in knowers {
            assert!(
                all[*knower].contains(hidden),
                "{knower} no longer imports {hidden}: this test checks nothing"
            );
        }
    }
}

#[test]
fn a_row_is_read_as_it_is_meant() {
    let (name, read) = row("| `warren-raft` groups | replication | store, types |").expect("a row");
    assert_eq!((name.as_str(), read.kind.as_str()), ("warren-raft", "replication"));
    assert_eq!(read.may_import, BTreeSet::from(["warren-store".to_owned(), "warren-types".to_owned()]));
    assert!(row("| `warren-types` nouns | pure | - |").expect("a row").1.may_import.is_empty());
    assert!(row("| --- | --- | --- |").is_none());
    assert!(row("| Crate | Kind | May import, of ours |").is_none());
}
