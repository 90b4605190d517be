//! `sheafctl status`

use futures::future::join_all;
use serde_json::{Value, json};
use sheaf_pipeline::registry::{Component, Filter, Pipeline, Status};
use sheaf_retry::Timestamp;
use sheaf_terminal::{Console, Failure, Table, count, relative, rfc3339};

use super::StatusArgs;
use crate::remote::{Remote, runs};
use crate::stats::{Look, Rows, instance, ports, put_aside};

pub(super) async fn run(
    remote: &Remote,
    args: &StatusArgs,
    console: &mut Console,
) -> Result<(), Failure> {
    let (name, as_json) = (args.pipeline.as_deref(), args.ask.json);
    let pipelines = remote.pipelines(name).await?;
    let shown = pipelines.iter().filter(|one| name.is_some() || runs(one.state));
    let mut all = Vec::new();
    for pipeline in shown {
        let filter = Filter { pipeline: pipeline.plan.id.clone(), ..Filter::default() };
        let components = remote.registry.components(&filter).await;
        let components = components.map_err(|error| remote.failed(&error))?;
        let look = Look::new(remote.health.clone(), &remote.clock);
        let rows = components.iter().map(|component| look.at(component));
        let rows = join_all(rows).await;
        all.push((pipeline, components.into_iter().zip(rows).collect::<Vec<_>>()));
    }
    if as_json {
        let all: Vec<Value> = all.iter().map(|(one, components)| entry(one, components)).collect();
        return console.json(&json!({ "pipelines": all }));
    }
    if all.is_empty() {
        console.note("no pipeline runs; name one that ran, as sheafctl ps --all shows them");
    }
    for (pipeline, components) in &all {
        let (id, state, run) = (&pipeline.plan.id, pipeline.state.as_str(), pipeline.last_run);
        let colon = if pipeline.reason.is_empty() { "" } else { ": " };
        console.data(&format!("{id}  run {run}  {state}{colon}{}\n", pipeline.reason))?;
        console.table(&table(components, remote.clock.now()))?;
        components.iter().for_each(|(one, rows)| put_aside(console, instance(one), *rows));
    }
    Ok(())
}

fn table(components: &[(Component, Option<Rows>)], now: Timestamp) -> Table {
    let mut table = Table::new(["component", "kind", "status"]).right("rows in").right("rows out");
    table = table.right("restarts").left("last beat").left("address").left("reason");
    for (component, rows) in components {
        let shown = |rows: Option<u64>| rows.map_or_else(|| "-".to_owned(), count);
        let beat = match component.status {
            Status::Expected => String::new(),
            _ => relative(component.last_heartbeat, now),
        };
        table.row([
            instance(component).to_owned(),
            component.kind.as_str().to_owned(),
            component.status.as_str().to_owned(),
            shown(rows.and_then(|rows| rows.input)),
            shown(rows.and_then(|rows| rows.output)),
            component.restarts.to_string(),
            beat,
            component.address.clone(),
            component.reason.clone(),
        ]);
    }
    table
}

fn entry(pipeline: &Pipeline, components: &[(Component, Option<Rows>)]) -> Value {
    let components = components.iter().map(|(component, rows)| {
        json!({
            "instance": instance(component),
            "component": component.component,
            "kind": component.kind.as_str(),
            "status": component.status.as_str(),
            "reason": component.reason,
            "address": component.address,
            "healthEndpoint": component.health_endpoint,
            "restarts": component.restarts,
            "lastHeartbeat": rfc3339(component.last_heartbeat),
            "rowsIn": rows.and_then(|rows| rows.input),
            "rowsOut": rows.and_then(|rows| rows.output),
            "failedBatches": rows.map(|rows| rows.failed),
            "inputs": ports(&component.metadata.inputs),
            "outputs": ports(&component.metadata.outputs),
        })
    });
    json!({
        "pipeline": pipeline.plan.id,
        "state": pipeline.state.as_str(),
        "reason": pipeline.reason,
        "run": pipeline.last_run,
        "components": components.collect::<Vec<Value>>(),
    })
}
