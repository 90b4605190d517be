//! A server that speaks S3.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::port::again_if_taken;
use crate::services::s3_packages;
use crate::{Error, Process, free_port, wait_for};

/// How long the server may take to be up: it imports much.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(10);

/// A server with buckets in memory (moto) on a free port of 127.0.0.1, gone when
/// dropped. It knows conditional writes (`If-None-Match: *`), and lets everybody in
/// until [`S3Server::require_login`].
#[derive(Debug)]
pub struct S3Server {
    addr: SocketAddr,
    _process: Process,
}

impl S3Server {
    /// A new one; `None`, after a `SKIP` line, where none is installed.
    ///
    /// # Errors
    /// - [`Error::Ended`] with its output when it does not start.
    /// - [`Error::TimedOut`] when it does not answer within a minute.
    ///
    /// # Panics
    /// Where there is none and `SHEAF_REQUIRE_SERVERS` is `1`.
    pub fn start() -> Result<Option<S3Server>, Error> {
        let Some((python, packages)) = s3_packages() else { return Ok(None) };
        again_if_taken(|| {
            let addr = free_port()?.release();
            let process = launch(&python, &packages, addr)?;
            Ok(Some(S3Server { addr, _process: process }))
        })
    }

    /// Its address, as `endpoint` of clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// [`Error::Io`] when it is refused.
    pub fn create_bucket(&self, name: &str) -> Result<(), Error> {
        self.post("PUT", &format!("/{name}"), "")
    }

    /// Lets nobody in from now on: it knows no login.
    ///
    /// # Errors
    /// [`Error::Io`] when it is refused.
    pub fn require_login(&self) -> Result<(), Error> {
        self.post("POST", "/moto-api/reset-auth", "0")
    }

    fn post(&self, method: &str, path: &str, body: &str) -> Result<(), Error> {
        let failed = Error::io(format!("{method} {}{path}", self.url()));
        let answer = ask(self.addr, method, path, body);
        match answer {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
            Ok(answer) => Err(failed(io::Error::other(answer))),
            Err(error) => Err(failed(error)),
        }
    }
}

fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n");
    write!(stream, "{head}content-length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Starts it and waits until it answers.
fn launch(python: &Path, packages: &PathBuf, addr: SocketAddr) -> Result<Process, Error> {
    let port = addr.port().to_string();
    let mut process = Process::command(python)
        .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port])
        .env("PYTHONPATH", packages)
        .spawn()?;
    let answered = wait_for(START_TIMEOUT, "the S3 server to answer", || {
        match process.try_exit() {
            // Its output, as the error of a line that will not come.
            Ok(Some(_)) => Some(process.wait_for_line(START_TIMEOUT, |_| None::<()>)),
            Ok(None) => ask(addr, "GET", "/", "").ok().map(|_| Ok(())),
            Err(error) => Some(Err(error)),
        }
    });
    answered.and_then(|answered| answered).map(|()| process)
}
