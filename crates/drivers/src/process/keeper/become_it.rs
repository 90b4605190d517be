//! The last step before an instance runs: a process that becomes it.
//!
//! Between the keeper and the program of the component stands one more start of this
//! program, which sets what is inherited and then gives its process over: it dies with the
//! keeper, and stays within its limits.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::limits::Bounds;

/// What the process is told that becomes an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BecomeArgs {
    /// The keeper's process.
    pub parent: i32,
    /// Where to say why it did not work.
    pub failure: PathBuf,
    /// Bytes of memory, where they are limited by the process itself.
    pub memory_bytes: Option<u64>,
    /// Steps by which it lets others go first.
    pub nice: Option<i32>,
    /// The control group to enter.
    pub cgroup: Option<PathBuf>,
    /// The program and its arguments.
    pub command: Vec<OsString>,
}

impl BecomeArgs {
    /// As a command line: the words behind the program's name.
    pub(super) fn words(
        parent: i32,
        failure: &Path,
        bounds: &Bounds,
        command: &[String],
    ) -> Vec<OsString> {
        let mut words: Vec<OsString> =
            vec!["become".into(), "--parent".into(), parent.to_string().into()];
        words.extend(["--failure".into(), failure.into()]);
        if let Some(bytes) = bounds.rlimit_bytes() {
            words.extend(["--memory-bytes".into(), bytes.to_string().into()]);
        }
        if let Some(nice) = bounds.nice() {
            words.extend(["--nice".into(), nice.to_string().into()]);
        }
        if let Some(cgroup) = bounds.cgroup() {
            words.extend(["--cgroup".into(), cgroup.into()]);
        }
        words.push("--".into());
        words.extend(command.iter().map(OsString::from));
        words
    }

    /// What such a command line says: the words behind `become`.
    ///
    /// # Errors
    /// Where it is not of that form.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> io::Result<Self> {
        let mut words = words.into_iter();
        let mut args = BecomeArgs::default();
        while let Some(word) = words.next() {
            if word == "--" {
                args.command = words.collect();
                return Ok(args);
            }
            let value = words.next().ok_or_else(|| wrong(&word))?;
            match word.to_str() {
                Some("--parent") => args.parent = number(&value)?,
                Some("--failure") => args.failure = value.into(),
                Some("--memory-bytes") => args.memory_bytes = Some(number(&value)?),
                Some("--nice") => args.nice = Some(number(&value)?),
                Some("--cgroup") => args.cgroup = Some(value.into()),
                _ => return Err(wrong(&word)),
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"))
    }
}

fn wrong(word: &OsString) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not known", word.display()))
}

fn number<T: std::str::FromStr>(word: &OsString) -> io::Result<T> {
    word.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| wrong(word))
}

/// Becomes the program of a component. It returns only where that fails; the reason is also
/// in the file that the keeper reads.
pub fn become_component(args: &BecomeArgs) -> io::Error {
    let error = match prepare(args) {
        Ok(mut command) => {
            let error = command.exec();
            let program = Path::new(command.get_program()).display().to_string();
            io::Error::new(error.kind(), format!("{program} cannot be run: {error}"))
        }
        Err(error) => error,
    };
    // The log has it as well, where this cannot be written.
    drop(std::fs::write(&args.failure, error.to_string()));
    error
}

fn prepare(args: &BecomeArgs) -> io::Result<Command> {
    die_with_parent(args.parent)?;
    if let Some(cgroup) = &args.cgroup {
        std::fs::write(cgroup.join("cgroup.procs"), "0").map_err(|error| {
            io::Error::new(error.kind(), format!("cannot enter {}: {error}", cgroup.display()))
        })?;
    }
    if let Some(bytes) = args.memory_bytes {
        let limit = rustix::process::Rlimit { current: Some(bytes), maximum: Some(bytes) };
        rustix::process::setrlimit(rustix::process::Resource::Data, limit)?;
    }
    if let Some(nice) = args.nice {
        rustix::process::nice(nice)?;
    }
    // A control plane does without large pages, which its components are not to inherit.
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(false).ok();
    let Some((program, arguments)) = args.command.split_first() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no program is named"));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

#[cfg(target_os = "linux")]
fn die_with_parent(parent: i32) -> io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    // Kept when the process becomes another program.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before it could be watched.
    if getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(parent) {
        return Err(io::Error::other("its keeper has ended"));
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn die_with_parent(_parent: i32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let command = ["./a".to_owned(), "--parent".to_owned(), "--".to_owned()];
        let words = BecomeArgs::words(7, Path::new("/f"), &Bounds::default(), &command);
        let args = BecomeArgs::parse(words.into_iter().skip(1)).unwrap();
        assert_eq!((args.parent, args.failure.to_str()), (7, Some("/f")));
        assert_eq!(args.command, command.map(OsString::from));
    }

    #[test]
    fn other_words_are_refused() {
        let parse = |text: &str| BecomeArgs::parse(text.split(' ').map(OsString::from));
        for bad in ["--parent x -- a", "--what 1 -- a", "--parent", "--parent 1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
