//! Limits of vhosts and users, and the protection of vhosts from deletion.

use serde_json::{Map, Value, json};
use warren_broker::admin::{UserLimits, VhostLimits};

use super::Asked;
use crate::answer::Answer;
use crate::error::ApiError;

const MAX_CONNECTIONS: &str = "max-connections";
const MAX_QUEUES: &str = "max-queues";
const MAX_CHANNELS: &str = "max-channels";

impl Asked<'_> {
    pub(super) fn vhost_limits(&self, vhost: Option<&str>) -> Result<Answer, ApiError> {
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        let vhosts = self.admin.vhosts().into_iter();
        let seen = vhosts.filter(|name| self.caller.sees(name) && vhost.is_none_or(|vhost| vhost == name));
        let limits = seen.filter_map(|name| {
            let value = shape_vhost_limits(self.admin.vhost_limits(&name));
            (value != json!({})).then(|| json!({ "vhost": name, "value": value }))
        });
        Ok(Answer::List(limits.collect()))
    }

    pub(super) fn user_limits(&self, user: Option<&str>) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        if let Some(user) = user {
            self.must_know(user)?;
        }
        let users = self.admin.users().into_iter().map(|known| known.name);
        let limits = users.filter(|name| user.is_none_or(|user| user == name)).filter_map(|name| {
            let value = shape_user_limits(self.admin.user_limits(&name));
            (value != json!({})).then(|| json!({ "user": name, "value": value }))
        });
        Ok(Answer::List(limits.collect()))
    }

    /// Sets one limit, or takes it away.
    pub(super) async fn set_vhost_limit(
        &self,
        vhost: &str,
        name: &str,
        set: bool,
    ) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        self.vhost_of_put(vhost)?;
        let mut limits = self.admin.vhost_limits(vhost);
        let value = if set { self.limit_value()? } else { None };
        match name {
            MAX_CONNECTIONS => limits.max_connections = value,
            MAX_QUEUES => limits.max_queues = value,
            other => return Err(unknown(other)),
        }
        self.admin.set_vhost_limits(vhost, limits).await?;
        Ok(Answer::Done)
    }

    /// As [`Self::set_vhost_limit`], of a user.
    pub(super) async fn set_user_limit(&self, user: &str, name: &str, set: bool) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        self.must_know(user)?;
        let mut limits = self.admin.user_limits(user);
        let value = if set { self.limit_value()? } else { None };
        match name {
            MAX_CONNECTIONS => limits.max_connections = value,
            MAX_CHANNELS => limits.max_channels = value,
            other => return Err(unknown(other)),
        }
        self.admin.set_user_limits(user, limits).await?;
        Ok(Answer::Done)
    }

    /// Lets nobody delete the vhost, or anybody who may.
    pub(super) async fn protect(&self, vhost: &str, protected: bool) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        let mut metadata = self.admin.vhost_metadata(vhost).ok_or(ApiError::ObjectNotFound)?;
        metadata.protected = protected;
        self.admin.set_vhost_metadata(vhost, metadata).await?;
        Ok(Answer::Done)
    }

    pub(super) fn must_know(&self, user: &str) -> Result<(), ApiError> {
        let known = self.admin.users().iter().any(|known| known.name == user);
        if known { Ok(()) } else { Err(ApiError::ObjectNotFound) }
    }

    fn limit_value(&self) -> Result<Option<u64>, ApiError> {
        self.object.must_have(&["value"])?;
        self.object.get("value").map_or(Ok(None), read_limit)
    }
}

fn unknown(name: &str) -> ApiError {
    ApiError::BadRequest(format!("Unrecognised limit: {name}"))
}

/// A whole number; a negative one is no limit.
fn read_limit(value: &Value) -> Result<Option<u64>, ApiError> {
    let text = value.as_str().and_then(|text| text.parse().ok());
    let number = value.as_i64().or(text);
    let number = number.ok_or_else(|| ApiError::BadRequest("value must be a whole number".to_owned()))?;
    Ok(u64::try_from(number).ok())
}

fn read_limits(
    value: &Value,
    mut take: impl FnMut(&str, Option<u64>) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    match value {
        Value::Object(limits) => limits.iter().try_for_each(|(name, value)| take(name, read_limit(value)?)),
        // An empty object as PHP and Erlang write it.
        Value::Array(list) if list.is_empty() => Ok(()),
        Value::Null => Ok(()),
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            Err(ApiError::BadRequest("limits must be an object".to_owned()))
        }
    }
}

/// A vhost's limits as definitions write them.
///
/// # Errors
/// 400 for a limit that does not exist, or is no number.
pub(super) fn read_vhost_limits(value: &Value) -> Result<VhostLimits, ApiError> {
    let mut limits = VhostLimits::default();
    read_limits(value, |name, value| {
        match name {
            MAX_CONNECTIONS => limits.max_connections = value,
            MAX_QUEUES => limits.max_queues = value,
            other => return Err(unknown(other)),
        }
        Ok(())
    })?;
    Ok(limits)
}

/// As [`read_vhost_limits`], of a user.
///
/// # Errors
/// As there.
pub(super) fn read_user_limits(value: &Value) -> Result<UserLimits, ApiError> {
    let mut limits = UserLimits::default();
    read_limits(value, |name, value| {
        match name {
            MAX_CONNECTIONS => limits.max_connections = value,
            MAX_CHANNELS => limits.max_channels = value,
            other => return Err(unknown(other)),
        }
        Ok(())
    })?;
    Ok(limits)
}

fn shape<const N: usize>(limits: [(&str, Option<u64>); N]) -> Value {
    let set = limits.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
    Value::Object(set.collect::<Map<_, _>>())
}

pub(super) fn shape_vhost_limits(limits: VhostLimits) -> Value {
    shape([(MAX_CONNECTIONS, limits.max_connections), (MAX_QUEUES, limits.max_queues)])
}

pub(super) fn shape_user_limits(limits: UserLimits) -> Value {
    shape([(MAX_CONNECTIONS, limits.max_connections), (MAX_CHANNELS, limits.max_channels)])
}
