//! Which routing keys users may use with topic exchanges.

use serde_json::{Value, json};
use warren_broker::admin::TopicPermissionRecord;

use super::{Asked, created};
use crate::answer::Answer;
use crate::error::ApiError;

impl Asked<'_> {
    pub(super) fn topic_permissions(
        &self,
        vhost: Option<&str>,
        user: Option<&str>,
    ) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        if let Some(vhost) = vhost {
            self.caller.must_see(self.admin, vhost)?;
        }
        if let Some(user) = user {
            self.must_know(user)?;
        }
        Ok(Answer::List(self.topic_permissions_of(vhost, user, None)))
    }

    /// RabbitMQ answers with a list, however exactly it is asked.
    pub(super) fn topic_permission(
        &self,
        vhost: &str,
        user: &str,
        exchange: Option<&str>,
    ) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        let found = self.topic_permissions_of(Some(vhost), Some(user), exchange);
        if found.is_empty() { Err(ApiError::ObjectNotFound) } else { Ok(Answer::List(found)) }
    }

    pub(super) async fn put_topic_permission(
        &self,
        vhost: &str,
        user: &str,
        exchange: Option<&str>,
    ) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        self.object.must_have(&["exchange", "write", "read"])?;
        if self.caller.must_see(self.admin, vhost).is_err() || self.must_know(user).is_err() {
            return Err(ApiError::BadRequest("vhost_or_user_not_found".to_owned()));
        }
        let text = |key: &str| Ok::<_, ApiError>(self.object.text(key)?.unwrap_or_default().to_owned());
        let record = TopicPermissionRecord {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            exchange: exchange.map_or_else(|| text("exchange"), |exchange| Ok(exchange.to_owned()))?,
            write: text("write")?,
            read: text("read")?,
        };
        let new = self.admin.set_topic_permissions(record).await;
        new.map(created).map_err(|error| ApiError::on_put(error, "vhost_or_user_not_found"))
    }

    pub(super) async fn delete_topic_permission(
        &self,
        vhost: &str,
        user: &str,
        exchange: Option<&str>,
    ) -> Result<Answer, ApiError> {
        // Says 404 where there is nothing.
        self.topic_permission(vhost, user, exchange)?;
        self.admin.clear_topic_permissions(user, vhost, exchange).await?;
        Ok(Answer::Done)
    }

    fn topic_permissions_of(
        &self,
        vhost: Option<&str>,
        user: Option<&str>,
        exchange: Option<&str>,
    ) -> Vec<Value> {
        let wanted = |record: &&TopicPermissionRecord| {
            vhost.is_none_or(|vhost| record.vhost == vhost)
                && user.is_none_or(|user| record.user == user)
                && exchange.is_none_or(|exchange| record.exchange == exchange)
        };
        self.admin.topic_permissions().iter().filter(wanted).map(shape_topic_permission).collect()
    }
}

pub(super) fn shape_topic_permission(record: &TopicPermissionRecord) -> Value {
    json!({
        "user": record.user,
        "vhost": record.vhost,
        "exchange": record.exchange,
        "write": record.write,
        "read": record.read,
    })
}
