//! A real Kafka-compatible broker.

mod probe;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use crate::port::again_if_taken;
use crate::services::{TEST_KAFKA, kafka_binary, named_kafka};
use crate::{Error, FaultProxy, Process, free_port, wait_for};

pub use probe::ApiVersion;

/// How long the broker may take to be up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may take to end when it is asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// A Kafka broker for a test: one of its own on a free port of 127.0.0.1, gone
/// when dropped, or the one that `SHEAF_TEST_KAFKA=host:port` names.
///
/// Its own one (Tansu) keeps everything in memory: [`KafkaBroker::kill9`] loses
/// all topics and messages. It does not know KIP-848's groups. A named
/// one is shared by tests, so topics and groups need names of their own, and is
/// neither killed nor restarted.
#[derive(Debug)]
pub struct KafkaBroker {
    addr: SocketAddr,
    bootstrap: String,
    /// None where the broker is somebody else's.
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    process: Process,
    binary: PathBuf,
    /// What it tells clients of where it is.
    advertised: SocketAddr,
}

impl KafkaBroker {
    /// The broker that `SHEAF_TEST_KAFKA` names, else a new one; `None`, after
    /// a `SKIP` line, where none is installed.
    ///
    /// # Errors
    /// - [`Error::Ended`] with its output when it does not start.
    /// - [`Error::TimedOut`] when it does not answer within 30 s.
    /// - [`Error::Io`] when the named one cannot be resolved.
    ///
    /// # Panics
    /// Where there is none and `SHEAF_REQUIRE_SERVERS` is `1`.
    pub fn start() -> Result<Option<KafkaBroker>, Error> {
        match named_kafka() {
            Some(bootstrap) => Self::named(bootstrap).map(Some),
            None => Self::start_own(),
        }
    }

    /// A new one whatever `SHEAF_TEST_KAFKA` says, for tests that kill it.
    ///
    /// # Errors
    /// As [`KafkaBroker::start`].
    ///
    /// # Panics
    /// As [`KafkaBroker::start`].
    pub fn start_own() -> Result<Option<KafkaBroker>, Error> {
        let Some(binary) = kafka_binary() else { return Ok(None) };
        again_if_taken(|| {
            let addr = free_port()?.release();
            let process = launch(&binary, addr, addr)?;
            let own = Some(Own { process, binary: binary.clone(), advertised: addr });
            Ok(Some(KafkaBroker { addr, bootstrap: addr.to_string(), own }))
        })
    }

    /// A new one whose clients come to it through this proxy: the broker gives them
    /// no other address.
    ///
    /// # Errors
    /// As [`KafkaBroker::start`].
    ///
    /// # Panics
    /// As [`KafkaBroker::start`].
    pub fn start_behind_proxy() -> Result<Option<(KafkaBroker, FaultProxy)>, Error> {
        let Some(binary) = kafka_binary() else { return Ok(None) };
        again_if_taken(|| {
            let addr = free_port()?.release();
            let proxy = FaultProxy::start(addr)?;
            let advertised = proxy.addr();
            let process = launch(&binary, addr, advertised)?;
            let own = Some(Own { process, binary: binary.clone(), advertised });
            let broker = KafkaBroker { addr, bootstrap: advertised.to_string(), own };
            Ok(Some((broker, proxy)))
        })
    }

    fn named(bootstrap: String) -> Result<KafkaBroker, Error> {
        let what = format!("resolve {bootstrap:?} of {TEST_KAFKA}: write host:port");
        let nothing = || io::Error::from(io::ErrorKind::NotFound);
        let found = bootstrap.to_socket_addrs().and_then(|mut all| all.next().ok_or_else(nothing));
        let addr = found.map_err(Error::io(what))?;
        let what = format!("the broker {bootstrap} of {TEST_KAFKA} to answer");
        wait_for(START_TIMEOUT, &what, || probe::api_versions(addr).ok())?;
        Ok(KafkaBroker { addr, bootstrap, own: None })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where clients find it, as `bootstrap.servers` takes it.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Whether it is the test's own, to be killed and restarted.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// The process, to pause or to read the output of; `None` of a named one.
    pub fn process(&mut self) -> Option<&mut Process> {
        self.own.as_mut().map(|own| &mut own.process)
    }

    /// What it can do: the requests that it knows, by key.
    ///
    /// # Errors
    /// [`Error::Io`] when it does not answer within 5 s, or not as Kafka does.
    pub fn api_versions(&self) -> Result<Vec<ApiVersion>, Error> {
        probe::api_versions(self.addr)
    }

    /// Kills it as a crash would; its port stays its own.
    ///
    /// # Errors
    /// As [`Process::kill9`]; [`Error::Io`] where it is not the test's own.
    pub fn kill9(&mut self) -> Result<ExitStatus, Error> {
        self.own("kill")?.process.kill9()
    }

    /// Asks it to end and waits for that.
    ///
    /// # Errors
    /// As [`Process::terminate`]; [`Error::Io`] where it is not the test's own.
    pub fn stop(&mut self) -> Result<ExitStatus, Error> {
        self.own("stop")?.process.terminate(STOP_TIMEOUT)
    }

    /// Starts it again on the same port, without a topic; kills it before if
    /// it runs.
    ///
    /// # Errors
    /// As [`KafkaBroker::start`]; [`Error::Io`] where it is not the test's own.
    pub fn restart(&mut self) -> Result<(), Error> {
        let addr = self.addr;
        let own = self.own("restart")?;
        own.process.kill9()?;
        own.process = launch(&own.binary, addr, own.advertised)?;
        Ok(())
    }

    fn own(&mut self, what: &str) -> Result<&mut Own, Error> {
        let refused = Error::io(format!("{what} the broker of {TEST_KAFKA}: it is not the test's"));
        self.own.as_mut().ok_or_else(|| refused(io::ErrorKind::PermissionDenied.into()))
    }
}

/// Starts it and waits until it answers a request.
fn launch(binary: &Path, addr: SocketAddr, advertised: SocketAddr) -> Result<Process, Error> {
    let [url, advertised] = [addr, advertised].map(|addr| format!("tcp://{addr}"));
    let mut process = Process::command(binary)
        .args(["broker", "--listener-url", &url, "--advertised-listener-url", &advertised])
        .args(["--storage-engine", "memory://tansu/"])
        .spawn()?;
    // Its own line first: on a port that another has taken, that one answers.
    process.wait_for_line(START_TIMEOUT, |line| line.starts_with("ready in").then_some(()))?;
    let answered = wait_for(START_TIMEOUT, "the broker to answer", || {
        match process.try_exit() {
            // Its output, as the error of a line that will not come.
            Ok(Some(_)) => Some(process.wait_for_line(START_TIMEOUT, |_| None::<()>)),
            Ok(None) => probe::api_versions(addr).ok().map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        }
    });
    answered.and_then(|answered| answered).map(|()| process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_broker_is_used_and_left_alone() {
        let Some(own) = KafkaBroker::start_own().unwrap() else { return };
        let name = format!("localhost:{}", own.addr().port());
        let mut named = KafkaBroker::named(name.clone()).unwrap();
        assert_eq!((named.bootstrap(), named.is_own()), (name.as_str(), false));
        assert_eq!(named.api_versions().unwrap(), own.api_versions().unwrap());
        assert!(named.process().is_none());
        for refused in [named.kill9().map(drop), named.stop().map(drop), named.restart()] {
            let text = refused.unwrap_err().to_string();
            assert!(
                text.ends_with("the broker of SHEAF_TEST_KAFKA: it is not the test's"),
                "{text}"
            );
        }
        drop(named);
        assert!(own.api_versions().is_ok());
        let error = KafkaBroker::named("no port".into()).unwrap_err().to_string();
        assert!(error.contains("write host:port"), "{error}");
    }
}
