//! What a registry answers.

use std::time::Duration;

use ::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use serde::Deserialize;

use super::Error;
use crate::decode::RegisteredKind;

/// Characters of an answer that are shown.
const SHOWN: usize = 200;

/// An answer before it is understood.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A schema, and what it refers to.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) kind: RegisteredKind,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
}

/// A schema that another one imports under a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) subject: String,
    pub(super) version: i32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    schema: String,
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
    message: String,
}

/// The schema in an answer.
pub(super) fn read(path: &str, response: &Response) -> Result<Answered, Error> {
    if response.status != StatusCode::OK {
        return Err(refusal(path, response));
    }
    let body: Body = serde_json::from_slice(&response.body)
        .map_err(|error| Error::Malformed { path: path.to_owned(), problem: error.to_string() })?;
    let kind = match body.schema_type.as_deref() {
        None | Some("AVRO") => RegisteredKind::Avro,
        Some("PROTOBUF") => RegisteredKind::Protobuf,
        Some("JSON") => RegisteredKind::Json,
        Some(other) => return Err(Error::Kind { kind: shown(other) }),
    };
    Ok(Answered { kind, text: body.schema, references: body.references.unwrap_or_default() })
}

/// Subject, version or schema not found: said by a registry, and not by
/// something else at its address, which does not know these codes.
fn is_missing(code: u32) -> bool {
    (40_400..=40_499).contains(&code)
}

fn refusal(path: &str, response: &Response) -> Error {
    let refusal: Option<Refusal> = serde_json::from_slice(&response.body).ok();
    let path = path.to_owned();
    match refusal {
        Some(refusal)
            if response.status == StatusCode::NOT_FOUND && is_missing(refusal.error_code) =>
        {
            Error::Missing { what: path, message: shown(&refusal.message) }
        }
        other => {
            let message = match other {
                Some(refusal) => shown(&refusal.message),
                None => shown(&String::from_utf8_lossy(&response.body)),
            };
            let status = response.status.as_u16();
            Error::Status { path, status, message, retry_after: retry_after(&response.headers) }
        }
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The beginning of a foreign text, without what a terminal would obey.
fn shown(text: &str) -> String {
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(SHOWN).map(one_line).collect::<String>().trim().to_owned()
}
