//! What is thought of a server that the configuration names.

use std::time::Duration;

use sheaf_retry::Code;
use sheaf_terminal::{compact, counted};

use super::advice::{median, millis, span};
use super::check::Check;
use super::disk::Failed;
use super::peer::{Answers, Needs, PeerFacts, Step};

/// Answers that take longer on an idle server slow every worker down.
const LATENCY_WARNING: Duration = Duration::from_millis(100);
/// Clocks of two machines that NTP looks after differ by less.
const CLOCK_WARNING_MS: u64 = 1_000;
const CLOCK_PROBLEM_MS: u64 = 60_000;

impl PeerFacts {
    /// Every check of it, in the order of what depends on what.
    pub(super) fn checks(&self) -> Vec<Check> {
        let steps = [self.lookup(), self.connected()];
        let mut checks: Vec<Check> = steps.into_iter().flatten().collect();
        if self.address.tls {
            checks.extend(self.tls());
        }
        checks.extend(self.healthy());
        match &self.access {
            Step::NotTried => {}
            Step::Failed(failed) => checks.push(self.refused(failed)),
            Step::Done(answers) => {
                checks.push(Check::ok(self.name("access"), "this configuration is let in"));
                checks.extend(self.answered(answers));
                checks.extend(self.fits(answers));
            }
        }
        checks
    }

    fn name(&self, what: &str) -> String {
        format!("{}.{what}", self.role)
    }

    /// The setting that names it.
    fn setting(&self) -> &'static str {
        if self.role == "coordinator" { "--coordinator" } else { "--flight-addr" }
    }

    fn lookup(&self) -> Option<Check> {
        let (name, host) = (self.name("name"), &self.address.host);
        match &self.lookup {
            Step::NotTried => None,
            Step::Done(found) => {
                let shown: Vec<_> = found.iter().map(|one| one.ip().to_string()).collect();
                let text = format!("{host} is {}", shown.join(", "));
                Some(Check::ok(name, text).figure("addresses", shown))
            }
            Step::Failed((code, why)) => Some(
                Check::problem(name, *code, format!("{host} cannot be looked up: {why}")).advise(
                    format!("check the spelling in {} and the name servers", self.setting()),
                ),
            ),
        }
    }

    fn connected(&self) -> Option<Check> {
        let (name, address) = (self.name("connection"), &self.address);
        match &self.connect {
            Step::NotTried => None,
            Step::Done(took) => {
                let text = format!("{address} takes connections, within {}", span(*took));
                Some(Check::ok(name, text).figure("ms", millis(*took)))
            }
            Step::Failed((code, why)) => {
                let text = format!("{address} takes no connection: {why}");
                Some(Check::problem(name, *code, text).advise(format!(
                    "start the server there, or correct {}; a firewall on the way drops \
                     connections without an answer",
                    self.setting()
                )))
            }
        }
    }

    fn tls(&self) -> Option<Check> {
        let name = self.name("tls");
        match &self.health {
            Step::NotTried => None,
            Step::Failed((code, why)) if is_security(*code) => {
                Some(Check::problem(name, *code, why.clone()).advise(
                    "give with --tls-ca the CA that signed the server's certificate, and dial it by \
                     a name that stands in it; where it asks for a certificate, give --tls-cert and \
                     --tls-key of its client CA",
                ))
            }
            Step::Failed(_) | Step::Done(_) => {
                Some(Check::ok(name, "the server's certificate is accepted"))
            }
        }
    }

    fn healthy(&self) -> Option<Check> {
        let (name, address) = (self.name("health"), &self.address);
        match &self.health {
            Step::NotTried => None,
            Step::Done(true) => Some(Check::ok(name, format!("{address} takes work"))),
            Step::Done(false) => {
                let text = format!("{address} takes no work: it starts or shuts down");
                Some(Check::warning(name, text, "wait until it is up; else look into its log"))
            }
            // That has been told.
            Step::Failed((code, _)) if address.tls && is_security(*code) => None,
            Step::Failed((code, why)) if why.contains("TLS only") => {
                let text = format!("{address} speaks TLS only");
                Some(Check::problem(name, *code, text).advise(format!(
                    "write grpc+tls://{address} in {}, and name its CA with --tls-ca",
                    self.setting()
                )))
            }
            Step::Failed((code, why)) => {
                Some(Check::problem(name, *code, why.clone()).advise(format!(
                    "something else listens at {address}, or it hangs: check {}",
                    self.setting()
                )))
            }
        }
    }

    fn refused(&self, (code, why): &Failed) -> Check {
        let check = Check::problem(self.name("access"), *code, why.clone());
        match code {
            Code::Unauthenticated | Code::PermissionDenied => check.advise(
                "put a token that the server accepts into the file of --client-token-file (else \
                 that of --token-file), or into the server's token file",
            ),
            _ => check,
        }
    }

    fn answered(&self, answers: &Answers) -> Vec<Check> {
        let mut checks = Vec::new();
        if let Some(middle) = median(&answers.took) {
            let name = self.name("latency");
            let answers = counted(answers.took.len() as u64, "answer");
            let text = format!("median of {answers}: {}", span(middle));
            let check = match middle > LATENCY_WARNING {
                true => Check::warning(
                    name,
                    text,
                    "the server is busy or far away: look at its CPU and disk; put workers near it",
                ),
                false => Check::ok(name, text),
            };
            checks.push(check.figure("median_ms", millis(middle)));
        }
        let Some(info) = &answers.info else {
            checks.push(Check::warning(
                self.name("version"),
                "it does not tell its version: it is older than this one",
                "use one version for all servers and workers: the newest",
            ));
            return checks;
        };
        let uptime = compact(Duration::from_millis(info.uptime_ms));
        checks.push(
            version(
                self.name("version"),
                &info.version,
                env!("CARGO_PKG_VERSION"),
                &format!("mode {}, up {uptime}", info.mode),
            )
            .figure("version", info.version.clone())
            .figure("mode", info.mode.clone())
            .figure("uptime_ms", info.uptime_ms),
        );
        if let Some(ahead) = answers.ahead_ms {
            checks.push(clocks(self.name("clock"), ahead));
        }
        checks
    }

    /// Whether it is a server of the kind that is needed.
    fn fits(&self, answers: &Answers) -> Option<Check> {
        let needs = self.needs;
        if needs == Needs::default() {
            return None;
        }
        let (name, address, setting) = (self.name("mode"), &self.address, self.setting());
        let mode = answers.info.as_ref().map(|info| info.mode.as_str());
        let wrong = |text: String| Check::problem(name.clone(), Code::FailedPrecondition, text);
        if needs.itself && mode == Some("flight") {
            let text = format!("{address} is a Flight server: it has no coordinator in it");
            return Some(wrong(text).advise(format!(
                "name the coordinator itself in {setting}: what one Flight server passes on, the \
                 next refuses"
            )));
        }
        if let Some(Err((Code::PermissionDenied, why))) = &answers.coordinator {
            let check = Check::problem(name, Code::PermissionDenied, why.clone());
            return Some(check.advise(
                "have coordinator:rx added to allow= of that token in the server's token file",
            ));
        }
        if let Some(Err((code, why))) = &answers.coordinator {
            let text = format!("no coordinator answers at {address}: {why}");
            let check = Check::problem(name, *code, text);
            return Some(match code {
                Code::FailedPrecondition => check.advise(format!(
                    "name in {setting} a server of mode all or coordinator; or start the Flight \
                     server there with --coordinator"
                )),
                _ => check.advise(format!(
                    "start the coordinator that {address} passes calls on to, or run `sheaf doctor` \
                     with the settings of that server"
                )),
            });
        }
        if needs.payloads && mode == Some("coordinator") {
            let text = format!("{address} is a coordinator: it has no payloads");
            return Some(wrong(text).advise(
                "name in --flight-addr the server that has the payloads, of mode all or flight",
            ));
        }
        match (mode, &answers.coordinator) {
            (None, None) => Some(Check::skipped(name, "it does not tell what it is")),
            _ if needs.coordinator => Some(Check::ok(name, "a coordinator answers")),
            _ => Some(Check::ok(name, "it has payloads")),
        }
    }
}

/// Whether an error is about who may talk to whom.
fn is_security(code: Code) -> bool {
    matches!(
        code,
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::InvalidArgument
            | Code::NotFound
            | Code::Io
    )
}

/// Versions that differ in more than the last number are not made to go together.
fn version(name: String, theirs: &str, ours: &str, about: &str) -> Check {
    let parts = |text: &str| -> Vec<u64> {
        let core = text.split(['-', '+']).next().unwrap_or(text);
        core.split('.').map(|part| part.parse().unwrap_or(0)).collect()
    };
    let (a, b) = (parts(theirs), parts(ours));
    let text = format!("sheaf {theirs}, {about}");
    if a.iter().take(2).eq(b.iter().take(2)) {
        return Check::ok(name, text);
    }
    let which = if a < b { "older" } else { "newer" };
    Check::warning(
        name,
        format!("{text}: {which} than this one, {ours}"),
        "use one version for all servers and workers; the server is exchanged first",
    )
}

fn clocks(name: String, ahead_ms: i64) -> Check {
    let apart = ahead_ms.unsigned_abs();
    let text = match (apart, ahead_ms > 0) {
        (0..10, _) => "its clock is ours".to_owned(),
        (_, true) => format!("its clock is {} ahead of ours", span(Duration::from_millis(apart))),
        (_, false) => format!("its clock is {} behind ours", span(Duration::from_millis(apart))),
    };
    let action = "keep the clocks of both machines right with NTP (`timedatectl` shows whether it \
                  works): leases go by the server's clock alone, but delays, times to live, expiries \
                  of tokens and every time shown depend on it";
    let check = match apart {
        CLOCK_PROBLEM_MS.. => Check::problem(name, Code::FailedPrecondition, text).advise(action),
        CLOCK_WARNING_MS.. => Check::warning(name, text, action),
        _ => Check::ok(name, text),
    };
    check.figure("ahead_ms", ahead_ms)
}

#[cfg(test)]
#[path = "servers_tests.rs"]
mod tests;
