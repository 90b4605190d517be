//! `sheafctl test`

mod arrivals;
mod compare;
mod flow;
mod host;
mod maker;
mod report;
mod rows;
mod schema;
mod tested;

use std::path::{Path, PathBuf};

use sheaf_pipeline::check::check;
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::spec::Test;
use sheaf_retry::Code;
use sheaf_terminal::{Console, Failure};

use super::{client, file};
use crate::help::TEST;
use report::Report;
use tested::Tested;

#[derive(Debug, clap::Args)]
#[command(after_help = TEST)]
pub(crate) struct Args {
    /// The file of the pipeline; `-` is standard input
    file: PathBuf,
    /// Only the tests whose names have this text in them
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn json(&self) -> bool {
        self.json
    }
}

pub(super) fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let (name, text) = file::read(&args.file)?;
    let checked = check(&name, &text).map_err(|report| {
        if args.json {
            return file::refused(&report).because(report);
        }
        file::show(&report, console);
        file::refused(&report)
    })?;
    let plan = Plan::new(&checked.pipeline);
    let tests = chosen(&checked.pipeline.tests, args.filter.as_deref(), &args.file)?;
    let runtime = client::runtime()?;
    let mut report = Report::new(&name);
    for test in tests {
        let outcome = runtime.block_on(flow::run(&plan, test, &host::build));
        let tested = Tested::new(test, outcome);
        if !args.json {
            console.data(&tested.to_text())?;
        }
        report.add(tested);
    }
    if args.json {
        console.json(&report)?;
    } else {
        console.data(&report.summary())?;
    }
    report.end()
}

fn chosen<'a>(
    tests: &'a [Test],
    filter: Option<&str>,
    path: &Path,
) -> Result<Vec<&'a Test>, Failure> {
    let fits = |test: &&Test| filter.is_none_or(|part| test.name.contains(part));
    let found: Vec<&Test> = tests.iter().filter(fits).collect();
    let Some(part) = filter.filter(|_| found.is_empty()) else { return Ok(found) };
    let text = format!("{} has no test with {part:?} in its name", path.display());
    let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    let help = match names.is_empty() {
        true => "it has no tests at all".to_owned(),
        false => format!("its tests are: {}", names.join("; ")),
    };
    Err(Failure::new(Code::NotFound, text).help(help))
}
