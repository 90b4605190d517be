//! A state that moves from a file to Valkey, back, and between two namespaces.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sheaf_coordinator::conformance::migration::{self, Pair};
use sheaf_coordinator::embedded::{Config, Embedded, FileEndpoint};
use sheaf_coordinator::migration::{Endpoint, Options, Phase, Progress, abandon, migrate};
use sheaf_coordinator::{Coordinator, CoordinatorExt as _, Error, ListFilter, Resolution, State};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_testkit::Valkey;
use tokio::sync::Mutex;

use super::kit::{self, LONG};

#[derive(Clone, Copy)]
enum Kind {
    File,
    Valkey,
}

struct Pairs {
    from: Kind,
    to: Kind,
    home: tempfile::TempDir,
    server: Valkey,
    number: AtomicU32,
    open: Mutex<Vec<Arc<Embedded>>>,
}

impl Pairs {
    fn start(from: Kind, to: Kind) -> Option<Self> {
        let server = Valkey::start(&kit::DURABLE).unwrap()?;
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (number, open) = (AtomicU32::new(0), Mutex::default());
        Some(Pairs { from, to, home, server, number, open })
    }

    fn name(&self, side: &str) -> String {
        format!("{side}{}", self.number.load(Ordering::Relaxed))
    }

    fn path(&self, side: &str) -> PathBuf {
        self.home.path().join(format!("{}.redb", self.name(side)))
    }

    fn builder(&self, side: &str) -> sheaf_valkey::Builder {
        kit::builder(self.server.addr()).namespace(self.name(side))
    }

    async fn opened(&self, kind: Kind, side: &str) -> Result<Arc<dyn Coordinator>, Error> {
        match kind {
            Kind::Valkey => Ok(Arc::new(self.builder(side).connect(SystemClock::shared()).await?)),
            Kind::File => {
                let config = Config::disk(self.path(side));
                let opened = Arc::new(Embedded::open(config, SystemClock::shared())?);
                self.open.lock().await.push(opened.clone());
                Ok(opened)
            }
        }
    }

    async fn endpoint(&self, kind: Kind, side: &str) -> Box<dyn Endpoint> {
        match kind {
            Kind::Valkey => Box::new(self.builder(side).endpoint().await.unwrap()),
            Kind::File => {
                Box::new(FileEndpoint::open(self.path(side), SystemClock::shared()).unwrap())
            }
        }
    }
}

#[async_trait]
impl Pair for Pairs {
    async fn source(&self) -> Arc<dyn Coordinator> {
        self.number.fetch_add(1, Ordering::Relaxed);
        self.opened(self.from, "from").await.unwrap()
    }

    async fn again(&self) -> Result<Arc<dyn Coordinator>, Error> {
        self.opened(self.from, "from").await
    }

    async fn target(&self) -> Result<Arc<dyn Coordinator>, Error> {
        self.opened(self.to, "to").await
    }

    async fn close(&self) {
        for opened in self.open.lock().await.drain(..) {
            opened.close().await.unwrap();
        }
    }

    async fn endpoints(&self) -> (Box<dyn Endpoint>, Box<dyn Endpoint>) {
        (self.endpoint(self.from, "from").await, self.endpoint(self.to, "to").await)
    }
}

macro_rules! pairs {
    ($($name:ident: $from:ident to $to:ident),+ $(,)?) => {
        $(mod $name {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_state_arrives_whole_wherever_it_is_cut_off() {
                let Some(pairs) = Pairs::start(Kind::$from, Kind::$to) else { return };
                migration::run(&pairs).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_migration_that_is_given_up_changes_nothing() {
                let Some(pairs) = Pairs::start(Kind::$from, Kind::$to) else { return };
                migration::run_abandoned(&pairs).await;
            }
        })+
    };
}

pairs! { up: File to Valkey, down: Valkey to File, across: Valkey to Valkey }

fn options(drain_for: Duration, replace: bool) -> Options {
    Options { id: "m".to_owned(), drain_for, replace }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_end_what_they_have_before_a_state_moves() {
    let Some(pairs) = Pairs::start(Kind::Valkey, Kind::File) else { return };
    let source = kit::connect(pairs.builder("from")).await;
    source.register(kit::specs("a", 3)).await.unwrap();
    let held = source.claim(kit::request("w", "one", 2)).await.unwrap().leases;
    assert_eq!(held.len(), 2);
    let (mut from, mut to) = pairs.endpoints().await;
    let clock = SystemClock::shared();
    let (told, mut heard) = tokio::sync::mpsc::channel(8);
    let options = options(LONG, false);
    let mut tell = move |progress| {
        // Nobody listens once it has heard enough.
        let _sent = told.try_send(progress);
    };
    let moving = migrate(&mut *from, &mut *to, &options, &clock, &mut tell);
    let work = async {
        assert_eq!(heard.recv().await, Some(Progress::Draining(2)));
        let refused = source.register(kit::specs("b", 1)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert_eq!(source.claim(kit::request("w", "two", 9)).await.unwrap().leases, []);
        source.settle(kit::settle(&held, Resolution::Completed)).await.unwrap();
        drop(heard);
    };
    let (summary, ()) = tokio::join!(moving, work);
    let summary = summary.unwrap();
    assert_eq!((summary.head.batches, summary.live, summary.leases), (3, 1, 0));
    drop((from, to));
    let refused = source.claim(kit::request("w", "three", 9)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.to_string().contains("was moved to the file"), "{refused}");
    let target = pairs.target().await.unwrap();
    let filter = ListFilter { states: vec![State::Completed], ..ListFilter::default() };
    assert_eq!(target.list(filter).await.unwrap().batches.len(), 2);
    drop(target);
    pairs.close().await;
}

/// Nobody takes it for a coordinator that is empty while the source is drained.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_moved_away_is_so_until_it_is_filled_again() {
    let Some(pairs) = Pairs::start(Kind::Valkey, Kind::Valkey) else { return };
    kit::connect(pairs.builder("from")).await.register(kit::specs("a", 3)).await.unwrap();
    let (mut from, mut to) = pairs.endpoints().await;
    let clock = SystemClock::shared();
    let once = options(Duration::ZERO, false);
    migrate(&mut *from, &mut *to, &once, &clock, &mut |_| {}).await.unwrap();
    let there = kit::connect(pairs.builder("to")).await;
    let held = there.claim(kit::request("w", "one", 1)).await.unwrap().leases;
    let (told, mut heard) = tokio::sync::mpsc::channel(8);
    let back = Options { id: "back".to_owned(), ..options(LONG, true) };
    let mut tell = move |progress| {
        let _sent = told.try_send(progress);
    };
    let moving = migrate(&mut *to, &mut *from, &back, &clock, &mut tell);
    let work = async {
        assert_eq!(heard.recv().await, Some(Progress::Draining(1)));
        let mut target = pairs.endpoint(Kind::Valkey, "from").await;
        assert!(matches!(target.phase().await.unwrap(), Phase::Moved(_)));
        there.settle(kit::settle(&held, Resolution::Completed)).await.unwrap();
        drop(heard);
    };
    let (summary, ()) = tokio::join!(moving, work);
    assert_eq!(summary.unwrap().head.batches, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_migrations_of_one_state_do_not_mix() {
    let Some(pairs) = Pairs::start(Kind::Valkey, Kind::File) else { return };
    kit::connect(pairs.builder("from")).await.register(kit::specs("a", 3)).await.unwrap();
    let (mut from, mut to) = pairs.endpoints().await;
    let (mut again, other) = (pairs.endpoint(Kind::Valkey, "from").await, pairs.home.path());
    let mut other = FileEndpoint::open(other.join("other.redb"), SystemClock::shared()).unwrap();
    let clock = SystemClock::shared();
    let begun = sheaf_coordinator::migration::Migration {
        id: "one".to_owned(),
        from: from.name(),
        to: to.name(),
        began_at: clock.now(),
    };
    from.enter(&Phase::Frozen(begun)).await.unwrap();
    let options = options(Duration::ZERO, false);
    let refused = migrate(&mut *again, &mut other, &options, &clock, &mut |_| {}).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("is being moved to the file"), "{refused}");
    assert!(abandon(&mut *again, &mut other).await.is_err(), "it is not the target");
    let summary = migrate(&mut *from, &mut *to, &options, &clock, &mut |_| {}).await.unwrap();
    assert!(summary.is_resumed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_was_left_is_emptied_whole() {
    let Some(pairs) = Pairs::start(Kind::Valkey, Kind::Valkey) else { return };
    let source = kit::connect(pairs.builder("from")).await;
    let claim = kit::request("w", "one", 1);
    kit::register_all(&source, kit::specs("a", 1_500)).await;
    let fence = source.claim(claim.clone()).await.unwrap().leases.remove(0).fence;
    drop(source);
    let (mut from, mut to) = pairs.endpoints().await;
    let clock = SystemClock::shared();
    let options = options(Duration::ZERO, true);
    migrate(&mut *from, &mut *to, &options, &clock, &mut |_| {}).await.unwrap();
    migrate(&mut *to, &mut *from, &options, &clock, &mut |_| {}).await.unwrap();
    assert_eq!(from.head().await.unwrap().batches, 1_500);
    let back = kit::connect(pairs.builder("from")).await;
    assert_eq!(back.claim(claim).await.unwrap().leases[0].fence, fence, "it is still held");
    let next = back.claim(kit::request("w", "two", 1)).await.unwrap().leases.remove(0).fence;
    assert!(next > fence, "{next} is above {fence}");
    to.discard().await.unwrap();
    let pattern = format!("{{{}}}:*", pairs.name("to"));
    let left = pairs.server.command(&["KEYS", &pattern]).unwrap();
    let left: Vec<&str> = left.items().iter().filter_map(|key| key.text()).collect();
    // What tokens go on from, and the mark that waits for the disk.
    assert!(left.iter().all(|key| key.ends_with(":m") || key.ends_with(":mk")), "{left:?}");
}

/// What is counted of a batch that is ready again goes along.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_leases_and_attempts_are_not_forgotten() {
    let Some(pairs) = Pairs::start(Kind::Valkey, Kind::Valkey) else { return };
    let source = kit::connect(pairs.builder("from")).await;
    source.register(kit::specs("a", 1)).await.unwrap();
    let lease = Duration::from_millis(100);
    let claim = sheaf_coordinator::ClaimRequest { lease, ..kit::request("w", "one", 1) };
    assert_eq!(source.claim(claim).await.unwrap().leases.len(), 1);
    let id = "a000000".parse().unwrap();
    let is_back = || async {
        let batch = source.get(&id).await.unwrap().unwrap();
        (batch.state == State::Pending).then_some(batch)
    };
    let before =
        sheaf_testkit::wait_for_async(kit::DEADLINE, "the lease to end", is_back).await.unwrap();
    assert_eq!((before.attempts, before.lost_leases), (1, 1));
    drop(source);
    let (mut from, mut to) = pairs.endpoints().await;
    let clock = SystemClock::shared();
    migrate(&mut *from, &mut *to, &options(Duration::ZERO, false), &clock, &mut |_| {})
        .await
        .unwrap();
    let after = kit::connect(pairs.builder("to")).await.get(&id).await.unwrap().unwrap();
    assert_eq!((after.attempts, after.lost_leases), (1, 1));
    assert_eq!(after.last_fence, before.last_fence);
}
