//! Refusals: from what went wrong to an HTTP status and RabbitMQ's `error` and `reason`.

use axum::http::StatusCode;
use warren_broker::admin::AdminError;
use warren_types::ReplyCode;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ApiError {
    /// 400: the request makes no sense.
    BadRequest(String),
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
    /// 405: the methods that are allowed.
    MethodNotAllowed(&'static str),
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
            Self::BadRequest(_) | Self::BadPage(..) => StatusCode::BAD_REQUEST,
            Self::NoCredentials | Self::LoginFailed | Self::NotAuthorised(_) => StatusCode::UNAUTHORIZED,
            Self::ObjectNotFound | Self::ParentNotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::PreconditionFailed(_) => StatusCode::PRECONDITION_FAILED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// `error` and `reason`; `None` for an empty body.
    pub(crate) fn texts(&self) -> Option<(&str, &str)> {
        match self {
            Self::BadRequest(reason) => Some(("bad_request", reason)),
            Self::BadPage(error, reason) => Some((error, reason)),
            Self::NoCredentials => None,
            Self::LoginFailed => Some(("not_authorized", "Login failed")),
            Self::NotAuthorised(reason) => Some(("not_authorised", reason)),
            Self::ObjectNotFound => Some(("Object Not Found", "Not Found")),
            Self::ParentNotFound(reason) => Some(("not_found", reason)),
            Self::MethodNotAllowed(_) => Some(("method_not_allowed", "Method Not Allowed")),
            Self::PreconditionFailed(reason) => Some(("precondition_failed", reason)),
            Self::BodyTimeout => Some(("request_timeout", "the body did not come in time")),
            Self::Unavailable(reason) => Some(("unavailable", reason)),
        }
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
                ReplyCode::AccessRefused => Self::NotAuthorised(refusal.text),
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
