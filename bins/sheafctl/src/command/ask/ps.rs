//! `sheafctl ps`

use serde_json::{Value, json};
use sheaf_pipeline::registry::{Component, Filter, Pipeline, Status};
use sheaf_terminal::{Console, Failure, Table, relative, rfc3339};

use crate::remote::{Remote, runs};

pub(super) async fn run(
    remote: &Remote,
    all: bool,
    as_json: bool,
    console: &mut Console,
) -> Result<(), Failure> {
    let pipelines = remote.pipelines(None).await?;
    let components = remote.registry.components(&Filter::default()).await;
    let components = components.map_err(|error| remote.failed(&error))?;
    let shown: Vec<&Pipeline> = pipelines.iter().filter(|one| all || runs(one.state)).collect();
    if as_json {
        let shown: Vec<Value> = shown.iter().map(|one| entry(one, &components)).collect();
        return console.json(&json!({ "pipelines": shown }));
    }
    if shown.is_empty() {
        let hint = match pipelines.is_empty() {
            true => "no pipeline runs, and none has run",
            false => "no pipeline runs; --all shows those that ran",
        };
        console.note(hint);
        return Ok(());
    }
    let mut table = Table::new(["pipeline", "state"]).right("run").right("healthy");
    table = table.right("restarts").left("started").left("reason");
    for pipeline in shown {
        let count = Count::of(pipeline, &components);
        let now = remote.clock.now();
        let started = pipeline.started_at.map_or_else(String::new, |at| relative(at, now));
        table.row([
            pipeline.plan.id.clone(),
            pipeline.state.as_str().to_owned(),
            pipeline.last_run.to_string(),
            format!("{}/{}", count.healthy, count.all),
            count.restarts.to_string(),
            started,
            pipeline.reason.clone(),
        ]);
    }
    console.table(&table)
}

struct Count {
    healthy: usize,
    all: usize,
    restarts: u32,
}

impl Count {
    fn of(pipeline: &Pipeline, components: &[Component]) -> Self {
        let own = components.iter().filter(|one| one.pipeline == pipeline.plan.id);
        let mut count = Count { healthy: 0, all: 0, restarts: 0 };
        for component in own {
            count.all += 1;
            count.healthy += usize::from(component.status == Status::Healthy);
            count.restarts += component.restarts;
        }
        count
    }
}

fn entry(pipeline: &Pipeline, components: &[Component]) -> Value {
    let count = Count::of(pipeline, components);
    json!({
        "pipeline": pipeline.plan.id,
        "state": pipeline.state.as_str(),
        "reason": pipeline.reason,
        "run": pipeline.last_run,
        "healthy": count.healthy,
        "components": count.all,
        "restarts": count.restarts,
        "startedAt": pipeline.started_at.map(rfc3339),
        "stoppedAt": pipeline.stopped_at.map(rfc3339),
    })
}
