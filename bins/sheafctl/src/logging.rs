//! The log of this process.

use sheaf_telemetry::{LogOptions, init_logs};
use sheaf_terminal::Failure;

/// Logs at a level, or by a filter; `default` where nothing is said.
pub(crate) fn start(level: Option<&str>, default: &str) -> Result<(), Failure> {
    let level = level.unwrap_or(default);
    let options = match level {
        "debug" => LogOptions { verbose: true, ..LogOptions::default() },
        "info" => LogOptions::default(),
        filter => LogOptions { filter: Some(filter.to_owned()), ..LogOptions::default() },
    };
    init_logs(&options).map_err(|error| {
        let help = "write error, warn, info, debug or trace, or a filter such as sheaf_drivers=debug,warn";
        Failure::from_error(&error).of("--log-level").help(help)
    })
}
