//! Tests of pictures.

use super::layout::Layout;
use super::*;
use crate::check::check;

const TEXT: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: shop}
sources:
  - {id: orders, kind: generate, config: {columns: [{name: n, values: sequence}]}}
processors:
  - {id: small, kind: filter, replicas: 2, config: {where: n < 10}, inputs: [orders]}
  - {id: big, command: [./bin/big & co], inputs: [{from: orders, policy: drop-oldest}]}
  - {id: late, kind: merge, inputs: [small, big]}
sinks:
  - {id: out, kind: stdout, inputs: [{from: late, durable: true}]}
  - {id: raw, kind: stdout, inputs: [orders]}
";

fn plan() -> Plan {
    Plan::new(&check("shop.yaml", TEXT).unwrap().pipeline)
}

#[test]
fn a_terminal_gets_components_with_their_readers() {
    let expected = "\
shop

orders    source generate
├─> small  [round-robin]
├─> big  [drop-oldest]
└─> raw

small x2  processor filter
└─> late  [round-robin]

big       processor big & co
└─> late

raw       sink stdout

late      processor merge
└─> out  [durable]

out       sink stdout
";
    assert_eq!(draw(&plan(), Format::Text), expected);
}

#[test]
fn graphviz_gets_quoted_names_and_every_edge() {
    let dot = draw(&plan(), Format::Dot);
    assert!(dot.starts_with("digraph \"shop\" {\n") && dot.ends_with("}\n"));
    assert!(dot.contains("  \"small\" [label=\"small x2\\nfilter\", shape=box];\n"), "{dot}");
    assert!(dot.contains("  \"late\" -> \"out\" [label=\"durable\", style=bold];\n"), "{dot}");
    assert_eq!(dot.matches(" -> ").count(), 6);
}

#[test]
fn a_browser_gets_one_box_for_each_component_and_text_that_is_escaped() {
    let svg = draw(&plan(), Format::Svg);
    assert_eq!(svg.matches("<text class=\"id\"").count(), 6);
    assert_eq!(svg.matches("<path class=\"edge").count(), 6);
    assert!(svg.contains("big &amp; co") && !svg.contains("big & co"), "{svg}");
    assert!(svg.contains("small ×2"));
}

#[test]
fn components_of_a_column_do_not_overlap() {
    let layout = Layout::of(&plan());
    for (index, one) in layout.places.iter().enumerate() {
        for two in &layout.places[index + 1..] {
            let apart = one.column != two.column || (one.row - two.row).abs() > 0.999;
            assert!(apart, "{one:?} {two:?}");
        }
        assert!(one.row >= 0.0 && one.row <= layout.rows - 1.0, "{one:?}");
    }
}

#[test]
fn a_diamond_is_symmetric() {
    let text = TEXT.replace("  - {id: raw, kind: stdout, inputs: [orders]}\n", "");
    let layout = Layout::of(&Plan::new(&check("shop.yaml", &text).unwrap().pipeline));
    let rows: Vec<f64> = layout.places.iter().map(|place| place.row).collect();
    assert_eq!(rows, [0.5, 0.0, 1.0, 0.5, 0.5]);
}

#[test]
fn edges_that_can_do_without_crossing_do_not_cross() {
    let mut text =
        "{apiVersion: sheaf.dev/v1, kind: Pipeline, metadata: {name: ladder}, sources: ["
            .to_owned();
    let columns = "config: {columns: [{name: n, values: sequence}]}";
    (0..6).for_each(|n| text += &format!("{{id: a{n}, kind: generate, {columns}}}, "));
    text += "], sinks: [";
    (0..6).for_each(|n| text += &format!("{{id: b{n}, kind: stdout, inputs: [a{}]}}, ", 5 - n));
    text += "]}";
    let layout = Layout::of(&Plan::new(&check("ladder.yaml", &text).unwrap().pipeline));
    for way in &layout.ways {
        assert!((way[0].row - way[1].row).abs() < 1e-9, "{way:?}");
    }
}

#[test]
fn an_edge_past_a_column_has_a_row_of_its_own_there() {
    let layout = Layout::of(&plan());
    let plan = plan();
    let past: Vec<_> = layout.ways.iter().filter(|way| way.len() > 2).collect();
    assert!(past.is_empty(), "sinks stand next to what they read");
    let text = TEXT
        .replace("[late, ", "[")
        .replace("inputs: [small, big]", "inputs: [small, big, orders]");
    let layout = Layout::of(&Plan::new(&check("shop.yaml", &text).unwrap().pipeline));
    let way = layout.ways.iter().find(|way| way.len() == 3).expect("an edge over two columns");
    for (component, place) in plan.components.iter().zip(&layout.places) {
        let apart = place.column != way[1].column || (place.row - way[1].row).abs() > 0.999;
        assert!(apart, "{}", component.id);
    }
}

#[test]
fn a_picture_of_thousands_of_components_is_drawn() {
    let mut text = TEXT.replace("metadata: {name: shop}", "metadata: {name: many}");
    for n in 0..3_000 {
        text += &format!("  - {{id: s{n}, kind: stdout, inputs: [late, small]}}\n");
    }
    let plan = Plan::new(&check("many.yaml", &text).unwrap().pipeline);
    for format in Format::ALL {
        assert!(draw(&plan, format).matches("s2999").count() >= 2, "{format}");
    }
}

#[test]
fn a_picture_has_every_box_and_line_within_its_bounds() {
    let sizes = Sizes { box_width: 300.0, ..Sizes::DOCUMENT };
    let drawn = picture(&plan(), sizes);
    let ids: Vec<&str> = drawn.boxes.iter().map(|one| &*one.id).collect();
    assert_eq!(ids.len(), 6);
    for one in &drawn.boxes {
        assert!(one.width >= 300.0 && one.x >= 0.0 && one.x + one.width <= drawn.width, "{one:?}");
        assert!(one.y >= sizes.header && one.y + one.height <= drawn.height, "{one:?}");
    }
    let small = drawn.boxes.iter().find(|one| one.id == "small").unwrap();
    assert_eq!((small.instances, small.role, &*small.what), (2, "processor", "filter"));
    let late = drawn.lines.iter().find(|one| one.id == "late:out").unwrap();
    assert!(late.durable && late.about == "durable" && late.path.starts_with('M'), "{late:?}");
    assert!(late.x > 0.0 && late.x < drawn.width);
}
