//! What drivers have this program do: keep an instance, become one, and clear up. No
//! command for people: it is looked for before the command line is read.

use std::process::ExitCode;

use sheaf_drivers::process::{BecomeArgs, become_component, keep};
use sheaf_retry::SystemClock;

use crate::sweep;

/// What a program ends with that could not become another one.
const NOT_FOUND: u8 = 127;

/// Does it, where that is what it was started for.
pub(crate) fn serve() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let result = match words.next()?.to_str()? {
        "keep" => keep(SystemClock::shared()),
        sweep::WORD => sweep::sweep(),
        // It comes back only where that fails.
        "become" => BecomeArgs::parse(words).and_then(|args| Err(become_component(&args))),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(NOT_FOUND)
        }
    })
}
