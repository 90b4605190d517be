//! `cargo xtask soak fuzz`: every fuzz target under libFuzzer and AddressSanitizer.
//!
//! Does what cargo-fuzz does, with the same flags, so that nothing but a nightly
//! compiler has to be installed. Below the target directory, in `fuzz/`: the
//! corpus, which grows from run to run, logs and findings.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
};

use crate::{
    error::{Error, Result},
    process,
    workspace::Workspace,
};

/// The name among the soaks.
pub(crate) const NAME: &str = "fuzz";
/// One line about it.
pub(crate) const ABOUT: &str = "libFuzzer on every decoder of bytes from outside";

/// How cargo-fuzz instruments code: edges counted and comparisons seen by
/// libFuzzer, and AddressSanitizer.
const RUSTFLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    -Zsanitizer=address";

/// Memory and time of one input, and its length: small inputs find what large
/// ones do, and sooner. Names of functions are not looked up when they are first
/// reached: in binaries of this size that takes longer than the fuzzing.
const OPTIONS: [&str; 6] = [
    "-rss_limit_mb=2048",
    "-timeout=25",
    "-max_len=8192",
    "-detect_leaks=0",
    "-print_funcs=0",
    "-print_final_stats=1",
];

/// How long a target is fuzzed: libFuzzer takes 0 seconds for ever.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Minutes(f64);

impl Minutes {
    /// A week: more is a slip of the keyboard.
    const MOST: f64 = 7.0 * 24.0 * 60.0;

    /// Whole ones, rounded up.
    fn seconds(self) -> f64 {
        (self.0 * 60.0).ceil()
    }
}

impl FromStr for Minutes {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.parse() {
            Ok(minutes) if minutes > 0.0 && minutes <= Self::MOST => Ok(Minutes(minutes)),
            _ => Err(format!("{text:?} is no number above 0 and up to {}", Self::MOST)),
        }
    }
}

impl fmt::Display for Minutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Last lines of a log that are shown with a finding.
const SHOWN: usize = 60;

/// Where things of a run are.
struct Places {
    manifest: PathBuf,
    regressions: PathBuf,
    /// Where cargo has put the binaries.
    binaries: PathBuf,
    seeds: PathBuf,
    corpus: PathBuf,
    findings: PathBuf,
    logs: PathBuf,
}

impl Places {
    fn new(workspace: &Workspace, host: &str) -> Self {
        let target = workspace.target.join(NAME);
        Places {
            manifest: workspace.path("fuzz/Cargo.toml"),
            regressions: workspace.path("fuzz/regressions"),
            binaries: target.join(host).join("release"),
            seeds: target.join("seeds"),
            corpus: target.join("corpus"),
            findings: target.join("findings"),
            logs: target.join("logs"),
        }
    }
}

/// Runs the targets, or the one named, for so many minutes each; ends at the
/// first finding.
///
/// # Errors
///
/// Fails when there is no nightly compiler, no such target, or a finding, which
/// it shows how to see again.
pub(crate) fn run(workspace: &Workspace, only: Option<&str>, minutes: Minutes) -> Result<()> {
    let host = host()?;
    let places = Places::new(workspace, &host);
    let folder = places.manifest.with_file_name("fuzz_targets");
    let files = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
    let files = files.map(|entry| entry.map(|entry| entry.path()));
    let files = files.collect::<std::io::Result<Vec<_>>>().map_err(Error::io("read", &folder))?;
    let targets = targets(&files, only)?;
    build(workspace, &places, &host)?;
    write_seeds(&places)?;
    for name in &targets {
        println!("{}", fuzz(&places, name, minutes)?);
    }
    Ok(())
}

/// A program of the nightly toolchain.
pub(crate) fn nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", program]);
    command
}

/// The platform that sanitizers are built for, as the nightly compiler names it.
pub(crate) fn host() -> Result<String> {
    let version = process::capture(nightly("rustc").arg("-vV")).map_err(|error| {
        Error::Message(format!(
            "sanitizers need a nightly compiler: `rustup toolchain install nightly --profile minimal`\n{error}"
        ))
    })?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or_else(|| Error::Message(format!("no host in {version:?}")))?;
    Ok(host.to_owned())
}

/// Names of all targets: the folder has a source file for each.
fn targets(files: &[PathBuf], only: Option<&str>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for path in files {
        // Editors and diffs leave other files beside them.
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if name != "seeds" {
            names.push(name);
        }
    }
    names.sort();
    let all = names.join(", ");
    names.retain(|name| only.is_none_or(|only| only == name));
    if names.is_empty() {
        let only = only.unwrap_or_default();
        return Err(Error::Message(format!("no fuzz target {only:?}; there are: {all}")));
    }
    Ok(names)
}

fn build(workspace: &Workspace, places: &Places, host: &str) -> Result<()> {
    let mut command = nightly("cargo");
    command
        .args(["build", "--release", "--locked", "--bins", "--target", host, "--manifest-path"])
        .arg(&places.manifest)
        .env("CARGO_TARGET_DIR", workspace.target.join(NAME))
        .env("RUSTFLAGS", RUSTFLAGS)
        // They would win over the flags above, or name another compiler.
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTC")
        .env_remove("CARGO");
    process::run(&mut command)
}

fn write_seeds(places: &Places) -> Result<()> {
    if places.seeds.exists() {
        fs::remove_dir_all(&places.seeds).map_err(Error::io("remove", &places.seeds))?;
    }
    process::run(with_sanitizer(Command::new(places.binaries.join("seeds")).arg(&places.seeds)))
}

/// Runtimes and tables live as long as the process: no leaks.
fn with_sanitizer(command: &mut Command) -> &mut Command {
    let options = env::var("ASAN_OPTIONS").unwrap_or_default();
    command.env("ASAN_OPTIONS", format!("detect_leaks=0:{options}"))
}

/// One target: its regressions, then new inputs for the rest of the time.
fn fuzz(places: &Places, name: &str, minutes: Minutes) -> Result<String> {
    let folder = |parent: &Path| -> Result<PathBuf> {
        let path = parent.join(name);
        fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        Ok(path)
    };
    let (corpus, findings) = (folder(&places.corpus)?, folder(&places.findings)?);
    fs::create_dir_all(&places.logs).map_err(Error::io("create", &places.logs))?;
    let log = places.logs.join(format!("{name}.log"));
    let output = fs::File::create(&log).map_err(Error::io("create", &log))?;
    let binary = places.binaries.join(name);
    let seconds = minutes.seconds();
    println!("{name}: {seconds} s, log in {}", log.display());

    let mut command = Command::new(&binary);
    command.args(OPTIONS);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-dict={}", places.seeds.join(format!("{name}.dict")).display()));
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.arg(&corpus).arg(places.seeds.join(name));
    // As part of the corpus they are run before anything else.
    let regressions = places.regressions.join(name);
    if regressions.is_dir() {
        command.arg(regressions);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
    let status = with_sanitizer(&mut command)
        .status()
        .map_err(|source| process::start_error(&command_of(&binary), source))?;
    let text = fs::read(&log).map_err(Error::io("read", &log))?;
    let text = String::from_utf8_lossy(&text);
    if status.success() {
        return Ok(summary(name, &text));
    }
    let lines: Vec<&str> = text.lines().collect();
    println!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
    Err(Error::Message(finding(name, &binary, &text, &places.regressions)))
}

fn command_of(binary: &Path) -> Command {
    Command::new(binary)
}

/// What a run without a finding has done.
fn summary(name: &str, log: &str) -> String {
    let stat = |key: &str| {
        let found = log.lines().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(key));
        found.map_or("?", |rest| rest.trim_start_matches(':').trim()).to_owned()
    };
    let after = |key: &str| {
        let line = log.lines().rev().find(|line| line.contains(key));
        let value = line.and_then(|line| line.split(key).nth(1)?.split_whitespace().next());
        value.unwrap_or("?").to_owned()
    };
    format!(
        "ok   {name}: {} inputs, {} a second, coverage {}, features {}, {} MB",
        stat("number_of_executed_units"),
        stat("average_exec_per_sec"),
        after("cov: "),
        after("ft: "),
        stat("peak_rss_mb"),
    )
}

/// What to do about a finding.
fn finding(name: &str, binary: &Path, log: &str, regressions: &Path) -> String {
    let written = log.lines().rev().find_map(|line| line.split("Test unit written to ").nth(1));
    let Some(input) = written else {
        return format!("fuzz target {name} ended without an input; its log says why");
    };
    format!(
        "fuzz target {name} has a finding: {input}\n  \
         again:   ASAN_OPTIONS=detect_leaks=0 {} {input}\n  \
         smaller: the same with -minimize_crash=1 -max_total_time=60\n  \
         for good: mend it, then copy the input to {}",
        binary.display(),
        regressions.join(name).display()
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Minutes, finding, summary, targets};

    #[test]
    fn only_a_time_that_ends_is_taken() {
        for wrong in ["0", "-1", "-0.0", "NaN", "inf", "10081", "", "ten"] {
            assert!(wrong.parse::<Minutes>().is_err(), "{wrong:?}");
        }
        let seconds = |text: &str| text.parse::<Minutes>().unwrap().seconds();
        assert_eq!((seconds("10"), seconds("0.001"), seconds("1.5")), (600.0, 1.0, 90.0));
        assert_eq!(seconds("1e-300"), 1.0);
    }

    #[test]
    fn targets_are_source_files() {
        let files = ["put.rs", "get.rs", "seeds.rs", "put.rs.orig", ".put.rs.swp", "README"];
        let files = files.map(|name| Path::new("/fuzz_targets").join(name));
        assert_eq!(targets(&files, None).unwrap(), ["get", "put"]);
        assert_eq!(targets(&files, Some("put")).unwrap(), ["put"]);
        let error = targets(&files, Some("other")).unwrap_err().to_string();
        assert!(error.contains("there are: get, put"), "{error}");
    }

    #[test]
    fn a_log_is_summed_up() {
        let log = "#2\tINITED cov: 10 ft: 11 corp: 1/1b\n#9\tDONE   cov: 20 ft: 31 corp: 3/9b\n\
                   stat::number_of_executed_units: 9\nstat::average_exec_per_sec:     3\n\
                   stat::peak_rss_mb:              40\n";
        let expected = "ok   put: 9 inputs, 3 a second, coverage 20, features 31, 40 MB";
        assert_eq!(summary("put", log), expected);
        assert!(summary("put", "").contains("? inputs"));
    }

    #[test]
    fn a_finding_says_how_to_see_it_again() {
        let log = "panic\nartifact_prefix='/f/'; Test unit written to /f/crash-1\nBase64: AA==\n";
        let text = finding("put", Path::new("/b/put"), log, Path::new("/r"));
        assert!(text.contains("/b/put /f/crash-1") && text.contains("/r/put"), "{text}");
        assert!(finding("put", Path::new("/b"), "", Path::new("/r")).contains("log"));
    }
}
