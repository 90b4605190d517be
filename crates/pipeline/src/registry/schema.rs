//! Schemas, as components send them and people read them.

use std::fmt::Write as _;

use sheaf_flight::ipc;
use sheaf_proto::control::v1::PortSchema;

use super::error::{Error, invalid};
use super::limits::MAX_SCHEMA_TEXT;

const FIELD: &str = "metadata.ipc_schema";
/// What an encapsulated message begins with, before the length of its header.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Reads the schema of a port and fills in its text.
pub(super) fn read(port: PortSchema) -> Result<PortSchema, Error> {
    if port.ipc_schema.is_empty() {
        return Ok(port);
    }
    if !port.text.is_empty() {
        let problem = "it is said only where there is no ipc_schema, which it is made of";
        return Err(invalid("metadata.text", problem));
    }
    let header = header(&port.ipc_schema).ok_or_else(|| {
        let problem = "it is no encapsulated message of the Arrow IPC format: send what \
                       pyarrow.Schema.serialize() makes";
        invalid(FIELD, problem)
    })?;
    let schema = ipc::decode_schema(header)
        .map_err(|error| invalid(FIELD, format!("port {:?}: {}", port.port, error.message())))?;
    let mut text = String::new();
    for field in schema.fields() {
        let null = if field.is_nullable() { "" } else { " not null" };
        // Writing to a string does not fail.
        let written = writeln!(text, "{}: {}{null}", field.name(), field.data_type());
        if written.is_err() || text.len() > MAX_SCHEMA_TEXT {
            break;
        }
    }
    if text.len() > MAX_SCHEMA_TEXT {
        let end = (0..=MAX_SCHEMA_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    Ok(PortSchema { text: text.trim_end().to_owned(), ..port })
}

/// The metadata of an encapsulated message without a body.
fn header(message: &[u8]) -> Option<&[u8]> {
    let rest = message.strip_prefix(&CONTINUATION)?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    (length == rest.len()).then_some(rest)
}

/// The schema as a component sends it.
///
/// ```
/// use arrow_schema::{DataType, Field, Schema};
/// use sheaf_pipeline::registry::port_schema;
///
/// let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
/// assert!(port_schema("", &schema).ipc_schema.starts_with(&[0xff; 4]));
/// ```
pub fn port_schema(port: &str, schema: &arrow_schema::Schema) -> PortSchema {
    let header = ipc::encode_schema(schema).header;
    // Schemas of more than 4 GiB do not exist: the limit is far below.
    let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
    let ipc_schema = [&CONTINUATION[..], &length.to_le_bytes(), &header].concat().into();
    PortSchema { port: port.to_owned(), ipc_schema, text: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::{DataType, Field, Schema};

    fn port() -> PortSchema {
        let fields = vec![
            Field::new("id", DataType::Int64, false),
            Field::new("tags", DataType::new_list(DataType::Utf8, true), true),
        ];
        port_schema("out", &Schema::new(fields))
    }

    #[test]
    fn a_schema_becomes_text() {
        let text = read(port()).unwrap().text;
        assert!(text.starts_with("id: Int64 not null\ntags: List("), "{text}");
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let mut cut = port();
        cut.ipc_schema.truncate(cut.ipc_schema.len() - 1);
        let empty = PortSchema { ipc_schema: vec![0xff; 8].into(), ..port() };
        let noise = [&[0xff; 4][..], &8_u32.to_le_bytes(), b"whatever"].concat();
        let noise = PortSchema { ipc_schema: noise.into(), ..port() };
        for bad in [cut, empty, noise] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.starts_with("metadata.ipc_schema: "), "{error}");
        }
    }

    #[test]
    fn text_is_taken_only_in_place_of_a_schema() {
        let said = PortSchema { text: "rows of orders".to_owned(), ..PortSchema::default() };
        assert_eq!(read(said.clone()).unwrap(), said);
        let both = PortSchema { text: "id".to_owned(), ..port() };
        assert!(read(both).is_err());
    }

    #[test]
    fn a_long_text_is_cut() {
        let name = "ä".repeat(200);
        let fields: Vec<Field> =
            (0..500).map(|n| Field::new(format!("{name}{n}"), DataType::Int8, true)).collect();
        let text = read(port_schema("", &Schema::new(fields))).unwrap().text;
        assert!(text.len() <= MAX_SCHEMA_TEXT + '…'.len_utf8() && text.ends_with('…'));
    }
}
