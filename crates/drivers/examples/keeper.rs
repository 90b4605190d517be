//! The program that keeps instances, for programs of one's own and for tests.
//!
//! Two words are all that the process driver asks of it. `sheafctl` has them as hidden
//! commands.

use std::process::ExitCode;

use sheaf_drivers::process::{BecomeArgs, become_component, keep};
use sheaf_retry::SystemClock;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let result = match words.next().as_deref().and_then(|word| word.to_str()) {
        Some("keep") => keep(SystemClock::shared()),
        Some("become") => BecomeArgs::parse(words).and_then(|args| Err(become_component(&args))),
        _ => Err(std::io::Error::other("the first word is `keep` or `become`")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(127)
        }
    }
}
