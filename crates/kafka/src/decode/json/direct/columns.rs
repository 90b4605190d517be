//! Columns that are filled value by value.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, StructArray};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{DataType, Fields};

use super::cursor::Cursor;

/// Columns of one object at most: of more, too many may have to be looked at to
/// find one that comes out of order.
const MOST: usize = 256;

/// The columns of an object.
#[derive(Debug)]
pub(super) struct Columns {
    fields: Fields,
    columns: Vec<Column>,
    rows: usize,
}

#[derive(Debug)]
struct Column {
    /// As the message has it, with quotes.
    name: Box<[u8]>,
    /// Of each row that it has, whether it is not null.
    valid: Vec<bool>,
    values: Values,
}

/// Values of a column; those of a null count too.
#[derive(Debug)]
enum Values {
    Text { bytes: Vec<u8>, ends: Vec<i32> },
    Integer(Vec<i64>),
    Float(Vec<f64>),
    Boolean(Vec<bool>),
    Object(Columns),
}

impl Columns {
    /// None where a column is of a type that is not ours, or its name may be
    /// written in several ways.
    pub(super) fn new(fields: &Fields) -> Option<Self> {
        if fields.len() > MOST {
            return None;
        }
        let columns = fields.iter().map(|field| {
            let values = match field.data_type() {
                DataType::Utf8 => Values::Text { bytes: Vec::new(), ends: Vec::new() },
                DataType::Int64 => Values::Integer(Vec::new()),
                DataType::Float64 => Values::Float(Vec::new()),
                DataType::Boolean => Values::Boolean(Vec::new()),
                DataType::Struct(fields) => Values::Object(Columns::new(fields)?),
                _ => return None,
            };
            let name = field.name();
            let is_plain = field.is_nullable() && !name.contains(['"', '\\']);
            let name = format!("\"{name}\"").into_bytes().into_boxed_slice();
            is_plain.then_some(Column { name, valid: Vec::new(), values })
        });
        let columns = columns.collect::<Option<Vec<_>>>()?;
        Some(Columns { fields: fields.clone(), columns, rows: 0 })
    }

    /// Forgets all rows and keeps the room they had.
    pub(super) fn clear(&mut self) {
        self.rows = 0;
        self.columns.iter_mut().for_each(Column::clear);
    }

    /// Reads one object as the next row.
    pub(super) fn read(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        if !cursor.take(b"{") {
            return None;
        }
        let mut expected = 0;
        cursor.skip_space();
        let mut is_over = cursor.take(b"}");
        while !is_over {
            let at = self.find(cursor, expected)?;
            expected = at + 1;
            cursor.skip_space();
            if !cursor.take(b":") {
                return None;
            }
            cursor.skip_space();
            let column = &mut self.columns[at];
            // One that comes twice.
            if column.valid.len() > self.rows {
                return None;
            }
            column.read(cursor)?;
            cursor.skip_space();
            if cursor.take(b",") {
                cursor.skip_space();
            } else if cursor.take(b"}") {
                is_over = true;
            } else {
                return None;
            }
        }
        self.end_row();
        Some(())
    }

    /// Goes behind the name that comes next; which column that is. Most messages
    /// have the order of those before.
    fn find(&self, cursor: &mut Cursor<'_>, expected: usize) -> Option<usize> {
        let count = self.columns.len();
        let order = (expected..count).chain(0..expected.min(count));
        order.into_iter().find(|at| cursor.take(&self.columns[*at].name))
    }

    /// Columns that the row did not have are null.
    fn end_row(&mut self) {
        self.rows += 1;
        for column in &mut self.columns {
            if column.valid.len() < self.rows {
                column.push_null();
            }
        }
    }

    fn push_null(&mut self) {
        self.end_row();
    }

    /// All rows; none where a text is not UTF-8, or all are too long.
    pub(super) fn arrays(&self) -> Option<Vec<ArrayRef>> {
        self.columns.iter().map(Column::array).collect()
    }
}

impl Column {
    fn clear(&mut self) {
        self.valid.clear();
        match &mut self.values {
            Values::Text { bytes, ends } => {
                bytes.clear();
                ends.clear();
            }
            Values::Integer(values) => values.clear(),
            Values::Float(values) => values.clear(),
            Values::Boolean(values) => values.clear(),
            Values::Object(columns) => columns.clear(),
        }
    }

    fn read(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        if cursor.take(b"null") {
            self.push_null();
            return Some(());
        }
        match &mut self.values {
            Values::Text { bytes, ends } => {
                if !cursor.take(b"\"") {
                    return None;
                }
                cursor.text(bytes)?;
                ends.push(i32::try_from(bytes.len()).ok()?);
            }
            Values::Integer(values) => values.push(cursor.integer()?),
            Values::Float(values) => values.push(cursor.float()?),
            Values::Boolean(values) => {
                let value = cursor.take(b"true");
                if !value && !cursor.take(b"false") {
                    return None;
                }
                values.push(value);
            }
            Values::Object(columns) => columns.read(cursor)?,
        }
        self.valid.push(true);
        Some(())
    }

    fn push_null(&mut self) {
        self.valid.push(false);
        match &mut self.values {
            Values::Text { ends, .. } => ends.push(ends.last().copied().unwrap_or(0)),
            Values::Integer(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Boolean(values) => values.push(false),
            Values::Object(columns) => columns.push_null(),
        }
    }

    /// Its rows, in memory of just their size.
    fn array(&self) -> Option<ArrayRef> {
        let nulls = self.valid.contains(&false).then(|| NullBuffer::from(&self.valid[..]));
        Some(match &self.values {
            Values::Text { bytes, ends } => {
                let offsets: Vec<i32> = std::iter::once(0).chain(ends.iter().copied()).collect();
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                let bytes = Buffer::from(&bytes[..]);
                Arc::new(StringArray::try_new(offsets, bytes, nulls).ok()?)
            }
            Values::Integer(values) => Arc::new(Int64Array::new(values.clone().into(), nulls)),
            Values::Float(values) => Arc::new(Float64Array::new(values.clone().into(), nulls)),
            Values::Boolean(values) => Arc::new(BooleanArray::new(values[..].into(), nulls)),
            Values::Object(columns) => {
                let (fields, length) = (columns.fields.clone(), columns.rows);
                let arrays = columns.arrays()?;
                let array = StructArray::try_new_with_length(fields, arrays, nulls, length);
                Arc::new(array.ok()?)
            }
        })
    }
}
