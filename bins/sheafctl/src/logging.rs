//! The log of this process.

use sheaf_retry::{Code, SharedClock};
use sheaf_telemetry::{LogOptions, TraceOptions, Traces, init_logs, init_traces};
use sheaf_terminal::Failure;

const LEVELS: &str =
    "write error, warn, info, debug or trace, or a filter such as sheaf_drivers=debug,warn";

/// Logs at a level, or by a filter; `default` where nothing is said.
pub(crate) fn start(level: Option<&str>, default: &str) -> Result<(), Failure> {
    let level = level.unwrap_or(default);
    check(level)?;
    let options = match level {
        "debug" => LogOptions { verbose: true, ..LogOptions::default() },
        "info" => LogOptions::default(),
        filter => LogOptions { filter: Some(filter.to_owned()), ..LogOptions::default() },
    };
    init_logs(&options).map_err(|error| Failure::from_error(&error).of("--log-level").help(LEVELS))
}

/// A word alone would be the name of a target, of which there is none such as `loud`.
fn check(filter: &str) -> Result<(), Failure> {
    let is_level = |part: &str| {
        let words = ["off", "error", "warn", "info", "debug", "trace"];
        words.iter().any(|word| part.eq_ignore_ascii_case(word))
    };
    let mut parts = filter.split(',').map(str::trim);
    let Some(wrong) = parts.find(|part| !is_level(part) && !part.contains(['=', '['])) else {
        return Ok(());
    };
    let text = format!("--log-level: {wrong:?} is no level");
    Err(Failure::new(Code::InvalidArgument, text).help(LEVELS))
}

/// Sends traces of this process, where the environment asks for them.
pub(crate) fn traces(clock: &SharedClock) -> Result<Traces, Failure> {
    init_traces(&TraceOptions::from_environment("sheafctl"), clock)
        .map_err(|error| Failure::from_error(&error))
}

/// What has components log as this process does; nothing where they decide themselves.
pub(crate) fn variables(level: Option<&str>) -> Vec<(String, String)> {
    let Some(level) = level else { return Vec::new() };
    // Batches and not every frame of the network.
    let quiet = "h2=info,hyper=info,hyper_util=info,tower=info,tonic=info";
    let filter = match level {
        "debug" | "trace" => format!("{level},{quiet}"),
        other => other.to_owned(),
    };
    vec![("SHEAF_LOG".to_owned(), filter)]
}

/// Whether the lines of components are to be seen too.
pub(crate) fn is_detailed(level: Option<&str>) -> bool {
    matches!(level, Some("debug" | "trace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        for good in ["warn", "DEBUG", "off", "sheaf_drivers=debug,warn", "[span]=info, error"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["loud", "", "sheaf_drivers=debug,laut"] {
            let text = check(bad).unwrap_err().to_text();
            assert!(text.contains("is no level") && text.contains("trace"), "{text}");
        }
    }
}
