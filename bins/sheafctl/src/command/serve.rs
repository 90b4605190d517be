//! `sheafctl server`

mod own;

use std::path::PathBuf;

use clap::Args;
use sheaf_retry::SystemClock;
use sheaf_terminal::{Console, Failure, counted};

use crate::args::PlaneArgs;
use crate::logging;
use crate::plane::{Mode, Plane};
use crate::signals::Signals;
use own::{Own, adopt};

#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    plane: PlaneArgs,
    /// A pipeline to run from the beginning, where it does not run yet
    #[arg(long, env = "SHEAF_PIPELINE", value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// Others start the components of --pipeline, as a cluster does: a JSON file with the token
    /// of each place, as `sheafctl render` writes it
    #[arg(long, env = "SHEAF_TOKENS", value_name = "FILE", requires = "pipeline")]
    tokens: Option<PathBuf>,
}

pub(super) async fn run(args: ServeArgs, console: &mut Console) -> Result<(), Failure> {
    let own = Own::read(&args, console)?;
    logging::start(args.plane.log_level.as_deref(), "info")?;
    let clock = SystemClock::shared();
    let traces = logging::traces(&clock)?;
    let mut signals = Signals::listen()?;
    let state = args.plane.data.server_state();
    let forgets = args.plane.state.as_deref() == Some("memory");
    let elsewhere = args.tokens.is_some();
    let (outlive, prints, starts, tracer) = (true, false, !elsewhere, traces.tracer());
    let mode = Mode { state, outlive, prints, starts, elsewhere, run_of: None, tracer };
    let plane = Plane::start(&args.plane, mode, &clock).await?;
    let pipeline = match own {
        Some(own) => format!(" pipeline={}", own.begin(&plane).await?),
        None => {
            adopt(&plane).await?;
            String::new()
        }
    };
    let (at, page, tls) = (plane.uri(), plane.console(), plane.tls_shown());
    console.data(&format!("ready control={at} console={page}{pipeline}{tls}\n"))?;
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
