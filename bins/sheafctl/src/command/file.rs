//! Reading the file of a pipeline.

use std::io::{IsTerminal as _, Read};
use std::path::Path;

use sheaf_pipeline::diagnostics::{Report, Style};
use sheaf_pipeline::spec::MAX_DOCUMENT_BYTES;
use sheaf_retry::{Code, Retryable as _};
use sheaf_terminal::{Console, Failure, counted};

/// The text of a file, or of standard input for `-`. A file that is too long
/// is read no further than that is certain.
pub(super) fn read(path: &Path) -> Result<(String, String), Failure> {
    let (name, text) = match path.as_os_str() == "-" {
        true => ("<stdin>".to_owned(), take(std::io::stdin())),
        false => (path.display().to_string(), std::fs::File::open(path).and_then(take)),
    };
    let failed = |code, error: &dyn std::fmt::Display| {
        Failure::new(code, format!("{name} cannot be read: {error}"))
    };
    let bytes = text.map_err(|error| failed(error.code(), &error))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(failed(Code::InvalidArgument, &error).help("save it as UTF-8")),
    }
}

fn take(file: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_DOCUMENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Shows the problems of a file to people.
pub(super) fn show(report: &Report, console: &mut Console) {
    let colour = std::io::stderr().is_terminal();
    let width = console.width().map_or(140, usize::from);
    console.note(report.render(Style { colour, width }).trim_end());
}

/// How a command ends that met such a report.
pub(super) fn refused(report: &Report) -> Failure {
    let errors = counted(report.errors() as u64, "error");
    let message = format!("{} cannot be used: {errors}", report.file());
    Failure::new(Code::InvalidArgument, message).help("correct what is marked above")
}
