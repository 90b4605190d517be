//! `sheaf batches purge`

use clap::ArgGroup;
use sheaf_coordinator::{Control, PurgeFilter, State};
use sheaf_retry::HumanDuration;
use sheaf_terminal::Failure;

use super::batches::change;
use super::list::parse_state;
use super::server::Session;

/// Which batches to forget: those that every flag fits.
#[derive(Clone, Debug, clap::Args)]
#[command(group(
    ArgGroup::new("which").args(["queue", "state", "older_than", "all"]).required(true).multiple(true)
))]
pub struct PurgeArgs {
    /// Only of this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Only these states: completed, failed, cancelled, expired
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = parse_terminal)]
    pub state: Vec<State>,
    /// Only those that ended at least so long ago, such as 1h
    #[arg(long, value_name = "DURATION")]
    pub older_than: Option<HumanDuration>,
    /// Every batch that has ended, of every queue
    #[arg(long, conflicts_with_all = ["queue", "state", "older_than"])]
    pub all: bool,
}

impl PurgeArgs {
    /// Forgets them and says how many there were.
    ///
    /// # Errors
    /// As the server.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let filter = PurgeFilter {
            queue: self.queue,
            states: self.state,
            finished_before: self.older_than.unwrap_or_default().0,
        };
        change(session, Control::Purge(filter), "purged").await
    }
}

fn parse_terminal(text: &str) -> Result<State, String> {
    let state = parse_state(text)?;
    match state.is_terminal() {
        true => Ok(state),
        false => Err(format!("{state} batches are still needed; only those that ended go")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args as _, Command, FromArgMatches as _};

    fn parse(words: &[&str]) -> Result<PurgeArgs, String> {
        let command = PurgeArgs::augment_args(Command::new("purge").no_binary_name(true));
        let matches = command.try_get_matches_from(words).map_err(|error| error.to_string())?;
        PurgeArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn what_to_forget_must_be_said() {
        assert!(parse(&[]).unwrap_err().contains("--all"));
        assert!(parse(&["--all", "--queue", "bulk"]).is_err());
        assert!(parse(&["--state", "pending"]).unwrap_err().contains("still needed"));
        let args = parse(&["--state", "completed,failed", "--older-than", "1h"]).unwrap();
        assert_eq!(args.state, [State::Completed, State::Failed]);
        assert_eq!(args.older_than.unwrap_or_default().0.as_secs(), 3_600);
        assert!(parse(&["--all"]).unwrap().all);
    }
}
