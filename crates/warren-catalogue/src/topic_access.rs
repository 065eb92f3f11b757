//! Which routing keys a user may use with an exchange of type `topic`. A user of whom nothing is said may use all.

use std::collections::BTreeMap;

use warren_proto::catalogue::{ExchangeKind, TopicPermissionRecord};
use warren_types::{AmqpError, ReplyCode};

use crate::access::{Access, Pattern};
use crate::names::{exchange_resource, refuse};
use crate::state::Catalogue;

/// By user, virtual host and exchange.
pub(crate) type TopicGrants = BTreeMap<(String, String, String), TopicGrant>;

/// What is said of one user and exchange, ready to be asked.
#[derive(Clone, Debug)]
pub(crate) struct TopicGrant {
    pub(crate) record: TopicPermissionRecord,
    write: Pattern,
    read: Pattern,
}

impl TopicGrant {
    /// # Errors
    /// 406 `invalid regexp '…': …` for a pattern that does not compile.
    pub(crate) fn compile(record: TopicPermissionRecord) -> Result<Self, AmqpError> {
        let compile = |pattern: &str| {
            let pattern = pattern
                .replace("{username}", &regex::escape(&record.user))
                .replace("{vhost}", &regex::escape(&record.vhost));
            Pattern::compile(&pattern)
        };
        let (write, read) = (compile(&record.write)?, compile(&record.read)?);
        Ok(Self { record, write, read })
    }
}

impl Catalogue {
    /// May the user use the routing key with the exchange: publish with it (`Access::Write`), or bind with it
    /// (`Access::Read`)? Only exchanges of type `topic` are asked about; to configure needs no such permission.
    ///
    /// # Errors
    /// 403 `write access to topic 'k' in exchange 'x' in vhost '/' refused for user 'u'`.
    pub fn check_topic_access(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        access: Access,
        routing_key: &str,
    ) -> Result<(), AmqpError> {
        if self.topic_grants.is_empty()
            || self.exchange(vhost, exchange).is_none_or(|exchange| exchange.kind != ExchangeKind::Topic)
        {
            return Ok(());
        }
        let key = (user.to_owned(), vhost.to_owned(), exchange.to_owned());
        let Some(grant) = self.topic_grants.get(&key) else { return Ok(()) };
        let pattern = match access {
            Access::Write => &grant.write,
            Access::Read => &grant.read,
            Access::Configure => return Ok(()),
        };
        if pattern.matches(routing_key) {
            return Ok(());
        }
        Err(refuse(
            ReplyCode::AccessRefused,
            format!(
                "{} access to topic '{routing_key}' in {} refused for user '{user}'",
                access.as_str(),
                exchange_resource(vhost, exchange)
            ),
        ))
    }

    /// All topic permissions, by user, virtual host and exchange.
    pub fn topic_permissions(&self) -> impl Iterator<Item = &TopicPermissionRecord> {
        self.topic_grants.values().map(|grant| &grant.record)
    }
}
