//! `sheaf batches show`

use sheaf_coordinator::Batch;
use sheaf_proto::BatchId;
use sheaf_retry::{HumanDuration, Timestamp};
use sheaf_rpc::json::BatchRecord;
use sheaf_terminal::{Failure, HumanBytes, Table, count, counted, relative, rfc3339};

use super::server::{Session, parse_id};

/// Which batch to show.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The batch
    #[arg(value_name = "ID", value_parser = parse_id)]
    pub id: BatchId,
}

impl ShowArgs {
    /// Shows it.
    ///
    /// # Errors
    /// `not_found` where it is not registered; as the server.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let batch = session.batch(&self.id).await?;
        if session.json {
            return session.console.json(&BatchRecord::from(batch));
        }
        let now = session.clock.now();
        session.console.table(&table(&batch, now))
    }
}

fn table(batch: &Batch, now: Timestamp) -> Table {
    let mut table = Table::new(["field", "value"]);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.row([name.to_owned(), value]);
        }
    };
    let time = |time: Timestamp| format!("{} ({})", rfc3339(time), relative(time, now));
    let list = |ids: &[BatchId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let spec = &batch.spec;
    row("batch", spec.id.to_string());
    row("state", batch.state.to_string());
    row("queue", spec.queue.clone());
    row("priority", spec.priority.to_string());
    row("tenant", spec.tenant.clone());
    row("rows", count(spec.rows));
    row("size", HumanBytes(spec.bytes).to_string());
    row("checksum", spec.checksum.clone());
    row("schema", spec.schema_fingerprint.clone());
    row("locations", spec.locations.join(", "));
    row("parents", list(&spec.parents));
    row("outputs", list(&batch.outputs));
    row("attempts", batch.attempts.to_string());
    row("retries", spec.retry.as_ref().map(ToString::to_string).unwrap_or_default());
    if batch.lost_leases > 0 {
        row("lost leases", batch.lost_leases.to_string());
    }
    if let Some(lease) = &batch.lease {
        row("worker", lease.worker.clone());
        row("fence", lease.fence.to_string());
        row("lease", format!("{}, until {}", HumanDuration(lease.duration), time(lease.deadline)));
    }
    if let Some(progress) = &batch.progress {
        let (done, total) = (count(progress.rows_done), counted(progress.rows_total, "row"));
        row("progress", format!("{done} of {total} {}", progress.note).trim_end().to_owned());
    }
    if let Some(error) = &batch.error {
        let kind = if error.permanent { ", permanent" } else { "" };
        row("error", format!("{}{kind}: {}", error.code, error.message));
        row("failed at", time(error.at));
        row("help", error.code.advice().to_owned());
    }
    row("registered", time(batch.registered_at));
    row("changed", time(batch.updated_at));
    for (name, at) in [
        ("due", batch.due_at),
        ("first attempt", batch.first_attempt_at),
        ("finished", batch.finished_at),
    ] {
        row(name, at.map(time).unwrap_or_default());
    }
    table
}
