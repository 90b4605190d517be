//! Which commands write for programs.

use super::Command;

impl Command {
    /// Whether a program reads what the command writes.
    pub(crate) fn json(&self) -> bool {
        match self {
            Command::Validate { json, .. }
            | Command::Graph { json, .. }
            | Command::Init { json, .. } => *json,
            Command::Tap(args) => args.json(),
            Command::Top(args) => args.json(),
            Command::Test(args) => args.json(),
            Command::Ask(ask) => ask.json(),
            Command::Schema => true,
            Command::Render(_)
            | Command::Run(_)
            | Command::Server(_)
            | Command::Completions { .. } => false,
        }
    }
}
