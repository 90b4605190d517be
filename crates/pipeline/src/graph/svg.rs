//! A picture for a browser.

use std::fmt::Write as _;

use super::layout::{Layout, Place};
use super::{particulars, what};
use crate::plan::{Plan, PlannedComponent};
use crate::spec::Role;

const BOX_HEIGHT: f64 = 52.0;
const ROW: f64 = 84.0;
const GAP: f64 = 130.0;
const MARGIN: f64 = 32.0;
const HEADER: f64 = 36.0;
/// Of a character of the font, at its largest.
const LETTER: f64 = 8.2;
const SMALL_LETTER: f64 = 6.4;

/// The lengths of a picture.
struct Frame {
    box_width: f64,
}

impl Frame {
    #[allow(clippy::cast_precision_loss, reason = "columns are few")]
    fn left(&self, place: Place) -> f64 {
        MARGIN + place.column as f64 * (self.box_width + GAP)
    }

    fn middle(&self, place: Place) -> f64 {
        HEADER + MARGIN + place.row * ROW + BOX_HEIGHT / 2.0
    }
}

/// A whole document, with its own colours for light and dark.
pub(super) fn draw(plan: &Plan) -> String {
    let layout = Layout::of(plan);
    let widest = plan.components.iter().map(width).fold(110.0, f64::max);
    let frame = Frame { box_width: widest };
    #[allow(clippy::cast_precision_loss, reason = "columns are few")]
    let columns = layout.columns.max(1) as f64;
    let width = 2.0 * MARGIN + columns * frame.box_width + (columns - 1.0) * GAP;
    let height = HEADER + 2.0 * MARGIN + (layout.rows - 1.0) * ROW + BOX_HEIGHT;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{}</title>\n{STYLE}",
        escaped(&plan.pipeline)
    );
    svg.push_str("<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n");
    svg.push_str(&format!(
        "<text class=\"name\" x=\"{MARGIN}\" y=\"{:.0}\">{}</text>\n",
        HEADER - 2.0,
        escaped(&plan.pipeline)
    ));
    for (edge, way) in plan.edges.iter().zip(&layout.ways) {
        let class = if edge.durable { "edge durable" } else { "edge" };
        line(&mut svg, &frame, way, class, &format!("{} -> {}", edge.from, edge.to));
    }
    for (component, place) in plan.components.iter().zip(&layout.places) {
        node(&mut svg, &frame, component, *place);
    }
    for (edge, way) in plan.edges.iter().zip(&layout.ways) {
        label(&mut svg, &frame, way, &particulars(edge));
    }
    svg.push_str("</svg>\n");
    svg
}

const STYLE: &str = "<style>
.paper { fill: #ffffff }
text { font-family: system-ui, sans-serif; fill: #1d2733 }
.name { font-size: 15px; font-weight: 600 }
.id { font-size: 14px; font-weight: 600; text-anchor: middle }
.what { font-size: 11px; fill: #5b6875; text-anchor: middle }
.about { font-size: 10px; fill: #5b6875; text-anchor: middle; paint-order: stroke; stroke: #ffffff; stroke-width: 4px }
.box { stroke-width: 1.5 }
.source { fill: #e4f3ea; stroke: #2e8b57 }
.processor { fill: #e8effa; stroke: #3a6fb7 }
.sink { fill: #fbeede; stroke: #c77d1e }
.edge { fill: none; stroke: #7d8a97; stroke-width: 1.5; marker-end: url(#tip) }
.durable { stroke-width: 3 }
#tip path { fill: #7d8a97 }
@media (prefers-color-scheme: dark) {
.paper { fill: #12171d } text { fill: #e6ebf0 } .what, .about { fill: #9aa7b4 } .about { stroke: #12171d }
.source { fill: #16301f } .processor { fill: #17263c } .sink { fill: #35260f }
}
</style>
<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" \
markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\"/></marker></defs>
";

#[allow(clippy::cast_precision_loss, reason = "names are short")]
fn width(component: &PlannedComponent) -> f64 {
    let name = name(component).chars().count() as f64 * LETTER;
    let below = caption(component).chars().count() as f64 * SMALL_LETTER;
    name.max(below) + 28.0
}

fn name(component: &PlannedComponent) -> String {
    match component.instances.len() {
        1 => component.id.clone(),
        count => format!("{} ×{count}", component.id),
    }
}

/// Role and kind; the name of a program or image is cut at 30 characters.
fn caption(component: &PlannedComponent) -> String {
    let what = what(component);
    let cut: String = what.chars().take(30).collect();
    let more = if cut.len() < what.len() { "…" } else { "" };
    format!("{} · {cut}{more}", component.role)
}

fn node(svg: &mut String, frame: &Frame, component: &PlannedComponent, place: Place) {
    let (left, middle) = (frame.left(place), frame.middle(place));
    let (top, centre) = (middle - BOX_HEIGHT / 2.0, left + frame.box_width / 2.0);
    let class = component.role.as_str();
    let shadow = component.instances.len() > 1;
    // A second box behind the first stands for several instances.
    for offset in if shadow { &[5.0, 0.0][..] } else { &[0.0][..] } {
        add(
            svg,
            format_args!(
                "<rect class=\"box {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
             height=\"{BOX_HEIGHT}\" rx=\"{}\"/>\n",
                left + offset,
                top + offset,
                frame.box_width,
                if component.role == Role::Processor { 6 } else { 20 },
            ),
        );
    }
    add(
        svg,
        format_args!(
            "<text class=\"id\" x=\"{centre:.1}\" y=\"{:.1}\">{}</text>\n\
         <text class=\"what\" x=\"{centre:.1}\" y=\"{:.1}\">{}</text>\n",
            middle - 2.0,
            escaped(&name(component)),
            middle + 15.0,
            escaped(&caption(component)),
        ),
    );
}

/// A smooth line through the places of a way.
fn line(svg: &mut String, frame: &Frame, way: &[Place], class: &str, title: &str) {
    let (Some(first), Some(last)) = (way.first(), way.last()) else { return };
    let mut path =
        format!("M{:.1} {:.1}", frame.left(*first) + frame.box_width, frame.middle(*first));
    let mut at = (frame.left(*first) + frame.box_width, frame.middle(*first));
    for place in &way[1..] {
        let to = (frame.left(*place), frame.middle(*place));
        let bend = (to.0 - at.0) / 2.0;
        add(
            &mut path,
            format_args!(
                " C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}",
                at.0 + bend,
                at.1,
                to.0 - bend,
                to.1,
                to.0,
                to.1
            ),
        );
        at = to;
        if place != last {
            // Straight on across the column that it passes.
            at.0 += frame.box_width;
            add(&mut path, format_args!(" H{:.1}", at.0));
        }
    }
    add(
        svg,
        format_args!(
            "<path class=\"{class}\" d=\"{path}\"><title>{}</title></path>\n",
            escaped(title)
        ),
    );
}

/// In the middle of the gap before the reader.
fn label(svg: &mut String, frame: &Frame, way: &[Place], text: &str) {
    let [.., before, last] = way else { return };
    if text.is_empty() {
        return;
    }
    let x = frame.left(*last) - GAP / 2.0;
    let y = (frame.middle(*before) + frame.middle(*last)) / 2.0 - 5.0;
    let cut: String = text.chars().take(24).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    add(
        svg,
        format_args!(
            "<text class=\"about\" x=\"{x:.1}\" y=\"{y:.1}\">{}{more}<title>{}</title></text>\n",
            escaped(&cut),
            escaped(text)
        ),
    );
}

fn add(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let written = text.write_fmt(part);
    debug_assert!(written.is_ok());
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
