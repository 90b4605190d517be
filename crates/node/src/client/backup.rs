//! `sheaf backup` and `sheaf restore`

use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use serde::Serialize;
use sheaf_flight::{CallOptions, ipc};
use sheaf_retry::{Code, RetryPolicy, Retryable as _};
use sheaf_terminal::{Console, Failure, HumanBytes, Progress, count, counted};

use super::server::Session;
use crate::backup::wire::{Head, TICKET};
use crate::backup::{self, Manifest, Place, Receiver};

/// Where a backup goes.
#[derive(Clone, Debug, clap::Args)]
pub struct BackupArgs {
    /// Directory to make; it must not be there yet. It appears when the backup is whole
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// What to restore, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "BACKUP")]
    pub backup: PathBuf,
    /// Data directory to make: not there yet, or empty
    #[arg(long, value_name = "DIR", required_unless_present = "check")]
    pub data_dir: Option<PathBuf>,
    /// Only check that the backup is whole and undamaged
    #[arg(long, conflicts_with = "data_dir")]
    pub check: bool,
    /// Answer with JSON, for programs; errors on standard error are JSON too
    #[arg(long)]
    pub json: bool,
}

/// What was done, for programs.
#[derive(Serialize)]
struct Record<'a> {
    directory: &'a Path,
    #[serde(flatten)]
    manifest: &'a Manifest,
}

impl BackupArgs {
    /// Makes it, of the server as it runs.
    ///
    /// # Errors
    /// `already_exists` where the name is taken; `overloaded` while another
    /// backup of the server is made; as the server and the disk.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let failed = |error: backup::Error| explained(&error);
        let place = Place::open(&self.directory).map_err(failed)?;
        let options = CallOptions::default().retry(RetryPolicy::none());
        let opened = session.flight.get(TICKET, &options).await;
        let messages = opened.map_err(|error| session.failed(&error))?;
        let decoded = ipc::decode_stream(messages, ipc::Bounds::default()).await;
        let (schema, mut batches) = decoded.map_err(|error| session.failed(&error))?;
        let head = Head::of(&schema)
            .ok_or_else(|| failed(backup::Error::Stream("its schema is another one".to_owned())))?;
        let shown = (!session.json).then(|| session.console.notes_on_terminal());
        let mut progress = shown.map_or_else(Progress::silent, |on_terminal| {
            Progress::start("backup", head.has_payloads.then_some(head.payloads), on_terminal)
        });
        let mut receiver = Receiver::new(place, head).map_err(failed)?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| session.failed(&error))?;
            progress.reach(receiver.take(&batch).map_err(failed)?);
        }
        let manifest = blocking(move || receiver.finish()).await?;
        progress.finish();
        tell_backup(&self.directory, &manifest, session)
    }
}

impl RestoreArgs {
    /// Checks the backup, and makes a data directory of it.
    ///
    /// # Errors
    /// `corrupt` for a damaged backup, `failed_precondition` for one that was
    /// broken off, `format_newer`; `already_exists` and `directory_locked` for
    /// a data directory that is in use; as the disk.
    pub async fn run(self, mut console: Console) -> Result<(), Failure> {
        let from = self.backup.clone();
        let to = self.data_dir.clone();
        let manifest = blocking(move || match to {
            Some(to) => backup::restore(&from, &to),
            None => backup::verify(&from),
        })
        .await?;
        let directory = self.data_dir.as_deref();
        if self.json {
            let directory = directory.unwrap_or(&self.backup);
            return console.json(&Record { directory, manifest: &manifest });
        }
        let what = contents(&manifest);
        let Some(directory) = directory else {
            console.data(&format!("{} is whole: {what}\n", self.backup.display()))?;
            return lost(&manifest, &mut console);
        };
        let shown = directory.display();
        console.data(&format!("restored into {shown}: {what}\n"))?;
        lost(&manifest, &mut console)?;
        console.note(&format!(
            "next: make sure that the original server is not running, then `sheaf serve --mode {} --data-dir {shown}`",
            manifest.mode
        ));
        if !manifest.coordinator.is_empty() {
            console.note(&format!(
                "payloads only: the coordinator's state is in {}, and in that one's own backups",
                manifest.coordinator
            ));
        } else if !manifest.has_state {
            console
                .note("payloads only: the coordinator's state is in the backup of its own server");
        }
        if !manifest.locations.is_empty() {
            let addresses = manifest.locations.join(", ");
            console
                .note(&format!("its payloads are registered under {addresses}: serve them there"));
        }
        Ok(())
    }
}

fn tell_backup(
    directory: &Path,
    manifest: &Manifest,
    session: &mut Session,
) -> Result<(), Failure> {
    if session.json {
        return session.console.json(&Record { directory, manifest });
    }
    let what = contents(manifest);
    session.console.data(&format!("backup {}: {what}\n", directory.display()))?;
    lost(manifest, &mut session.console)?;
    if !manifest.coordinator.is_empty() {
        session.console.note(&format!(
            "payloads only: the coordinator's state is in {}; back it up there, and before this \
             one (BGSAVE, then copy dump.rdb)",
            manifest.coordinator
        ));
    } else if !manifest.has_state {
        session.console.note(
            "payloads only: back the coordinator's own server up as well, and before this one",
        );
    } else if !manifest.has_payloads {
        session.console.note("state only: back up every Flight server now, within its --ttl");
    }
    Ok(())
}

fn contents(manifest: &Manifest) -> String {
    let mut parts = Vec::new();
    if manifest.has_state {
        let live = count(manifest.live);
        parts.push(format!("{}, {live} of them not over", batches(manifest.batches)));
    }
    if manifest.has_payloads {
        parts.push(counted(manifest.payloads, "payload"));
    }
    parts.push(HumanBytes(manifest.bytes).to_string());
    parts.push(format!("as of {}", manifest.begun_at));
    parts.join(", ")
}

fn batches(number: u64) -> String {
    if number == 1 { "1 batch".to_owned() } else { format!("{} batches", count(number)) }
}

/// What the server itself did not have.
fn lost(manifest: &Manifest, console: &mut Console) -> Result<(), Failure> {
    let missing = &manifest.missing;
    if missing.count > 0 {
        let first = missing.batch_ids.first().map_or("", String::as_str);
        console.note(&format!(
            "{} had lost its payload on the server already, such as {first}: put the data again",
            batches(missing.count)
        ));
    }
    Ok(())
}

/// Reads and writes files, on a thread that may wait for them.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, backup::Error> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| {
        Failure::new(Code::Internal, "the work on the backup ended without an answer")
            .because(error)
    })?;
    done.map_err(|error| explained(&error))
}

/// With advice on backups.
fn explained(error: &backup::Error) -> Failure {
    use sheaf_store::Error as Store;
    let failure = Failure::from_error(error);
    match error {
        backup::Error::Incomplete { .. } => {
            failure.help("name a complete backup; one whose name ends in .partial was broken off")
        }
        backup::Error::Store(Store::NotEmpty { .. } | Store::Unfinished { .. })
        | backup::Error::Exists { .. } => failure.help("name another directory, or empty this one"),
        _ if error.code() == Code::Corrupt => {
            failure.help("nothing was restored: use another backup, or a good copy of this file")
        }
        _ if error.code() == Code::NotFound => failure.help("check the path of the backup"),
        _ => failure,
    }
}
