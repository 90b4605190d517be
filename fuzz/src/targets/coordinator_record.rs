//! The coordinator's records: a damaged one does no harm, one that is read
//! is written again as it was, and the engine goes on with what it says.

use std::time::Duration;

use prost::Message as _;
use sheaf_coordinator::engine::{Config, Damage, Engine, RECORD_VERSION};
use sheaf_coordinator::{
    BatchSpec, ClaimRequest, Failure, LeaseRef, ListFilter, Outcome, Query, QueuePolicy,
    Resolution, SettleRequest,
};
use sheaf_proto::storage::v1::{BatchRecord, CoordinatorMeta, QueueRecord};
use sheaf_retry::Timestamp;

use super::support::{Input, push_chunk, refused};

/// What records are made of, besides protobuf.
pub(crate) const WORDS: &[&str] =
    &["default", "a", "child", "\u{8}\u{2}", "worker", "processor_failed"];

/// Most records of one input.
const MAX_RECORDS: usize = 16;
/// Key of the checksum, the last field of a batch's record.
const CHECKSUM_KEY: u8 = (5 << 3) | 5;
/// Bytes of that field.
const CHECKSUM_LENGTH: usize = 5;
/// What kinds of records there are in an input.
const KINDS: u8 = 4;
const META: u8 = 0;
const QUEUE: u8 = 1;
/// A batch without its checksum.
const BATCH: u8 = 2;

fn now() -> Timestamp {
    Timestamp::from_millis(1_700_000_000_000)
}

/// The records of an engine in which something has happened.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut engine = worked();
    seeds.push(written(&engine, true));
    seeds.push(written(&engine, false));
    engine.tick(now().plus(Duration::from_secs(3_600)));
    seeds.push(written(&engine, true));
    let mut one = Vec::new();
    for sequence in engine.sequences() {
        one.clear();
        push_batch(&engine, sequence, &mut one);
        seeds.push(one.clone());
    }
    seeds
}

/// Batches in every state.
fn worked() -> Engine {
    let mut engine = Engine::new(Config::default(), 1);
    let spec = |name: &str| BatchSpec {
        rows: 10,
        bytes: 100,
        tenant: format!("tenant {name}"),
        ..BatchSpec::new(name.parse().expect("an id"))
    };
    let child = BatchSpec { depends_on: vec!["d".parse().expect("an id")], ..spec("child") };
    let low = BatchSpec { priority: -3, queue: "other".to_owned(), ..spec("low") };
    let batches: Vec<BatchSpec> = ["a", "b", "c", "d"].map(spec).into();
    engine.register(&batches, now()).expect("registered");
    engine.register(&[child, low], now()).expect("registered");
    let policy = QueuePolicy { max_leased: Some(2), ..QueuePolicy::default() };
    let configure = sheaf_coordinator::Control::Configure("other".to_owned(), policy);
    engine.control(&configure, 0, now()).expect("configured");
    let request = ClaimRequest::new("worker", "request", 3, Duration::from_secs(30));
    let leases = engine.claim(&request, now()).expect("claimed").leases;
    let results = [Resolution::Completed, Resolution::Failed];
    let outcomes = leases.iter().zip(results).map(|(lease, resolution)| Outcome {
        lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
        resolution,
        error: (resolution == Resolution::Failed).then(|| Failure {
            code: sheaf_retry::Code::ProcessorFailed,
            message: "no".to_owned(),
            permanent: false,
            at: now(),
        }),
        outputs: Vec::new(),
        delay: Duration::ZERO,
    });
    let request = SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() };
    engine.settle(&request, now()).expect("settled");
    engine
}

fn written(engine: &Engine, checksums: bool) -> Vec<u8> {
    let mut out = vec![META];
    push_chunk(&mut out, &engine.meta(3).encode_to_vec());
    for name in engine.queue_names() {
        out.push(QUEUE);
        push_chunk(&mut out, &engine.encode_queue(&name).expect("a queue"));
    }
    for sequence in engine.sequences() {
        if checksums {
            push_batch(engine, sequence, &mut out);
            continue;
        }
        out.push(BATCH + 1);
        push_chunk(&mut out, &stored(engine, sequence));
    }
    out
}

fn push_batch(engine: &Engine, sequence: u64, out: &mut Vec<u8>) {
    let record = stored(engine, sequence);
    out.push(BATCH);
    push_chunk(out, &record[..record.len() - CHECKSUM_LENGTH]);
}

fn stored(engine: &Engine, sequence: u64) -> Vec<u8> {
    let (mut scratch, mut out) = (Vec::new(), Vec::new());
    assert!(engine.encode(sequence, &mut scratch, &mut out), "there is no {sequence}");
    out
}

/// What a database holds, in the order in which a start reads it.
#[derive(Default)]
struct Tables {
    meta: Option<CoordinatorMeta>,
    queues: Vec<QueueRecord>,
    batches: Vec<(u64, Vec<u8>)>,
}

impl Tables {
    fn read(data: &[u8]) -> Self {
        let mut tables = Tables::default();
        let mut input = Input::new(data);
        for _ in 0..MAX_RECORDS {
            if input.is_empty() {
                break;
            }
            let kind = input.byte() % KINDS;
            let bytes = input.chunk();
            match kind {
                META => tables.meta = CoordinatorMeta::decode(bytes).ok(),
                QUEUE => tables.queues.extend(QueueRecord::decode(bytes).ok()),
                BATCH => {
                    let mut bytes = bytes.to_vec();
                    let checksum = crc32c::crc32c(&bytes);
                    bytes.push(CHECKSUM_KEY);
                    bytes.extend_from_slice(&checksum.to_le_bytes());
                    tables.add(bytes);
                }
                _ => tables.add(bytes.to_vec()),
            }
        }
        let known = |version: u32| version <= RECORD_VERSION;
        tables.meta = tables.meta.filter(|meta| known(meta.version));
        tables.queues.retain(|queue| known(queue.version));
        tables
    }

    /// Under the number that it says itself, as the table has it.
    fn add(&mut self, bytes: Vec<u8>) {
        let number = BatchRecord::decode(bytes.as_slice()).map_or(7, |record| record.sequence);
        self.batches.retain(|(other, _)| *other != number);
        self.batches.push((number, bytes));
    }

    /// The engine, and whether no record was damaged.
    fn load(&self) -> (Engine, bool) {
        let mut whole = true;
        let mut engine = Engine::new(Config::default(), 7);
        self.meta.iter().for_each(|meta| engine.load_meta(meta));
        for queue in &self.queues {
            if let Err(error) = engine.load_queue(queue) {
                refused(&error);
            }
        }
        for (sequence, bytes) in &self.batches {
            let before = engine.len();
            match engine.load(*sequence, bytes) {
                Ok(()) => {}
                Err(Damage::Newer(version)) => assert!(version > RECORD_VERSION),
                Err(Damage::Corrupt { id, why }) => {
                    whole = false;
                    assert_eq!(engine.len(), before, "{why}");
                    let entered = engine.load_damaged(*sequence, id.as_ref(), &why, now());
                    if let Err(error) = entered {
                        refused(&error);
                    }
                }
            }
        }
        self.queues.iter().for_each(|queue| engine.load_turns(queue));
        engine.finish_load();
        (engine, whole)
    }
}

/// Starts with these records, writes them again, goes on.
pub(crate) fn run(data: &[u8]) -> bool {
    let tables = Tables::read(data);
    let (mut engine, whole) = tables.load();
    round_trip(&engine);
    go_on(&mut engine);
    whole
}

/// What is written of an engine is the same engine.
fn round_trip(engine: &Engine) {
    let records = |engine: &Engine| -> Vec<(u64, Vec<u8>)> {
        engine.sequences().map(|sequence| (sequence, stored(engine, sequence))).collect()
    };
    let queues = |engine: &Engine| -> Vec<Option<Vec<u8>>> {
        let mut names: Vec<String> = engine.queue_names().collect();
        names.sort();
        names.iter().map(|name| engine.encode_queue(name)).collect()
    };
    let meta = engine.meta(7);
    let stored = queues(engine);
    let queue = |bytes: &Vec<u8>| QueueRecord::decode(bytes.as_slice()).expect("a queue");
    let again = Tables {
        meta: Some(meta.clone()),
        queues: stored.iter().flatten().map(queue).collect(),
        batches: records(engine),
    };
    let (other, whole) = again.load();
    assert!(whole, "what is written can be read");
    assert_eq!(records(&other), again.batches, "batches are written as they were read");
    assert_eq!(queues(&other), stored, "queues are written as they were read");
    assert_eq!(other.meta(7), meta);
}

/// What a record says may be extreme; the engine still works.
fn go_on(engine: &mut Engine) {
    let mut time = engine.now().max(now());
    engine.renew_leases(time);
    for seconds in [0, 1, 60, 1_000_000] {
        time = time.plus(Duration::from_secs(seconds));
        engine.tick(time);
        let worker = format!("worker {seconds}");
        let request = ClaimRequest::new(&worker, &worker, 4, Duration::from_secs(30));
        let Ok(claim) = engine.claim(&request, time).map_err(|error| refused(&error)) else {
            continue;
        };
        let outcomes = claim.leases.iter().skip(1).map(|lease| Outcome {
            lease: LeaseRef { id: lease.spec.id.clone(), fence: lease.fence },
            resolution: Resolution::Failed,
            error: None,
            outputs: Vec::new(),
            delay: Duration::ZERO,
        });
        let request = SettleRequest { outcomes: outcomes.collect(), ..SettleRequest::default() };
        engine.settle(&request, time).expect("these leases stand");
        engine.take_effects();
        engine.next_timer();
    }
    for query in [Query::List(ListFilter::default()), Query::Stats(None)] {
        engine.query(&query, usize::MAX).expect("an answer");
    }
}
