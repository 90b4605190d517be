//! `sheaf batches lineage`

use sheaf_coordinator::{Answer, Coordinator as _, Direction, LineageQuery, Query};
use sheaf_proto::BatchId;
use sheaf_retry::Code;
use sheaf_rpc::json::LineageOutput;
use sheaf_terminal::{Failure, Table};

use super::server::{Session, parse_id};

/// Whose lineage, and how far.
#[derive(Clone, Debug, clap::Args)]
pub struct LineageArgs {
    /// The batch
    #[arg(value_name = "ID", value_parser = parse_id)]
    pub id: BatchId,
    /// What was made from it, instead of what it was made from
    #[arg(long)]
    pub descendants: bool,
    /// Most steps from it; 0 is any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub depth: u32,
    /// Most batches, 1 to 1,000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
}

impl LineageArgs {
    /// Shows the batches, nearest first.
    ///
    /// # Errors
    /// As the server.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let direction =
            if self.descendants { Direction::Descendants } else { Direction::Ancestors };
        let query = LineageQuery { id: self.id, direction, depth: self.depth, limit: self.limit };
        let answer = session.coordinator.query(Query::Lineage(query)).await;
        let Answer::Lineage(lineage) = answer.map_err(|error| session.failed(&error))? else {
            let message = format!("{} answers something else than lineage", session.target());
            return Err(Failure::new(Code::Internal, message));
        };
        if session.json {
            return session.console.json(&LineageOutput::from(lineage));
        }
        if lineage.nodes.is_empty() {
            let none = match direction {
                Direction::Ancestors => "it was made from no other batch",
                Direction::Descendants => "no batch was made from it",
            };
            session.console.note(none);
            return Ok(());
        }
        let table = Table::new(["steps", "batch"]).left("state").left("queue").optional(1);
        let mut table = table.left("of").optional(2);
        for node in &lineage.nodes {
            // The batches next to it, on the way to the one that was asked for.
            let near = lineage.links.iter().filter_map(|link| match direction {
                Direction::Ancestors => (link.parent == node.id).then_some(&link.child),
                Direction::Descendants => (link.child == node.id).then_some(&link.parent),
            });
            let near: Vec<&str> = near.map(BatchId::as_str).collect();
            let state = node.state.map_or("not registered", |state| state.as_str());
            let queue = node.queue.as_deref().unwrap_or("");
            let steps = node.depth.to_string();
            table.row([steps.as_str(), node.id.as_str(), state, queue, &near.join(" ")]);
        }
        session.console.table(&table)?;
        if lineage.truncated {
            session.console.note("there are more: raise --limit or --depth");
        }
        Ok(())
    }
}
