//! Tables for people.

use comfy_table::{
    Attribute, Cell, CellAlignment, ContentArrangement, presets::NOTHING,
    presets::UTF8_FULL_CONDENSED,
};

/// Below this width a table is written as one block of lines per row.
const NARROW: u16 = 40;

/// A table: columns with a heading, rows of text.
///
/// On a terminal it has borders and wraps to the width; in a pipe it is plain
/// columns, two spaces apart, one line per row, for `grep` and `awk`.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<(String, CellAlignment)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these left-aligned columns.
    pub fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Self {
        let columns = headings.into_iter().map(|h| (h.into(), CellAlignment::Left)).collect();
        Table { columns, rows: Vec::new() }
    }

    /// With one more column, aligned to the left.
    #[must_use]
    pub fn left(mut self, heading: impl Into<String>) -> Self {
        self.columns.push((heading.into(), CellAlignment::Left));
        self
    }

    /// With one more column, aligned to the right: for numbers.
    #[must_use]
    pub fn right(mut self, heading: impl Into<String>) -> Self {
        self.columns.push((heading.into(), CellAlignment::Right));
        self
    }

    /// Adds a row; missing cells are empty, surplus ones are dropped. Control
    /// characters, which could rewrite the screen, are replaced.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells.into_iter().map(|cell| tame(cell.into())).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// As text that ends with a line end. `width` is that of the terminal in
    /// columns; `None` is no terminal.
    pub fn render(&self, width: Option<u16>) -> String {
        match width {
            Some(width) if width < NARROW => self.blocks(),
            width => self.grid(width),
        }
    }

    fn grid(&self, width: Option<u16>) -> String {
        let mut table = comfy_table::Table::new();
        let bold = width.is_some();
        let heading = |(name, alignment): &(String, CellAlignment)| {
            let cell = Cell::new(name).set_alignment(*alignment);
            if bold { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        match width {
            Some(width) => {
                table.load_style(UTF8_FULL_CONDENSED);
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.load_style(NOTHING).force_no_tty();
            }
        }
        table.set_header(self.columns.iter().map(heading));
        for row in &self.rows {
            table.add_row(row.clone());
        }
        for (index, (_, alignment)) in self.columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(*alignment);
                if width.is_none() {
                    column.set_padding((u16::from(index > 0) * 2, 0));
                }
            }
        }
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }

    /// `heading: value` lines, an empty line between rows.
    fn blocks(&self) -> String {
        let block = |row: &Vec<String>| -> String {
            let cells = self.columns.iter().zip(row);
            cells.map(|((heading, _), cell)| format!("{heading}: {cell}\n")).collect()
        };
        self.rows.iter().map(block).collect::<Vec<_>>().join("\n")
    }
}

fn tame(text: String) -> String {
    if text.chars().any(char::is_control) {
        return text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["batch"]).right("rows").left("state");
        table.row(["orders:1", "1,000", "pending"]);
        table.row(["b", "7", "failed"]);
        table
    }

    #[test]
    fn a_pipe_gets_plain_columns() {
        assert_eq!(
            sample().render(None),
            "batch      rows  state\norders:1  1,000  pending\nb             7  failed\n"
        );
    }

    #[test]
    fn a_terminal_gets_borders_within_its_width() {
        let text = sample().render(Some(60));
        assert!(
            text.contains('│') && text.lines().all(|line| line.chars().count() <= 60),
            "{text}"
        );
    }

    #[test]
    fn a_narrow_terminal_gets_blocks() {
        assert!(sample().render(Some(20)).starts_with("batch: orders:1\nrows: 1,000\n"));
    }

    #[test]
    fn escape_sequences_do_not_pass() {
        let mut table = Table::new(["id"]);
        table.row(["a\x1b[2Jb\nc"]);
        assert!(!table.render(None).contains('\x1b'));
        assert_eq!(table.render(None).lines().count(), 2);
    }

    #[test]
    fn rows_have_the_columns_of_the_table() {
        let mut table = Table::new(["a", "b"]);
        table.row(["1"]);
        table.row(["1", "2", "3"]);
        assert_eq!(table.render(None), "a  b\n1\n1  2\n");
        assert_eq!((table.len(), table.is_empty()), (2, false));
    }
}
