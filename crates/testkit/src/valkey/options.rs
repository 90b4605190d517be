//! What a server is started with.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Flavour, TlsFiles, Valkey, launch};
use crate::port::again_if_taken;
use crate::{Error, free_port};

/// A server to be.
///
/// ```no_run
/// use sheaf_testkit::{Flavour, Valkey};
///
/// let started = Valkey::options(Flavour::Redis)
///     .args(&["--appendonly", "yes", "--requirepass", "for the kit's own client"])
///     .user("sheaf", "secret", &["~*", "&*", "+@all"])
///     .start()?;
/// # Ok::<(), sheaf_testkit::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ValkeyOptions {
    flavour: Flavour,
    binary: Option<PathBuf>,
    args: Vec<String>,
    tls: Option<TlsFiles>,
    cluster: bool,
}

impl ValkeyOptions {
    pub(super) fn new(flavour: Flavour) -> Self {
        ValkeyOptions { flavour, binary: None, args: Vec::new(), tls: None, cluster: false }
    }

    /// Adds arguments; the last of two equal ones counts. With `--requirepass`
    /// clients need a password; [`Valkey::command`] sends it by itself.
    #[must_use]
    pub fn args<A: AsRef<str>>(mut self, args: &[A]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Adds an ACL user who is allowed what the rules say: `["~*", "&*",
    /// "+@all"]` is everything. Who gives no name is still let in, unless the
    /// arguments have `--requirepass`.
    #[must_use]
    pub fn user(self, name: &str, password: &str, rules: &[&str]) -> Self {
        let password = format!(">{password}");
        self.args(&["--user", name, "on", &password]).args(rules)
    }

    /// Serves TLS too, on a port of its own: [`Valkey::tls_addr`]. Clients need
    /// no certificate unless the arguments have `--tls-auth-clients yes`.
    #[must_use]
    pub fn tls(mut self, files: &TlsFiles) -> Self {
        self.tls = Some(files.clone());
        self
    }

    /// The very same server program as another one's.
    pub(super) fn binary(mut self, binary: &Path) -> Self {
        self.binary = Some(binary.to_owned());
        self
    }

    /// A node of a cluster, with a free port for the bus.
    pub(super) fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// Starts it, or gives `None` after a `SKIP` line where this flavour is not
    /// installed.
    ///
    /// # Errors
    /// [`Error::Ended`] with its output when it does not start.
    ///
    /// # Panics
    /// Where Valkey is asked for and not installed and `SHEAF_REQUIRE_SERVERS`
    /// is `1`. Redis is optional.
    pub fn start(self) -> Result<Option<Valkey>, Error> {
        let binary = self.binary.clone().or_else(|| self.flavour.binary());
        binary.map(|binary| self.launch(binary)).transpose()
    }

    /// Starts this program.
    pub(super) fn launch(self, binary: PathBuf) -> Result<Valkey, Error> {
        again_if_taken(|| self.launch_once(&binary))
    }

    fn launch_once(&self, binary: &PathBuf) -> Result<Valkey, Error> {
        let data = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
        // All are held before the first is given up, so that they differ.
        let plain = free_port()?;
        let tls = self.tls.as_ref().map(|_| free_port()).transpose()?;
        let bus = self.cluster.then(free_port).transpose()?;
        let addr = plain.release();
        let tls_addr = tls.map(crate::ReservedPort::release);
        let bus_addr = bus.map(crate::ReservedPort::release);
        let mut args = base(addr, data.path());
        if let (Some(addr), Some(files)) = (tls_addr, &self.tls) {
            args.extend(files.server_args(addr));
        }
        if let Some(bus) = bus_addr {
            let port = bus.port().to_string();
            args.extend(["--cluster-enabled", "yes", "--cluster-port", &port].map(str::to_owned));
        }
        args.extend(self.args.iter().cloned());
        let process = launch(binary, &args)?;
        Ok(Valkey {
            process,
            addr,
            tls_addr,
            bus_addr,
            flavour: self.flavour,
            binary: binary.clone(),
            password: password(&self.args),
            args,
            _data: data,
        })
    }
}

fn base(addr: SocketAddr, data: &Path) -> Vec<String> {
    let (ip, port) = (addr.ip().to_string(), addr.port().to_string());
    let fixed = ["--save", "", "--appendonly", "no", "--daemonize", "no"];
    // A replica would otherwise wait 5 s in case that more come.
    let quick = ["--protected-mode", "no", "--repl-diskless-sync-delay", "0"];
    let here = ["--bind", &ip, "--port", &port, "--dir"];
    let args = here.into_iter().map(str::to_owned).chain([data.to_string_lossy().into_owned()]);
    args.chain(fixed.into_iter().chain(quick).map(str::to_owned)).collect()
}

/// The password that these arguments ask for, if they do.
pub(super) fn password<A: AsRef<str>>(args: &[A]) -> Option<String> {
    let mut pairs = args.windows(2).rev();
    let last = pairs.find(|pair| pair[0].as_ref() == "--requirepass")?;
    Some(last[1].as_ref().to_owned()).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_password_counts_and_an_empty_one_is_none() {
        assert_eq!(password(&["--requirepass", "a", "--requirepass", "b"]).as_deref(), Some("b"));
        assert_eq!(password(&["--requirepass", ""]), None);
        assert_eq!(password(&["--save", "", "--masterauth", "a"]), None);
        assert_eq!(password::<&str>(&[]), None);
    }
}
