//! What a document says of its components, as far as it can be understood:
//! the checks of the graph go on where a field elsewhere is wrong.

use std::collections::HashMap;

use crate::diagnostics::{Diagnostic, Rule, Span};
use crate::spec::{Delivery, Node, Role};

/// The most components of a pipeline.
pub const MAX_COMPONENTS: usize = 10_000;
/// The most instances of all components together.
pub const MAX_INSTANCES: u64 = 10_000;
/// The most streams between instances.
pub const MAX_STREAMS: u64 = 1_000_000;

/// Stands for an identifier that is not there; none can look like it.
const NAMELESS: &str = "?";

/// All components, in the order of sources, processors and sinks.
pub(super) struct Outline<'a> {
    pub(super) root: &'a Node,
    pub(super) parts: Vec<Part<'a>>,
    /// The first component of each identifier.
    pub(super) by_id: HashMap<&'a str, usize>,
    pub(super) delivery: Option<Delivery>,
}

/// One component.
pub(super) struct Part<'a> {
    pub(super) role: Role,
    pub(super) node: &'a Node,
    pub(super) id: &'a str,
    pub(super) id_span: Span,
    pub(super) kind: Option<&'a str>,
    pub(super) replicas: u64,
    pub(super) links: Vec<Link<'a>>,
}

/// One input of a component.
pub(super) struct Link<'a> {
    pub(super) from: &'a str,
    pub(super) span: Span,
    /// The name alone, or the mapping with it.
    pub(super) node: &'a Node,
    /// The component that is read, where there is one.
    pub(super) source: Option<usize>,
}

impl<'a> Outline<'a> {
    pub(super) fn of(root: &'a Node) -> Self {
        let mut parts = Vec::new();
        for role in Role::ALL {
            let items = root.get(role.section()).map_or(&[][..], Node::items);
            parts.extend(items.iter().filter_map(|node| Part::of(role, node)));
        }
        let mut by_id = HashMap::new();
        for (index, part) in parts.iter().enumerate() {
            if part.id != NAMELESS {
                by_id.entry(part.id).or_insert(index);
            }
        }
        for part in &mut parts {
            for link in &mut part.links {
                link.source = by_id.get(link.from).copied();
            }
        }
        let delivery = root.get("delivery").and_then(Node::text);
        let delivery = delivery.and_then(|word| match word {
            "at-least-once" => Some(Delivery::AtLeastOnce),
            "exactly-once" => Some(Delivery::ExactlyOnce),
            _ => None,
        });
        Outline { root, parts, by_id, delivery }
    }

    /// Limits, and what a component needs whatever it is.
    pub(super) fn check(&self, found: &mut Vec<Diagnostic>) {
        self.limits(found);
        self.identifiers(found);
        for part in &self.parts {
            part.program(found);
        }
    }

    fn limits(&self, found: &mut Vec<Diagnostic>) {
        let span = self.root.entry("processors").or_else(|| self.root.entry("sources"));
        let span = span.map_or_else(Span::start, |entry| entry.key_span);
        let instances = self.parts.iter().map(|part| part.replicas).sum::<u64>();
        let streams = self.parts.iter().flat_map(|part| {
            let sources = part.links.iter().filter_map(|link| link.source);
            sources.map(|source| self.parts[source].replicas.saturating_mul(part.replicas))
        });
        for (count, most, what) in [
            (self.parts.len() as u64, MAX_COMPONENTS as u64, "components"),
            (instances, MAX_INSTANCES, "instances"),
            (streams.fold(0, u64::saturating_add), MAX_STREAMS, "streams between instances"),
        ] {
            if count > most {
                let message = format!("{count} {what} are over the limit of {most}");
                let problem = Diagnostic::error(Rule::Limit, span, message);
                found.push(problem.help("split the pipeline"));
            }
        }
    }

    fn identifiers(&self, found: &mut Vec<Diagnostic>) {
        for (index, part) in self.parts.iter().enumerate() {
            if let Some(first) = self.by_id.get(part.id).filter(|first| **first != index) {
                let first = &self.parts[*first];
                let message = format!("two components are called `{}`", part.id);
                let problem = Diagnostic::error(Rule::DuplicateId, part.id_span, message);
                let problem =
                    problem.relate(first.id_span, format!("the first one, a {}", first.role));
                found.push(problem.help("give each its own identifier"));
            }
        }
    }
}

impl<'a> Part<'a> {
    fn of(role: Role, node: &'a Node) -> Option<Self> {
        // Without an identifier it still reads others.
        let id = node.get("id").filter(|id| id.text().is_some());
        let inputs = node.get("inputs").filter(|_| role != Role::Source);
        // One name without brackets is wrong, and clear enough to go on with.
        let inputs = inputs.map_or(&[][..], |inputs| match inputs.text() {
            Some(_) => std::slice::from_ref(inputs),
            None => inputs.items(),
        });
        (!node.entries().is_empty()).then(|| Part {
            role,
            node,
            id: id.and_then(Node::text).unwrap_or(NAMELESS),
            id_span: id.map_or_else(|| node.pointer(), |id| id.span),
            kind: node.get("kind").and_then(Node::text),
            replicas: node
                .get("replicas")
                .and_then(Node::integer)
                .and_then(|count| u64::try_from(count).ok())
                .map_or(1, |count| count.clamp(1, 1_000)),
            links: inputs.iter().filter_map(Link::of).collect(),
        })
    }

    /// The configuration of the component.
    pub(super) fn config(&self) -> Option<&'a Node> {
        self.node.get("config")
    }

    /// Whether it is this built-in component.
    pub(super) fn is(&self, role: Role, kind: &str) -> bool {
        self.role == role && self.kind == Some(kind)
    }

    fn program(&self, found: &mut Vec<Diagnostic>) {
        let own = ["command", "image"].into_iter().find_map(|name| self.node.entry(name));
        match (self.node.entry("kind"), own) {
            (Some(kind), Some(own)) => {
                let message = format!("`{}` and `kind` exclude each other", own.key);
                let problem = Diagnostic::error(Rule::Conflict, own.key_span, message);
                let problem = problem.relate(kind.key_span, "a component that is built in");
                found.push(problem.help(format!(
                    "remove `kind` to run a program of your own, or `{}` for what is built in",
                    own.key
                )));
            }
            (None, None) => {
                let message =
                    format!("a {} says neither `kind` nor `command` nor `image`", self.role);
                let problem = Diagnostic::error(Rule::NoProgram, self.id_span, message);
                found.push(problem.help(format!(
                    "add `kind` with one of {}, or `command` or `image` with a program of your own",
                    self.role.kinds().join(", ")
                )));
            }
            _ => {}
        }
    }
}

impl<'a> Link<'a> {
    fn of(node: &'a Node) -> Option<Self> {
        let from = if node.text().is_some() { node } else { node.get("from")? };
        Some(Link { from: from.text()?, span: from.span, node, source: None })
    }
}
