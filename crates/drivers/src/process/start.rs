//! From a launch to a process.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sheaf_dataflow::{ASSIGNMENT_VARIABLE, Assignment};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::files::{Files, LaunchRecord, write_private};
use super::keeper::{Answer, Orders};
use super::limits::Bounds;
use super::{Inner, failed, watch};
use crate::driver::{DriverError, Launch};

/// How long a keeper may take to say whether its instance runs.
const START_TIME: Duration = Duration::from_secs(30);
/// Bytes of what it says.
const MAX_ANSWER: u64 = 64 << 10;

pub(super) async fn start(inner: &Arc<Inner>, launch: Launch) -> Result<(), DriverError> {
    let what = format!("cannot start {}", launch.id.place);
    let id = launch.id.clone();
    let refused = |why: String| failed(what.clone(), why);
    if inner.find(&id).is_some() {
        return Err(refused("it runs already".to_owned()));
    }
    let files = inner.files(&id.place)?;
    let command = inner.options.programs.command(&launch.assignment.definition).map_err(refused)?;
    prepare(&files, &launch.assignment).map_err(|error| {
        refused(format!("{} cannot be prepared: {error}", files.folder().display()))
    })?;
    let orders = orders(inner, launch, command, &files);
    let orders = orders.map_err(|error| refused(error.to_string()))?;
    let (mut keeper, socket) = spawn(inner, orders.prints).map_err(|error| {
        refused(format!("{} cannot be run: {error}", inner.options.keeper.display()))
    })?;
    let asked = tokio::select! {
        asked = ask(socket, &orders) => asked.map_err(|error| error.to_string()),
        () = inner.clock.sleep(START_TIME) => {
            Err("its keeper said nothing for 30s; the machine may be overloaded".to_owned())
        }
    };
    match asked {
        Ok((Answer::Started { record }, socket)) => {
            let pid = record.component.pid;
            tracing::debug!(component = id.place, pid, attempt = id.attempt, "process started");
            watch::begin(inner, record, watch::Keeper::Child(Box::new(keeper), socket));
            Ok(())
        }
        Ok((Answer::Failed { why }, _)) => {
            drop(keeper.wait().await);
            Err(refused(why))
        }
        Err(why) => {
            // Its end takes the instance with it: the kernel sees to that.
            drop(keeper.kill().await);
            Err(refused(why))
        }
    }
}

fn orders(
    inner: &Inner,
    launch: Launch,
    command: Vec<String>,
    files: &Files,
) -> io::Result<Orders> {
    let Launch { id, assignment, environment } = launch;
    let name = format!("sheaf-{}-{}", id.place.replace(':', "-"), id.attempt);
    let (bounds, warnings) = Bounds::of(&assignment.definition.resources, &name);
    for warning in warnings {
        tracing::warn!(component = id.place, warning, "a limit is held in a weaker way");
    }
    let mut variables: Vec<(String, String)> =
        environment.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect();
    let path = std::path::absolute(files.assignment())?;
    variables.push((ASSIGNMENT_VARIABLE.to_owned(), path.display().to_string()));
    let is_printer = assignment.definition.kind.as_deref() == Some("stdout");
    Ok(Orders {
        place: id.place,
        attempt: id.attempt,
        instance: assignment.instance,
        command,
        environment: variables,
        // The keeper has the folder of this process, and components may change theirs.
        folder: std::path::absolute(files.folder())?,
        log: inner.options.log,
        leash: !inner.options.outlive,
        prints: inner.options.prints && is_printer,
        bounds,
    })
}

fn prepare(files: &Files, assignment: &Assignment) -> io::Result<()> {
    files.create()?;
    files.clear()?;
    write_private(&files.assignment(), &serde_json::to_vec_pretty(assignment)?)
}

/// A process with a socket as standard input, in a group of its own: what is typed at a
/// terminal does not reach it.
fn spawn(inner: &Inner, prints: bool) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let output = if prints { Stdio::inherit() } else { Stdio::null() };
    let child = Command::new(&inner.options.keeper)
        .arg("keep")
        .stdin(OwnedFd::from(theirs))
        .stdout(output)
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    Ok((child, UnixStream::from_std(ours)?))
}

async fn ask(socket: UnixStream, orders: &Orders) -> io::Result<(Answer, UnixStream)> {
    let mut line = serde_json::to_vec(orders)?;
    line.push(b'\n');
    let mut socket = BufReader::new(socket);
    socket.write_all(&line).await?;
    let mut answer = Vec::new();
    (&mut socket).take(MAX_ANSWER).read_until(b'\n', &mut answer).await?;
    if answer.is_empty() {
        return Err(io::Error::other("its keeper ended before it said anything"));
    }
    Ok((serde_json::from_slice(&answer)?, socket.into_inner()))
}

impl LaunchRecord {
    /// Whether its instance, or its keeper, still runs.
    pub(super) fn lives(&self) -> bool {
        self.keeper.lives() || self.component.lives()
    }
}
