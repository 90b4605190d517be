//! `sheaf batches …`

use sheaf_coordinator::{
    Control, ControlReply, Coordinator as _, CoordinatorExt as _, QueueStats, State, Verdict,
};
use sheaf_proto::BatchId;
use sheaf_retry::Code;
use sheaf_rpc::json::{ControlOutput, StatsOutput};
use sheaf_terminal::{Failure, HumanBytes, Table, count};

use super::lineage::LineageArgs;
use super::list::ListArgs;
use super::purge::PurgeArgs;
use super::server::{Session, parse_id};
use super::show::ShowArgs;
use super::watch::WatchArgs;

/// What to do with batches.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum BatchesCommand {
    /// List batches, oldest first
    List(ListArgs),
    /// Show everything that is known of a batch
    Show(ShowArgs),
    /// Let terminal batches start anew with all their retries
    Requeue(RequeueArgs),
    /// Take batches out; a worker that holds one is told to stop
    Cancel(CancelArgs),
    /// Forget batches that are completed, failed, cancelled or expired
    Purge(PurgeArgs),
    /// Count batches by queue and state
    Stats(StatsArgs),
    /// Show changes of state as they happen, until interrupted
    Watch(WatchArgs),
    /// Show what a batch was made from, or what was made from it
    Lineage(LineageArgs),
}

impl BatchesCommand {
    /// Does it.
    ///
    /// # Errors
    /// As the server; see each command.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            BatchesCommand::List(args) => args.run(session).await,
            BatchesCommand::Show(args) => args.run(session).await,
            BatchesCommand::Requeue(args) => args.run(session).await,
            BatchesCommand::Cancel(args) => args.run(session).await,
            BatchesCommand::Purge(args) => args.run(session).await,
            BatchesCommand::Stats(args) => args.run(session).await,
            BatchesCommand::Watch(args) => args.run(session).await,
            BatchesCommand::Lineage(args) => args.run(session).await,
        }
    }
}

/// Which batches start anew.
#[derive(Clone, Debug, clap::Args)]
pub struct RequeueArgs {
    /// The batches
    #[arg(value_name = "ID", value_parser = parse_id, required_unless_present = "failed")]
    pub ids: Vec<BatchId>,
    /// Every failed batch of this queue
    #[arg(long, value_name = "QUEUE", conflicts_with = "ids")]
    pub failed: Option<String>,
}

impl RequeueArgs {
    async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let control = match self.failed {
            Some(queue) => Control::RequeueFailed(queue),
            None => Control::Requeue(self.ids),
        };
        change(session, control, "requeued").await
    }
}

/// Which batches to take out.
#[derive(Clone, Debug, clap::Args)]
pub struct CancelArgs {
    /// The batches
    #[arg(value_name = "ID", value_parser = parse_id, required = true)]
    pub ids: Vec<BatchId>,
}

impl CancelArgs {
    async fn run(self, session: &mut Session) -> Result<(), Failure> {
        change(session, Control::Cancel(self.ids), "cancelled").await
    }
}

/// Makes a change and shows what became of each batch; one that could not be
/// changed is the command's failure, after all were shown.
pub(super) async fn change(
    session: &mut Session,
    control: Control,
    done: &str,
) -> Result<(), Failure> {
    let reply = session.coordinator.control(control).await;
    let reply = reply.map_err(|error| session.failed(&error))?;
    let verdict = judge(&reply);
    if session.json {
        session.console.json(&ControlOutput::from(reply))?;
        return verdict;
    }
    if reply.batches.is_empty() {
        session.console.data(&format!("{} {done}\n", count(reply.count)))?;
        return verdict;
    }
    let mut table = Table::new(["batch", "result", "state"]);
    for batch in &reply.batches {
        let result = match batch.verdict {
            Verdict::Applied => done,
            Verdict::AlreadyDone => "nothing to do",
            Verdict::Stale => "not possible in this state",
            Verdict::NotFound => "not found",
        };
        let state = batch.state.map_or("", State::as_str);
        table.row([batch.id.as_str(), result, state]);
    }
    session.console.table(&table)?;
    verdict
}

/// The first batch that was not changed as asked.
fn judge(reply: &ControlReply) -> Result<(), Failure> {
    for batch in &reply.batches {
        match (batch.verdict, batch.state) {
            (Verdict::NotFound, _) => {
                let message = format!("no batch {} is registered", batch.id);
                return Err(Failure::new(Code::NotFound, message));
            }
            (Verdict::Stale, state) => {
                let state = state.map_or("unknown", State::as_str);
                let message = format!("batch {} is {state}, which does not allow it", batch.id);
                return Err(Failure::new(Code::FailedPrecondition, message));
            }
            (Verdict::Applied | Verdict::AlreadyDone, _) => {}
        }
    }
    Ok(())
}

/// What to count.
#[derive(Clone, Debug, clap::Args)]
pub struct StatsArgs {
    /// Only this queue
    #[arg(long, value_name = "NAME")]
    pub queue: Option<String>,
}

impl StatsArgs {
    async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let queues = session.coordinator.stats(self.queue.as_deref()).await;
        let queues = queues.map_err(|error| session.failed(&error))?;
        if session.json {
            return session.console.json(&StatsOutput::from(queues));
        }
        session.console.table(&stats_table(&queues))
    }
}

/// One line per queue. States in which no batch is are shown where there is
/// room for them.
fn stats_table(queues: &[QueueStats]) -> Table {
    let counted = |state: &State, queue: &QueueStats| queue.counts.get(state).copied().unwrap_or(0);
    let column = |table: Table, heading: &str, empty: bool| match empty {
        true => table.right(heading).optional(1),
        false => table.right(heading),
    };
    let mut table = Table::new(["queue"]);
    for state in &State::ALL {
        let empty = queues.iter().all(|queue| counted(state, queue) == 0);
        table = column(table, state.as_str(), empty);
    }
    table = column(table, "purged", queues.iter().all(|queue| queue.purged == 0));
    table = table.right("live size").left("claims");
    for queue in queues {
        let mut row = vec![queue.queue.clone()];
        row.extend(State::ALL.iter().map(|state| count(counted(state, queue))));
        row.extend([count(queue.purged), HumanBytes(queue.live_bytes).to_string()]);
        let claims = match (queue.paused, queue.draining) {
            (true, _) => "paused",
            (false, true) => "draining",
            (false, false) => "open",
        };
        row.push(claims.to_owned());
        table.row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(states: &[State]) -> QueueStats {
        let counts = states.iter().map(|state| (*state, 25_000)).collect();
        QueueStats { queue: "default".to_owned(), counts, ..QueueStats::default() }
    }

    #[test]
    fn numbers_are_whole_at_every_width_and_empty_states_go_first() {
        let some = stats_table(&[queue(&[State::Pending, State::Completed, State::Failed])]);
        for width in [60, 80, 120] {
            let text = some.render(Some(width));
            assert_eq!(text.lines().count(), if width == 60 { 6 } else { 5 }, "{text}");
            assert!(["pending", "completed", "failed"].iter().all(|word| text.contains(word)));
            assert_eq!(text.matches("25,000").count(), 3, "{text}");
        }
        assert_eq!(some.render(None).lines().count(), 2);
        let all = stats_table(&[queue(&State::ALL)]).render(Some(80));
        assert!(all.starts_with("queue: default\nwaiting: 25,000\n"), "{all}");
    }
}
