//! Components with their readers below them, for a terminal.

use super::{particulars, what};
use crate::plan::{Plan, PlannedComponent};

/// One block for each component that sends, in the order of the flow.
pub(super) fn draw(plan: &Plan) -> String {
    let mut text = format!("{}\n", plan.pipeline);
    let width = plan.components.iter().map(|one| name(one).chars().count()).max().unwrap_or(0);
    for component in &plan.components {
        let kind = format!("{} {}", component.role, what(component));
        text.push_str(&format!("\n{:width$}  {}\n", name(component), kind.trim_end()));
        let edges: Vec<_> = plan.readers_of(&component.id).collect();
        for (index, edge) in edges.iter().enumerate() {
            let branch = if index + 1 == edges.len() { "└─>" } else { "├─>" };
            let about = particulars(edge);
            let about = if about.is_empty() { about } else { format!("  [{about}]") };
            text.push_str(&format!("{branch} {}{about}\n", edge.to));
        }
    }
    text
}

fn name(component: &PlannedComponent) -> String {
    match component.instances.len() {
        1 => component.id.clone(),
        count => format!("{} x{count}", component.id),
    }
}
