//! Certificates and tokens made for a test, and a server that has them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd,
};

use crate::harness::{Ran, Server, command};

pub(super) const RIGHT: &str = "right-0123456789abcdef";
pub(super) const OLD: &str = "old-0123456789abcdef";
pub(super) const GONE: &str = "gone-0123456789abcdef";
pub(super) const WRONG: &str = "wrong-0123456789abcdef";

/// Tokens of which one is right, one has expired and one can be taken out.
pub(super) fn tokens() -> String {
    format!("main {RIGHT}\nold {OLD} expires=2020-01-01T00:00:00Z\ngone {GONE}\n")
}

/// Written beside it and renamed, as files that others read should be.
pub(crate) fn write(path: &str, text: &str) {
    let beside = format!("{path}.new");
    std::fs::write(&beside, text).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

/// A CA of its own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // A name of its own: OpenSSL takes a certificate whose issuer has its name
        // for self-signed.
        params.distinguished_name.push(DnType::CommonName, "CA of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key of this machine's addresses, in PEM.
    pub(super) fn signed(&self, expired: bool) -> (String, String) {
        self.signed_as(None, expired)
    }

    /// The same, with a URI among its names.
    fn signed_as(&self, uri: Option<&str>, expired: bool) -> (String, String) {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        if expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (pem, key.serialize_pem())
    }

    /// Writes `NAME.pem` and `NAME.key` into a folder; their paths.
    pub(super) fn write(&self, folder: &Path, name: &str, expired: bool) -> (String, String) {
        self.write_as(folder, name, None, expired)
    }

    /// The same, with a URI among its names.
    pub(crate) fn write_as(
        &self,
        folder: &Path,
        name: &str,
        uri: Option<&str>,
        expired: bool,
    ) -> (String, String) {
        let path = |end: &str| folder.join(format!("{name}.{end}")).to_str().unwrap().to_owned();
        let (certificate, key) = self.signed_as(uri, expired);
        write(&path("pem"), &certificate);
        write(&path("key"), &key);
        (path("pem"), path("key"))
    }
}

/// A server with TLS and tokens, and the files of its clients.
pub(super) struct Secured {
    pub(super) server: Server,
    pub(super) folder: sheaf_testkit::TempDir,
}

impl Secured {
    pub(super) fn start(words: &[&str]) -> Self {
        let folder = sheaf_testkit::TempDir::new().unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.write(folder.path(), "server", false);
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        write(&path("ca"), &authority.pem);
        write(&path("tokens"), &tokens());
        let tokens = path("tokens");
        let mut all = vec!["--tls-cert", &certificate, "--tls-key", &key, "--token-file", &tokens];
        all.extend(words);
        Secured { server: Server::start(&all), folder }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(super) fn uri(&self) -> &str {
        self.server.ready.url("flight").unwrap()
    }

    /// A command with CA and token.
    pub(super) fn run(&self, words: &[&str]) -> Ran {
        let mut command = command();
        command.env("SHEAF_SERVER", self.uri()).env("SHEAF_TLS_CA", self.path("ca"));
        command.env("SHEAF_TOKEN_FILE", self.path("tokens")).args(words);
        Ran(command.output().unwrap())
    }
}
