//! A request's body: bounded in bytes and time, JSON whatever it calls itself.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
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

/// As [`read_definitions`], from JSON or from the part `file` of a form, as browsers and `curl --form` send it.
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_form_or_json(body: Body, kind: Option<&HeaderValue>) -> Result<Object, ApiError> {
    let boundary = kind.and_then(|kind| kind.to_str().ok()).and_then(boundary);
    let bytes = read_bytes(body, DEFINITIONS_MAX_BYTES).await?;
    match boundary {
        None => parse(&bytes),
        Some(boundary) => {
            let missing = || ApiError::BadRequest("the form has no part named file".to_owned());
            parse(part_named_file(&bytes, &boundary).ok_or_else(missing)?)
        }
    }
}

/// What separates the parts, where the body is a form with parts (RFC 7578).
fn boundary(kind: &str) -> Option<String> {
    let mut words = kind.split(';').map(str::trim);
    if !words.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let named = words.find_map(|word| word.strip_prefix("boundary="))?;
    Some(named.trim_matches('"').to_owned()).filter(|boundary| !boundary.is_empty())
}

fn part_named_file<'a>(body: &'a [u8], boundary: &str) -> Option<&'a [u8]> {
    let delimiter = format!("--{boundary}");
    let find = |text: &[u8], what: &[u8]| text.windows(what.len()).position(|window| window == what);
    let mut rest = body.get(find(body, delimiter.as_bytes())? + delimiter.len()..)?;
    let end = format!("\r\n{delimiter}");
    loop {
        let part = rest.get(..find(rest, end.as_bytes())?)?;
        let head_end = find(part, b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(part.get(..head_end)?);
        if head.contains("name=\"file\"") || head.contains("name=file") {
            return part.get(head_end + 4..);
        }
        rest = rest.get(part.len() + end.len()..)?;
    }
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
    parse(&read_bytes(body, max_bytes).await?)
}

/// An object from its JSON.
///
/// # Errors
/// 400 when it is none.
pub(crate) fn parse(octets: &[u8]) -> Result<Object, ApiError> {
    // Some clients send the word for nothing.
    if matches!(octets, b"null" | b"undefined") {
        return Ok(Object::default());
    }
    if octets.iter().all(u8::is_ascii_whitespace) {
        return Ok(Object::default());
    }
    match serde_json::from_slice(octets) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_s_part_named_file_is_found_whatever_is_around_it() {
        let kind = "multipart/form-data; boundary=\"x-y\"";
        let boundary = boundary(kind).unwrap();
        let head = "content-disposition: form-data; name=";
        let form = format!(
            "--x-y\r\n{head}\"a\"\r\n\r\nno\r\n--x-y\r\n{head}\"file\"; filename=\"d\"\r\n\r\n{{\"a\":1}}\r\n--x-y--\r\n"
        );
        assert_eq!(part_named_file(form.as_bytes(), &boundary), Some(&b"{\"a\":1}"[..]));
        for length in 0..form.len() - 10 {
            // Cut off anywhere it is not there, and nothing panics.
            assert_eq!(part_named_file(&form.as_bytes()[..length], &boundary), None, "{length}");
        }
        assert_eq!(super::boundary("application/json; boundary=x"), None);
        assert_eq!(super::boundary("multipart/form-data"), None);
    }
}
