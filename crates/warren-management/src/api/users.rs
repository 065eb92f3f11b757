//! Users. Passwords come in and never go out; their salted hashes do, for administrators, as in RabbitMQ.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use warren_broker::admin::{UserInfo, UserLimits};

use super::limits::shape_user_limits;
use super::{Asked, checked_name, created};
use crate::answer::Answer;
use crate::body::Object;
use crate::error::ApiError;

const SHA256: &str = "rabbit_password_hashing_sha256";
const SHA512: &str = "rabbit_password_hashing_sha512";
const MD5: &str = "rabbit_password_hashing_md5";
/// Base64 of 4 bytes of salt and a SHA-512 is this long; of a SHA-256, 48; of an MD5, 28.
const SHA512_LENGTH: usize = 92;
const MD5_LENGTH: usize = 28;

impl Asked<'_> {
    pub(super) fn users(&self) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        Ok(Answer::List(self.admin.users().iter().map(|user| self.shape_user(user)).collect()))
    }

    /// Users that have no permissions in any vhost.
    pub(super) fn users_without_permissions(&self) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        let permissions = self.admin.permissions();
        let users = self.admin.users();
        let without = users.iter().filter(|user| !permissions.iter().any(|one| one.user == user.name));
        Ok(Answer::List(without.map(|user| self.shape_user(user)).collect()))
    }

    /// Deletes all of them, or, when one of the names makes no sense, none.
    pub(super) async fn bulk_delete(&self) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        self.object.must_have(&["users"])?;
        let bad = || ApiError::BadRequest("users must be a list of names".to_owned());
        let names = self.object.get("users").and_then(Value::as_array).ok_or_else(bad)?;
        let names: Vec<&str> =
            names.iter().map(|name| name.as_str().ok_or_else(bad)).collect::<Result<_, _>>()?;
        let known: Vec<String> = self.admin.users().into_iter().map(|user| user.name).collect();
        if let Some(unknown) = names.iter().find(|name| !known.iter().any(|known| known == *name)) {
            return Err(ApiError::term("no_such_user", unknown));
        }
        for name in names {
            self.admin.delete_user(name).await?;
        }
        Ok(Answer::Done)
    }

    pub(super) fn shape_user(&self, user: &UserInfo) -> Value {
        shape_user(user, self.admin.user_limits(&user.name))
    }

    pub(super) fn user(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        let users = self.admin.users();
        let user = users.iter().find(|user| user.name == name).ok_or(ApiError::ObjectNotFound)?;
        Ok(Answer::Document(self.shape_user(user)))
    }

    pub(super) async fn put_user(&self, name: &str) -> Result<Answer, ApiError> {
        self.caller.must_administrate()?;
        checked_name("user's name", name)?;
        if self.object.get("tags").is_none() {
            return Err(ApiError::BadRequest("tags_not_present".to_owned()));
        }
        let tags = tags(self.object.get("tags"))?;
        let password = read_password(self.object)?;
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

/// A password as a PUT or a set of definitions tells it, or its hash.
///
/// # Errors
/// 400 for both, what is no hash, or an algorithm that no login could check.
pub(super) fn read_password(object: &Object) -> Result<Result<String, String>, ApiError> {
    checked_algorithm(object)?;
    match (object.text("password")?, object.text("password_hash")?) {
        (Some(_), Some(_)) => {
            Err(ApiError::BadRequest("both_password_and_password_hash_are_provided".to_owned()))
        }
        (Some(password), None) => Ok(Ok(password.to_owned())),
        (None, Some(hash)) => {
            STANDARD.decode(hash).map_err(|_| ApiError::term("not_base64", hash))?;
            Ok(Err(hash.to_owned()))
        }
        // Neither: a user that cannot log in with a password.
        (None, None) => Ok(Err(String::new())),
    }
}

/// Hashes tell by their length which of the three they are.
///
/// # Errors
/// 400 for an algorithm that no login could check.
fn checked_algorithm(object: &Object) -> Result<(), ApiError> {
    match object.text("hashing_algorithm")? {
        None | Some(SHA256 | SHA512 | MD5) => Ok(()),
        Some(_) => {
            Err(ApiError::BadRequest(format!("hashing_algorithm must be {SHA256}, {SHA512} or {MD5}")))
        }
    }
}

/// Tags come as a list or as one string with commas.
pub(super) fn tags(value: Option<&Value>) -> Result<Vec<String>, ApiError> {
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

fn shape_user(user: &UserInfo, limits: UserLimits) -> Value {
    let algorithm = match user.password_hash.len() {
        SHA512_LENGTH => SHA512,
        MD5_LENGTH => MD5,
        _ => SHA256,
    };
    json!({
        "name": user.name,
        "password_hash": user.password_hash,
        "hashing_algorithm": algorithm,
        "tags": user.tags,
        "limits": shape_user_limits(limits),
    })
}
