//! Users. Passwords come in and never go out; their salted hashes do, for administrators, as in RabbitMQ.

use serde_json::{Value, json};
use warren_broker::admin::UserInfo;

use super::{Asked, checked_name, created};
use crate::answer::Answer;
use crate::error::ApiError;

const HASHING: &str = "rabbit_password_hashing_sha256";

impl Asked<'_> {
    pub(super) fn users(&self) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        Ok(Answer::List(self.admin.users().iter().map(shape_user).collect()))
    }

    pub(super) fn user(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        let users = self.admin.users();
        let user = users.iter().find(|user| user.name == name).ok_or(ApiError::ObjectNotFound)?;
        Ok(Answer::Document(shape_user(user)))
    }

    pub(super) async fn put_user(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        checked_name("user's name", name)?;
        self.object.must_have(&["tags"])?;
        let tags = tags(self.object.get("tags"))?;
        if self.object.text("hashing_algorithm")?.is_some_and(|algorithm| algorithm != HASHING) {
            return Err(ApiError::BadRequest(format!("hashing_algorithm must be {HASHING}")));
        }
        let password = match (self.object.text("password")?, self.object.text("password_hash")?) {
            (Some(_), Some(_)) => {
                return Err(ApiError::BadRequest("password and password_hash exclude each other".to_owned()));
            }
            (Some(password), None) => Ok(password.to_owned()),
            (None, Some(hash)) => Err(hash.to_owned()),
            // Neither: a user that cannot log in with a password.
            (None, None) => Err(String::new()),
        };
        let new = self.admin.put_user(name, password, tags).await;
        new.map(created).map_err(|error| ApiError::on_put(error, "not_found"))
    }

    pub(super) async fn delete_user(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        if !self.admin.users().iter().any(|user| user.name == name) {
            return Err(ApiError::ObjectNotFound);
        }
        self.admin.delete_user(name).await?;
        Ok(Answer::Done)
    }
}

/// Tags come as a list or as one string with commas.
fn tags(value: Option<&Value>) -> Result<Vec<String>, ApiError> {
    let bad = || ApiError::BadRequest("tags must be a list of strings or a string with commas".to_owned());
    match value {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => {
            Ok(text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect())
        }
        Some(Value::Array(list)) => {
            list.iter().map(|tag| tag.as_str().map(str::to_owned).ok_or_else(bad)).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Err(bad()),
    }
}

fn shape_user(user: &UserInfo) -> Value {
    json!({
        "name": user.name,
        "password_hash": user.password_hash,
        "hashing_algorithm": HASHING,
        "tags": user.tags,
        "limits": {},
    })
}
