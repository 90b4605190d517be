//! All workers, and what became of their tasks.

mod end;
mod events;
mod tasks;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sheaf_retry::{SharedClock, SystemClock};
use sheaf_terminal::{Console, Failure, Progress};
use tokio::sync::mpsc;

use crate::workers::child::Child;
use crate::workers::kill::Kill;
use crate::workers::left::Left;
use crate::workers::protocol::Heard;
use crate::workers::{Arguments, Job};

/// Events that are not handled yet.
const EVENTS: usize = 64;

pub(crate) struct Crew {
    job: &'static Job,
    arguments: Arguments,
    partitions: u32,
    out: PathBuf,
    left: Left,
    kill: Option<Kill>,
    children: Vec<Child>,
    heard: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    clock: SharedClock,
    /// Rows of the result by partition.
    rows: BTreeMap<u32, u64>,
    bytes: u64,
    started: Duration,
    /// When the first task was given, and when the last share was sent.
    shuffle: Option<(Duration, Duration)>,
    restarts: u32,
    resent: u32,
    failures: u32,
}

impl Crew {
    pub(crate) fn start(
        job: &'static Job,
        arguments: &Arguments,
        partitions: u32,
        out: &Path,
    ) -> Result<Self, Failure> {
        let workers = arguments.workers;
        let clock = SystemClock::shared();
        let started = clock.elapsed();
        let heard = mpsc::channel(EVENTS);
        let child = |slot| Child::start(slot, arguments, out, heard.0.clone());
        Ok(Crew {
            job,
            arguments: arguments.clone(),
            partitions,
            out: out.to_owned(),
            left: Left::new(job.sent(), workers, partitions),
            kill: arguments.kill.map(|role| Kill::new(role, arguments.seed, workers)),
            children: (0..workers).map(child).collect::<Result<_, _>>()?,
            heard,
            clock,
            rows: BTreeMap::new(),
            bytes: 0,
            started,
            shuffle: None,
            restarts: 0,
            resent: 0,
            failures: 0,
        })
    }

    /// Until every partition has its result.
    pub(crate) async fn work(&mut self, console: &mut Console) -> Result<(), Failure> {
        let mut progress = Progress::silent();
        if !self.arguments.json {
            let total = Some(self.partitions.into());
            progress = Progress::start("partitions", total, console.notes_on_terminal());
        }
        while !self.left.partitions.is_empty() {
            self.give_tasks().await;
            let Some(heard) = self.heard.1.recv().await else { break };
            let note = self.take(heard)?;
            progress.suspend(|| note.iter().for_each(|note| console.note(note)));
            progress.reach(u64::from(self.partitions) - self.left.partitions.len() as u64);
        }
        progress.finish();
        Ok(())
    }
}
