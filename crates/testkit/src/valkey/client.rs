//! A small blocking client for what tests ask of a server.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::reply::{self, Reply};
use crate::Error;

/// How long an answer may take before a test counts as hanging.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The same for one look of many.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// One plain connection to a server, for commands that belong together:
/// transactions, `WAIT`, `CLIENT` settings, blocking ones.
#[derive(Debug)]
pub struct ValkeyConnection {
    addr: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl ValkeyConnection {
    /// Connects and, where there is a password, logs in with it.
    ///
    /// # Errors
    /// - [`Error::Io`] when nobody listens there.
    /// - [`Error::Refused`] when the password is wrong.
    pub fn open(addr: SocketAddr, password: Option<&str>) -> Result<Self, Error> {
        Self::open_within(addr, password, TIMEOUT)
    }

    /// [`ValkeyConnection::open`] for a server that may stand still.
    pub(super) fn open_within(
        addr: SocketAddr,
        password: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let connected = TcpStream::connect_timeout(&addr, timeout).and_then(|stream| {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(timeout))?;
            stream.set_write_timeout(Some(timeout))?;
            Ok(stream)
        });
        let stream = connected.map_err(Error::io(format!("connect to {addr}")))?;
        let mut connection = ValkeyConnection { addr, stream: BufReader::new(stream) };
        if let Some(password) = password {
            connection.command(&["AUTH", password])?;
        }
        Ok(connection)
    }

    /// Sends a command and waits for its answer, 30 s at most.
    ///
    /// # Errors
    /// - [`Error::Refused`] when the answer is an error.
    /// - [`Error::Io`] when there is none; the connection is of no use then.
    pub fn command(&mut self, command: &[&str]) -> Result<Reply, Error> {
        let sent = self.stream.get_mut().write_all(&reply::encode(command));
        let read = sent.and_then(|()| reply::read(&mut self.stream));
        // Arguments stay out of messages: passwords are among them.
        let name = || command.first().copied().unwrap_or_default().to_owned();
        match read.map_err(Error::io(format!("ask {} for {}", self.addr, name())))? {
            Reply::Error(message) => {
                Err(Error::Refused { addr: self.addr, command: name(), message })
            }
            reply => Ok(reply),
        }
    }
}

/// What a server answers while something is waited for: nothing counts as much
/// as an error, and one that stands still does not hold the others up for long.
pub(super) fn ask(addr: SocketAddr, password: Option<&str>, command: &[&str]) -> Option<Reply> {
    let opened = ValkeyConnection::open_within(addr, password, LOOK_TIMEOUT);
    opened.and_then(|mut connection| connection.command(command)).ok()
}

/// What a server has spent on one command since it started or since
/// `CONFIG RESETSTAT`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandStats {
    /// How often it was called, refused calls apart.
    pub calls: u64,
    /// Server time of all calls together, in microseconds.
    pub usec: u64,
    /// Calls that ended with an error.
    pub failed_calls: u64,
    /// Calls that were refused before they ran.
    pub rejected_calls: u64,
}

impl CommandStats {
    /// Of `calls=3,usec=12,usec_per_call=4.00,rejected_calls=0,failed_calls=0`.
    fn parse(value: &str) -> Self {
        let mut stats = CommandStats::default();
        for (name, number) in value.split(',').filter_map(|field| field.split_once('=')) {
            let number = number.parse().unwrap_or_default();
            match name {
                "calls" => stats.calls = number,
                "usec" => stats.usec = number,
                "failed_calls" => stats.failed_calls = number,
                "rejected_calls" => stats.rejected_calls = number,
                _ => {}
            }
        }
        stats
    }
}

/// The fields of an `INFO` answer.
pub(super) fn info(reply: &Reply) -> BTreeMap<String, String> {
    let lines = reply.text().unwrap_or_default().lines();
    let pairs = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The fields of `INFO commandstats` by command, such as `evalsha` and
/// `client|list`.
pub(super) fn command_stats(info: &BTreeMap<String, String>) -> BTreeMap<String, CommandStats> {
    let named =
        info.iter().filter_map(|(name, value)| Some((name.strip_prefix("cmdstat_")?, value)));
    named.map(|(name, value)| (name.to_owned(), CommandStats::parse(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_by_command() {
        let text = "# Commandstats\r\ncmdstat_get:calls=3,usec=12,usec_per_call=4.00,\
                    rejected_calls=1,failed_calls=2\r\ncmdstat_client|id:calls=1,usec=9\r\n";
        let stats = command_stats(&info(&Reply::Bulk(text.into())));
        let get = CommandStats { calls: 3, usec: 12, failed_calls: 2, rejected_calls: 1 };
        assert_eq!(stats["get"], get);
        assert_eq!(stats["client|id"].usec, 9);
        assert_eq!(stats.len(), 2);
    }
}
