//! What a stream of Arrow messages may at most ask for.

/// Limits on the shape of a stream; each refusal names the one it ran into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Columns of a schema.
    pub max_columns: usize,
    /// Fields of a schema, nested ones included.
    pub max_fields: usize,
    /// Nesting of fields; a plain column has depth 1.
    pub max_depth: usize,
    /// Bytes of the schema message.
    pub max_schema_bytes: usize,
    /// Bytes that the compressed buffers of one message unfold to, and bytes of
    /// all dictionaries that a [`Decoder`](super::Decoder) keeps.
    pub max_decoded_bytes: u64,
    /// Rows of all record batches of a stream.
    pub max_rows: u64,
}

impl Default for Bounds {
    /// 4,096 columns, 65,536 fields, depth 64, a schema of 16 MiB, 4 GiB
    /// decompressed, 2^40 rows.
    fn default() -> Self {
        Bounds {
            max_columns: 4_096,
            max_fields: 65_536,
            max_depth: 64,
            max_schema_bytes: 16 << 20,
            max_decoded_bytes: 4 << 30,
            max_rows: 1 << 40,
        }
    }
}
