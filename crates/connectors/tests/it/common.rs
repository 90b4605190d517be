//! What the tests share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::TryStreamExt as _;
use sheaf_connectors::{
    CommitKey, Committed, Error, FileFormat, FileSink, FileSource, Sink, SinkOptions, Source as _,
    SourceOptions,
};
use sheaf_retry::SystemClock;

pub(crate) const FORMATS: [FileFormat; 4] =
    [FileFormat::Parquet, FileFormat::Ipc, FileFormat::Csv, FileFormat::Json];

pub(crate) fn key(id: &str, fence: u64) -> CommitKey {
    CommitKey { id: id.parse().unwrap(), fence }
}

pub(crate) async fn sink(dir: &Path, format: FileFormat) -> Arc<FileSink> {
    let clock = SystemClock::shared();
    Arc::new(FileSink::open(dir, format, SinkOptions::default(), clock).await.unwrap())
}

pub(crate) async fn write(
    sink: &dyn Sink,
    key: &CommitKey,
    schema: SchemaRef,
    batches: &[RecordBatch],
) -> Result<Committed, Error> {
    let mut write = sink.prepare(key, schema).await?;
    for batch in batches {
        write.write(batch).await?;
    }
    write.finish().await?;
    write.commit().await
}

/// What a reader that globs `part-*` finds.
pub(crate) fn parts(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut parts: Vec<_> = entries.filter(|p| name(p).starts_with("part-")).collect();
    parts.sort();
    parts
}

pub(crate) fn leftovers(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir.join("_tmp")).unwrap();
    entries.map(|entry| name(&entry.unwrap().path())).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

pub(crate) async fn read(path: &Path, options: SourceOptions) -> Result<Vec<RecordBatch>, Error> {
    let source = FileSource::open(path.to_str().unwrap(), options).await?;
    source.read(1_000).await?.try_collect().await
}

/// Rows over all parts, read as anybody would.
pub(crate) async fn visible_rows(dir: &Path, options: SourceOptions) -> u64 {
    let mut rows = 0;
    for part in parts(dir) {
        let batches = read(&part, options.clone()).await.unwrap();
        rows += batches.iter().map(RecordBatch::num_rows).sum::<usize>() as u64;
    }
    rows
}

/// The schema of the suite, for formats that do not carry it.
pub(crate) fn options_for(format: FileFormat) -> SourceOptions {
    let text = matches!(format, FileFormat::Csv | FileFormat::Json);
    let schema = text.then(sheaf_connectors::conformance::schema);
    SourceOptions { schema, ..SourceOptions::default() }
}
