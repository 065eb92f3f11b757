//! What operators say beside what clients declare: vhost metadata, limits, topic permissions, parameters.

use async_trait::async_trait;
pub use warren_proto::catalogue::{
    ParameterRecord, TopicPermissionRecord, UserLimits, VhostLimits, VhostMetadata,
};

use super::AdminError;

/// The part of the operators' surface that is about settings.
#[async_trait]
pub trait Settings: Send + Sync {
    /// What is said of a vhost; `None` when there is none of that name.
    fn vhost_metadata(&self, vhost: &str) -> Option<VhostMetadata>;
    /// A vhost's limits.
    fn vhost_limits(&self, vhost: &str) -> VhostLimits;
    /// A user's limits.
    fn user_limits(&self, user: &str) -> UserLimits;
    /// All topic permissions.
    fn topic_permissions(&self) -> Vec<TopicPermissionRecord>;
    /// Whether the user's topic permissions let it bind with this key.
    fn may_bind_topic(&self, user: &str, vhost: &str, exchange: &str, key: &str) -> Result<(), AdminError>;
    /// All parameters, global ones first.
    fn parameters(&self) -> Vec<ParameterRecord>;
    /// A password's salted hash, as users are stored with it; `None` when the system has no random numbers.
    fn hash_password(&self, password: &str) -> Option<String>;
    /// Says something else of a vhost.
    async fn set_vhost_metadata(&self, vhost: &str, metadata: VhostMetadata) -> Result<(), AdminError>;
    /// Limits a vhost.
    async fn set_vhost_limits(&self, vhost: &str, limits: VhostLimits) -> Result<(), AdminError>;
    /// Limits a user.
    async fn set_user_limits(&self, user: &str, limits: UserLimits) -> Result<(), AdminError>;
    /// Says which routing keys a user may use. True when nothing was said before.
    async fn set_topic_permissions(&self, record: TopicPermissionRecord) -> Result<bool, AdminError>;
    /// Forgets that, for one exchange or all.
    async fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        exchange: Option<&str>,
    ) -> Result<(), AdminError>;
    /// Stores a parameter. True when there was none of that name.
    async fn set_parameter(&self, record: ParameterRecord) -> Result<bool, AdminError>;
    /// Forgets a parameter.
    async fn clear_parameter(
        &self,
        vhost: Option<&str>,
        component: &str,
        name: &str,
    ) -> Result<(), AdminError>;
}
