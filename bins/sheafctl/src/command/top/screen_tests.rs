//! What a terminal of 80x24 shows.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use sheaf_console::figures::{ComponentRow, EdgeRow, Rows};

use super::*;

fn view() -> View {
    let component = |place: &str, kind, status, rate| ComponentRow {
        place: place.to_owned(),
        kind,
        status,
        rows_in_per_second: rate,
        rows_out_per_second: Some(1_234_567),
        memory_bytes: Some(12_000_000),
        reason: "its loop has not come round for 31s".to_owned(),
        ..ComponentRow::default()
    };
    let edge = |edge: &str, state| EdgeRow {
        pipeline: "orders".to_owned(),
        edge: edge.to_owned(),
        state,
        rows_per_second: Some(99),
        ..EdgeRow::default()
    };
    let mut view = View { title: "sheafctl top".to_owned(), ..View::default() };
    view.show(Rows {
        components: vec![
            component("orders:large", "processor", "healthy", None),
            component("orders:read", "source", "unhealthy", Some(0)),
        ],
        edges: vec![edge("large:files", "waits"), edge("read:large", "flows")],
    });
    view
}

fn lines(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view)).unwrap();
    let text = terminal.backend().to_string();
    text.lines().map(|line| line.trim_matches('"').trim_end().to_owned()).collect()
}

#[test]
fn a_terminal_of_80x24_has_room_for_what_matters() {
    let lines = lines(&view(), 80, 24);
    let rule = "─".repeat(80);
    assert_eq!(lines.len(), 24, "{lines:#?}");
    let shown: Vec<&str> =
        lines.iter().map(String::as_str).filter(|line| !line.is_empty() && *line != rule).collect();
    let expected = [
        "sheafctl top",
        "component    kind      status    in/s     out/s bytes/s lag memory restarts",
        "orders:large processor healthy      - 1,234,567       -   -  12 MB        0",
        "orders:read  source    unhealthy    0 1,234,567       -   -  12 MB        0",
        "edge        state rows/s bytes/s lag waiting credits dropped memory spilled rows",
        "large:files waits     99       -   0       0       0       0    0 B     0 B    0",
        "read:large  flows     99       -   0       0       0       0    0 B     0 B    0",
        "sorted by name  q end  s sort  Tab table  arrows scroll",
    ];
    assert_eq!(shown, expected, "{lines:#?}");
}

#[test]
fn a_very_small_terminal_is_no_reason_to_fail() {
    for (width, height) in [(1, 1), (20, 5), (80, 3), (300, 100)] {
        assert_eq!(lines(&view(), width, height).len(), usize::from(height));
    }
}

#[test]
fn why_a_reading_failed_is_shown_with_the_last_one() {
    let mut view = view();
    view.problem = Some("no answer within 5s".to_owned());
    let lines = lines(&view, 80, 24);
    assert_eq!(lines.last().map(String::as_str), Some("no answer within 5s"));
    assert!(lines.iter().any(|line| line.starts_with("orders:large")), "{lines:#?}");
}
