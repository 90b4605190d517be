//! T3 and T7: replies that get lost, and scripts that are forgotten.

use std::sync::Arc;
use std::time::Duration;

use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Coordinator, CoordinatorExt as _, Extension, Lease, Resolution, State,
    Verdict,
};
use sheaf_testkit::{FaultProxy, ReplyLoss, Valkey, wait_until_async};
use sheaf_valkey::ValkeyCoordinator;

use crate::kit::{
    self, DEADLINE, LONG, RESUMED, Traffic, again, assert_fences_grow, assert_once, builder,
    connect, sized,
};

const LOSSES: [ReplyLoss; 2] = [ReplyLoss::Cut, ReplyLoss::Silence];

/// A coordinator behind a proxy; a silent connection is given up soon.
async fn behind(proxy: &FaultProxy, namespace: &str) -> Arc<ValkeyCoordinator> {
    let builder = builder(proxy.addr()).namespace(namespace);
    connect(builder.timeout(Duration::from_millis(500))).await
}

/// One of each call, whose reply is lost: told by a word that only it has.
struct Calls<'a> {
    coordinator: &'a ValkeyCoordinator,
    /// Not behind the proxy.
    beside: &'a ValkeyCoordinator,
    proxy: &'a FaultProxy,
    loss: ReplyLoss,
}

impl Calls<'_> {
    /// Sends a call until it is answered, and loses the first reply to it.
    async fn lose<T, F>(&self, word: &str, call: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, sheaf_coordinator::Error>>,
    {
        let fault = self.proxy.lose_replies(word, 1, self.loss);
        let answer = again(call, drop).await;
        assert_eq!(fault.hits(), 1, "no reply was lost to what has {word:?}");
        answer
    }

    async fn register(&self) {
        let specs = || vec![kit::spec("lost-1"), kit::spec("lost-2")];
        let registered = self.lose("lost-1", || self.coordinator.register(specs())).await;
        assert_eq!(registered.len(), 2);
        assert!(registered[0].position.sequence < registered[1].position.sequence);
        let counts = kit::counts(self.beside).await;
        assert_eq!(counts[&State::Pending], 2, "registered once each");
    }

    async fn claim(&self, name: &str) -> Lease {
        let request = kit::request("worker", name, 1);
        let claim = self.lose(name, || self.coordinator.claim(request.clone())).await;
        assert_eq!(claim.leases.len(), 1);
        let counts = kit::counts(self.beside).await;
        assert_eq!((counts[&State::Pending], counts[&State::Processing]), (1, 1), "one lease");
        claim.leases[0].clone()
    }

    /// Completes, registers what was made and claims the other, in one call.
    async fn settle(&self, lease: &Lease) -> Lease {
        let mut request = kit::settle(std::slice::from_ref(lease), Resolution::Completed);
        let delay = Duration::from_secs(3_600);
        request.outcomes[0].outputs = vec![BatchSpec { delay, ..kit::spec("made") }];
        request.claim = Some(kit::request("worker", "claim-by-settle", 1));
        let word = "claim-by-settle";
        let reply = self.lose(word, || self.coordinator.settle(request.clone())).await;
        let verdict = reply.outcomes[0].verdict;
        assert!(matches!(verdict, Verdict::Applied | Verdict::AlreadyDone), "{verdict:?}");
        let next = reply.claim.unwrap().leases;
        assert_eq!(next.len(), 1, "the claim is answered as the first time");
        let counts = kit::counts(self.beside).await;
        let all = [State::Completed, State::Processing, State::Scheduled, State::Pending];
        assert_eq!(all.map(|state| counts[&state]), [1, 1, 1, 0]);
        next[0].clone()
    }

    async fn extend(&self, lease: &Lease) {
        let reference = kit::reference(lease);
        let (progress, duration) = (None, Some(2 * LONG));
        let extension = Extension { lease: reference, started: true, progress, duration };
        let word = lease.spec.id.as_str();
        let extended = self.lose(word, || self.coordinator.extend(vec![extension.clone()])).await;
        assert_eq!(extended[0].verdict, Verdict::Applied);
        let batch = self.beside.get(&lease.spec.id).await.unwrap().unwrap();
        assert_eq!(batch.attempts, 1, "charged once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t3_a_reply_that_is_lost_leaves_one_effect() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let proxy = FaultProxy::start(server.addr()).unwrap();
    for (number, loss) in LOSSES.into_iter().enumerate() {
        let name = format!("t3-{number}");
        let coordinator = behind(&proxy, &name).await;
        let beside = connect(builder(server.addr()).namespace(&name)).await;
        let calls = Calls { coordinator: &coordinator, beside: &beside, proxy: &proxy, loss };
        calls.register().await;
        let lease = calls.claim("claim-by-itself").await;
        let next = calls.settle(&lease).await;
        calls.extend(&next).await;
        // All of it goes on.
        let done = kit::settle(&[next], Resolution::Completed);
        let reply = again(|| coordinator.settle(done.clone()), drop).await;
        assert_eq!(reply.outcomes[0].state, Some(State::Completed));
        coordinator.close().await;
    }
}

/// A wake that is taken off and never arrives keeps nobody idle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn t3_a_wake_that_is_lost_is_given_again() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let beside = connect(builder(server.addr()).namespace("t3-wake")).await;
    for (number, loss) in LOSSES.into_iter().enumerate() {
        let idle = builder(proxy.addr()).namespace("t3-wake").poll_interval(DEADLINE);
        let coordinator = connect(idle).await;
        let fault = proxy.lose_replies("BZPOPMIN", 1, loss);
        let wait = Duration::from_secs(60);
        let request = kit::request("idle", &format!("waits-{number}"), 1);
        let request = ClaimRequest { wait, ..request };
        let waiting = tokio::spawn(async move {
            again(|| coordinator.claim(request.clone()), drop).await.leases.len()
        });
        let listens = || async { blocked(&server) > 0 };
        wait_until_async(DEADLINE, "somebody to listen", listens).await.unwrap();
        beside.register(vec![kit::spec(&format!("wakes-{number}"))]).await.unwrap();
        let woken = tokio::time::timeout(RESUMED, waiting).await;
        assert_eq!(woken.expect("still idle").unwrap(), 1, "{loss:?}");
        assert_eq!(fault.hits(), 1, "no wake was lost");
    }
}

/// Clients that the server holds until there is something.
fn blocked(server: &Valkey) -> u32 {
    server.info("clients").unwrap()["blocked_clients"].parse().unwrap()
}

/// While work goes on, any reply is lost, many times.
async fn lose_any(server: &Valkey, loss: ReplyLoss, times: u64) {
    let proxy = FaultProxy::start(server.addr()).unwrap();
    let name = format!("t3-any-{loss:?}");
    let coordinators = [behind(&proxy, &name).await, behind(&proxy, &name).await];
    let traffic = Traffic::start("any", &coordinators, LONG);
    traffic.goes_on(20, DEADLINE).await;
    for _ in 0..times {
        let fault = proxy.lose_replies("FCALL", 1, loss);
        wait_until_async(DEADLINE, "a reply to be lost", || async { fault.hits() == 1 })
            .await
            .unwrap();
        traffic.goes_on(20, DEADLINE).await;
    }
    let seen = traffic.finish(0).await;
    let (settled, errors) = (seen.settled.len(), seen.errors.len());
    eprintln!("{loss:?}: {times} replies lost, {settled} settled, {errors} calls sent again by us");
    assert_eq!(seen.refused, 0);
    assert_once(&coordinators[0], &seen).await;
    assert_fences_grow(&seen.fences);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t3_any_reply_is_lost_while_work_goes_on() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    lose_any(&server, ReplyLoss::Cut, sized(20, 2_000)).await;
    lose_any(&server, ReplyLoss::Silence, sized(3, 200)).await;
}

/// Nothing of it is seen by anybody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_t7_scripts_that_are_forgotten_are_loaded_again() {
    let Some(server) = Valkey::start(&[]).unwrap() else { return };
    let namespaced = || builder(server.addr()).namespace("t7");
    let coordinators = [connect(namespaced()).await, connect(namespaced()).await];
    let traffic = Traffic::start("flushed", &coordinators, LONG);
    traffic.goes_on(20, DEADLINE).await;
    for _ in 0..sized(40, 2_000) {
        server.command(&["FUNCTION", "FLUSH", "SYNC"]).unwrap();
        server.command(&["SCRIPT", "FLUSH", "SYNC"]).unwrap();
        traffic.goes_on(20, DEADLINE).await;
    }
    // An idle one, too: nothing but its own sweeps and this call.
    let seen = traffic.finish(0).await;
    server.command(&["FUNCTION", "FLUSH", "SYNC"]).unwrap();
    let idle = kit::request("worker", "after", 1);
    let wait = Duration::from_millis(100);
    coordinators[0].claim(ClaimRequest { wait, ..idle }).await.unwrap();
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert_once(&coordinators[0], &seen).await;
}
