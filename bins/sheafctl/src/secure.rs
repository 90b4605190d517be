//! TLS of a control plane here, and towards one elsewhere.

mod away;

use std::path::Path;
use std::sync::Arc;

use sheaf_drivers::Authority;
use sheaf_drivers::runner::Hold;
use sheaf_flight::{Security, SecurityFiles, TlsFiles};
use sheaf_retry::{Retryable as _, SharedClock};
use sheaf_terminal::Failure;

use crate::args::TlsArgs;

pub(crate) use away::Away;

/// The folder of certificates in that of a control plane.
pub(crate) const FOLDER: &str = "tls";

/// What a control plane serves with under TLS.
pub(crate) struct Own {
    pub(crate) authority: Arc<Authority>,
    pub(crate) security: Security,
    /// To look at the health of components.
    pub(crate) health: TlsFiles,
}

impl Own {
    /// That of a control plane whose files are in `folder`, where TLS is asked for. For one run
    /// of `pipeline` all is made anew: what is in the folder of the pipeline is of earlier ones.
    pub(crate) fn open(
        args: &TlsArgs,
        folder: &Path,
        run_of: Option<(&Path, &str)>,
        clock: &SharedClock,
    ) -> Result<Option<Self>, Failure> {
        if !args.is_wanted() {
            return Ok(None);
        }
        let failed = |error: std::io::Error| {
            let text = format!("certificates cannot be made in {}: {error}", folder.display());
            Failure::new(error.code(), text)
        };
        // Only where no run of it is under way, whose certificates they are.
        let hold = match run_of {
            Some((pipelines, pipeline)) => Hold::take(pipelines, pipeline).map_err(failed)?,
            None => None,
        };
        let authority = match (&args.tls_authority, &args.tls_authority_key) {
            (Some(certificate), Some(key)) => Authority::of(folder, certificate, key),
            // Where it is held, the run says so; what is there is not touched.
            _ if hold.is_some() => Authority::fresh(folder),
            _ => Authority::open(folder),
        };
        let authority = authority.map_err(failed)?;
        let (own, _) =
            (authority.control().map_err(failed)?, authority.operator().map_err(failed)?);
        drop(hold);
        let files = SecurityFiles {
            certificate: Some(own.certificate),
            key: Some(own.key),
            client_ca: Some(own.ca.clone()),
            tokens: None,
        };
        let security = Security::open(files, clock.clone());
        let security = security.map_err(|error| Failure::from_error(&error))?;
        let health = TlsFiles { ca: own.ca, identity: None };
        Ok(Some(Own { authority: Arc::new(authority), security, health }))
    }
}
