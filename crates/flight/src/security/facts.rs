//! What the files of certificates and tokens say, for whoever runs a server:
//! names and times, never a secret.

use std::path::Path;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sheaf_retry::Timestamp;

use super::{der, file, token_file, token_words};
use crate::error::{Error, invalid};

/// One certificate of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Whom it is for, such as `CN=sheaf`; empty where it has no common name.
    pub subject: String,
    /// It counts from then on.
    pub not_before: Timestamp,
    /// It counts until then.
    pub not_after: Timestamp,
}

impl CertificateFacts {
    /// The certificates of a PEM file, in its order; `what` is the file's name
    /// in errors, such as `certificate`.
    ///
    /// # Errors
    /// `invalid_argument` for a file that is no PEM file or holds something
    /// else than certificates; else what the system says.
    pub fn read(path: &Path, what: &str) -> Result<Vec<Self>, Error> {
        let wrong = |why: String| invalid(format!("the {what} {} {why}", path.display()));
        let bytes = file::read(path, what)?;
        let ders: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(format!("is no PEM file: {error}")))?;
        if ders.is_empty() {
            return Err(wrong("holds no PEM certificate".to_owned()));
        }
        let facts = ders.iter().map(|der| {
            let read = der::read(der);
            let read = read.ok_or_else(|| wrong("holds a certificate that is none".to_owned()))?;
            Ok(CertificateFacts {
                subject: read.subject,
                not_before: read.not_before,
                not_after: read.not_after,
            })
        });
        facts.collect()
    }
}

/// The first certificate of a PEM file, in DER; `what` is the file's name in errors.
///
/// # Errors
/// As [`CertificateFacts::read`].
pub fn read_certificate(path: &Path, what: &str) -> Result<Vec<u8>, Error> {
    let bytes = file::read(path, what)?;
    let first = CertificateDer::from_pem_slice(&bytes);
    let first = first.map_err(|error| {
        invalid(format!("the {what} {} holds no PEM certificate: {error}", path.display()))
    })?;
    Ok(first.to_vec())
}

/// One token of a file, without the token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// Its name, or `line N`.
    pub name: String,
    /// It counts until then; `None` is for ever.
    pub expires: Option<Timestamp>,
    /// Whether a client can send it: the file has the token and not only its SHA-256.
    pub can_be_sent: bool,
    /// Whether it may do everything.
    pub may_do_all: bool,
    /// The namespaces that its `allow=` names, `*` apart.
    pub namespaces: Vec<String>,
    /// Calls that it may have under way at once; `None` is any number.
    pub calls: Option<usize>,
    /// Bytes of payloads that it may have stored; `None` is any number.
    pub quota_bytes: Option<u64>,
}

impl TokenFacts {
    /// How a line of a token file is written.
    pub const FORM: &'static str = token_words::FORM;

    /// The tokens of a file, in its order.
    ///
    /// # Errors
    /// As [`Security::open`](super::Security::open) for its token file.
    pub fn read(path: &Path) -> Result<Vec<Self>, Error> {
        let lines = token_file::read(path)?;
        let facts = lines.into_iter().map(|line| TokenFacts {
            can_be_sent: line.token.is_some(),
            may_do_all: line.limits.allowed.has_all(),
            namespaces: line.limits.allowed.namespaces().map(str::to_owned).collect(),
            calls: line.limits.calls,
            quota_bytes: line.limits.quota_bytes,
            name: line.name,
            expires: line.expires,
        });
        Ok(facts.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    fn write(path: &Path, text: &str) {
        std::fs::write(path, text).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
    }

    #[test]
    fn certificates_tell_whom_they_are_for_and_how_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chain.pem");
        let pem = |name: &str, until| {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(until, 1, 1);
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
        };
        write(&path, &(pem("first", 2020) + &pem("second", 2060)));
        let found = CertificateFacts::read(&path, "certificate").unwrap();
        let days = |facts: &CertificateFacts| facts.not_after.as_millis() / 86_400_000;
        assert_eq!(found.len(), 2);
        assert!(found[0].subject.contains("CN=first"), "{found:?}");
        // 2020-01-01 and 2060-01-01.
        assert_eq!((days(&found[0]), days(&found[1])), (18_262, 32_872));
        write(&path, "nothing");
        assert!(CertificateFacts::read(&path, "certificate").is_err());
    }

    #[test]
    fn tokens_tell_their_names_and_ends_and_not_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        let hash = "0".repeat(64);
        write(&path, &format!("ci 0123456789abcdef expires=1970-01-01T00:00:10Z\nsha256:{hash}\n"));
        let found = TokenFacts::read(&path).unwrap();
        assert_eq!((found[0].name.as_str(), found[0].can_be_sent), ("ci", true));
        assert_eq!(found[0].expires, Some(Timestamp::from_millis(10_000)));
        assert_eq!((found[1].expires, found[1].can_be_sent), (None, false));
        assert!(!format!("{found:?}").contains("0123456789abcdef"));
        assert!(found[0].may_do_all && found[0].namespaces.is_empty());
        write(&path, "ci 0123456789abcdef allow=*:r,batches:w calls=3 quota=1KB\n");
        let found = TokenFacts::read(&path).unwrap().remove(0);
        assert_eq!((found.may_do_all, found.namespaces), (false, vec!["batches".to_owned()]));
        assert_eq!((found.calls, found.quota_bytes), (Some(3), Some(1_000)));
    }
}
