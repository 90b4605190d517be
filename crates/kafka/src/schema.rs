//! The columns of a stream, which only ever grow and widen.

mod columns;
mod conform;
mod widen;

use std::sync::Arc;

use arrow_schema::{FieldRef, Fields, Schema, SchemaRef};

pub(crate) use columns::{OFFSET, Rows, TIMESTAMP, message_columns, message_fields};
pub use conform::conform;
pub(crate) use conform::conform_columns;
pub(crate) use widen::{distinct, fields as widen_fields, nullable_fields, widen};

use crate::decode::Error;

/// The columns of the messages of one stream, their names in the output, and
/// how often they changed.
#[derive(Clone, Debug)]
pub(crate) struct StreamSchema {
    /// The messages' own columns, by the names they have in the messages.
    fields: Fields,
    /// Their names in the output, which never change either.
    names: Vec<String>,
    output: SchemaRef,
    version: u32,
    max_columns: usize,
    given: bool,
}

impl StreamSchema {
    /// Knows no column yet.
    pub(crate) fn new(max_columns: usize) -> Self {
        let output = columns::output(&Fields::empty(), &[]);
        let (fields, names) = (Fields::empty(), Vec::new());
        StreamSchema { fields, names, output, version: 0, max_columns, given: false }
    }

    /// As someone wrote it down; it never changes.
    pub(crate) fn given(schema: &Schema, max_columns: usize) -> Result<Self, Error> {
        widen::distinct(schema.fields()).map_err(Error::Schema)?;
        let mut this = StreamSchema::new(max_columns);
        this.check(schema.fields()).map_err(Error::Schema)?;
        this.adopt(nullable_fields(schema.fields()));
        this.given = true;
        Ok(this)
    }

    /// Whether it was given, and so does not change.
    pub(crate) fn is_given(&self) -> bool {
        self.given
    }

    /// The messages' own columns.
    pub(crate) fn fields(&self) -> &Fields {
        &self.fields
    }

    /// All columns as they leave.
    pub(crate) fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// 0 without columns of messages, then one more with each change.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// `current`, so wide that `other` fits as well.
    pub(crate) fn widened(&self, current: &Fields, other: &Fields) -> Result<Fields, String> {
        if self.given {
            return Ok(current.clone());
        }
        let wide = widen::fields(current, other, "")?;
        self.check(&wide)?;
        Ok(wide)
    }

    fn check(&self, fields: &Fields) -> Result<(), String> {
        let count = widen::count(fields);
        if count > self.max_columns {
            let limit = self.max_columns;
            return Err(format!(
                "{count} columns, nested ones counted, are over the limit of {limit}"
            ));
        }
        Ok(())
    }

    /// Takes over what [`widened`](Self::widened) made.
    pub(crate) fn adopt(&mut self, fields: Fields) {
        if self.fields == fields {
            return;
        }
        for field in fields.iter().skip(self.names.len()) {
            let name = columns::free_name(field.name(), &self.names, &fields);
            self.names.push(name);
        }
        self.output = columns::output(&fields, &self.names);
        self.fields = fields;
        self.version += 1;
    }
}

/// `field` under another name and type, nullable.
fn renamed(field: &FieldRef, name: &str) -> FieldRef {
    Arc::new(field.as_ref().clone().with_name(name).with_nullable(true))
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;

    fn fields(list: &[(&str, DataType)]) -> Fields {
        list.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect()
    }

    #[test]
    fn a_version_is_a_change() {
        let mut schema = StreamSchema::new(10);
        assert_eq!((schema.version(), schema.output().fields().len()), (0, 6));
        for (list, version) in [
            (fields(&[("a", DataType::Null)]), 1),
            (fields(&[("a", DataType::Int64)]), 2),
            (fields(&[("b", DataType::Utf8)]), 3),
            (fields(&[("a", DataType::Int64), ("b", DataType::Utf8)]), 3),
        ] {
            let wide = schema.widened(schema.fields(), &list).unwrap();
            schema.adopt(wide);
            assert_eq!(schema.version(), version);
        }
        let conflict = fields(&[("a", DataType::Utf8)]);
        let error = schema.widened(schema.fields(), &conflict).unwrap_err();
        assert_eq!(error, "column a is Utf8 here and Int64 in the stream");
    }

    #[test]
    fn a_name_of_ours_is_renamed_for_good() {
        let mut schema = StreamSchema::new(10);
        let list = fields(&[("_offset", DataType::Utf8), ("_offset_", DataType::Utf8)]);
        schema.adopt(list.clone());
        let names = |schema: &StreamSchema| -> Vec<String> {
            schema.output().fields().iter().map(|field| field.name().clone()).take(3).collect()
        };
        assert_eq!(names(&schema)[..2], ["_offset__", "_offset_"]);
        let wide = schema.widened(&list, &fields(&[("_offset__", DataType::Utf8)])).unwrap();
        schema.adopt(wide);
        assert_eq!(names(&schema), ["_offset__", "_offset_", "_offset___"]);
    }

    #[test]
    fn columns_are_bounded() {
        let schema = StreamSchema::new(3);
        let inner = fields(&[("x", DataType::Utf8), ("y", DataType::Utf8)]);
        let fits = fields(&[("a", DataType::Struct(inner.clone()))]);
        schema.widened(schema.fields(), &fits).unwrap();
        let over = fields(&[("a", DataType::Struct(inner)), ("b", DataType::Utf8)]);
        let error = schema.widened(schema.fields(), &over).unwrap_err();
        assert_eq!(error, "4 columns, nested ones counted, are over the limit of 3");
    }
}
