//! Batches of a node, as workers would leave them.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{
    ClaimRequest, Coordinator as _, CoordinatorExt as _, Failure, Lease, LeaseRef, Outcome,
    Resolution, SettleRequest, State,
};
use sheaf_flight::{ChannelPool, ClientConfig};
use sheaf_retry::{Code, SystemClock, Timestamp};
use sheaf_rpc::{RpcCoordinator, RpcOptions};
use sheaf_testkit::wait_until;
use tokio::runtime::Runtime;

use super::TIME;

/// The stage that they wait for.
pub(super) const QUEUE: &str = "fraud-check";

pub(super) struct Batches {
    runtime: Runtime,
    coordinator: Arc<RpcCoordinator>,
}

impl Batches {
    pub(super) fn of(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let clock = SystemClock::shared();
        let pool = ChannelPool::new(ClientConfig::default(), clock.clone());
        let target = address.parse().unwrap();
        let coordinator = RpcCoordinator::new(pool, target, RpcOptions::default(), clock);
        Batches { runtime, coordinator: Arc::new(coordinator) }
    }

    fn claim(&self, request: &str, most: usize) -> Vec<Lease> {
        let request = ClaimRequest::new("a worker", request, 100, Duration::from_secs(60));
        let request = ClaimRequest { queues: vec![QUEUE.to_owned()], ..request };
        let leases = self.runtime.block_on(self.coordinator.claim(request)).unwrap().leases;
        assert_eq!(leases.len(), most);
        leases
    }

    fn settle(&self, leases: &[Lease], resolution: Resolution, error: Option<&Failure>) {
        let outcomes = leases.iter().map(|lease| Outcome {
            lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
            resolution,
            error: error.cloned(),
            outputs: Vec::new(),
            delay: Duration::ZERO,
        });
        let request = SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() };
        self.runtime.block_on(self.coordinator.settle(request)).unwrap();
    }

    /// A worker takes the three that were put, and fails with this text.
    pub(super) fn fail(&self, why: &str) {
        let leases = self.claim("the first", 3);
        let error = Failure {
            code: Code::MalformedData,
            message: why.to_owned(),
            permanent: true,
            at: Timestamp::EPOCH,
        };
        self.settle(&leases, Resolution::Failed, Some(&error));
    }

    /// A worker takes them again, and completes them.
    pub(super) fn complete(&self) {
        let leases = self.claim("the second", 3);
        self.settle(&leases, Resolution::Completed, None);
    }

    pub(super) fn state(&self, id: &str) -> State {
        let id = id.parse().unwrap();
        self.runtime.block_on(self.coordinator.get(&id)).unwrap().unwrap().state
    }

    pub(super) fn wait_for(&self, id: &str, state: State) {
        wait_until(TIME, "the state of a batch", || self.state(id) == state).unwrap();
    }
}
