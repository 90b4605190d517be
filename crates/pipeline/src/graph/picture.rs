//! Where everything stands in a picture, for whoever draws it.

use std::fmt::Write as _;

use serde::Serialize;

use super::layout::{Layout, Place};
use super::{particulars, what};
use crate::plan::{Plan, PlannedComponent};

/// Of a character of the font, at its largest.
const LETTER: f64 = 8.2;
const SMALL_LETTER: f64 = 6.4;

/// The lengths that a picture is made with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Of the box of a component.
    pub box_height: f64,
    /// A box is at least so wide, and wider where its texts are.
    pub box_width: f64,
    /// From one box to that below it, top to top.
    pub row: f64,
    /// Between two columns.
    pub gap: f64,
    /// Around everything.
    pub margin: f64,
    /// Above everything.
    pub header: f64,
}

impl Sizes {
    /// Boxes with two lines, and a title above.
    pub const DOCUMENT: Sizes = Sizes {
        box_height: 52.0,
        box_width: 110.0,
        row: 84.0,
        gap: 130.0,
        margin: 32.0,
        header: 36.0,
    };
}

/// A plan with places: lengths are in pixels, from the top left.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Picture {
    /// Of all of it.
    pub width: f64,
    /// Of all of it.
    pub height: f64,
    /// In the order of the plan's components.
    pub boxes: Vec<ComponentBox>,
    /// In the order of the plan's edges.
    pub lines: Vec<EdgeLine>,
}

/// One component.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ComponentBox {
    /// The component.
    pub id: String,
    /// What it is to the pipeline.
    pub role: &'static str,
    /// Its kind, image or program.
    pub what: String,
    /// How many run.
    pub instances: usize,
    /// Its left side.
    pub x: f64,
    /// Its top.
    pub y: f64,
    /// All boxes of a picture are equally wide.
    pub width: f64,
    /// All boxes of a picture are equally high.
    pub height: f64,
}

/// One edge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EdgeLine {
    /// `FROM:TO`.
    pub id: String,
    /// The component that sends.
    pub from: String,
    /// The component that reads.
    pub to: String,
    /// The way of the line, as SVG writes it.
    pub path: String,
    /// The middle of the gap before the reader: there is room for a text.
    pub x: f64,
    /// Where the line is there.
    pub y: f64,
    /// What is particular about it; empty where nothing is.
    pub about: String,
    /// Whether batches go through store and coordinator.
    pub durable: bool,
}

/// Lays out a plan.
pub fn picture(plan: &Plan, sizes: Sizes) -> Picture {
    let layout = Layout::of(plan);
    let widest = plan.components.iter().map(text_width).fold(sizes.box_width, f64::max);
    let frame = Frame { sizes: Sizes { box_width: widest, ..sizes } };
    let boxes = plan.components.iter().zip(&layout.places);
    let lines = plan.edges.iter().zip(&layout.ways);
    Picture {
        width: frame.width(layout.columns),
        height: frame.height(layout.rows),
        boxes: boxes.map(|(component, place)| frame.component(component, *place)).collect(),
        lines: lines
            .map(|(edge, way)| {
                let (x, y) = frame.label(way);
                EdgeLine {
                    id: edge.id.clone(),
                    from: edge.from.clone(),
                    to: edge.to.clone(),
                    path: frame.path(way),
                    x,
                    y,
                    about: particulars(edge),
                    durable: edge.durable,
                }
            })
            .collect(),
    }
}

struct Frame {
    sizes: Sizes,
}

impl Frame {
    #[allow(clippy::cast_precision_loss, reason = "columns are few")]
    fn width(&self, columns: usize) -> f64 {
        let Sizes { margin, box_width, gap, .. } = self.sizes;
        let columns = columns.max(1) as f64;
        2.0 * margin + columns * box_width + (columns - 1.0) * gap
    }

    fn height(&self, rows: f64) -> f64 {
        let Sizes { header, margin, row, box_height, .. } = self.sizes;
        header + 2.0 * margin + (rows - 1.0) * row + box_height
    }

    #[allow(clippy::cast_precision_loss, reason = "columns are few")]
    fn left(&self, place: Place) -> f64 {
        self.sizes.margin + place.column as f64 * (self.sizes.box_width + self.sizes.gap)
    }

    fn middle(&self, place: Place) -> f64 {
        let Sizes { header, margin, row, box_height, .. } = self.sizes;
        header + margin + place.row * row + box_height / 2.0
    }

    fn component(&self, component: &PlannedComponent, place: Place) -> ComponentBox {
        ComponentBox {
            id: component.id.clone(),
            role: component.role.as_str(),
            what: what(component).to_owned(),
            instances: component.instances.len(),
            x: self.left(place),
            y: self.middle(place) - self.sizes.box_height / 2.0,
            width: self.sizes.box_width,
            height: self.sizes.box_height,
        }
    }

    /// A smooth line through the places of a way.
    fn path(&self, way: &[Place]) -> String {
        let (Some(first), Some(last)) = (way.first(), way.last()) else { return String::new() };
        let mut at = (self.left(*first) + self.sizes.box_width, self.middle(*first));
        let mut path = format!("M{:.1} {:.1}", at.0, at.1);
        for place in &way[1..] {
            let to = (self.left(*place), self.middle(*place));
            let bend = (to.0 - at.0) / 2.0;
            let (out, into) = (at.0 + bend, to.0 - bend);
            let curve = format_args!(
                " C{out:.1} {:.1} {into:.1} {:.1} {:.1} {:.1}",
                at.1, to.1, to.0, to.1
            );
            add(&mut path, curve);
            at = to;
            if place != last {
                // Straight on across the column that it passes.
                at.0 += self.sizes.box_width;
                add(&mut path, format_args!(" H{:.1}", at.0));
            }
        }
        path
    }

    /// The middle of the gap before the reader.
    fn label(&self, way: &[Place]) -> (f64, f64) {
        let [.., before, last] = way else { return (0.0, 0.0) };
        let x = self.left(*last) - self.sizes.gap / 2.0;
        (x, f64::midpoint(self.middle(*before), self.middle(*last)))
    }
}

#[allow(clippy::cast_precision_loss, reason = "names are short")]
fn text_width(component: &PlannedComponent) -> f64 {
    let name = name(&component.id, component.instances.len()).chars().count() as f64 * LETTER;
    let caption = caption(component.role.as_str(), what(component));
    name.max(caption.chars().count() as f64 * SMALL_LETTER) + 28.0
}

/// The name that is shown, with how many there are of it.
pub(super) fn name(id: &str, instances: usize) -> String {
    match instances {
        1 => id.to_owned(),
        count => format!("{id} ×{count}"),
    }
}

/// Role and kind; the name of a program or image is cut at 30 characters.
pub(super) fn caption(role: &str, what: &str) -> String {
    let cut: String = what.chars().take(30).collect();
    let more = if cut.len() < what.len() { "…" } else { "" };
    format!("{role} · {cut}{more}")
}

pub(super) fn add(text: &mut String, part: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let written = text.write_fmt(part);
    debug_assert!(written.is_ok());
}
