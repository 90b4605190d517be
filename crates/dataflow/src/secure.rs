//! How a component serves and calls under TLS.

use sheaf_flight::{ClientConfig, ClientSecurity, Error, Security, SecurityFiles, TokenSource};
use sheaf_pipeline::registry::CERTIFICATE_HOST;
use sheaf_retry::SharedClock;

use crate::assignment::TlsAssignment;

impl TlsAssignment {
    /// For the port of streams: who calls has to show a certificate of the same CA.
    pub(crate) fn streams(&self, clock: &SharedClock) -> Result<Security, Error> {
        Security::open(self.files(true), clock.clone())
    }

    /// For the port of health: monitors have no certificate.
    pub(crate) fn health(&self, clock: &SharedClock) -> Result<Security, Error> {
        Security::open(self.files(false), clock.clone())
    }

    fn files(&self, asks: bool) -> SecurityFiles {
        SecurityFiles {
            certificate: Some(self.certificate.clone()),
            key: Some(self.key.clone()),
            client_ca: asks.then(|| self.ca.clone()),
            tokens: None,
        }
    }

    /// For calls: of the control plane, of other components.
    pub fn client(&self) -> ClientConfig {
        ClientConfig {
            security: ClientSecurity {
                ca: Some(self.ca.clone()),
                identity: Some((self.certificate.clone(), self.key.clone())),
                token: TokenSource::None,
                insecure: false,
            },
            certificate_host: Some(CERTIFICATE_HOST.to_owned()),
            ..ClientConfig::default()
        }
    }
}
