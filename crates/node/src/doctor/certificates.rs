//! Certificates, keys and tokens: whether they can be used, and for how long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sheaf_flight::{CertificateFacts, Security, SecurityFiles, TokenFacts, TokenSource};
use sheaf_retry::{Code, Retryable as _, SharedClock, Timestamp};
use sheaf_terminal::{counted, rfc3339};

use super::check::Check;
use super::disk::Failed;
use crate::config::SecurityConfig;
use crate::serve::NAMESPACES;

/// A certificate or token that ends sooner is to be exchanged now.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// A file by the name of its check, and what it says.
type Read<T> = (&'static str, PathBuf, Result<Vec<T>, Failed>);

/// The files of certificates and tokens, as they were read.
#[derive(Debug, Default)]
pub(super) struct SecurityFacts {
    /// What keeps the certificate, its key and the client CA from being served with.
    pub(super) serving: Option<Failed>,
    /// Certificates by check and file.
    pub(super) certificates: Vec<Read<CertificateFacts>>,
    /// Tokens by check and file.
    pub(super) tokens: Vec<Read<TokenFacts>>,
}

impl SecurityFacts {
    /// Reads the files, as a server does. Blocks; call it within a runtime.
    pub(super) fn gather(config: &SecurityConfig, clock: &SharedClock) -> Self {
        let failed = |error: sheaf_flight::Error| (error.code(), error.message().to_owned());
        let (server, client) = (config.server(), config.client());
        // Tokens have a check of their own.
        let tls = SecurityFiles { tokens: None, ..server.clone() };
        let serving = Security::open(tls, clock.clone()).err().map(failed);
        let certificates = [
            ("tls.certificate", &server.certificate, "certificate"),
            ("tls.client_ca", &server.client_ca, "client CA file"),
            ("tls.ca", &client.ca, "CA file"),
        ];
        let certificates = certificates.into_iter().filter_map(|(check, path, what)| {
            let path = path.as_ref()?;
            let found = CertificateFacts::read(path, what).map_err(failed);
            Some((check, path.clone(), found))
        });
        let sent = match &client.token {
            TokenSource::File(path) if server.tokens.as_ref() != Some(path) => Some(path),
            _ => None,
        };
        let tokens = [("tokens", server.tokens.as_ref()), ("client_token", sent)];
        let tokens = tokens.into_iter().filter_map(|(check, path)| {
            let path = path?;
            Some((check, path.clone(), TokenFacts::read(path).map_err(failed)))
        });
        SecurityFacts { serving, certificates: certificates.collect(), tokens: tokens.collect() }
    }

    /// Every check of them.
    pub(super) fn checks(&self, now: Timestamp) -> Vec<Check> {
        let mut checks = Vec::new();
        if self.certificates.is_empty() && self.tokens.is_empty() {
            checks
                .push(Check::skipped("tls", "the configuration has no certificates and no tokens"));
        }
        if let Some((code, why)) = &self.serving {
            let check = Check::problem("tls.key", *code, why.clone());
            checks.push(match code {
                Code::FailedPrecondition => check.advise("run the command that the message names"),
                _ => check.advise(
                    "name a readable PEM certificate and the private key that it was made for",
                ),
            });
        } else if self.certificates.iter().any(|(name, ..)| *name == "tls.certificate") {
            checks.push(Check::ok("tls.key", "the private key belongs to the certificate"));
        }
        for (name, path, found) in &self.certificates {
            checks.push(match found {
                Ok(found) => certificate(name, path, found, now),
                Err((code, why)) => Check::problem(*name, *code, why.clone())
                    .advise("name a readable PEM file of certificates"),
            });
        }
        for (name, path, found) in &self.tokens {
            checks.push(match found {
                Ok(found) if *name == "tokens" => accepted(path, found, now),
                Ok(found) => sent(path, found, now),
                Err((code, why)) => {
                    let check = Check::problem(*name, *code, why.clone());
                    match code {
                        Code::FailedPrecondition => {
                            check.advise("run the command that the message names")
                        }
                        _ => check.advise(format!(
                            "write one token a line: {}; `openssl rand -hex 32` makes one",
                            TokenFacts::FORM
                        )),
                    }
                }
            });
        }
        checks
    }
}

/// Whole days from now to then; negative where it is over.
fn days(until: Timestamp, now: Timestamp) -> i64 {
    let whole = |span: Duration| i64::try_from(span.as_secs() / 86_400).unwrap_or(i64::MAX);
    match until >= now {
        true => whole(until.since(now)),
        false => -1 - whole(now.since(until)),
    }
}

/// Of several certificates the one that ends first counts.
fn certificate(name: &str, path: &Path, found: &[CertificateFacts], now: Timestamp) -> Check {
    let path = path.display();
    let Some(first) = found.iter().min_by_key(|one| one.not_after) else {
        return Check::skipped(name, format!("{path} is empty"));
    };
    let (left, until) = (days(first.not_after, now), rfc3339(first.not_after));
    let subject = &first.subject;
    let action = "exchange it: put a new file in its place with `mv`; a running server reads it \
                  within a second";
    let check = if first.not_after <= now {
        let text = format!("{path}: {subject} has expired at {until}");
        Check::problem(name, Code::Unauthenticated, text).advise(action)
    } else if let Some(early) = found.iter().find(|one| one.not_before > now) {
        let text =
            format!("{path}: {} counts only from {} on", early.subject, rfc3339(early.not_before));
        Check::problem(name, Code::Unauthenticated, text)
            .advise("check the clock of this machine, or use a certificate that counts now")
    } else if first.not_after.since(now) < SOON {
        let text = format!(
            "{path}: {subject} expires in {}, at {until}",
            counted(left.unsigned_abs(), "day")
        );
        Check::warning(name, text, action)
    } else {
        let left = counted(left.unsigned_abs(), "day");
        Check::ok(name, format!("{path}: {subject} counts for {left} more"))
    };
    check.figure("days_left", left).figure("not_after", until).figure("certificates", found.len())
}

fn accepted(path: &Path, found: &[TokenFacts], now: Timestamp) -> Check {
    let name = "tokens";
    let over = |one: &&TokenFacts| one.expires.is_some_and(|at| at <= now);
    let expired: Vec<_> = found.iter().filter(over).map(|one| one.name.as_str()).collect();
    let soon =
        found.iter().filter(|one| one.expires.is_some_and(|at| at > now && at.since(now) < SOON));
    let soon: Vec<_> = soon.map(|one| one.name.as_str()).collect();
    let text = format!("{}: {}", path.display(), counted(found.len() as u64, "token"));
    let check = if expired.len() == found.len() {
        Check::problem(name, Code::Unauthenticated, format!("{text}, all have expired")).advise(
            "add a token that counts: nobody is let in; a running server reads it within a second",
        )
    } else if !expired.is_empty() {
        let text = format!("{text}, expired: {}", expired.join(", "));
        Check::warning(name, text, "take the expired ones out, or give them a later time")
    } else if !soon.is_empty() {
        let text = format!("{text}, within 14 days expire: {}", soon.join(", "));
        Check::warning(name, text, "hand out new ones now, then take the old ones out")
    } else if let Some((token, namespace)) = nowhere(found) {
        let text = format!("{text}; allow= of {token} names {namespace}, which is nowhere here");
        let action = format!("write one of {}, or *", NAMESPACES.join(", "));
        Check::warning(name, text, action)
    } else {
        Check::ok(name, text)
    };
    let limited = found.iter().filter(|one| !one.may_do_all).count();
    let check = check.figure("tokens", found.len()).figure("expired", expired.len());
    check.figure("limited", limited)
}

/// The first token with a right in a namespace that no server of this build has.
fn nowhere(found: &[TokenFacts]) -> Option<(&str, &str)> {
    found.iter().find_map(|one| {
        let mut named = one.namespaces.iter().map(String::as_str);
        Some((one.name.as_str(), named.find(|name| !NAMESPACES.contains(name))?))
    })
}

fn sent(path: &Path, found: &[TokenFacts], now: Timestamp) -> Check {
    let name = "client_token";
    let usable = |one: &&TokenFacts| one.can_be_sent && one.expires.is_none_or(|at| at > now);
    let text = format!("{}: ", path.display());
    match found.iter().find(usable) {
        Some(one) if one.expires.is_some_and(|at| at.since(now) < SOON) => Check::warning(
            name,
            format!("{text}{} expires within 14 days", one.name),
            "put a new one in its place; it is read again within a second",
        ),
        Some(one) => Check::ok(name, format!("{text}{} is sent", one.name)),
        None => {
            let text = format!("{text}no token can be sent: expired, or only as sha256:");
            Check::problem(name, Code::Unauthenticated, text)
                .advise("write a token there that the server accepts")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }

    fn lasting(days: u32) -> CertificateFacts {
        CertificateFacts {
            subject: format!("CN=of {days}"),
            not_before: Timestamp::from_millis(1_700_000_000_000),
            not_after: now().plus(DAY * days),
        }
    }

    #[test]
    fn the_certificate_that_ends_first_counts() {
        let of = |found: &[CertificateFacts]| certificate("c", Path::new("c.pem"), found, now());
        let check = of(&[lasting(300), lasting(20)]);
        assert_eq!((check.verdict, &check.figures["days_left"]), (Verdict::Ok, &20.into()));
        let check = of(&[lasting(300), lasting(13)]);
        assert!(check.verdict == Verdict::Warning && check.found.contains("13 days"), "{check:?}");
        let over = CertificateFacts { not_after: Timestamp::from_millis(1), ..lasting(1) };
        let check = of(&[over]);
        assert_eq!((check.verdict, check.code), (Verdict::Problem, Some(Code::Unauthenticated)));
        assert!(check.action.contains("exchange it"), "{check:?}");
        let early = CertificateFacts { not_before: now().plus(DAY), ..lasting(40) };
        assert!(of(&[early]).action.contains("clock"));
    }

    #[test]
    fn tokens_that_have_expired_are_named_and_not_shown() {
        let token = |name: &str, expires| TokenFacts {
            name: name.to_owned(),
            expires,
            can_be_sent: true,
            may_do_all: true,
            namespaces: Vec::new(),
            calls: None,
            quota_bytes: None,
        };
        let (past, future) = (Some(Timestamp::EPOCH), Some(now().plus(DAY)));
        let of = |found: &[TokenFacts]| accepted(Path::new("t"), found, now());
        assert_eq!(of(&[token("a", None)]).verdict, Verdict::Ok);
        let check = of(&[token("a", None), token("old", past)]);
        assert!(check.verdict == Verdict::Warning && check.found.contains("expired: old"));
        assert!(of(&[token("a", future)]).found.contains("14 days"));
        assert_eq!(of(&[token("old", past)]).verdict, Verdict::Problem);
        let limited = |namespace: &str| {
            let namespaces = vec![namespace.to_owned()];
            TokenFacts { may_do_all: false, namespaces, ..token("ci", None) }
        };
        let check = of(&[token("a", None), limited("batches")]);
        assert_eq!((check.verdict, &check.figures["limited"]), (Verdict::Ok, &1.into()));
        let check = of(&[limited("batch")]);
        assert!(check.found.contains("allow= of ci names batch,"), "{check:?}");
        assert!(check.verdict == Verdict::Warning && check.action.contains("batches"));
        let of = |found: &[TokenFacts]| sent(Path::new("t"), found, now()).verdict;
        assert_eq!(of(&[token("old", past), token("a", None)]), Verdict::Ok);
        assert_eq!(of(&[token("old", past)]), Verdict::Problem);
        assert_eq!(of(&[TokenFacts { can_be_sent: false, ..token("h", None) }]), Verdict::Problem);
    }

    #[test]
    fn days_left_are_whole_and_negative_when_over() {
        assert_eq!(days(now().plus(DAY * 2), now()), 2);
        assert_eq!(days(now(), now().plus(Duration::from_secs(5))), -1);
    }
}
