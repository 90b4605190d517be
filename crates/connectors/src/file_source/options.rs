//! How to read a file.

use arrow_schema::SchemaRef;

use crate::format::{Compression, FileFormat};

/// How to read a file; the default goes by the extension and infers schemas.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    /// The format, where the extension does not tell it.
    pub format: Option<FileFormat>,
    /// Compression of CSV and JSON, where the extension does not tell it.
    pub compression: Option<Compression>,
    /// The schema of CSV or JSON; otherwise it is inferred. Parquet and Arrow
    /// IPC bring their own and refuse another.
    pub schema: Option<SchemaRef>,
    /// Rows of CSV or JSON that a schema is inferred from.
    pub infer_rows: usize,
    /// Longest record of CSV or JSON, in bytes: an unclosed quote or bracket
    /// is refused here rather than read to the end of the file.
    pub max_record_bytes: u64,
    /// Whether the first line of CSV names the columns.
    pub header: bool,
    /// Separator of CSV; by default a comma, in `.tsv` a tab.
    pub delimiter: Option<u8>,
    /// Quotation mark of CSV.
    pub quote: u8,
}

impl Default for SourceOptions {
    fn default() -> Self {
        SourceOptions {
            format: None,
            compression: None,
            schema: None,
            infer_rows: 1_000,
            max_record_bytes: 16 << 20,
            header: true,
            delimiter: None,
            quote: b'"',
        }
    }
}
