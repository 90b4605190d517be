//! The keeper: a small process beside each instance, its parent.
//!
//! It writes the log of the instance, says how it ended, and ends everything that the
//! instance has started, whoever else ends: it outlives a control plane that is to be
//! replaced, and takes the instance with it where it was told to. Its orders come on standard
//! input, which is a socket; signals say the rest:
//!
//! | signal | what it does |
//! |---|---|
//! | `SIGTERM` | passes it on to the instance |
//! | `SIGHUP` | kills the instance and all that it has started |

mod become_it;
mod family;
mod pump;

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, WaitIdStatus};
use serde::{Deserialize, Serialize};
use sheaf_retry::SharedClock;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::signal::unix::{SignalKind, signal};

pub use become_it::{BecomeArgs, become_component};

use super::files::{EndRecord, Files, LaunchRecord};
use super::identity::Identity;
use super::limits::Bounds;
use super::logs::{LogLimits, LogWriter};
use crate::driver::LaunchId;

/// Bytes of the orders.
const MAX_ORDERS: u64 = 4 << 20;

/// What a keeper is told.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Orders {
    pub(super) place: String,
    pub(super) attempt: u64,
    pub(super) instance: String,
    pub(super) command: Vec<String>,
    /// On top of its own environment. It has secrets: it goes through the socket only.
    pub(super) environment: Vec<(String, String)>,
    pub(super) folder: PathBuf,
    pub(super) log: LogLimits,
    /// Whether the instance ends when the socket does.
    pub(super) leash: bool,
    /// Whether its standard output is that of the keeper.
    pub(super) prints: bool,
    pub(super) bounds: Bounds,
}

/// What a keeper says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Answer {
    /// It runs.
    Started {
        /// Of the launch.
        record: LaunchRecord,
    },
    /// It does not.
    Failed {
        /// For people.
        why: String,
    },
}

/// Runs a keeper to its end, which is that of its instance. For a process of its own: the
/// process driver starts one for each instance, with a socket as standard input.
///
/// # Errors
/// Where it cannot read its orders or has no socket. What goes wrong with the instance is
/// told to the driver.
pub fn keep(clock: SharedClock) -> io::Result<()> {
    // One thread: the kernel ends the instance with the thread that started it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kept = runtime.block_on(serve(clock));
    runtime.shutdown_background();
    kept
}

async fn serve(clock: SharedClock) -> io::Result<()> {
    let socket = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    socket.set_nonblocking(true)?;
    let (reading, mut writing) = UnixStream::from_std(socket)?.into_split();
    let mut reading = BufReader::new(reading);
    let mut line = Vec::new();
    (&mut reading).take(MAX_ORDERS).read_until(b'\n', &mut line).await?;
    let orders: Orders = serde_json::from_slice(&line)?;
    let files = Files::at(orders.folder.clone());
    let log = LogWriter::open(files.log(), orders.instance.clone(), orders.log, clock.clone())?;
    let mut kept = match Kept::start(orders, files, log) {
        Ok(kept) => kept,
        Err(why) => return say(&mut writing, &Answer::Failed { why }).await,
    };
    let answer = Answer::Started { record: kept.record.clone() };
    // Whoever asked may have gone: then its end of the socket says so.
    drop(say(&mut writing, &answer).await);
    kept.watch(reading).await?;
    kept.finish(&clock).await
}

async fn say(writing: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    writing.write_all(&line).await
}

/// An instance that is kept.
struct Kept {
    orders: Orders,
    files: Files,
    record: LaunchRecord,
    log: Arc<Mutex<LogWriter>>,
    pumps: Vec<tokio::task::JoinHandle<()>>,
    /// Why it was killed from here, if it was.
    killed: Option<&'static str>,
    children: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    kill: tokio::signal::unix::Signal,
}

impl Kept {
    fn start(orders: Orders, files: Files, log: LogWriter) -> Result<Self, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        family::adopt_orphans().map_err(|error| said(&error))?;
        // Before the instance is there: its end is not missed.
        let listen = |kind| signal(kind).map_err(|error| said(&error));
        let children = listen(SignalKind::child())?;
        let terminate = listen(SignalKind::terminate())?;
        let kill = listen(SignalKind::hangup())?;
        let (mut child, record) = spawn(&orders, &files)?;
        let log = Arc::new(Mutex::new(log));
        let pumps = pump::start(&mut child, &log).map_err(|error| said(&error))?;
        Ok(Kept { orders, files, record, log, pumps, killed: None, children, terminate, kill })
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.record.component.pid)
    }

    /// Until the instance has ended.
    async fn watch(&mut self, mut leash: BufReader<OwnedReadHalf>) -> io::Result<()> {
        let mut holds = self.orders.leash;
        let mut byte = [0_u8; 1];
        loop {
            tokio::select! {
                _ = self.children.recv() => {
                    if family::has_ended(self.pid())? {
                        return Ok(());
                    }
                    family::reap_others(self.pid());
                }
                _ = self.terminate.recv() => family::signal(self.pid(), Signal::TERM),
                _ = self.kill.recv() => self.kill("killed: it did not end in time"),
                read = leash.read(&mut byte), if holds => {
                    if !matches!(read, Ok(count) if count > 0) {
                        holds = false;
                        self.kill("ended with the process that had started it");
                    }
                }
            }
        }
    }

    fn kill(&mut self, why: &'static str) {
        self.killed.get_or_insert(why);
        family::kill_group(self.pid());
    }

    /// Ends what the instance has left behind, and says how it ended.
    async fn finish(mut self, clock: &SharedClock) -> io::Result<()> {
        // Not waited for yet: until here its number is that of its group.
        family::kill_group(self.pid());
        let status = family::wait_for(self.pid())?;
        family::end_orphans(clock).await;
        for pump in &mut self.pumps {
            // What holds the pipe open has been killed.
            let limit = clock.sleep(pump::REST);
            tokio::select! {
                _ = pump => {}
                () = limit => {}
            }
        }
        let (success, why) = self.ending(status);
        self.orders.bounds.release();
        self.files.write_end(&EndRecord::new(self.orders.attempt, success, why))
    }

    fn ending(&self, status: Option<WaitIdStatus>) -> (bool, String) {
        if let Ok(why) = std::fs::read_to_string(self.files.failure())
            && !why.is_empty()
        {
            return (false, why);
        }
        if let Some(killed) = self.killed {
            return (false, killed.to_owned());
        }
        if let Some(limit) = self.orders.bounds.exceeded() {
            return (false, limit);
        }
        let last = self.log.lock().map(|log| log.last_error().to_owned()).unwrap_or_default();
        ending(status, &last)
    }
}

/// How it ended, with the last that it said where that is a failure.
fn ending(status: Option<WaitIdStatus>, last: &str) -> (bool, String) {
    let Some(status) = status else { return (false, "its end was not seen".to_owned()) };
    let mut why = match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => return (true, "exit status 0".to_owned()),
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(number)) => format!("killed by signal {number}{}", signal_name(number)),
        _ => "it ended in an unknown way".to_owned(),
    };
    if !last.is_empty() {
        why = format!("{why}: {}", cut(last));
    }
    (false, why)
}

/// Where it is long, as much as fits into the registry.
fn cut(text: &str) -> String {
    const MOST: usize = 300;
    let plain: String = text.chars().filter(|c| !c.is_control()).take(MOST).collect();
    match text.chars().count() > MOST {
        true => format!("{plain}…"),
        false => plain,
    }
}

fn signal_name(number: i32) -> &'static str {
    match number {
        1 => " (HUP)",
        2 => " (INT)",
        3 => " (QUIT)",
        4 => " (ILL)",
        6 => " (ABRT)",
        7 => " (BUS)",
        8 => " (FPE)",
        9 => " (KILL)",
        11 => " (SEGV)",
        13 => " (PIPE)",
        15 => " (TERM)",
        24 => " (XCPU)",
        31 => " (SYS)",
        _ => "",
    }
}

/// Starts the instance as a group of its own.
fn spawn(orders: &Orders, files: &Files) -> Result<(Child, LaunchRecord), String> {
    let said = |error: io::Error| error.to_string();
    let own = i32::try_from(std::process::id()).map_err(|error| error.to_string())?;
    let keeper = Identity::of(own).map_err(said)?;
    let mut command = Command::new(Path::new("/proc/self/exe"));
    command.args(BecomeArgs::words(own, &files.failure(), &orders.bounds, &orders.command));
    command.envs(orders.environment.iter().map(|(name, value)| (name, value)));
    let output = if orders.prints { Stdio::inherit() } else { Stdio::piped() };
    command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(Stdio::piped());
    let child = command.spawn().map_err(said)?;
    let pid = i32::try_from(child.id()).map_err(|error| error.to_string())?;
    let component = Identity::of(pid).map_err(said)?;
    let id = LaunchId { place: orders.place.clone(), attempt: orders.attempt };
    let record = LaunchRecord::new(&id, keeper, component);
    if let Err(error) = files.write_launch(&record) {
        family::kill_group(Pid::from_raw(pid));
        return Err(format!("its record cannot be written: {error}"));
    }
    Ok((child, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_last_words_are_cut_and_control_characters_left_out() {
        assert_eq!(cut("a\tb"), "ab");
        let long = "é".repeat(400);
        assert_eq!(cut(&long).chars().count(), 301);
        assert!(cut(&long).ends_with('…'));
    }
}
