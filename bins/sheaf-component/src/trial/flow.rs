//! Takes the rows of a test through the processors of a pipeline, in this process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use arrow_array::RecordBatch;
use sheaf_dataflow::Received;
use sheaf_pipeline::plan::{Plan, PlannedComponent};
use sheaf_pipeline::spec::{Role, Test};

use super::maker::{Build, Maker};
use super::{arrivals, rows};

/// How long a test may take: a program that a processor runs may hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// By component: of a processor what it sends, of a sink what reaches it.
pub(super) type Seen = BTreeMap<String, Vec<RecordBatch>>;

/// Runs one test; gives what came to be at each of its outputs, or why nothing did.
pub(super) async fn run(plan: &Plan, test: &Test, build: &Build) -> Result<Seen, String> {
    let maker = Maker::try_new(&plan.pipeline, build)?;
    let flow = Flow { plan, test, maker };
    match tokio::time::timeout(PATIENCE, flow.run()).await {
        Ok(seen) => seen,
        Err(_) => Err(format!("not at its end within {} s", PATIENCE.as_secs())),
    }
}

struct Flow<'a> {
    plan: &'a Plan,
    test: &'a Test,
    maker: Maker<'a>,
}

/// What each instance of a component has sent.
pub(super) type Sent = Vec<Vec<RecordBatch>>;

impl Flow<'_> {
    async fn run(&self) -> Result<Seen, String> {
        let needed = self.needed();
        let (mut sent, mut seen) = (HashMap::<&str, Sent>::new(), Seen::new());
        // Each comes after all that it reads.
        for component in self.plan.components.iter().filter(|one| needed.contains(&*one.id)) {
            let (id, instances) = (component.id.as_str(), component.instances.len());
            let out: Sent = match (self.test.inputs.get(id), component.role) {
                (Some(given), _) => {
                    let rest = vec![Vec::new(); instances.saturating_sub(1)];
                    let first = rows::batches(&component.definition, given)?;
                    std::iter::once(first).chain(rest).collect()
                }
                // It is not run, and no row of the test is its own.
                (None, Role::Source) => vec![Vec::new(); instances],
                (None, Role::Sink) => {
                    let arriving = self.arriving(component, &sent)?;
                    let batch = |one: Received| one.batch;
                    arriving.into_iter().map(|all| all.into_iter().map(batch).collect()).collect()
                }
                (None, Role::Processor) => {
                    let arriving = self.arriving(component, &sent)?;
                    self.maker.process(component, arriving).await?
                }
            };
            if self.test.outputs.contains_key(id) {
                seen.insert(id.to_owned(), out.iter().flatten().cloned().collect());
            }
            sent.insert(id, out);
        }
        Ok(seen)
    }

    /// What the outputs of the test come of, back to its inputs.
    fn needed(&self) -> BTreeSet<&str> {
        let mut needed = BTreeSet::new();
        let mut open: Vec<&str> = self.test.outputs.keys().map(String::as_str).collect();
        while let Some(id) = open.pop() {
            if needed.insert(id) && !self.test.inputs.contains_key(id) {
                open.extend(self.plan.senders_of(id).map(|edge| edge.from.as_str()));
            }
        }
        needed
    }

    fn arriving(
        &self,
        component: &PlannedComponent,
        sent: &HashMap<&str, Sent>,
    ) -> Result<Vec<Vec<Received>>, String> {
        let mut arriving = vec![Vec::new(); component.instances.len()];
        for edge in self.plan.senders_of(&component.id) {
            let sent = sent.get(edge.from.as_str()).map_or(&[][..], Vec::as_slice);
            arrivals::deliver(edge, sent, &mut arriving)?;
        }
        Ok(arriving)
    }
}

#[cfg(test)]
mod tests;
