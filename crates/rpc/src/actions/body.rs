//! Reads the body of an action, writes its reply.

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use sheaf_flight::Error;
use sheaf_retry::Code;

/// Largest body of an action. Far more than the lists below can fill with
/// sensible entries, and little enough to be parsed in memory.
pub(super) const MAX_BODY: usize = 16 << 20;

/// Most entries of any list in a request.
pub(super) const MAX_LIST: usize = sheaf_coordinator::limits::MAX_ITEMS;

/// Reads a request; an error names the action and the field.
pub(super) fn parse<T: DeserializeOwned>(action: &str, body: &[u8]) -> Result<T, Error> {
    let body = object(action, body)?;
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let problem = error.into_inner();
        match path.as_str() {
            // At the top, or where the text ends before a name.
            "." | "?" => invalid(action, &problem.to_string()),
            field => invalid(action, &format!("{field}: {problem}")),
        }
    })?;
    reader.end().map_err(|error| invalid(action, &error.to_string()))?;
    Ok(value)
}

/// Whether the object has this field, without reading the rest of it.
pub(super) fn has_batches(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Probe {
        batches: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Probe>(body).is_ok_and(|probe| probe.batches.is_some())
}

fn object<'a>(action: &str, body: &'a [u8]) -> Result<&'a [u8], Error> {
    if body.len() > MAX_BODY {
        let actual = body.len();
        return Err(Error::new(
            Code::LimitExceeded,
            format!(
                "{action}: a body of {actual} bytes is over the limit of {MAX_BODY}; send less at once"
            ),
        ));
    }
    match body.trim_ascii().first() {
        None => Ok(b"{}"),
        // serde would take a list for a structure without names as well.
        Some(b'[') => Err(invalid(action, "the body is a JSON list where an object is wanted")),
        Some(_) => Ok(body),
    }
}

/// A list of a request is not too long.
pub(super) fn bounded<T>(action: &str, field: &str, list: &[T]) -> Result<(), Error> {
    if list.len() <= MAX_LIST {
        return Ok(());
    }
    let actual = list.len();
    Err(Error::new(
        Code::LimitExceeded,
        format!(
            "{action}: {field}: {actual} entries are over the limit of {MAX_LIST}; send them in several calls"
        ),
    ))
}

/// The request is wrong.
pub(super) fn invalid(action: &str, problem: &str) -> Error {
    Error::new(Code::InvalidArgument, format!("{action}: {problem}"))
}

/// Writes a reply.
pub(super) fn reply<T: Serialize>(action: &str, value: &T) -> Result<Vec<Bytes>, Error> {
    let json = serde_json::to_vec(value).map_err(|error| {
        Error::new(Code::Internal, format!("{action}: the reply cannot be written: {error}"))
    })?;
    Ok(vec![json.into()])
}

#[cfg(test)]
mod tests {
    use sheaf_retry::Retryable as _;

    use super::*;
    use crate::json::{ClaimInput, ExtendInput, SettleInput, SpecInput, StatsInput};

    fn wrong<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> String {
        let error = parse::<T>("Act", body.as_bytes()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        error.to_string()
    }

    #[test]
    fn errors_name_action_and_field() {
        assert_eq!(wrong::<SpecInput>("{}"), "Act: missing field `batch_id` at line 1 column 2");
        let message = wrong::<SpecInput>(r#"{"batch_id": "a", "row": 1}"#);
        assert!(message.contains("unknown field `row`") && message.contains("`rows`"), "{message}");
        let message = wrong::<SpecInput>(r#"{"batch_id": "a", "rows": "many"}"#);
        assert!(message.starts_with("Act: rows: invalid type: string \"many\""), "{message}");
        let message = wrong::<SpecInput>(r#"{"batch_id": "a b"}"#);
        assert!(message.starts_with("Act: batch_id: a batch id is made of"), "{message}");
        let message = wrong::<ExtendInput>(r#"{"leases": [{"batch_id": "a", "fence": 1.5}]}"#);
        assert!(message.starts_with("Act: leases[0].fence: invalid type"), "{message}");
        let message = wrong::<SettleInput>(
            r#"{"outcomes": [{"batch_id": "a", "fence": "1", "result": "done"}]}"#,
        );
        assert!(message.contains("outcomes[0].result: unknown variant `done`"), "{message}");
    }

    #[test]
    fn errors_in_a_text_or_object_name_the_field_inside() {
        let outcome = |tail: &str| {
            let body = format!(
                r#"{{"outcomes": [{{"batch_id": "a", "fence": "1", "result": "failed", {tail}}}]}}"#
            );
            wrong::<SettleInput>(&body)
        };
        let message = outcome(r#""outputs": ["b", {"batch_id": "c", "rows": -1}]"#);
        assert!(message.starts_with("Act: outcomes[0].outputs[1]"), "{message}");
        assert!(message.contains("-1"), "{message}");
        let message = outcome(r#""outputs": [7]"#);
        assert!(message.contains("a batch id, or an object"), "{message}");
        let message = outcome(r#""error": {"text": "x"}"#);
        assert!(message.contains("unknown field `text`"), "{message}");
    }

    #[test]
    fn only_an_object_is_a_body() {
        assert!(parse::<StatsInput>("Act", b"").is_ok());
        assert!(parse::<StatsInput>("Act", b" \n").is_ok());
        assert!(wrong::<StatsInput>("[]").contains("a JSON list"));
        assert!(wrong::<StatsInput>("{} {}").contains("trailing"));
        assert!(wrong::<StatsInput>("{\"queue\": ").contains("EOF"));
        assert!(wrong::<StatsInput>("nonsense").starts_with("Act: "));
        let huge = vec![b' '; MAX_BODY + 1];
        let error = parse::<StatsInput>("Act", &huge).unwrap_err();
        assert_eq!(error.code(), Code::LimitExceeded);
    }

    #[test]
    fn defaults_of_a_claim() {
        let claim: ClaimInput = parse("Claim", br#"{"worker": "w"}"#).unwrap();
        assert_eq!((claim.max, claim.start, claim.wait_ms), (1, true, 0));
        let one: ClaimInput =
            parse("Claim", br#"{"worker": "w", "queue": "q", "batch_id": "b"}"#).unwrap();
        assert_eq!(one.queue.0, ["q"]);
        assert_eq!(one.batch_id.0.len(), 1);
    }
}
