//! There and back: every message keeps what it carries.

use super::*;
use crate::model::{Batch, Failure, Fence, Holder, Progress, Resolution, State};
use crate::request::*;
use sheaf_retry::{Code, RetryPolicy};

fn full_spec() -> BatchSpec {
    BatchSpec {
        queue: "etl".into(),
        priority: -3,
        tenant: "acme".into(),
        partition_key: "k=1".into(),
        parents: vec!["p:1".parse().unwrap()],
        depends_on: vec!["d:1".parse().unwrap()],
        on_parent_failure: crate::model::OnParentFailure::Cancel,
        retry: Some(RetryPolicy { deadline_ms: Some(9), ..RetryPolicy::default() }),
        delay: Duration::from_millis(5),
        locations: vec!["grpc://a:1".into()],
        rows: 3,
        bytes: 900,
        checksum: "ab".into(),
        schema_fingerprint: "cd".into(),
        dedup_key: "dk".into(),
        dedup_window: Duration::from_secs(1),
        expires_after: Some(Duration::from_secs(2)),
        trace_context: "00-1".into(),
        ..BatchSpec::new("b:1".parse().unwrap())
    }
}

fn full_batch() -> Batch {
    let at = Timestamp::from_millis(7);
    Batch {
        spec: full_spec(),
        state: State::Processing,
        attempts: 2,
        lost_leases: 1,
        lease: Some(Holder {
            worker: "w".into(),
            fence: Fence(u64::MAX),
            deadline: at,
            started: true,
            request_id: "r".into(),
            claimed_at: at,
            duration: Duration::from_secs(30),
        }),
        progress: Some(Progress { rows_done: 1, rows_total: 2, note: "n".into() }),
        error: Some(Failure { code: Code::Io, message: "m".into(), permanent: true, at }),
        registered_at: at,
        updated_at: at,
        due_at: Some(at),
        first_attempt_at: Some(at),
        finished_at: Some(at),
        last_fence: Fence(9),
        settled: Some((Fence(8), Resolution::Released)),
        outputs: vec!["o:1".parse().unwrap()],
    }
}

#[test]
fn everything_comes_back() {
    let batch = full_batch();
    assert_eq!(Batch::try_from(proto::Batch::from(&batch)).unwrap(), batch);
    let claim = ClaimRequest {
        worker: "w".into(),
        request_id: "r".into(),
        queues: vec!["q".into()],
        max: 3,
        max_bytes: 4,
        max_rows: 5,
        lease: Duration::from_secs(1),
        wait: Duration::from_millis(2),
        locations: vec!["l".into()],
        ids: vec!["b:1".parse().unwrap()],
        start: true,
    };
    let lease = LeaseRef { id: "b:1".parse().unwrap(), fence: Fence(4) };
    let settle = SettleRequest {
        outcomes: vec![Outcome {
            lease: lease.clone(),
            resolution: Resolution::Failed,
            error: batch.error.clone(),
            outputs: vec![full_spec()],
            delay: Duration::ZERO,
        }],
        started: vec![lease.clone()],
        claim: Some(claim),
    };
    assert_eq!(SettleRequest::try_from(proto::SettleRequest::from(&settle)).unwrap(), settle);
    for query in [
        Query::Get(vec![lease.id.clone()]),
        Query::List(ListFilter { states: State::ALL.to_vec(), ..ListFilter::default() }),
        Query::Stats(Some("q".into())),
        Query::Stats(None),
        Query::Recovery(vec![lease.clone()]),
    ] {
        assert_eq!(Query::try_from(proto::QueryRequest::from(&query)).unwrap(), query);
    }
    let answer = Answer::Batches(Page { batches: vec![batch], next_cursor: "c".into() });
    assert_eq!(Answer::try_from(proto::QueryResponse::from(&answer)).unwrap(), answer);
    for control in [
        Control::Pause("q".into()),
        Control::Requeue(vec![lease.id.clone()]),
        Control::Purge(PurgeFilter { queue: Some("q".into()), ..PurgeFilter::default() }),
        Control::Expire(Duration::from_millis(1)),
        Control::RequeueFailed("q".into()),
    ] {
        assert_eq!(Control::try_from(proto::ControlRequest::from(&control)).unwrap(), control);
    }
    let missed = Event::Missed(3);
    assert_eq!(Event::try_from(Into::<proto::WatchEvent>::into(&missed)).unwrap(), missed);
}

#[test]
fn an_unknown_value_names_its_field() {
    let mut message = proto::Batch::from(&full_batch());
    message.state = 99;
    let error = Batch::try_from(message).unwrap_err().to_string();
    assert_eq!(error, "state: 99 is no value that this version knows");
    let mut message = proto::Batch::from(&full_batch());
    message.spec.as_mut().unwrap().parents = vec!["not an id".into()];
    assert!(Batch::try_from(message).unwrap_err().to_string().starts_with("parents: "));
    let none = proto::QueryRequest { query: None };
    assert_eq!(Query::try_from(none).unwrap_err().to_string(), "query: is missing");
}

#[test]
fn a_short_duration_does_not_become_none() {
    let mut spec = BatchSpec::new("b".parse().unwrap());
    spec.expires_after = Some(Duration::from_micros(1));
    spec.delay = Duration::from_micros(1);
    let back = BatchSpec::try_from(proto::BatchSpec::from(&spec)).unwrap();
    assert_eq!(back.expires_after, Some(Duration::from_millis(1)));
    assert_eq!(back.delay, Duration::from_millis(1));
}
