//! `sheaf get`

use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use sheaf_flight::ipc;
use sheaf_proto::BatchId;
use sheaf_retry::{Code, Retryable as _};
use sheaf_store::ReadOptions;
use sheaf_terminal::{
    Destination, Failure, OutputFormat, Progress, RowWriter, Written, count, counted,
};

use super::server::{Session, parse_id};

/// Which batch to get, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct GetArgs {
    /// The batch
    #[arg(value_name = "ID", value_parser = parse_id)]
    pub id: BatchId,
    /// Where to write; `-` is standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Form of the rows [default: by the ending of --output; table on standard output]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<OutputFormat>,
    /// At most so many rows
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

impl GetArgs {
    /// Gets it. A file appears under its name only when it is complete.
    ///
    /// # Errors
    /// `not_found` where the server has no such payload; `invalid_argument`
    /// where the format cannot hold its types.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let format = self.choose(session)?;
        let options = ReadOptions { limit: self.limit, ..ReadOptions::default() };
        let opened = session.payloads.read(&self.id, &options).await;
        let messages = opened.map_err(|error| session.failed(&error))?;
        let decoded = ipc::decode_stream(messages, ipc::Bounds::default()).await;
        let (schema, mut batches) = decoded.map_err(|error| session.failed(&error))?;

        let place = Place::open(&self.output, session)?;
        let destination = match (place.is_file(), session.console.width()) {
            (true, _) => Destination::File,
            (false, Some(width)) => Destination::Terminal(width),
            (false, None) => Destination::Pipe,
        };
        let out = place.writer(session)?;
        let shown = place.is_file() && session.console.notes_on_terminal() && !session.json;
        let mut progress = match shown {
            true => Progress::start(format!("get {}", self.id), self.limit, true),
            false => Progress::silent(),
        };
        let mut writer =
            RowWriter::try_new(format, &schema, out, destination).map_err(|e| rows(&e))?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|error| session.failed(&error))?;
            writer.write(&batch).map_err(|error| rows(&error))?;
            progress.advance(batch.num_rows() as u64);
        }
        let written = writer.finish().map_err(|error| rows(&error))?;
        progress.finish();
        place.keep()?;
        self.tell(session, written);
        Ok(())
    }

    fn choose(&self, session: &Session) -> Result<OutputFormat, Failure> {
        if let Some(format) = self.format {
            let on_screen = is_stdout(&self.output) && session.console.width().is_some();
            if on_screen && !format.is_text() {
                let message = format!("{format} is not for a terminal");
                return Err(Failure::new(Code::InvalidArgument, message)
                    .help("send it into a file with --output FILE, or into a pipe"));
            }
            return Ok(format);
        }
        if is_stdout(&self.output) {
            return Ok(if session.json { OutputFormat::Json } else { OutputFormat::Table });
        }
        OutputFormat::of_path(&self.output).ok_or_else(|| {
            let name = self.output.display();
            Failure::new(Code::InvalidArgument, format!("the name {name} does not tell a format"))
                .help("add --format table, csv, json, parquet or arrow")
        })
    }

    fn tell(&self, session: &mut Session, written: Written) {
        if written.hidden > 0 {
            let (hidden, all) = (count(written.hidden), count(written.rows));
            session.console.note(&format!(
                "{hidden} of {all} rows are not shown; --output FILE or another --format has them all"
            ));
        }
        if written.hidden_columns > 0 {
            let columns = counted(written.hidden_columns, "more column");
            session.console.note(&format!("… {columns}: use --format csv, or a wider terminal"));
        }
        if !is_stdout(&self.output) {
            let name = self.output.display();
            session.console.note(&format!("{} in {name}", counted(written.rows, "row")));
        }
    }
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

fn rows(error: &sheaf_terminal::Error) -> Failure {
    match error.is_closed_pipe() {
        true => Failure::closed_pipe(),
        false => Failure::from_error(error),
    }
}

/// Where the rows go.
enum Place {
    Stdout,
    /// Written beside its place, moved there at the end.
    File {
        part: tempfile::NamedTempFile,
        path: PathBuf,
    },
}

impl Place {
    fn open(path: &Path, session: &Session) -> Result<Self, Failure> {
        if is_stdout(path) {
            return Ok(Place::Stdout);
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // As a file that is simply created: the process's mask takes its part of it.
        let permissions = fs::Permissions::from_mode(0o666);
        let prefix = format!(".sheaf-get-{}", session.clock.now().as_millis());
        let part = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(permissions)
            .tempfile_in(folder)
            .map_err(|error| cannot_write(path, error))?;
        Ok(Place::File { part, path: path.to_owned() })
    }

    fn is_file(&self) -> bool {
        matches!(self, Place::File { .. })
    }

    fn writer(&self, session: &mut Session) -> Result<Box<dyn Write + Send>, Failure> {
        match self {
            Place::Stdout => Ok(Box::new(BufWriter::new(session.console.take_data()))),
            Place::File { part, path } => {
                let file = part.as_file().try_clone();
                let file = file.map_err(|error| cannot_write(path, error))?;
                Ok(Box::new(BufWriter::with_capacity(1 << 20, file)))
            }
        }
    }

    fn keep(self) -> Result<(), Failure> {
        match self {
            Place::Stdout => Ok(()),
            Place::File { part, path } => match part.persist(&path) {
                Ok(_) => Ok(()),
                Err(error) => Err(cannot_write(&path, error.error)),
            },
        }
    }
}

fn cannot_write(path: &Path, error: std::io::Error) -> Failure {
    Failure::new(error.code(), format!("--output {} cannot be written", path.display()))
        .because(error)
        .help("name a file in a directory that exists and can be written")
}
