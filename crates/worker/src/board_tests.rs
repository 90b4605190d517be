//! The rules of the board, one by one.

use std::time::Duration;

use sheaf_coordinator::{
    BatchSpec, Extended, Fence, Lease, LeaseRef, Outcome, Resolution, Settled, State, Verdict,
};
use sheaf_proto::BatchId;
use sheaf_retry::Timestamp;

use super::{Board, Report};
use crate::config::Config;

const LATER: Duration = Duration::from_secs(30);

fn id(name: &str) -> BatchId {
    BatchId::try_new(name).unwrap()
}

fn lease(name: &str, fence: u64, bytes: u64) -> Lease {
    let mut spec = BatchSpec::new(id(name));
    spec.bytes = bytes;
    Lease { spec, fence: Fence(fence), deadline: Timestamp::MAX, attempt: 1 }
}

fn done(name: &str, fence: u64) -> Outcome {
    Outcome {
        lease: LeaseRef { id: id(name), fence: Fence(fence) },
        resolution: Resolution::Completed,
        error: None,
        outputs: Vec::new(),
        delay: Duration::ZERO,
    }
}

fn board(slots: usize, prefetch: usize, max_bytes: u64) -> Board {
    let mut config = Config::new("w").with_worker_count(slots);
    config.prefetch = prefetch;
    config.max_bytes = max_bytes;
    Board::new(&config)
}

fn claim<const N: usize>(board: &mut Board, leases: [Lease; N], valid_until: Duration) {
    for lease in leases {
        board.claimed(lease, valid_until);
    }
}

fn settled(name: &str, verdict: Verdict) -> Settled {
    Settled { id: id(name), verdict, state: Some(State::Completed) }
}

#[test]
fn asks_for_free_slots_and_prefetch_within_the_bytes() {
    let mut board = board(2, 3, 1000);
    assert_eq!(board.wanted(), Some((5, 1000)));
    claim(&mut board, [lease("a", 1, 400), lease("b", 2, 400)], LATER);
    assert_eq!(board.wanted(), Some((3, 200)));
    claim(&mut board, [lease("c", 3, 400)], LATER);
    assert_eq!(board.wanted(), None, "over the bytes and every slot has work");
}

#[test]
fn rows_are_a_budget_like_bytes() {
    let mut config = Config::new("w").with_worker_count(1);
    (config.prefetch, config.max_rows) = (5, 100);
    let mut board = Board::new(&config);
    let rows = |board: &Board| {
        let room = board.wanted()?;
        let left = board.rows_left();
        Some(super::claim_request(&config, "r".to_owned(), room, left, LATER).max_rows)
    };
    assert_eq!(rows(&board), Some(100));
    let with_rows = |name, fence, rows| {
        let mut lease = lease(name, fence, 1);
        lease.spec.rows = rows;
        lease
    };
    claim(&mut board, [with_rows("a", 1, 60)], LATER);
    assert_eq!(rows(&board), Some(40));
    claim(&mut board, [with_rows("b", 2, 60)], LATER);
    assert_eq!(rows(&board), None, "over the rows and the slot has work");
    board.start_next(Duration::ZERO).unwrap();
    board.finished(done("a", 1));
    assert_eq!(rows(&board), Some(40), "what ended does not count");
    assert_eq!(Board::new(&Config::new("w")).rows_left(), None, "0 is no bound");
}

#[test]
fn an_idle_slot_takes_a_batch_larger_than_the_budget() {
    let mut board = board(2, 2, 100);
    claim(&mut board, [lease("a", 1, 5000)], LATER);
    assert_eq!(board.wanted(), Some((3, 1)));
}

#[test]
fn starts_in_order_and_reports_each_start_once() {
    let mut board = board(1, 2, 1000);
    claim(&mut board, [lease("a", 1, 1), lease("b", 2, 1)], LATER);
    assert_eq!(board.start_next(Duration::ZERO).unwrap().spec.id, id("a"));
    assert!(board.start_next(Duration::ZERO).is_none(), "one slot only");
    let report = board.take_report();
    assert_eq!(report.started, vec![LeaseRef { id: id("a"), fence: Fence(1) }]);
    assert!(!board.has_report());
    board.finished(done("a", 1));
    assert_eq!(board.start_next(Duration::ZERO).unwrap().spec.id, id("b"));
    let report = board.take_report();
    assert_eq!((report.outcomes.len(), report.started.len()), (1, 1));
}

#[test]
fn a_report_that_was_not_taken_goes_out_again_first() {
    let mut board = board(2, 0, 1000);
    claim(&mut board, [lease("a", 1, 1), lease("b", 2, 1)], LATER);
    board.start_next(Duration::ZERO).unwrap();
    board.start_next(Duration::ZERO).unwrap();
    board.finished(done("a", 1));
    let failed = board.take_report();
    board.finished(done("b", 2));
    board.report_failed(failed);
    let again = board.take_report();
    let order: Vec<_> = again.outcomes.iter().map(|o| o.lease.id.as_str()).collect();
    assert_eq!(order, ["a", "b"]);
    board.reported(&again, &[settled("a", Verdict::Stale), settled("b", Verdict::Stale)]);
    assert_eq!(board.held(), 0);
}

#[test]
fn a_lost_lease_is_cancelled_and_its_outcome_is_not_reported() {
    let mut board = board(1, 0, 1000);
    claim(&mut board, [lease("a", 1, 1)], LATER);
    board.start_next(Duration::ZERO).unwrap();
    board.take_report();
    let sent = board.extensions(|_| Some(7));
    assert!(sent[0].started);
    let answers =
        [Extended { id: id("a"), verdict: Verdict::Stale, deadline: None, cancelled: false }];
    let lost = board.extended(&sent, &answers, LATER);
    assert_eq!(lost, vec![LeaseRef { id: id("a"), fence: Fence(1) }]);
    assert_eq!(board.wanted(), None, "its slot is busy until the job has really stopped");
    board.finished(done("a", 1));
    assert_eq!(board.take_report(), Report::default());
    assert!(board.wanted().is_some());
}

#[test]
fn a_lease_that_runs_out_by_the_own_clock_is_lost() {
    let mut board = board(1, 1, 1000);
    claim(&mut board, [lease("a", 1, 1), lease("b", 2, 1)], Duration::from_secs(10));
    board.start_next(Duration::ZERO).unwrap();
    assert!(board.expire(Duration::from_secs(9)).is_empty());
    assert_eq!(board.expire(Duration::from_secs(10)).len(), 2);
    assert!(board.start_next(Duration::from_secs(10)).is_none());
}

#[test]
fn a_newer_lease_of_the_same_batch_replaces_the_lost_one() {
    let mut board = board(2, 2, 1000);
    claim(&mut board, [lease("a", 1, 1)], LATER);
    board.start_next(Duration::ZERO).unwrap();
    board.take_report();
    claim(&mut board, [lease("a", 5, 1)], LATER);
    board.finished(done("a", 1));
    assert!(!board.has_report(), "the old attempt is not settled under the new token");
    assert_eq!(board.start_next(Duration::ZERO).unwrap().fence, Fence(5));
}

#[test]
fn shutdown_gives_back_what_has_not_begun() {
    let mut board = board(1, 3, 1000);
    claim(&mut board, [lease("a", 1, 1), lease("b", 2, 1), lease("c", 3, 1)], LATER);
    board.start_next(Duration::ZERO).unwrap();
    let released: Vec<_> =
        board.drain_ready().into_iter().map(|lease| lease.id.to_string()).collect();
    assert_eq!(released, ["b", "c"]);
    assert_eq!((board.running(), board.prefetched()), (1, 0));
}

#[test]
fn unsent_results_hold_back_new_claims() {
    let mut board = board(1, 0, 1000);
    for fence in 1..=4 {
        let name = format!("b{fence}");
        claim(&mut board, [lease(&name, fence, 1)], LATER);
        board.start_next(Duration::ZERO).unwrap();
        board.finished(done(&name, fence));
    }
    assert_eq!(board.wanted(), None);
}

#[test]
fn outcomes_with_outputs_can_be_told_one_by_one() {
    let mut board = board(3, 0, 1000);
    claim(&mut board, [lease("a", 1, 1), lease("b", 2, 1), lease("c", 3, 1)], LATER);
    while board.start_next(Duration::ZERO).is_some() {}
    let fruitful = |name, fence| Outcome {
        outputs: vec![BatchSpec::new(id(&format!("of-{name}")))],
        ..done(name, fence)
    };
    board.finished(fruitful("a", 1));
    board.finished(done("b", 2));
    board.finished(fruitful("c", 3));
    let all = board.take_report();
    assert_eq!((all.outcomes.len(), all.started.len()), (3, 3));
    board.isolate();
    board.report_failed(all);
    for _ in 0..2 {
        let one = board.take_report();
        assert!(board.is_isolating() && one.started.is_empty());
        assert_eq!((one.outcomes.len(), one.outcomes[0].outputs.len()), (1, 1));
        board.reported(&one, &[]);
    }
    let rest = board.take_report();
    assert!(!board.is_isolating());
    assert_eq!(rest.outcomes, vec![done("b", 2)]);
}
