//! Mistakes planted in the scripts are found by the suite or by the random runs.

use std::sync::Arc;

use sheaf_coordinator::conformance;

use super::conformance::Bench;

/// What is wrong, and the text before and after.
type Mutant = (&'static str, &'static str, &'static str);

const MUTANTS: [Mutant; 10] = [
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
    ("given again, no attempt is counted", "u[3] + F_STARTED, u[9] + 1", "u[3] + F_STARTED, u[9]"),
    ("given again, it was settled with the new token", "u[3] = u[3] - F_SAME", "u[3] = u[3]"),
    ("given again, its error is forgotten", "t.lease .. used.x", "t.lease"),
];

/// The same, found where two batches are a block.
const MUTANTS_IN_BLOCKS: [Mutant; 10] = [
    ("the rest of a block is lost", "F.add_block(rest)", "F.write_block(rest)"),
    ("a block is not taken apart", "F.take_apart(k)\n  return true", "return true"),
    (
        "any token ends a block",
        "or k[K_EP] ~= ep\n    or k[K_LO] + place - k[K_FIRST] ~= lo or",
        "or",
    ),
    ("a part of a block ends all of it", "and ssub(joined, at, after - 1) == keys", ""),
    (
        "what is behind a part that ended is lost",
        "if to < k[K_N] then\n    F.hold_block",
        "if false then\n    F.hold_block",
    ),
    ("what is before a part that ended is lost", "if from > 1 then", "if false then"),
    (
        "a block is given whatever its size",
        "is_whole = want == there and want >= BLOCK_MIN and t.bytes + k[K_BYTES] <= c.max_bytes",
        "is_whole = want == there and want >= BLOCK_MIN",
    ),
    (
        "lost blocks stay lost",
        "if at <= now then\n        -- Each by itself at once.",
        "if false then",
    ),
    (
        "what was given stays in the block",
        "k[K_GONE], k[K_ROWS], k[K_BYTES] = k[K_GONE] + want,",
        "k[K_GONE], k[K_ROWS], k[K_BYTES] = k[K_GONE],",
    ),
    (
        "those after a block come before it",
        "if last and tonumber(last) < tonumber(first) then return end",
        "if last then return end",
    ),
];

async fn survives(bench: Arc<Bench>) -> bool {
    let suite = tokio::spawn(async move {
        for seed in 7..9 {
            conformance::random(&*bench, seed, 120).await;
        }
        for seed in 0..if bench.blocks.is_some() { 8 } else { 0 } {
            conformance::random_alike(&*bench, seed, 100).await;
        }
        conformance::run(&*bench).await;
    });
    suite.await.is_ok()
}

/// What was not found, or not planted.
async fn survivors(mutants: &[Mutant], in_blocks: bool) -> Vec<String> {
    let mut all = Vec::new();
    for (what, before, after) in mutants {
        let bench = if in_blocks { Bench::of_blocks() } else { Bench::start() };
        let Some(mut bench) = bench else { return all };
        let changed = Arc::new(std::sync::atomic::AtomicBool::new(false));
        bench.edit = Some((before, after, Arc::clone(&changed)));
        if survives(Arc::new(bench)).await {
            all.push(format!("not found: {what}"));
        }
        if !changed.load(std::sync::atomic::Ordering::Relaxed) {
            all.push(format!("not planted: {what}"));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planted_mistakes_are_found() {
    assert_eq!(survivors(&MUTANTS, false).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_planted_in_blocks_are_found() {
    assert_eq!(survivors(&MUTANTS_IN_BLOCKS, true).await, Vec::<String>::new());
}
