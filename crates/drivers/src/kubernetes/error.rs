//! What the API server answers, for people.

use kube::Error;

use crate::DriverError;

/// What an account needs to be allowed, to run pipelines.
const VERBS: &str = "the verbs get, list, watch, create, patch, delete and deletecollection on \
                     pods, secrets, services, persistentvolumeclaims and networkpolicies";

/// The status of an answer that is an error.
pub(crate) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// What was to be done, and what the server says to it.
pub(crate) fn refused(what: impl Into<String>, namespace: &str, error: &Error) -> DriverError {
    let why = match error {
        Error::Api(status) => answered(status.code, &status.message, namespace),
        other => format!("the API server cannot be asked: {}", causes(other)),
    };
    DriverError { what: what.into(), why }
}

fn answered(code: u16, message: &str, namespace: &str) -> String {
    match code {
        401 => format!(
            "the API server does not know who asks ({message}): look at the user of the \
             kubeconfig, its token or certificate may have run out"
        ),
        403 => format!(
            "the API server does not allow it ({message}): give the account a role in namespace \
             {namespace} with {VERBS}"
        ),
        404 => format!(
            "the API server has no such thing ({message}): is there a namespace {namespace}?"
        ),
        409 => format!(
            "somebody else manages the same fields ({message}): remove what they have applied, or \
             use another namespace"
        ),
        422 => format!("the API server does not take it: {message}"),
        code => format!("the API server answers {code}: {message}"),
    }
}

/// An error with what it came of, in one line.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
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
