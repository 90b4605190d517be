//! Flight's Handshake where names and passwords are asked for.

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use base64::Engine as _;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use prost::Message as _;
use sheaf_retry::Code;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use crate::error::{Error, invalid};
use crate::security::{BASE64, Logins};

const HEADER: &str = "authorization";

type Answers = BoxStream<'static, Result<HandshakeResponse, Status>>;

/// Answers with a token: to who sends a header at once, since such a client
/// may send nothing else, to others after their first message.
pub(super) async fn login(
    logins: &Logins,
    request: Request<Streaming<HandshakeRequest>>,
) -> Result<Response<Answers>, Status> {
    let header = request.metadata().get(HEADER).map(|value| value.as_bytes().to_vec());
    let (token, answers): (String, Answers) = match header {
        Some(header) => {
            let (name, password) = basic(&header)?;
            (logins.login(&name, &password).await?, stream::empty().boxed())
        }
        None => {
            let HandshakeRequest { protocol_version, payload } = first(request).await?;
            let BasicAuth { username, password } = BasicAuth::decode(payload)
                .map_err(|error| invalid(format!("the handshake has no BasicAuth: {error}")))?;
            let token = logins.login(&username, &password).await?;
            let payload = token.clone().into();
            let answer = HandshakeResponse { protocol_version, payload };
            (token, stream::iter([Ok(answer)]).boxed())
        }
    };
    let mut response = Response::new(answers);
    let value = MetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Error::new(Code::Internal, "a token has characters that no header takes"))?;
    response.metadata_mut().insert(HEADER, value);
    Ok(response)
}

async fn first(request: Request<Streaming<HandshakeRequest>>) -> Result<HandshakeRequest, Status> {
    let message = request.into_inner().message().await?;
    message.ok_or_else(|| {
        Status::from(Error::new(
            Code::Unauthenticated,
            "the handshake has neither the header `authorization: Basic …` nor a BasicAuth message",
        ))
    })
}

/// Name and password of `Basic BASE64(NAME:PASSWORD)`.
fn basic(header: &[u8]) -> Result<(String, String), Error> {
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
