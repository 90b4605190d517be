//! The commands that ask a control plane.

mod chaos;
mod link;
mod logs;
mod ps;
mod reload;
mod replay;
mod runs;
mod status;
mod steer;
mod told;

use clap::Subcommand;
use sheaf_retry::{SharedClock, SystemClock};
use sheaf_terminal::{Console, Failure};

use crate::args::AskArgs;
use crate::help;
use crate::remote::Remote;

pub(crate) use chaos::ChaosArgs;
pub(crate) use link::LinkArgs;
pub(crate) use logs::LogsArgs;
pub(crate) use replay::ReplayArgs;
pub(crate) use runs::RunsArgs;
pub(crate) use told::{PsArgs, ReloadArgs, RestartArgs, StartArgs, StatusArgs, StopArgs};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Ask {
    /// Start a pipeline on a control plane that runs
    #[command(after_help = help::START)]
    Start(StartArgs),
    /// Say which pipelines run
    #[command(after_help = help::PS)]
    Ps(PsArgs),
    /// Say how the components of pipelines are
    #[command(after_help = help::STATUS)]
    Status(StatusArgs),
    /// Show what components wrote
    #[command(after_help = help::LOGS)]
    Logs(LogsArgs),
    /// Stop a pipeline, sources first, and wait for what is on its way
    #[command(after_help = help::STOP)]
    Stop(StopArgs),
    /// End a component and start it again
    #[command(after_help = help::RESTART)]
    Restart(RestartArgs),
    /// Send batches over a durable edge once more
    #[command(after_help = help::REPLAY)]
    Replay(ReplayArgs),
    /// Bring a pipeline that runs to what its file says now
    #[command(after_help = help::RELOAD)]
    Reload(ReloadArgs),
    /// Kill, pause or slow components on purpose, and see that the pipeline bears it
    #[command(after_help = help::CHAOS)]
    Chaos(ChaosArgs),
    /// Say what has run, when, and how it ended
    #[command(after_help = help::RUNS)]
    Runs(RunsArgs),
    /// Print the link to the web console of a control plane that runs
    #[command(after_help = help::CONSOLE)]
    Console(LinkArgs),
}

impl Ask {
    pub(crate) fn json(&self) -> bool {
        match self {
            Ask::Start(args) => args.ask.json,
            Ask::Ps(args) => args.ask.json,
            Ask::Status(args) => args.ask.json,
            Ask::Logs(args) => args.ask.json,
            Ask::Stop(args) => args.ask.json,
            Ask::Restart(args) => args.ask.json,
            Ask::Replay(args) => args.ask.json,
            Ask::Reload(args) => args.ask.json,
            Ask::Chaos(args) => args.ask.json,
            Ask::Runs(args) => args.ask.json,
            Ask::Console(_) => false,
        }
    }
}

pub(super) async fn run(ask: Ask, console: &mut Console) -> Result<(), Failure> {
    let clock: SharedClock = SystemClock::shared();
    let remote = |args: &AskArgs| Remote::of(args, &clock);
    match ask {
        Ask::Start(args) => steer::start(&remote(&args.ask)?, args, console).await,
        Ask::Ps(args) => ps::run(&remote(&args.ask)?, args.all, args.ask.json, console).await,
        Ask::Status(args) => status::run(&remote(&args.ask)?, &args, console).await,
        Ask::Logs(args) => logs::run(&remote(&args.ask)?, args, console).await,
        Ask::Stop(args) => steer::stop(&remote(&args.ask)?, args, console).await,
        Ask::Restart(args) => steer::restart(&remote(&args.ask)?, args, console).await,
        Ask::Replay(args) => replay::run(&remote(&args.ask)?, &args, console).await,
        Ask::Reload(args) => reload::run(&remote(&args.ask)?, args, console).await,
        Ask::Chaos(args) => chaos::run(&remote(&args.ask)?, args, console).await,
        Ask::Runs(args) => runs::run(&remote(&args.ask)?, args, console).await,
        Ask::Console(args) => link::run(&args, &clock, console).await,
    }
}
