//! Users and their permissions.

use warren_proto::catalogue::{PermissionRecord, TopicPermissionRecord, UserRecord};
use warren_types::AmqpError;

use super::Effect;
use crate::access::Grant;
use crate::names::{check_length, check_name, no_user, no_vhost};
use crate::state::Catalogue;
use crate::topic_access::TopicGrant;

impl Catalogue {
    pub(super) fn put_user(&mut self, user: &UserRecord) -> Result<Effect, AmqpError> {
        check_name("user name", &user.name)?;
        match self.users.insert(user.name.clone(), user.clone()) {
            None => Ok(Effect::created()),
            Some(before) if before == *user => Ok(Effect::unchanged()),
            Some(_) => Ok(Effect::changed()),
        }
    }

    pub(super) fn delete_user(&mut self, name: &str) -> Effect {
        if self.users.remove(name).is_none() {
            return Effect::unchanged();
        }
        self.grants.remove(name);
        self.user_limits.remove(name);
        self.topic_grants.retain(|(user, ..), _| user != name);
        Effect::changed()
    }

    pub(super) fn set_permissions(&mut self, record: &PermissionRecord) -> Result<Effect, AmqpError> {
        if !self.users.contains_key(&record.user) {
            return Err(no_user(&record.user));
        }
        if !self.vhosts.contains_key(record.vhost.as_str()) {
            return Err(no_vhost(&record.vhost));
        }
        let known = self.grant(&record.user, &record.vhost);
        if known.is_some_and(|grant| grant.record == *record) {
            return Ok(Effect::unchanged());
        }
        let created = known.is_none();
        let grant = Grant::compile(record.clone())?;
        self.grants.entry(record.user.clone()).or_default().insert(record.vhost.clone(), grant);
        Ok(Effect { created, ..Effect::changed() })
    }

    pub(super) fn clear_permissions(&mut self, user: &str, vhost: &str) -> Effect {
        let Some(by_vhost) = self.grants.get_mut(user) else { return Effect::unchanged() };
        if by_vhost.remove(vhost).is_none() {
            return Effect::unchanged();
        }
        if by_vhost.is_empty() {
            self.grants.remove(user);
        }
        Effect::changed()
    }

    pub(super) fn set_topic_permissions(
        &mut self,
        record: &TopicPermissionRecord,
    ) -> Result<Effect, AmqpError> {
        if !self.users.contains_key(&record.user) {
            return Err(no_user(&record.user));
        }
        if !self.vhosts.contains_key(record.vhost.as_str()) {
            return Err(no_vhost(&record.vhost));
        }
        check_length("exchange name", &record.exchange)?;
        let key = (record.user.clone(), record.vhost.clone(), record.exchange.clone());
        let known = self.topic_grants.get(&key);
        if known.is_some_and(|grant| grant.record == *record) {
            return Ok(Effect::unchanged());
        }
        let created = known.is_none();
        self.topic_grants.insert(key, TopicGrant::compile(record.clone())?);
        Ok(Effect { created, ..Effect::changed() })
    }

    pub(super) fn clear_topic_permissions(
        &mut self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Effect {
        let before = self.topic_grants.len();
        self.topic_grants.retain(|(of, within, about), _| {
            of != user || within != vhost || exchange.is_some_and(|exchange| exchange != about)
        });
        if self.topic_grants.len() == before { Effect::unchanged() } else { Effect::changed() }
    }
}
