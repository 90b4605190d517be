//! What looks at every call of a port.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, invalid};
use crate::handler::CallContext;

/// Looks at every call of a port before it is answered: may refuse it, and may
/// add headers to its answer.
///
/// 1. It sees calls of every service of the port whose token is accepted and
///    for which there is room, and never the token.
/// 2. Headers that it adds go out with every answer, also where the call
///    fails, and where it refuses the call itself.
/// 3. It must not block: the call waits for it, and others of the thread too.
pub trait Middleware: Send + Sync + 'static {
    /// A call begins: `method` is `DoGet`, or `SERVICE/METHOD` of another service.
    ///
    /// # Errors
    /// Why the call is refused.
    fn begin(
        &self,
        method: &str,
        context: &CallContext,
        answer: &mut AnswerHeaders,
    ) -> Result<(), Error>;
}

/// Headers that go out with the answer of a call.
#[derive(Clone, Debug, Default)]
pub struct AnswerHeaders {
    headers: HeaderMap,
}

impl AnswerHeaders {
    /// Adds a header beside those of the same name.
    ///
    /// # Errors
    /// `invalid_argument`: no name of a header, a name that gRPC or Sheaf has
    /// uses of its own for or that ends in `-bin`, or a value that is no
    /// visible ASCII.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let wrong = |why: &str| invalid(format!("header {name:?} of an answer: {why}"));
        let key = HeaderName::try_from(name).map_err(|_| wrong("that is no name of a header"))?;
        let taken = ["content-type", "content-length", "te", "trailer", "transfer-encoding"];
        if key.as_str().starts_with("grpc-") || taken.contains(&key.as_str()) {
            return Err(wrong("gRPC has its own use for it"));
        }
        if key.as_str().starts_with("sheaf-") {
            return Err(wrong("names with `sheaf-` are Sheaf's own"));
        }
        if key.as_str().ends_with("-bin") {
            return Err(wrong("names with `-bin` have binary values, this one is text"));
        }
        let value = HeaderValue::try_from(value).ok().filter(|value| value.to_str().is_ok());
        let value = value.ok_or_else(|| wrong("its value is no visible ASCII"))?;
        self.headers.append(key, value);
        Ok(())
    }

    /// Puts them on an answer.
    pub(crate) fn put_on(self, answer: &mut HeaderMap) {
        for (name, value) in &self.headers {
            answer.append(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_would_break_an_answer_are_refused() {
        let mut answer = AnswerHeaders::default();
        for (name, value) in [
            ("grpc-status", "0"),
            ("Content-Type", "text/plain"),
            ("sheaf-code", "x"),
            ("token-bin", "AA"),
            ("no name", "x"),
            ("x", "a\nb"),
            ("x", "grün"),
        ] {
            assert!(answer.add(name, value).is_err(), "{name}: {value}");
        }
        answer.add("X-One", "a").unwrap();
        answer.add("x-one", "").unwrap();
        let mut headers = HeaderMap::new();
        headers.append("x-one", HeaderValue::from_static("there before"));
        answer.put_on(&mut headers);
        let values: Vec<_> = headers.get_all("x-one").iter().collect();
        assert_eq!(values, ["there before", "a", ""]);
        assert_eq!(headers.len(), 3);
    }
}
