//! A table without an end: columns that grow with what comes.

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::ArrowError;
use sheaf_retry::Code;
use sheaf_terminal::Failure;

/// Characters of a cell; longer ones are cut.
const WIDEST: usize = 40;
/// Rows after which the heading is shown again on a terminal.
const HEADING_EVERY: usize = 40;

/// Makes lines of batches; the heading comes first, and again where columns change.
pub(super) struct LiveTable {
    terminal: Option<usize>,
    headings: Vec<String>,
    widths: Vec<usize>,
    since: usize,
}

impl LiveTable {
    /// For a terminal of so many columns, or for a pipe.
    pub(super) fn new(terminal: Option<u16>) -> Self {
        let terminal = terminal.map(usize::from);
        LiveTable { terminal, headings: Vec::new(), widths: Vec::new(), since: 0 }
    }

    /// The lines of a batch.
    pub(super) fn lines(&mut self, batch: &RecordBatch) -> Result<String, Failure> {
        let rows = cells(batch).map_err(|error| {
            Failure::new(Code::InvalidArgument, "the rows cannot be shown").because(error)
        })?;
        if rows.is_empty() {
            return Ok(String::new());
        }
        let schema = batch.schema();
        let headings: Vec<String> = schema.fields().iter().map(|one| tame(one.name())).collect();
        let mut heading = self.headings != headings;
        if heading {
            self.widths = vec![0; headings.len()];
            self.headings = headings;
        }
        for row in std::iter::once(&self.headings).chain(&rows) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                let wanted = cell.chars().count();
                heading |= wanted > *width && self.terminal.is_some();
                *width = wanted.max(*width);
            }
        }
        let mut text = String::new();
        for row in &rows {
            let again = self.terminal.is_some() && self.since >= HEADING_EVERY;
            if std::mem::take(&mut heading) || again {
                self.line(&self.headings, &mut text);
                self.since = 0;
            }
            self.line(row, &mut text);
            self.since += 1;
        }
        Ok(text)
    }

    fn line(&self, cells: &[String], text: &mut String) {
        let padded = cells.iter().zip(&self.widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = padded.collect::<Vec<_>>().join("  ");
        let room = self.terminal.unwrap_or(usize::MAX);
        text.extend(line.trim_end().chars().take(room));
        text.push('\n');
    }
}

fn cells(batch: &RecordBatch) -> Result<Vec<Vec<String>>, ArrowError> {
    let options = FormatOptions::default().with_null("").with_display_error(true);
    let columns = batch.columns().iter();
    let columns: Vec<ArrayFormatter<'_>> = columns
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<_, _>>()?;
    let row = |index| columns.iter().map(|column| tame(&column.value(index).to_string())).collect();
    Ok((0..batch.num_rows()).map(row).collect())
}

/// Without what could rewrite the screen, and not too long.
fn tame(text: &str) -> String {
    let mut tamed: String = text
        .chars()
        .take(WIDEST)
        .map(|one| if one.is_control() { '\u{fffd}' } else { one })
        .collect();
    if text.chars().nth(WIDEST).is_some() {
        tamed.pop();
        tamed.push('…');
    }
    tamed
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
