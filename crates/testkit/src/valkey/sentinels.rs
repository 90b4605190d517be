//! A primary and its replica under three sentinels.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use super::options::password;
use super::{Flavour, Reply, START_TIMEOUT, Valkey, client, with_output};
use crate::port::again_if_taken;
use crate::{Error, Process, free_port, wait_for, wait_until};

const SENTINELS: usize = 3;
/// How many must agree that the primary is gone.
const QUORUM: usize = 2;
/// A sentinel connects anew to a server only once in a second, also to one that
/// it has just made the primary. With less than that here it now and then takes
/// the new primary for gone at once and fails over a second time.
const DOWN_AFTER_MS: u32 = 1_500;
const FAILOVER_TIMEOUT_MS: u32 = 2_000;
/// Sentinels tell each other about themselves every 2 s.
const FORM_TIMEOUT: Duration = Duration::from_secs(60);

/// One primary, one replica and three sentinels that watch over them, on free
/// ports of 127.0.0.1.
///
/// A server counts as gone after 1.5 s; another second or two later its replica
/// has taken over, or about 4 s after that when the sentinels' votes were split.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Valkey>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    process: Process,
    addr: SocketAddr,
    /// Its configuration, which it rewrites.
    _folder: TempDir,
}

impl Sentinels {
    /// What the sentinels call the primary.
    pub const NAME: &str = "sheaf";

    /// Starts all five, the two servers with these arguments too, and waits
    /// until every sentinel knows both servers and the other sentinels, and
    /// agrees on the primary. `None`, after a `SKIP` line, where the flavour is
    /// not installed.
    ///
    /// # Errors
    /// - [`Error::Ended`] with its output when one does not start.
    /// - [`Error::TimedOut`] with their output when they do not find together
    ///   within 60 s.
    ///
    /// # Panics
    /// As [`ValkeyOptions::start`](super::ValkeyOptions::start).
    pub fn start(flavour: Flavour, args: &[&str]) -> Result<Option<Sentinels>, Error> {
        let mut options = Valkey::options(flavour);
        if let Some(password) = password(args) {
            // For the time when it follows the other.
            options = options.args(&["--masterauth", &password]);
        }
        let Some(primary) = options.args(args).start()? else { return Ok(None) };
        let replica = Valkey::start_replica_of(&primary, args)?;
        let sentinels = (0..SENTINELS).map(|_| again_if_taken(|| Sentinel::start(&primary)));
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
        let mut all = Sentinels { servers: vec![primary, replica], sentinels };
        all.wait_until_whole(FORM_TIMEOUT)?;
        Ok(Some(all))
    }

    /// Where the sentinels listen.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(|sentinel| sentinel.addr).collect()
    }

    /// The process of a sentinel, of 0 to 2, to kill or to pause.
    pub fn sentinel(&mut self, number: usize) -> Option<&mut Process> {
        Some(&mut self.sentinels.get_mut(number)?.process)
    }

    /// The two servers, whichever is the primary, killed or not.
    pub fn servers(&self) -> &[Valkey] {
        &self.servers
    }

    /// The server at an address.
    pub fn server(&mut self, addr: SocketAddr) -> Option<&mut Valkey> {
        self.servers.iter_mut().find(|server| server.addr == addr)
    }

    /// The primary on which all running sentinels agree, once they do.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with everybody's output when they do not for 60 s.
    pub fn primary(&mut self) -> Result<SocketAddr, Error> {
        let running = self.running()?;
        let look = || self.agreed(&running);
        let found = wait_for(FORM_TIMEOUT, "the sentinels to agree on a primary", look);
        found.map_err(|error| self.explain(error))
    }

    /// Kills the primary as a crash would, and gives its address.
    ///
    /// # Errors
    /// As [`Sentinels::primary`] and [`Valkey::kill9`].
    pub fn kill_primary(&mut self) -> Result<SocketAddr, Error> {
        let primary = self.primary()?;
        self.server(primary).map(Valkey::kill9).transpose()?;
        Ok(primary)
    }

    /// Waits until all running sentinels agree on another primary than `from`,
    /// which takes itself for one too, and gives its address.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with everybody's output.
    pub fn wait_for_failover(
        &mut self,
        from: SocketAddr,
        timeout: Duration,
    ) -> Result<SocketAddr, Error> {
        let running = self.running()?;
        let look = || {
            let addr = self.agreed(&running).filter(|addr| *addr != from)?;
            let server = self.servers.iter().find(|server| server.addr == addr)?;
            (server.is_primary() == Some(true)).then_some(addr)
        };
        let found = wait_for(timeout, &format!("another primary than {from}"), look);
        found.map_err(|error| self.explain(error))
    }

    /// Waits until one server follows the other and every running sentinel sees
    /// it so: the next failover can begin. A primary that was killed, and then
    /// restarted ([`Sentinels::server`]), takes itself for the primary until the
    /// sentinels tell it otherwise, some 10 s later.
    ///
    /// # Errors
    /// [`Error::TimedOut`] with everybody's output.
    pub fn wait_until_whole(&mut self, timeout: Duration) -> Result<(), Error> {
        let running = self.running()?;
        let is_whole = || {
            let Some(primary) = self.agreed(&running) else { return false };
            let in_place = |server: &Valkey| match server.addr == primary {
                true => server.is_primary() == Some(true),
                false => server.follows() == Some(primary),
            };
            let knows = |number: &usize| self.sentinels[*number].knows_all(running.len());
            self.servers.iter().all(in_place) && running.iter().all(knows)
        };
        let waited = wait_until(timeout, "the sentinels to know everybody", is_whole);
        waited.map_err(|error| self.explain(error))
    }

    fn agreed(&self, running: &[usize]) -> Option<SocketAddr> {
        let mut said = running.iter().map(|number| self.sentinels[*number].primary());
        let first = said.next()??;
        said.all(|other| other == Some(first)).then_some(first)
    }

    fn running(&mut self) -> Result<Vec<usize>, Error> {
        let mut running = Vec::new();
        for (number, sentinel) in self.sentinels.iter_mut().enumerate() {
            if sentinel.process.try_exit()?.is_none() {
                running.push(number);
            }
        }
        Ok(running)
    }

    fn explain(&self, error: Error) -> Error {
        let servers = self.servers.iter().map(|server| &server.process);
        let sentinels = self.sentinels.iter().map(|sentinel| &sentinel.process);
        let processes: Vec<&Process> = servers.chain(sentinels).collect();
        with_output(error, processes)
    }
}

impl Sentinel {
    fn start(primary: &Valkey) -> Result<Self, Error> {
        let folder = tempfile::tempdir().map_err(Error::io("make a temporary folder"))?;
        let addr = free_port()?.release();
        let file = folder.path().join("sentinel.conf");
        let text = configuration(addr, folder.path(), primary);
        std::fs::write(&file, text).map_err(Error::io(format!("write {}", file.display())))?;
        let mut process = Process::command(&primary.binary)
            .arg(&file)
            .arg("--sentinel")
            .name(format!("sentinel-{}", addr.port()))
            .spawn()?;
        let is_up = |line: &str| line.contains("+monitor").then_some(());
        process.wait_for_line(START_TIMEOUT, is_up)?;
        Ok(Sentinel { process, addr, _folder: folder })
    }

    fn ask(&self, what: &str) -> Option<Reply> {
        client::ask(self.addr, None, &["SENTINEL", what, Sentinels::NAME])
    }

    fn primary(&self) -> Option<SocketAddr> {
        let reply = self.ask("GET-MASTER-ADDR-BY-NAME")?;
        let [ip, port] = reply.items() else { return None };
        Some(SocketAddr::new(ip.text()?.parse().ok()?, u16::try_from(port.integer()?).ok()?))
    }

    /// Whether it sees the primary, the replica and so many sentinels, all well.
    fn knows_all(&self, running: usize) -> bool {
        let (Some(primary), Some(replicas)) = (self.ask("MASTER"), self.ask("REPLICAS")) else {
            return false;
        };
        let is = |of: &Reply, name: &str, wanted: &str| {
            of.field(name).and_then(Reply::text) == Some(wanted)
        };
        let others = primary.field("num-other-sentinels").and_then(Reply::integer).unwrap_or(0);
        let well = |replica: &Reply| {
            is(replica, "flags", "slave") && is(replica, "master-link-status", "ok")
        };
        is(&primary, "flags", "master")
            && usize::try_from(others).is_ok_and(|others| others + 1 >= running)
            && replicas.items().len() == 1
            && replicas.items().iter().all(well)
    }
}

fn configuration(addr: SocketAddr, folder: &Path, primary: &Valkey) -> String {
    let (name, folder) = (Sentinels::NAME, folder.display());
    let password = primary.password.as_ref();
    let password = password.map(|p| format!("sentinel auth-pass {name} \"{p}\"\n"));
    format!(
        "bind {}\nport {}\ndir \"{folder}\"\nprotected-mode no\n\
         sentinel monitor {name} {} {} {QUORUM}\n\
         sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}\n\
         sentinel failover-timeout {name} {FAILOVER_TIMEOUT_MS}\n{}",
        addr.ip(),
        addr.port(),
        primary.addr.ip(),
        primary.addr.port(),
        password.unwrap_or_default(),
    )
}
