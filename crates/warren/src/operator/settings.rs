//! The commands about what operators say beside what clients declare: limits, topic permissions, parameters; and what they
//! say of a virtual host.

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Connection;
use super::api::{Change, Failure, encode};
use super::manage::{InVhost, delete, list};

/// The command line of `warren limits`.
#[derive(Debug, Subcommand)]
pub(crate) enum Limits {
    /// List the limits of virtual hosts, or of users.
    List {
        /// Of users.
        #[arg(long)]
        users: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Limit a virtual host or a user, for example: warren limits set max-queues 100 -p orders
    Set {
        /// Of a virtual host max-connections or max-queues, of a user max-connections or max-channels.
        limit: String,
        /// The most there may be; 0 allows none.
        value: u64,
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        connection: Connection,
    },
    /// Take a limit away.
    Clear {
        /// As in set.
        limit: String,
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        connection: Connection,
    },
}

/// A virtual host or a user.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").required(true))]
pub(crate) struct Whose {
    /// Of this virtual host.
    #[arg(long, short = 'p', value_name = "NAME", group = "whose")]
    vhost: Option<String>,
    /// Of this user.
    #[arg(long, value_name = "NAME", group = "whose")]
    of_user: Option<String>,
}

impl Whose {
    fn path(&self, limit: &str) -> String {
        match (&self.vhost, &self.of_user) {
            (Some(vhost), _) => format!("/api/vhost-limits/{}/{}", encode(vhost), encode(limit)),
            (None, user) => {
                format!("/api/user-limits/{}/{}", encode(user.as_deref().unwrap_or_default()), encode(limit))
            }
        }
    }
}

/// The command line of `warren topic-permissions`.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicPermissions {
    /// List who may use which routing keys.
    List(Connection),
    /// Say which routing keys a user may use with an exchange; of whom nothing is said may use all.
    Set {
        /// Whose.
        name: String,
        /// The exchange, of type topic.
        exchange: String,
        /// Routing keys it may publish with: a regular expression; {username} and {vhost} stand for themselves.
        #[arg(long, default_value = "")]
        write: String,
        /// Keys it may bind with.
        #[arg(long, default_value = "")]
        read: String,
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        connection: Connection,
    },
    /// Let a user use every routing key again.
    Clear {
        /// Whose.
        name: String,
        /// With this exchange only.
        exchange: Option<String>,
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        connection: Connection,
    },
}

/// The command line of `warren parameters`.
#[derive(Debug, Subcommand)]
pub(crate) enum Parameters {
    /// List the parameters of virtual hosts, or the global ones.
    List {
        /// The global ones.
        #[arg(long)]
        global: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Store a parameter, for example: warren parameters set cluster_name '"rabbits"' --global
    Set {
        /// Its name.
        name: String,
        /// Its value, JSON.
        value: String,
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        connection: Connection,
    },
    /// Forget a parameter.
    Clear {
        /// Its name.
        name: String,
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        connection: Connection,
    },
}

/// A component in a virtual host, or everywhere.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("scope").required(true))]
pub(crate) struct Scope {
    /// Of this component.
    #[arg(long, value_name = "NAME", group = "scope")]
    component: Option<String>,
    /// A global one.
    #[arg(long, group = "scope")]
    global: bool,
    #[command(flatten)]
    place: InVhost,
}

impl Scope {
    fn path(&self, name: &str) -> String {
        match &self.component {
            Some(component) => format!(
                "/api/parameters/{}/{}/{}",
                encode(component),
                encode(&self.place.vhost),
                encode(name)
            ),
            None => format!("/api/global-parameters/{}", encode(name)),
        }
    }
}

/// What `warren vhosts set` says of a virtual host.
#[derive(Debug, Args)]
pub(crate) struct VhostSettings {
    /// The virtual host.
    name: String,
    /// What it is for.
    #[arg(long)]
    description: Option<String>,
    /// For tools, with commas between.
    #[arg(long)]
    tags: Option<String>,
    /// The type of durable queues declared without one: classic, quorum or stream.
    #[arg(long, value_name = "TYPE")]
    default_queue_type: Option<String>,
    /// Whether nobody can delete it.
    #[arg(long, value_name = "true|false")]
    protected: Option<bool>,
    #[command(flatten)]
    connection: Connection,
}

/// `warren limits ...`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses.
pub(crate) fn limits(command: &Limits) -> Result<(), Failure> {
    match command {
        Limits::List { users: true, connection } => list(connection, "/api/user-limits", &["user", "value"]),
        Limits::List { users: false, connection } => {
            list(connection, "/api/vhost-limits", &["vhost", "value"])
        }
        Limits::Set { limit, value, whose, connection } => {
            connection.api()?.change(Change::Put, &whose.path(limit), &json!({ "value": value }))
        }
        Limits::Clear { limit, whose, connection } => delete(connection, &whose.path(limit)),
    }
}

/// `warren topic-permissions ...`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses.
pub(crate) fn topic_permissions(command: &TopicPermissions) -> Result<(), Failure> {
    let path = |place: &InVhost, name: &str| {
        format!("/api/topic-permissions/{}/{}", encode(&place.vhost), encode(name))
    };
    match command {
        TopicPermissions::List(connection) => {
            list(connection, "/api/topic-permissions", &["user", "vhost", "exchange", "write", "read"])
        }
        TopicPermissions::Set { name, exchange, write, read, place, connection } => {
            let body = json!({ "exchange": exchange, "write": write, "read": read });
            connection.api()?.change(Change::Put, &path(place, name), &body)
        }
        TopicPermissions::Clear { name, exchange: None, place, connection } => {
            delete(connection, &path(place, name))
        }
        TopicPermissions::Clear { name, exchange: Some(exchange), place, connection } => {
            delete(connection, &format!("{}/{}", path(place, name), encode(exchange)))
        }
    }
}

/// `warren parameters ...`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses, or the value is no JSON.
pub(crate) fn parameters(command: &Parameters) -> Result<(), Failure> {
    match command {
        Parameters::List { global: true, connection } => {
            list(connection, "/api/global-parameters", &["name", "value"])
        }
        Parameters::List { global: false, connection } => {
            list(connection, "/api/parameters", &["vhost", "component", "name", "value"])
        }
        Parameters::Set { name, value, scope, connection } => {
            let value: Value = serde_json::from_str(value)
                .map_err(|error| Failure::Usage(format!("the value is no JSON: {error}")))?;
            connection.api()?.change(Change::Put, &scope.path(name), &json!({ "value": value }))
        }
        Parameters::Clear { name, scope, connection } => delete(connection, &scope.path(name)),
    }
}

/// `warren vhosts set`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses, or there is no such virtual host.
pub(super) fn set_vhost(settings: &VhostSettings) -> Result<(), Failure> {
    let path = format!("/api/vhosts/{}", encode(&settings.name));
    let api = settings.connection.api()?;
    // A PUT would make one.
    api.get(&path)?;
    let mut body = Map::new();
    let mut put = |key: &str, value: Option<Value>| value.map(|value| body.insert(key.to_owned(), value));
    put("description", settings.description.as_deref().map(Value::from));
    put("tags", settings.tags.as_deref().map(Value::from));
    put("default_queue_type", settings.default_queue_type.as_deref().map(Value::from));
    put("protected_from_deletion", settings.protected.map(Value::from));
    api.change(Change::Put, &path, &Value::Object(body))
}
