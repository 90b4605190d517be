//! Flight's Handshake where names and passwords are asked for.

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use base64::Engine as _;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use http::HeaderValue;
use http_body_util::LengthLimitError;
use prost::Message as _;
use sheaf_retry::Code;
use tonic::metadata::MetadataValue;
use tonic::{Response, Status, Streaming};

use super::MAX_HANDSHAKE;
use crate::error::{Error, invalid};
use crate::security::{BASE64, Logins};

/// Who checks names and passwords, and the credentials of the call's headers,
/// which nobody else sees.
#[derive(Clone)]
pub(crate) struct Handshake {
    pub(crate) logins: Logins,
    pub(crate) header: Option<HeaderValue>,
}

type Answers = BoxStream<'static, Result<HandshakeResponse, Status>>;

impl Handshake {
    /// Answers with a token: to who sends a header at once, since such a client
    /// may send nothing else, to others after their first message.
    pub(super) async fn answer(
        self,
        requests: Streaming<HandshakeRequest>,
    ) -> Result<Response<Answers>, Status> {
        let (token, answers): (String, Answers) = match &self.header {
            Some(header) => {
                let (name, password) = basic(header.as_bytes())?;
                (self.logins.login(&name, &password).await?, stream::empty().boxed())
            }
            None => {
                let HandshakeRequest { protocol_version, payload } = first(requests).await?;
                let (name, password) = basic_auth(payload)?;
                let token = self.logins.login(&name, &password).await?;
                let payload = token.clone().into();
                let answer = HandshakeResponse { protocol_version, payload };
                (token, stream::iter([Ok(answer)]).boxed())
            }
        };
        let mut response = Response::new(answers);
        let value = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Error::new(Code::Internal, "a token has characters no header takes"))?;
        response.metadata_mut().insert("authorization", value);
        Ok(response)
    }
}

async fn first(mut requests: Streaming<HandshakeRequest>) -> Result<HandshakeRequest, Status> {
    const NOTHING: &str =
        "the handshake has neither the header `authorization: Basic …` nor a BasicAuth message";
    match requests.message().await {
        Ok(Some(first)) => Ok(first),
        Ok(None) => Err(Error::new(Code::Unauthenticated, NOTHING).into()),
        Err(status) if is_too_long(&status) => {
            let text = format!("the handshake has more than the {MAX_HANDSHAKE} bytes allowed");
            Err(Error::new(Code::LimitExceeded, text).into())
        }
        Err(status) => Err(status),
    }
}

fn is_too_long(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        if inner.is::<LengthLimitError>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Name and password of a message.
pub(crate) fn basic_auth(payload: Bytes) -> Result<(String, String), Error> {
    let BasicAuth { username, password } = BasicAuth::decode(payload)
        .map_err(|error| invalid(format!("the handshake has no BasicAuth: {error}")))?;
    Ok((username, password))
}

/// Name and password of `Basic BASE64(NAME:PASSWORD)`.
pub(crate) fn basic(header: &[u8]) -> Result<(String, String), Error> {
    const FORM: &str = "the header `authorization` of the handshake is not \
                        `Basic ` and base64 of `NAME:PASSWORD`";
    let encoded = match header.split_at_checked(6) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"basic ") => rest.trim_ascii(),
        _ => return Err(invalid(FORM)),
    };
    let decoded = BASE64.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = decoded.as_deref().and_then(|text| text.split_once(':'));
    let (name, password) = pair.ok_or_else(|| invalid(FORM))?;
    Ok((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_have_colons_and_a_name_may_not() {
        let pair = |name: &str, password: &str| Ok((name.to_owned(), password.to_owned()));
        for (header, expected) in [
            ("Basic YXJyb3c6ZmxpZ2h0", pair("arrow", "flight")),
            ("basic  YXJyb3c6ZmxpZ2h0 ", pair("arrow", "flight")),
            ("Basic YTpiOmM=", pair("a", "b:c")),
            ("Basic YTpiOmM", pair("a", "b:c")),
            ("Basic Og==", pair("", "")),
        ] {
            assert_eq!(basic(header.as_bytes()).map_err(|error| error.to_string()), expected);
        }
        // No scheme, another one, no base64, no UTF-8, no colon.
        for wrong in ["", "Basic", "Bearer YTpi", "Basic ?", "Basic /w==", "Basic YQ=="] {
            assert!(basic(wrong.as_bytes()).unwrap_err().message().contains("NAME:PASSWORD"));
        }
    }
}
