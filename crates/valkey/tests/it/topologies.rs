//! Every way to a server: users, TLS, Sentinels, a Cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use sheaf_coordinator::{CoordinatorExt as _, State};
use sheaf_retry::{Code, Retryable as _, SystemClock};
use sheaf_testkit::{Cluster, Flavour, Sentinels, TlsFiles, Valkey};
use sheaf_valkey::{Builder, Durability, ValkeyCoordinator};

use crate::kit::{
    self, DEADLINE, DURABLE, LONG, RESUMED, Traffic, assert_fences_grow, builder, connect,
    quick_core, sized,
};

/// All that a user of a coordinator of this namespace needs. Of `+@write` much
/// is taken back: it has commands for the whole server.
const RULES: [&str; 12] = [
    "resetkeys",
    "~{sheaf}:*",
    "-@all",
    "+@read",
    "+@write",
    "-@dangerous",
    "-@scripting",
    "+fcall",
    "+function|load",
    "+info",
    "+time",
    // Works without, but each connection begins with it.
    "+client|id",
];

/// What a coordinator that waits for replicas or for the disk needs too.
const DURABLE_RULES: [&str; 3] = ["+eval", "+wait", "+waitaof"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_needs_no_more_than_this() {
    for flavour in Flavour::ALL {
        let options = Valkey::options(flavour).args(&["--requirepass", "of the kit"]);
        let Some(server) = options.user("sheaf", "p@ss", &RULES).start().unwrap() else { continue };
        let by_url = builder(format!("valkey://sheaf:p%40ss@{}", server.addr()));
        quick_core(&connect(by_url.poll_interval(DEADLINE)).await, "by-url").await;
        let by_call = builder(server.addr()).username("sheaf").password("p@ss");
        quick_core(&connect(by_call.poll_interval(DEADLINE)).await, "by-call").await;
        let log = server.command(&["ACL", "LOG"]).unwrap();
        assert!(log.items().is_empty(), "something was refused: {log:?}");
        // Other names are another's.
        let other = builder(server.addr()).username("sheaf").password("p@ss").namespace("other");
        let error = other.connect(SystemClock::shared()).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied, "{}", kit::text(&error));
    }
}

/// What each rule is for: without it, something is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_needs_no_less_than_this() {
    let options = Valkey::options(Flavour::Valkey).args(&["--requirepass", "of the kit"]);
    let Some(server) = options.args(&DURABLE).start().unwrap() else { return };
    let _replica = Valkey::start_replica_of(&server, &["--masterauth", "of the kit"]).unwrap();
    let all = [&RULES[..], &DURABLE_RULES[..]].concat();
    for rule in all.iter().filter(|rule| rule.starts_with(['+', '~'])) {
        let rules = all.iter().filter(|other| *other != rule);
        let mut words = vec!["ACL", "SETUSER", "sheaf", "reset", "on", ">secret"];
        words.extend(rules);
        server.command(&words).unwrap();
        server.command(&["ACL", "LOG", "RESET"]).unwrap();
        server.command(&["FLUSHALL"]).unwrap();
        server.command(&["FUNCTION", "FLUSH"]).unwrap();
        let builder = builder(server.addr()).username("sheaf").password("secret");
        let builder = builder.timeout(Duration::from_secs(1)).durability(match *rule {
            "+waitaof" => Durability::Fsynced,
            _ => Durability::Replicated,
        });
        let connected = builder.connect(SystemClock::shared()).await;
        let refused = match connected {
            Err(error) => Some(kit::text(&error)),
            Ok(connected) => {
                let connected = Arc::new(connected);
                let name = "core";
                let core = tokio::spawn(async move { quick_core(&connected, name).await });
                core.await.err().map(|error| error.to_string())
            }
        };
        let log = server.command(&["ACL", "LOG"]).unwrap();
        let listed = log.items().len();
        eprintln!("without {rule}: {listed} refused, {refused:?}");
        assert!(listed > 0, "nothing was refused without {rule}");
        assert!(refused.is_some() || *rule == "+client|id", "goes on without {rule}");
    }
}

fn tls(trusts: &TlsFiles, shows: Option<&TlsFiles>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trusts.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match shows {
        None => config.with_no_client_auth(),
        Some(files) => {
            let chain = vec![CertificateDer::from_pem_file(files.client_certificate()).unwrap()];
            let key = PrivateKeyDer::from_pem_file(files.client_key()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

fn over_tls(addr: SocketAddr, config: ClientConfig) -> Builder {
    let builder = builder(format!("valkeys://localhost:{}", addr.port()));
    builder.tls(config).timeout(Duration::from_secs(2)).poll_interval(DEADLINE)
}

async fn refused(builder: Builder) {
    let error = builder.connect(SystemClock::shared()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{}", kit::text(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_an_authority_of_ones_own() {
    let (files, others) = (TlsFiles::new().unwrap(), TlsFiles::new().unwrap());
    let Some(mut server) = Valkey::start_tls(&files, &DURABLE).unwrap() else { return };
    let addr = server.tls_addr().unwrap();
    let coordinator = connect(over_tls(addr, tls(&files, None))).await;
    quick_core(&coordinator, "trusted").await;
    refused(over_tls(addr, tls(&others, None))).await;
    // And again after it was gone.
    server.restart().unwrap();
    kit::again(|| coordinator.stats(None), drop).await;
    quick_core(&coordinator, "anew").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_certificates_on_both_sides() {
    let (files, others) = (TlsFiles::new().unwrap(), TlsFiles::new().unwrap());
    let args = ["--tls-auth-clients", "yes"];
    let Some(server) = Valkey::start_tls(&files, &args).unwrap() else { return };
    let addr = server.tls_addr().unwrap();
    quick_core(&connect(over_tls(addr, tls(&files, Some(&files)))).await, "mutual").await;
    refused(over_tls(addr, tls(&files, None))).await;
    refused(over_tls(addr, tls(&files, Some(&others)))).await;
}

fn sentinel_address(sentinels: &Sentinels) -> String {
    let addrs = sentinels.addrs();
    let others: String = addrs[1..].iter().map(|addr| format!("node={addr}&")).collect();
    format!("valkey-sentinel://{}?{others}sentinelServiceName={}", addrs[0], Sentinels::NAME)
}

/// What was acknowledged is known, or told to be lost; what was lost is
/// registered again, as a reconciler does, and all is done in the end.
async fn reconcile(traffic: Traffic, coordinator: &Arc<ValkeyCoordinator>) {
    traffic.goes_on(30, DEADLINE).await;
    let registered = traffic.seen().registered.clone();
    let history = coordinator.history().await.unwrap();
    let ids: Vec<_> = registered.keys().map(|id| id.parse().unwrap()).collect();
    let mut lost = registered.clone();
    for batch in kit::known(coordinator, &ids).await {
        lost.remove(batch.spec.id.as_str());
    }
    for (id, position) in &lost {
        assert!(!history.has(*position), "{id} was lost in silence");
    }
    if !lost.is_empty() {
        kit::register_all(coordinator, lost.keys().map(|id| kit::spec(id)).collect()).await;
    }
    let seen = traffic.finish(0).await;
    let (all, errors) = (seen.registered.len(), seen.errors.len());
    eprintln!("{all} registered, {} lost and told, {errors} calls sent again", lost.len());
    assert_fences_grow(&seen.fences);
    for batch in kit::known(coordinator, &ids).await {
        // A settle that was acknowledged and did not reach the replica leaves its batch under
        // a lease that outlasts the test; nothing else is left undone.
        let is_told =
            batch.state == State::Processing && seen.settled.contains_key(batch.spec.id.as_str());
        assert!(batch.state == State::Completed || is_told, "{batch:?}");
    }
    let counts = kit::counts(coordinator).await;
    let there = counts[&State::Completed] + counts[&State::Processing];
    assert!(there >= seen.registered.len() as u64, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_sentinels_name_another_primary_while_work_goes_on() {
    let Some(mut sentinels) = Sentinels::start(Flavour::Valkey, &[]).unwrap() else { return };
    let address = sentinel_address(&sentinels);
    let new = || builder(&address).poll_interval(DEADLINE).timeout(Duration::from_secs(2));
    let coordinators = [connect(new()).await, connect(new()).await];
    quick_core(&coordinators[0], "before").await;
    let traffic = Traffic::start("sentinels", &coordinators, LONG);
    for round in 0..sized(1, 10) {
        traffic.goes_on(30, DEADLINE).await;
        let old = sentinels.kill_primary().unwrap();
        let new = sentinels.wait_for_failover(old, DEADLINE).unwrap();
        let resumed = traffic.all_work_since(traffic.now()).await;
        eprintln!("{round}: from {old} to {new}, all work again after {resumed:?}");
        assert!(resumed <= RESUMED, "stood still for {resumed:?}");
        if sheaf_testkit::soak() {
            sentinels.server(old).unwrap().restart().unwrap();
            sentinels.wait_until_whole(DEADLINE).unwrap();
        }
    }
    reconcile(traffic, &coordinators[1]).await;
    quick_core(&coordinators[0], "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soak_a_cluster_loses_the_primary_of_the_slot_while_work_goes_on() {
    let Some(mut cluster) = Cluster::start(Flavour::Valkey, &[]).unwrap() else { return };
    let slot = cluster.slot_of("{sheaf}:m").unwrap();
    let addrs = cluster.addrs();
    // One node is enough to find all.
    let address = format!("valkey-cluster://{}?node={}", addrs[0], addrs[5]);
    let new = || builder(&address).poll_interval(DEADLINE).timeout(Duration::from_secs(2));
    let coordinators = [connect(new()).await, connect(new()).await];
    quick_core(&coordinators[0], "before").await;
    let traffic = Traffic::start("cluster", &coordinators, LONG);
    for round in 0..sized(1, 10) {
        traffic.goes_on(30, DEADLINE).await;
        let old = cluster.kill_primary_of_slot(slot).unwrap();
        let new = cluster.wait_for_failover(slot, old, DEADLINE).unwrap();
        let resumed = traffic.all_work_since(traffic.now()).await;
        eprintln!("{round}: from {old} to {new}, all work again after {resumed:?}");
        assert!(resumed <= RESUMED, "stood still for {resumed:?}");
        cluster.restart(old).unwrap();
        cluster.wait_until_ok(DEADLINE).unwrap();
        traffic.goes_on(30, DEADLINE).await;
    }
    reconcile(traffic, &coordinators[1]).await;
    quick_core(&coordinators[0], "after").await;
}
