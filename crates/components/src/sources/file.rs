//! Reads files.

mod list;

use std::collections::VecDeque;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use sheaf_connectors::{Compression, Error, FileFormat, FileSource, Source as _, SourceOptions};
use sheaf_dataflow::{ComponentError, Made, Source, Start};
use sheaf_pipeline::spec;
use sheaf_retry::Code;

use crate::columns;
use crate::failure::{failed, refused};
use crate::host::Host;
use crate::offset;
use list::Place;

const KIND: &str = "file";

/// The files of one instance, one after the other in the order of their names.
///
/// An offset is a file and a row of it. Files whose names come before that of the offset
/// are not looked at again.
pub(super) struct Files {
    path: String,
    place: Place,
    options: SourceOptions,
    batch_rows: usize,
    instance: u32,
    replicas: u32,
    /// Where to go on: the file, and rows of it that were given already.
    at: Option<(String, u64)>,
    /// This instance's own that are still to be read, the next one first.
    files: Option<Listed>,
    open: Option<Open>,
}

/// What is to be read.
struct Listed {
    names: VecDeque<String>,
    /// Of the first of all files: all others have these columns too.
    schema: Option<SchemaRef>,
}

struct Open {
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
    /// Rows that are left out, since they were given already.
    skip: u64,
    /// Keeps a file that was fetched.
    _fetched: Option<tempfile::TempPath>,
}

/// Where to go on.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Offset {
    path: String,
    file: String,
    row: u64,
    replicas: u32,
}

impl Files {
    pub(super) async fn open(
        config: &spec::FileSource,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let offset = offset::read::<Offset>(KIND, start.offset.as_ref())?;
        let at = offset.map(|offset| offset.checked(&config.path, start.replicas)).transpose()?;
        let place = Place::open(&config.path, &config.storage, host, &start.state_dir).await?;
        Ok(Files {
            path: config.path.clone(),
            place,
            options: options(config)?,
            batch_rows: usize::try_from(config.batch_rows.max(1)).unwrap_or(usize::MAX),
            instance: start.instance,
            replicas: start.replicas.max(1),
            at,
            files: None,
            open: None,
        })
    }

    /// The files that are this instance's, from the offset on.
    async fn list(&mut self) -> Result<Listed, ComponentError> {
        let all = self.place.list().await?;
        if all.is_empty() {
            let text = format!("there is no file to read at {}; check `path`", self.path);
            return Err(ComponentError::new(Code::NotFound, text));
        }
        let is_own = |name: &String| {
            let hash = twox_hash::XxHash3_64::oneshot(name.as_bytes());
            hash % u64::from(self.replicas) == u64::from(self.instance)
        };
        let is_left =
            |name: &String| self.at.as_ref().is_none_or(|(file, _)| name.as_str() >= file.as_str());
        let first = all.first().cloned();
        let names: VecDeque<_> = all.into_iter().filter(is_own).filter(is_left).collect();
        let mut schema = self.options.schema.clone();
        // All have the columns of the very first one, on a start in the middle too.
        if let (None, Some(first), false) = (&schema, &first, names.is_empty()) {
            let (source, _fetched) = self.source(first, None).await?;
            schema = Some(source.schema().await.map_err(failed("its columns are not known"))?);
        }
        Ok(Listed { names, schema })
    }

    async fn source(
        &mut self,
        name: &str,
        schema: Option<&SchemaRef>,
    ) -> Result<(FileSource, Option<tempfile::TempPath>), ComponentError> {
        let (path, fetched) = self.place.fetch(name).await?;
        let mut options = self.options.clone();
        let brings_its_own = matches!(
            options.format.or_else(|| list::format_of(name)),
            Some(FileFormat::Parquet | FileFormat::Ipc)
        );
        if !brings_its_own {
            options.schema = schema.cloned().or(options.schema);
        }
        let source = FileSource::open(&path, options).await;
        let source = source.map_err(failed(format!("{name} cannot be read")))?;
        let own = source.schema().await.map_err(failed(format!("{name} cannot be read")))?;
        if let Some(schema) = schema
            && schema.fields() != own.fields()
        {
            return Err(refused(format!(
                "{name} has the columns {own}, and the first file has {schema}; read files of \
                 other columns by a source of their own"
            )));
        }
        Ok((source, fetched))
    }

    async fn open_next(
        &mut self,
        name: &str,
        schema: Option<&SchemaRef>,
    ) -> Result<Open, ComponentError> {
        let (source, fetched) = self.source(name, schema).await?;
        let skip = match &self.at {
            Some((file, row)) if file == name => *row,
            _ => 0,
        };
        let batches = source.read(self.batch_rows).await;
        let batches = batches.map_err(failed(format!("{name} cannot be read")))?;
        Ok(Open { batches, skip, _fetched: fetched })
    }

    fn made(
        &mut self,
        name: &str,
        batch: RecordBatch,
        before: u64,
    ) -> Result<Made, ComponentError> {
        let row = before + batch.num_rows() as u64;
        let (path, replicas) = (self.path.clone(), self.replicas);
        let at = Offset { path, file: name.to_owned(), row, replicas };
        let offset = offset::write(KIND, &at)?;
        self.at = Some((name.to_owned(), row));
        Ok(Made { batch, offset })
    }
}

impl Offset {
    fn checked(self, path: &str, replicas: u32) -> Result<(String, u64), ComponentError> {
        let changed = if self.path != path {
            format!("of {} and not of {path}", self.path)
        } else if self.replicas != replicas.max(1) {
            format!("of one of {} instances and not of {replicas}", self.replicas)
        } else {
            return Ok((self.file, self.row));
        };
        let text = format!(
            "the offset that is kept of this source is {changed}; put the configuration back, or \
             remove the state of the component to read from the beginning"
        );
        Err(ComponentError::new(Code::FailedPrecondition, text))
    }
}

fn options(config: &spec::FileSource) -> Result<SourceOptions, ComponentError> {
    let compression = match config.compression {
        None => None,
        Some(spec::Compression::None) => Some(Compression::None),
        Some(spec::Compression::Gzip) => Some(Compression::Gzip),
        Some(spec::Compression::Zstd) => Some(Compression::Zstd),
        Some(other @ (spec::Compression::Snappy | spec::Compression::Lz4)) => {
            return Err(refused(format!(
                "config.compression: {other:?} is no compression of files as a whole; write none, \
                 gzip or zstd, and nothing for Parquet and Arrow IPC, which say it themselves"
            )));
        }
    };
    let delimiter = match config.delimiter.as_deref() {
        None => None,
        Some(text) => match text.as_bytes() {
            [byte] => Some(*byte),
            _ => return Err(refused("config.delimiter is to be one character of ASCII")),
        },
    };
    Ok(SourceOptions {
        format: config.format.map(columns::file_format),
        compression,
        schema: columns::schema(&config.columns),
        header: config.header,
        delimiter,
        ..SourceOptions::default()
    })
}

#[async_trait]
impl Source for Files {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        if self.files.is_none() {
            self.files = Some(self.list().await?);
        }
        loop {
            let Some(files) = &self.files else { return Ok(None) };
            let Some(name) = files.names.front().cloned() else { return Ok(None) };
            let schema = files.schema.clone();
            let Some(open) = &mut self.open else {
                self.open = Some(self.open_next(&name, schema.as_ref()).await?);
                continue;
            };
            match open.batches.next().await {
                None if open.skip > 0 => {
                    return Err(ComponentError::new(
                        Code::FailedPrecondition,
                        format!(
                            "{name} has {} rows less than were read of it before: it was replaced; \
                             remove the state of the component to read from the beginning",
                            open.skip
                        ),
                    ));
                }
                None => {
                    self.open = None;
                    if let Some(files) = &mut self.files {
                        files.names.pop_front();
                    }
                }
                Some(Err(error)) => {
                    // Opened anew behind the rows that were given, if it is tried again.
                    self.open = None;
                    return Err(failed(format!("{name} cannot be read on"))(error));
                }
                Some(Ok(batch)) => {
                    let rows = batch.num_rows() as u64;
                    let left_out = open.skip.min(rows);
                    open.skip -= left_out;
                    if left_out == rows {
                        continue;
                    }
                    let from = usize::try_from(left_out).unwrap_or(usize::MAX);
                    let batch = batch.slice(from, batch.num_rows() - from);
                    let given = match &self.at {
                        Some((file, row)) if *file == name => *row,
                        _ => 0,
                    };
                    return self.made(&name, batch, given).map(Some);
                }
            }
        }
    }
}
