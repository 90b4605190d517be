//! Our side on Valkey: the contract itself, without the worker runtime.
//!
//! The same roles as every peer has: who registers, who claims and settles,
//! who registers to an idle worker, and who takes a batch and keeps it.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::future::{join_all, try_join_all};
use serde_json::json;
use sheaf_bench::embedded::completed;
use sheaf_coordinator::{
    BatchSpec, Claim, ClaimRequest, Coordinator, CoordinatorExt as _, DEFAULT_QUEUE, Extension,
    LeaseRef, SettleRequest, State,
};
use sheaf_retry::SystemClock;
use sheaf_valkey::ValkeyCoordinator;

use super::now_ns;
use crate::error::{Error, Result};

/// Calls at once with one batch each.
const SINGLES: u64 = 64;
/// `register` calls at once where batches come in bulk.
const REGISTERS: u64 = 4;
/// `settle` calls at once where batches come in bulk: one works while one asks.
const SETTLES: u64 = 2;
/// How long a claim waits when there is nothing.
const WAIT: Duration = Duration::from_secs(30);
/// Between two looks whether all is completed, or nothing happens any more.
const POLL: Duration = Duration::from_millis(2);
/// Without progress for so long, what is missing is lost.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Role {
    /// Registers all batches, `n` in each call.
    Enqueue,
    /// Claims and settles, `n` in each call, until all batches are completed.
    Work,
    /// Registers one batch at a time, with a pause before each.
    Trickle,
    /// Takes one batch, prolongs its lease, never settles it.
    Hold,
    /// Claims from this Valkey and from another in turns, one call at a time, and makes
    /// up for what it took; tells how long each claim took.
    Turns,
}

/// Which role, and how much.
#[derive(Debug, Args)]
pub(crate) struct Claims {
    role: Role,
    /// Where Valkey listens on this machine.
    #[arg(long)]
    port: u16,
    /// How many batches.
    #[arg(long, default_value_t = 1)]
    jobs: u64,
    /// Batches in each call.
    #[arg(long, default_value_t = 1)]
    n: u32,
    /// How long leases last.
    #[arg(long, default_value_t = 30_000)]
    lease_ms: u64,
    /// Before each batch of `trickle`.
    #[arg(long, default_value_t = 5)]
    pause_ms: u64,
    /// Calls of `enqueue` at once.
    #[arg(long)]
    callers: Option<u64>,
    /// Tells one run of `turns` on the same servers from the others.
    #[arg(long, default_value_t = 0)]
    part: u64,
    /// Batches of each `register` of `turns`.
    #[arg(long, default_value_t = 64)]
    together: u64,
    /// The other Valkey of `turns`.
    #[arg(long)]
    other_port: Option<u16>,
    /// Tell when each batch was in the worker's hands.
    #[arg(long)]
    each: bool,
}

/// Runs one role to its end.
pub(super) async fn run(load: Claims) -> Result<()> {
    let coordinator = open(load.port).await?;
    match load.role {
        Role::Enqueue => enqueue(&coordinator, &load).await,
        Role::Work => work(&coordinator, &load).await,
        Role::Trickle => trickle(&coordinator, &load).await,
        Role::Hold => hold(&coordinator, &load).await,
        Role::Turns => turns(&coordinator, &load).await,
    }
}

/// A coordinator on the Valkey at that port, with one connection for calls.
async fn open(port: u16) -> Result<ValkeyCoordinator> {
    let builder = ValkeyCoordinator::builder(&format!("redis://127.0.0.1:{port}"))?;
    Ok(builder.connections(1).connect(SystemClock::shared()).await?)
}

/// A description of about 300 bytes, as every side has it.
fn spec(number: u64) -> Result<BatchSpec> {
    let id = format!("job:{number}")
        .parse()
        .map_err(|error| Error::Message(format!("job {number} has no name: {error}")))?;
    Ok(BatchSpec {
        rows: 1_000,
        bytes: 100_000,
        checksum: "0123456789abcdef0123456789abcdef".to_owned(),
        schema_fingerprint: "fedcba9876543210fedcba9876543210".to_owned(),
        locations: vec!["grpc://127.0.0.1:8080".to_owned()],
        partition_key: "x".repeat(120),
        ..BatchSpec::new(id)
    })
}

fn number(spec: &BatchSpec) -> u64 {
    let last = spec.id.as_str().rsplit(':').next();
    last.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

async fn enqueue(coordinator: &dyn Coordinator, load: &Claims) -> Result<()> {
    let next = Cell::new(0);
    let from = now_ns();
    let caller = || async {
        while next.get() < load.jobs {
            let first = next.get();
            next.set((first + u64::from(load.n)).min(load.jobs));
            let specs = (first..next.get()).map(spec).collect::<Result<Vec<_>>>()?;
            coordinator.register(specs).await?;
        }
        Ok::<_, Error>(())
    };
    let callers = load.callers.unwrap_or(if load.n == 1 { SINGLES } else { REGISTERS });
    try_join_all((0..callers).map(|_| caller())).await?;
    let seconds = (now_ns() - from) as f64 / 1e9;
    println!("{}", json!({ "jobs": load.jobs, "seconds": seconds }));
    Ok(())
}

/// What the worker saw.
#[derive(Default)]
struct Seen {
    from: Cell<u64>,
    numbers: RefCell<HashSet<u64>>,
    duplicated: Cell<u64>,
    started: RefCell<Vec<(u64, u64)>>,
}

impl Seen {
    fn add(&self, claim: &Claim, each: bool) {
        let at = now_ns();
        if self.from.get() == 0 && !claim.leases.is_empty() {
            self.from.set(at);
        }
        for lease in &claim.leases {
            let number = number(&lease.spec);
            if each {
                self.started.borrow_mut().push((number, at));
            }
            if !self.numbers.borrow_mut().insert(number) {
                self.duplicated.set(self.duplicated.get() + 1);
            }
        }
    }

    fn count(&self) -> u64 {
        self.numbers.borrow().len() as u64
    }
}

fn request(load: &Claims, caller: u64, round: u64) -> ClaimRequest {
    let worker = format!("bench-{}", std::process::id());
    let id = format!("{worker}-{caller}-{round}");
    let lease = Duration::from_millis(load.lease_ms);
    ClaimRequest { wait: WAIT, start: true, ..ClaimRequest::new(worker, id, load.n, lease) }
}

/// Settles what it has and claims the next in one call, for ever.
async fn caller(
    coordinator: &dyn Coordinator,
    load: &Claims,
    seen: &Seen,
    caller: u64,
) -> Result<()> {
    let mut outcomes = Vec::new();
    for round in 0.. {
        // Nothing waits behind the last batches, so they are settled alone.
        let claim = (seen.count() < load.jobs).then(|| request(load, caller, round));
        let over = claim.is_none();
        if over && outcomes.is_empty() {
            break;
        }
        let settle = SettleRequest { outcomes, started: Vec::new(), claim };
        let claim = coordinator.settle(settle).await?.claim.unwrap_or_default();
        if over {
            break;
        }
        seen.add(&claim, load.each);
        outcomes = completed(&claim);
    }
    Ok(())
}

/// Over when the coordinator says that all are completed, or nothing happens.
async fn work(coordinator: &dyn Coordinator, load: &Claims) -> Result<()> {
    let seen = Seen::default();
    println!("ready");
    let callers = if load.n == 1 { SINGLES } else { SETTLES };
    let callers = join_all((0..callers).map(|number| caller(coordinator, load, &seen, number)));
    tokio::select! {
        ended = async { callers.await.into_iter().find(Result::is_err) } => match ended {
            Some(error) => return error,
            None => over(coordinator, load, &seen).await?,
        },
        ended = over(coordinator, load, &seen) => ended?,
    }
    let seconds = (now_ns() - seen.from.get()) as f64 / 1e9;
    let line = json!({
        "jobs": load.jobs,
        "seconds": seconds,
        "lost": load.jobs - seen.count(),
        "duplicated": seen.duplicated.get(),
        "started": *seen.started.borrow(),
    });
    println!("{line}");
    Ok(())
}

async fn over(coordinator: &dyn Coordinator, load: &Claims, seen: &Seen) -> Result<()> {
    let (mut count, mut since) = (0, now_ns());
    loop {
        tokio::time::sleep(POLL).await;
        if seen.count() != count {
            (count, since) = (seen.count(), now_ns());
        }
        if count >= load.jobs {
            let queues = coordinator.stats(Some(DEFAULT_QUEUE)).await?;
            let counts = queues.iter().filter_map(|queue| queue.counts.get(&State::Completed));
            if counts.sum::<u64>() >= load.jobs {
                return Ok(());
            }
        }
        if u128::from(now_ns() - since) > PATIENCE.as_nanos() {
            return Ok(());
        }
    }
}

async fn trickle(coordinator: &dyn Coordinator, load: &Claims) -> Result<()> {
    let mut sent = Vec::new();
    for number in 0..load.jobs {
        // Until the worker is idle again.
        tokio::time::sleep(Duration::from_millis(load.pause_ms)).await;
        sent.push((number, now_ns()));
        coordinator.register(vec![spec(number)?]).await?;
    }
    println!("{}", json!({ "sent": sent }));
    Ok(())
}

async fn hold(coordinator: &dyn Coordinator, load: &Claims) -> Result<()> {
    println!("ready");
    let claim = coordinator.claim(request(load, 0, 0)).await?;
    println!("holding");
    loop {
        // As a worker does whose work takes long.
        tokio::time::sleep(Duration::from_millis(load.lease_ms / 2)).await;
        let leases = claim.leases.iter().map(|lease| Extension {
            lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
            started: true,
            progress: None,
            duration: None,
        });
        coordinator.extend(leases.collect()).await?;
    }
}

/// `jobs` claims of `n` batches from each, in microseconds. What it took is made up for
/// in calls as those that were there before came in.
async fn turns(coordinator: &dyn Coordinator, load: &Claims) -> Result<()> {
    let other = load.other_port.ok_or_else(|| Error::Message("--other-port is missing".into()))?;
    let other = open(other).await?;
    let mut took = [Vec::new(), Vec::new()];
    // Numbers that no other batch has.
    let mut next = ((1 + load.part) << 40) + (u64::from(load.n) << 32);
    let mut missing = 0;
    for round in 0..load.jobs {
        for (coordinator, took) in [coordinator, &other].into_iter().zip(&mut took) {
            let from = now_ns();
            let claim = coordinator.claim(request(load, 0, round)).await?;
            took.push((now_ns() - from) as f64 / 1e3);
            if claim.leases.len() as u64 != u64::from(load.n) {
                return Err(Error::Message(format!("a claim got {}", claim.leases.len())));
            }
            let outcomes = completed(&claim);
            let settle = SettleRequest { outcomes, started: Vec::new(), claim: None };
            coordinator.settle(settle).await?;
        }
        missing += u64::from(load.n);
        while missing >= load.together {
            missing -= load.together;
            for coordinator in [coordinator, &other] {
                let more = (next..next + load.together).map(spec).collect::<Result<Vec<_>>>()?;
                coordinator.register(more).await?;
            }
            next += load.together;
        }
    }
    println!("{}", json!({ "took": took }));
    Ok(())
}
