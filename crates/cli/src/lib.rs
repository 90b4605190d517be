//! What the binaries share for people: tables, output formats, human units,
//! progress, errors and exit codes, and how they show who they are.
//!
//! ```
//! use sheaf_retry::Code;
//! use sheaf_terminal::{Failure, HumanBytes, Table};
//!
//! let mut table = Table::new(["batch", "state"]).right("bytes");
//! table.row(["orders:1", "pending", &HumanBytes(1_500_000).to_string()]);
//! assert_eq!(table.render(None), "batch     state     bytes\norders:1  pending  1.5 MB\n");
//!
//! let failure = Failure::new(Code::NotFound, "no batch orders:2");
//! assert_eq!(failure.exit_code(), 3);
//! assert!(failure.to_text().starts_with("error: no batch orders:2\nhelp: "));
//! # Ok::<(), sheaf_terminal::BytesError>(())
//! ```
//!
//! # The rules of output
//!
//! - Data goes to standard output and nothing else does: tables, rows, JSON.
//! - Notes, progress and errors go to standard error.
//! - Colour, box drawing and moving progress appear on terminals only.
//! - A reader that goes away (`| head`) ends a command quietly.

mod console;
mod exit;
mod failure;
mod fit;
mod format;
mod number;
mod progress;
mod rows;
mod security;
mod table;
mod time;

pub use console::Console;
pub use exit::{exit_code_help, exit_code_table};
pub use failure::Failure;
pub use format::{OutputFormat, UnknownFormat};
pub use number::{count, counted, rate};
pub use progress::Progress;
pub use rows::{Destination, Error, MAX_TABLE_ROWS, RowWriter, Written};
pub use security::SecurityArgs;
pub use sheaf_retry::{BytesError, HumanBytes};
pub use table::Table;
pub use time::{ParseTimeError, compact, parse_rfc3339, relative, rfc3339};
