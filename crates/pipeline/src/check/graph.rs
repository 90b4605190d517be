//! Who reads whom: names that lead nowhere, circles, ends that are loose.

use std::collections::{HashSet, VecDeque};

use super::outline::Outline;
use crate::diagnostics::{Diagnostic, Rule, closest};
use crate::spec::Role;

/// Checks the edges between components.
pub(super) fn check(outline: &Outline<'_>, found: &mut Vec<Diagnostic>) {
    let edges = names(outline, found);
    let graph = Graph::of(outline.parts.len(), &edges);
    let circles = graph.circles();
    for circle in &circles {
        report_circle(outline, &graph, circle, found);
    }
    unreachable(outline, &graph, &circles, found);
    unread(outline, &graph, found);
}

/// Reports names that are no sender, and gives the edges that remain.
fn names(outline: &Outline<'_>, found: &mut Vec<Diagnostic>) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    for (reader, part) in outline.parts.iter().enumerate() {
        let mut seen: HashSet<&str> = HashSet::new();
        for (index, link) in part.links.iter().enumerate() {
            if !seen.insert(link.from) {
                let first = part.links[..index].iter().find(|other| other.from == link.from);
                let message = format!("`{}` reads `{}` twice", part.id, link.from);
                let problem = Diagnostic::error(Rule::DuplicateInput, link.span, message);
                found.push(match first {
                    Some(first) => problem.relate(first.span, "the first time"),
                    None => problem,
                });
                continue;
            }
            match link.source {
                Some(source) if outline.parts[source].role == Role::Sink => {
                    let sink = &outline.parts[source];
                    let message = format!("`{}` cannot be read: it is a sink", link.from);
                    let problem = Diagnostic::error(Rule::UnknownInput, link.span, message);
                    let problem = problem.relate(sink.id_span, "rows end here");
                    found.push(
                        problem.help(format!(
                            "read what `{}` reads, to have the same rows",
                            link.from
                        )),
                    );
                }
                Some(source) => edges.push((source, reader)),
                None => found.push(unknown(outline, part.id, link.from, link.span)),
            }
        }
    }
    edges
}

fn unknown(
    outline: &Outline<'_>,
    reader: &str,
    from: &str,
    span: crate::diagnostics::Span,
) -> Diagnostic {
    let message = format!("there is no component `{from}` to read");
    let problem = Diagnostic::error(Rule::UnknownInput, span, message);
    let senders = outline.parts.iter().filter(|part| part.role != Role::Sink && part.id != reader);
    let senders: Vec<&str> = senders.map(|part| part.id).collect();
    match closest(from, senders.iter().copied()) {
        Some(like) => problem.help(format!("did you mean `{like}`?")),
        None if senders.is_empty() => problem,
        None => {
            let shown: Vec<String> = senders.iter().take(12).map(|id| format!("`{id}`")).collect();
            let more = if senders.len() > 12 { ", …" } else { "" };
            problem.help(format!("the components to read are {}{more}", shown.join(", ")))
        }
    }
}

/// Edges by both of their ends.
struct Graph {
    readers: Vec<Vec<usize>>,
    senders: Vec<Vec<usize>>,
}

impl Graph {
    fn of(count: usize, edges: &[(usize, usize)]) -> Self {
        let mut graph =
            Graph { readers: vec![Vec::new(); count], senders: vec![Vec::new(); count] };
        for &(from, to) in edges {
            graph.readers[from].push(to);
            graph.senders[to].push(from);
        }
        graph
    }

    /// One circle, as short as can be, for each group of components that all
    /// lead to each other. In time proportional to the edges, without recursion.
    fn circles(&self) -> Vec<Vec<usize>> {
        let group = self.groups();
        let mut done = HashSet::new();
        let mut circles = Vec::new();
        for start in 0..self.readers.len() {
            let own = self.readers[start].contains(&start);
            let others =
                || self.readers[start].iter().any(|to| *to != start && group[*to] == group[start]);
            if (own || others()) && done.insert(group[start]) {
                circles.push(self.circle(start, &group));
            }
        }
        circles
    }

    /// The shortest way from `start` back to it within its group.
    fn circle(&self, start: usize, group: &[usize]) -> Vec<usize> {
        let mut before: Vec<Option<usize>> = vec![None; self.readers.len()];
        let mut queue = VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for &next in &self.readers[at] {
                if next == start {
                    let mut way = vec![at];
                    let mut back = at;
                    while let Some(earlier) = before[back].filter(|_| back != start) {
                        way.push(earlier);
                        back = earlier;
                    }
                    way.reverse();
                    return way;
                }
                if group[next] == group[start] && before[next].is_none() {
                    before[next] = Some(at);
                    queue.push_back(next);
                }
            }
        }
        vec![start]
    }

    /// Which group of components that lead to each other each one is in
    /// (Kosaraju's two passes).
    fn groups(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.readers.len());
        let mut seen = vec![false; self.readers.len()];
        for start in 0..self.readers.len() {
            let mut stack = vec![(start, 0)];
            while let Some((at, next)) = stack.pop() {
                if next == 0 && std::mem::replace(&mut seen[at], true) {
                    continue;
                }
                match self.readers[at].get(next) {
                    Some(reader) => {
                        stack.push((at, next + 1));
                        if !seen[*reader] {
                            stack.push((*reader, 0));
                        }
                    }
                    None => order.push(at),
                }
            }
        }
        let mut group = vec![usize::MAX; self.readers.len()];
        for &root in order.iter().rev() {
            let mut stack = vec![root];
            while let Some(at) = stack.pop() {
                if group[at] == usize::MAX {
                    group[at] = root;
                    stack
                        .extend(self.senders[at].iter().filter(|from| group[**from] == usize::MAX));
                }
            }
        }
        group
    }

    /// All that can be reached from `starts`.
    fn reached(&self, starts: impl Iterator<Item = usize>) -> Vec<bool> {
        let mut reached = vec![false; self.readers.len()];
        let mut stack: Vec<usize> = starts.collect();
        while let Some(at) = stack.pop() {
            if !std::mem::replace(&mut reached[at], true) {
                stack.extend(&self.readers[at]);
            }
        }
        reached
    }
}

fn report_circle(
    outline: &Outline<'_>,
    graph: &Graph,
    circle: &[usize],
    found: &mut Vec<Diagnostic>,
) {
    let id = |index: usize| outline.parts[index].id;
    // The input of `reader` that names `sender`.
    let link = |sender: usize, reader: usize| {
        outline.parts[reader].links.iter().find(|link| link.source == Some(sender))
    };
    let [first, .., last] = circle else {
        let [only] = circle else { return };
        let span = link(*only, *only).map_or(outline.parts[*only].id_span, |link| link.span);
        let message = format!("`{}` reads itself", id(*only));
        let problem = Diagnostic::error(Rule::Cycle, span, message);
        found.push(problem.help("name a component before it"));
        return;
    };
    debug_assert!(graph.readers[*last].contains(first), "the circle is closed");
    let mut path: Vec<&str> = circle.iter().map(|index| id(*index)).take(20).collect();
    if circle.len() > 20 {
        path.push("…");
    }
    path.push(id(*first));
    let span = link(*last, *first).map_or(outline.parts[*first].id_span, |link| link.span);
    let message = format!("rows go round in a circle: {}", path.join(" -> "));
    let mut problem = Diagnostic::error(Rule::Cycle, span, message);
    problem = problem.label(format!("`{}` reads `{}`", id(*first), id(*last)));
    for pair in circle.windows(2).take(20) {
        if let Some(link) = link(pair[0], pair[1]) {
            let text = format!("`{}` reads `{}`", id(pair[1]), id(pair[0]));
            problem = problem.relate(link.span, text);
        }
    }
    found.push(problem.help("take one of these inputs away"));
}

/// Components that only circles lead to. Those behind an input that is wrong
/// in itself are passed over: that input has been reported.
fn unreachable(
    outline: &Outline<'_>,
    graph: &Graph,
    circles: &[Vec<usize>],
    found: &mut Vec<Diagnostic>,
) {
    let fine = |index: usize| {
        let part = &outline.parts[index];
        let complete = part.links.iter().all(|link| link.source.is_some());
        let reads = !part.links.is_empty() && complete && !graph.senders[index].is_empty();
        part.role != Role::Source && reads
    };
    let starts = (0..outline.parts.len()).filter(|index| !fine(*index));
    let reached = graph.reached(starts);
    let group = graph.groups();
    let circular: HashSet<usize> = circles.iter().map(|circle| group[circle[0]]).collect();
    for (index, part) in outline.parts.iter().enumerate() {
        if !reached[index] && !circular.contains(&group[index]) {
            let message = format!("no source leads to `{}`", part.id);
            let problem = Diagnostic::error(Rule::Unreachable, part.id_span, message);
            found.push(problem.note("all that it reads comes out of a circle"));
        }
    }
}

fn unread(outline: &Outline<'_>, graph: &Graph, found: &mut Vec<Diagnostic>) {
    for (index, part) in outline.parts.iter().enumerate() {
        let first = outline.by_id.get(part.id) == Some(&index);
        if first && part.role != Role::Sink && graph.readers[index].is_empty() {
            let message = format!("nobody reads `{}`", part.id);
            let problem = Diagnostic::warning(Rule::Unread, part.id_span, message);
            found.push(problem.help(format!(
                "name it in the `inputs` of a component, or remove the {}",
                part.role
            )));
        }
    }
}
