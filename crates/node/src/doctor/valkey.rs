//! The Valkey that a configuration names.

use std::time::Duration;

use sheaf_coordinator::Error;
use sheaf_retry::{Code, Retryable as _, SharedClock};
use sheaf_terminal::{HumanBytes, counted};
use sheaf_valkey::{Durability, Survey};

use super::advice::{median, millis, span};
use super::check::Check;
use super::disk::Failed;
use super::peer::STEP;
use crate::config::{Backend, Config, ValkeyConfig};
use crate::serve::{VALKEY_ADVICE, VALKEY_USER_ADVICE, valkey_builder};

/// A claim takes a round trip: answers that take longer slow every worker down.
const LATENCY_WARNING: Duration = Duration::from_millis(20);
/// Of the memory it may use, when it is nearly full: in percent.
const FULL: u64 = 90;

/// What was found.
#[derive(Debug)]
pub(super) struct ValkeyFacts {
    named: ValkeyConfig,
    survey: Result<Survey, Failed>,
}

impl ValkeyFacts {
    /// Asks the Valkey of the configuration, if it names one.
    pub(super) async fn gather(config: &Config, clock: &SharedClock) -> Option<Self> {
        let Backend::Valkey(named) = config.backend() else { return None };
        let survey = match valkey_builder(config, named, clock).await {
            Ok(builder) => {
                let survey = Box::pin(builder.timeout(STEP).survey(clock)).await;
                survey.map_err(|error| told(&error))
            }
            Err(error) => Err((error.code(), error.message().to_owned())),
        };
        Some(ValkeyFacts { named: (**named).clone(), survey })
    }

    /// Every check of it, in the order of what depends on what.
    pub(super) fn checks(&self) -> Vec<Check> {
        let survey = match &self.survey {
            Ok(survey) => survey,
            Err((code, why)) => {
                let check = Check::problem("valkey.connection", *code, why.clone());
                return vec![match code {
                    Code::Unavailable | Code::DeadlineExceeded => check.advise(VALKEY_ADVICE),
                    Code::Unauthenticated | Code::PermissionDenied => {
                        check.advise(VALKEY_USER_ADVICE)
                    }
                    _ => check,
                }];
            }
        };
        let mut checks = vec![
            Check::ok("valkey.connection", format!("{} lets this configuration in", self.named)),
            Check::ok("valkey.version", format!("{} {}", survey.server, survey.version))
                .figure("version", survey.version.clone()),
        ];
        checks.extend(self.readable());
        checks.extend(latency(&survey.took));
        if let Some(error) = &survey.refused {
            let (code, why) = told(error);
            let advice = "change Valkey's configuration as said, then restart it";
            checks.push(Check::problem("valkey.fitness", code, why).advise(advice));
        }
        checks.push(memory(survey));
        checks.push(persistence(survey));
        checks.push(self.replication(survey));
        checks.push(self.namespace(survey));
        checks
    }

    /// Whether others can read what is said.
    fn readable(&self) -> Option<Check> {
        let is_open = !self.named.address().uses_tls() && !self.named.is_loopback();
        is_open.then(|| {
            Check::warning(
                "valkey.encryption",
                format!("{} is asked unencrypted: everyone on the way reads along", self.named),
                "write valkeys:// where the network is not trusted; the password is sent, too",
            )
        })
    }

    fn replication(&self, survey: &Survey) -> Check {
        let name = "valkey.replication";
        let replicas = counted(survey.replicas, "replica");
        let text = format!("{}, {replicas} connected", survey.role);
        let check = match (self.named.durability(), survey.replicas) {
            (Durability::Replicated, _) | (_, 0) => Check::ok(name, text),
            (Durability::Async | Durability::Fsynced, _) => Check::warning(
                name,
                format!("{text}, and an answer does not wait for one"),
                "where a replica may take over, --valkey-durability replicated keeps what was \
                 answered; otherwise what was lost is registered again by the Flight servers",
            ),
        };
        check.figure("replicas", survey.replicas)
    }

    fn namespace(&self, survey: &Survey) -> Check {
        let name = self.named.namespace();
        let use_of = if survey.is_in_use { "in use" } else { "empty" };
        Check::ok("valkey.namespace", format!("{name:?} is {use_of}"))
            .figure("namespace", name)
            .figure("in_use", survey.is_in_use)
    }
}

/// With what lies behind it.
fn told(error: &Error) -> Failed {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    (error.code(), text)
}

fn latency(took: &[Duration]) -> Option<Check> {
    let middle = median(took)?;
    let answers = counted(took.len() as u64, "answer");
    let text = format!("median of {answers}: {}", span(middle));
    let check = match middle > LATENCY_WARNING {
        true => Check::warning(
            "valkey.latency",
            text,
            "it is busy or far away: look at its CPU and its slow log; put Sheaf near it",
        ),
        false => Check::ok("valkey.latency", text),
    };
    Some(check.figure("median_ms", millis(middle)))
}

fn memory(survey: &Survey) -> Check {
    let name = "valkey.memory";
    let (used, policy) = (HumanBytes(survey.used_bytes), &survey.policy);
    let check = match survey.limit_bytes {
        None => Check::ok(name, format!("{used}, no limit, {policy}")),
        Some(limit) => {
            let text = format!("{used} of {}, {policy}", HumanBytes(limit));
            match survey.used_bytes.saturating_mul(100) / limit >= FULL {
                true => Check::warning(
                    name,
                    text,
                    "raise its maxmemory, or purge batches that are over: when it is full, \
                     registrations are refused as overloaded",
                ),
                false => Check::ok(name, text),
            }
        }
    };
    check.figure("used_bytes", survey.used_bytes).figure("policy", policy.clone())
}

fn persistence(survey: &Survey) -> Check {
    let name = "valkey.persistence";
    let check = match (survey.is_saving, survey.is_appending) {
        (false, _) => Check::warning(
            name,
            "its last write to disk has failed",
            "look into its log and at its disk: it may refuse writes until it can save",
        ),
        (true, true) => Check::ok(name, "it keeps an append-only file"),
        (true, false) => Check::warning(
            name,
            "it keeps no append-only file: what it has not saved is lost when it stops",
            "set `appendonly yes`; with `appendfsync always` or --valkey-durability fsynced an \
             answer survives a crash",
        ),
    };
    check.figure("appendonly", survey.is_appending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Origin, RawConfig};
    use crate::doctor::check::Verdict;

    fn survey() -> Survey {
        Survey {
            server: "Valkey",
            version: "8.1.0".to_owned(),
            took: vec![Duration::from_micros(90); 7],
            policy: "noeviction".to_owned(),
            used_bytes: 10 << 20,
            limit_bytes: None,
            is_appending: true,
            is_saving: true,
            role: "master".to_owned(),
            replicas: 0,
            is_in_use: false,
            refused: None,
        }
    }

    fn verdicts(durability: &str, survey: Result<Survey, Failed>) -> Vec<(String, Verdict)> {
        let mut raw = RawConfig::default();
        raw.set("coordinator", "valkey", Origin::Flag);
        raw.set("valkey-durability", durability, Origin::Flag);
        let config = raw.validate(&Machine::of(1 << 30)).unwrap();
        let Backend::Valkey(named) = config.backend() else { panic!("{config:?}") };
        let facts = ValkeyFacts { named: (**named).clone(), survey };
        let checks = facts.checks();
        for check in &checks {
            let is_fine = check.verdict == Verdict::Ok;
            assert_eq!(is_fine, check.action.is_empty(), "{check:?}");
        }
        let bad = checks.into_iter().filter(|check| check.verdict != Verdict::Ok);
        bad.map(|check| (check.name.replace("valkey.", ""), check.verdict)).collect()
    }

    #[test]
    fn each_fact_is_judged() {
        let warned = |survey: Survey| {
            let found = verdicts("async", Ok(survey));
            assert!(found.iter().all(|(_, verdict)| *verdict == Verdict::Warning), "{found:?}");
            found.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(warned(survey()), [""; 0]);
        assert_eq!(warned(Survey { is_appending: false, ..survey() }), ["persistence"]);
        assert_eq!(warned(Survey { is_saving: false, ..survey() }), ["persistence"]);
        assert_eq!(warned(Survey { limit_bytes: Some(11 << 20), ..survey() }), ["memory"]);
        assert_eq!(warned(Survey { limit_bytes: Some(1 << 30), ..survey() }), [""; 0]);
        assert_eq!(warned(Survey { replicas: 1, ..survey() }), ["replication"]);
        assert_eq!(verdicts("replicated", Ok(Survey { replicas: 1, ..survey() })), []);
        let slow = vec![Duration::from_millis(30); 7];
        assert_eq!(warned(Survey { took: slow, ..survey() }), ["latency"]);
        let refused = Error::Backend {
            operation: "use it".to_owned(),
            code: Code::FailedPrecondition,
            source: None,
        };
        let found = verdicts("async", Ok(Survey { refused: Some(refused), ..survey() }));
        assert_eq!(found, [("fitness".to_owned(), Verdict::Problem)]);
        for code in [Code::Unavailable, Code::Unauthenticated, Code::InvalidArgument] {
            let found = verdicts("async", Err((code, "no".to_owned())));
            assert_eq!(found, [("connection".to_owned(), Verdict::Problem)]);
        }
    }
}
