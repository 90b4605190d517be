//! Our side: the binary itself, watched by its own metrics.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use sheaf_testkit::Process;

use super::Measured;
use crate::error::{Error, Result};
use crate::process::{cpu_seconds, explain};

/// How long a gateway may take to be up.
const START: Duration = Duration::from_secs(60);
/// From one look to the next while nothing came, and at the end.
const LOOK: Duration = Duration::from_millis(10);
/// The same between: each look costs the gateway time that is measured.
const LOOK_BETWEEN: Duration = Duration::from_millis(200);
/// How long all messages may take, with the group that comes together before.
const PATIENCE: Duration = Duration::from_secs(120);

/// A gateway that reads one topic.
pub(super) struct Gateway {
    process: Process,
    metrics: String,
}

/// What was seen at a look.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    cpu_seconds: f64,
    messages: u64,
    rows: u64,
}

impl Look {
    /// When to look again: often at the end, so that it is known when that was.
    fn until_next(&self, last: &Look, count: u64) -> Duration {
        if last.rows == 0 {
            return LOOK;
        }
        let left = count.saturating_sub(last.rows) as f64 / last.rows as f64;
        (last.at - self.at).mul_f64(left / 2.0).clamp(LOOK, LOOK_BETWEEN)
    }
}

impl Gateway {
    pub(super) fn start(program: &Path, cores: Option<&str>, arguments: &[&str]) -> Result<Self> {
        let mut command = Process::command(program)
            .args(["serve", "--port", "0", "--metrics", "--metrics-addr", "127.0.0.1:0"])
            // Nothing reads the rows, and they stay.
            .args(["--buffer-limit", "3GB", "--memory-limit", "4GB", "--ttl", "10m"])
            // The broker lets the first member of a group wait for half of it.
            .args(["--kafka-option", "session.timeout.ms=6000"])
            .args(arguments);
        if let Some(cores) = cores {
            command = command.on_cores(cores);
        }
        let mut process = command.spawn()?;
        let ready = process.wait_ready(START)?;
        let metrics = ready
            .url("metrics")
            .and_then(|url| url.strip_prefix("http://"))
            .ok_or_else(|| Error::Message("the ready line names no `metrics`".into()))?;
        let metrics = metrics.trim_end_matches('/').to_owned();
        Ok(Gateway { process, metrics })
    }

    /// Waits until `count` rows are in the stream of a topic.
    pub(super) fn measure(mut self, topic: &str, count: u64) -> Result<Measured> {
        let deadline = Instant::now() + PATIENCE;
        let mut first = self.look(topic)?;
        loop {
            let last = self.look(topic)?;
            if last.messages == 0 {
                first = last;
            }
            if last.rows >= count {
                self.check(topic, count)?;
                return Ok(Measured {
                    messages: count as f64,
                    seconds: (last.at - first.at).as_secs_f64(),
                    cpu_seconds: last.cpu_seconds - first.cpu_seconds,
                });
            }
            if Instant::now() > deadline {
                let problem = format!("the gateway has {} rows of {count}", last.rows);
                return Err(explain(&problem, &mut [&mut self.process]));
            }
            std::thread::sleep(first.until_next(&last, count));
        }
    }

    /// That each message became one row.
    fn check(&self, topic: &str, count: u64) -> Result<()> {
        let text = self.scrape()?;
        let value = |name: &str| value(&text, name, topic);
        let (rows, dead) = (value("stream_records_processed"), value("dead_letters"));
        let gone = value("stream_records_dropped") + value("stream_records_expired");
        if (rows, dead, gone) == (count, 0, 0) {
            return Ok(());
        }
        Err(Error::Message(format!(
            "of {count} messages the gateway made {rows} rows, {dead} dead letters, and let {gone} \
             rows go"
        )))
    }

    fn look(&self, topic: &str) -> Result<Look> {
        let text = self.scrape()?;
        Ok(Look {
            at: Instant::now(),
            cpu_seconds: cpu_seconds(&[self.process.pid().to_string()])?,
            messages: value(&text, "kafka_messages", topic),
            rows: value(&text, "stream_records_processed", topic),
        })
    }

    fn scrape(&self) -> Result<String> {
        let failed = || format!("read the metrics of the gateway at {}", self.metrics);
        let mut connection = TcpStream::connect(&self.metrics).map_err(Error::io(failed()))?;
        connection.set_read_timeout(Some(START)).map_err(Error::io(failed()))?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.metrics);
        connection.write_all(request.as_bytes()).map_err(Error::io(failed()))?;
        let mut text = String::new();
        connection.read_to_string(&mut text).map_err(Error::io(failed()))?;
        if !text.starts_with("HTTP/1.1 200") {
            let answer = text.lines().next().unwrap_or_default();
            return Err(Error::Message(format!("the metrics answer {answer:?}")));
        }
        Ok(text)
    }
}

/// A counter of a topic; 0 as long as it is not there.
fn value(text: &str, name: &str, topic: &str) -> u64 {
    let start = format!("sheaf_{name}_total{{topic=\"{topic}\"}} ");
    let found = text.lines().find_map(|line| line.strip_prefix(&start));
    found.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_counter_is_that_of_its_topic() {
        let text = "sheaf_dead_letters_total{topic=\"json_1k\"} 3\r\n\
                    sheaf_dead_letters_total{topic=\"json\"} 71\n";
        assert_eq!(value(text, "dead_letters", "json"), 71);
        assert_eq!(value(text, "dead_letters", "json_1k"), 3);
        assert_eq!(value(text, "dead_letters", "avro"), 0);
    }
}
