//! The sink of the example keeps the rules of every sink.

use std::sync::Arc;

use async_trait::async_trait;
use sheaf_connectors::conformance::{SinkPlace, sink_conformance};
use sheaf_connectors::{CommitKey, Sink};
use sheaf_testkit::TempDir;

use crate::commit_log::CommitLog;
use crate::json_lines::JsonLines;

struct Place(TempDir);

impl Place {
    fn log(&self) -> CommitLog {
        CommitLog::open(self.0.path().join("results.jsonl")).unwrap()
    }
}

#[async_trait]
impl SinkPlace for Place {
    async fn open(&self) -> Arc<dyn Sink> {
        Arc::new(JsonLines(self.log()))
    }

    async fn visible_rows(&self) -> u64 {
        self.log().lock().unwrap().entries.iter().map(|entry| entry.rows.len() as u64).sum()
    }
}

#[tokio::test]
async fn json_lines_pass_the_conformance_suite() {
    sink_conformance(|| Place(TempDir::new().unwrap())).await;
}

/// What stands in the file is what the schema says, and half a line is none.
#[tokio::test]
async fn a_torn_line_is_no_commit() {
    let place = Place(TempDir::new().unwrap());
    let path = place.log().path().to_owned();
    let rows = sheaf_connectors::conformance::rows(2);
    for (id, fence) in [("a", 1), ("b", 2)] {
        let key = CommitKey { id: id.parse().unwrap(), fence };
        let mut write = place.open().await.prepare(&key, rows.schema()).await.unwrap();
        write.write(&rows).await.unwrap();
        write.commit().await.unwrap();
    }
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in first..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(place.visible_rows().await, 2, "cut at {length}");
        let key = CommitKey { id: "b".parse().unwrap(), fence: 3 };
        let mut write = place.open().await.prepare(&key, rows.schema()).await.unwrap();
        write.write(&rows).await.unwrap();
        assert!(write.commit().await.unwrap().created, "cut at {length}");
        assert_eq!(place.visible_rows().await, 4, "cut at {length}");
    }
}
