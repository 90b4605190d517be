//! Edges: what policies, partitioning and guarantees ask of each other.

use super::outline::{Link, Outline, Part};
use crate::diagnostics::{Diagnostic, Rule, Span};
use crate::spec::{Delivery, Node, Role, SinkConfig};

/// What may be under way to a table: it knows the last 256 batches of each sender.
const MOST_TO_A_TABLE: i128 = 250;

/// Checks every edge, and what the guarantee asks of sinks.
pub(super) fn check(outline: &Outline<'_>, found: &mut Vec<Diagnostic>) {
    at_most_once(outline, found);
    let durable = outline.root.get("durable").and_then(Node::bool).unwrap_or(false);
    for part in &outline.parts {
        for link in &part.links {
            let edge = Edge {
                link,
                reader: part,
                durable: link.node.get("durable").and_then(Node::bool).unwrap_or(durable),
            };
            edge.policy(outline, found);
            edge.guarantee(outline, found);
            edge.partitioning(outline, found);
            edge.remembered(found);
        }
        groups(outline, part, found);
        transaction(outline, part, found);
        batch_by_batch(outline, part, found);
        knows_queues(outline, part, durable, found);
    }
}

/// The third guarantee that people know: there is none for a whole pipeline here.
fn at_most_once(outline: &Outline<'_>, found: &mut [Diagnostic]) {
    let delivery = outline.root.get("delivery");
    let Some(node) = delivery.filter(|node| node.text() == Some("at-most-once")) else { return };
    for problem in found.iter_mut().filter(|one| one.span == node.span) {
        problem.notes.push("what was not acknowledged is always sent once more".to_owned());
        problem.help = Some(
            "write `at-least-once`, or leave `delivery` out and give edges that may lose rows \
             `policy: drop-oldest`"
                .to_owned(),
        );
    }
}

/// What goes over a durable edge is put into a queue by its sender, and taken out of it by its
/// reader: a program that knows nothing of that sends and reads nothing.
fn knows_queues(
    outline: &Outline<'_>,
    part: &Part<'_>,
    durable: bool,
    found: &mut Vec<Diagnostic>,
) {
    let says = part.node.entry("durableEdges");
    if let (Some(kind), Some(says)) = (part.kind, says) {
        let message = "`durableEdges` is for components of one's own";
        let problem = Diagnostic::error(Rule::Conflict, says.key_span, message);
        found.push(problem.note(format!("what `{kind}` can do is known")).help("remove it"));
    }
    let is_own = part.kind.is_none()
        && (part.node.get("command").is_some() || part.node.get("image").is_some());
    let knows = ["durableEdges", "transactional"];
    let knows = knows.iter().any(|name| part.node.get(name).and_then(Node::bool) == Some(true));
    if !is_own || knows {
        return;
    }
    let readers = outline.parts.iter().flat_map(|reader| &reader.links);
    let readers = readers.filter(|link| {
        let sender = link.source.and_then(|index| outline.parts.get(index));
        sender.is_some_and(|sender| std::ptr::eq(sender, part))
    });
    let is_durable =
        |link: &&Link<'_>| link.node.get("durable").and_then(Node::bool).unwrap_or(durable);
    let Some(link) = part.links.iter().chain(readers).find(is_durable) else { return };
    let entry = link.node.entry("durable").or_else(|| outline.root.entry("durable"));
    let message = format!("`{}` does not say that it knows durable edges", part.id);
    let mut problem = Diagnostic::error(Rule::Conflict, part.id_span, message);
    if let Some(entry) = entry {
        problem = problem.relate(entry.key_span, "durable by this");
    }
    let note = "its batches would reach no queue, and it would read none";
    found.push(problem.note(note).help(
        "set `durableEdges: true` if it is made with the Rust SDK, or `durable: false` for its edges",
    ));
}

struct Edge<'a> {
    link: &'a Link<'a>,
    reader: &'a Part<'a>,
    durable: bool,
}

impl Edge<'_> {
    fn policy(&self, outline: &Outline<'_>, found: &mut Vec<Diagnostic>) {
        let node = self.link.node;
        let policy = node.get("policy");
        let word = policy.and_then(Node::text);
        let span = policy.map_or(self.link.span, |policy| policy.span);
        if let Some(limit) = node.entry("spillLimit")
            && word != Some("spill")
        {
            let message = "`spillLimit` has no effect without `policy: spill`";
            let problem = Diagnostic::error(Rule::Conflict, limit.key_span, message);
            found.push(problem.help("add the policy, or remove the limit"));
        }
        if self.durable && matches!(word, Some("spill" | "drop-oldest")) {
            let word = word.unwrap_or_default();
            let message = format!("a durable edge cannot have the policy `{word}`");
            let problem = Diagnostic::error(Rule::Conflict, span, message);
            let problem = self.durable_here(outline, problem);
            found.push(problem.help(match word {
                "spill" => "remove the policy: what waits is in the store already",
                _ => "remove the policy, or set `durable: false` for this edge",
            }));
        }
        let promise = match outline.delivery {
            Some(Delivery::AtLeastOnce) => "at-least-once",
            Some(Delivery::ExactlyOnce) => "exactly-once",
            None => return,
        };
        if word == Some("drop-oldest") {
            let message = format!("`drop-oldest` loses rows, which `{promise}` forbids");
            let problem = Diagnostic::error(Rule::Conflict, span, message);
            let problem = promised(outline, problem);
            found.push(problem.help("use `block` or `spill`, or remove `delivery`"));
        }
    }

    /// Points at what makes the edge durable.
    fn durable_here(&self, outline: &Outline<'_>, problem: Diagnostic) -> Diagnostic {
        let entry = self.link.node.entry("durable").or_else(|| outline.root.entry("durable"));
        match entry {
            Some(entry) => problem.relate(entry.key_span, "durable by this"),
            None => problem,
        }
    }

    fn guarantee(&self, outline: &Outline<'_>, found: &mut Vec<Diagnostic>) {
        if outline.delivery != Some(Delivery::ExactlyOnce) || self.durable {
            return;
        }
        let span = self.link.node.entry("durable").map_or(self.link.span, |entry| entry.key_span);
        let message = format!(
            "`exactly-once` needs durable edges, and `{}` -> `{}` is none",
            self.link.from, self.reader.id
        );
        let problem = promised(outline, Diagnostic::error(Rule::Conflict, span, message));
        found.push(problem.help("set `durable: true` for this edge, or at the top for all"));
    }

    /// A table knows a batch again that is among the last of its sender.
    fn remembered(&self, found: &mut Vec<Diagnostic>) {
        let Some(node) = self.link.node.get("credits") else { return };
        let many = node.integer().filter(|credits| *credits > MOST_TO_A_TABLE);
        let Some(credits) = many.filter(|_| !self.durable && self.reader.is(Role::Sink, "adbc"))
        else {
            return;
        };
        let message = format!("`{}` does not know {credits} batches again", self.reader.id);
        let problem = Diagnostic::warning(Rule::Conflict, node.span, message);
        let problem = problem.note("those that are sent again after a crash would be there twice");
        found.push(problem.help(format!(
            "set `credits` to {MOST_TO_A_TABLE} or less, or `durable: true` for this edge"
        )));
    }

    fn partitioning(&self, outline: &Outline<'_>, found: &mut Vec<Diagnostic>) {
        let Some(chosen) = self.link.node.get("partitioning") else { return };
        let Some(sender) = self.link.source.map(|index| &outline.parts[index]) else { return };
        if chosen.text() == Some("forward") && sender.replicas != self.reader.replicas {
            let message = format!(
                "`forward` needs equally many instances: `{}` has {}, `{}` has {}",
                sender.id, sender.replicas, self.reader.id, self.reader.replicas
            );
            let problem = Diagnostic::error(Rule::Conflict, chosen.span, message);
            found.push(problem.help("make them equal, or use `round-robin` or `hash`"));
        }
    }
}

/// Points at the guarantee that was asked for.
fn promised(outline: &Outline<'_>, problem: Diagnostic) -> Diagnostic {
    match outline.root.get("delivery") {
        Some(delivery) => problem.relate(delivery.span, "promised here"),
        None => problem,
    }
}

/// Several instances of an aggregate have to get whole groups.
fn groups(outline: &Outline<'_>, part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    if !part.is(Role::Processor, "aggregate") || part.replicas < 2 {
        return;
    }
    let group_by = part.node.at(&["config", "groupBy"]).map_or(&[][..], Node::items);
    let group_by: Vec<&str> = group_by.iter().filter_map(Node::text).collect();
    let windowed = part.node.at(&["config", "window"]).is_some_and(|w| w.text() != Some("batch"));
    if !windowed {
        // Groups are within one batch, wherever it goes.
        return;
    }
    for link in &part.links {
        let hash = link.node.at(&["partitioning", "hash"]);
        let columns: Vec<&str> =
            hash.map_or(&[][..], Node::items).iter().filter_map(Node::text).collect();
        let whole = !columns.is_empty() && columns.iter().all(|column| group_by.contains(column));
        if !whole {
            let span = hash.map_or(link.span, |hash| hash.span);
            let message = format!(
                "the groups of `{}` would be split among its {} instances",
                part.id, part.replicas
            );
            let problem = Diagnostic::error(Rule::Conflict, span, message);
            let problem = match part.node.entry("replicas") {
                Some(entry) => problem.relate(entry.key_span, "several instances"),
                None => problem,
            };
            let columns =
                if group_by.is_empty() { "COLUMN".to_owned() } else { group_by.join(", ") };
            let from = &outline.parts.get(link.source.unwrap_or(usize::MAX));
            let from = from.map_or(link.from, |part| part.id);
            found.push(problem.help(match group_by.is_empty() {
                true => "use one instance: there is one group only".to_owned(),
                false => format!("write `{{from: {from}, partitioning: {{hash: [{columns}]}}}}`"),
            }));
        }
    }
}

/// `exactly-once` needs processors of which each batch comes out as a whole when it has gone
/// in: what they read is completed in the step that registers what came of it. What a
/// processor has kept back of several batches is gone after a crash, and made again of some
/// of them.
fn batch_by_batch(outline: &Outline<'_>, part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    if part.role != Role::Processor || outline.delivery != Some(Delivery::ExactlyOnce) {
        return;
    }
    let kind = part.node.get("kind").map_or(part.id_span, |kind| kind.span);
    let config = |name: &str| part.config().and_then(|config| config.entry(name));
    let (span, message, help) = match part.kind {
        Some("filter" | "project" | "enrich") => return,
        Some("aggregate" | "sql") => match config("window") {
            None => return,
            Some(window) if window.value.text() == Some("batch") => return,
            Some(window) => (
                window.key_span,
                "a window over several batches cannot be made exactly once",
                "use `window: batch`, or ask for `at-least-once`",
            ),
        },
        Some("merge") => match config("orderBy") {
            None => return,
            Some(order) => (
                order.key_span,
                "a merge in order holds batches back, and cannot be made exactly once",
                "leave `orderBy` out, or ask for `at-least-once`",
            ),
        },
        Some("exec") => (
            kind,
            "of a program it is not known what it keeps back: `exec` is not made exactly once",
            "ask for `at-least-once`",
        ),
        // Another check says that there is no such kind.
        Some(_) => return,
        None => (
            part.id_span,
            "of a processor of one's own it is not known what it keeps back between batches",
            "ask for `at-least-once`",
        ),
    };
    let problem = promised(outline, Diagnostic::error(Rule::Conflict, span, message));
    found.push(problem.help(help));
}

/// `exactly-once` needs sinks that can tell a repetition.
fn transaction(outline: &Outline<'_>, part: &Part<'_>, found: &mut Vec<Diagnostic>) {
    if part.role != Role::Sink {
        return;
    }
    let says = part.node.entry("transactional");
    if let (Some(kind), Some(says)) = (part.kind, says) {
        let message = "`transactional` is for sinks of one's own";
        let problem = Diagnostic::error(Rule::Conflict, says.key_span, message);
        found.push(problem.note(format!("what `{kind}` can do is known")).help("remove it"));
    }
    let able = match part.kind {
        Some(kind) => SinkConfig::is_transactional(kind),
        None => says.and_then(|says| says.value.bool()).unwrap_or(false),
    };
    if outline.delivery != Some(Delivery::ExactlyOnce) || able {
        return;
    }
    let kind = part.node.get("kind");
    let span: Span = kind.map_or(part.id_span, |kind| kind.span);
    let message = match part.kind {
        Some(kind) => format!("a sink of kind `{kind}` cannot write exactly once"),
        None => format!("`{}` does not say that it commits each batch once", part.id),
    };
    let problem = promised(outline, Diagnostic::error(Rule::Conflict, span, message));
    found.push(problem.help(match part.kind {
        Some(_) => "use `file` or `adbc`, or ask for `at-least-once`",
        None => "set `transactional: true` if it does",
    }));
}
