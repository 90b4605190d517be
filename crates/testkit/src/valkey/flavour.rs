//! Which server it is: Valkey, or Redis, which Sheaf works with too.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::services;

/// Whose server a test runs on.
///
/// Valkey is required where `SHEAF_REQUIRE_SERVERS` is `1`; Redis is optional
/// everywhere: the one that [`REDIS_SERVER`](crate::REDIS_SERVER) names, the one
/// that `cargo xtask services` found, or that of `PATH`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flavour {
    /// `valkey-server`.
    #[default]
    Valkey,
    /// `redis-server`.
    Redis,
}

impl Flavour {
    /// All there are, for tests that run on each.
    pub const ALL: [Flavour; 2] = [Flavour::Valkey, Flavour::Redis];

    /// Whether this machine has it.
    pub fn is_there(self) -> bool {
        self.path().is_file()
    }

    /// Whether this machine has it and it was built with TLS.
    ///
    /// Debian's `redis-server` was. The `valkey-server` of `cargo xtask
    /// services` comes from a Python package that builds it without; one that
    /// the system provides mostly has it.
    pub fn has_tls(self) -> bool {
        // Asked to serve TLS without a certificate, one that knows TLS misses
        // just that. Either ends at once.
        let asked = Command::new(self.path())
            .args(["--port", "0", "--tls-port", "1", "--daemonize", "no", "--save", ""])
            .stdin(Stdio::null())
            .output();
        asked.is_ok_and(|output| {
            let said = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&said).contains("No tls-cert-file configured")
        })
    }

    /// The first with TLS; `None`, after a `SKIP` line, where none has it.
    pub(super) fn with_tls() -> Option<Flavour> {
        let found = Flavour::ALL.into_iter().find(|flavour| flavour.has_tls());
        if found.is_none() {
            services::say("SKIP no valkey-server or redis-server that was built with TLS");
        }
        found
    }

    fn path(self) -> PathBuf {
        match self {
            Flavour::Valkey => services::valkey_path(),
            Flavour::Redis => services::redis_path(),
        }
    }

    /// The server's binary, by the rule for missing ones.
    pub(super) fn binary(self) -> Option<PathBuf> {
        match self {
            Flavour::Valkey => services::valkey_binary(),
            Flavour::Redis => services::redis_binary(),
        }
    }
}
