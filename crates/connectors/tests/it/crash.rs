//! Workers killed with SIGKILL at each step, and at any.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use sheaf_connectors::conformance::{rows, schema};
use sheaf_connectors::{CommitKey, FileFormat, Sink as _};

use crate::common::{self, FORMATS, key, leftovers, options_for, parts};
use crate::worker::{self, Worker, say};

const STEPS: [&str; 4] = ["prepared", "written", "finished", "committed"];

fn start(dir: &Path, format: FileFormat, until: &str, fence: u64) -> Worker {
    Worker::start("crash::child", &format!("{format} {until} {fence} {}", dir.display()))
}

fn stop_at(step: &str, until: &str) {
    if step == until {
        say(step);
        loop {
            std::thread::park(); // until killed
        }
    }
}

#[test]
#[ignore = "the other tests here run and kill it"]
fn child() {
    let Some(task) = worker::task() else { return };
    let mut words = task.splitn(4, ' ');
    let mut word = || words.next().unwrap().to_owned();
    let (format, until, fence) = (word().parse().unwrap(), word(), word().parse().unwrap());
    let dir = PathBuf::from(word());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let sink = common::sink(&dir, format).await;
        match until.strip_prefix("batches=") {
            Some(count) => commit_many(sink, count.parse().unwrap(), fence).await,
            None => commit_one(&sink, &until, fence).await,
        }
    });
}

async fn commit_one(sink: &sheaf_connectors::FileSink, until: &str, fence: u64) {
    let mut write = sink.prepare(&key("b", fence), schema()).await.unwrap();
    stop_at("prepared", until);
    write.write(&rows(50)).await.unwrap();
    stop_at("written", until);
    write.finish().await.unwrap();
    stop_at("finished", until);
    write.commit().await.unwrap();
    stop_at("committed", until);
}

/// Four tasks commit every batch that is not there yet.
async fn commit_many(sink: std::sync::Arc<sheaf_connectors::FileSink>, count: u32, fence: u64) {
    sink.recover().await.unwrap();
    let tasks = (0..4).map(|task| {
        let sink = std::sync::Arc::clone(&sink);
        tokio::spawn(async move {
            for n in (0..count).filter(|n| n % 4 == task) {
                let key = key(&format!("b{n}"), fence);
                let winner = match sink.committed(&key.id).await.unwrap() {
                    Some(winner) => winner,
                    None => {
                        let batch = [rows(n + 1)];
                        common::write(&*sink, &key, schema(), &batch).await.unwrap()
                    }
                };
                say(&format!("{n} {}", winner.fence));
            }
        })
    });
    futures::future::try_join_all(tasks).await.unwrap();
}

/// A directory as a worker leaves it that was killed at `step`.
fn killed_at(step: &str, format: FileFormat) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut worker = start(dir.path(), format, step, 1);
    assert_eq!(worker.said().as_deref(), Some(step));
    worker.kill();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_the_steps_leaves_all_or_nothing() {
    for format in FORMATS {
        for step in STEPS {
            let dir = killed_at(step, format);
            let done = step == "committed";
            let sink = common::sink(dir.path(), format).await;
            let seen = common::visible_rows(dir.path(), options_for(format)).await;
            assert_eq!(seen, if done { 50 } else { 0 }, "{format} {step}");
            let winner = sink.committed(&key("b", 1).id).await.unwrap();
            assert_eq!(winner.map(|w| (w.fence, w.rows)), done.then_some((1, 50)), "{step}");
            // Fresh leftovers of a lone attempt stay: their age tells nothing yet.
            assert_eq!(sink.recover().await.unwrap(), 0, "{format} {step}");
            let again = common::write(&*sink, &key("b", 2), schema(), &[rows(60)]).await.unwrap();
            let expected = if done { (1, 50, false) } else { (2, 60, true) };
            assert_eq!((again.fence, again.rows, again.created), expected, "{format} {step}");
            sink.recover().await.unwrap();
            assert_eq!(leftovers(dir.path()), [""; 0], "{format} {step}");
            let seen = common::visible_rows(dir.path(), options_for(format)).await;
            assert_eq!(seen, again.rows, "{format} {step}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_attempt_can_be_made_again_after_a_kill() {
    for format in FORMATS {
        let dir = killed_at("finished", format);
        let sink = common::sink(dir.path(), format).await;
        let again = common::write(&*sink, &key("b", 1), schema(), &[rows(9)]).await.unwrap();
        assert_eq!((again.rows, again.created), (9, true), "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_inside_the_commit_is_carried_out_or_cleaned_up() {
    for format in FORMATS {
        for who in ["committed", "recover", "a later attempt"] {
            let dir = killed_at("finished", format);
            let (tmp, sink) = (dir.path().join("_tmp"), common::sink(dir.path(), format).await);
            // The commit point, and the crash right after it.
            match format {
                FileFormat::Parquet | FileFormat::Ipc => {
                    let part = dir.path().join(format!("part-b.{}", format.extension()));
                    std::fs::hard_link(tmp.join("b.1"), part).unwrap();
                }
                FileFormat::Csv | FileFormat::Json => {
                    let record = dir.path().join("_commits/b.json");
                    std::fs::hard_link(tmp.join("b.1.json"), record).unwrap();
                    assert_eq!(parts(dir.path()).len(), 0, "{format}");
                }
            }
            match who {
                "committed" => {
                    let winner = sink.committed(&key("b", 1).id).await.unwrap().unwrap();
                    assert_eq!((winner.fence, winner.rows, winner.created), (1, 50, false));
                }
                "recover" => assert!(sink.recover().await.unwrap() >= 1, "{format}"),
                _ => {
                    let late = key("b", 2);
                    let late = common::write(&*sink, &late, schema(), &[rows(60)]).await.unwrap();
                    assert_eq!((late.fence, late.rows, late.created), (1, 50, false), "{format}");
                }
            }
            let seen = common::visible_rows(dir.path(), options_for(format)).await;
            assert_eq!(seen, 50, "{format} after {who}");
            sink.recover().await.unwrap();
            assert_eq!(leftovers(dir.path()), [""; 0], "{format} after {who}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_kills_loses_and_doubles_nothing() {
    const BATCHES: u32 = 60;
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let mut winners: HashMap<u32, u64> = HashMap::new();
        let mut fence = 0;
        loop {
            fence += 1;
            let task = format!("batches={BATCHES}");
            let mut worker = start(dir.path(), format, &task, fence);
            // What is answered again needs no time: count what is new.
            let new_until_kill = 3 + fence * 7 % 11;
            let mut new = 0;
            let killed = loop {
                let Some(line) = worker.said() else { break false };
                let (n, winner) = line.split_once(' ').unwrap();
                let (n, winner) = (n.parse().unwrap(), winner.parse().unwrap());
                new += u64::from(!winners.contains_key(&n));
                let known = *winners.entry(n).or_insert(winner);
                assert_eq!(known, winner, "{format}: batch {n} changed its winner");
                if new >= new_until_kill {
                    break true;
                }
            };
            worker.kill();
            if !killed {
                break;
            }
        }
        assert!(fence > 3, "{format}: {fence} runs are no test");
        assert_eq!(winners.len(), BATCHES as usize, "{format}");
        let sink = common::sink(dir.path(), format).await;
        sink.recover().await.unwrap();
        assert_eq!(parts(dir.path()).len(), BATCHES as usize, "{format}");
        let seen = common::visible_rows(dir.path(), options_for(format)).await;
        assert_eq!(seen, u64::from(BATCHES * (BATCHES + 1) / 2), "{format}");
        for n in 0..BATCHES {
            let CommitKey { id, .. } = key(&format!("b{n}"), 0);
            let winner = sink.committed(&id).await.unwrap().unwrap();
            assert_eq!((winner.fence, winner.rows), (winners[&n], u64::from(n) + 1), "{format}");
        }
        assert_eq!(leftovers(dir.path()), [""; 0], "{format}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn recover_keeps_what_a_living_process_writes() {
    for format in FORMATS {
        let dir = tempfile::tempdir().unwrap();
        let mut worker = start(dir.path(), format, "finished", 1);
        assert_eq!(worker.said().as_deref(), Some("finished"));
        let sink = common::sink(dir.path(), format).await;
        // Replaced by a newer attempt, and still alive.
        common::write(&*sink, &key("b", 2), schema(), &[rows(1)]).await.unwrap();
        assert_eq!(sink.recover().await.unwrap(), 0, "{format}");
        assert!(!leftovers(dir.path()).is_empty(), "{format}");
        let busy = sink.prepare(&key("b", 1), schema()).await.map(drop).unwrap_err();
        assert!(busy.to_string().contains("b.1"), "{busy}");
        worker.kill();
        assert!(sink.recover().await.unwrap() >= 1, "{format}");
        assert_eq!(leftovers(dir.path()), [""; 0], "{format}");
    }
}
