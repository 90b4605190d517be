//! One line of the log for every call that is refused.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use sheaf_retry::{Code, Retryable as _, SharedClock, Throttle};

use crate::error::Error;
use crate::security::{Right, Security};

/// Lines of one code in a second; the others are counted.
const LINES: u32 = 20;
/// Longest reason: it may name what a client sent.
const MAX_REASON: usize = 500;
/// Longest namespace or path, which a client may have made up.
const MAX_NAME: usize = 100;
/// Codes that have a count of their own, so that a flood of one hides none of
/// the others.
const CODES: [Code; 4] =
    [Code::Unauthenticated, Code::PermissionDenied, Code::Overloaded, Code::QuotaFull];

/// Writes refusals to the log, target `sheaf::audit`, level WARN: at most 20
/// lines a second of each code; the next one says how many were left out.
///
/// Fields: `method`, `peer`, `token` (its name), `namespace`, `code`, `reason`,
/// `left_out`; those that are not known are left out. A server has its own;
/// this is for ports that speak something else.
#[derive(Debug)]
pub struct Audit {
    clock: SharedClock,
    /// Of the codes above, and of all others together.
    throttles: Mutex<[Throttle; CODES.len() + 1]>,
}

/// Who was refused what.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Refused<'a> {
    /// Of the closed set of methods, or `connect`.
    pub(crate) method: &'a str,
    pub(crate) peer: Option<SocketAddr>,
    /// The name of the token, never the token.
    pub(crate) token: Option<&'a str>,
    pub(crate) namespace: Option<&'a str>,
}

impl Audit {
    /// An audit whose seconds are those of `clock`.
    pub fn new(clock: SharedClock) -> Self {
        let throttles = std::array::from_fn(|_| Throttle::new(LINES));
        Audit { clock, throttles: Mutex::new(throttles) }
    }

    /// Whether the headers of a request that is no gRPC call let it in, and its
    /// token has this right in this namespace.
    ///
    /// # Errors
    /// `unauthenticated` or `permission_denied`, in the log already.
    pub fn authorize(
        &self,
        security: &Security,
        headers: &HeaderMap,
        path: &str,
        (namespace, right): (&str, Right),
    ) -> Result<(), Error> {
        let granted = security.authorize(headers);
        let (token, error) = match &granted {
            Ok(grant) => match grant.require(namespace, right) {
                Ok(()) => return Ok(()),
                Err(error) => (grant.name(), error),
            },
            Err(error) => (None, Error::new(error.code(), error.message())),
        };
        let namespace = Some(namespace);
        let method = shortened(path, MAX_NAME);
        self.refused(Refused { method, token, namespace, peer: None }, &error);
        Err(error)
    }

    pub(crate) fn refused(&self, who: Refused<'_>, error: &Error) {
        let code = error.code();
        let at = CODES.iter().position(|known| *known == code).unwrap_or(CODES.len());
        let now = self.clock.elapsed();
        let admitted = {
            let mut throttles = self.throttles.lock().unwrap_or_else(PoisonError::into_inner);
            throttles[at].admit(now)
        };
        let Some(left_out) = admitted else { return };
        let Refused { method, peer, token, namespace } = who;
        let peer = peer.map(tracing::field::display);
        let namespace = namespace.map(|name| shortened(name, MAX_NAME));
        // Texts are shown quoted, so that none of a client's begins a line.
        tracing::warn!(
            target: "sheaf::audit",
            method,
            peer,
            token,
            namespace,
            code = code.as_str(),
            reason = shortened(error.message(), MAX_REASON),
            left_out,
            "a call is refused"
        );
    }
}

fn shortened(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or(0)]
}
