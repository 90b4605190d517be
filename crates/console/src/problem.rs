//! What a request is refused with: `{"error": {"code", "message"}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sheaf_retry::{Code, Retryable};

/// See the module.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Problem { code, message: message.into() }
    }

    /// An error with its causes.
    pub(crate) fn of<E: Retryable + std::error::Error>(error: &E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(one) = cause {
            message = format!("{message}: {one}");
            cause = one.source();
        }
        Problem::new(error.code(), message)
    }

    fn status(&self) -> StatusCode {
        match self.code {
            Code::InvalidArgument | Code::MalformedData | Code::LimitExceeded => {
                StatusCode::BAD_REQUEST
            }
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::FailedPrecondition => StatusCode::CONFLICT,
            Code::Overloaded => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable | Code::Draining => StatusCode::SERVICE_UNAVAILABLE,
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({"error": {"code": self.code.as_str(), "message": self.message}});
        let mut response = (self.status(), Json(body)).into_response();
        let extra = match self.code {
            Code::Overloaded => Some((header::RETRY_AFTER, "5")),
            Code::Unauthenticated => Some((header::WWW_AUTHENTICATE, "Bearer")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
