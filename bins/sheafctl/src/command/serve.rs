//! `sheafctl server`

use clap::Args;
use sheaf_retry::SystemClock;
use sheaf_terminal::{Console, Failure, counted};

use crate::args::PlaneArgs;
use crate::logging;
use crate::plane::{Mode, Plane};
use crate::signals::Signals;

#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    plane: PlaneArgs,
}

pub(super) async fn run(args: ServeArgs, console: &mut Console) -> Result<(), Failure> {
    logging::start(args.plane.log_level.as_deref(), "info")?;
    let clock = SystemClock::shared();
    let mut signals = Signals::listen()?;
    let state = args.plane.data.server_state();
    let forgets = args.plane.state.as_deref() == Some("memory");
    let mode = Mode { state, outlive: true, prints: false, starts: true };
    let plane = Plane::start(&args.plane, mode, &clock).await?;
    let adopted = plane.runner.adopt().await.map_err(|error| Failure::from_error(&error))?;
    if !adopted.is_empty() {
        tracing::info!(pipelines = adopted.join(", "), "runs were taken up");
    }
    console.data(&format!("ready control={} console={}\n", plane.uri(), plane.console()))?;
    let signal = signals.next().await;
    let running = plane.runner.running();
    if forgets && !running.is_empty() {
        tracing::info!(signal, pipelines = running.len(), "draining; a second signal ends at once");
        let reason = format!("the server was stopped by {signal}");
        tokio::select! {
            () = plane.runner.stop_all(false, &reason) => {}
            second = signals.next() => {
                let reason = format!("the server was ended by {second}");
                plane.runner.stop_all(true, &reason).await;
            }
        }
    } else if !running.is_empty() {
        let pipelines = counted(running.len() as u64, "pipeline");
        console.note(&format!(
            "{pipelines} go on without this server; start it again with the same --state and --control-addr to take them up"
        ));
    }
    plane.close().await
}
