//! `sheaf put`

use std::sync::{Arc, Mutex, PoisonError};

use arrow_schema::SchemaRef;
use futures::stream::{self, BoxStream, StreamExt as _};
use serde::{Deserialize, Serialize};
use sheaf_connectors::{FileFormat, FileSource, Source as _, SourceOptions};
use sheaf_coordinator::{BatchSpec, Coordinator as _, DEFAULT_QUEUE};
use sheaf_flight::{CallOptions, Error, ipc};
use sheaf_proto::BatchId;
use sheaf_retry::{Code, HumanDuration, Jitter, RetryPolicy, Retryable as _};
use sheaf_terminal::{Failure, HumanBytes, Progress, Table, count};

use super::server::{Session, parse_id};

/// Rows of one Arrow message where a file is one batch.
const ROWS_PER_MESSAGE: usize = 65_536;

/// Which files to put, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct PutArgs {
    /// Parquet, Arrow IPC, CSV or JSON files; CSV and JSON also as .gz and .zst
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<String>,
    /// Split each file into batches of at most N rows; without it a file is one batch
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rows_per_batch: Option<u32>,
    /// Identifier of the batch; of several the beginning: ID-1, ID-2 and so on
    #[arg(long, value_name = "ID", value_parser = parse_id)]
    pub id: Option<BatchId>,
    /// Format of the files, where their names do not tell it: parquet, ipc, csv or json
    #[arg(long, value_name = "FORMAT", value_parser = parse_format)]
    pub input: Option<FileFormat>,
    /// Register the batches, so that workers process them
    #[arg(long)]
    pub register: bool,
    /// Queue to register in
    #[arg(long, value_name = "NAME", default_value = DEFAULT_QUEUE, requires = "register")]
    pub queue: String,
    /// Priority to register with: higher goes first
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        allow_negative_numbers = true,
        requires = "register"
    )]
    pub priority: i32,
    /// On whose behalf: tenants of a queue take turns
    #[arg(long, value_name = "NAME", default_value = "", requires = "register")]
    pub tenant: String,
    /// Not to be processed before this long from now, such as 10m
    #[arg(long, value_name = "DURATION", requires = "register")]
    pub delay: Option<HumanDuration>,
    /// Only to be processed once these batches have completed
    #[arg(long, value_name = "ID", value_delimiter = ',', value_parser = parse_id, requires = "register")]
    pub after: Vec<BatchId>,
}

/// A file that cannot be read, with advice on files.
fn broken(error: sheaf_connectors::Error) -> Failure {
    use sheaf_connectors::Error as Source;
    let (message, help) = match &error {
        Source::Io { operation, place, .. } => (
            format!("cannot {operation} {place}"),
            match error.code() {
                Code::NotFound => "check the path of the file, and the directory it starts from",
                Code::PermissionDenied => "name a file that this user may read",
                code => code.advice(),
            },
        ),
        Source::Malformed { .. } => {
            (error.to_string(), "check the file; if its name misleads, say its format with --input")
        }
        _ => return Failure::from_error(&error),
    };
    // With the causes of the error, whose own text is said in the message.
    match std::error::Error::source(&error) {
        Some(cause) => Failure::new(error.code(), message).because(cause),
        None => Failure::new(error.code(), message),
    }
    .help(help)
}

fn parse_format(text: &str) -> Result<FileFormat, String> {
    text.parse().map_err(|error: sheaf_connectors::Error| error.to_string())
}

/// What the server says to a put.
#[derive(Clone, Debug, Deserialize)]
struct PutResult {
    batch_id: BatchId,
    rows: u64,
    bytes: u64,
    checksum: String,
    created: bool,
}

/// What was put, for programs: one line each.
#[derive(Clone, Debug, Serialize)]
struct PutRecord<'a> {
    file: &'a str,
    batch_id: BatchId,
    rows: u64,
    bytes: u64,
    checksum: String,
    /// `false` where the same content was there already.
    created: bool,
    registered: bool,
}

/// One put: its batches may be asked for again, should it be tried again.
type Batches = BoxStream<'static, Result<arrow_array::RecordBatch, Error>>;

impl PutArgs {
    /// Puts the files, one after the other.
    ///
    /// Every put has an identifier from here, so that one whose answer was
    /// lost is sent again without a second effect.
    ///
    /// # Errors
    /// Of the first file that cannot be read or put; batches before it stay.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let table = Table::new(["file"]).optional(1).left("batch").right("rows").optional(3);
        let mut table = table.right("size").optional(4).left("result").optional(2);
        let ended = self.put_files(session, &mut table).await;
        // Also before a failure: what was put stays, and its names are needed.
        if !session.json && !table.is_empty() {
            session.console.table(&table)?;
        }
        ended
    }

    async fn put_files(&self, session: &mut Session, table: &mut Table) -> Result<(), Failure> {
        let mut done = 0;
        for file in &self.files {
            let puts = self.put_file(session, file, done, table).await;
            done = puts.map_err(|failure| failure.of(file))?;
        }
        Ok(())
    }

    /// Puts one file; `done` batches were put before it. Answers how many now.
    async fn put_file(
        &self,
        session: &mut Session,
        file: &str,
        mut done: u64,
        table: &mut Table,
    ) -> Result<u64, Failure> {
        let options = SourceOptions { format: self.input, ..SourceOptions::default() };
        let source = FileSource::open(file, options).await.map_err(broken)?;
        let schema = source.schema().await.map_err(broken)?;
        let rows = source.rows().await.map_err(broken)?;
        // With --json standard error is for programs: it holds an error or nothing.
        let progress = match session.json {
            true => Progress::silent(),
            false => {
                let shown = session.console.notes_on_terminal();
                Progress::start(format!("put {file}"), rows, shown)
            }
        };
        let progress = Arc::new(Mutex::new(progress));
        let reach = {
            let progress = progress.clone();
            move |rows: u64| {
                progress.lock().unwrap_or_else(PoisonError::into_inner).reach(rows);
            }
        };
        if let Some(rows) = self.rows_per_batch {
            let mut read = source.read(rows as usize).await.map_err(broken)?;
            let mut rows = 0;
            while let Some(batch) = read.next().await {
                let batch = batch.map_err(broken)?;
                rows += batch.num_rows() as u64;
                let open = async || Ok(stream::iter([Ok(batch.clone())]).boxed());
                let result = self.put(session, &schema, done, open).await?;
                self.finish(session, file, result, table).await?;
                reach(rows);
                done += 1;
            }
        } else {
            let open = async || -> Result<Batches, Error> {
                let read = source.read(ROWS_PER_MESSAGE).await.map_err(Error::from_error)?;
                // A put that is tried again reads from the beginning.
                let (reach, mut rows) = (reach.clone(), 0);
                let counted = read.inspect(move |batch| {
                    rows += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
                    reach(rows);
                });
                Ok(counted.map(|batch| batch.map_err(Error::from_error)).boxed())
            };
            let result = self.put(session, &schema, done, open).await?;
            self.finish(session, file, result, table).await?;
            done += 1;
        }
        drop(reach);
        if let Some(progress) = Arc::into_inner(progress) {
            progress.into_inner().unwrap_or_else(PoisonError::into_inner).finish();
        }
        Ok(done)
    }

    /// One put, tried again where that may help.
    async fn put(
        &self,
        session: &Session,
        schema: &SchemaRef,
        number: u64,
        open: impl AsyncFn() -> Result<Batches, Error>,
    ) -> Result<PutResult, Failure> {
        let id = self.name(session, number)?;
        let attempt = async |_attempt: u32| {
            let batches = open().await?;
            let messages = ipc::encode_stream(schema.clone(), batches, ipc::Compression::None)?;
            session.flight.put(&["batches", id.as_str()], &CallOptions::default(), messages).await
        };
        let (policy, seed) = (RetryPolicy::TRANSFER, Jitter::seed_of(id.as_str()));
        let answer = sheaf_retry::retry(&policy, seed, session.clock.clone(), attempt).await;
        let answer = answer.map_err(|error| match error.attempts() {
            1 => session.failed(error.last()),
            _ => session.failed(&error),
        })?;
        serde_json::from_slice(&answer).map_err(|error| {
            Failure::new(Code::Internal, "the server's answer to a put is not of its form")
                .because(error)
        })
    }

    /// The identifier of a put: the one given, one of its series, or a new one.
    fn name(&self, session: &Session, number: u64) -> Result<BatchId, Failure> {
        let several = self.rows_per_batch.is_some() || self.files.len() > 1;
        match &self.id {
            None => Ok(BatchId::generate(session.clock.now().as_millis())),
            Some(id) if !several => Ok(id.clone()),
            Some(id) => BatchId::try_new(&format!("{id}-{}", number + 1))
                .map_err(|error| Failure::new(Code::InvalidArgument, format!("--id: {error}"))),
        }
    }

    /// Registers what was put, where that is asked for, and shows it.
    async fn finish(
        &self,
        session: &mut Session,
        file: &str,
        result: PutResult,
        table: &mut Table,
    ) -> Result<(), Failure> {
        let PutResult { batch_id, rows, bytes, checksum, created } = result;
        if self.register {
            let mut spec = BatchSpec::new(batch_id.clone());
            spec.queue.clone_from(&self.queue);
            spec.priority = self.priority;
            spec.tenant.clone_from(&self.tenant);
            spec.delay = self.delay.unwrap_or_default().0;
            spec.depends_on.clone_from(&self.after);
            (spec.rows, spec.bytes) = (rows, bytes);
            spec.checksum.clone_from(&checksum);
            let registered = session.coordinator.register(vec![spec]).await;
            registered.map_err(|error| session.failed(&error))?;
        }
        if session.json {
            let registered = self.register;
            let record = PutRecord { file, batch_id, rows, bytes, checksum, created, registered };
            return session.console.json(&record);
        }
        let note = match (created, self.register) {
            (true, true) => "put and registered",
            (true, false) => "put",
            (false, true) => "was there, registered",
            (false, false) => "was there",
        };
        let (rows, size) = (count(rows), HumanBytes(bytes).to_string());
        table.row([file, batch_id.as_str(), rows.as_str(), size.as_str(), note]);
        Ok(())
    }
}
