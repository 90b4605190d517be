//! T3: the reply of every call gets lost, in every way, and each call has one
//! effect. The proxy lets the server answer in full before.

use std::sync::Arc;

use sheaf_coordinator::{
    Answer, Control, Coordinator, Extension, Lease, LeaseRef, Outcome, Query, Resolution,
    SettleRequest, State, Verdict,
};
use sheaf_testkit::{Call, CallProxy, Loss};

use crate::harness::{batch, claim, embedded, id, json, patient, rpc, serve, spec};

/// Replies lost of each call.
const LOST: u64 = 2;

fn lease_ref(lease: &Lease) -> LeaseRef {
    LeaseRef { id: lease.spec.id.clone(), fence: lease.fence }
}

async fn count(coordinator: &dyn Coordinator, state: State) -> u64 {
    match coordinator.query(Query::Stats(None)).await.unwrap() {
        Answer::Stats(queues) => queues.iter().map(|queue| queue.counts[&state]).sum(),
        other => panic!("{other:?}"),
    }
}

/// The life of two batches, every reply on the way lost.
struct Life<'a> {
    /// What really happened.
    truth: Arc<dyn Coordinator>,
    client: &'a dyn Coordinator,
    proxy: &'a CallProxy,
    json: bool,
    loss: Loss,
}

impl Life<'_> {
    /// Makes a call whose first replies get lost.
    async fn lossy<T>(&self, action: &str, method: &str, call: impl Future<Output = T>) -> T {
        let meant = if self.json { Call::action(action) } else { Call::method(method) };
        let lost = self.proxy.lose_replies(meant, LOST, self.loss);
        let answer = call.await;
        assert_eq!(lost.hits(), LOST, "{method}: no reply was lost");
        answer
    }

    async fn live(&self) {
        let specs = vec![spec("a"), spec("b")];
        let registered =
            self.lossy("RegisterBatch", "Register", self.client.register(specs)).await.unwrap();
        // The answer of the first time is gone; it was made then.
        assert!(registered.iter().all(|one| one.state == State::Pending));
        assert_eq!(count(&*self.truth, State::Pending).await, 2);

        let claimed = self.lossy("Claim", "Claim", self.client.claim(claim("r", 1))).await.unwrap();
        let [first] = &claimed.leases[..] else { panic!("{claimed:?}") };
        let a = batch(&*self.truth, "a").await;
        assert_eq!((a.attempts, a.last_fence), (1, first.fence));
        assert_eq!(count(&*self.truth, State::Processing).await, 1, "one claim, one batch");

        let extension =
            Extension { lease: lease_ref(first), started: true, progress: None, duration: None };
        let extended =
            self.lossy("Extend", "Extend", self.client.extend(vec![extension])).await.unwrap();
        assert_eq!(extended[0].verdict, Verdict::Applied);
        assert_eq!(batch(&*self.truth, "a").await.attempts, 1, "started once");

        let outcome = Outcome {
            lease: lease_ref(first),
            resolution: Resolution::Completed,
            error: None,
            outputs: vec![spec("a.out")],
            delay: std::time::Duration::ZERO,
        };
        let request = SettleRequest {
            outcomes: vec![outcome],
            claim: Some(claim("next", 1)),
            ..SettleRequest::default()
        };
        let settled = self.lossy("Settle", "Settle", self.client.settle(request)).await.unwrap();
        assert_eq!(settled.outcomes[0].verdict, Verdict::AlreadyDone);
        let next = settled.claim.unwrap().leases;
        assert_eq!(next.len(), 1, "the claim that rode along is answered again, not made again");
        assert_eq!(batch(&*self.truth, "a").await.outputs, [id("a.out")]);
        for state in [State::Completed, State::Processing, State::Pending] {
            assert_eq!(count(&*self.truth, state).await, 1, "{state:?}");
        }

        let outcome = Outcome {
            lease: lease_ref(&next[0]),
            resolution: Resolution::Failed,
            error: None,
            outputs: Vec::new(),
            delay: std::time::Duration::ZERO,
        };
        let request = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
        let settled = self.lossy("Settle", "Settle", self.client.settle(request)).await.unwrap();
        assert_eq!(settled.outcomes[0].verdict, Verdict::AlreadyDone);
        let failed = batch(&*self.truth, next[0].spec.id.as_str()).await;
        assert_eq!(failed.attempts, 1, "a failure is counted once");

        let cancel = self.client.control(Control::Cancel(vec![id("a.out")]));
        self.lossy("CancelBatch", "Control", cancel).await.unwrap();
        assert_eq!(count(&*self.truth, State::Cancelled).await, 1);
    }
}

async fn every_loss(as_json: bool) {
    for loss in [Loss::Connection, Loss::Reset, Loss::Silence] {
        eprintln!("json {as_json}, {loss:?}");
        let truth = embedded().await;
        let server = serve(Arc::clone(&truth)).await;
        let proxy = CallProxy::start(server.local_addr()).unwrap();
        let client: Arc<dyn Coordinator> = if as_json {
            Arc::new(json(&proxy.uri(), patient()))
        } else {
            Arc::new(rpc(&proxy.uri(), patient()))
        };
        let (client, proxy) = (&*client, &proxy);
        Life { truth, client, proxy, json: as_json, loss }.live().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_have_one_effect_each_over_grpc() {
    every_loss(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_have_one_effect_each_over_json_actions() {
    every_loss(true).await;
}
