//! Where batches of durable edges wait.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sheaf_retry::{Code, HumanDuration};
use sheaf_terminal::Failure;

use crate::plane::named;

/// Where batches of durable edges wait.
#[derive(Clone, Debug, Args)]
pub(crate) struct DurableArgs {
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    /// The program of stores and coordinators; by default sheaf, beside this program or in PATH
    #[arg(long, env = "SHEAF_STORE_PROGRAM", value_name = "PATH")]
    pub(crate) store_program: Option<PathBuf>,
}

/// A store and coordinator that run already.
#[derive(Clone, Debug, Args)]
pub(crate) struct StoreArgs {
    /// The store and coordinator for durable edges, where one runs already; without it, a run on
    /// this machine has a process of its own for them
    #[arg(long, env = "SHEAF_DURABLE_STORE", value_name = "grpc://HOST:PORT")]
    pub(crate) durable_store: Option<String>,
    /// The file with the token for it
    #[arg(long, env = "SHEAF_DURABLE_TOKEN_FILE", value_name = "PATH", requires = "durable_store")]
    pub(crate) durable_token_file: Option<PathBuf>,
    /// Send that token to another machine unencrypted
    #[arg(long, env = "SHEAF_DURABLE_INSECURE", requires = "durable_token_file")]
    pub(crate) durable_insecure: bool,
    /// How long batches of durable edges are kept after they were completed
    #[arg(
        long,
        env = "SHEAF_DURABLE_RETENTION",
        default_value = "1m",
        value_name = "TIME",
        value_parser = retention
    )]
    pub(crate) durable_retention: Duration,
}

impl StoreArgs {
    /// The token, where one is given: the first word of the first line that has one, since the
    /// file may be that of the server.
    pub(crate) fn token(&self) -> Result<Option<String>, Failure> {
        self.durable_token_file.as_deref().map(token).transpose()
    }
}

fn token(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| named(path, &error))?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let mut words = line.unwrap_or_default().split_whitespace().filter(|word| !word.contains('='));
    let (first, second) = (words.next(), words.next());
    // `NAME TOKEN`, or `TOKEN` alone.
    second.or(first).map(str::to_owned).ok_or_else(|| {
        Failure::new(Code::InvalidArgument, format!("{} has no token in it", path.display()))
            .help("write the token of the store into it, in one line")
    })
}

/// Between the time in which a batch that is put is registered, and a year.
fn retention(text: &str) -> Result<Duration, String> {
    let time: HumanDuration = text.parse().map_err(|error| format!("{error}"))?;
    match time.0 {
        time if time < Duration::from_secs(60) => Err("write 1m or more".to_owned()),
        time if time > Duration::from_secs(366 * 24 * 3600) => Err("write 366d or less".to_owned()),
        time => Ok(time),
    }
}
