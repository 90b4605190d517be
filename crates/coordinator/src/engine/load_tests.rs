//! Bounds of work: counted, not timed.

use super::tests::{claim, everything};
use super::*;
use crate::model::{BatchSpec, OnParentFailure, Resolution};
use crate::policy::{QueuePolicy, RateLimit};
use crate::request::{LeaseRef, Outcome};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn spec(name: &str) -> BatchSpec {
    BatchSpec { bytes: 10, ..BatchSpec::new(name.parse().unwrap()) }
}

fn register(engine: &mut Engine, specs: &[BatchSpec]) {
    for chunk in specs.chunks(10_000) {
        engine.register(chunk, NOW).unwrap();
    }
}

/// Ends a lease as this.
fn end(engine: &mut Engine, lease: &crate::Lease, resolution: Resolution, now: Timestamp) {
    let lease = LeaseRef { id: lease.spec.id.clone(), fence: lease.fence };
    let outcome =
        Outcome { lease, resolution, error: None, outputs: vec![], delay: Duration::ZERO };
    let request = SettleRequest { outcomes: vec![outcome], ..SettleRequest::default() };
    engine.settle(&request, now).unwrap();
}

/// The engine as another process reads it.
fn reload(engine: &Engine) -> Engine {
    let mut other = Engine::new(engine.config.clone(), 2);
    other.load_meta(&engine.meta(1));
    let queue = |name: String| {
        use prost::Message as _;
        let bytes = engine.encode_queue(&name).unwrap();
        sheaf_proto::storage::v1::QueueRecord::decode(bytes.as_slice()).unwrap()
    };
    let queues: Vec<_> = engine.queue_names().map(queue).collect();
    queues.iter().for_each(|queue| other.load_queue(queue).unwrap());
    let mut scratch = Vec::new();
    for sequence in engine.sequences() {
        let mut out = Vec::new();
        assert!(engine.encode(sequence, &mut scratch, &mut out));
        other.load(sequence, &out).unwrap();
    }
    queues.iter().for_each(|queue| other.load_turns(queue));
    other.finish_load();
    other
}

/// What most batches never use costs them nothing.
#[test]
fn a_record_is_as_small_as_before() {
    assert!(std::mem::size_of::<record::Record>() <= 152);
}

/// T9 of the design: no call does more than its bounds, and all come back.
#[test]
fn t9_fifty_thousand_retries_and_dead_leases_come_back_in_bounded_steps() {
    const EACH: usize = 50_000;
    let mut engine = Engine::new(Config::default(), 1);
    let delayed = (0..EACH)
        .map(|n| BatchSpec { delay: Duration::from_secs(60), ..spec(&format!("retry{n}")) });
    register(&mut engine, &delayed.collect::<Vec<_>>());
    let leased: Vec<_> = (0..EACH).map(|n| spec(&format!("leased{n}"))).collect();
    register(&mut engine, &leased);
    for n in 0..EACH.div_ceil(1_000) {
        engine.claim(&claim(&format!("r{n}"), 1_000), NOW).unwrap();
    }
    assert_eq!(engine.totals()[State::Processing as usize], EACH as u64);
    engine.take_effects();
    let later = NOW.plus(Duration::from_secs(120));
    let most = EXPIRE_PER_CALL + REAP_PER_CALL + PROMOTE_PER_CALL + PURGE_PER_CALL;
    let (mut calls, mut back) = (0, 0);
    while engine.next_timer().is_some_and(|at| at <= later) {
        engine.apply(&Command::Claim(claim(&format!("c{calls}"), 1)), later).unwrap();
        let effects = engine.take_effects();
        assert!(effects.written.len() <= most + 1, "{} in one call", effects.written.len());
        back += effects.transitions[State::Pending as usize];
        calls += 1;
        assert!(calls <= EACH, "it comes to an end");
    }
    assert_eq!(back, 2 * EACH as u64, "each came back once");
    assert!(calls >= EACH / REAP_PER_CALL, "in {calls} calls");
}

#[test]
fn a_tenant_with_one_batch_is_served_beside_one_with_a_hundred_thousand() {
    let mut engine = Engine::new(Config::default(), 1);
    let big = (0..100_000).map(|n| BatchSpec { tenant: "big".into(), ..spec(&format!("b{n}")) });
    register(&mut engine, &big.collect::<Vec<_>>());
    let small = BatchSpec { tenant: "small".into(), ..spec("small") };
    register(&mut engine, &[small]);
    let leases = engine.claim(&claim("r", 2), NOW).unwrap().leases;
    let names: Vec<_> = leases.iter().map(|lease| lease.spec.id.as_str()).collect();
    assert_eq!(names, ["b0", "small"]);
}

/// Each link of a chain is one call's work at most; nothing recurses.
#[test]
fn a_long_chain_fails_in_bounded_steps_also_after_a_restart() {
    const LINKS: usize = 5_000;
    let mut engine = Engine::new(Config::default(), 1);
    let chain = (0..LINKS).rev().map(|n| BatchSpec {
        depends_on: if n == 0 { vec![] } else { vec![format!("c{}", n - 1).parse().unwrap()] },
        ..spec(&format!("c{n}"))
    });
    register(&mut engine, &chain.collect::<Vec<_>>());
    assert_eq!(engine.totals()[State::Waiting as usize], LINKS as u64 - 1);
    engine.take_effects();
    engine.control(&Control::Cancel(vec!["c0".parse().unwrap()]), 0, NOW).unwrap();
    assert!(engine.take_effects().written.len() <= PROPAGATE_PER_CALL + 1);
    let mut other = reload(&engine);
    assert_eq!(everything(&engine).len(), 100);
    let mut calls = 0;
    while other.totals()[State::Failed as usize] < LINKS as u64 - 1 {
        assert!(other.next_timer().unwrap() <= NOW, "more is to do");
        other.apply(&Command::Tick, NOW).unwrap();
        assert!(other.take_effects().written.len() <= PROPAGATE_PER_CALL);
        calls += 1;
        assert!(calls < LINKS);
    }
    assert!(other.agenda.is_empty() && other.edges.is_empty());
}

#[test]
fn a_wide_fan_becomes_ready_in_bounded_steps() {
    const CHILDREN: usize = 5_000;
    let mut engine = Engine::new(Config::default(), 1);
    register(&mut engine, &[spec("p")]);
    let children = (0..CHILDREN)
        .map(|n| BatchSpec { depends_on: vec!["p".parse().unwrap()], ..spec(&format!("c{n}")) });
    register(&mut engine, &children.collect::<Vec<_>>());
    let lease = engine.claim(&claim("r", 1), NOW).unwrap().leases.remove(0);
    engine.take_effects();
    end(&mut engine, &lease, Resolution::Completed, NOW);
    let mut ready = engine.take_effects().transitions[State::Pending as usize];
    assert_eq!(ready, PROPAGATE_PER_CALL as u64);
    let mut other = reload(&engine);
    for engine in [&mut engine, &mut other] {
        while engine.next_timer().is_some_and(|at| at <= NOW) {
            engine.tick(NOW);
            let more = engine.take_effects().transitions[State::Pending as usize];
            assert!(more <= PROPAGATE_PER_CALL as u64);
        }
        ready = engine.totals()[State::Pending as usize];
        assert_eq!(ready, CHILDREN as u64);
    }
}

/// Retention takes neither what others wait for nor what a key stands for.
#[test]
fn what_is_needed_is_kept_until_it_no_longer_is() {
    let config = Config { max_finished: 0, max_failed: 0, ..Config::default() };
    let mut engine = Engine::new(config, 1);
    let window = Duration::from_secs(60);
    let keyed = BatchSpec { dedup_key: "k".into(), dedup_window: window, ..spec("keyed") };
    let child = BatchSpec {
        depends_on: vec!["p".parse().unwrap()],
        on_parent_failure: OnParentFailure::Wait,
        ..spec("child")
    };
    register(&mut engine, &[keyed.clone(), spec("p"), child]);
    let cancel = |id: &str| Control::Cancel(vec![id.parse().unwrap()]);
    for id in ["keyed", "p"] {
        engine.control(&cancel(id), 0, NOW).unwrap();
    }
    engine.tick(NOW);
    let mut engine = reload(&engine);
    engine.tick(NOW);
    assert_eq!(engine.len(), 3, "both are needed");
    let again = BatchSpec { id: "again".parse().unwrap(), ..keyed };
    assert!(!engine.register(std::slice::from_ref(&again), NOW).unwrap()[0].created);
    engine.control(&cancel("child"), 0, NOW).unwrap();
    engine.tick(NOW);
    assert_eq!(engine.len(), 1, "p and child are gone");
    let later = NOW.plus(window);
    engine.tick(later);
    assert!(engine.is_empty() && engine.keys.is_empty() && engine.key_times.is_empty());
    assert!(engine.register(&[again], later).unwrap()[0].created);
}

/// A record of what was waited for is lost: the child does not wait for ever.
#[test]
fn a_lost_record_fails_what_waits_for_it() {
    let mut engine = Engine::new(Config::default(), 1);
    for on in [OnParentFailure::Fail, OnParentFailure::Wait] {
        let name = format!("{on:?}");
        let child = BatchSpec {
            depends_on: vec![format!("p{name}").parse().unwrap()],
            on_parent_failure: on,
            ..spec(&format!("c{name}"))
        };
        register(&mut engine, &[spec(&format!("p{name}")), child]);
    }
    let mut engine = reload(&engine);
    engine.unload(1);
    engine.unload(3);
    engine.finish_load();
    engine.tick(NOW);
    assert_eq!(engine.totals()[State::Failed as usize], 2);
}

/// Tokens, turns and caps go on after a restart as they would have.
#[test]
fn another_engine_on_the_same_records_gives_out_the_same() {
    let mut engine = Engine::new(Config::default(), 1);
    let policy = QueuePolicy {
        max_leased: Some(40),
        max_leased_per_tenant: Some(9),
        rate: Some(RateLimit { per_second: 3.0, burst: 7 }),
        ..QueuePolicy::default()
    };
    engine.control(&Control::Configure("default".into(), policy), 0, NOW).unwrap();
    let specs = (0..200_u64).map(|n| BatchSpec {
        tenant: format!("t{}", n * n % 7),
        priority: i32::try_from(n % 3).unwrap() - 1,
        ..spec(&format!("b{n}"))
    });
    register(&mut engine, &specs.collect::<Vec<_>>());
    let mut now = NOW;
    let mut given = 0;
    for n in 0..60 {
        let mut other = reload(&engine);
        now = now.plus(Duration::from_millis(450));
        let request = claim(&format!("r{n}"), 1 + n % 5);
        let names = |engine: &mut Engine| -> Vec<String> {
            let leases = engine.claim(&request, now).unwrap().leases;
            leases.iter().map(|lease| lease.spec.id.to_string()).collect()
        };
        let (one, two) = (names(&mut engine), names(&mut other));
        assert_eq!(one, two, "call {n}");
        given += one.len();
    }
    assert!(given >= 30, "{given}");
}
