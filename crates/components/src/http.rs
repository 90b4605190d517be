//! HTTP clients of sources and sinks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, StatusCode, Url, redirect};
use rustls::{ClientConfig, RootCertStore};
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::Text;
use sheaf_retry::Code;

use crate::failure::{failed_as, refused};
use crate::host::Host;
use crate::secrets;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Characters that are shown of an answer that says no.
const SHOWN: usize = 200;

/// A client with ring, which trusts what the system trusts. It goes to no other address than
/// the one that it is told, so that headers with secrets do not either.
pub(crate) fn client(timeout: Duration) -> Result<Client, ComponentError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in found.errors {
        tracing::debug!(%error, "a certificate of the system cannot be read");
    }
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(failed_as(Code::Internal, "TLS cannot be set up"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .user_agent(concat!("sheaf/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .timeout(timeout)
        .build()
        .map_err(failed_as(Code::Internal, "the HTTP client cannot be set up"))
}

/// The address, and how it is shown: without what may be a secret.
pub(crate) fn address(url: &str) -> Result<(Url, String), ComponentError> {
    let wrong = "config.url is no address: write http://HOST/PATH or https://HOST/PATH";
    let url = Url::parse(url).map_err(failed_as(Code::InvalidArgument, wrong))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(refused(wrong));
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let shown = format!("{}://{host}{port}{}", url.scheme(), url.path());
    Ok((url, shown))
}

/// Headers, whose values are shown nowhere.
pub(crate) async fn headers(
    host: &Host,
    given: &BTreeMap<String, Text>,
) -> Result<HeaderMap, ComponentError> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let field = format!("config.headers.{name}");
        let value = secrets::text(host, &field, value).await?;
        let name: HeaderName = name.parse().map_err(failed_as(
            Code::InvalidArgument,
            format!("{field}: that is no name of a header"),
        ))?;
        let mut value: HeaderValue = value.expose().parse().map_err(|_| {
            refused(format!("{field}: the value has characters that no header takes"))
        })?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// A request that had no answer.
pub(crate) fn no_answer(shown: &str) -> impl FnOnce(reqwest::Error) -> ComponentError {
    let shown = shown.to_owned();
    move |error| {
        let code = if error.is_timeout() {
            Code::DeadlineExceeded
        } else if error.is_builder() {
            Code::InvalidArgument
        } else {
            Code::Unavailable
        };
        ComponentError::new(code, format!("{shown} does not answer")).because(error.without_url())
    }
}

/// An answer that says no. What passes by itself is tried again.
pub(crate) fn refusal(shown: &str, status: StatusCode, body: &[u8]) -> ComponentError {
    let code = match status.as_u16() {
        408 | 425 | 429 | 500..=599 => Code::Unavailable,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 410 => Code::NotFound,
        _ => Code::FailedPrecondition,
    };
    let advice = if status.is_redirection() { "; name the address that it leads to" } else { "" };
    let said: String = String::from_utf8_lossy(body).trim().chars().take(SHOWN).collect();
    let said = if said.is_empty() { said } else { format!(": {said:?}") };
    ComponentError::new(code, format!("{shown} answered {status}{advice}{said}"))
}

/// The body of an answer, so many bytes at most.
pub(crate) async fn body(
    shown: &str,
    mut answer: reqwest::Response,
    most: u64,
) -> Result<Vec<u8>, ComponentError> {
    let too_long = || {
        let text = format!("{shown} answers with more than {most} bytes; raise config.maxBytes");
        ComponentError::new(Code::LimitExceeded, text)
    };
    if answer.content_length().is_some_and(|length| length > most) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(no_answer(shown))? {
        if (body.len() as u64).saturating_add(chunk.len() as u64) > most {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The beginning of a body, for messages.
pub(crate) async fn beginning(mut answer: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < SHOWN * 4
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body
}
