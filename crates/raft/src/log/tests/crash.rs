//! Killed at random moments: what was acknowledged is there.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use rand::{RngExt as _, SeedableRng as _};

use crate::log::{Flush, Options};
use crate::stored::{Entry, LeaderId, LogId, Vote};
use crate::testing::{append, entry, open, small};

const CHILD: &str = "SHEAF_TEST_CRASH_CHILD";
const SEED: u64 = 11;

fn options() -> Options {
    Options { segment_bytes: 20_000, ..small(Flush::Thread) }
}

fn command(index: u64) -> String {
    format!("command {index} {}", "x".repeat(usize::try_from(index % 300).unwrap()))
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {text}").unwrap();
    out.flush().unwrap();
}

/// Runs in the child: appends, votes and purges until it is killed.
#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "the parent names the directory so")]
async fn child() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let mut log = open(Path::new(&home), options());
    let first = log.get_log_state().await.unwrap().last_log_id.map_or(0, |last| last.index + 1);
    let mut next = first;
    loop {
        let count = 1 + next % 7;
        append(&mut log, (next..next + count).map(|index| entry(1, index, command(index)))).await;
        next += count;
        say(&format!("last {}", next - 1));
        if next % 5 == 0 {
            let vote = Vote { leader_id: LeaderId { term: next, voted_for: 1 }, committed: false };
            log.save_vote(&vote).await.unwrap();
            say(&format!("vote {next}"));
        }
        log.save_committed(Some(LogId::new_term_index(1, next - 1))).await.unwrap();
        if next % 11 == 0 && next > 500 {
            log.purge(LogId::new_term_index(1, next - 500)).await.unwrap();
            say(&format!("purged {}", next - 500));
        }
    }
}

/// Starts the child, kills it after a random number of lines, and returns them.
fn run_and_kill(home: &Path, lines: usize) -> Vec<(String, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "log::tests::crash::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, home)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said: Vec<String> = out.by_ref().take(lines).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    // What it had said before it died counts too; the last line may be torn.
    let rest: Vec<String> = out.map_while(Result::ok).collect();
    said.extend(rest.split_last().map_or(&[][..], |(_, rest)| rest).iter().cloned());
    said.iter()
        .filter_map(|line| {
            let (what, number) = line.split_once("ack ")?.1.split_once(' ')?;
            Some((what.to_owned(), number.parse().unwrap()))
        })
        .collect()
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let home = tempfile::tempdir().unwrap();
    let mut random = rand::rngs::StdRng::seed_from_u64(SEED);
    let (mut last, mut vote, mut purged) = (0, 0, 0);
    for round in 0..50 {
        let said = run_and_kill(home.path(), random.random_range(5..150));
        assert!(!said.is_empty(), "seed {SEED}, round {round}: it got to work");
        for (what, number) in said {
            match what.as_str() {
                "last" => last = number,
                "vote" => vote = number,
                _ => purged = number,
            }
        }
        let mut log = open(home.path(), options());
        let state = log.get_log_state().await.unwrap();
        let found = state.last_log_id.unwrap().index;
        assert!(found >= last, "seed {SEED}, round {round}: entry {last} is lost, {found} is last");
        let found_vote = log.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
        assert!(found_vote >= vote, "seed {SEED}, round {round}: vote {vote} is lost");
        let first = state.last_purged_log_id.map_or(0, |purged| purged.index + 1);
        assert!(purged == 0 || first > purged, "seed {SEED}, round {round}: {purged} is back");
        let all: Vec<Entry> = log.try_get_log_entries(..).await.unwrap();
        let expected = (first..=found).map(|index| entry(1, index, command(index)));
        assert!(all.into_iter().eq(expected), "seed {SEED}, round {round}: an entry differs");
    }
    assert!(purged > 0, "files were removed too");
}
