//! `sheaf-component test`: the tests of a pipeline, which `sheafctl test` has read and checked.

mod arrivals;
mod compare;
mod flow;
mod maker;
mod report;
mod rows;
mod schema;
mod tested;

use std::io::Read as _;

use futures::FutureExt as _;
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::spec::Pipeline;
use sheaf_retry::{Code, Retryable as _};
use sheaf_terminal::{Console, Failure};
use tokio::runtime::Runtime;

use crate::host::host;
use maker::{Built, Made};
use report::Report;
use tested::Tested;

/// Longest pipeline: it is written with all that its file may leave out.
const MAX_BYTES: u64 = 64 << 20;
/// Nothing of it is kept from one run to the next.
const RUN: u64 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the file of the pipeline is called
    #[arg(long, value_name = "NAME", default_value = "<stdin>")]
    file: String,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(crate) fn json(&self) -> bool {
        self.json
    }
}

/// Runs them all.
pub(crate) fn run(args: &Args, runtime: &Runtime, console: &mut Console) -> Result<(), Failure> {
    let pipeline = pipeline()?;
    let plan = Plan::new(&pipeline);
    let mut report = Report::new(&args.file);
    for test in &pipeline.tests {
        let outcome = runtime.block_on(flow::run(&plan, test, &build));
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

fn pipeline() -> Result<Pipeline, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| {
        Failure::new(error.code(), "standard input cannot be read").because(error)
    })?;
    if bytes.len() as u64 > MAX_BYTES {
        let text = format!("standard input has more than {MAX_BYTES} bytes");
        return Err(Failure::new(Code::InvalidArgument, text));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        let text = "standard input is no pipeline in JSON";
        Failure::new(Code::InvalidArgument, text).because(error).help("use `sheafctl test FILE`")
    })
}

/// As in the processes of a pipeline that runs.
fn build(made: Made<'_>) -> Built<'_> {
    async move {
        let host = host(RUN);
        sheaf_components::build(made.role, made.definition, made.start, &host).await
    }
    .boxed()
}
