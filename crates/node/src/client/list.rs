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
    // A narrow terminal shows what tells most: the identifier whole, then these.
    let mut table = Table::new(["batch", "queue"])
        .optional(3)
        .left("state")
        .right("attempts")
        .optional(5)
        .right("rows")
        .optional(2)
        .right("size")
        .optional(6)
        .left("changed")
        .optional(1)
        .left("about")
        .optional(4);
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

#[cfg(test)]
mod tests {
    use super::*;
    use sheaf_coordinator::{BatchSpec, Fence};
    use sheaf_proto::BatchId;

    fn batch(state: State) -> Batch {
        let mut spec = BatchSpec::new(BatchId::generate(1_000));
        spec.queue = "default".to_owned();
        (spec.rows, spec.bytes) = (25_000, 1_570_984);
        Batch {
            spec,
            state,
            attempts: 1,
            lost_leases: 0,
            lease: None,
            progress: None,
            error: None,
            registered_at: Timestamp::from_millis(1_000),
            updated_at: Timestamp::from_millis(1_000),
            due_at: None,
            first_attempt_at: None,
            finished_at: None,
            last_fence: Fence::default(),
            settled: None,
            outputs: Vec::new(),
        }
    }

    #[test]
    fn identifiers_are_whole_at_every_width() {
        let batches = [batch(State::Processing), batch(State::Completed)];
        let table = table(&batches, Timestamp::from_millis(600_000));
        for (width, words) in [
            (60, &["processing"][..]),
            (80, &["processing", "25,000", "9m ago"]),
            (120, &["processing", "25,000", "9m ago", "default", "1.57 MB", "about"]),
        ] {
            let text = table.render(Some(width));
            assert_eq!(text.lines().count(), 6, "{text}");
            for word in batches.iter().map(|b| b.spec.id.as_str()).chain(words.iter().copied()) {
                assert!(text.contains(word), "{word} at {width}\n{text}");
            }
        }
        assert_eq!(table.hidden_columns(None), 0);
    }
}
