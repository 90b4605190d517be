//! Tables for people.

use comfy_table::{
    Attribute, Cell, CellAlignment, ColumnConstraint, ContentArrangement, Width, presets::NOTHING,
    presets::UTF8_FULL_CONDENSED,
};

use crate::fit::{self, Fit, Shape};

/// A table: columns with a heading, rows of text.
///
/// On a terminal it has borders and keeps to the width: columns that are not
/// needed are left out ([`Table::hidden_columns`]), the rest wraps between
/// words, and where words would break there is a block of lines per row. In a
/// pipe it is plain columns, two spaces apart, one line per row, for `grep`
/// and `awk`.
#[derive(Clone, Debug, Default)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
    trimmed: bool,
}

#[derive(Clone, Debug)]
struct Column {
    heading: String,
    alignment: CellAlignment,
    rank: u8,
}

impl Column {
    fn new(heading: impl Into<String>, alignment: CellAlignment) -> Self {
        Column { heading: tame(heading.into()), alignment, rank: 0 }
    }
}

impl Table {
    /// A table with these left-aligned columns.
    pub fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Self {
        let column = |heading| Column::new(heading, CellAlignment::Left);
        Table { columns: headings.into_iter().map(column).collect(), ..Table::default() }
    }

    /// With one more column, aligned to the left.
    #[must_use]
    pub fn left(mut self, heading: impl Into<String>) -> Self {
        self.columns.push(Column::new(heading, CellAlignment::Left));
        self
    }

    /// With one more column, aligned to the right: for numbers.
    #[must_use]
    pub fn right(mut self, heading: impl Into<String>) -> Self {
        self.columns.push(Column::new(heading, CellAlignment::Right));
        self
    }

    /// The last column is shown only where the terminal has room for it; of
    /// several such columns the one of the lowest `rank`, 1 or more, comes first.
    #[must_use]
    pub fn optional(mut self, rank: u8) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.rank = rank.max(1);
        }
        self
    }

    /// A table of foreign data: on a terminal long cells are cut, with `…` in
    /// place of the rest, and trailing columns without room are left out.
    #[must_use]
    pub fn trimmed(mut self) -> Self {
        self.trimmed = true;
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

    /// How many columns [`Table::render`] leaves out at this width.
    pub fn hidden_columns(&self, width: Option<u16>) -> usize {
        match self.fit(width) {
            Fit::Columns { kept, .. } => self.columns.len() - kept.len(),
            Fit::Plain | Fit::Blocks => 0,
        }
    }

    /// As text that ends with a line end. `width` is that of the terminal in
    /// columns; `None` is no terminal.
    pub fn render(&self, width: Option<u16>) -> String {
        match (self.fit(width), width) {
            (Fit::Columns { kept, wrap }, Some(width)) => self.bordered(width, &kept, wrap),
            (Fit::Blocks, _) => self.blocks(),
            (Fit::Plain | Fit::Columns { .. }, _) => self.plain(),
        }
    }

    fn fit(&self, width: Option<u16>) -> Fit {
        let Some(width) = width else { return Fit::Plain };
        let shapes = self.columns.iter().enumerate().map(|(index, column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            Shape::of(column.rank, std::iter::once(&column.heading).chain(cells))
        });
        fit::fit(&shapes.collect::<Vec<_>>(), usize::from(width), self.trimmed)
    }

    fn bordered(&self, width: u16, kept: &[(usize, usize)], wrap: bool) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(UTF8_FULL_CONDENSED);
        table.set_content_arrangement(match wrap {
            true => ContentArrangement::Dynamic,
            false => ContentArrangement::Disabled,
        });
        table.set_width(width);
        let cut = |text: &str, room| if wrap { text.to_owned() } else { fit::cut(text, room) };
        table.set_header(kept.iter().filter_map(|&(index, room)| {
            let column = self.columns.get(index)?;
            let cell = Cell::new(cut(&column.heading, room)).add_attribute(Attribute::Bold);
            Some(cell.set_alignment(column.alignment))
        }));
        for row in &self.rows {
            let cells = kept.iter().filter_map(|&(index, room)| Some(cut(row.get(index)?, room)));
            table.add_row(cells.collect::<Vec<_>>());
        }
        for (place, &(index, room)) in kept.iter().enumerate() {
            let (Some(column), Some(from)) = (table.column_mut(place), self.columns.get(index))
            else {
                continue;
            };
            column.set_cell_alignment(from.alignment);
            if wrap {
                // A column is never narrower than its longest word, so that none breaks.
                let least = u16::try_from(room + 2).unwrap_or(width);
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(least)));
            }
        }
        lines(&table)
    }

    fn plain(&self) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).force_no_tty();
        let heading = |column: &Column| Cell::new(&column.heading).set_alignment(column.alignment);
        table.set_header(self.columns.iter().map(heading));
        for row in &self.rows {
            table.add_row(row.clone());
        }
        for (index, from) in self.columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(from.alignment);
                column.set_padding((u16::from(index > 0) * 2, 0));
            }
        }
        lines(&table)
    }

    /// `heading: value` lines, an empty line between rows.
    fn blocks(&self) -> String {
        let block = |row: &Vec<String>| -> String {
            let cells = self.columns.iter().zip(row);
            cells.map(|(column, cell)| format!("{}: {cell}\n", column.heading)).collect()
        };
        self.rows.iter().map(block).collect::<Vec<_>>().join("\n")
    }
}

fn lines(table: &comfy_table::Table) -> String {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
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

    /// The lines of a terminal without the escapes for bold.
    fn screen(table: &Table, width: u16) -> Vec<String> {
        let text = table.render(Some(width)).replace("\x1b[1m", "").replace("\x1b[0m", "");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)), "{text}");
        lines
    }

    #[test]
    fn many_columns_of_data_are_left_out_and_counted() {
        let mut table = Table::new((0..20).map(|n| format!("column{n}"))).trimmed();
        table.row((0..20).map(|n| n.to_string()));
        for (width, shown) in [(60, 5), (80, 7), (120, 11)] {
            let lines = screen(&table, width);
            assert_eq!(lines.len(), 5, "{lines:#?}");
            assert!(lines[1].contains(&format!("column{}", shown - 1)), "{lines:#?}");
            assert_eq!(table.hidden_columns(Some(width)), 20 - shown);
        }
        assert_eq!((table.hidden_columns(None), table.render(None).lines().count()), (0, 2));
        assert!(table.render(None).contains("column19"));
    }

    #[test]
    fn long_cells_of_data_are_cut_on_a_terminal_only() {
        let mut table = Table::new(["n", "text"]).trimmed();
        table.row(["1".to_owned(), "long ".repeat(50)]);
        let lines = screen(&table, 80);
        assert!(lines.len() == 5 && lines[3].contains("long l…"), "{lines:#?}");
        assert_eq!(lines[3].chars().count(), 80, "the room there is is used: {lines:#?}");
        assert!(table.render(None).contains(&"long ".repeat(49)));
        let wide: String = "\u{4e2d}".repeat(60);
        let mut table = Table::new(["text"]).trimmed();
        table.row([wide.as_str()]);
        assert!(screen(&table, 60)[3].contains('…'));
    }

    #[test]
    fn columns_without_room_are_left_out_by_rank() {
        let mut table = Table::new(["batch", "queue"]).optional(2).left("state");
        table = table.right("rows").optional(1);
        let id = "01a1fc7b-178c-74c0-a06d-34485f1eeaf0";
        table.row([id, "default", "processing", "25,000"]);
        let lines = screen(&table, 64);
        assert!(lines[3].contains(id) && lines[3].contains("25,000"), "{lines:#?}");
        assert!(!lines[1].contains("queue") && table.hidden_columns(Some(64)) == 1);
        assert_eq!(table.hidden_columns(Some(80)), 0);
    }

    #[test]
    fn text_wraps_between_words_and_a_word_never_breaks() {
        let mut table = Table::new(["field", "value"]);
        table.row(["checksum", "4c2466075a4736b29125be624a11b00e"]);
        table.row(["error", "the processor says that this can never work, and why that is so"]);
        let lines = screen(&table, 60);
        let words = "4c2466075a4736b29125be624a11b00e the processor says never";
        let text = lines.join("\n");
        assert!(words.split(' ').all(|word| text.contains(word)) && text.contains('│'), "{text}");
        let blocks = table.render(Some(44));
        assert!(blocks.starts_with("field: checksum\nvalue: 4c2466075a4736b29125be624a11b00e\n"));
    }
}
