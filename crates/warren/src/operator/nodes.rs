//! `warren nodes`: the nodes, and what an operator does with one. Each command says what is left to move until it is done.

use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::api::{Api, Change, Failure, encode};
use super::table::{Table, field};
use super::{Connection, Output, print_json, rows, say};

/// How often it is asked how far a change is.
const LOOK: Duration = Duration::from_secs(1);

/// The command line of `warren nodes`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct NodesArguments {
    #[command(subcommand)]
    command: Option<Nodes>,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Nodes {
    /// List the nodes; so does `warren nodes` alone.
    List(Connection),
    /// Move leaders and, where another node can take them, replicas away from a node, to stop it or to look after it.
    Drain(Target),
    /// Let a drained node take part in everything again; also calls off a removal that is not done yet.
    Undrain(Target),
    /// Take a node out of the cluster for good: it hands over what it holds, or, when it is gone, the others replace it.
    /// Refused when something would be lost. The node stops and is not taken in again with its data.
    Remove(Target),
    /// As remove, but only when another node (a new one joins by itself) can take its place.
    Replace(Target),
}

#[derive(Debug, Args)]
struct Target {
    /// The node's name, or its number where two have the same name.
    #[arg(value_name = "NODE")]
    name: String,
    /// How long to wait until it is done, in seconds; 0 does not wait. It goes on by itself in any case.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
    #[command(flatten)]
    connection: Connection,
}

/// `warren nodes`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses, or the change is not done in time.
pub(crate) fn nodes(arguments: &NodesArguments) -> Result<(), Failure> {
    match &arguments.command {
        None => list(&arguments.connection),
        Some(Nodes::List(connection)) => list(connection),
        Some(Nodes::Drain(target)) => change(target, "drain", is_drained),
        Some(Nodes::Undrain(target)) => change(target, "undrain", |_| None),
        Some(Nodes::Remove(target)) => change(target, "remove", is_gone),
        Some(Nodes::Replace(target)) => change(target, "replace", is_gone),
    }
}

fn list(connection: &Connection) -> Result<(), Failure> {
    let nodes = connection.api()?.get("/api/nodes")?;
    match connection.output {
        Output::Json => print_json(&nodes),
        Output::Table => {
            say(&nodes_table(&nodes).to_string());
            Ok(())
        }
    }
}

/// Asks for a change, then says what `left` finds until that is nothing.
fn change(target: &Target, what: &str, left: fn(Option<&Value>) -> Option<String>) -> Result<(), Failure> {
    let connection = &target.connection;
    let api = connection.api()?;
    let (began, patience) = (Instant::now(), Duration::from_secs(target.wait));
    // The number stays when the name goes.
    let number = find(&api, &target.name)?.map(|node| field(&node, "node_id"));
    api.change(
        Change::Post,
        &format!("/api/warren/nodes/{}/{what}", encode(number.as_deref().unwrap_or(&target.name))),
        &json!({}),
    )?;
    let mut said = String::new();
    loop {
        let found = match find(&api, number.as_deref().unwrap_or(&target.name)) {
            Ok(found) => found,
            // The node that is asked may be the one that goes, or be just about to choose a leader.
            Err(
                failure @ (Failure::Unreachable { .. } | Failure::Timeout { .. } | Failure::Refused { .. }),
            ) => {
                if began.elapsed() >= patience {
                    return Err(failure);
                }
                std::thread::sleep(LOOK);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let Some(now) = left(found.as_ref()) else {
            return Ok(());
        };
        if now != said {
            eprintln!("{}: {now}", target.name);
            said = now;
        }
        if began.elapsed() >= patience {
            if target.wait == 0 {
                return Ok(());
            }
            return Err(Failure::Timeout { node: target.name.clone(), timeout_s: target.wait });
        }
        std::thread::sleep(LOOK);
    }
}

/// The node of that name or number. Of several with one name none: the node that is asked says so.
fn find(api: &Api, name: &str) -> Result<Option<Value>, Failure> {
    let nodes = api.get("/api/nodes")?;
    let mut found = rows(&nodes).filter(|node| field(node, "name") == name || field(node, "node_id") == name);
    let first = found.next().cloned();
    Ok(if found.next().is_some() { None } else { first })
}

fn count(node: &Value, key: &str) -> u64 {
    node.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn is_drained(node: Option<&Value>) -> Option<String> {
    let node = node?;
    let (led, moving) = (count(node, "shards_led"), count(node, "moving"));
    let leads = node.get("metadata_leader").and_then(Value::as_bool).unwrap_or(false);
    (led > 0 || moving > 0 || leads).then(|| {
        format!("{led} leaders and {moving} moving replicas left, {} replicas", count(node, "replicas"))
    })
}

fn is_gone(node: Option<&Value>) -> Option<String> {
    let node = node?;
    let (replicas, moving) = (count(node, "replicas"), count(node, "moving"));
    Some(format!("{replicas} replicas left, {moving} of them moving"))
}

/// The nodes as a table.
/// What a node is short of.
fn alarms_of(node: &Value) -> &'static str {
    let is_on = |alarm: &str| node.get(alarm).and_then(Value::as_bool).unwrap_or(false);
    match (is_on("disk_free_alarm"), is_on("mem_alarm")) {
        (false, false) => "-",
        (true, false) => "disk",
        (false, true) => "memory",
        (true, true) => "disk, memory",
    }
}

pub(super) fn nodes_table(nodes: &Value) -> Table {
    let columns = [
        "node",
        "running",
        "duty",
        "zone",
        "address",
        "metadata",
        "alarms",
        "replicas",
        "moving",
        "shards led",
    ];
    let mut table = Table::new(&columns, 7);
    for node in rows(nodes) {
        let is = |key: &str| node.get(key).and_then(Value::as_bool).unwrap_or(false);
        let metadata = match (is("metadata_leader"), is("metadata_voter")) {
            (true, _) => "leader",
            (false, true) => "voter",
            (false, false) => "follower",
        };
        table.row([
            field(node, "name"),
            field(node, "running"),
            field(node, "duty"),
            field(node, "zone"),
            field(node, "address"),
            metadata.to_owned(),
            alarms_of(node).to_owned(),
            field(node, "replicas"),
            field(node, "moving"),
            field(node, "shards_led"),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drained_node_leads_nothing_and_nothing_of_it_moves() {
        let node = |led: u64, moving: u64| json!({ "shards_led": led, "moving": moving, "replicas": 4 });
        assert_eq!(
            is_drained(Some(&node(2, 1))).as_deref(),
            Some("2 leaders and 1 moving replicas left, 4 replicas")
        );
        assert_eq!(is_drained(Some(&node(0, 0))), None);
        assert_eq!(is_gone(Some(&node(0, 1))).as_deref(), Some("4 replicas left, 1 of them moving"));
        assert_eq!(is_gone(None), None);
    }

    #[test]
    fn the_table_says_what_a_node_is_in_the_metadata_group() {
        let nodes = json!([{ "name": "a", "running": true, "duty": "full", "zone": null, "address": "a:1",
            "metadata_leader": false, "metadata_voter": true, "replicas": 3, "moving": 0, "shards_led": 1 }]);
        assert_eq!(
            nodes_table(&nodes).plain(),
            "node\trunning\tduty\tzone\taddress\tmetadata\talarms\treplicas\tmoving\tshards led\n\
             a\ttrue\tfull\t-\ta:1\tvoter\t-\t3\t0\t1\n"
        );
    }
}
