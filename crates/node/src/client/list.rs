//! `sheaf batches list`

use sheaf_coordinator::{Batch, CoordinatorExt as _, ListFilter, State};
use sheaf_retry::Timestamp;
use sheaf_rpc::json::{BatchRecord, PageOutput};
use sheaf_terminal::{Failure, HumanBytes, Table, count, relative};

use super::server::Session;

/// Which batches to list.
#[derive(Clone, Debug, clap::Args)]
pub struct ListArgs {
    /// Only these states: waiting, pending, scheduled, processing, completed, failed, cancelled, expired
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = parse_state)]
    pub state: Vec<State>,
    /// Only this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
    /// Only identifiers that begin so
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub prefix: String,
    /// Most to show, 1 to 10,000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Where the page before ended
    #[arg(long, value_name = "CURSOR", default_value = "")]
    pub cursor: String,
}

/// Reads the name of a state.
pub(super) fn parse_state(text: &str) -> Result<State, String> {
    State::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
        let names: Vec<_> = State::ALL.iter().map(|state| state.as_str()).collect();
        format!("there is no such state; write one of {}", names.join(", "))
    })
}

impl ListArgs {
    /// Shows them.
    ///
    /// # Errors
    /// As the server.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let filter = ListFilter {
            states: self.state,
            queue: self.queue,
            prefix: self.prefix,
            parent: None,
            limit: self.limit,
            cursor: self.cursor,
        };
        let page = session.coordinator.list(filter).await;
        let page = page.map_err(|error| session.failed(&error))?;
        if session.json {
            return session.console.json(&PageOutput {
                batches: page.batches.into_iter().map(BatchRecord::from).collect(),
                next_cursor: (!page.next_cursor.is_empty()).then_some(page.next_cursor),
            });
        }
        if page.batches.is_empty() {
            session.console.note("no batches");
            return Ok(());
        }
        let now = session.clock.now();
        session.console.table(&table(&page.batches, now))?;
        if !page.next_cursor.is_empty() {
            session.console.note(&format!("there are more: --cursor {}", page.next_cursor));
        }
        Ok(())
    }
}

fn table(batches: &[Batch], now: Timestamp) -> Table {
    let mut table = Table::new(["batch", "queue", "state"])
        .right("attempts")
        .right("rows")
        .right("size")
        .left("changed")
        .left("about");
    for batch in batches {
        let about = match (&batch.lease, &batch.error, batch.due_at) {
            (Some(lease), ..) => format!("worker {}", lease.worker),
            (None, Some(error), Some(due)) => {
                format!("{}, again {}", error.code, relative(due, now))
            }
            (None, Some(error), None) => error.code.to_string(),
            (None, None, Some(due)) => relative(due, now),
            (None, None, None) => String::new(),
        };
        table.row([
            batch.spec.id.to_string(),
            batch.spec.queue.clone(),
            batch.state.to_string(),
            batch.attempts.to_string(),
            count(batch.spec.rows),
            HumanBytes(batch.spec.bytes).to_string(),
            relative(batch.updated_at, now),
            about,
        ]);
    }
    table
}
