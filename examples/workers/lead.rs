//! The parent: starts workers, gives them what is left to do, and starts anew
//! what dies.

mod crew;

use std::path::{Path, PathBuf};

use sheaf_retry::Code;
use sheaf_terminal::{Console, Failure};

use super::{Arguments, Job, check, tables};
use crew::Crew;

pub(crate) async fn run(
    job: &'static Job,
    arguments: &Arguments,
    console: &mut Console,
) -> Result<(), Failure> {
    tables::check(job, &arguments.data)?;
    let partitions = partitions(job, arguments)?;
    if arguments.kill.is_some() && arguments.workers < 2 {
        return Err(refused("--kill needs at least two workers, so that one is left"));
    }
    let temporary =
        tempfile::tempdir().map_err(|error| io("make a folder for the result", error))?;
    let out = match &arguments.out {
        Some(out) => empty(out)?,
        None => temporary.path().to_owned(),
    };
    let mut crew = Crew::start(job, arguments, partitions, &out)?;
    crew.work(console).await?;
    let mut report = crew.report();
    crew.stop().await?;
    if arguments.check {
        let rows = check::run(job, arguments, &out).await?;
        if rows != report.rows {
            let text = format!("workers wrote {} rows, the files have {rows}", report.rows);
            return Err(Failure::new(Code::MalformedData, text));
        }
        report.checked = Some(true);
    }
    if arguments.json { console.json(&report) } else { console.table(&report.table()) }
}

fn partitions(job: &Job, arguments: &Arguments) -> Result<u32, Failure> {
    match arguments.partitions {
        Some(other) if job.one_each() && other != arguments.workers => {
            Err(refused("a broadcast has a partition for each worker: leave --partitions out"))
        }
        Some(partitions) => Ok(partitions),
        None if job.one_each() => Ok(arguments.workers),
        None => Ok(arguments.workers * 4),
    }
}

/// The folder, where no result is that could be taken for part of this one.
fn empty(out: &Path) -> Result<PathBuf, Failure> {
    std::fs::create_dir_all(out).map_err(|error| io("make the folder for the result", error))?;
    let mut entries = std::fs::read_dir(out).map_err(|error| io("read the folder", error))?;
    if entries.next().is_some() {
        return Err(refused(&format!("the folder {} is not empty", out.display())));
    }
    Ok(out.to_owned())
}

fn refused(text: &str) -> Failure {
    Failure::new(Code::InvalidArgument, text)
}

fn io(what: &str, error: std::io::Error) -> Failure {
    Failure::new(Code::Io, format!("cannot {what}")).because(error)
}
