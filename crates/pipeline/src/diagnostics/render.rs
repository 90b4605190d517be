//! Problems for people: the line, a caret below it, and what to do.

use annotate_snippets::{
    Annotation, AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet,
};

use super::{Diagnostic, Report, Severity, Span};

/// How a report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether a terminal shows it in colours.
    pub colour: bool,
    /// Columns of the terminal.
    pub width: usize,
}

impl Default for Style {
    /// Without colours, 140 columns wide.
    fn default() -> Self {
        Style { colour: false, width: 140 }
    }
}

/// The most problems that are shown with their lines.
const MAX_SHOWN: usize = 100;

impl Report {
    /// Every problem with its lines, ready to be printed; empty where there is none.
    pub fn render(&self, style: Style) -> String {
        let renderer = if style.colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.term_width(style.width.max(40));
        let mut text = String::new();
        for diagnostic in self.diagnostics.iter().take(MAX_SHOWN) {
            text.push_str(&renderer.render(&self.groups(diagnostic)));
            text.push_str("\n\n");
        }
        let more = self.diagnostics.len().saturating_sub(MAX_SHOWN) + self.left_out;
        if more > 0 {
            text.push_str(&format!("… and {more} more\n\n"));
        }
        text
    }

    fn groups<'a>(&'a self, diagnostic: &'a Diagnostic) -> Vec<Group<'a>> {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = level.primary_title(&diagnostic.message).id(diagnostic.rule.as_str());
        let elements = self.elements(diagnostic);
        vec![Group::with_title(title).elements(elements)]
    }

    fn elements<'a>(&'a self, diagnostic: &'a Diagnostic) -> Vec<Element<'a>> {
        let mut elements: Vec<Element<'a>> = Vec::new();
        if self.text.is_empty() {
            elements.push(Origin::path(&*self.file).into());
        } else {
            elements.push(self.snippet(diagnostic).into());
        }
        let notes = diagnostic.notes.iter().map(|note| Level::NOTE.message(note).into());
        elements.extend(notes);
        elements.extend(diagnostic.help.iter().map(|help| Level::HELP.message(help).into()));
        elements
    }

    /// The lines around all places of a problem, without the rest of the file:
    /// cost is per problem, and files may be long.
    fn snippet<'a>(&'a self, diagnostic: &'a Diagnostic) -> Snippet<'a, Annotation<'a>> {
        let spans =
            || std::iter::once(diagnostic.span).chain(diagnostic.related.iter().map(|r| r.0));
        let first = spans().min_by_key(|span| span.start).unwrap_or_default();
        let last = spans().map(|span| span.end.max(span.start)).max().unwrap_or_default();
        let start = line_start(&self.text, first.start);
        let end = line_end(&self.text, last);
        let shown = &self.text[start..end];
        let within = |span: Span| range_within(shown, span, start);
        let primary = AnnotationKind::Primary.span(within(diagnostic.span));
        let primary = primary.label(diagnostic.label.as_deref());
        let related = diagnostic
            .related
            .iter()
            .map(|(span, label)| AnnotationKind::Context.span(within(*span)).label(label.as_str()));
        Snippet::source(shown)
            .line_start(usize::try_from(first.line).unwrap_or(1).max(1))
            .path(&*self.file)
            .annotation(primary)
            .annotations(related)
    }
}

/// The bytes of a span within the part that is shown: at least one character,
/// at most to the end of its first line.
fn range_within(shown: &str, span: Span, offset: usize) -> std::ops::Range<usize> {
    let start = boundary(shown, span.start.saturating_sub(offset));
    let end = boundary(shown, span.end.saturating_sub(offset)).max(start);
    let line = shown[start..].find('\n').map_or(shown.len(), |length| start + length);
    let end = end.min(line);
    if end > start {
        return start..end;
    }
    let next = shown[start..].chars().next().filter(|c| *c != '\n');
    start..start + next.map_or(0, char::len_utf8)
}

fn boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn line_start(text: &str, at: usize) -> usize {
    let at = boundary(text, at);
    text[..at].rfind('\n').map_or(0, |index| index + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    let at = boundary(text, at);
    text[at..].find('\n').map_or(text.len(), |length| at + length)
}
