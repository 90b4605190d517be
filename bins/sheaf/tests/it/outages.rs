//! T6: the coordinator is away for a while, and every worker goes on by itself.

use std::path::Path;
use std::time::Duration;

use sheaf_retry::{SharedClock, SystemClock};
use sheaf_testkit::{Fault, FaultProxy, Process, TempDir, Valkey, free_port, wait_until};

use crate::backend::{Backend, DURABLE, worker_asking};
use crate::harness::{PATIENCE, spawn};
use crate::remote::{Remote, assert_rows_once, id};
use sheaf_coordinator::State;

/// What every worker is to do within 5 s; a machine that does other things
/// too is given more in the short form.
const RESUME: Duration = Duration::from_secs(5);
/// Queues, one worker for each: two idle ones and two with work in their hands.
const QUEUES: [&str; 4] = ["idle-a", "idle-b", "busy-a", "busy-b"];
/// Batches in the queue of a busy worker when the outage begins.
const BACKLOG: u64 = 12;

#[derive(Clone, Copy, Debug)]
enum Outage {
    /// The network is cut: connections break, new ones are refused.
    Cut,
    /// The network is silent: connections stand, nothing passes.
    Silent,
    /// Whom the workers ask is killed and started again on what it has on disk.
    Killed,
}

struct Site {
    server: Option<Process>,
    valkey: Option<Valkey>,
    backend: Backend,
    proxy: FaultProxy,
    remote: Remote,
    workers: Vec<Process>,
    folder: TempDir,
    address: String,
    put: u64,
    clock: SharedClock,
}

impl Site {
    fn serve(folder: &TempDir, address: &str, valkey: Option<&Valkey>) -> Process {
        let mut words = vec!["--flight-addr", address, "--workers", "0"];
        let valkey = valkey.map(|valkey| valkey.addr().to_string());
        words.extend(valkey.iter().flat_map(|address| ["--valkey-addr", address]));
        let mut server = spawn(folder.path(), &words);
        if let Err(error) = server.wait_ready(PATIENCE) {
            panic!("{error}\n{}", server.stderr());
        }
        server
    }

    /// `None` where a Valkey is needed and none is installed.
    fn start(backend: Backend) -> Option<Self> {
        let valkey = match backend {
            Backend::Embedded => None,
            Backend::Valkey | Backend::Direct => Some(Valkey::start(&DURABLE).unwrap()?),
        };
        let (folder, socket) = (TempDir::new().unwrap(), free_port().unwrap().release());
        let address = socket.to_string();
        let server = Some(Self::serve(&folder, &address, valkey.as_ref()));
        let uri = format!("grpc://{address}");
        let direct = valkey.as_ref().filter(|_| backend == Backend::Direct);
        let proxy = FaultProxy::start(direct.map_or(socket, Valkey::addr)).unwrap();
        let (asked, near) = (proxy.addr().to_string(), proxy.uri());
        let (whom, flight) = match direct {
            Some(_) => (["--valkey-addr", &asked], &uri),
            None => (["--coordinator", &near], &near),
        };
        let sink = format!("parquet:{}", folder.path().join("out").display());
        let workers = QUEUES.map(|queue| {
            let slow = ["--processor", "exec:sleep 0.2; cat"];
            let words = ["--queue", queue, "--sink", &sink, "--workers", "1", slow[0], slow[1]];
            worker_asking(whom, flight, &words, &[])
        });
        let (remote, workers, clock) = (Remote::at(&uri), workers.into(), SystemClock::shared());
        let put = 0;
        Some(Site { server, valkey, backend, proxy, remote, workers, folder, address, put, clock })
    }

    async fn put(&mut self, queue: &str) -> u64 {
        let number = self.put;
        self.remote.put_in(queue, number).await;
        self.put += 1;
        number
    }

    async fn outage(&mut self, outage: Outage, length: Duration) {
        match outage {
            Outage::Cut => self.proxy.set(Fault::Cut),
            Outage::Silent => self.proxy.set(Fault::Silent),
            Outage::Killed => self.kill(),
        }
        // sleep: this is the outage.
        self.clock.sleep(length).await;
        match outage {
            Outage::Cut | Outage::Silent => self.proxy.set(Fault::None),
            Outage::Killed => self.start_again(),
        }
    }

    fn kill(&mut self) {
        match &mut self.valkey {
            Some(valkey) if self.backend == Backend::Direct => drop(valkey.kill9().unwrap()),
            _ => drop(self.server.take()),
        }
    }

    fn start_again(&mut self) {
        match &mut self.valkey {
            Some(valkey) if self.backend == Backend::Direct => valkey.restart().unwrap(),
            valkey => {
                let server = Self::serve(&self.folder, &self.address, valkey.as_ref());
                self.server = Some(server);
            }
        }
    }

    /// After the return each worker completes a batch of its own queue.
    async fn resumes(&mut self, what: &str) {
        let back = self.clock.elapsed();
        let mut news = Vec::new();
        for queue in ["idle-a", "idle-b"] {
            news.push((queue, self.put(queue).await));
        }
        for (queue, number) in news {
            let done = |batch: &sheaf_coordinator::Batch| batch.state == State::Completed;
            self.remote.wait_for_batch(number, &format!("{queue} to resume"), done).await;
            let took = self.clock.elapsed() - back;
            eprintln!("{what}: {queue} did {} within {took:?} of the return", id(number));
            assert!(!sheaf_testkit::soak() || took <= RESUME, "{what}: {queue} took {took:?}");
        }
        // The busy ones do all that they had.
        self.remote.completes(self.put).await;
        for worker in &mut self.workers {
            assert!(worker.try_exit().unwrap().is_none(), "no restart: {}", worker.stderr());
        }
    }
}

async fn outages(backend: Backend, short: &[u64]) {
    let lengths: &[u64] = if sheaf_testkit::soak() { &[1, 10, 60] } else { short };
    let Some(mut site) = Site::start(backend) else { return };
    for &length in lengths {
        for outage in [Outage::Cut, Outage::Silent, Outage::Killed] {
            for _ in 0..BACKLOG {
                site.put("busy-a").await;
                site.put("busy-b").await;
            }
            site.outage(outage, Duration::from_secs(length)).await;
            site.resumes(&format!("{outage:?} for {length} s")).await;
        }
    }
    for worker in &mut site.workers {
        assert_eq!(worker.terminate(PATIENCE).unwrap().code(), Some(0), "{}", worker.stderr());
    }
    assert_rows_once(&site.folder.path().join("out"), site.put);
}

/// Outages of every kind and length, idle and busy.
#[tokio::test(flavor = "multi_thread")]
async fn soak_outages_end_and_every_worker_goes_on() {
    outages(Backend::Embedded, &[1, 3]).await;
}

/// Outages of a server on a Valkey, idle and busy.
#[tokio::test(flavor = "multi_thread")]
async fn soak_valkey_outages_end_and_every_worker_goes_on() {
    outages(Backend::Valkey, &[1]).await;
}

/// Outages of the Valkey that workers ask themselves, idle and busy.
#[tokio::test(flavor = "multi_thread")]
async fn soak_direct_outages_end_and_every_worker_goes_on() {
    outages(Backend::Direct, &[1]).await;
}

/// A worker's lease is shorter than what a patient client waits for an answer. The path
/// to Valkey forgets its connections again and again; no heartbeat is too late.
#[tokio::test(flavor = "multi_thread")]
async fn direct_worker_keeps_its_lease_when_its_connections_fall_silent() {
    let Some(backed) = Backend::Direct.start(&[]) else { return };
    let valkey = backed.valkey.as_ref().unwrap();
    let proxy = FaultProxy::start(valkey.addr()).unwrap();
    let (begun, go) = (backed.server.path("begun"), backed.server.path("go"));
    let program = format!("exec:touch {begun}; while [ ! -e {go} ]; do sleep 0.02; done; cat");
    let (asked, sink) = (proxy.addr().to_string(), backed.sink());
    let words = ["--lease", "3s", "--workers", "1", "--sink", &sink, "--processor", &program];
    let mut worker = worker_asking(["--valkey-addr", &asked], backed.flight(), &words, &[]);
    let remote = backed.remote();
    remote.put(0..1).await;
    wait_until(PATIENCE, "the work to begin", || Path::new(&begun).exists()).unwrap();
    let clock = SystemClock::shared();
    for _ in 0..3 {
        proxy.silence_connections();
        clock.sleep(Duration::from_millis(3_500)).await;
    }
    let held = remote.batch(0).await;
    assert_eq!((held.attempts, held.lost_leases), (1, 0), "{held:?}\n{}", worker.stderr());
    std::fs::write(&go, "").unwrap();
    remote.completes(1).await;
    let done = remote.batch(0).await;
    assert_eq!((done.attempts, done.lost_leases), (1, 0), "{done:?}");
    assert_eq!(worker.terminate(PATIENCE).unwrap().code(), Some(0), "{}", worker.stderr());
    assert_rows_once(&backed.out(), 1);
}
