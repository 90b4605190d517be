//! Who may ask for what.
//!
//! The port is open to this machine only, but so is every page of the web that is open in a
//! browser on it. A page of elsewhere can send requests here; it must not learn or change
//! anything:
//!
//! - The `Host` has to be an address or `localhost`: a name that somebody else owns may point here.
//! - Where a browser says where a request comes from (`Origin`, `Sec-Fetch-Site`), that is here.
//! - What changes something, or shows more than the registry tells anybody, needs the token
//!   in a header, which a browser sends for no page of elsewhere.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sheaf_drivers::control::ServerToken;
use sheaf_retry::Code;

use crate::problem::Problem;

const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Nothing is loaded from elsewhere, nothing inline is run, and nobody frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Refuses requests of elsewhere, and says to browsers what the page may do.
pub(crate) async fn local(request: Request, next: Next) -> Response {
    let page = !request.uri().path().starts_with("/api/");
    let mut response = match check(request.headers(), page) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// `page` may be gone to from elsewhere: a link to it is no harm.
fn check(headers: &HeaderMap, page: bool) -> Result<(), Problem> {
    let refused = |text: String| Err(Problem::new(Code::PermissionDenied, text));
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    if !is_local(host) {
        let text = "this console answers by an address or as localhost, not by another name";
        return refused(text.to_owned());
    }
    if let Some(origin) = text(header::ORIGIN)
        && origin != format!("http://{host}")
    {
        return refused("this request comes from a page of elsewhere".to_owned());
    }
    match text(SITE) {
        None | Some("same-origin" | "none") => Ok(()),
        Some(_) if page => Ok(()),
        Some(_) => refused("this request comes from a page of elsewhere".to_owned()),
    }
}

/// Whether nobody else can have the name: an address, or this machine's own.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Lets in who shows the token.
pub(crate) async fn token(
    State(token): State<ServerToken>,
    request: Request,
    next: Next,
) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|shown| shown.strip_prefix("Bearer "));
    if shown.is_some_and(|shown| token.is(shown.trim())) {
        return next.run(request).await;
    }
    let text = match shown {
        Some(_) => "this is not the token of this server: sheafctl console prints a link with it",
        None => "this needs the token of this server: sheafctl console prints a link with it",
    };
    Problem::new(Code::Unauthenticated, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&'static str, &str)], page: bool) -> bool {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        check(&headers.collect(), page).is_ok()
    }

    #[test]
    fn only_names_that_nobody_else_can_have_are_answered() {
        for host in ["127.0.0.1:80", "localhost:9", "LOCALHOST", "[::1]:80", "[::1]", "10.1.2.3"] {
            assert!(checked(&[("host", host)], false), "{host}");
        }
        for host in ["evil.example:80", "localhost.evil.example", "", "127.0.0.1.evil.example", "x"]
        {
            assert!(!checked(&[("host", host)], true), "{host}");
        }
        assert!(!checked(&[], false));
    }

    #[test]
    fn requests_of_pages_of_elsewhere_are_refused() {
        let host = ("host", "127.0.0.1:80");
        for (origin, is_ours) in [
            ("http://127.0.0.1:80", true),
            ("http://127.0.0.1:81", false),
            ("https://evil.example", false),
            ("null", false),
        ] {
            assert_eq!(checked(&[host, ("origin", origin)], false), is_ours, "{origin}");
        }
        for (site, api, page) in [
            ("same-origin", true, true),
            ("none", true, true),
            ("same-site", false, true),
            ("cross-site", false, true),
        ] {
            let headers = [host, ("sec-fetch-site", site)];
            assert_eq!((checked(&headers, false), checked(&headers, true)), (api, page), "{site}");
        }
    }
}
