//! Where the control plane keeps what it knows: in memory, and in one file
//! where it is to outlive the process.
//!
//! # What holds
//! 1. What was acknowledged is on disk, whatever ends the process: registrations,
//!    plans, runs, who left. Beats are not: who was loaded has the time that
//!    everybody has.
//! 2. A record of a newer version, or a file of one, is refused by name and not
//!    touched. A damaged record is reported, kept aside in the file, and left out;
//!    the others count.
//! 3. One process has the file. A second one is refused.
//! 4. Fences go up across restarts, also where what was stored of them is damaged.

mod disk;
pub(crate) mod record;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub use disk::{Damaged, Opener};
pub(crate) use disk::{Disk, Found};
pub use record::RECORD_VERSION;

/// Where state is kept, as `--state` has it.
///
/// ```
/// use sheaf_pipeline::state::State;
///
/// assert_eq!("memory".parse(), Ok(State::Memory));
/// assert_eq!("./control.redb".parse::<State>()?.to_string(), "./control.redb");
/// assert!("".parse::<State>().is_err());
/// # Ok::<(), sheaf_pipeline::state::NoState>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It ends with the process.
    #[default]
    Memory,
    /// In this file, which is made where it is not there.
    File(PathBuf),
}

/// The text names no place for state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("state is kept nowhere: write memory, or the path of a file, such as ./control.redb")]
pub struct NoState;

impl sheaf_retry::Retryable for NoState {
    fn code(&self) -> sheaf_retry::Code {
        sheaf_retry::Code::InvalidArgument
    }
}

impl FromStr for State {
    type Err = NoState;

    fn from_str(text: &str) -> Result<Self, NoState> {
        match text {
            "" => Err(NoState),
            "memory" => Ok(State::Memory),
            path => Ok(State::File(path.into())),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Memory => f.write_str("memory"),
            State::File(path) => path.display().fmt(f),
        }
    }
}
