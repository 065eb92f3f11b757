//! Refusals: from what went wrong to an HTTP status and RabbitMQ's `error` and `reason`.

use axum::http::StatusCode;
use serde_json::Value;
use warren_broker::admin::AdminError;
use warren_types::ReplyCode;

/// Where RabbitMQ begins to break a list into lines.
const LINE_MAX: usize = 80;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// 400: the request makes no sense.
    BadRequest(String),
    /// 400 whose reason is what RabbitMQ makes of a tuple: a list, like `["not_boolean", "maybe"]`.
    BadTerm(Vec<String>),
    /// 400 with another `error`: a page that cannot be.
    BadPage(&'static str, String),
    /// 401 with an empty body: no credentials at all.
    NoCredentials,
    /// 401: an unknown user or a wrong password.
    LoginFailed,
    /// 401 (not 403, as in RabbitMQ): logged in, but may not.
    NotAuthorised(String),
    /// 404 on GET and DELETE: an unknown path or object.
    ObjectNotFound,
    /// 404 on PUT and POST: something above is absent.
    ParentNotFound(String),
    /// 406: the asker takes no JSON.
    NotAcceptable,
    /// 405: the methods that are allowed.
    MethodNotAllowed(&'static str),
    /// 405 with a reason: nobody may do this here.
    Disallowed(String),
    /// 412: the thing is protected.
    PreconditionFailed(String),
    /// 408: the body did not come in time.
    BodyTimeout,
    /// 503: the cluster cannot do it now, with a reason.
    Unavailable(String),
}

impl ApiError {
    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::BadTerm(_) | Self::BadPage(..) => StatusCode::BAD_REQUEST,
            Self::NoCredentials | Self::LoginFailed | Self::NotAuthorised(_) => StatusCode::UNAUTHORIZED,
            Self::ObjectNotFound | Self::ParentNotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) | Self::Disallowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::PreconditionFailed(_) => StatusCode::PRECONDITION_FAILED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// `error` and `reason`; `None` for an empty body.
    pub(crate) fn texts(&self) -> Option<(&str, Value)> {
        let (error, reason) = match self {
            Self::BadRequest(reason) => ("bad_request", reason.as_str()),
            Self::BadTerm(term) => return Some(("bad_request", term.as_slice().into())),
            Self::BadPage(error, reason) => (*error, reason.as_str()),
            Self::NoCredentials | Self::MethodNotAllowed(_) | Self::NotAcceptable => return None,
            Self::LoginFailed => ("not_authorized", "Login failed"),
            Self::NotAuthorised(reason) => ("not_authorised", reason.as_str()),
            Self::ObjectNotFound => ("Object Not Found", "Not Found"),
            Self::ParentNotFound(reason) => ("not_found", reason.as_str()),
            Self::Disallowed(reason) => ("method_not_allowed", reason.as_str()),
            Self::PreconditionFailed(reason) => ("precondition_failed", reason.as_str()),
            Self::BodyTimeout => ("request_timeout", "the body did not come in time"),
            Self::Unavailable(reason) => ("unavailable", reason.as_str()),
        };
        Some((error, reason.into()))
    }

    /// A tuple of a word and a value.
    pub(crate) fn term(word: &str, value: &str) -> Self {
        Self::BadTerm(vec![word.to_owned(), value.to_owned()])
    }

    /// These keys are absent, in RabbitMQ's words: a list of tuples, broken into lines where it is long.
    pub(crate) fn missing(keys: &[&str]) -> Self {
        let tuples: Vec<String> = keys.iter().map(|key| format!("{{key_missing,{key}}}")).collect();
        let line = format!("[{}]", tuples.join(","));
        Self::BadRequest(if line.len() > LINE_MAX { format!("[{}]", tuples.join(",\n ")) } else { line })
    }
}

/// What the broker's refusal means for a GET or DELETE.
impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NotFound => Self::ObjectNotFound,
            AdminError::Unavailable(reason) => Self::Unavailable(reason),
            AdminError::Refused(refusal) => match refusal.code {
                ReplyCode::NotFound => Self::ObjectNotFound,
                // RabbitMQ's word for it, whatever it is.
                ReplyCode::AccessRefused => Self::NotAuthorised("Access refused.".to_owned()),
                ReplyCode::ReplySuccess
                | ReplyCode::ContentTooLarge
                | ReplyCode::NoRoute
                | ReplyCode::NoConsumers
                | ReplyCode::ConnectionForced
                | ReplyCode::ResourceLocked
                | ReplyCode::PreconditionFailed
                | ReplyCode::FrameError
                | ReplyCode::SyntaxError
                | ReplyCode::CommandInvalid
                | ReplyCode::ChannelError
                | ReplyCode::UnexpectedFrame
                | ReplyCode::ResourceError
                | ReplyCode::NotAllowed
                | ReplyCode::NotImplemented => Self::BadRequest(refusal.text),
                ReplyCode::InternalError => Self::Unavailable(refusal.text),
            },
        }
    }
}

impl ApiError {
    /// What the broker's refusal means for a message that is published or got: RabbitMQ tells what the channel was closed
    /// with, unless it is a permission that is missing.
    pub(crate) fn on_channel(error: AdminError) -> Self {
        match error {
            AdminError::Refused(refusal) => match Self::from(AdminError::Refused(refusal.clone())) {
                Self::BadRequest(_) => {
                    Self::BadRequest(format!("{} {}", refusal.code.code(), refusal.reply_text()))
                }
                Self::NotAuthorised(_) => Self::NotAuthorised(refusal.reply_text()),
                other => other,
            },
            AdminError::NotFound | AdminError::Unavailable(_) => Self::from(error),
        }
    }

    /// What the broker's refusal means for a PUT: what is absent is above the thing that was to be made.
    pub(crate) fn on_put(error: AdminError, absent: &str) -> Self {
        let text = match &error {
            AdminError::Refused(refusal) => refusal.text.clone(),
            AdminError::NotFound | AdminError::Unavailable(_) => absent.to_owned(),
        };
        match Self::from(error) {
            Self::ObjectNotFound => Self::ParentNotFound(text),
            other => other,
        }
    }
}

/// Why a set of definitions was not taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOverError {
    /// It cannot be, now or later.
    Refused(String),
    /// Perhaps later.
    Unavailable(String),
}

impl From<ApiError> for TakeOverError {
    fn from(error: ApiError) -> Self {
        match (&error, error.texts()) {
            (ApiError::Unavailable(reason), _) => Self::Unavailable(reason.clone()),
            (_, Some((_, Value::String(reason)))) => Self::Refused(reason),
            (_, Some((_, reason))) => Self::Refused(reason.to_string()),
            (_, None) => Self::Refused("refused".to_owned()),
        }
    }
}

impl std::fmt::Display for TakeOverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(reason) | Self::Unavailable(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for TakeOverError {}
