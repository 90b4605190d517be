//! `sheaf batches watch`

use futures::StreamExt as _;
use sheaf_coordinator::{Change, Coordinator as _, Event, State, WatchFilter};
use sheaf_proto::BatchId;
use sheaf_retry::Code;
use sheaf_rpc::json::ChangeRecord;
use sheaf_terminal::{Failure, rfc3339};

use super::list::parse_state;
use super::server::{Session, parse_id};

/// What to watch.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchArgs {
    /// Only these batches
    #[arg(value_name = "ID", value_parser = parse_id)]
    pub ids: Vec<BatchId>,
    /// Only this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Only changes into these states: waiting, pending, scheduled, processing, completed, failed, cancelled, expired
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = parse_state)]
    pub state: Vec<State>,
    /// End after so many changes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
}

impl WatchArgs {
    /// Shows one line per change: as text, or with `--json` as one object.
    ///
    /// # Errors
    /// `unavailable` when the server goes away and does not come back.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let filter = WatchFilter { queue: self.queue, ids: self.ids, states: self.state };
        let watched = session.coordinator.watch(filter).await;
        let mut events = watched.map_err(|error| session.failed(&error))?;
        session.console.note("watching; interrupt to end");
        let mut left = self.limit.unwrap_or(u64::MAX);
        while left > 0 {
            match events.next().await {
                Some(Event::Changed(change)) => {
                    match session.json {
                        true => session.console.json(&ChangeRecord::from(change))?,
                        false => session.console.data(&line(&change))?,
                    }
                    left -= 1;
                }
                Some(Event::Missed(count)) => {
                    session.console.note(&format!("{count} or more changes were missed"));
                }
                None => {
                    let message = format!("{} sends no more events", session.target());
                    return Err(Failure::new(Code::Unavailable, message));
                }
            }
        }
        Ok(())
    }
}

fn line(change: &Change) -> String {
    let word = |state: Option<State>, none: &'static str| state.map_or(none, State::as_str);
    let mut line = format!(
        "{}  {}  {} -> {}",
        rfc3339(change.at),
        change.id,
        word(change.from, "new"),
        word(change.to, "purged"),
    );
    if let Some(worker) = &change.worker {
        line.push_str(&format!("  worker {worker}"));
    }
    if let Some(error) = &change.error {
        // Errors come from programs of others: they are not to steer the terminal.
        let message: String =
            error.message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line.push_str(&format!("  {}: {message}", error.code));
    }
    line.push('\n');
    line
}
