//! The commands that change what is declared: users, virtual hosts, permissions, policies, definitions. Each is one or
//! two requests of the HTTP API.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::api::{Change, Failure, encode};
use super::settings::{VhostSettings, set_vhost};
use super::table::{Table, field};
use super::{Connection, Output, print_json, rows, say};

/// The largest file or standard input that is read.
const INPUT_MAX_BYTES: u64 = 20 * 1024 * 1024;

/// A virtual host, `/` unless named.
#[derive(Debug, Args)]
pub(crate) struct InVhost {
    /// The virtual host.
    #[arg(long, short = 'p', value_name = "NAME", default_value = "/")]
    pub(super) vhost: String,
}

/// The command line of `warren users`.
#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// List the users and their tags.
    List(Connection),
    /// Make a user; the password is read from a file or standard input.
    Add {
        /// The new user's name.
        name: String,
        /// `administrator`, `monitoring`, `policymaker`, `management`, with commas between.
        #[arg(long, default_value = "")]
        tags: String,
        /// The password: the first line of this file; standard input without it.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Change a user's tags, password or both; the rest stays.
    Set {
        /// The user.
        name: String,
        /// The new tags, with commas between.
        #[arg(long)]
        tags: Option<String>,
        /// The new password: the first line of this file, `-` for standard input.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a user with its permissions.
    Delete {
        /// The user.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// The command line of `warren vhosts`.
#[derive(Debug, Subcommand)]
pub(crate) enum Vhosts {
    /// List the virtual hosts.
    List(Connection),
    /// Make a virtual host; who asks may do everything in it.
    Add {
        /// Its name.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
    /// Say something else of a virtual host; what is left out stays.
    Set(VhostSettings),
    /// Delete a virtual host and everything in it, messages too.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        connection: Connection,
    },
}

/// The command line of `warren permissions`.
#[derive(Debug, Subcommand)]
pub(crate) enum Permissions {
    /// List who may do what where.
    List(Connection),
    /// Set what a user may do in a virtual host: regular expressions on names of queues and exchanges.
    Set {
        /// Whose permissions.
        name: String,
        /// What it may declare and delete; empty for nothing.
        #[arg(long, default_value = "")]
        configure: String,
        /// What it may publish and bind to.
        #[arg(long, default_value = "")]
        write: String,
        /// What it may consume and bind from.
        #[arg(long, default_value = "")]
        read: String,
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        connection: Connection,
    },
    /// Take all of a user's permissions in a virtual host.
    Clear {
        /// Whose permissions.
        name: String,
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        connection: Connection,
    },
}

/// The command line of `warren policies`.
#[derive(Debug, Subcommand)]
pub(crate) enum Policies {
    /// List the policies, or the operators' policies.
    List {
        /// Operators' policies, which users cannot exceed.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        connection: Connection,
    },
    /// Make or change a policy, for example: warren policies set short '^tmp\.' '{"message-ttl":60000}'
    Set {
        /// Its name.
        name: String,
        /// A regular expression on the names of queues and exchanges.
        pattern: String,
        /// The settings, as a JSON object.
        definition: String,
        /// Of the policies that match, the one of the highest priority counts.
        #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
        priority: i64,
        /// What it is for: all, queues, exchanges, classic_queues, quorum_queues, streams.
        #[arg(long, default_value = "all")]
        apply_to: String,
        /// An operator's policy, which users cannot exceed.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        connection: Connection,
    },
    /// Delete a policy.
    Delete {
        /// Its name.
        name: String,
        /// An operator's policy.
        #[arg(long)]
        operator: bool,
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        connection: Connection,
    },
}

/// The command line of `warren definitions`.
#[derive(Debug, Subcommand)]
pub(crate) enum Definitions {
    /// Write everything that is declared, in RabbitMQ's JSON, to a file or standard output.
    Export {
        /// The file; `-` for standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
        /// Only this virtual host's, without naming it.
        #[arg(long, short = 'p', value_name = "NAME")]
        vhost: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
    /// Declare everything that a file names, ours or RabbitMQ's; nothing is deleted.
    Import {
        /// The file; `-` for standard input.
        file: PathBuf,
        /// A file of one virtual host: into this one.
        #[arg(long, short = 'p', value_name = "NAME")]
        vhost: Option<String>,
        #[command(flatten)]
        connection: Connection,
    },
}

/// `warren users ...`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses, or a file cannot be read.
pub(crate) fn users(command: &Users) -> Result<(), Failure> {
    match command {
        Users::List(connection) => list(connection, "/api/users", &["name", "tags"]),
        Users::Add { name, tags, password_file, connection } => {
            let path = format!("/api/users/{}", encode(name));
            let api = connection.api()?;
            if api.get(&path).is_ok() {
                return Err(Failure::No(format!("there is a user {name} already (see users set)")));
            }
            let password = first_line(password_file.as_deref().unwrap_or(Path::new("-")))?;
            api.change(Change::Put, &path, &json!({ "tags": tags, "password": password }))
        }
        Users::Set { name, tags, password_file, connection } => {
            let path = format!("/api/users/{}", encode(name));
            let api = connection.api()?;
            let known = api.get(&path)?;
            let mut user = Map::new();
            user.insert(
                "tags".to_owned(),
                tags.as_deref().map_or_else(|| known.get("tags").cloned().unwrap_or_default(), Value::from),
            );
            match password_file {
                Some(file) => user.insert("password".to_owned(), first_line(file)?.into()),
                None => user.insert(
                    "password_hash".to_owned(),
                    known.get("password_hash").cloned().unwrap_or_default(),
                ),
            };
            api.change(Change::Put, &path, &Value::Object(user))
        }
        Users::Delete { name, connection } => delete(connection, &format!("/api/users/{}", encode(name))),
    }
}

/// `warren vhosts ...`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses.
pub(crate) fn vhosts(command: &Vhosts) -> Result<(), Failure> {
    match command {
        Vhosts::List(connection) => list(
            connection,
            "/api/vhosts",
            &["name", "description", "tags", "default_queue_type", "protected_from_deletion"],
        ),
        Vhosts::Set(settings) => set_vhost(settings),
        Vhosts::Add { name, connection } => {
            connection.api()?.change(Change::Put, &format!("/api/vhosts/{}", encode(name)), &json!({}))
        }
        Vhosts::Delete { name, connection } => delete(connection, &format!("/api/vhosts/{}", encode(name))),
    }
}

/// `warren permissions ...`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses.
pub(crate) fn permissions(command: &Permissions) -> Result<(), Failure> {
    let path =
        |place: &InVhost, name: &str| format!("/api/permissions/{}/{}", encode(&place.vhost), encode(name));
    match command {
        Permissions::List(connection) => {
            list(connection, "/api/permissions", &["user", "vhost", "configure", "write", "read"])
        }
        Permissions::Set { name, configure, write, read, place, connection } => {
            let body = json!({ "configure": configure, "write": write, "read": read });
            connection.api()?.change(Change::Put, &path(place, name), &body)
        }
        Permissions::Clear { name, place, connection } => delete(connection, &path(place, name)),
    }
}

/// `warren policies ...`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses, or the definition is no JSON.
pub(crate) fn policies(command: &Policies) -> Result<(), Failure> {
    let kind = |operator: bool| if operator { "/api/operator-policies" } else { "/api/policies" };
    let path = |operator: bool, place: &InVhost, name: &str| {
        format!("{}/{}/{}", kind(operator), encode(&place.vhost), encode(name))
    };
    match command {
        Policies::List { operator, connection } => list(
            connection,
            kind(*operator),
            &["vhost", "name", "pattern", "apply-to", "priority", "definition"],
        ),
        Policies::Set { name, pattern, definition, priority, apply_to, operator, place, connection } => {
            let definition: Value = serde_json::from_str(definition)
                .map_err(|error| Failure::Usage(format!("the definition is no JSON: {error}")))?;
            let body = json!({ "pattern": pattern, "definition": definition, "priority": priority,
                "apply-to": apply_to });
            connection.api()?.change(Change::Put, &path(*operator, place, name), &body)
        }
        Policies::Delete { name, operator, place, connection } => {
            delete(connection, &path(*operator, place, name))
        }
    }
}

/// `warren definitions ...`.
///
/// # Errors
/// [`Failure`] when the node cannot be asked or refuses, or the file cannot be read or written.
pub(crate) fn definitions(command: &Definitions) -> Result<(), Failure> {
    let path = |vhost: &Option<String>| match vhost {
        Some(vhost) => format!("/api/definitions/{}", encode(vhost)),
        None => "/api/definitions".to_owned(),
    };
    match command {
        Definitions::Export { file, vhost, connection } => {
            let document = connection.api()?.get(&path(vhost))?;
            if file == Path::new("-") {
                return print_json(&document);
            }
            let text = serde_json::to_string_pretty(&document)
                .map_err(|error| Failure::Nonsense(error.to_string()))?;
            std::fs::write(file, text + "\n").map_err(|error| unusable(file, &error))
        }
        Definitions::Import { file, vhost, connection } => {
            let document: Value = serde_json::from_str(&read(file)?)
                .map_err(|error| Failure::Usage(format!("{} is no JSON: {error}", file.display())))?;
            connection.api()?.change(Change::Post, &path(vhost), &document)
        }
    }
}

pub(super) fn delete(connection: &Connection, path: &str) -> Result<(), Failure> {
    connection.api()?.change(Change::Delete, path, &Value::Null)
}

/// Prints a listing: these fields of every object, or all of it as JSON.
pub(super) fn list(connection: &Connection, path: &str, fields: &[&'static str]) -> Result<(), Failure> {
    let found = connection.api()?.get(path)?;
    match connection.output {
        Output::Json => print_json(&found),
        Output::Table => {
            say(&listing(&found, fields).to_string());
            Ok(())
        }
    }
}

fn listing(found: &Value, fields: &[&'static str]) -> Table {
    let mut table = Table::new(fields, fields.len());
    for item in rows(found) {
        table.row(fields.iter().map(|name| match item.get(*name) {
            Some(Value::Array(values)) => {
                values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
            }
            Some(Value::Object(object)) => Value::Object(object.clone()).to_string(),
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => {
                field(item, name)
            }
        }));
    }
    table
}

fn first_line(file: &Path) -> Result<String, Failure> {
    let text = read(file)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::Usage("the password is empty".to_owned()));
    }
    Ok(line.to_owned())
}

/// A file's text, or standard input's for `-`.
fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().take(INPUT_MAX_BYTES).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(INPUT_MAX_BYTES).read_to_string(&mut text))
    };
    read.map_err(|error| unusable(file, &error))?;
    Ok(text)
}

fn unusable(file: &Path, error: &std::io::Error) -> Failure {
    Failure::Usage(format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_objects_stand_in_one_column_each() {
        let found =
            json!([{ "name": "p", "tags": ["a", "b"], "definition": { "max-length": 5 } }, { "name": "q" }]);
        assert_eq!(
            listing(&found, &["name", "tags", "definition"]).plain(),
            "name\ttags\tdefinition\np\ta,b\t{\"max-length\":5}\nq\t-\t-\n"
        );
    }

    #[test]
    fn a_password_is_a_files_first_line_and_never_empty() {
        let folder = std::env::temp_dir().join(format!("warren-password-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (good, empty) = (folder.join("good"), folder.join("empty"));
        std::fs::write(&good, "s3cret\nmore\n").unwrap();
        std::fs::write(&empty, "\n").unwrap();
        assert_eq!(first_line(&good).unwrap(), "s3cret");
        assert_eq!(first_line(&empty).unwrap_err().exit_code(), 2);
        assert_eq!(first_line(&folder.join("none")).unwrap_err().exit_code(), 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
