//! Actions: any calls with any bodies, one after the other, are answered or
//! refused; none is a bug of ours, and none breaks the server for the next.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::{
    CancelFlightInfoRequest, FlightEndpoint, FlightInfo, RenewFlightEndpointRequest,
};
use bytes::Bytes;
use prost::Message as _;
use sheaf_coordinator::embedded::{Config, Embedded};
use sheaf_flight::{Error, FlightRouter, fuzzing};
use sheaf_proto::BatchId;
use sheaf_retry::{ManualClock, SystemClock, Timestamp};
use sheaf_rpc::CoordinatorActions;
use sheaf_store::{Durability, NAMESPACE, Options, PutOptions, Store, StoreActions, StoreHandler};
use tokio::runtime::Runtime;

use super::samples;
use super::support::{refused, runtime, wait};

/// What bodies are made of.
pub(crate) const WORDS: &[&str] = &[
    "\n\n",
    "$FENCE",
    "$SESSION",
    "{\"batch_id\":\"a\"",
    "\"batches\":[{",
    "\"queue\":\"default\"",
    "\"state\":[\"pending\"]",
    "\"parents\":[\"a\"]",
    "\"depends_on\":[\"a\"]",
    "\"retry\":{",
    "\"delay_ms\":",
    "\"rows\":1,\"bytes\":1,\"location\":\"grpc://h:1\"",
    "\"wait_ms\":1",
    "\"lease_ms\":1000",
    "\"worker\":\"w\"",
    "\"max\":2",
    "\"fence\":\"$FENCE\"",
    "\"result\":\"completed\"",
    "\"outputs\":[\"b\"]",
    "\"claim\":{\"worker\":\"w\"}",
    "18446744073709551615",
    "-1",
    "1e308",
    "null",
    "true",
    "\\u0000",
    "\"dedup_key\":\"k\"",
    "\"dedup_window_ms\":",
    "\"expires_after_ms\":",
    "\"priority\":",
    "\"tenant\":\"t\"",
    "\"rate\":{\"per_second\":1,\"burst\":1}",
    "\"cursor\":\"",
    "\"all\":true",
];

/// Actions by their number in an input; the last one is nobody's.
const NAMES: [&str; 30] = [
    "RegisterBatch",
    "GetBatch",
    "ListBatches",
    "Lineage",
    "Stats",
    "RequeueBatch",
    "CancelBatch",
    "PurgeBatches",
    "ExpireBatches",
    "PauseQueue",
    "ResumeQueue",
    "DrainQueue",
    "ConfigureQueue",
    "Claim",
    "Extend",
    "Settle",
    "Recovery",
    "WatchEvents",
    "CoordinatorInfo",
    "StoreStats",
    "DeleteBatch",
    "PinBatch",
    "UnpinBatch",
    "CancelFlightInfo",
    "CloseSession",
    "GetSessionOptions",
    "HealthCheck",
    "RenewFlightEndpoint",
    "SetSessionOptions",
    "Nobody",
];

/// Between two calls of an input.
const SEPARATOR: &[u8] = b"\n\n";
/// Most calls of one input, so that its state stays small.
const MAX_CALLS: usize = 12;
/// After this, a call is one that waits: its time is then let pass.
const PATIENCE: Duration = Duration::from_millis(2);
/// How often time passes before a call is given up, as a client might.
const MAX_WAITS: usize = 3;
/// More than a call may wait at most.
const LONG: Duration = Duration::from_secs(61);

/// What all inputs share: to open a store for each would be most of the work.
struct Shared {
    runtime: Runtime,
    store: Store,
}

thread_local! {
    static SHARED: Shared = shared();
}

fn shared() -> Shared {
    let runtime = runtime();
    let store = runtime.block_on(Store::open(Options::new(SystemClock::shared())));
    Shared { runtime, store: store.expect("a store") }
}

/// The payload `a` as at the beginning, whatever the input before did to it.
async fn refill(store: &Store) {
    let id: BatchId = "a".parse().expect("an id");
    if store.info(&id).is_ok() {
        return store.unpin(&id).await.expect("it is there");
    }
    let batches = [samples::numbers(2)];
    let put = store.put_batches(Some(id), batches[0].schema(), &batches, PutOptions::MEMORY);
    put.await.expect("a payload");
}

struct Home {
    clock: Arc<ManualClock>,
    coordinator: Arc<Embedded>,
    router: FlightRouter,
    /// The last token and the last session that were given out.
    fence: String,
    session: String,
}

impl Home {
    async fn open(store: &Store) -> Home {
        refill(store).await;
        let clock = ManualClock::new(Timestamp::from_millis(1_700_000_000_000));
        let embedded = Embedded::open(Config::memory(), clock.clone()).expect("a coordinator");
        let coordinator = Arc::new(embedded);
        let actions = CoordinatorActions::new(coordinator.clone(), clock.clone());
        let handler = StoreHandler::new(store.clone(), Durability::Memory);
        let router = FlightRouter::builder()
            .handler(NAMESPACE, Arc::new(handler))
            .actions(Arc::new(actions))
            .actions(Arc::new(StoreActions::new(store.clone())))
            .clock(clock.clone());
        let router = router.build().expect("a router");
        Home { clock, coordinator, router, fence: "1".into(), session: "none".into() }
    }

    /// The answer, or nothing where the call was given up.
    async fn call(&self, name: &str, body: Bytes) -> Option<Result<Vec<Bytes>, Error>> {
        let mut call = Box::pin(fuzzing::action(&self.router, name, body));
        for _ in 0..=MAX_WAITS {
            tokio::select! {
                biased;
                answer = &mut call => return Some(answer),
                () = tokio::time::sleep(PATIENCE) => {}
            }
            self.clock.advance(LONG);
            self.coordinator.wake().await.expect("the coordinator lives");
        }
        None
    }

    /// Remembers what later calls refer to.
    fn note(&mut self, answer: &[Bytes]) {
        for body in answer {
            let json: serde_json::Value = serde_json::from_slice(body).expect("an answer in JSON");
            let claim = [&json, &json["claim"]];
            let mut fences = claim.iter().filter_map(|claim| claim["leases"][0]["fence"].as_str());
            if let Some(fence) = fences.next_back() {
                self.fence = fence.to_owned();
            }
            if let Some(session) = json["session"].as_str() {
                self.session = session.to_owned();
            }
        }
    }
}

/// Ways through the actions, and each by itself.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let register = r#"{"batch_id":"a","location":"grpc://h:1","rows":2,"bytes":99,"priority":-1,"tenant":"t","retry":{"max_retries":1},"expires_after_ms":1000}"#;
    let two = r#"{"batches":[{"batch_id":"b","location":"x","rows":1,"bytes":1,"parents":["a"],"depends_on":["a"],"dedup_key":"k","dedup_window_ms":1000},{"batch_id":"c","location":"x","rows":1,"bytes":1,"queue":"q","delay_ms":5}]}"#;
    let claim = r#"{"worker":"w","max":2,"max_bytes":1000,"lease_ms":1000,"request_id":"r"}"#;
    let extend = r#"{"leases":[{"batch_id":"a","fence":"$FENCE","started":true,"progress":{"rows_done":1}}]}"#;
    let settle = r#"{"outcomes":[{"batch_id":"a","fence":"$FENCE","result":"completed","outputs":[{"batch_id":"d","location":"x","rows":1,"bytes":1}]}],"claim":{"worker":"w","wait_ms":5}}"#;
    let fail = r#"{"outcomes":[{"batch_id":"a","fence":"$FENCE","result":"failed","error":"no","permanent":true}]}"#;
    let configure = r#"{"queue":"q","max_leased":1,"max_leased_per_tenant":1,"rate":{"per_second":0.5,"burst":2},"max_live_bytes":10}"#;
    let one = r#"{"batch_id":"a"}"#;
    let ways: &[&[(&str, &str)]] = &[
        &[("RegisterBatch", register), ("Claim", claim), ("Extend", extend), ("Settle", settle)],
        &[("RegisterBatch", register), ("RegisterBatch", two), ("Lineage", r#"{"batch_id":"b"}"#)],
        &[
            ("RegisterBatch", register),
            ("Claim", claim),
            ("Settle", fail),
            ("RequeueBatch", r#"{"batch_id":"a"}"#),
            ("PurgeBatches", r#"{"all":true}"#),
        ],
        &[
            ("ConfigureQueue", configure),
            ("RegisterBatch", two),
            ("Claim", r#"{"worker":"w","queue":["q"],"wait_ms":10}"#),
            ("Stats", r#"{"queue":"q"}"#),
        ],
        &[
            ("WatchEvents", r#"{"queue":"default","wait_ms":0}"#),
            ("RegisterBatch", register),
            ("WatchEvents", r#"{"session":"$SESSION","seen":1,"wait_ms":5,"max":10}"#),
        ],
        &[
            ("PauseQueue", r#"{"queue":"default"}"#),
            ("DrainQueue", "{}"),
            ("ResumeQueue", "{}"),
            ("ListBatches", r#"{"state":["pending","failed"],"limit":1,"cursor":"1"}"#),
            ("Recovery", r#"{"leases":[{"batch_id":"a","fence":"$FENCE"}]}"#),
            ("ExpireBatches", r#"{"older_than_ms":0}"#),
        ],
        &[
            ("PinBatch", one),
            ("UnpinBatch", one),
            ("StoreStats", ""),
            ("DeleteBatch", one),
            ("HealthCheck", ""),
        ],
        &[("RegisterBatch", register), ("CancelBatch", one), ("GetBatch", one)],
    ];
    ways.iter().map(|way| written(way)).chain(standard()).collect()
}

/// Actions of every Flight port: a letter, then protobuf.
fn standard() -> Vec<Vec<u8>> {
    let endpoint = FlightEndpoint {
        ticket: Some(arrow_flight::Ticket { ticket: Bytes::from_static(b"batches/a") }),
        ..FlightEndpoint::default()
    };
    let renew = RenewFlightEndpointRequest { endpoint: Some(endpoint.clone()) };
    let info = FlightInfo { endpoint: vec![endpoint], ..FlightInfo::default() };
    let cancel = CancelFlightInfoRequest { info: Some(info) };
    // One option `tz` with the text `UTC`.
    let options = b"\x0a\x0b\x0a\x02tz\x12\x05\x0a\x03UTC";
    let bodies = [
        ("RenewFlightEndpoint", renew.encode_to_vec()),
        ("CancelFlightInfo", cancel.encode_to_vec()),
        ("SetSessionOptions", options.to_vec()),
    ];
    bodies.map(|(name, body)| [written(&[(name, "")]), body].concat()).into()
}

fn written(calls: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, body) in calls {
        if !out.is_empty() {
            out.extend_from_slice(SEPARATOR);
        }
        let number = NAMES.iter().position(|known| known == name).expect("a name of the list");
        out.push(b'A' + u8::try_from(number).expect("a short list"));
        out.extend_from_slice(body.as_bytes());
    }
    out
}

/// The calls of an input: a letter for the action, then its body.
fn calls(mut data: &[u8]) -> Vec<(&'static str, &[u8])> {
    let mut calls = Vec::new();
    while !data.is_empty() && calls.len() < MAX_CALLS {
        let end = data.windows(SEPARATOR.len()).position(|part| part == SEPARATOR);
        let (call, rest) = data.split_at(end.unwrap_or(data.len()));
        data = rest.get(SEPARATOR.len()..).unwrap_or_default();
        if let [letter, body @ ..] = call {
            let number = usize::from(letter.wrapping_sub(b'A')) % NAMES.len();
            calls.push((NAMES[number], body));
        }
    }
    calls
}

fn replaced(body: &[u8], home: &Home) -> Bytes {
    match std::str::from_utf8(body) {
        Ok(text) if text.contains('$') => {
            text.replace("$FENCE", &home.fence).replace("$SESSION", &home.session).into()
        }
        _ => Bytes::copy_from_slice(body),
    }
}

/// Calls a new server, and closes it.
pub(crate) fn run(data: &[u8]) -> bool {
    let calls = calls(data);
    SHARED.with(|shared| wait(&shared.runtime, serve(&shared.store, &calls)))
}

/// Whether all calls were answered.
async fn serve(store: &Store, calls: &[(&str, &[u8])]) -> bool {
    let mut answered = 0;
    let mut home = Home::open(store).await;
    let served = fuzzing::actions(&home.router);
    assert!(served.iter().all(|name| NAMES.contains(name)), "not all are fuzzed: {served:?}");
    for (name, body) in calls {
        let body = replaced(body, &home);
        match home.call(name, body).await {
            // Standard actions answer in protobuf, most of them.
            Some(Ok(answer)) => {
                answered += 1;
                if served_in_json(name) {
                    home.note(&answer);
                }
            }
            Some(Err(error)) => {
                refused(&error);
            }
            None => {}
        }
    }
    // Not told by the texts of errors: they repeat what an input says.
    home.coordinator.close().await.expect("its thread ends in order");
    answered == calls.len()
}

/// Whether it is one of ours.
fn served_in_json(name: &str) -> bool {
    NAMES.iter().position(|known| *known == name).is_some_and(|number| number < 23)
}
