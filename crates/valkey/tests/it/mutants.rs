//! Mistakes planted in the scripts are found by the suite or by the random runs.

use std::sync::Arc;

use sheaf_coordinator::conformance;

use super::conformance::Bench;

/// What is wrong, and the text before and after.
const MUTANTS: [(&str, &str, &str); 7] = [
    (
        "old tokens are good",
        "r[R_EP] == ep and r[R_LO] == lo and F.deadline_of(r) > now",
        "F.deadline_of(r) > now",
    ),
    ("one retry too many", "if retry >= p.retries then", "if retry > p.retries then"),
    ("a release costs an attempt", "r[R_ATT] = max(r[R_ATT] - 1, 0)", "r[R_ATT] = r[R_ATT]"),
    ("no turns", "level.turn = c.tenant", "level.turn = level.turn"),
    ("a claim is not remembered", "if #taken > 0 then\n    F.flush()", "if false then"),
    (
        "those that wait are not told",
        "S.agenda[#S.agenda + 1] = r[R_ID]",
        "S.agenda[#S.agenda + 1] = nil",
    ),
    ("the bound on bytes is not kept", "bytes > c.max_bytes", "bytes > c.max_bytes + 1000"),
];

async fn survives(bench: Arc<Bench>) -> bool {
    let suite = tokio::spawn(async move {
        for seed in 7..9 {
            conformance::random(&*bench, seed, 120).await;
        }
        conformance::run(&*bench).await;
    });
    suite.await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_mistakes_are_found() {
    for (what, before, after) in MUTANTS {
        let Some(mut bench) = Bench::start() else { return };
        let changed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        bench.edit = Some((before, after, Arc::clone(&changed)));
        assert!(!survives(Arc::new(bench)).await, "not found: {what}");
        assert!(changed.load(std::sync::atomic::Ordering::Relaxed), "not planted: {what}");
    }
}
