//! A request's body: bounded in bytes and time, JSON whatever it calls itself.

use std::time::Duration;

use axum::body::{Body, Bytes};
use serde_json::{Map, Value};

use crate::error::ApiError;

/// The largest body: the arguments of one object, with room to spare.
const BODY_MAX_BYTES: usize = 1024 * 1024;
/// The largest set of definitions.
const DEFINITIONS_MAX_BYTES: usize = 20 * 1024 * 1024;
/// What an object in a string is answered with.
const TWICE: &str =
    "invalid payload: the request body JSON-decoded to a string. Is the input doubly-JSON-encoded?";
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// An object of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object(Map<String, Value>);

/// Reads a body: an object, or nothing, which means an empty one.
///
/// # Errors
/// 400 when it is too large or no object, 408 when it does not come.
pub(crate) async fn read(body: Body) -> Result<Object, ApiError> {
    read_up_to(body, BODY_MAX_BYTES).await
}

/// As [`read`], for a whole set of definitions.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_definitions(body: Body) -> Result<Object, ApiError> {
    read_up_to(body, DEFINITIONS_MAX_BYTES).await
}

/// The octets of a form.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_form(body: Body) -> Result<Bytes, ApiError> {
    read_bytes(body, BODY_MAX_BYTES).await
}

async fn read_bytes(body: Body, max_bytes: usize) -> Result<Bytes, ApiError> {
    tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, max_bytes))
        .await
        .map_err(|_| ApiError::BodyTimeout)?
        .map_err(|_| ApiError::BadRequest(format!("the body is broken off or longer than {max_bytes} bytes")))
}

async fn read_up_to(body: Body, max_bytes: usize) -> Result<Object, ApiError> {
    let bytes = read_bytes(body, max_bytes).await?;
    // Some clients send the word for nothing.
    let octets: &[u8] = &bytes;
    if matches!(octets, b"null" | b"undefined") {
        return Ok(Object::default());
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Object::default());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(Object(object)),
        Ok(Value::String(_)) => Err(ApiError::BadRequest(TWICE.to_owned())),
        Ok(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) | Err(_) => {
            Err(ApiError::BadRequest("not_json".to_owned()))
        }
    }
}

impl Object {
    /// An object that stands inside another.
    pub(crate) fn of(map: Map<String, Value>) -> Self {
        Self(map)
    }

    /// # Errors
    /// 400 that names every one of `keys` that is absent.
    pub(crate) fn must_have(&self, keys: &[&str]) -> Result<(), ApiError> {
        let missing: Vec<&str> = keys.iter().copied().filter(|key| !self.0.contains_key(*key)).collect();
        if missing.is_empty() { Ok(()) } else { Err(ApiError::missing(&missing)) }
    }

    /// The value of a key, unless it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A string.
    ///
    /// # Errors
    /// 400 when it is something else.
    pub(crate) fn text(&self, key: &str) -> Result<Option<&str>, ApiError> {
        let bad = || ApiError::BadRequest(format!("{key} must be a string"));
        self.get(key).map(|value| value.as_str().ok_or_else(bad)).transpose()
    }

    /// A truth value; old clients write it as a string.
    ///
    /// # Errors
    /// 400 when it is something else.
    pub(crate) fn truth(&self, key: &str, absent: bool) -> Result<bool, ApiError> {
        match self.get(key) {
            None => Ok(absent),
            Some(Value::Bool(truth)) => Ok(*truth),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(Value::String(text)) => Err(ApiError::term("not_boolean", text)),
            Some(other) => Err(ApiError::term("not_boolean", &other.to_string())),
        }
    }
}
