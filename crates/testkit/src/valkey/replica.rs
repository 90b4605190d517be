//! Replicas: servers that follow another.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Valkey, client, with_output};
use crate::{Error, wait_until};

/// How long a replica may take to have everything.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

impl Valkey {
    /// Starts a replica of a server, of the same flavour and with the same
    /// password, and waits until it has everything.
    ///
    /// # Errors
    /// - [`Error::Ended`] with its output when it does not start.
    /// - [`Error::TimedOut`] with its output when it does not get the data.
    pub fn start_replica_of(primary: &Valkey, args: &[&str]) -> Result<Valkey, Error> {
        let (ip, port) = (primary.addr().ip().to_string(), primary.addr().port().to_string());
        let mut options = Valkey::options(primary.flavour).binary(&primary.binary).args(&[
            "--replicaof",
            &ip,
            &port,
        ]);
        if let Some(password) = &primary.password {
            options = options.args(&["--masterauth", password, "--requirepass", password]);
        }
        let replica = options.args(args).launch(primary.binary.clone())?;
        replica.wait_for_sync(primary.addr(), SYNC_TIMEOUT)?;
        Ok(replica)
    }

    /// Waits until it follows the server at this address and has its data.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with its output.
    pub fn wait_for_sync(&self, primary: SocketAddr, timeout: Duration) -> Result<(), Error> {
        let what = format!("{} to follow {primary}", self.addr());
        let waited = wait_until(timeout, &what, || self.follows() == Some(primary));
        waited.map_err(|error| with_output(error, [&self.process]))
    }

    /// Makes a primary of a replica (`REPLICAOF NO ONE`).
    ///
    /// # Errors
    /// As [`Valkey::command`].
    pub fn promote(&mut self) -> Result<(), Error> {
        self.command(&["REPLICAOF", "NO", "ONE"]).map(drop)
    }

    /// Whose data it has, if it is a replica and its link is up.
    pub(super) fn follows(&self) -> Option<SocketAddr> {
        let info = client::info(&self.ask(&["INFO", "replication"])?);
        if info.get("master_link_status")? != "up" {
            return None;
        }
        format!("{}:{}", info.get("master_host")?, info.get("master_port")?).parse().ok()
    }

    /// Whether it takes itself for a primary; `None` where it cannot be asked.
    pub(super) fn is_primary(&self) -> Option<bool> {
        Some(client::info(&self.ask(&["INFO", "replication"])?).get("role")? == "master")
    }
}
