//! Commits a second, to look at: `cargo test -p sheaf-connectors speed -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use sheaf_connectors::conformance::{rows, schema};

use crate::common::{self, FORMATS, key};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures, does not check"]
async fn speed() {
    const COMMITS: u64 = 800;
    for tasks in [1, 8] {
        for format in FORMATS {
            let dir = tempfile::tempdir().unwrap();
            let sink = common::sink(dir.path(), format).await;
            let start = Instant::now();
            let running = (0..tasks).map(|task| {
                let sink = Arc::clone(&sink);
                tokio::spawn(async move {
                    for n in (0..COMMITS).filter(|n| n % tasks == task) {
                        let key = key(&format!("b{n}"), n);
                        common::write(&*sink, &key, schema(), &[rows(1_000)]).await.unwrap();
                    }
                })
            });
            futures::future::try_join_all(running.collect::<Vec<_>>()).await.unwrap();
            let rate = COMMITS as f64 / start.elapsed().as_secs_f64();
            println!("{format}: {rate:.0} commits/s with {tasks} tasks");
        }
    }
}
