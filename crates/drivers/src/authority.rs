//! The certificates of a control plane and of the components that it runs.
//!
//! An authority is a folder: its certificate, its key, and what it has issued. Only the owner
//! of the folder may read keys. Certificates do not run out: they end with the run whose name
//! they have, or with their folder.

mod subject;

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use sheaf_dataflow::TlsAssignment;
use sheaf_flight::read_certificate;
use sheaf_pipeline::registry::{CERTIFICATE_HOST, CONTROL_NAME, OPERATOR_NAME, certificate_name};

use crate::process::{create_private, write_private};
use subject::subject;

/// The folder's own files.
const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// Signs the certificates of one control plane. See the module.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one in this folder, which is emptied: nobody trusts it yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn fresh(folder: &Path) -> io::Result<Self> {
        clear(folder)?;
        Authority::open(folder)
    }

    /// That of a folder; a new one where there is none.
    ///
    /// # Errors
    /// What the system says, and `invalid_data` for files that are damaged.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let (certificate, key) = (folder.join(CA), folder.join(CA_KEY));
        if !key.exists() {
            // What may be there is of another one.
            clear(folder)?;
            create_private(folder)?;
            let new = KeyPair::generate().map_err(io::Error::other)?;
            let signed = authority().self_signed(&new).map_err(io::Error::other)?;
            write_private(&certificate, signed.pem().as_bytes())?;
            // Last: whoever finds a key finds the rest.
            write_private(&key, new.serialize_pem().as_bytes())?;
        }
        Authority::signing(folder, &certificate, &key)
    }

    /// One that is run elsewhere: its certificate and key, in PEM. What it issues here goes
    /// into the folder.
    ///
    /// # Errors
    /// What the system says, and `invalid_data` for files that are no such thing.
    pub fn of(folder: &Path, certificate: &Path, key: &Path) -> io::Result<Self> {
        let own = std::fs::read(certificate)?;
        if std::fs::read(folder.join(CA)).ok().as_ref() != Some(&own) {
            // What may be there is of another one.
            clear(folder)?;
        }
        create_private(folder)?;
        write_private(&folder.join(CA), &own)?;
        Authority::signing(folder, certificate, key)
    }

    fn signing(folder: &Path, certificate: &Path, key: &Path) -> io::Result<Self> {
        let damaged = |path: &Path, error: rcgen::Error| {
            let text = format!("{} is damaged: {error}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        let text = std::fs::read_to_string(key)?;
        let pair = KeyPair::from_pem(&text).map_err(|error| damaged(key, error))?;
        let der = read_certificate(certificate, "certificate of the authority");
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let der = der.map_err(|error| invalid(error.message().to_owned()))?;
        let name = subject(&der).ok_or_else(|| {
            let path = certificate.display();
            invalid(format!("the name in {path} is of a rare kind: use an authority with another"))
        })?;
        let mut params = authority();
        params.distinguished_name = name;
        let issuer = Issuer::new(params, pair);
        Ok(Authority { folder: std::path::absolute(folder)?, issuer })
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The certificate of the control plane itself.
    ///
    /// # Errors
    /// What the system says.
    pub fn control(&self) -> io::Result<TlsAssignment> {
        self.issue(&self.folder, "control", CONTROL_NAME)
    }

    /// The certificate of whoever may read the folder, for commands.
    ///
    /// # Errors
    /// What the system says.
    pub fn operator(&self) -> io::Result<TlsAssignment> {
        self.issue(&self.folder, "operator", OPERATOR_NAME)
    }

    /// The certificate of a place in a run: the one that there is, or a new one. Those of
    /// earlier runs of its pipeline are removed.
    ///
    /// # Errors
    /// What the system says.
    pub fn component(&self, place: &str, run: u64) -> io::Result<TlsAssignment> {
        let (pipeline, instance) = place.split_once(':').unwrap_or((place, ""));
        let all = self.folder.join(pipeline);
        create_private(&all)?;
        let own = run.to_string();
        for entry in std::fs::read_dir(&all)? {
            let entry = entry?;
            if entry.file_name() != *own {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        self.issue(&all.join(own), instance, &certificate_name(place, run))
    }

    fn issue(&self, folder: &Path, file: &str, name: &str) -> io::Result<TlsAssignment> {
        create_private(folder)?;
        let at = |end: &str| folder.join(format!("{file}.{end}"));
        let (certificate, key) = (at("pem"), at("key"));
        if !key.exists() {
            let pair = KeyPair::generate().map_err(io::Error::other)?;
            let signed = named(name).and_then(|params| params.signed_by(&pair, &self.issuer));
            let signed = signed.map_err(io::Error::other)?;
            write_private(&certificate, signed.pem().as_bytes())?;
            write_private(&key, pair.serialize_pem().as_bytes())?;
        }
        Ok(TlsAssignment { ca: self.folder.join(CA), certificate, key })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn clear(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Sheaf pipelines");
    // It signs servers and clients, and no further authority.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// What a certificate of this name is for: to serve, and to call.
fn named(name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new([CERTIFICATE_HOST.to_owned()])?;
    params.subject_alt_names.push(SanType::URI(name.try_into()?));
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_was_issued_stays_for_a_run_and_keys_are_for_their_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("tls");
        let first = Authority::open(&folder).unwrap();
        let one = first.component("p:a.1", 3).unwrap();
        let text = std::fs::read(&one.certificate).unwrap();
        // Another process with the same folder: the same authority, the same certificate.
        let again = Authority::open(&folder).unwrap().component("p:a.1", 3).unwrap();
        assert_eq!((&again, std::fs::read(&again.certificate).unwrap()), (&one, text.clone()));
        let mut keys = vec![one.key.clone(), folder.join(CA_KEY)];
        keys.extend([first.control().unwrap().key, first.operator().unwrap().key]);
        for key in keys {
            assert_eq!(std::fs::metadata(&key).unwrap().mode() & 0o077, 0, "{}", key.display());
        }
        let next = first.component("p:a.1", 4).unwrap();
        assert!(next.key.exists() && !one.key.exists(), "the run before is over");
        let ca = std::fs::read(folder.join(CA)).unwrap();
        Authority::fresh(&folder).unwrap();
        assert_ne!(std::fs::read(folder.join(CA)).unwrap(), ca);
        assert!(!next.key.exists());
    }

    #[test]
    fn an_authority_that_is_run_elsewhere_signs_too_and_its_key_stays_there() {
        let root = tempfile::tempdir().unwrap();
        let (there, here) = (root.path().join("there"), root.path().join("here"));
        Authority::open(&there).unwrap();
        let own = Authority::of(&here, &there.join(CA), &there.join(CA_KEY)).unwrap();
        assert!(own.control().unwrap().certificate.exists());
        assert!(!here.join(CA_KEY).exists());
        let text = || std::fs::read(own.control().unwrap().certificate).unwrap();
        let before = text();
        let other = root.path().join("other");
        Authority::open(&other).unwrap();
        Authority::of(&here, &there.join(CA), &there.join(CA_KEY)).unwrap();
        assert_eq!(text(), before, "the same authority");
        let own = Authority::of(&here, &other.join(CA), &other.join(CA_KEY)).unwrap();
        assert_ne!(std::fs::read(own.control().unwrap().certificate).unwrap(), before);
        let made = Authority::open(&here).unwrap().control().unwrap();
        assert_ne!(std::fs::read(made.certificate).unwrap(), before, "and one of its own");
        let damaged = Authority::of(&here, &there.join(CA), &there.join(CA)).unwrap_err();
        assert!(damaged.to_string().contains("ca.pem is damaged"), "{damaged}");
        let damaged = Authority::of(&here, &there.join(CA_KEY), &there.join(CA_KEY)).unwrap_err();
        assert!(damaged.to_string().contains("holds no PEM certificate"), "{damaged}");
    }
}
