//! Permissions of users in virtual hosts.

use serde_json::{Value, json};
use warren_broker::admin::{AdminError, PermissionInfo};

use super::{Asked, created};
use crate::answer::Answer;
use crate::error::ApiError;

impl Asked<'_> {
    pub(super) fn permissions(&self) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        Ok(self.permissions_where(|_| true))
    }

    pub(super) fn permissions_of_vhost(&self, vhost: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        self.caller.must_see(self.admin, vhost)?;
        Ok(self.permissions_where(|permission| permission.vhost == vhost))
    }

    pub(super) fn permissions_of_user(&self, user: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        if !self.admin.users().iter().any(|known| known.name == user) {
            return Err(ApiError::ObjectNotFound);
        }
        Ok(self.permissions_where(|permission| permission.user == user))
    }

    pub(super) fn permission(&self, vhost: &str, user: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        let permissions = self.admin.permissions();
        let permission =
            permissions.iter().find(|permission| permission.vhost == vhost && permission.user == user);
        permission
            .map(|permission| Answer::Document(shape_permission(permission)))
            .ok_or(ApiError::ObjectNotFound)
    }

    pub(super) async fn put_permission(&self, vhost: &str, user: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        self.object.must_have(&["configure", "write", "read"])?;
        let pattern = |key: &str| Ok::<_, ApiError>(self.object.text(key)?.unwrap_or_default().to_owned());
        let known = self.admin.vhosts().iter().any(|known| known == vhost)
            && self.admin.users().iter().any(|known| known.name == user);
        let absent = || ApiError::BadRequest("vhost_or_user_not_found".to_owned());
        if !known {
            return Err(absent());
        }
        let permission = PermissionInfo {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            configure: pattern("configure")?,
            write: pattern("write")?,
            read: pattern("read")?,
        };
        match self.admin.set_permissions(permission).await {
            Ok(new) => Ok(created(new)),
            Err(AdminError::NotFound) => Err(absent()),
            Err(error @ (AdminError::Refused(_) | AdminError::Unavailable(_))) => {
                Err(ApiError::on_put(error, "vhost_or_user_not_found"))
            }
        }
    }

    pub(super) async fn delete_permission(&self, vhost: &str, user: &str) -> Result<Answer, ApiError> {
        // Says 404 for one that is not there.
        self.permission(vhost, user)?;
        self.admin.clear_permissions(vhost, user).await?;
        Ok(Answer::Done)
    }

    fn permissions_where(&self, wanted: impl Fn(&PermissionInfo) -> bool) -> Answer {
        Answer::List(self.admin.permissions().iter().filter(|p| wanted(p)).map(shape_permission).collect())
    }
}

pub(super) fn shape_permission(permission: &PermissionInfo) -> Value {
    json!({
        "user": permission.user,
        "vhost": permission.vhost,
        "configure": permission.configure,
        "write": permission.write,
        "read": permission.read,
    })
}
