//! Ports that are taken twice.

use super::outline::Outline;
use crate::diagnostics::{Diagnostic, Rule, Span};

/// The ports that one setting takes: one for each instance.
struct Taken<'a> {
    first: u64,
    last: u64,
    id: &'a str,
    span: Span,
}

/// Checks that no two instances ask for one port.
///
/// On containers they might; the same file is to run as processes too.
pub(super) fn check(outline: &Outline<'_>, found: &mut Vec<Diagnostic>) {
    let mut taken = Vec::new();
    for part in &outline.parts {
        for path in [&["port"][..], &["health", "port"][..]] {
            let Some(node) = part.node.at(path) else { continue };
            let port = node.integer().and_then(|port| u64::try_from(port).ok()).unwrap_or(0);
            if port == 0 || port > u64::from(u16::MAX) {
                continue;
            }
            let last = port + part.replicas - 1;
            if last > u64::from(u16::MAX) {
                let message = format!(
                    "the {} instances of `{}` need the ports {port} to {last}",
                    part.replicas, part.id
                );
                let problem = Diagnostic::error(Rule::OutOfRange, node.span, message);
                found.push(problem.label("65535 is the last one"));
                continue;
            }
            taken.push(Taken { first: port, last, id: part.id, span: node.span });
        }
    }
    taken.sort_by_key(|one| (one.first, one.span.start));
    let mut before: Option<&Taken<'_>> = None;
    for one in &taken {
        if let Some(other) = before.filter(|other| other.last >= one.first) {
            let (earlier, later) = match other.span.start < one.span.start {
                true => (other, one),
                false => (one, other),
            };
            let message =
                format!("`{}` and `{}` both take port {}", earlier.id, later.id, one.first);
            let problem = Diagnostic::error(Rule::Conflict, later.span, message);
            let problem = problem.relate(earlier.span, "taken here");
            found.push(problem.help("use another port, or 0 for a free one"));
        }
        before = before.filter(|other| other.last >= one.last).or(Some(one));
    }
}
