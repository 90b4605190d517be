//! What a component takes up of its durable edges before it is made.

use std::sync::Arc;

use bytes::Bytes;
use sheaf_pipeline::spec::Role;
use tokio::task::JoinSet;

use super::loops;
use super::parts::Parts;
use crate::assignment::Assignment;
use crate::durable::{self, Commits, Journal, Output, Settler};
use crate::error::ComponentError;

/// What was taken up of durable edges.
pub(super) struct Begun {
    /// Where a source goes on.
    pub(super) offset: Option<Bytes>,
    pub(super) settler: Option<Arc<Settler>>,
    /// What goes on beside the loop, and ends with it.
    pub(super) _tasks: JoinSet<()>,
}

impl Parts {
    /// Takes up what durable edges have of this place; `None` where it is done with this pass
    /// already.
    pub(super) async fn begin(
        &mut self,
        assignment: &Assignment,
        offset: Option<Bytes>,
    ) -> Result<Option<Begun>, ComponentError> {
        let mut tasks = JoinSet::new();
        let Some(link) = self.link.clone() else {
            return Ok(Some(Begun { offset, settler: None, _tasks: tasks }));
        };
        tasks.spawn(durable::beat(Arc::clone(&link)));
        let (streams, outputs): (Vec<_>, Vec<Output>) =
            self.outlets.durable(&assignment.pipeline).into_iter().unzip();
        let mut queues: Vec<_> = outputs.iter().map(|output| Arc::clone(&output.queue)).collect();
        queues.extend(self.places.iter().filter_map(|place| place.queue.clone()));
        tasks.spawn(durable::follow(Arc::clone(&link), queues));
        let is_read = assignment.inputs.iter().any(|input| input.edge.durable);
        if is_read && self.paced(durable::is_done(&link)).await? {
            return Ok(None);
        }
        if !assignment.is_transactional() {
            for (stream, output) in streams.into_iter().zip(outputs) {
                tasks.spawn(durable::forward(Arc::clone(&link), stream, output));
            }
            let settler = is_read.then(|| Settler::new(Arc::clone(&link)));
            if let Some(settler) = &settler {
                tasks.spawn(Arc::clone(settler).run());
            }
            return Ok(Some(Begun { offset, settler, _tasks: tasks }));
        }
        let (journal, offset) = match assignment.role {
            Role::Source => {
                let (journal, kept) = self.paced(Journal::open(&link, offset)).await?;
                if kept.ended && kept.pass == assignment.pass {
                    return Ok(None);
                }
                let offset = kept.start(assignment.pass);
                (Some((journal, offset.clone())), offset)
            }
            Role::Processor | Role::Sink => (None, offset),
        };
        let progress = Arc::clone(&self.outlets.progress);
        let (commits, task) = Commits::start(link, outputs, journal, progress);
        tasks.spawn(task);
        self.outlets.commits = Some(commits);
        Ok(Some(Begun { offset, settler: None, _tasks: tasks }))
    }

    /// Says that it lives while it waits.
    async fn paced<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.clock.sleep(loops::ROUND) => self.pace.round(),
            }
        }
    }
}
