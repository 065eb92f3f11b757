//! Settings, over the catalogue.

use async_trait::async_trait;
use warren_catalogue::{Access, hash_password};
use warren_proto::catalogue::Command;

use super::Operator;
use crate::admin::{
    AdminError, ParameterRecord, Settings, TopicPermissionRecord, UserLimits, VhostLimits, VhostMetadata,
};
use crate::broker::random;

#[async_trait]
impl Settings for Operator {
    fn vhost_metadata(&self, vhost: &str) -> Option<VhostMetadata> {
        self.broker.catalogue().read().vhost_metadata(vhost).cloned()
    }

    fn vhost_limits(&self, vhost: &str) -> VhostLimits {
        self.broker.catalogue().read().vhost_limits(vhost)
    }

    fn user_limits(&self, user: &str) -> UserLimits {
        self.broker.catalogue().read().user_limits(user)
    }

    fn topic_permissions(&self) -> Vec<TopicPermissionRecord> {
        self.broker.catalogue().read().topic_permissions().cloned().collect()
    }

    fn may_bind_topic(&self, user: &str, vhost: &str, exchange: &str, key: &str) -> Result<(), AdminError> {
        Ok(self.broker.check_topic_access(user, vhost, exchange, Access::Read, key)?)
    }

    fn parameters(&self) -> Vec<ParameterRecord> {
        self.broker.catalogue().read().parameters().cloned().collect()
    }

    fn hash_password(&self, password: &str) -> Option<String> {
        random::<4>().ok().map(|salt| hash_password(salt, password.as_bytes()))
    }

    async fn set_vhost_metadata(&self, vhost: &str, metadata: VhostMetadata) -> Result<(), AdminError> {
        self.change(Command::SetVhostMetadata { vhost: vhost.to_owned(), metadata }).await.map(drop)
    }

    async fn set_vhost_limits(&self, vhost: &str, limits: VhostLimits) -> Result<(), AdminError> {
        self.change(Command::SetVhostLimits { vhost: vhost.to_owned(), limits }).await.map(drop)
    }

    async fn set_user_limits(&self, user: &str, limits: UserLimits) -> Result<(), AdminError> {
        self.change(Command::SetUserLimits { user: user.to_owned(), limits }).await.map(drop)
    }

    async fn set_topic_permissions(&self, record: TopicPermissionRecord) -> Result<bool, AdminError> {
        self.change(Command::SetTopicPermissions(record)).await
    }

    async fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<(), AdminError> {
        let command = Command::ClearTopicPermissions {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            exchange: exchange.map(str::to_owned),
        };
        self.change(command).await.map(drop)
    }

    async fn set_parameter(&self, record: ParameterRecord) -> Result<bool, AdminError> {
        self.change(Command::SetParameter(record)).await
    }

    async fn clear_parameter(
        &self,
        vhost: Option<&str>,
        component: &str,
        name: &str,
    ) -> Result<(), AdminError> {
        let command = Command::ClearParameter {
            vhost: vhost.map(str::to_owned),
            component: component.to_owned(),
            name: name.to_owned(),
        };
        self.change(command).await.map(drop)
    }
}
