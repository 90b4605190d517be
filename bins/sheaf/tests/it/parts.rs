//! The processes of a system, each started again as it was.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use sheaf_flight::{ChannelPool, ClientConfig, FlightConnection};
use sheaf_retry::SystemClock;
use sheaf_testkit::{Process, Ready, free_port};

use crate::harness::{PATIENCE, serve};

/// How a process is started with words.
pub(crate) type Launch = Arc<dyn Fn(&[&str]) -> Process + Send + Sync>;

/// A process that is started again as it was.
pub(crate) struct Part {
    pub(crate) words: Vec<String>,
    pub(crate) process: Process,
    /// Where it listens, once it does.
    pub(crate) at: Option<Ready>,
    launch: Launch,
}

impl Part {
    pub(crate) fn start(words: &[&str]) -> Self {
        Self::start_by(Arc::new(|words| serve(&[], words)), words)
    }

    pub(crate) fn start_by(launch: Launch, words: &[&str]) -> Self {
        let mut part = Self::launch(launch, words);
        part.ready();
        part
    }

    /// Does not wait until it listens.
    pub(crate) fn launch(launch: Launch, words: &[&str]) -> Self {
        let process = launch(words);
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        Part { words, process, at: None, launch }
    }

    fn spawn(&self) -> Process {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        (self.launch)(&words)
    }

    pub(crate) fn ready(&mut self) {
        match self.process.wait_ready(PATIENCE) {
            Ok(ready) => self.at = Some(ready),
            Err(error) => panic!("{error}\n{}", self.process.stderr()),
        }
    }

    /// Kills it with kill -9.
    pub(crate) fn stop(&mut self) {
        self.process.kill9().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        start_again(&mut [self]);
    }
}

/// Starts several that may need each other.
pub(crate) fn start_again(parts: &mut [&mut Part]) {
    for part in parts.iter_mut() {
        part.process = part.spawn();
    }
    parts.iter_mut().for_each(|part| part.ready());
}

pub(crate) fn data(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

pub(crate) fn uri(address: SocketAddr) -> String {
    format!("grpc://{address}")
}

pub(crate) fn connection(uri: &str) -> FlightConnection {
    let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
    pool.connection(uri).unwrap()
}

/// A coordinator, then two Flight servers behind it.
pub(crate) fn servers(folder: &Path) -> (Vec<Part>, [String; 3]) {
    servers_with(folder, &[])
}

/// As [`servers`], with more words for the Flight servers.
pub(crate) fn servers_with(folder: &Path, more: &[&str]) -> (Vec<Part>, [String; 3]) {
    let address = || free_port().unwrap().release();
    let (coordinator, flights) = (address(), [address(), address()]);
    let at = uri(coordinator);
    let words = ["--mode", "coordinator", "--data-dir", &data(folder, "coordinator")];
    let first = Part::start(&[&words[..], &["--flight-addr", &coordinator.to_string()]].concat());
    let mut parts = vec![first];
    for (number, flight) in flights.iter().enumerate() {
        let folder = data(folder, &format!("flight-{number}"));
        let words = ["--mode", "flight", "--coordinator", &at, "--data-dir", &folder];
        let address = flight.to_string();
        parts.push(Part::start(&[&words[..], &["--flight-addr", &address], more].concat()));
    }
    (parts, [at, uri(flights[0]), uri(flights[1])])
}
