//! The configuration as `serve` would read it, problem by problem.

use std::collections::BTreeMap;

use sheaf_retry::Retryable as _;
use sheaf_terminal::Failure;

use super::check::Check;
use crate::args::ServeArgs;
use crate::config::{Backend, Config, Machine};

const NAME: &str = "configuration";

/// The configuration with a check that it is one; else everything that is wrong.
pub(super) fn read(
    args: &ServeArgs,
    environment: &BTreeMap<String, String>,
    machine: &Machine,
) -> Result<(Config, Check), Vec<Check>> {
    let (raw, ignored) = args.layers(environment).map_err(|failure| vec![unreadable(&failure)])?;
    let config = raw.validate(machine).map_err(|problems| {
        let check = |problem: crate::config::Problem| {
            let code = problem.code();
            Check::problem(NAME, code, problem.to_string())
                .advise(ADVICE)
                .figure("setting", problem.place)
        };
        problems.into_iter().map(check).collect::<Vec<_>>()
    })?;
    let coordinator = match config.backend() {
        Backend::Embedded => "coordinator inside".to_owned(),
        Backend::Valkey(valkey) => format!("coordinator on {valkey}"),
        Backend::Raft(raft) => format!("coordinator replicated: {raft}"),
        Backend::Remote(remote) => format!("coordinator at {remote}"),
        Backend::Absent => "no coordinator".to_owned(),
    };
    let mut text = format!("mode {}, {coordinator}", config.mode());
    if !ignored.is_empty() {
        text.push_str(&format!("; no settings and ignored: {}", ignored.join(", ")));
    }
    Ok((config, Check::ok(NAME, text).figure("ignored", ignored)))
}

/// What to do about a wrong setting.
const ADVICE: &str = "correct it; `sheaf serve --help` has every setting and its default";

fn unreadable(failure: &Failure) -> Check {
    let mut text = failure.to_string();
    for cause in failure.causes() {
        text.push_str(&format!(": {cause}"));
    }
    Check::problem(NAME, failure.code(), text).advise(failure.advice())
}
