//! A component by itself, for debugging.

mod offset;

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use serde_json::{Map, Value, json};
use sheaf_components::{Host, build};
use sheaf_dataflow::{AnyComponent, ComponentError, Processor, Received, Sink, Source, Start};
use sheaf_pipeline::health::HealthServer;
use sheaf_pipeline::spec::{Component, Role};
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use crate::cli::{Alone, Format};
use crate::feed::Feed;
use crate::host::host;
use crate::signals::Signals;

/// Runs it until it ends, or is told to.
pub(crate) async fn run(role: Role, alone: Alone) -> Result<(), Failure> {
    let (host, mut signals) = (host(1), Signals::listen()?);
    let definition = definition(&alone.kind, alone.config.as_deref())?;
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::new(Code::Io, "there is no temporary folder").because(error))?;
    let state = alone.state.clone().unwrap_or_else(|| temporary.path().to_owned());
    let offset = offset::read(&state)?;
    let start = Start {
        pipeline: "alone".into(),
        component: definition.id.clone(),
        instance: 0,
        replicas: 1,
        state_dir: state.clone(),
        offset,
    };
    let component = build(role, &definition, start, &host).await.map_err(failure)?;
    let _health = serve_health(&alone.health, &host).await?;
    let mut print = printer(alone.format, &host).await?;
    let work = async {
        match component {
            AnyComponent::Source(mut source) => {
                make(source.as_mut(), print.as_mut(), alone.rows, &state).await
            }
            AnyComponent::Processor(mut processor) => {
                process(processor.as_mut(), print.as_mut(), &host).await
            }
            AnyComponent::Sink(mut sink) => take(sink.as_mut()).await,
        }
    };
    tokio::select! {
        done = work => done?,
        () = signals.next() => {}
    }
    print.end().await.map_err(failure)
}

pub(crate) fn failure(error: ComponentError) -> Failure {
    Failure::from_error(&error)
}

fn definition(kind: &str, config: Option<&Path>) -> Result<Component, Failure> {
    let config = match config {
        None => Map::new(),
        Some(path) => {
            let place = path.display();
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::new(Code::InvalidArgument, format!("--config {place} cannot be read"))
                    .because(error)
            })?;
            serde_saphyr::from_str(&text).map_err(|error| {
                let text = format!("--config {place} is not a map in YAML or JSON");
                Failure::new(Code::InvalidArgument, text).because(error)
            })?
        }
    };
    component(kind, config)
}

fn component(kind: &str, config: Map<String, Value>) -> Result<Component, Failure> {
    serde_json::from_value(json!({"id": kind, "kind": kind, "config": config})).map_err(|error| {
        Failure::new(Code::Internal, "the component cannot be described").because(error)
    })
}

async fn serve_health(address: &str, host: &Host) -> Result<Option<HealthServer>, Failure> {
    if address == "none" {
        return Ok(None);
    }
    let server = HealthServer::bind(address, Arc::new(|| Ok(())), Arc::clone(&host.clock)).await;
    let help = "name another address with --health, or `none`";
    server.map(Some).map_err(|error| Failure::from_error(&error).help(help))
}

/// Prints as the sink does.
async fn printer(format: Format, host: &Host) -> Result<Box<dyn Sink>, Failure> {
    let config = Map::from_iter([("format".to_owned(), format.as_str().into())]);
    let start = Start {
        pipeline: "alone".into(),
        component: "print".into(),
        instance: 0,
        replicas: 1,
        state_dir: std::env::temp_dir(),
        offset: None,
    };
    match build(Role::Sink, &component("stdout", config)?, start, host).await.map_err(failure)? {
        AnyComponent::Sink(sink) => Ok(sink),
        _ => Err(Failure::new(Code::Internal, "what prints is no sink")),
    }
}

async fn make(
    source: &mut dyn Source,
    print: &mut dyn Sink,
    most: Option<usize>,
    state: &Path,
) -> Result<(), Failure> {
    let (mut left, mut sequence) = (most.unwrap_or(usize::MAX), 0);
    while left > 0
        && let Some(made) = source.next().await.map_err(failure)?
    {
        let rows = made.batch.num_rows();
        let batch = made.batch.slice(0, rows.min(left));
        left -= batch.num_rows();
        sequence += 1;
        let is_whole = batch.num_rows() == rows;
        print.write(&received(batch, sequence)).await.map_err(failure)?;
        // Of a batch that is cut, the rest would be missing next time.
        if is_whole {
            source.acknowledged(&made.offset).await.map_err(failure)?;
            offset::write(state, &made.offset)?;
        }
    }
    Ok(())
}

async fn process(
    processor: &mut dyn Processor,
    print: &mut dyn Sink,
    host: &Host,
) -> Result<(), Failure> {
    let (mut feed, mut sequence, mut printed) = (Feed::open(), 0, 0);
    loop {
        let (outcome, is_over) = tokio::select! {
            next = feed.next() => match next? {
                Some(batch) => {
                    sequence += 1;
                    (processor.process(&received(batch, sequence)).await.map(Some), false)
                }
                None => (processor.end().await.map(Some), true),
            },
            () = host.clock.sleep(std::time::Duration::from_millis(100)) => {
                (processor.tick().await, false)
            }
        };
        for batch in outcome.map_err(failure)?.into_iter().flat_map(|outcome| outcome.batches) {
            printed += 1;
            print.write(&received(batch, printed)).await.map_err(failure)?;
        }
        if is_over {
            return Ok(());
        }
    }
}

async fn take(sink: &mut dyn Sink) -> Result<(), Failure> {
    let (mut feed, mut sequence) = (Feed::open(), 0);
    while let Some(batch) = feed.next().await? {
        sequence += 1;
        sink.write(&received(batch, sequence)).await.map_err(failure)?;
    }
    sink.flush().await.map_err(failure)?;
    sink.end().await.map_err(failure)
}

fn received(batch: RecordBatch, sequence: u64) -> Received {
    Received { batch, from: "stdin".into(), from_instance: 0, sequence }
}
