//! Asks an address again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use reqwest::header::{ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sheaf_connectors::{Compression, Error, FileFormat, FileSource, Source as _, SourceOptions};
use sheaf_dataflow::{ComponentError, Made, Source, Start};
use sheaf_pipeline::spec::{self, DEFAULT_BATCH_ROWS, HttpSource};
use sheaf_retry::{Code, SharedClock};

use crate::failure::{failed, failed_as, refused};
use crate::host::Host;
use crate::{columns, http, offset};

const KIND: &str = "http";

/// What an address answers with.
///
/// An answer that has not changed, which an address tells by its entity tag, gives no rows.
pub(super) struct Poll {
    client: Client,
    url: Url,
    shown: String,
    headers: HeaderMap,
    every: Duration,
    format: spec::FileFormat,
    rows_at: Option<String>,
    /// The columns that were asked for, or those of the first rows.
    schema: Option<SchemaRef>,
    max_bytes: u64,
    /// Holds an answer while it is read.
    file: PathBuf,
    clock: SharedClock,
    at: Offset,
    /// When to ask again; the first time is at once.
    due: Duration,
    answer: Option<Answer>,
}

/// An answer that is being read. One batch is held, so that the last one is known to be that.
struct Answer {
    tag: Option<String>,
    digest: String,
    batches: BoxStream<'static, Result<RecordBatch, Error>>,
    held: Option<RecordBatch>,
    /// Rows that are left out, since they were given already.
    skip: u64,
    given: u64,
}

/// Where to go on.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Offset {
    /// The entity tag of the last answer that was read to its end.
    tag: Option<String>,
    /// Of the answer that is being read: its digest, and rows of it that were given.
    partial: Option<(String, u64)>,
}

impl Poll {
    pub(super) async fn open(
        config: &HttpSource,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let (url, shown) = http::address(&config.url)?;
        if config.rows_at.is_some() && config.format != spec::FileFormat::Json {
            return Err(refused("config.rowsAt is a place in JSON, and the format is another one"));
        }
        Ok(Poll {
            client: http::client(config.timeout.0)?,
            url,
            shown,
            headers: http::headers(host, &config.headers).await?,
            every: config.every.0,
            format: config.format,
            rows_at: config.rows_at.clone(),
            schema: columns::schema(&config.columns),
            max_bytes: config.max_bytes.0,
            file: start.state_dir.join("answer"),
            at: offset::read(KIND, start.offset.as_ref())?.unwrap_or_default(),
            due: host.clock.elapsed(),
            clock: Arc::clone(&host.clock),
            answer: None,
        })
    }

    /// Asks; `None` where nothing has changed.
    async fn ask(&mut self) -> Result<Option<(Option<String>, Vec<u8>)>, ComponentError> {
        let mut request = self.client.get(self.url.clone()).headers(self.headers.clone());
        if let Some(tag) = self.at.tag.as_deref().and_then(|tag| tag.parse::<HeaderValue>().ok()) {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let answer = request.send().await.map_err(http::no_answer(&self.shown))?;
        let status = answer.status();
        if status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        if !status.is_success() {
            return Err(http::refusal(&self.shown, status, &http::beginning(answer).await));
        }
        let tag = answer.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok(Some((tag, http::body(&self.shown, answer, self.max_bytes).await?)))
    }

    /// The rows of a body.
    async fn read(
        &mut self,
        tag: Option<String>,
        body: Vec<u8>,
    ) -> Result<Option<Answer>, ComponentError> {
        let rows = match &self.rows_at {
            Some(pointer) => rows_at(&self.shown, pointer, &body)?,
            None => body,
        };
        if rows.trim_ascii().is_empty() || rows.trim_ascii() == b"[]" {
            return Ok(None);
        }
        let digest = format!("{:032x}", twox_hash::XxHash3_128::oneshot(&rows));
        let skip = match &self.at.partial {
            Some((of, given)) if *of == digest => *given,
            _ => 0,
        };
        let unreadable = || failed(format!("the answer of {} cannot be read", self.shown));
        tokio::fs::write(&self.file, &rows).await.map_err(failed(format!(
            "the answer of {} cannot be kept in {}",
            self.shown,
            self.file.display()
        )))?;
        let format = columns::file_format(self.format);
        let is_text = matches!(format, FileFormat::Csv | FileFormat::Json);
        let options = SourceOptions {
            format: Some(format),
            compression: is_text.then_some(Compression::None),
            schema: self.schema.clone().filter(|_| is_text),
            ..SourceOptions::default()
        };
        let source = FileSource::open(&self.file.to_string_lossy(), options).await;
        let source = source.map_err(unreadable())?;
        let batch_rows = usize::try_from(DEFAULT_BATCH_ROWS).unwrap_or(usize::MAX);
        let batches = source.read(batch_rows).await.map_err(unreadable())?;
        Ok(Some(Answer { tag, digest, batches, held: None, skip, given: 0 }))
    }

    fn made(&mut self, batch: RecordBatch, is_last: bool) -> Result<Made, ComponentError> {
        let Some(answer) = &mut self.answer else {
            return Err(ComponentError::new(Code::Internal, "rows without an answer"));
        };
        self.schema.get_or_insert_with(|| batch.schema());
        answer.given += batch.num_rows() as u64;
        let at = if is_last {
            Offset { tag: answer.tag.clone(), partial: None }
        } else {
            let partial = Some((answer.digest.clone(), answer.given));
            Offset { tag: self.at.tag.clone(), partial }
        };
        let offset = offset::write(KIND, &at)?;
        self.at = at;
        Ok(Made { batch, offset })
    }
}

impl Answer {
    /// The next batch, and whether it is the last one.
    async fn next(&mut self) -> Result<Option<(RecordBatch, bool)>, Error> {
        loop {
            match self.batches.next().await.transpose()? {
                None => return Ok(self.held.take().map(|held| (held, true))),
                Some(batch) => {
                    let rows = batch.num_rows() as u64;
                    let left_out = self.skip.min(rows);
                    self.skip -= left_out;
                    self.given += left_out;
                    if left_out == rows {
                        continue;
                    }
                    let from = usize::try_from(left_out).unwrap_or(usize::MAX);
                    let batch = batch.slice(from, batch.num_rows() - from);
                    if let Some(held) = self.held.replace(batch) {
                        return Ok(Some((held, false)));
                    }
                }
            }
        }
    }
}

/// The rows at a place in JSON, one a line.
fn rows_at(shown: &str, pointer: &str, body: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let malformed = format!("the answer of {shown} is no JSON");
    let answer: Value =
        serde_json::from_slice(body).map_err(failed_as(Code::MalformedData, malformed))?;
    let rows = match answer.pointer(pointer) {
        Some(Value::Array(rows)) => rows.as_slice(),
        Some(Value::Null) => &[],
        Some(row @ Value::Object(_)) => std::slice::from_ref(row),
        found => {
            let found = if found.is_some() { "neither a list nor an object" } else { "nothing" };
            let text =
                format!("the answer of {shown} has {found} at {pointer}; check config.rowsAt");
            return Err(ComponentError::new(Code::MalformedData, text));
        }
    };
    let lines = rows.iter().map(|row| row.to_string() + "\n");
    Ok(lines.collect::<String>().into_bytes())
}

#[async_trait]
impl Source for Poll {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        loop {
            let Some(answer) = &mut self.answer else {
                let wait = self.due.saturating_sub(self.clock.elapsed());
                if !wait.is_zero() {
                    self.clock.sleep(wait).await;
                }
                let asked = self.clock.elapsed();
                let (answer, tag) = match self.ask().await? {
                    None => (None, self.at.tag.clone()),
                    Some((tag, body)) => (self.read(tag.clone(), body).await?, tag),
                };
                self.due = asked + self.every;
                if answer.is_none() {
                    // Without rows there is no batch that its tag could go with.
                    self.at = Offset { tag, partial: None };
                }
                self.answer = answer;
                continue;
            };
            let read = answer.next().await;
            match read {
                Ok(Some((batch, is_last))) => {
                    let made = self.made(batch, is_last);
                    if is_last {
                        self.answer = None;
                    }
                    return made.map(Some);
                }
                Ok(None) => {
                    let tag = answer.tag.take();
                    self.answer = None;
                    self.at = Offset { tag, partial: None };
                }
                Err(error) => {
                    self.answer = None;
                    return Err(failed(format!("the answer of {} is broken", self.shown))(error));
                }
            }
        }
    }
}
