//! `sheafctl test`: reads and checks the file, and has `sheaf-component` run its tests.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use sheaf_pipeline::check::check;
use sheaf_pipeline::spec::{Pipeline, Test};
use sheaf_retry::{Code, Retryable as _};
use sheaf_terminal::{Console, Failure};

use super::file;
use crate::args::ComponentArgs;
use crate::help::TEST;
use crate::plane::programs;

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
    #[command(flatten)]
    component: ComponentArgs,
}

impl Args {
    pub(crate) fn json(&self) -> bool {
        self.json
    }
}

/// What it ends with is what that program ends with, which says all that there is to say.
pub(super) fn run(args: &Args, console: &mut Console) -> Result<ExitCode, Failure> {
    let (name, text) = file::read(&args.file)?;
    let checked = check(&name, &text).map_err(|report| {
        if args.json {
            return file::refused(&report).because(report);
        }
        file::show(&report, console);
        file::refused(&report)
    })?;
    let tests = chosen(&checked.pipeline.tests, args.filter.as_deref(), &args.file)?;
    let pipeline = Pipeline { tests, ..checked.pipeline };
    let text = serde_json::to_vec(&pipeline).map_err(|error| {
        Failure::new(Code::Internal, format!("{name} cannot be passed on")).because(error)
    })?;
    let program = programs(args.component.component_program.clone(), None).host_program();
    let program = program.map_err(|why| Failure::new(Code::NotFound, why))?;
    ask(&program, &name, args.json, &text)
}

fn ask(program: &Path, name: &str, json: bool, pipeline: &[u8]) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| {
        let text = format!("{} cannot be run", program.display());
        Failure::new(error.code(), text).because(error)
    };
    let mut command = Command::new(program);
    command.arg("test").arg(format!("--file={name}")).args(json.then_some("--json"));
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not listen says why, and how it ends says it too.
        drop(stdin.write_all(pipeline));
    }
    let status = child.wait().map_err(failed)?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map(ExitCode::from).ok_or_else(|| {
        Failure::new(Code::Internal, format!("{} was ended: {status}", program.display()))
    })
}

fn chosen(tests: &[Test], filter: Option<&str>, path: &Path) -> Result<Vec<Test>, Failure> {
    let fits = |test: &&Test| filter.is_none_or(|part| test.name.contains(part));
    let found: Vec<Test> = tests.iter().filter(fits).cloned().collect();
    let Some(part) = filter.filter(|_| found.is_empty()) else { return Ok(found) };
    let text = format!("{} has no test with {part:?} in its name", path.display());
    let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    let help = match names.is_empty() {
        true => "it has no tests at all".to_owned(),
        false => format!("its tests are: {}", names.join("; ")),
    };
    Err(Failure::new(Code::NotFound, text).help(help))
}
