//! A picture for a browser.

use super::picture::{ComponentBox, EdgeLine, Sizes, add, caption, name, picture};
use crate::plan::Plan;

/// A whole document, with its own colours for light and dark.
pub(super) fn draw(plan: &Plan) -> String {
    let sizes = Sizes::DOCUMENT;
    let picture = picture(plan, sizes);
    let (width, height) = (picture.width, picture.height);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"0 0 {width:.0} {height:.0}\" role=\"img\">\n<title>{}</title>\n{STYLE}",
        escaped(&plan.pipeline)
    );
    svg.push_str("<rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n");
    svg.push_str(&format!(
        "<text class=\"name\" x=\"{}\" y=\"{:.0}\">{}</text>\n",
        sizes.margin,
        sizes.header - 2.0,
        escaped(&plan.pipeline)
    ));
    picture.lines.iter().for_each(|one| line(&mut svg, one));
    picture.boxes.iter().for_each(|one| node(&mut svg, one));
    picture.lines.iter().for_each(|one| label(&mut svg, one));
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

fn node(svg: &mut String, one: &ComponentBox) {
    let class = one.role;
    let (middle, centre) = (one.y + one.height / 2.0, one.x + one.width / 2.0);
    // A second box behind the first stands for several instances.
    for offset in if one.instances > 1 { &[5.0, 0.0][..] } else { &[0.0][..] } {
        add(
            svg,
            format_args!(
                "<rect class=\"box {class}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" \
             height=\"{}\" rx=\"{}\"/>\n",
                one.x + offset,
                one.y + offset,
                one.width,
                one.height,
                if class == "processor" { 6 } else { 20 },
            ),
        );
    }
    add(
        svg,
        format_args!(
            "<text class=\"id\" x=\"{centre:.1}\" y=\"{:.1}\">{}</text>\n\
         <text class=\"what\" x=\"{centre:.1}\" y=\"{:.1}\">{}</text>\n",
            middle - 2.0,
            escaped(&name(&one.id, one.instances)),
            middle + 15.0,
            escaped(&caption(class, &one.what)),
        ),
    );
}

fn line(svg: &mut String, one: &EdgeLine) {
    let class = if one.durable { "edge durable" } else { "edge" };
    let title = escaped(&format!("{} -> {}", one.from, one.to));
    let path = &one.path;
    add(svg, format_args!("<path class=\"{class}\" d=\"{path}\"><title>{title}</title></path>\n"));
}

/// In the middle of the gap before the reader.
fn label(svg: &mut String, one: &EdgeLine) {
    let (x, y, text) = (one.x, one.y - 5.0, &one.about);
    if text.is_empty() {
        return;
    }
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
