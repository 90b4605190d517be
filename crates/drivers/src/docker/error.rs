//! What the engine answers, for people.

use bollard::errors::Error;

use crate::DriverError;

/// Whether the thing is not there.
pub(super) fn is_missing(error: &Error) -> bool {
    has_status(error, 404)
}

pub(super) fn has_status(error: &Error, status: u16) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code, .. } if *status_code == status)
}

/// What was to be done, and what the engine says to it.
pub(super) fn refused(what: impl Into<String>, error: &Error) -> DriverError {
    let why = match error {
        Error::SocketNotFoundError(path) => {
            format!("no Docker engine listens at {path}: start it, or name another")
        }
        Error::DockerResponseServerError { status_code, message } => {
            format!("the Docker engine answers {status_code}: {}", message.trim())
        }
        Error::RequestTimeoutError => "the Docker engine does not answer".to_owned(),
        other => format!("the Docker engine cannot be asked: {}", causes(other)),
    };
    DriverError { what: what.into(), why }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
