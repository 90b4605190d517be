//! Every file sink runs the suite.

use std::sync::Arc;

use async_trait::async_trait;
use sheaf_connectors::conformance::{SinkPlace, sink_conformance};
use sheaf_connectors::{FileFormat, Sink};
use tempfile::TempDir;

use crate::common;

struct Place(TempDir, FileFormat);

#[async_trait]
impl SinkPlace for Place {
    async fn open(&self) -> Arc<dyn Sink> {
        common::sink(self.0.path(), self.1).await
    }

    async fn visible_rows(&self) -> u64 {
        common::visible_rows(self.0.path(), common::options_for(self.1)).await
    }
}

async fn run(format: FileFormat) {
    sink_conformance(|| Place(tempfile::tempdir().unwrap(), format)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parquet() {
    run(FileFormat::Parquet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ipc() {
    run(FileFormat::Ipc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn csv() {
    run(FileFormat::Csv).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json() {
    run(FileFormat::Json).await;
}
