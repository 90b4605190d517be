//! The one Valkey of the comparison, and what it says about its own work.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use sheaf_testkit::{Process, Valkey};

use crate::error::{Error, Result};

/// Said in the conditions; the arguments are testkit's own.
pub(super) const PERSISTENCE: &str = "--save \"\" --appendonly no, on every side";

/// A Valkey with a connection of ours.
pub(super) struct Server {
    valkey: Valkey,
    connection: BufReader<TcpStream>,
}

/// What the server had done up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Usage {
    /// CPU time of its main thread, which runs commands, scripts and sockets.
    pub(super) cpu_us: f64,
    /// How often it read from a client's socket: a round trip of what the
    /// client sent at once. Its count of commands would count those in scripts.
    pub(super) reads: f64,
}

impl Usage {
    pub(super) fn since(self, before: Usage) -> Usage {
        Usage { cpu_us: self.cpu_us - before.cpu_us, reads: self.reads - before.reads }
    }

    fn parse(info: &str) -> Result<Self> {
        let field = |name| field(info, name);
        let seconds = field("used_cpu_user_main_thread")? + field("used_cpu_sys_main_thread")?;
        Ok(Usage { cpu_us: seconds * 1e6, reads: field("total_reads_processed")? })
    }
}

fn field(info: &str, name: &str) -> Result<f64> {
    let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value
        .and_then(|value| value.trim().parse().ok())
        .ok_or_else(|| Error::Message(format!("INFO of Valkey has no number {name}")))
}

impl Server {
    pub(super) fn start() -> Result<Self> {
        let valkey = Valkey::start(&[])?.ok_or_else(|| {
            Error::Message("there is no Valkey: run `cargo xtask services valkey`".into())
        })?;
        let stream = TcpStream::connect(valkey.addr()).map_err(Error::io("connect to Valkey"))?;
        Ok(Server { valkey, connection: BufReader::new(stream) })
    }

    pub(super) fn port(&self) -> u16 {
        self.valkey.addr().port()
    }

    pub(super) fn process(&mut self) -> &mut Process {
        self.valkey.process()
    }

    /// Forgets all keys and counts: every run begins alike.
    pub(super) fn reset(&mut self) -> Result<()> {
        self.call(&["FLUSHALL", "SYNC"])?;
        self.call(&["CONFIG", "RESETSTAT"]).map(drop)
    }

    /// Bytes that its allocator gave out.
    pub(super) fn used_memory(&mut self) -> Result<f64> {
        let info = self.call(&["INFO", "memory"])?;
        field(&info, "used_memory")
    }

    pub(super) fn usage(&mut self) -> Result<Usage> {
        Usage::parse(&self.call(&["INFO", "everything"])?)
    }

    fn call(&mut self, words: &[&str]) -> Result<String> {
        let failed = || format!("ask Valkey for {}", words.join(" "));
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let stream = self.connection.get_mut();
        stream.write_all(request.as_bytes()).map_err(Error::io(failed()))?;
        let mut line = String::new();
        self.connection.read_line(&mut line).map_err(Error::io(failed()))?;
        let line = line.trim_end();
        if let Some(size) = line.strip_prefix('$').and_then(|size| size.parse::<usize>().ok()) {
            let mut text = vec![0; size + "\r\n".len()];
            self.connection.read_exact(&mut text).map_err(Error::io(failed()))?;
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
        if line.starts_with('+') {
            return Ok(line.to_owned());
        }
        Err(Error::Message(format!("cannot {}: it answers {line:?}", failed())))
    }
}

#[cfg(test)]
mod tests {
    use super::Usage;

    #[test]
    fn usage_is_of_the_main_thread_and_in_microseconds() {
        let info = "used_cpu_user:9.0\r\nused_cpu_sys_main_thread:0.250000\r\n\
                    used_cpu_user_main_thread:1.500000\r\ntotal_reads_processed:42\r\n";
        let usage = Usage::parse(info).unwrap();
        assert_eq!(usage, Usage { cpu_us: 1_750_000.0, reads: 42.0 });
        assert_eq!(usage.since(usage), Usage::default());
        let error = Usage::parse("total_reads_processed:42").unwrap_err().to_string();
        assert!(error.contains("used_cpu_user_main_thread"), "{error}");
    }
}
