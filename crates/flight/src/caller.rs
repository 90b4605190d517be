//! Who makes a call: what handlers may know of it, and ask for.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::error::Error;
use crate::handler::CallContext;
use crate::security::{Grant, Need, Right};
use crate::server::{Audit, Refused};

/// A call as the gate let it in; by default one that needed no token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    method: String,
    peer: Option<SocketAddr>,
    grant: Grant,
    audit: Arc<Audit>,
}

impl Caller {
    pub(crate) fn new(
        method: String,
        peer: Option<SocketAddr>,
        grant: Grant,
        audit: Arc<Audit>,
    ) -> Self {
        Caller { inner: Some(Arc::new(Inner { method, peer, grant, audit })) }
    }

    /// As [`CallContext::require`], of whatever a call needs.
    pub(crate) fn require(&self, need: Need) -> Result<(), Error> {
        let Some(inner) = &self.inner else { return Ok(()) };
        let namespace = match need {
            Need::Nothing => return Ok(()),
            Need::One(namespace, _) => namespace,
            Need::Everything => "*",
        };
        inner.grant.require_all(need).inspect_err(|error| self.refused(namespace, error))
    }

    /// Whether it may do this in a namespace that need not exist.
    pub(crate) fn check(&self, namespace: &str, right: Right) -> Result<(), Error> {
        let Some(inner) = &self.inner else { return Ok(()) };
        inner.grant.check(namespace, right).inspect_err(|error| self.refused(namespace, error))
    }

    /// Why the call ends, once it has to; that is in the audit log then.
    pub(crate) async fn lost(self) -> Error {
        let Some(inner) = &self.inner else { return std::future::pending().await };
        let error = inner.grant.clone().lost().await;
        inner.refused(None, &error);
        error
    }

    /// The name of the token or login, where one was needed.
    pub(crate) fn name(&self) -> Option<&str> {
        self.inner.as_ref()?.grant.name()
    }

    pub(crate) fn may(&self, namespace: &str, right: Right) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.grant.require(namespace, right).is_ok())
    }

    /// Writes into the audit log that the call is refused, whatever it is for.
    pub(crate) fn refused_at_all(&self, error: &Error) {
        if let Some(inner) = &self.inner {
            inner.refused(None, error);
        }
    }

    pub(crate) fn refused(&self, namespace: &str, error: &Error) {
        if let Some(inner) = &self.inner {
            inner.refused(Some(namespace), error);
        }
    }
}

/// The names in the certificate that a client showed when it connected.
#[derive(Clone, Debug)]
pub(crate) struct CertificateNames(pub(crate) Arc<[String]>);

impl Inner {
    fn refused(&self, namespace: Option<&str>, error: &Error) {
        let Inner { method, peer, grant, audit } = self;
        let (peer, token) = (*peer, grant.name());
        audit.refused(Refused { method, peer, token, namespace }, error);
    }
}

impl CallContext {
    /// The DNS names and URIs in the certificate that the caller showed when it
    /// connected; `None` where it showed none. The port's CA has signed it.
    pub fn certificate_names(&self) -> Option<&[String]> {
        self.certificate.as_ref().map(|names| &*names.0)
    }

    /// The name of the caller's token, where it has one.
    pub fn owner(&self) -> Option<&str> {
        self.caller.inner.as_ref()?.grant.owner()
    }

    /// Bytes of payloads that may be stored of what the caller's token has put.
    pub fn quota_bytes(&self) -> Option<u64> {
        self.caller.inner.as_ref()?.grant.quota_bytes()
    }

    /// Whether the caller's token may do this: for what a handler does beyond
    /// the right that the call itself needs, which was looked at before.
    ///
    /// # Errors
    /// `permission_denied`, naming token, namespace and right; it is in the
    /// audit log then.
    pub fn require(&self, namespace: &str, right: Right) -> Result<(), Error> {
        let Some(inner) = &self.caller.inner else { return Ok(()) };
        let required = inner.grant.require(namespace, right);
        required.inspect_err(|error| self.refused(namespace, error))
    }

    /// Writes into the audit log that a handler refuses the call.
    pub fn refused(&self, namespace: &str, error: &Error) {
        self.caller.refused(namespace, error);
    }
}

/// As [`CallContext::certificate_names`], for gRPC services beside Flight.
pub fn certificate_names<T>(request: &tonic::Request<T>) -> Option<Arc<[String]>> {
    request.extensions().get::<CertificateNames>().map(|names| Arc::clone(&names.0))
}

/// As [`CallContext::require`], for gRPC services beside Flight: whether the token
/// that a call came with may do more than the call itself needs.
///
/// # Errors
/// `permission_denied`, naming token, namespace and right; it is in the audit
/// log then.
pub fn require<T>(request: &tonic::Request<T>, namespace: &str, right: Right) -> Result<(), Error> {
    let caller = request.extensions().get::<Caller>().cloned().unwrap_or_default();
    CallContext { caller, ..CallContext::default() }.require(namespace, right)
}
