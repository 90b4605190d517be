//! Asks components how far they are.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use sheaf_pipeline::control::ControlPlane;
use sheaf_pipeline::registry::{Component, Filter};
use sheaf_terminal::Console;

use super::{EVERY, Progress};
use crate::stats::{Look, Rows, instance};

/// After how many times a line is shown.
const SHOWN: u32 = 8;

/// What all components said.
pub(crate) struct Answers {
    rows: Vec<(String, Rows)>,
    seen: Vec<Arc<Component>>,
}

impl Progress {
    /// What all components say, once it is time to ask again. Dropped and called again, it goes
    /// on with what it was at: one that does not answer holds up nothing else.
    pub(crate) async fn asked(&mut self) -> Option<Answers> {
        let rest = self.next.saturating_sub(self.clock.elapsed());
        self.clock.sleep(rest).await;
        let asking = match &mut self.asking {
            Some(asking) => asking,
            none => none.insert(ask(&self.pipeline, &self.plane, &self.look)),
        };
        let answers = asking.await;
        self.asking = None;
        self.next = self.clock.elapsed() + EVERY;
        answers
    }

    /// Shows now and then how far they are.
    pub(crate) fn look(&mut self, answers: Option<Answers>, console: &mut Console) {
        self.take(answers);
        self.ticks += 1;
        if self.ticks.is_multiple_of(SHOWN) {
            let line = self.line();
            if line != self.last && !line.is_empty() {
                self.note(console, &line);
                self.last = line;
            }
        }
    }

    /// Asks how far they came, once all of them have left.
    pub(crate) async fn end(&mut self) {
        let answers = ask(&self.pipeline, &self.plane, &self.look).await;
        self.take(answers);
    }

    fn take(&mut self, answers: Option<Answers>) {
        let Some(Answers { rows, seen }) = answers else { return };
        self.rows.extend(rows);
        let named = |component: Arc<Component>| (instance(&component).to_owned(), component);
        self.seen = seen.into_iter().map(named).collect();
    }
}

/// Asks all components of a pipeline at the same time; `None` where the registry does not answer.
fn ask(
    pipeline: &str,
    plane: &ControlPlane,
    look: &Arc<Look>,
) -> BoxFuture<'static, Option<Answers>> {
    let filter = Filter { pipeline: pipeline.to_owned(), ..Filter::default() };
    let (plane, look) = (plane.clone(), Arc::clone(look));
    let ask = async move {
        let seen = plane.select(filter).await.ok()?;
        let asked = seen.iter().map(|component| async {
            Some((instance(component).to_owned(), look.at(component).await?))
        });
        let rows = join_all(asked).await.into_iter().flatten().collect();
        Some(Answers { rows, seen })
    };
    ask.boxed()
}
