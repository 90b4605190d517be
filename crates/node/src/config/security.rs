//! Certificates, tokens, and what must not happen without them.

use std::path::PathBuf;

use sheaf_flight::{ClientSecurity, SecurityFiles, TokenSource};

use super::address::HostPort;
use super::reader::Reader;

/// What secures a process: as a server, and as a client of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecurityConfig {
    pub(super) server: SecurityFiles,
    pub(super) client: ClientSecurity,
}

impl SecurityConfig {
    /// Certificates and tokens of the ports.
    pub fn server(&self) -> &SecurityFiles {
        &self.server
    }

    /// What is shown to other servers, and how they are checked.
    pub fn client(&self) -> &ClientSecurity {
        &self.client
    }

    /// Whether the ports speak TLS.
    pub fn has_tls(&self) -> bool {
        self.server.certificate.is_some()
    }

    /// Whether other machines may reach the ports.
    pub fn is_complete(&self) -> bool {
        self.has_tls() && self.server.tokens.is_some()
    }
}

/// Reads the settings and checks that they go together.
pub(super) fn read(reader: &mut Reader<'_>, insecure: bool) -> SecurityConfig {
    let certificate = path(reader, "tls-cert");
    let key = path(reader, "tls-key");
    let client_ca = path(reader, "tls-client-ca");
    let tokens = path(reader, "token-file");
    for (name, there, other, missing) in [
        ("tls-cert", &certificate, "tls-key", key.is_none()),
        ("tls-key", &key, "tls-cert", certificate.is_none()),
        ("tls-client-ca", &client_ca, "tls-cert and --tls-key", certificate.is_none()),
    ] {
        if there.is_some() && missing {
            reader.wrong(name, format!("is no use without --{other}"));
        }
    }
    let token = path(reader, "client-token-file").or_else(|| tokens.clone());
    let client = ClientSecurity {
        ca: path(reader, "tls-ca"),
        // A process has one identity: what it serves with is what it calls with.
        identity: certificate.clone().zip(key.clone()),
        token: token.map_or(TokenSource::None, TokenSource::File),
        insecure,
    };
    let server = SecurityFiles { certificate, key, client_ca, tokens };
    SecurityConfig { server, client }
}

/// Checks an address to listen on against what secures it.
pub(super) fn listen(
    reader: &mut Reader<'_>,
    security: &SecurityConfig,
    insecure: bool,
    name: &str,
    address: &HostPort,
) {
    if address.tls && !security.has_tls() {
        reader.wrong(name, "TLS needs --tls-cert and --tls-key".to_owned());
    }
    if insecure || security.is_complete() || address.is_loopback() {
        return;
    }
    let missing = match (security.has_tls(), security.server.tokens.is_some()) {
        (false, false) => "--tls-cert, --tls-key and --token-file",
        (false, true) => "--tls-cert and --tls-key",
        (true, _) => "--token-file",
    };
    let message = format!(
        "{address} is reached from other machines: give it {missing}, listen on localhost, or add \
         --insecure where the network is trusted"
    );
    reader.wrong(name, message);
}

/// Checks an address to dial against what is shown there.
pub(super) fn dial(
    reader: &mut Reader<'_>,
    security: &SecurityConfig,
    name: &str,
    address: &HostPort,
) {
    // What is no target is reported where it is read.
    let Ok(target) = address.uri().parse() else { return };
    if let Err(error) = security.client.check(&target) {
        reader.wrong(name, error.message().to_owned());
    }
}

/// Checks the file with the password of Valkey, if there is one. `None` where a
/// problem was reported.
pub(super) fn password_file(reader: &mut Reader<'_>) -> Option<()> {
    let Some(path) = path(reader, "valkey-password-file") else { return Some(()) };
    if !reader.text("valkey-password").is_empty() {
        reader.wrong("valkey-password-file", "and --valkey-password are both there".to_owned());
        return None;
    }
    // A mistake shows with all others, before anything is opened.
    if let Err(error) = sheaf_flight::read_secret_file(&path, "password file") {
        reader.wrong("valkey-password-file", error.message().to_owned());
        return None;
    }
    Some(())
}

fn path(reader: &Reader<'_>, name: &str) -> Option<PathBuf> {
    let text = reader.text(name);
    (!text.is_empty()).then(|| PathBuf::from(text))
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Machine, Origin, Problem, RawConfig};

    fn check(settings: &[(&str, &str)]) -> Result<Config, Vec<Problem>> {
        let mut raw = RawConfig::default();
        for (name, text) in settings {
            raw.set(name, *text, Origin::Flag);
        }
        raw.validate(&Machine::of(1 << 30))
    }

    #[test]
    fn other_machines_need_tls_and_tokens_or_consent() {
        let tls = [("tls-cert", "c"), ("tls-key", "k")];
        let open = ("flight-addr", "0.0.0.0:1");
        let with = |more: &[(&'static str, &'static str)]| check(&[&[open], more].concat());
        for (settings, missing) in [
            (&[][..], "--tls-cert, --tls-key and --token-file"),
            (&tls, "give it --token-file"),
            (&[("token-file", "t")], "give it --tls-cert and --tls-key"),
        ] {
            let problems = with(settings).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].message.contains(missing), "{problems:?}");
        }
        assert!(with(&[("insecure", "true")]).is_ok());
        let config = with(&[tls[0], tls[1], ("token-file", "t"), ("advertise-addr", "h:1")]);
        let config = config.unwrap();
        assert_eq!(config.advertise_addr().unwrap().uri(), "grpc+tls://h:1");
        assert!(config.security().is_complete());
    }

    #[test]
    fn half_of_a_pair_is_reported_with_everything_else() {
        let problems = check(&[
            ("tls-cert", "c"),
            ("tls-client-ca", "a"),
            ("flight-addr", "grpc+tls://localhost:1"),
            ("lease", "x"),
        ]);
        let places: Vec<_> = problems.unwrap_err().into_iter().map(|one| one.place).collect();
        assert_eq!(places, ["--tls-cert", "--lease"]);
        for alone in ["tls-key", "tls-client-ca"] {
            let problems = check(&[(alone, "x")]).unwrap_err();
            assert!(problems[0].message.contains("without --tls-cert"), "{problems:?}");
        }
    }

    #[test]
    fn a_worker_sends_no_token_where_it_can_be_read() {
        let worker = [("mode", "worker"), ("client-token-file", "t")];
        let with = |coordinator, flight, ca| {
            let more = [("coordinator", coordinator), ("flight-addr", flight), ("tls-ca", ca)];
            check(&[&worker[..], &more].concat())
        };
        assert!(with("grpc+tls://h:1", "grpc+tls://h:1", "ca").is_ok());
        assert!(with("grpc://localhost:1", "localhost:1", "").is_ok());
        let problems = with("grpc://h:1", "grpc+tls://h:1", "").unwrap_err();
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("could read it")), "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("--tls-ca")), "{texts:?}");
    }
}
