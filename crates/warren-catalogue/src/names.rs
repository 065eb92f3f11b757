//! Rules about names, and the refusals that name a resource, in RabbitMQ's words.

use warren_types::{AmqpError, ReplyCode};

/// Longest name of anything, in bytes: what a short string holds (0-9-1 §4.2.5.3).
const NAME_MAX: usize = 255;

/// Names that begin so are the broker's own.
const RESERVED: &str = "amq.";

/// The queues behind reply consumers are named so; nobody has declared them.
const REPLY_QUEUES: &str = "amq.rabbitmq.reply-to.";

/// So are those that keep an exchange's history, before its name.
const HISTORIES: &str = "amq.rabbitmq.recent-history.";

/// Whether the broker made the queue for itself: it counts for no limit and is in no listing.
#[must_use]
pub fn is_hidden(queue: &str) -> bool {
    queue.starts_with(REPLY_QUEUES) || queue.starts_with(HISTORIES)
}

/// The queue that keeps an exchange's history.
pub(crate) fn history_of(exchange: &str) -> String {
    format!("{HISTORIES}{exchange}")
}

/// The exchange whose history the queue of that name keeps.
pub(crate) fn remembers(queue: &str) -> Option<&str> {
    queue.strip_prefix(HISTORIES)
}

pub(crate) fn refuse(code: ReplyCode, text: impl Into<String>) -> AmqpError {
    AmqpError::new(code, text)
}

/// `queue 'q' in vhost '/'`.
pub(crate) fn queue_resource(vhost: &str, name: &str) -> String {
    format!("queue '{name}' in vhost '{vhost}'")
}

/// `exchange 'x' in vhost '/'`.
pub(crate) fn exchange_resource(vhost: &str, name: &str) -> String {
    format!("exchange '{name}' in vhost '{vhost}'")
}

/// 404 `no queue 'q' in vhost '/'`.
#[must_use]
pub fn no_queue(vhost: &str, name: &str) -> AmqpError {
    refuse(ReplyCode::NotFound, format!("no {}", queue_resource(vhost, name)))
}

/// 404 `no exchange 'x' in vhost '/'`.
#[must_use]
pub fn no_exchange(vhost: &str, name: &str) -> AmqpError {
    refuse(ReplyCode::NotFound, format!("no {}", exchange_resource(vhost, name)))
}

/// 530 `vhost <v> not found`.
pub(crate) fn no_vhost(vhost: &str) -> AmqpError {
    refuse(ReplyCode::NotAllowed, format!("vhost {vhost} not found"))
}

/// 404 `no user '<u>'`.
pub(crate) fn no_user(user: &str) -> AmqpError {
    refuse(ReplyCode::NotFound, format!("no user '{user}'"))
}

/// The default exchange cannot be declared, deleted or bound.
///
/// # Errors
/// 403 `operation not permitted on the default exchange` when the name is empty.
pub fn check_not_default_exchange(name: &str) -> Result<(), AmqpError> {
    if name.is_empty() {
        return Err(refuse(ReplyCode::AccessRefused, "operation not permitted on the default exchange"));
    }
    Ok(())
}

/// May a client make an exchange of that name? Asked only when it does not exist: those of the broker may be
/// declared again.
///
/// # Errors
/// 403 `exchange name 'amq.x' contains reserved prefix 'amq.*'`.
pub fn check_exchange_name(name: &str) -> Result<(), AmqpError> {
    check_reserved("exchange", name)
}

/// May a client declare a queue of that name? Unlike with exchanges RabbitMQ asks it also of those that exist; not of the
/// names that the broker draws itself, which begin so.
///
/// # Errors
/// 403 `queue name 'amq.x' contains reserved prefix 'amq.*'`.
pub fn check_queue_name(name: &str) -> Result<(), AmqpError> {
    check_reserved("queue", name)
}

fn check_reserved(kind: &str, name: &str) -> Result<(), AmqpError> {
    if name.starts_with(RESERVED) {
        return Err(refuse(
            ReplyCode::AccessRefused,
            format!("{kind} name '{name}' contains reserved prefix 'amq.*'"),
        ));
    }
    Ok(())
}

/// System exchanges stay, also those that are not there.
///
/// # Errors
/// 403 `deletion of system exchange 'amq.direct' in vhost '/' not allowed`, and for the default exchange.
pub fn check_exchange_deletable(vhost: &str, name: &str) -> Result<(), AmqpError> {
    check_not_default_exchange(name)?;
    if name.starts_with(RESERVED) {
        return Err(refuse(
            ReplyCode::AccessRefused,
            format!("deletion of system {} not allowed", exchange_resource(vhost, name)),
        ));
    }
    Ok(())
}

/// Refuses what no client could name: the HTTP API has no short strings to bound it.
pub(crate) fn check_length(what: &str, name: &str) -> Result<(), AmqpError> {
    if name.len() > NAME_MAX {
        return Err(refuse(
            ReplyCode::PreconditionFailed,
            format!("{what} is {} bytes long, more than {NAME_MAX}", name.len()),
        ));
    }
    Ok(())
}

/// As [`check_length`], for what must have a name.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), AmqpError> {
    if name.is_empty() {
        return Err(refuse(ReplyCode::PreconditionFailed, format!("{what} is empty")));
    }
    check_length(what, name)
}
