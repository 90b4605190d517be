//! `sheaf queue …`

use sheaf_coordinator::{Control, Coordinator as _};
use sheaf_rpc::json::ControlOutput;
use sheaf_terminal::Failure;

use super::limits::{self, ConfigureArgs};
use super::server::Session;

/// What to do with a queue.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum QueueCommand {
    /// Answer no claims; running work goes on
    Pause(QueueArgs),
    /// Undo pause and drain
    Resume(QueueArgs),
    /// Take no new batches; those that are there are worked off
    Drain(QueueArgs),
    /// Limit how much of a queue is worked on, how fast, and how much may wait
    Configure(ConfigureArgs),
    /// Show the limits of a queue; with --json its counts too
    Show(QueueArgs),
}

/// Which queue.
#[derive(Clone, Debug, clap::Args)]
pub struct QueueArgs {
    /// The queue
    #[arg(value_name = "NAME")]
    pub name: String,
}

impl QueueCommand {
    /// Does it.
    ///
    /// # Errors
    /// As the server.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        let (name, control, done) = match self {
            QueueCommand::Pause(QueueArgs { name }) => {
                (name.clone(), Control::Pause(name), "is paused")
            }
            QueueCommand::Resume(QueueArgs { name }) => {
                (name.clone(), Control::Resume(name), "is open")
            }
            QueueCommand::Drain(QueueArgs { name }) => {
                (name.clone(), Control::Drain(name), "takes no new batches")
            }
            QueueCommand::Configure(args) => return args.run(session).await,
            QueueCommand::Show(args) => return limits::show(args, session).await,
        };
        let reply = session.coordinator.control(control).await;
        let reply = reply.map_err(|error| session.failed(&error))?;
        match session.json {
            true => session.console.json(&ControlOutput::from(reply)),
            false => session.console.data(&format!("queue {name} {done}\n")),
        }
    }
}
