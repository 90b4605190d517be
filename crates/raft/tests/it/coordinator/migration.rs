//! A state that moves from a file to the log, back, and between two clusters.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use sheaf_coordinator::conformance::migration::{self, Pair};
use sheaf_coordinator::embedded::{Config as FileConfig, Embedded, FileEndpoint};
use sheaf_coordinator::migration::Endpoint;
use sheaf_coordinator::{Coordinator, Error, Query};
use sheaf_flight::{
    ChannelPool, ClientConfig, Exposure, FlightRouter, Listener, Server, ServerHandle,
};
use sheaf_raft::coordinator::{
    Config, EngineMachine, MigrationActions, RaftCoordinator, RemoteEndpoint,
};
use sheaf_retry::SystemClock;
use tokio::sync::Mutex;

use super::local::{LocalReplica, Nobody};

#[derive(Clone, Copy)]
enum Kind {
    File,
    Log,
    /// A log that is moved from and to over Flight.
    Remote,
}

struct Pairs {
    from: Kind,
    to: Kind,
    home: tempfile::TempDir,
    number: AtomicU32,
    open: Mutex<Vec<Arc<Embedded>>>,
    clusters: Mutex<HashMap<String, RaftCoordinator<LocalReplica>>>,
    servers: Mutex<HashMap<String, (String, ServerHandle)>>,
}

impl Pairs {
    fn new(from: Kind, to: Kind) -> Self {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (number, open) = (AtomicU32::new(0), Mutex::default());
        let (clusters, servers) = (Mutex::default(), Mutex::default());
        Pairs { from, to, home, number, open, clusters, servers }
    }

    fn name(&self, side: &str) -> String {
        format!("{side}{}", self.number.load(Ordering::Relaxed))
    }

    fn path(&self, side: &str) -> PathBuf {
        self.home.path().join(format!("{}.redb", self.name(side)))
    }

    async fn cluster(&self, side: &str) -> RaftCoordinator<LocalReplica> {
        let start = || {
            let replica = LocalReplica::new(EngineMachine::new(), 1);
            let (forward, clock) = (Arc::new(Nobody), SystemClock::shared());
            RaftCoordinator::start(replica, Config::new(1), forward, clock)
        };
        let mut clusters = self.clusters.lock().await;
        clusters.entry(self.name(side)).or_insert_with(start).clone()
    }

    async fn opened(&self, kind: Kind, side: &str) -> Result<Arc<dyn Coordinator>, Error> {
        match kind {
            Kind::Log | Kind::Remote => {
                let coordinator = self.cluster(side).await;
                coordinator.query(Query::History).await?;
                Ok(Arc::new(coordinator))
            }
            Kind::File => {
                let config = FileConfig::disk(self.path(side));
                let opened = Arc::new(Embedded::open(config, SystemClock::shared())?);
                self.open.lock().await.push(opened.clone());
                Ok(opened)
            }
        }
    }

    /// Where the cluster of this side is reached.
    async fn server(&self, side: &str) -> String {
        let name = self.name(side);
        let mut servers = self.servers.lock().await;
        if let Some((at, _)) = servers.get(&name) {
            return at.clone();
        }
        let pool = ChannelPool::new(ClientConfig::default(), SystemClock::shared());
        let actions = MigrationActions::new(self.cluster(side).await, &*name, pool);
        let router = FlightRouter::builder().actions(Arc::new(actions)).build().unwrap();
        let listener = Listener::bind("127.0.0.1:0", "address", Exposure::Loopback).unwrap();
        let at = format!("grpc://{}", listener.local_addr());
        let handle = Server::new(router).serve(listener).await.unwrap();
        servers.insert(name, (at.clone(), handle));
        at
    }

    async fn endpoint(&self, kind: Kind, side: &str) -> Box<dyn Endpoint> {
        match kind {
            Kind::Log => Box::new(self.cluster(side).await.endpoint(self.name(side))),
            Kind::Remote => {
                let (node, clock) = (self.server(side).await, SystemClock::shared());
                let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
                // Nobody is at the first address.
                let nodes = ["grpc://127.0.0.1:1".to_owned(), node];
                Box::new(RemoteEndpoint::connect(&pool, &nodes, clock).await.unwrap())
            }
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
                migration::run(&Pairs::new(Kind::$from, Kind::$to)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_migration_that_is_given_up_changes_nothing() {
                migration::run_abandoned(&Pairs::new(Kind::$from, Kind::$to)).await;
            }
        })+
    };
}

pairs! {
    up: File to Log,
    down: Log to File,
    across: Log to Log,
    up_from_afar: File to Remote,
    down_from_afar: Remote to File,
}
