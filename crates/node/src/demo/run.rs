//! The demo itself: put, register, process, kill, recover, count.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::TryStreamExt;
use sheaf_retry::SharedClock;
use sheaf_store::{ClientPut, FlightClient};

use super::cluster::{Cluster, Kill};
use super::data::Flights;
use super::error::Error;
use super::tally::{Tally, tally};

/// How often the demo looks at the counts.
const LOOK: Duration = Duration::from_millis(20);
/// No completed batch for this long ends the demo with an error.
const STALL: Duration = Duration::from_secs(60);
/// Puts under way at once.
const PUTS: usize = 2;

/// What the demo is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Rows to put.
    pub rows: u64,
    /// Rows of a batch.
    pub rows_per_batch: u64,
    /// Worker processes.
    pub workers: usize,
    /// This program.
    pub program: PathBuf,
    /// Where data, results and logs go.
    pub folder: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// Batches put and registered.
    pub batches: u64,
    /// Rows put.
    pub rows_in: u64,
    /// Rows in the Parquet files.
    pub rows_out: u64,
    /// Rows that went in and are not there.
    pub lost: u64,
    /// Rows that are there once too often.
    pub duplicated: u64,
    /// From the first put to the last completed batch.
    pub seconds: f64,
    /// Rows put, by those seconds.
    pub rows_per_second: u64,
    /// From kill -9 of a worker until the last batch that it held was completed
    /// by another; absent where the work was over before it could be killed.
    pub recovered_ms: Option<u64>,
    /// Batches that the killed worker held.
    #[serde(skip)]
    pub taken_over: u64,
    /// Result files, and their bytes.
    #[serde(skip)]
    pub files: (u64, u64),
}

/// What happens, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Server and workers are up.
    Ready {
        /// The server's address.
        flight: String,
        /// Worker processes.
        workers: usize,
    },
    /// How far it is.
    Progress {
        /// Batches put so far.
        put: u64,
        /// Batches completed so far.
        completed: u64,
        /// Batches in all.
        batches: u64,
    },
    /// A worker was killed.
    Killed {
        /// Its process id.
        pid: u32,
        /// The batches that it held.
        held: u64,
    },
    /// All its batches were completed by others.
    Recovered {
        /// Since the kill.
        after: Duration,
    },
}

/// Runs the demo; `show` is called with every step.
///
/// # Errors
/// Where a process does not start, a call fails, or no work is done for a minute.
pub async fn run(
    options: &Options,
    clock: SharedClock,
    mut show: impl FnMut(Step),
) -> Result<Report, Error> {
    if options.rows == 0 || options.workers == 0 || options.rows_per_batch == 0 {
        return Err(Error::Invalid("the demo needs at least one row and one worker".to_owned()));
    }
    if std::fs::read_dir(&options.folder).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Error::Invalid(format!(
            "{} is not empty; name a new folder, or leave it out",
            options.folder.display()
        )));
    }
    let flights = Arc::new(Flights::try_new(options.rows, options.rows_per_batch)?);
    let mut cluster = Cluster::start(options, &clock).await?;
    show(Step::Ready { flight: cluster.flight.clone(), workers: options.workers });

    let began = clock.elapsed();
    let put = Arc::new(AtomicU64::new(0));
    let client = FlightClient::connect(&cluster.flight, clock.clone())?;
    let putting = tokio::spawn(put_all(client, Arc::clone(&flights), Arc::clone(&put)));
    let watched = watch(&mut cluster, options, &flights, &clock, &put, &mut show).await;
    match putting.await {
        Ok(result) => result?,
        Err(error) => return Err(Error::Invalid(format!("the putting task ended: {error}"))),
    }
    let recovery = watched?;
    let seconds = (clock.elapsed() - began).as_secs_f64();
    let found = {
        let (folder, rows) = (cluster.results.clone(), options.rows);
        tokio::task::spawn_blocking(move || tally(&folder, rows))
            .await
            .map_err(|error| Error::Invalid(format!("the counting task ended: {error}")))??
    };
    cluster.stop().await;
    Ok(report(options, &flights, found, seconds, recovery))
}

fn report(
    options: &Options,
    flights: &Flights,
    found: Tally,
    seconds: f64,
    recovery: Option<Recovery>,
) -> Report {
    let rate = Duration::from_secs_f64(seconds.max(1e-6)).as_micros();
    let per_second = u128::from(options.rows) * 1_000_000 / rate.max(1);
    Report {
        batches: flights.batches(),
        rows_in: options.rows,
        rows_out: found.rows_out,
        lost: found.lost,
        duplicated: found.duplicated,
        seconds: (seconds * 1000.0).round() / 1000.0,
        rows_per_second: u64::try_from(per_second).unwrap_or(u64::MAX),
        recovered_ms: recovery.as_ref().and_then(|done| u64::try_from(done.after.as_millis()).ok()),
        taken_over: recovery.map_or(0, |done| done.held),
        files: (found.files, found.bytes),
    }
}

struct Recovery {
    after: Duration,
    held: u64,
}

/// Follows the work to its end; half-way it kills a worker and starts another.
async fn watch(
    cluster: &mut Cluster,
    options: &Options,
    flights: &Flights,
    clock: &SharedClock,
    put: &AtomicU64,
    show: &mut impl FnMut(Step),
) -> Result<Option<Recovery>, Error> {
    let batches = flights.batches();
    let (mut kill, mut recovery) = (None::<Kill>, None);
    let (mut last, mut moved) = (u64::MAX, clock.elapsed());
    loop {
        let completed = cluster.completed().await?;
        if completed != last {
            (last, moved) = (completed, clock.elapsed());
            show(Step::Progress { put: put.load(Ordering::Relaxed), completed, batches });
        }
        if let (Some(done), None) = (&kill, &recovery)
            && let Some(at) = cluster.all_completed(&done.held).await?
        {
            let after = at.since(done.at);
            show(Step::Recovered { after });
            recovery = Some(Recovery { after, held: done.held.len() as u64 });
        }
        if completed >= batches {
            return Ok(recovery);
        }
        if kill.is_none() && completed * 2 >= batches {
            kill = cluster.kill_one(clock).await?;
            if let Some(done) = &kill {
                show(Step::Killed { pid: done.pid, held: done.held.len() as u64 });
                cluster.add_worker().await?;
            }
        }
        if clock.elapsed() - moved > STALL {
            return Err(Error::Stalled { waited: STALL, logs: options.folder.clone() });
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn put_all(
    client: FlightClient,
    flights: Arc<Flights>,
    put: Arc<AtomicU64>,
) -> Result<(), Error> {
    futures::stream::iter((0..flights.batches()).map(Ok))
        .try_for_each_concurrent(PUTS, |index| {
            let (client, flights, put) = (client.clone(), Arc::clone(&flights), Arc::clone(&put));
            async move {
                let batch = tokio::task::spawn_blocking(move || flights.batch(index))
                    .await
                    .map_err(|error| Error::Invalid(format!("a task ended: {error}")))??;
                client.put(None, batch.schema(), &[batch], ClientPut::REGISTERED).await?;
                put.fetch_add(1, Ordering::Relaxed);
                Ok::<(), Error>(())
            }
        })
        .await
}

/// Where the demo's folder is made when none is named.
pub fn default_folder(temporary: &Path, pid: u32) -> PathBuf {
    temporary.join(format!("sheaf-demo-{pid}"))
}
