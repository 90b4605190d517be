//! Pictures of pipelines, each laid out once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use sheaf_pipeline::check::check;
use sheaf_pipeline::graph::{Picture, Sizes, picture};
use sheaf_pipeline::plan::Plan;
use sheaf_pipeline::registry::Pipeline;

/// So many are remembered.
const REMEMBERED: usize = 16;

/// Room for a figure under the name, and for those of edges between boxes.
const SIZES: Sizes =
    Sizes { box_height: 78.0, box_width: 172.0, row: 124.0, gap: 116.0, margin: 20.0, header: 0.0 };

struct Drawn {
    pipeline: String,
    plan_hash: String,
    picture: Option<Arc<Picture>>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Pictures(Mutex<VecDeque<Drawn>>);

impl Pictures {
    /// That of a pipeline; `None` where its file cannot be read any more.
    pub(crate) async fn of(&self, pipeline: &Arc<Pipeline>) -> Option<Arc<Picture>> {
        if let Some(found) = self.find(pipeline) {
            return found;
        }
        let plan = Arc::clone(pipeline);
        // A large file takes a while.
        let drawn = tokio::task::spawn_blocking(move || draw(&plan.plan.spec)).await.ok()?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.pipeline != pipeline.plan.id);
        if all.len() >= REMEMBERED {
            all.pop_front();
        }
        all.push_back(Drawn {
            pipeline: pipeline.plan.id.clone(),
            plan_hash: pipeline.plan.plan_hash.clone(),
            picture: drawn.clone(),
        });
        drawn
    }

    fn find(&self, pipeline: &Pipeline) -> Option<Option<Arc<Picture>>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |one: &&Drawn| {
            one.pipeline == pipeline.plan.id && one.plan_hash == pipeline.plan.plan_hash
        };
        all.iter().find(is_it).map(|one| one.picture.clone())
    }
}

fn draw(spec: &str) -> Option<Arc<Picture>> {
    let checked = check("pipeline.yaml", spec).ok()?;
    Some(Arc::new(picture(&Plan::new(&checked.pipeline), SIZES)))
}
