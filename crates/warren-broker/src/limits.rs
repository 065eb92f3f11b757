//! Limits of connections of a vhost or a user, over all nodes. The others are asked at the moment a connection is opened,
//! and only where there is a limit: two connections opened at once may exceed it by one, as in RabbitMQ. A node that does not
//! answer counts for nothing.

use std::time::Duration;

use warren_proto::operate::{Question, Reply};
use warren_types::{AmqpError, ReplyCode};

use crate::broker::Broker;

/// How long an opening connection waits for what other nodes count.
const COUNT_DEADLINE: Duration = Duration::from_secs(1);

/// Gives the number of channels that the user has on other nodes; 0 where nothing is limited.
///
/// # Errors
/// 530 `access to vhost '<v>' refused for user '<u>': connection limit (<n>) is reached`, or
/// `connection refused for user '<u>': user connection limit (<n>) is reached`.
pub(crate) async fn check_connection(broker: &Broker, user: &str, vhost: &str) -> Result<u64, AmqpError> {
    let (of_vhost, of_user) = {
        let catalogue = broker.catalogue().read();
        (catalogue.vhost_limits(vhost), catalogue.user_limits(user))
    };
    if of_vhost.max_connections.is_none()
        && of_user.max_connections.is_none()
        && of_user.max_channels.is_none()
    {
        return Ok(0);
    }
    let mut counts = broker.connections().count(vhost, user);
    let question = Question::Count { vhost: vhost.to_owned(), user: user.to_owned() };
    let mut elsewhere = 0_u64;
    for (_, reply) in broker.ask_nodes(&question, COUNT_DEADLINE).await {
        if let Reply::Counts(there) = reply {
            counts.vhost_connections = counts.vhost_connections.saturating_add(there.vhost_connections);
            counts.user_connections = counts.user_connections.saturating_add(there.user_connections);
            elsewhere = elsewhere.saturating_add(there.user_channels);
        }
    }
    let refused = |text: String| Err(AmqpError::new(ReplyCode::NotAllowed, text));
    if let Some(limit) = of_vhost.max_connections
        && counts.vhost_connections >= limit
    {
        return refused(format!(
            "access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached"
        ));
    }
    if let Some(limit) = of_user.max_connections
        && counts.user_connections >= limit
    {
        return refused(format!(
            "connection refused for user '{user}': user connection limit ({limit}) is reached"
        ));
    }
    Ok(elsewhere)
}
