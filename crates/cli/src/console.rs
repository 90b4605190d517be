//! Standard output and standard error of a command.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use sheaf_retry::Code;

use crate::{Failure, Table, counted};

/// Where a command writes: data to one place, notes to the other.
///
/// Made once, by the binary. A reader of the data that has gone away ends the
/// command with [`Failure::closed_pipe`], which is quiet.
pub struct Console {
    data: Box<dyn Write + Send>,
    notes: Box<dyn Write + Send>,
    width: Option<u16>,
    notes_on_terminal: bool,
}

impl Console {
    /// The process's own standard output and standard error.
    pub fn stdio() -> Self {
        let width =
            io::stdout().is_terminal().then(|| comfy_table::Table::new().width().unwrap_or(80));
        Console {
            data: Box::new(io::stdout()),
            notes: Box::new(io::stderr()),
            width,
            notes_on_terminal: io::stderr().is_terminal(),
        }
    }

    /// Other places, which are no terminals: for tests and embedding.
    pub fn new(data: impl Write + Send + 'static, notes: impl Write + Send + 'static) -> Self {
        Console {
            data: Box::new(data),
            notes: Box::new(notes),
            width: None,
            notes_on_terminal: false,
        }
    }

    /// Columns of the terminal that data goes to; `None` where it is none.
    pub fn width(&self) -> Option<u16> {
        self.width
    }

    /// Whether notes and progress are seen by a person.
    pub fn notes_on_terminal(&self) -> bool {
        self.notes_on_terminal
    }

    /// Hands out the place for data, for rows that are written as they come;
    /// data written through this console afterwards is dropped.
    pub fn take_data(&mut self) -> Box<dyn Write + Send> {
        std::mem::replace(&mut self.data, Box::new(io::sink()))
    }

    /// Writes data as it is.
    ///
    /// # Errors
    /// A quiet [`Failure`] when the reader has gone, else one with the cause.
    pub fn data(&mut self, text: &str) -> Result<(), Failure> {
        let written = self.data.write_all(text.as_bytes()).and_then(|()| self.data.flush());
        written.map_err(|error| Failure::output(&error))
    }

    /// Writes a table, for this terminal or pipe; columns without room are
    /// left out, and a note says so.
    ///
    /// # Errors
    /// As [`Console::data`].
    pub fn table(&mut self, table: &Table) -> Result<(), Failure> {
        let text = table.render(self.width);
        self.data(&text)?;
        let hidden = table.hidden_columns(self.width);
        if hidden > 0 {
            let columns = counted(hidden as u64, "more column");
            self.note(&format!("… {columns}: use --json, or a wider terminal"));
        }
        Ok(())
    }

    /// Writes one JSON document on one line.
    ///
    /// # Errors
    /// As [`Console::data`].
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| {
            Failure::new(Code::Internal, "the answer cannot be written as JSON").because(error)
        })?;
        self.data(&(text + "\n"))
    }

    /// Writes a note for people, best effort: a note that cannot be written
    /// is no reason to fail.
    pub fn note(&mut self, text: &str) {
        if writeln!(self.notes, "{text}").is_err() {
            self.notes = Box::new(io::sink());
        }
    }
}

impl std::fmt::Debug for Console {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Console").field("width", &self.width).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Gone;

    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn data_and_notes_do_not_mix() {
        let (data, notes) = (Shared::default(), Shared::default());
        let mut console = Console::new(data.clone(), notes.clone());
        console.json(&serde_json::json!({"batches": 3})).unwrap();
        console.note("three batches");
        assert_eq!(*data.0.lock().unwrap(), b"{\"batches\":3}\n");
        assert_eq!(*notes.0.lock().unwrap(), b"three batches\n");
    }

    #[test]
    fn columns_that_are_left_out_are_told() {
        let (data, notes) = (Shared::default(), Shared::default());
        let mut console = Console::new(data.clone(), notes.clone());
        let mut table = Table::new(["batch"]).left("about").optional(1);
        table.row(["b1".to_owned(), "word".repeat(20)]);
        console.table(&table).unwrap();
        assert_eq!(*notes.0.lock().unwrap(), b"");
        console.width = Some(60);
        console.table(&table).unwrap();
        let note = String::from_utf8(notes.0.lock().unwrap().clone()).unwrap();
        assert_eq!(note, "… 1 more column: use --json, or a wider terminal\n");
    }

    #[test]
    fn a_reader_that_has_gone_is_a_quiet_end() {
        let failure = Console::new(Gone, Gone).data("x").unwrap_err();
        assert_eq!((failure.is_quiet(), failure.exit_code()), (true, 0));
        Console::new(Gone, Gone).note("nobody reads this");
    }
}
