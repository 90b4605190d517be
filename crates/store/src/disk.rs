//! The data directory: who holds it, what is in it, and how it is written.

mod check;
mod commit;
mod directory;
mod footer;
mod format;
mod fresh;
mod io;
pub(crate) mod journal;
mod map;
mod memory;
mod record;
mod recover;
mod registrations;
mod survey;
mod writer;

pub use check::{CheckedPayload, check_payload, payload_name};
pub(crate) use commit::{Committer, Names};
pub(crate) use directory::Directory;
pub use directory::REGISTERED_FILE;
pub use format::check_data_format;
pub use fresh::NewDataDirectory;
pub use io::{Disk, LocalDisk};
pub(crate) use journal::Journal;
pub(crate) use map::{MappedFile, OpenError};
pub(crate) use memory::{AnonymousMemory, seal};
pub(crate) use record::{Broken, RECORD_VERSION, crc_of, version_for};
#[cfg(feature = "fuzzing")]
pub(crate) use recover::scan as recover_shard;
pub(crate) use recover::{Recovered, recover};
pub use registrations::Registrations;
pub use survey::{Holder, Survey};
pub(crate) use writer::{Checked, FileWriter, remove_quietly};
