//! A process that is killed while it puts.

use std::time::Duration;

use sheaf_store::{PutOptions, Store};
use sheaf_testkit::{Process, TempDir};

use crate::support::{batch, get, messages, options, put};

const LONG: Duration = Duration::from_secs(60);
/// Names the data directory to the test below when it is run as a process.
const FOLDER: &str = "SHEAF_STORE_CRASH_FOLDER";

/// Not a test by itself: the process that is killed. Says which puts were
/// acknowledged.
#[allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it is a program of its own")]
#[tokio::test(flavor = "multi_thread")]
async fn putting_process() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = Store::open(options(folder.as_ref())).await.unwrap();
    let mine = std::process::id();
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let name = format!("{mine}-{writer}-{number}");
                let sent = messages(&[batch(number % 10, 20)]);
                put(&store, &name, &sent, PutOptions::DISK).await.unwrap();
                println!("stored {name} {}", number % 10);
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[test]
fn every_acknowledged_payload_is_there_after_kill_9() {
    let folder = TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    for round in 1..=3_usize {
        let program = std::env::current_exe().unwrap();
        let mut process = Process::command(program)
            .args(["--exact", "crash::putting_process", "--nocapture"])
            .env(FOLDER, folder.path())
            .spawn()
            .unwrap();
        let wanted = format!("-{} ", round * 10);
        process
            .wait_for_line(LONG, |line| {
                (line.contains("stored") && line.contains(&wanted)).then_some(())
            })
            .unwrap();
        process.kill9().unwrap();
        for line in process.stdout().lines() {
            // The harness may write before the first of them on the same line.
            let words: Vec<_> = line.split(' ').collect();
            let Some(at) = words.iter().position(|word| word.ends_with("stored")) else { continue };
            if let [name, seed] = words[at + 1..] {
                acknowledged.push((name.to_owned(), seed.parse::<i64>().unwrap()));
            }
        }
        assert!(acknowledged.len() >= round * 10, "{}", acknowledged.len());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(options(folder.path())).await.unwrap();
            assert_eq!(store.stats().quarantined, 0);
            for (name, seed) in &acknowledged {
                assert_eq!(get(&store, name).await.unwrap(), messages(&[batch(*seed, 20)]));
            }
            store.close().await;
        });
    }
}
