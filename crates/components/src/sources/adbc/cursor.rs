//! A column that only grows, and queries of what is beyond one of its values.

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Schema};
use sheaf_dataflow::ComponentError;

use super::unprintable;
use crate::databases::identifier;
use crate::failure::refused;

/// The column.
pub(super) struct Cursor {
    name: String,
    identifier: String,
}

impl Cursor {
    pub(super) fn try_new(name: &str) -> Result<Self, ComponentError> {
        Ok(Cursor { name: name.to_owned(), identifier: identifier(name)? })
    }

    /// A query with the columns of `query` and no rows.
    pub(super) fn no_rows(&self, query: &str) -> String {
        format!("SELECT * FROM ({query}) AS sheaf_rows WHERE 1 = 0")
    }

    /// The rows beyond a value in their order; with those that have it, unless the run is a
    /// new one. Rows with the same value are in the order of their other columns, so that
    /// each run that is repeated has them in the same order.
    pub(super) fn rows(
        &self,
        query: &str,
        schema: &Schema,
        after: Option<&str>,
        is_new: bool,
    ) -> Result<String, ComponentError> {
        let own = schema.fields().iter().any(|field| field.name().eq_ignore_ascii_case(&self.name));
        if !own {
            return Err(refused(format!(
                "config.cursor: the query has no column {}; it has {}",
                self.name,
                schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>().join(", ")
            )));
        }
        let cursor = &self.identifier;
        let beyond = after.map_or_else(String::new, |after| {
            let than = if is_new { ">" } else { ">=" };
            format!(" WHERE {cursor} {than} {after}")
        });
        let others = schema.fields().iter().enumerate();
        let others = others.filter(|(_, field)| has_order(field.data_type()));
        let others: String = others.map(|(place, _)| format!(", {}", place + 1)).collect();
        Ok(format!("SELECT * FROM ({query}) AS sheaf_rows{beyond} ORDER BY {cursor}{others}"))
    }

    /// The value of the last row as SQL writes it, and how many of the last rows have it.
    pub(super) fn last(&self, batch: &RecordBatch) -> Result<(String, u64), ComponentError> {
        let schema = batch.schema_ref();
        let place = schema.fields().iter().position(|f| f.name().eq_ignore_ascii_case(&self.name));
        let Some(column) = place.map(|place| batch.column(place)) else {
            return Err(refused(format!("config.cursor: the rows have no column {}", self.name)));
        };
        let options = FormatOptions::default();
        let values = ArrayFormatter::try_new(column, &options).map_err(unprintable(&self.name))?;
        let last = self.literal(column, &values, column.len() - 1)?;
        let mut ties = 1;
        for row in (0..column.len() - 1).rev() {
            if self.literal(column, &values, row)? != last {
                break;
            }
            ties += 1;
        }
        Ok((last, ties))
    }

    fn literal(
        &self,
        column: &ArrayRef,
        values: &ArrayFormatter<'_>,
        row: usize,
    ) -> Result<String, ComponentError> {
        if column.is_null(row) {
            return Err(refused(format!(
                "config.cursor: {} is null in a row, and null is beyond nothing; leave such rows \
                 out in the query",
                self.name
            )));
        }
        let text = values.value(row).try_to_string().map_err(unprintable(&self.name))?;
        let data_type = column.data_type();
        if data_type.is_numeric() {
            let is_number = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
            return is_number.then_some(text).ok_or_else(|| {
                refused(format!("config.cursor: {} is no number in a row", self.name))
            });
        }
        if !has_order(data_type) {
            return Err(refused(format!(
                "config.cursor: {} is of type {data_type}; numbers, texts, dates and times are of \
                 use",
                self.name
            )));
        }
        Ok(format!("'{}'", text.replace('\'', "''")))
    }
}

/// Types that every database can sort by.
fn has_order(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(..)
        )
}
