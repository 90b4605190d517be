//! Draws the view.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Borders, Cell, Row, Table};

use super::cells::{self, COMPONENT, EDGE};
use super::view::View;

/// Lines of a table besides its rows.
const AROUND: usize = 2;
const KEYS: &str = "q end  s sort  Tab table  arrows scroll";

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View) {
    let share = |rows: usize| Constraint::Fill(u16::try_from(rows + AROUND).unwrap_or(u16::MAX));
    let [top, components, edges, bottom] = Layout::vertical([
        Constraint::Length(1),
        share(view.rows.components.len().min(100)),
        share(view.rows.edges.len().min(100)),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(Line::from(view.title.as_str()), top);
    let rows: Vec<_> =
        view.rows.components.iter().map(|row| (row.status, cells::component(row))).collect();
    part(frame, components, view, 0, &COMPONENT, &rows);
    let rows: Vec<_> = view.rows.edges.iter().map(|row| (row.state, cells::edge(row))).collect();
    part(frame, edges, view, 1, &EDGE, &rows);
    let last = match &view.problem {
        Some(why) => Line::styled(why.as_str(), Style::new().fg(Color::Red)),
        None => Line::from(format!("sorted by {}  {KEYS}", view.sort.as_str())),
    };
    frame.render_widget(last, bottom);
}

/// One of the two tables; columns without room are left out from the right.
fn part<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    view: &View,
    which: usize,
    headings: &[(&'static str, bool); N],
    rows: &[(&'static str, [String; N])],
) {
    let width = |column: usize| {
        let cells = rows.iter().map(|(_, cells)| cells[column].chars().count());
        cells.chain([headings[column].0.len()]).max().unwrap_or(0).min(28)
    };
    let mut room = usize::from(area.width);
    let widths: Vec<usize> = (0..N)
        .map(width)
        .take_while(|width| {
            let fits = *width <= room;
            room = room.saturating_sub(width + 1);
            fits
        })
        .collect();
    let style = |state| match state {
        "healthy" | "flows" => Style::new(),
        "unhealthy" | "exited" | "broken" => Style::new().fg(Color::Red),
        "waits" | "expected" => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::DarkGray),
    };
    let side = |column: usize| if headings[column].1 { Alignment::Right } else { Alignment::Left };
    let cell = |(column, text): (usize, &str)| {
        Cell::from(Text::from(text.to_owned()).alignment(side(column)))
    };
    let heading = headings.iter().map(|(heading, _)| *heading).enumerate().map(cell);
    let heading = Row::new(heading.take(widths.len())).style(Style::new().bold());
    let lines = rows.iter().skip(view.offsets[which]).map(|(state, cells)| {
        let cells = cells.iter().map(String::as_str).enumerate().map(cell);
        Row::new(cells.take(widths.len())).style(style(state))
    });
    let line = if view.focus == which { Style::new() } else { Style::new().dim() };
    let widths = widths.iter().map(|width| u16::try_from(*width).unwrap_or(u16::MAX));
    let table = Table::new(lines, widths.map(Constraint::Length))
        .header(heading)
        .block(Block::new().borders(Borders::TOP).border_style(line));
    frame.render_widget(table, area);
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
