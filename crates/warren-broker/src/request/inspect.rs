//! What a publish's properties must satisfy before it is routed, and the routing keys they add (RabbitMQ's `expiration`,
//! validated user-id, and sender-selected distribution). Most messages carry none of these: that costs two bytes' look.

use warren_amqp::Publish;
use warren_amqp::properties::{self, Properties};
use warren_types::{AmqpError, Message, ReplyCode, ShortStr};

use super::Caller;
use super::direct_reply::PSEUDO_QUEUE;

/// Bits of the property flags (0-9-1 §4.2.6.1), from the highest.
const HEADERS: u16 = 1 << 13;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const USER_ID: u16 = 1 << 4;

/// Whether there is anything to inspect.
pub(crate) fn is_plain(message: &Message) -> bool {
    match message.properties.first_chunk::<2>() {
        Some(flags) => u16::from_be_bytes(*flags) & (HEADERS | REPLY_TO | EXPIRATION | USER_ID) == 0,
        None => true,
    }
}

/// Checks the properties and returns the routing keys that `CC` and `BCC` add; `BCC` is taken out of the message, and a
/// request for answers to the pseudo queue gets the name of the channel's `reply_queue`.
///
/// # Errors
/// 406 with RabbitMQ's texts: bad expiration, a `CC` or `BCC` that is no array, an answer asked for without a reply
/// consumer.
pub(crate) fn inspect(
    reply_queue: Option<&ShortStr>,
    publish: &mut Publish,
) -> Result<Vec<String>, AmqpError> {
    if Properties::new(&publish.message.properties).reply_to() == Some(PSEUDO_QUEUE) {
        let Some(reply_queue) = reply_queue else {
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, "fast reply consumer does not exist"));
        };
        publish.message.properties = properties::with_reply_to(&publish.message.properties, reply_queue);
    }
    let properties = Properties::new(&publish.message.properties);
    properties.expiration_ms()?;
    let keys = properties.extra_routing_keys()?;
    // Also one that names nobody.
    if properties.header("BCC").is_some() {
        publish.message.properties = properties::with_header(&publish.message.properties, "BCC", None);
    }
    Ok(keys.into_iter().filter_map(|key| String::from_utf8(key).ok()).collect())
}

/// Checks the user-id that the message names: RabbitMQ looks at it last, after the routing keys of topics.
///
/// # Errors
/// 406 for another user's.
pub(crate) fn check_user(caller: &Caller, message: &Message) -> Result<(), AmqpError> {
    match Properties::new(&message.properties).user_id_octets() {
        Some(user) if user != caller.user.as_bytes() && !caller.broker.may_impersonate(&caller.user) => {
            let user = String::from_utf8_lossy(user);
            Err(AmqpError::new(
                ReplyCode::PreconditionFailed,
                format!("user_id property set to '{user}' but authenticated user was '{}'", caller.user),
            ))
        }
        Some(_) | None => Ok(()),
    }
}
