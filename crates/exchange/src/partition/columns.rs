//! Columns by name or index.

use std::fmt;

use arrow_array::{Array as _, RecordBatch};
use arrow_schema::{Schema, SchemaRef};

use crate::error::Error;

/// Names in an error.
const SHOWN: usize = 16;

/// A column of a schema.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Column {
    /// By its name, which no other column may have.
    Name(String),
    /// By its place, from 0.
    Index(usize),
}

impl From<&str> for Column {
    fn from(name: &str) -> Self {
        Column::Name(name.to_owned())
    }
}

impl From<String> for Column {
    fn from(name: String) -> Self {
        Column::Name(name)
    }
}

impl From<usize> for Column {
    fn from(index: usize) -> Self {
        Column::Index(index)
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Column::Name(name) => write!(f, "{name:?}"),
            Column::Index(index) => write!(f, "{index}"),
        }
    }
}

impl Column {
    /// Its place in a schema.
    pub(crate) fn find(&self, schema: &Schema) -> Result<usize, Error> {
        let fields = schema.fields();
        match self {
            Column::Index(index) if *index < fields.len() => return Ok(*index),
            Column::Index(_) => {}
            Column::Name(name) => {
                let mut found = (0..fields.len()).filter(|index| fields[*index].name() == name);
                let (first, others) = (found.next(), found.count());
                if others > 0 {
                    let (column, count) = (name.clone(), others + 1);
                    return Err(Error::AmbiguousColumn { column, count });
                }
                if let Some(first) = first {
                    return Ok(first);
                }
            }
        }
        Err(Error::NoSuchColumn { column: self.to_string(), known: known(schema) })
    }
}

/// Refuses a batch whose columns are not those of the schema; metadata may differ.
pub(crate) fn check_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<(), Error> {
    let given = batch.schema_ref();
    if std::sync::Arc::ptr_eq(given, schema) {
        return Ok(());
    }
    let (has, wanted) = (given.fields().len(), schema.fields().len());
    let mismatch = |problem| Err(Error::SchemaMismatch { problem });
    if has != wanted {
        return mismatch(format!("it has {has} columns, not {wanted}"));
    }
    for (index, (its, ours)) in given.fields().iter().zip(schema.fields()).enumerate() {
        if its.name() != ours.name() || its.data_type() != ours.data_type() {
            let (its_name, its_type) = (its.name(), its.data_type());
            let (name, data_type) = (ours.name(), ours.data_type());
            return mismatch(format!(
                "column {index} is {its_name:?} of {its_type}, not {name:?} of {data_type}"
            ));
        }
        if !ours.is_nullable() && batch.column(index).null_count() > 0 {
            let name = ours.name();
            return mismatch(format!("column {index} ({name:?}) has nulls, and may not have any"));
        }
    }
    Ok(())
}

fn known(schema: &Schema) -> String {
    let names = schema.fields().iter().take(SHOWN).map(|field| format!("{:?}", field.name()));
    let mut text = names.collect::<Vec<_>>().join(", ");
    match schema.fields().len() {
        0 => text.push_str("none"),
        count if count > SHOWN => text.push_str(&format!(" and {} more", count - SHOWN)),
        _ => {}
    }
    text
}
