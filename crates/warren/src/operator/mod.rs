//! The commands that ask a running node through its HTTP API. stdout is data, stderr is talk, the exit code is the
//! answer: 0 done, 1 a check says no, 2 usage, 4 not found, 6 not allowed, 7 unreachable, 8 timeout.

mod api;
mod manage;
mod nodes;
mod settings;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

pub(crate) use self::api::Failure;
use self::api::{Api, encode};
pub(crate) use self::manage::{
    Definitions, Permissions, Policies, Users, Vhosts, definitions, permissions, policies, users, vhosts,
};
use self::nodes::nodes_table;
pub(crate) use self::nodes::{NodesArguments, nodes};
pub(crate) use self::settings::{
    Limits, Parameters, TopicPermissions, limits, parameters, topic_permissions,
};
use self::table::{Table, field, number};

/// Which node is asked, as whom, and how the answer is printed.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The HTTP address of any node.
    #[arg(long, value_name = "URL", env = "WARREN_NODE", default_value = "http://127.0.0.1:15672")]
    node: String,
    /// Who asks, as NAME:PASSWORD.
    #[arg(
        long,
        value_name = "NAME:PASSWORD",
        env = "WARREN_USER",
        default_value = "guest:guest",
        hide_env_values = true
    )]
    user: String,
    /// The authority of the node's certificate (PEM), for https; else the usual ones of the web count.
    #[arg(long, value_name = "FILE", env = "WARREN_CA")]
    ca: Option<PathBuf>,
    /// A table for people (tab-separated off a terminal), or JSON as the HTTP API names it.
    #[arg(long, short, value_enum, env = "WARREN_OUTPUT", default_value_t = Output::Table)]
    output: Output,
    /// How long to wait for an answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
}

impl Connection {
    fn api(&self) -> Result<Api, Failure> {
        Api::new(&self.node, &self.user, self.timeout, self.ca.as_deref())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// The command line of `warren queues`.
#[derive(Debug, Args)]
pub(crate) struct QueuesArguments {
    /// Only this virtual host's.
    #[arg(long, short = 'p', value_name = "NAME")]
    vhost: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

/// The command line of `warren check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Does the node serve AMQP clients, in contact with a majority?
    Ready(Connection),
    /// Does the node's process answer at all?
    Live(Connection),
    /// Is no memory or disk alarm raised anywhere in the cluster?
    Alarms(Connection),
}

/// Prints what went wrong and gives the exit code.
pub(crate) fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// `warren status`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses.
pub(crate) fn status(connection: &Connection) -> Result<(), Failure> {
    let api = connection.api()?;
    let (overview, nodes, shards) =
        (api.get("/api/overview")?, api.get("/api/nodes")?, api.get("/api/warren/shards")?);
    match connection.output {
        Output::Json => {
            print_json(&serde_json::json!({ "overview": overview, "nodes": nodes, "shards": shards }))
        }
        Output::Table => {
            let total = |name: &str| number(overview.pointer(&format!("/queue_totals/{name}")));
            let object = |name: &str| number(overview.pointer(&format!("/object_totals/{name}")));
            say(&format!(
                "Cluster {}, asked through {}\n\n{}\n{}\n{} queues, {} messages ({} ready, {} unacked), {} consumers, \
                 {} connections on this node\n",
                field(&overview, "cluster_name"),
                field(&overview, "node"),
                nodes_table(&nodes),
                shards_table(&shards),
                object("queues"),
                total("messages"),
                total("messages_ready"),
                total("messages_unacknowledged"),
                object("consumers"),
                object("connections"),
            ));
            Ok(())
        }
    }
}

/// `warren queues`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses, or the virtual host does not exist.
pub(crate) fn queues(arguments: &QueuesArguments) -> Result<(), Failure> {
    let connection = &arguments.connection;
    let api = connection.api()?;
    let queues = match &arguments.vhost {
        Some(vhost) => api.get(&format!("/api/queues/{}", encode(vhost)))?,
        None => api.get("/api/queues")?,
    };
    match connection.output {
        Output::Json => print_json(&queues),
        Output::Table => {
            say(&queues_table(&queues).to_string());
            Ok(())
        }
    }
}

/// `warren check ...`.
///
/// # Errors
/// [`Failure::No`] when the answer is no, another [`Failure`] when the node cannot be asked.
pub(crate) fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let (path, connection) = match &arguments.question {
        Question::Ready(connection) => ("/api/health/checks/ready-to-serve-clients", connection),
        Question::Live(connection) => ("/health/live", connection),
        Question::Alarms(connection) => ("/api/health/checks/alarms", connection),
    };
    let answer = connection.api()?.check(path)?;
    match connection.output {
        Output::Json => print_json(&answer),
        Output::Table => {
            say(&format!("{}\n", field(&answer, "status")));
            Ok(())
        }
    }
}

fn shards_table(shards: &Value) -> Table {
    let mut table = Table::new(&["shard", "leader", "replicas", "term", "applied", "lag"], 3);
    for shard in rows(shards) {
        let replicas = rows(&shard["members"]).filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
        table.row([
            field(shard, "name"),
            field(shard, "leader"),
            replicas,
            field(shard, "term"),
            field(shard, "applied"),
            lag_of(shard),
        ]);
    }
    table
}

/// How far each follower is behind, for those that are: `name 12`. Only the leader knows: `-` when another node was
/// asked, or nobody follows.
fn lag_of(shard: &Value) -> String {
    let lag = shard.get("lag").and_then(Value::as_object).filter(|lag| !lag.is_empty());
    let Some(lag) = lag else { return "-".to_owned() };
    let behind: Vec<String> = lag
        .iter()
        .filter(|(_, entries)| entries.as_u64() != Some(0))
        .map(|(node, entries)| format!("{node} {}", number(Some(entries))))
        .collect();
    if behind.is_empty() { "0".to_owned() } else { behind.join(", ") }
}

fn queues_table(queues: &Value) -> Table {
    let mut table = Table::new(&["vhost", "name", "ready", "unacked", "consumers", "leader"], 2);
    for queue in rows(queues) {
        table.row([
            field(queue, "vhost"),
            field(queue, "name"),
            field(queue, "messages_ready"),
            field(queue, "messages_unacknowledged"),
            field(queue, "consumers"),
            field(queue, "leader"),
        ]);
    }
    table
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Writes data to stdout. Whoever reads may have gone (`warren queues | head`): that is no failure of ours.
pub(crate) fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _reader_gone = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn print_json(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Nonsense(error.to_string()))?;
    say(&format!("{text}\n"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_queue_table_has_a_row_a_queue() {
        let queues = json!([{ "vhost": "/", "name": "hello", "messages_ready": 3, "messages_unacknowledged": 1,
            "consumers": 2, "leader": "warren@a" }]);
        assert_eq!(
            queues_table(&queues).plain(),
            "vhost\tname\tready\tunacked\tconsumers\tleader\n/\thello\t3\t1\t2\twarren@a\n"
        );
    }

    #[test]
    fn only_followers_that_are_behind_are_told() {
        assert_eq!(lag_of(&json!({ "lag": { "a": 0, "b": 0 } })), "0");
        assert_eq!(lag_of(&json!({ "lag": { "a": 0, "b": 7, "c": null } })), "b 7, c -");
        assert_eq!((lag_of(&json!({})), lag_of(&json!({ "lag": {} }))), ("-".to_owned(), "-".to_owned()));
    }

    #[test]
    fn a_shard_without_a_leader_shows_a_dash() {
        let shards = json!([{ "name": "1", "leader": null, "members": ["a", "b"], "term": 4, "applied": 9 }]);
        assert_eq!(
            shards_table(&shards).plain(),
            "shard\tleader\treplicas\tterm\tapplied\tlag\n1\t-\ta b\t4\t9\t-\n"
        );
    }
}
