//! Writes files.

use arrow_array::RecordBatch;
use async_trait::async_trait;
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use sheaf_connectors::{CommitKey, FileSink, Objects, Sink as _, SinkOptions};
use sheaf_dataflow::{ComponentError, Received, Sink, Start};
use sheaf_pipeline::spec;

use crate::columns::file_format;
use crate::encode;
use crate::failure::{failed, lost, refused};
use crate::host::Host;
use crate::identity::Identity;

/// One file for each batch that has rows: whole, or not there.
pub(super) struct Files {
    place: Place,
    identity: Identity,
    run: u64,
    done: u64,
}

enum Place {
    Folder(FileSink),
    Bucket { objects: Objects, format: spec::FileFormat, options: SinkOptions },
}

impl Files {
    pub(super) async fn open(
        config: &spec::FileSink,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let options = options(config)?;
        if config.path.starts_with("s3://") {
            let objects = crate::bucket::open(&config.path, &config.storage, host).await?;
            let place = Place::Bucket { objects, format: config.format, options };
            return Ok(Files::at(place, start, host));
        }
        let path = local(config)?;
        let place = format!("config.path: {path} cannot be written to");
        let format = file_format(config.format);
        let sink = FileSink::open(path, format, options, std::sync::Arc::clone(&host.clock)).await;
        let sink = sink.map_err(failed(place))?;
        let removed =
            sink.recover().await.map_err(failed("files of broken writes are in the way"))?;
        if removed > 0 {
            tracing::info!(removed, path, "leftovers of broken writes were removed");
        }
        Ok(Files::at(Place::Folder(sink), start, host))
    }

    fn at(place: Place, start: &Start, host: &Host) -> Self {
        Files { place, identity: Identity::of(start), run: host.run, done: 0 }
    }

    async fn take(&self, received: &Received) -> Result<(), ComponentError> {
        let batch = &received.batch;
        let fence = received.lease.as_ref().map_or(self.run, |lease| lease.fence);
        let key = CommitKey { id: self.identity.id(received)?, fence };
        let broken = || failed(format!("batch {} cannot be written", key.id));
        let sink = match &self.place {
            Place::Folder(sink) => sink,
            Place::Bucket { objects, format, options } => {
                let name = format!("part-{}.{}", key.id, file_format(*format).extension());
                let name = name.replace(':', "-");
                let bytes = encoded(batch.clone(), *format, options.clone()).await?;
                let is_new = objects.create(&name, bytes.into()).await.map_err(broken())?;
                tracing::debug!(place = objects.place(&name), is_new, "batch written");
                return Ok(());
            }
        };
        let schema = batch.schema();
        let mut write = sink.prepare(&key, schema).await.map_err(broken())?;
        write.write(batch).await.map_err(broken())?;
        write.finish().await.map_err(broken())?;
        let committed = write.commit().await.map_err(broken())?;
        tracing::debug!(
            place = committed.place,
            rows = committed.rows,
            is_new = committed.created,
            "batch written"
        );
        Ok(())
    }
}

/// The bytes of a whole file.
async fn encoded(
    batch: RecordBatch,
    format: spec::FileFormat,
    options: SinkOptions,
) -> Result<Vec<u8>, ComponentError> {
    let encode = move || match format {
        spec::FileFormat::Parquet => {
            let properties = WriterProperties::builder()
                .set_compression(options.parquet_compression)
                .set_max_row_group_row_count(Some(options.max_row_group_rows))
                .build();
            encode::parquet(&batch, Some(properties))
        }
        other => encode::file(other, &batch),
    };
    tokio::task::spawn_blocking(encode).await.map_err(lost)?
}

fn local(config: &spec::FileSink) -> Result<&str, ComponentError> {
    let path = config.path.as_str();
    let path = match path.split_once("://") {
        None => path,
        Some(("file", rest)) => rest,
        Some(_) => {
            return Err(refused(format!(
                "config.path: {path} is at a place that is not known: write a folder of this \
                 machine or s3://BUCKET/PREFIX"
            )));
        }
    };
    if config.storage != spec::Storage::default() {
        let text = "config.storage is for folders in a bucket; leave it out";
        return Err(refused(format!("{text}: {path} is on this machine")));
    }
    Ok(path)
}

fn options(config: &spec::FileSink) -> Result<SinkOptions, ComponentError> {
    let mut options = SinkOptions {
        max_row_group_rows: usize::try_from(config.row_group_rows.max(1)).unwrap_or(usize::MAX),
        ..SinkOptions::default()
    };
    let Some(compression) = config.compression else { return Ok(options) };
    if config.format == spec::FileFormat::Parquet {
        options.parquet_compression = match compression {
            spec::Compression::None => Compression::UNCOMPRESSED,
            spec::Compression::Gzip => Compression::GZIP(GzipLevel::default()),
            spec::Compression::Snappy => Compression::SNAPPY,
            spec::Compression::Lz4 => Compression::LZ4_RAW,
            spec::Compression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        };
    } else if compression != spec::Compression::None {
        return Err(refused(format!(
            "config.compression: files of {:?} are written as they are; leave it out, or write \
             Parquet",
            config.format
        )));
    }
    Ok(options)
}

#[async_trait]
impl Sink for Files {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        if received.batch.num_rows() > 0 {
            self.take(received).await?;
        }
        self.done += 1;
        Ok(self.done)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.done)
    }
}
