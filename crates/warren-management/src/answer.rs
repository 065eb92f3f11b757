//! Answers on their way out: status, headers, JSON.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use crate::error::ApiError;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a resource answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// 200 with a document.
    Document(Value),
    /// 200 with a list, to which page, sort and columns apply.
    List(Vec<Value>),
    /// 201: it is new.
    Created,
    /// 201 with where it is to be found.
    CreatedAt(String),
    /// 204: done, nothing to say.
    Done,
    /// 503 with a document: a health check that says no.
    No(Value),
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, document: &Value) -> Response {
    let mut response = empty(status);
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    *response.body_mut() = Body::from(document.to_string());
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding, origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A text answer (Prometheus).
pub(crate) fn text(content_type: &'static str, text: String) -> Response {
    let mut response = empty(StatusCode::OK);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    *response.body_mut() = Body::from(text);
    response
}

/// A refusal.
pub(crate) fn refusal(error: &ApiError) -> Response {
    let mut response = match error.texts() {
        Some((error_text, reason)) => json(error.status(), &json!({ "error": error_text, "reason": reason })),
        None => empty(error.status()),
    };
    match error {
        ApiError::NoCredentials | ApiError::LoginFailed => {
            let realm = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
        }
        ApiError::MethodNotAllowed(allowed) => {
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        ApiError::BadRequest(_)
        | ApiError::BadTerm(_)
        | ApiError::BadPage(..)
        | ApiError::NotAcceptable
        | ApiError::NotAuthorised(_)
        | ApiError::ObjectNotFound
        | ApiError::ParentNotFound(_)
        | ApiError::Disallowed(_)
        | ApiError::PreconditionFailed(_)
        | ApiError::BodyTimeout
        | ApiError::Unavailable(_) => {}
    }
    response
}
