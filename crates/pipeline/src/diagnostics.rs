//! What is wrong with a file, and where: for people as `rustc` shows it, for
//! programs as JSON.

mod json;
mod render;
mod rule;
mod suggest;

use std::fmt;

use serde::Serialize;
use serde_saphyr::Location;
use sheaf_retry::{Code, Retryable};

pub use render::Style;
pub use rule::Rule;
pub(crate) use suggest::closest;

/// The most problems of one file that are reported; what is wrong a thousand
/// times is wrong in one place that is repeated.
pub const MAX_PROBLEMS: usize = 1_000;

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
    /// The line of the first byte, from 1.
    pub line: u32,
    /// The character of the first byte within its line, from 1.
    pub column: u32,
}

impl Span {
    /// The beginning of a file.
    pub(crate) fn start() -> Self {
        Span { start: 0, end: 0, line: 1, column: 1 }
    }

    /// As [`Span::of`], for a location that may lack its bytes.
    pub(crate) fn within(text: &str, location: &Location) -> Self {
        let mut span = Span::of(location);
        if location.span().byte_offset().is_some_and(|start| start > 0) {
            return span;
        }
        let line = usize::try_from(span.line).unwrap_or(1).saturating_sub(1);
        let column = usize::try_from(span.column).unwrap_or(1).saturating_sub(1);
        let before: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = &text[before..];
        span.start = before + rest.chars().take(column).map(char::len_utf8).sum::<usize>();
        span.end = span.start;
        span
    }

    pub(crate) fn of(location: &Location) -> Self {
        let span = location.span();
        let start = span.byte_offset().and_then(|start| usize::try_from(start).ok());
        let length = span.byte_len().and_then(|length| usize::try_from(length).ok());
        let start = start.unwrap_or_default();
        Span {
            start,
            end: start + length.unwrap_or_default(),
            line: u32::try_from(location.line()).unwrap_or(u32::MAX),
            column: u32::try_from(location.column()).unwrap_or(u32::MAX),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and may not do what was meant.
    Warning,
}

/// One problem of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Which rule the file breaks.
    pub rule: Rule,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub span: Span,
    /// What to say at the place.
    pub label: Option<String>,
    /// Other places that belong to it, and what to say there.
    pub related: Vec<(Span, String)>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Diagnostic {
            severity: Severity::Error,
            rule,
            message: message.into(),
            span,
            label: None,
            related: Vec::new(),
            notes: Vec::new(),
            help: None,
        }
    }

    pub(crate) fn warning(rule: Rule, span: Span, message: impl Into<String>) -> Self {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(rule, span, message) }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn relate(mut self, span: Span, text: impl Into<String>) -> Self {
        self.related.push((span, text.into()));
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// All problems of one file, in the order of their places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    file: String,
    text: String,
    diagnostics: Vec<Diagnostic>,
    /// Problems beyond [`MAX_PROBLEMS`].
    left_out: usize,
}

impl Report {
    pub(crate) fn new(file: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|one| (one.span.start, one.severity, one.span.end));
        diagnostics.dedup();
        let left_out = diagnostics.len().saturating_sub(MAX_PROBLEMS);
        // A file that is refused for its size is not carried around.
        let text = if text.len() > crate::spec::MAX_DOCUMENT_BYTES { "" } else { text };
        diagnostics.truncate(MAX_PROBLEMS);
        Report { file: file.to_owned(), text: text.to_owned(), diagnostics, left_out }
    }

    /// The name of the file, as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The problems, in the order of their places.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many make the file unusable.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many do not.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|one| one.severity == severity).count()
    }
}

impl fmt::Display for Report {
    /// One line a problem: `FILE:LINE:COLUMN: error[RULE]: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.diagnostics.iter().enumerate() {
            let severity = match one.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let (line, column) = (one.span.line, one.span.column);
            let separator = if index == 0 { "" } else { "\n" };
            write!(
                f,
                "{separator}{}:{line}:{column}: {severity}[{}]: {}",
                self.file, one.rule, one.message
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

impl Retryable for Report {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}
