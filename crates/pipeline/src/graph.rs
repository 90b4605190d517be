//! Pictures of a plan: for a terminal, for Graphviz, for a browser.

mod dot;
mod layout;
mod picture;
mod svg;
mod text;

use std::fmt;
use std::str::FromStr;

use crate::plan::{Edge, Plan, PlannedComponent};
use crate::spec::{Partitioning, Policy};

pub use picture::{ComponentBox, EdgeLine, Picture, Sizes, picture};

/// What a picture is drawn for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// A terminal.
    #[default]
    Text,
    /// Graphviz.
    Dot,
    /// A browser.
    Svg,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 3] = [Format::Text, Format::Dot, Format::Svg];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Dot => "dot",
            Format::Svg => "svg",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The word names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no format {0:?}: use text, dot or svg")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    /// # Errors
    /// [`UnknownFormat`] for every other word.
    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Format::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| UnknownFormat(text.chars().take(64).collect()))
    }
}

/// Draws a plan.
pub fn draw(plan: &Plan, format: Format) -> String {
    match format {
        Format::Text => text::draw(plan),
        Format::Dot => dot::draw(plan),
        Format::Svg => svg::draw(plan),
    }
}

/// What a component is, in a word: its kind, image or program.
fn what(component: &PlannedComponent) -> &str {
    let definition = &component.definition;
    let program = definition.command.first().map(String::as_str);
    let program = program.map(|path| path.rsplit('/').next().unwrap_or(path));
    let own = program.or(definition.image.as_deref());
    definition.kind.as_deref().or(own).unwrap_or_default()
}

/// What is particular about an edge, in a few words; empty where nothing is.
fn particulars(edge: &Edge) -> String {
    let mut words = Vec::new();
    if edge.durable {
        words.push("durable".to_owned());
    }
    if edge.policy != Policy::Block {
        words.push(edge.policy.as_str().to_owned());
    }
    // One stream leaves no choice of an instance.
    if edge.streams.len() > 1 || matches!(edge.partitioning, Partitioning::Hash(_)) {
        words.push(edge.partitioning.to_string());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests;
