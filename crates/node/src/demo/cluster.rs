//! The demo's processes: one server and some workers.

use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use sheaf_coordinator::{Batch, CoordinatorExt as _, ListFilter, State};
use sheaf_flight::{ChannelPool, ClientConfig, Target};
use sheaf_proto::BatchId;
use sheaf_retry::{SharedClock, Timestamp};
use sheaf_rpc::{RpcCoordinator, RpcOptions};

use super::error::Error;
use super::process::Served;
use super::run::Options;

/// How long a lease lasts in the demo: short, so that a recovery can be watched.
const LEASE: Duration = Duration::from_millis(1_000);

/// One server and some workers, each a process of its own.
pub(super) struct Cluster {
    server: Served,
    workers: Vec<Served>,
    coordinator: RpcCoordinator,
    pub(super) flight: String,
    pub(super) results: PathBuf,
    folder: PathBuf,
    program: PathBuf,
    worker_args: Vec<String>,
    started: usize,
}

impl Cluster {
    pub(super) async fn start(options: &Options, clock: &SharedClock) -> Result<Self, Error> {
        let folder = options.folder.clone();
        let results = folder.join("results");
        for path in [&folder, &results] {
            std::fs::create_dir_all(path)
                .map_err(|source| Error::Folder { path: path.clone(), source })?;
        }
        let lease = format!("{}ms", LEASE.as_millis());
        let data = folder.join("data").display().to_string();
        let args = ["--flight-addr", "127.0.0.1:0", "--data-dir", &data, "--workers", "0"];
        let args: Vec<String> =
            args.into_iter().chain(["--lease", &lease]).map(str::to_owned).collect();
        let log = folder.join("server.log");
        let server = Served::start(&options.program, "the server", &args, log).await?;
        let flight = server.address("flight")?;
        let address = server.address("coordinator")?;
        let sink = format!("parquet:{}", results.display());
        let worker_args = [
            ["--mode", "worker"],
            ["--coordinator", &address],
            ["--flight-addr", &flight],
            ["--workers", "1"],
            ["--lease", &lease],
            ["--sink", &sink],
        ];
        let mut cluster = Cluster {
            server,
            workers: Vec::new(),
            coordinator: RpcCoordinator::new(
                ChannelPool::new(ClientConfig::default(), clock.clone()),
                address.parse::<Target>()?,
                RpcOptions::default(),
                clock.clone(),
            ),
            flight: flight.clone(),
            results,
            folder,
            program: options.program.clone(),
            worker_args: worker_args.concat().into_iter().map(str::to_owned).collect(),
            started: 0,
        };
        for _ in 0..options.workers {
            cluster.add_worker().await?;
        }
        Ok(cluster)
    }

    pub(super) async fn add_worker(&mut self) -> Result<(), Error> {
        self.started += 1;
        let log = self.folder.join(format!("worker-{}.log", self.started));
        let name = format!("worker {}", self.started);
        let worker = Served::start(&self.program, &name, &self.worker_args, log).await?;
        self.workers.push(worker);
        Ok(())
    }

    pub(super) async fn completed(&self) -> Result<u64, Error> {
        let queues = self.coordinator.stats(None).await?;
        Ok(queues.iter().filter_map(|queue| queue.counts.get(&State::Completed)).sum())
    }

    pub(super) async fn processing(&self) -> Result<Vec<Batch>, Error> {
        let filter =
            ListFilter { states: vec![State::Processing], limit: 1_000, ..ListFilter::default() };
        Ok(self.coordinator.list(filter).await?.batches)
    }

    /// Stops a worker that holds work, sees what it holds, and kills it.
    pub(super) async fn kill_one(&mut self, clock: &SharedClock) -> Result<Option<Kill>, Error> {
        for index in 0..self.workers.len() {
            let Some(pid) = self.workers[index].pid() else { continue };
            if !self.workers[index].signal(Signal::STOP) {
                continue;
            }
            let mark = format!("{pid}-");
            let held: Vec<BatchId> = self
                .processing()
                .await?
                .into_iter()
                .filter(|batch| batch.lease.as_ref().is_some_and(|l| l.worker.starts_with(&mark)))
                .map(|batch| batch.spec.id)
                .collect();
            if held.is_empty() {
                self.workers[index].signal(Signal::CONT);
                continue;
            }
            let at = clock.now();
            let mut victim = self.workers.swap_remove(index);
            victim.kill().await?;
            return Ok(Some(Kill { pid, held, at }));
        }
        Ok(None)
    }

    /// When the last of these was completed, once all are.
    pub(super) async fn all_completed(&self, ids: &[BatchId]) -> Result<Option<Timestamp>, Error> {
        let batches = self.coordinator.get_all(ids.to_vec()).await?;
        let times: Vec<Timestamp> = batches
            .iter()
            .filter(|batch| batch.state == State::Completed)
            .filter_map(|batch| batch.finished_at)
            .collect();
        Ok(if times.len() == ids.len() { times.into_iter().max() } else { None })
    }

    pub(super) async fn stop(self) {
        for worker in self.workers {
            worker.stop().await;
        }
        self.server.stop().await;
    }
}

pub(super) struct Kill {
    pub(super) pid: u32,
    pub(super) held: Vec<BatchId>,
    pub(super) at: Timestamp,
}
