//! A state that moves from one file to another.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use sheaf_coordinator::conformance::migration::{self, Pair};
use sheaf_coordinator::embedded::{Config, Embedded, FileEndpoint};
use sheaf_coordinator::migration::{Endpoint, Options, Phase, migrate};
use sheaf_coordinator::{Coordinator, CoordinatorExt as _, Error, ListFilter};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use tokio::sync::Mutex;

struct Files {
    home: tempfile::TempDir,
    number: AtomicU32,
    open: Mutex<Vec<Arc<Embedded>>>,
}

impl Files {
    fn new() -> Self {
        Files { home: super::directory(), number: AtomicU32::new(0), open: Mutex::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}{}.redb", self.number.load(Ordering::Relaxed)))
    }

    async fn opened(&self, name: &str) -> Result<Arc<dyn Coordinator>, Error> {
        let config = Config::disk(self.path(name));
        let opened = Arc::new(Embedded::open(config, SystemClock::shared())?);
        self.open.lock().await.push(opened.clone());
        Ok(opened)
    }

    fn endpoint(&self, name: &str) -> Box<dyn Endpoint> {
        Box::new(FileEndpoint::open(self.path(name), SystemClock::shared()).unwrap())
    }
}

#[async_trait]
impl Pair for Files {
    async fn source(&self) -> Arc<dyn Coordinator> {
        self.number.fetch_add(1, Ordering::Relaxed);
        self.opened("from").await.unwrap()
    }

    async fn again(&self) -> Result<Arc<dyn Coordinator>, Error> {
        self.opened("from").await
    }

    async fn target(&self) -> Result<Arc<dyn Coordinator>, Error> {
        self.opened("to").await
    }

    async fn close(&self) {
        for opened in self.open.lock().await.drain(..) {
            opened.close().await.unwrap();
        }
    }

    async fn endpoints(&self) -> (Box<dyn Endpoint>, Box<dyn Endpoint>) {
        (self.endpoint("from"), self.endpoint("to"))
    }
}

fn options(replace: bool) -> Options {
    Options { id: "m".to_owned(), drain_for: std::time::Duration::ZERO, replace }
}

#[tokio::test]
async fn a_state_arrives_whole_wherever_it_is_cut_off() {
    migration::run(&Files::new()).await;
}

#[tokio::test]
async fn a_migration_that_is_given_up_changes_nothing() {
    migration::run_abandoned(&Files::new()).await;
}

#[tokio::test]
async fn there_and_back_again_tokens_go_on() {
    let files = Files::new();
    let source = files.source().await;
    source.register(vec![super::spec("a")]).await.unwrap();
    let first = source.claim(super::claim("one", 1)).await.unwrap().leases.remove(0).fence;
    drop(source);
    files.close().await;
    let clock = SystemClock::shared();
    let (mut from, mut to) = files.endpoints().await;
    migrate(&mut *from, &mut *to, &options(false), &clock, &mut |_| {}).await.unwrap();
    let refused = migrate(&mut *to, &mut *from, &options(false), &clock, &mut |_| {}).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.to_string().contains("--replace"), "{refused}");
    migrate(&mut *to, &mut *from, &options(true), &clock, &mut |_| {}).await.unwrap();
    assert!(matches!(to.phase().await.unwrap(), Phase::Moved(_)));
    drop((from, to));
    let back = files.again().await.unwrap();
    back.register(vec![super::spec("b")]).await.unwrap();
    let next = back.claim(super::claim("two", 1)).await.unwrap().leases.remove(0).fence;
    assert!(next > first, "{next} is above {first}");
    drop(back);
    files.close().await;
}

#[tokio::test]
async fn what_cannot_be_read_arrives_as_failed() {
    let files = Files::new();
    let source = files.source().await;
    source.register(vec![super::spec("good"), super::spec("bad")]).await.unwrap();
    drop(source);
    files.close().await;
    super::damage::break_second(&files.path("from"));
    let (mut from, mut to) = files.endpoints().await;
    let clock = SystemClock::shared();
    let summary =
        migrate(&mut *from, &mut *to, &options(false), &clock, &mut |_| {}).await.unwrap();
    assert_eq!((summary.head.batches, summary.live), (2, 1));
    drop((from, to));
    let target = files.target().await.unwrap();
    let batches = target.list(ListFilter::default()).await.unwrap().batches;
    let code = batches[1].error.as_ref().map(|error| error.code);
    assert_eq!((batches[1].spec.id.as_str(), code), ("bad", Some(Code::Corrupt)));
    drop(target);
    files.close().await;
}

#[tokio::test]
async fn who_is_no_empty_target_or_no_source_is_told() {
    let files = Files::new();
    let clock = SystemClock::shared();
    let source = files.source().await;
    source.register(vec![super::spec("a")]).await.unwrap();
    drop(source);
    let in_use = FileEndpoint::open(files.path("from"), clock.clone()).unwrap_err();
    assert_eq!(in_use.code(), Code::DirectoryLocked);
    assert!(in_use.to_string().contains("stop that server first"), "{in_use}");
    files.close().await;
    let target = files.target().await.unwrap();
    target.register(vec![super::spec("b")]).await.unwrap();
    drop(target);
    files.close().await;
    let (mut from, mut to) = files.endpoints().await;
    let refused = migrate(&mut *from, &mut *to, &options(true), &clock, &mut |_| {}).await;
    assert!(refused.unwrap_err().to_string().contains("has 1 batches of its own"));
    assert_eq!(from.phase().await.unwrap(), Phase::Serving, "nothing was begun");
    let path = files.home.path().join("absent.redb");
    let mut absent = FileEndpoint::open(path, clock.clone()).unwrap();
    let other = files.home.path().join("other.redb");
    let mut other = FileEndpoint::open(other, clock.clone()).unwrap();
    let refused = migrate(&mut absent, &mut other, &options(false), &clock, &mut |_| {}).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}
