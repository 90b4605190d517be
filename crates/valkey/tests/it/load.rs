//! T9 and T11: much at once, and one by one; many processes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Coordinator, Outcome, Resolution, SettleRequest, State, Verdict,
};
use sheaf_retry::{Code, RetryPolicy, SystemClock};
use sheaf_testkit::{Valkey, wait_until, wait_until_async};
use sheaf_valkey::ValkeyCoordinator;

use crate::kit::{self, DEADLINE, builder, connect, pass, quantile, sized};

/// A call of a script should be over after this.
const LONGEST_CALL_US: u64 = 5_000;
/// Part of the calls that may still be longer: where the server's process is
/// stopped by the machine in the middle of a call, the call takes as long.
const DISTURBED: f64 = 0.02;
/// Where other tests and builds run at the same time, the longest calls take
/// some times as long as they do alone; a soak has the machine to itself.
const CROWDED: f64 = 10.0;

/// What the server says of its calls of scripts: how many, the longest 1 %
/// begin where, how many were over the limit, and the longest of these.
#[derive(Debug)]
#[allow(dead_code, reason = "all of it is printed")]
struct Calls {
    count: u64,
    p99_us: f64,
    slow: usize,
    slowest_us: i64,
    /// The processor's time of the server by the number of calls: what the
    /// machine does besides is not in it.
    cpu_us: f64,
}

/// The processor's time that the server has taken so far.
fn cpu_us(server: &Valkey) -> f64 {
    let info = server.info("cpu").unwrap();
    let seconds = |name: &str| info[name].parse::<f64>().unwrap();
    (seconds("used_cpu_user_main_thread") + seconds("used_cpu_sys_main_thread")) * 1e6
}

impl Calls {
    /// Counts anew from here; the processor's time until now.
    fn forget(server: &Valkey) -> f64 {
        let limit = LONGEST_CALL_US.to_string();
        server.command(&["CONFIG", "SET", "slowlog-log-slower-than", &limit]).unwrap();
        server.command(&["CONFIG", "SET", "slowlog-max-len", "100000"]).unwrap();
        server.command(&["SLOWLOG", "RESET"]).unwrap();
        server.command(&["CONFIG", "RESETSTAT"]).unwrap();
        cpu_us(server)
    }

    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    fn of(server: &Valkey, before: f64) -> Self {
        let slow = server.command(&["SLOWLOG", "GET", "-1"]).unwrap();
        let is_ours = |entry: &&sheaf_testkit::Reply| {
            entry.items()[3].items().first().and_then(|word| word.text()) == Some("FCALL")
        };
        let times: Vec<i64> = slow
            .items()
            .iter()
            .filter(is_ours)
            .filter_map(|entry| entry.items()[2].integer())
            .collect();
        let latencies = server.info("latencystats").unwrap();
        let percentiles = &latencies["latency_percentiles_usec_fcall"];
        let p99 = percentiles.split(',').find_map(|field| field.strip_prefix("p99="));
        let all = server.command_stats().unwrap()["fcall"];
        Calls {
            count: all.calls,
            cpu_us: (cpu_us(server) - before) / all.calls.max(1) as f64,
            p99_us: p99.unwrap().parse().unwrap(),
            slow: times.len(),
            slowest_us: times.into_iter().max().unwrap_or(0),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    fn assert_short(&self) {
        assert!(self.cpu_us <= LONGEST_CALL_US as f64, "{self:?}");
        if !sheaf_testkit::soak() {
            assert!(self.p99_us <= CROWDED * LONGEST_CALL_US as f64, "{self:?}");
            return;
        }
        assert!(self.p99_us <= LONGEST_CALL_US as f64, "{self:?}");
        let most = (self.count as f64 * DISTURBED).max(2.0);
        assert!(self.slow as f64 <= most, "{self:?}");
    }
}

/// Until all of it is due: longer than setting it up takes.
fn time_to_due() -> Duration {
    Duration::from_secs(sized(4, 60))
}

/// Half of them under leases that will run out, half in a retry that falls due,
/// all within about the time that this takes.
async fn set_up(coordinator: &ValkeyCoordinator, half: u32) {
    let base_ms = sized(4_000, 60_000);
    let retry = RetryPolicy { max_retries: 3, base_ms, jitter: 0.0, ..RetryPolicy::default() };
    let lease = time_to_due();
    let of = |name: &str| -> Vec<BatchSpec> {
        let specs = kit::specs(name, half).into_iter();
        specs.map(|spec| BatchSpec { retry: Some(retry.clone()), ..spec }).collect()
    };
    kit::register_all(coordinator, of("dead")).await;
    let mut left = half;
    while left > 0 {
        let (worker, name) = ("dead", format!("dead-{left}"));
        let request = ClaimRequest { lease, ..kit::request(worker, &name, left.min(250)) };
        left -= u32::try_from(coordinator.claim(request).await.unwrap().leases.len()).unwrap();
    }
    kit::register_all(coordinator, of("retry")).await;
    left = half;
    while left > 0 {
        let request = kit::request("fails", &format!("retry-{left}"), left.min(250));
        let leases = coordinator.claim(request).await.unwrap().leases;
        left -= u32::try_from(leases.len()).unwrap();
        let failed = kit::settle(&leases, Resolution::Failed);
        coordinator.settle(failed).await.unwrap();
    }
}

/// Nobody looks while all of it falls due: then it is all due at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t9_due_retries_and_dead_leases_at_once_make_no_call_long() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let half = sized(5_000, 50_000);
    // Its sweeps end before the first is due.
    let before = connect(builder(server.addr())).await;
    set_up(&before, half).await;
    before.close().await;
    // Leases and retries last this long by the server's clock.
    pass(time_to_due() + Duration::from_millis(100)).await;
    let before = Calls::forget(&server);

    let coordinator = connect(builder(server.addr())).await;
    let mut done: Vec<Outcome> = Vec::new();
    let mut attempts = BTreeMap::new();
    let clock = SystemClock::shared();
    let start = clock.elapsed();
    for turn in 0.. {
        let wait = Duration::from_millis(200);
        let request = ClaimRequest { wait, ..kit::request("worker", &format!("turn-{turn}"), 64) };
        let outcomes = std::mem::take(&mut done);
        let settle = SettleRequest { outcomes, claim: Some(request), ..SettleRequest::default() };
        let reply = coordinator.settle(settle).await.unwrap();
        assert!(reply.outcomes.iter().all(|one| one.verdict == Verdict::Applied));
        let leases = reply.claim.unwrap().leases;
        done = leases.iter().map(|lease| kit::outcome(lease, Resolution::Completed)).collect();
        for lease in leases {
            *attempts.entry(lease.attempt).or_insert(0_u32) += 1;
        }
        let all = attempts.values().sum::<u32>();
        if done.is_empty() && all == 2 * half {
            break;
        }
        assert!(clock.elapsed() - start < DEADLINE * 3, "{all} of {} came through", 2 * half);
    }
    let took = clock.elapsed() - start;
    let calls = Calls::of(&server, before);
    eprintln!("{} at once: {took:?}, {calls:?}", 2 * half);
    assert_eq!(attempts, BTreeMap::from([(2, 2 * half)]), "each in its second attempt");
    assert_eq!(kit::counts(&coordinator).await[&State::Completed], u64::from(2 * half));
    calls.assert_short();
}

/// From the start of a registration until a waiting claim has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t11_an_idle_worker_picks_up_at_once() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    // Nothing is found by looking.
    let producer = connect(builder(server.addr())).await;
    let worker = connect(builder(server.addr()).poll_interval(DEADLINE)).await;
    let clock = SystemClock::shared();
    let (sent, mut given) = tokio::sync::mpsc::channel(1);
    let (times, count) = (clock.clone(), sized(2_000, 100_000));
    let task = tokio::spawn(async move {
        let mut settle = SettleRequest::default();
        for turn in 0..=count {
            let wait = Duration::from_secs(60);
            let request = kit::request("idle", &format!("turn-{turn}"), 1);
            settle.claim = Some(ClaimRequest { wait, ..request });
            if turn == count {
                settle.claim = None;
            }
            let reply = worker.settle(settle).await.unwrap();
            let Some(claim) = reply.claim else { return };
            assert_eq!(claim.leases.len(), 1, "no work came for {wait:?}");
            sent.send((claim.leases[0].spec.id.clone(), times.elapsed())).await.unwrap();
            settle = kit::settle(&claim.leases, Resolution::Completed);
        }
    });
    let mut latencies = Vec::new();
    for spec in kit::specs("single", count) {
        let id = spec.id.clone();
        let start = clock.elapsed();
        producer.register(vec![spec]).await.unwrap();
        let (taken, at) = tokio::time::timeout(DEADLINE, given.recv()).await.unwrap().unwrap();
        assert_eq!(taken, id);
        latencies.push(at.saturating_sub(start));
    }
    task.await.unwrap();
    latencies.sort_unstable();
    let (p50, p99) = (quantile(&latencies, 0.5), quantile(&latencies, 0.99));
    eprintln!("{count} picked up: p50 {p50:?}, p99 {p99:?}, longest {:?}", latencies.last());
    // The figure that counts belongs to the bench, on a machine that does nothing else.
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
}

const PROCESSES: usize = 4;
const CLAIMS: usize = 8;

/// Claims with a wait and completes, until it is told to end; who had what.
async fn idle(
    coordinator: Arc<ValkeyCoordinator>,
    worker: String,
    taken: Arc<Mutex<BTreeMap<String, u32>>>,
    mine: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
) {
    for turn in 0.. {
        if ended.load(Ordering::SeqCst) {
            return;
        }
        let wait = Duration::from_secs(2);
        let request =
            ClaimRequest { wait, ..kit::request(&worker, &format!("{worker}-{turn}"), 1) };
        let leases = coordinator.claim(request).await.unwrap().leases;
        for lease in &leases {
            *taken.lock().unwrap().entry(lease.spec.id.to_string()).or_insert(0) += 1;
            mine.fetch_add(1, Ordering::SeqCst);
        }
        if !leases.is_empty() {
            let reply = coordinator.settle(kit::settle(&leases, Resolution::Completed)).await;
            assert_eq!(reply.unwrap().outcomes[0].verdict, Verdict::Applied);
        }
    }
}

/// Marks that are there for claims to be woken by.
fn marks(server: &Valkey) -> i64 {
    let keys = server.command(&["KEYS", "*wk:*"]).unwrap();
    let size = |key: &sheaf_testkit::Reply| {
        server.command(&["ZCARD", key.text().unwrap()]).unwrap().integer().unwrap()
    };
    keys.items().iter().map(size).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_many_processes_take_every_batch_once() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let (taken, ended) =
        (Arc::<Mutex<BTreeMap<_, _>>>::default(), Arc::new(AtomicBool::new(false)));
    let (mut tasks, mut shares) = (Vec::new(), Vec::new());
    for process in 0..PROCESSES {
        // Woken, or never: looking would be too late.
        let coordinator = connect(builder(server.addr()).poll_interval(DEADLINE)).await;
        let mine = Arc::<AtomicUsize>::default();
        shares.push(Arc::clone(&mine));
        for claim in 0..CLAIMS {
            let worker = format!("worker-{process}-{claim}");
            let (taken, mine) = (Arc::clone(&taken), Arc::clone(&mine));
            let one = idle(Arc::clone(&coordinator), worker, taken, mine, Arc::clone(&ended));
            tasks.push(tokio::spawn(one));
        }
    }
    let producer = connect(builder(server.addr())).await;
    let count = sized(2_000, 50_000);
    let clock = SystemClock::shared();
    let mut slowest = Duration::ZERO;
    for (number, spec) in kit::specs("single", count).into_iter().enumerate() {
        producer.register(vec![spec]).await.unwrap();
        if number % 100 == 99 {
            // Now and then all of them are idle before the next comes.
            let start = clock.elapsed();
            let all = || async { taken.lock().unwrap().len() == number + 1 };
            wait_until_async(DEADLINE, "all to be taken", all).await.unwrap();
            slowest = slowest.max(clock.elapsed() - start);
        }
    }
    let most = Duration::from_secs(1);
    let shares: Vec<usize> = shares.iter().map(|share| share.load(Ordering::SeqCst)).collect();
    eprintln!("{count} taken by {shares:?}, the last after {slowest:?} at most");
    assert!(slowest < most, "one was left for {slowest:?}");
    assert!(taken.lock().unwrap().values().all(|times| *times == 1), "one was given twice");
    assert!(shares.iter().all(|share| *share > 0), "a process was never woken: {shares:?}");
    // What was taken last is still to be settled.
    let all = || async { kit::counts(&producer).await[&State::Completed] == u64::from(count) };
    wait_until_async(DEADLINE, "all to be completed", all).await.unwrap();
    // Whoever looks at a mark takes it off: at most one more is under way.
    wait_until(DEADLINE, "the marks to be taken off", || marks(&server) <= 1).unwrap();
    ended.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
    wait_until(DEADLINE, "few marks to stay", || marks(&server) <= 1).unwrap();
}

/// The same registration by many at once, of which some go together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_registrations_that_come_together_one_creates() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let coordinators =
        [connect(builder(server.addr())).await, connect(builder(server.addr())).await];
    for round in 0..sized(30, 1_000) {
        let all = (0..24).map(|caller| {
            let coordinator = Arc::clone(&coordinators[caller % 2]);
            // Some have one more, which is theirs alone.
            let mut specs = vec![kit::spec(&format!("shared-{round}"))];
            if caller % 3 == 0 {
                specs.push(kit::spec(&format!("own-{round}-{caller}")));
            }
            tokio::spawn(async move { coordinator.register(specs).await.unwrap() })
        });
        let mut answers = Vec::new();
        for one in all.collect::<Vec<_>>() {
            answers.push(one.await.unwrap());
        }
        let created = answers.iter().filter(|answer| answer[0].created).count();
        assert_eq!(created, 1, "{answers:?}");
        let first = answers[0][0].position;
        assert!(answers.iter().all(|answer| answer[0].position == first), "{answers:?}");
        assert!(answers.iter().filter_map(|answer| answer.get(1)).all(|one| one.created));
        // One that is refused is refused alone.
        let other = BatchSpec { rows: 11, ..kit::spec(&format!("shared-{round}")) };
        let good = coordinators[0].register(vec![kit::spec(&format!("good-{round}"))]);
        let (bad, good) = tokio::join!(coordinators[0].register(vec![other]), good);
        assert_eq!(kit::code(bad), Code::AlreadyExists);
        assert!(good.unwrap()[0].created);
    }
    let all = u64::from(sized(30_u32, 1_000)) * (1 + 8 + 1);
    assert_eq!(kit::counts(&coordinators[0]).await[&State::Pending], all);
}
