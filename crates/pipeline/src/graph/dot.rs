//! The language of Graphviz.

use super::{particulars, what};
use crate::plan::Plan;
use crate::spec::Role;

/// A directed graph, from left to right.
pub(super) fn draw(plan: &Plan) -> String {
    let mut text = format!("digraph {} {{\n", quoted(&plan.pipeline));
    text.push_str("  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
    text.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for component in &plan.components {
        let shape = match component.role {
            Role::Source => "invhouse",
            Role::Processor => "box",
            Role::Sink => "cylinder",
        };
        let replicas = match component.instances.len() {
            1 => String::new(),
            count => format!(" x{count}"),
        };
        let label = format!("{}{replicas}\n{}", component.id, what(component));
        text.push_str(&format!(
            "  {} [label={}, shape={shape}];\n",
            quoted(&component.id),
            quoted(&label)
        ));
    }
    for edge in &plan.edges {
        let about = particulars(edge);
        let style = if edge.durable { ", style=bold" } else { "" };
        text.push_str(&format!(
            "  {} -> {} [label={}{style}];\n",
            quoted(&edge.from),
            quoted(&edge.to),
            quoted(&about)
        ));
    }
    text.push_str("}\n");
    text
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}
