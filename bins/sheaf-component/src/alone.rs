//! A component by itself, for debugging.

mod define;
mod drive;
mod offset;

use std::sync::Arc;

use sheaf_components::{Host, build};
use sheaf_dataflow::{AnyComponent, ComponentError, Start};
use sheaf_pipeline::health::HealthServer;
use sheaf_pipeline::spec::Role;
use sheaf_retry::{Code, SystemClock};
use sheaf_terminal::Failure;

use crate::cli::Alone;
use crate::host::host;
use crate::signals::Signals;
use define::{definition, printer};
use drive::{make, process, take};

/// Runs it until it ends, or is told to.
pub(crate) async fn run(role: Role, alone: Alone) -> Result<(), Failure> {
    // Each time is a run of its own: the same rows are written again.
    let run = SystemClock::shared().now().as_micros();
    let (host, mut signals) = (host(run), Signals::listen()?);
    let definition = definition(&alone.kind, alone.config.as_deref())?;
    let temporary = tempfile::tempdir()
        .map_err(|error| Failure::new(Code::Io, "there is no temporary folder").because(error))?;
    let state = alone.state.clone().unwrap_or_else(|| temporary.path().to_owned());
    let offset = offset::read(&state)?;
    let start = Start {
        pipeline: "alone".into(),
        component: definition.id.clone(),
        config: definition.config.clone(),
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
            AnyComponent::Sink(mut sink) => take(sink.as_mut(), run).await,
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

async fn serve_health(address: &str, host: &Host) -> Result<Option<HealthServer>, Failure> {
    if address == "none" {
        return Ok(None);
    }
    let server = HealthServer::bind(address, Arc::new(|| Ok(())), Arc::clone(&host.clock)).await;
    let help = "name another address with --health, or `none`";
    server.map(Some).map_err(|error| Failure::from_error(&error).help(help))
}
