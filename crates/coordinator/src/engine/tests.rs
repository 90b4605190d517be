//! What the engine decides, seen from inside.

use super::*;
use crate::model::{BatchSpec, Resolution};
use crate::request::{LeaseRef, Outcome};

fn spec(n: u64) -> BatchSpec {
    BatchSpec {
        rows: 100,
        bytes: 1 << 20,
        priority: -1,
        checksum: "0123456789abcdef0123456789abcdef".to_owned(),
        schema_fingerprint: "fedcba9876543210".to_owned(),
        locations: vec!["grpc://127.0.0.1:8080".to_owned()],
        expires_after: Some(Duration::from_secs(60)),
        ..BatchSpec::new(BatchId::generate(n))
    }
}

pub(super) fn claim(request: &str, max: u32) -> ClaimRequest {
    ClaimRequest {
        worker: "w".into(),
        request_id: request.into(),
        queues: vec![],
        max,
        max_bytes: 0,
        max_rows: 0,
        lease: Duration::from_secs(30),
        wait: Duration::ZERO,
        locations: vec![],
        ids: vec![],
        start: false,
    }
}

/// An engine with a batch in several states, and the stored form of each.
fn busy() -> (Engine, Vec<(u64, Vec<u8>)>) {
    let mut engine = Engine::new(Config::default(), 1);
    let now = Timestamp::from_millis(5_000);
    let specs: Vec<_> = (0..6).map(spec).collect();
    engine.register(&specs, now).unwrap();
    let leases = engine.claim(&claim("r", 4), now).unwrap().leases;
    let ends = [Resolution::Completed, Resolution::Failed, Resolution::Released];
    let outcomes = leases.iter().zip(ends).map(|(lease, resolution)| Outcome {
        lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
        resolution,
        error: None,
        outputs: if resolution == Resolution::Completed { vec![spec(9)] } else { vec![] },
        delay: Duration::ZERO,
    });
    let request = SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() };
    engine.settle(&request, now).unwrap();
    let effects = engine.take_effects();
    let mut scratch = Vec::new();
    let stored = effects.written.iter().map(|sequence| {
        let mut out = Vec::new();
        assert!(engine.encode(*sequence, &mut scratch, &mut out));
        (*sequence, out)
    });
    let stored = stored.collect();
    (engine, stored)
}

pub(super) fn everything(engine: &Engine) -> Vec<crate::Batch> {
    let list = crate::Query::List(crate::ListFilter { limit: 100, ..Default::default() });
    match engine.query(&list, 1_000).unwrap() {
        crate::Answer::Batches(page) => page.batches,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_stored_comes_back_whole() {
    let (engine, stored) = busy();
    assert_eq!(stored.len(), 7);
    let mut other = Engine::new(Config::default(), 2);
    for (sequence, bytes) in &stored {
        other.load(*sequence, bytes).unwrap();
    }
    assert_eq!(everything(&engine), everything(&other));
    assert_eq!(engine.totals(), other.totals());
}

#[test]
fn what_is_stored_is_what_the_generated_type_reads() {
    use prost::Message as _;
    let (engine, stored) = busy();
    for ((sequence, bytes), batch) in stored.iter().zip(everything(&engine)) {
        let record = sheaf_proto::storage::v1::BatchRecord::decode(bytes.as_slice()).unwrap();
        assert_eq!(record.sequence, *sequence);
        let read = crate::Batch::try_from(record.batch.unwrap()).unwrap();
        assert_eq!(read, batch);
        assert_eq!(record.expires_at > 0, read.last_fence == Fence(0));
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed_and_the_id_is_kept() {
    let (engine, stored) = busy();
    let (sequence, bytes) = &stored[0];
    let id = everything(&engine)[0].spec.id.clone();
    let mut named = 0;
    for at in 2..bytes.len() {
        let mut broken = bytes.clone();
        broken[at] ^= 0x10;
        match Engine::new(Config::default(), 2).load(*sequence, &broken) {
            Err(Damage::Corrupt { id: found, .. }) => {
                named += usize::from(found == Some(id.clone()))
            }
            other => panic!("byte {at}: {other:?}"),
        }
    }
    assert!(named > bytes.len() / 2, "{named} of {}", bytes.len());
    let mut newer = bytes.clone();
    newer[1] = 9;
    let error = Engine::new(Config::default(), 2).load(*sequence, &newer);
    assert!(matches!(error, Err(Damage::Newer(9))));
}

/// Version 1 knew neither limits nor waiting batches; its records are whole.
#[test]
fn records_of_version_1_open_as_before() {
    let (engine, stored) = busy();
    let mut other = Engine::new(Config::default(), 2);
    for (sequence, bytes) in &stored {
        let mut old = bytes.clone();
        assert_eq!((old[0], old[1]), (8, 2), "the version comes first");
        old[1] = 1;
        let end = old.len() - 5;
        let checksum = crc32c::crc32c(&old[..end]);
        old[end + 1..].copy_from_slice(&checksum.to_le_bytes());
        other.load(*sequence, &old).unwrap();
    }
    let queue = sheaf_proto::storage::v1::QueueRecord {
        version: 1,
        queue: "default".to_owned(),
        paused: true,
        ..Default::default()
    };
    other.load_queue(&queue).unwrap();
    other.finish_load();
    assert_eq!(everything(&engine), everything(&other));
    let stats = other.query(&crate::Query::Stats(None), 1).unwrap();
    let crate::Answer::Stats(stats) = stats else { panic!("{stats:?}") };
    assert!(stats[0].paused && stats[0].policy == crate::QueuePolicy::default());
}

#[test]
fn time_does_a_bounded_part_at_once() {
    let mut engine = Engine::new(Config::default(), 1);
    let now = Timestamp::from_millis(1_000);
    for chunk in 0..5 {
        let specs = (0..1_000).map(|n| BatchSpec {
            delay: Duration::from_secs(1),
            ..BatchSpec::new(format!("b{chunk}-{n}").parse().unwrap())
        });
        engine.register(&specs.collect::<Vec<_>>(), now).unwrap();
    }
    let later = now.plus(Duration::from_secs(2));
    engine.tick(later);
    assert_eq!(engine.totals()[State::Pending as usize], PROMOTE_PER_CALL as u64);
    assert!(engine.next_timer().unwrap() <= later);
    for _ in 0..20 {
        engine.tick(later);
    }
    assert_eq!(engine.totals()[State::Pending as usize], 5_000);
    assert_eq!(engine.next_timer(), None);
}

#[test]
fn terminal_batches_are_forgotten_and_counted() {
    let config = Config { max_finished: 3, ..Config::default() };
    let mut engine = Engine::new(config, 1);
    let now = Timestamp::from_millis(1_000);
    let ids: Vec<BatchId> = (0..10).map(|n| format!("b{n}").parse().unwrap()).collect();
    let specs: Vec<_> = ids.iter().cloned().map(BatchSpec::new).collect();
    engine.register(&specs, now).unwrap();
    engine.control(&Control::Cancel(ids), 0, now).unwrap();
    engine.tick(now);
    assert_eq!((engine.len(), engine.totals()[State::Cancelled as usize]), (3, 3));
    engine.tick(now.plus(Duration::from_secs(24 * 3600)));
    assert!(engine.is_empty());
    let effects = engine.take_effects();
    assert_eq!((effects.removed.len(), effects.queues), (10, vec!["default".to_owned()]));
}

#[test]
fn a_log_replays_to_the_same_state() {
    let run = || {
        let mut engine = Engine::new(Config::default(), 1);
        let at = |n: u64| Timestamp::from_millis(1_000 + n);
        let spec = |n: u64| BatchSpec::new(format!("b{n}").parse().unwrap());
        for n in 0..50 {
            engine.apply(&Command::Register(vec![spec(n)]), at(n)).unwrap();
            let request = claim(&format!("r{n}"), 1);
            let Reply::Claimed(claim) = engine.apply(&Command::Claim(request), at(n)).unwrap()
            else {
                panic!("a claim answers with a claim")
            };
            let outcomes = claim.leases.iter().map(|lease| Outcome {
                lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
                resolution: Resolution::Failed,
                error: None,
                outputs: vec![],
                delay: Duration::ZERO,
            });
            let request =
                SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() };
            engine.apply(&Command::Settle(request), at(n)).unwrap();
        }
        everything(&engine)
    };
    let (one, other) = (run(), run());
    assert_eq!(one, other);
    let due: std::collections::BTreeSet<_> = one.iter().map(|batch| batch.due_at).collect();
    assert!(due.len() > 40, "jitter spreads the retries: {due:?}");
}
