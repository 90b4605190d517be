//! `sheaf demo` as people see it.

use std::path::PathBuf;

use sheaf_retry::SharedClock;
use sheaf_terminal::{Console, Failure, HumanBytes, Progress, Table, count};

use super::run::{Options, Report, Step, default_folder, run};

/// How much to do, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct DemoArgs {
    /// Rows of flights to put: 25,000 real ones, over and over
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub rows: u64,
    /// Worker processes
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Rows of one batch
    #[arg(long, value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rows_per_batch: u64,
    /// Keep data, results and logs in this folder; without it they are removed
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Print the result as JSON on the last line
    #[arg(long)]
    pub json: bool,
}

impl DemoArgs {
    /// Runs the demo with `program` as server and workers; folders without a
    /// name are made in `temporary`.
    ///
    /// # Errors
    /// Where it cannot be carried through, and where a row was lost or doubled.
    pub async fn run(
        self,
        program: PathBuf,
        temporary: PathBuf,
        clock: SharedClock,
        mut console: Console,
    ) -> Result<(), Failure> {
        let folder =
            self.keep.clone().unwrap_or_else(|| default_folder(&temporary, std::process::id()));
        let options = Options {
            rows: self.rows,
            rows_per_batch: self.rows_per_batch,
            workers: usize::from(self.workers),
            program,
            folder: folder.clone(),
        };
        console.note(&format!(
            "{} rows of real flights, {} worker processes, one of them will be killed",
            count(self.rows),
            self.workers
        ));
        let mut story = Story { console: &mut console, bar: None, completed: 0 };
        let result = run(&options, clock, |step| story.tell(step)).await;
        story.end();
        if self.keep.is_none()
            && result.is_ok()
            && let Err(error) = std::fs::remove_dir_all(&folder)
        {
            tracing::warn!(folder = %folder.display(), %error, "could not remove the demo's folder");
        }
        let report = result.map_err(|error| {
            Failure::from_error(&error).help(format!("logs are in {}", folder.display()))
        })?;
        console.table(&closing(&report, self.keep.as_ref()))?;
        if self.json {
            console.json(&report)?;
        } else {
            console
                .data(&format!("\nlost: {}, duplicated: {}\n", report.lost, report.duplicated))?;
        }
        if report.lost > 0 || report.duplicated > 0 {
            return Err(Failure::new(
                sheaf_retry::Code::Internal,
                format!("{} rows were lost, {} doubled", report.lost, report.duplicated),
            ));
        }
        Ok(())
    }
}

/// What happens while it happens, on standard error.
struct Story<'a> {
    console: &'a mut Console,
    bar: Option<Progress>,
    completed: u64,
}

impl Story<'_> {
    fn tell(&mut self, step: Step) {
        match step {
            Step::Ready { flight, workers } => {
                self.note(&format!("server up at {flight}, {workers} workers claim"));
            }
            Step::Progress { completed, batches, .. } => {
                let shown = self.console.notes_on_terminal();
                let bar = self.bar.get_or_insert_with(|| {
                    Progress::start("batches completed", Some(batches), shown)
                });
                bar.advance(completed.saturating_sub(self.completed));
                self.completed = completed;
            }
            Step::Killed { pid, held } => self.note(&format!(
                "kill -9 {pid}: a worker is gone, with {held} batch(es) in its hands"
            )),
            Step::Recovered { after } => self.note(&format!(
                "all of them were completed by others {} ms later",
                after.as_millis()
            )),
        }
    }

    /// A line above the bar.
    fn note(&mut self, text: &str) {
        let console = &mut *self.console;
        match &self.bar {
            Some(bar) => bar.suspend(|| console.note(text)),
            None => console.note(text),
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish();
        }
    }
}

fn closing(report: &Report, keep: Option<&PathBuf>) -> Table {
    let mut table = Table::new(["what"]).right("how much").left("");
    table.row(["batches", &count(report.batches), "put, registered, completed"]);
    table.row(["rows in", &count(report.rows_in), "each with a number of its own"]);
    table.row(["rows out", &count(report.rows_out), "read back from the Parquet files"]);
    table.row(["lost", &count(report.lost), ""]);
    table.row(["duplicated", &count(report.duplicated), ""]);
    table.row([
        "seconds".to_owned(),
        format!("{:.2}", report.seconds),
        format!("{} rows a second", count(report.rows_per_second)),
    ]);
    let recovered = match report.recovered_ms {
        Some(ms) => (format!("{ms} ms"), "from kill -9 to the last batch it held".to_owned()),
        None => ("-".to_owned(), "too little work: nothing could be killed half-way".to_owned()),
    };
    table.row(["recovered".to_owned(), recovered.0, recovered.1]);
    let (files, bytes) = report.files;
    let place = keep.map_or_else(
        || "removed again; --keep DIR keeps them".to_owned(),
        |folder| format!("in {}", folder.join("results").display()),
    );
    table.row(["files".to_owned(), count(files), format!("{}, {place}", HumanBytes(bytes))]);
    table
}
