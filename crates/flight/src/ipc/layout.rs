//! How many nodes and buffers each field of a schema has in a message.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_ipc::{DateUnit, Field, Int, IntervalUnit, Precision, Type, UnionMode};

use super::Bounds;
use super::inspect::{limit, malformed};
use crate::error::Error;

/// What the buffers of a field hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Null,
    Fixed {
        bits: u64,
    },
    /// Offsets of this many bytes, and data.
    Variable {
        offset: u64,
    },
    View,
    List {
        offset: u64,
    },
    ListView {
        offset: u64,
    },
    FixedSizeList {
        width: u64,
    },
    Struct,
    Union {
        dense: bool,
    },
    RunEndEncoded,
}

/// One field, with those inside it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) name: String,
    /// Of the values; in a record batch a dictionary's indices stand for them.
    pub(super) shape: Shape,
    pub(super) children: Vec<Arc<Layout>>,
    pub(super) dictionary: Option<Dictionary>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Dictionary {
    pub(super) id: i64,
    pub(super) index_bits: u64,
}

/// Every field of a schema.
#[derive(Debug)]
pub(super) struct SchemaLayout {
    pub(super) columns: Vec<Arc<Layout>>,
    /// By dictionary id, the field whose values it holds.
    pub(super) dictionaries: HashMap<i64, Arc<Layout>>,
}

impl SchemaLayout {
    pub(super) fn try_new(schema: arrow_ipc::Schema<'_>, bounds: &Bounds) -> Result<Self, Error> {
        let fields =
            schema.fields().ok_or_else(|| malformed("the schema has no list of fields"))?;
        if fields.len() > bounds.max_columns {
            return Err(limit(format!(
                "the schema has {} columns, the limit is {}",
                fields.len(),
                bounds.max_columns
            )));
        }
        let mut reader = Reader { bounds, fields: 0, dictionaries: HashMap::new() };
        let columns =
            fields.iter().map(|field| reader.field(field, 1)).collect::<Result<_, _>>()?;
        Ok(SchemaLayout { columns, dictionaries: reader.dictionaries })
    }
}

struct Reader<'a> {
    bounds: &'a Bounds,
    fields: usize,
    dictionaries: HashMap<i64, Arc<Layout>>,
}

impl Reader<'_> {
    fn field(&mut self, field: Field<'_>, depth: usize) -> Result<Arc<Layout>, Error> {
        let name = field.name().unwrap_or_default().to_owned();
        if depth > self.bounds.max_depth {
            let max = self.bounds.max_depth;
            return Err(limit(format!(
                "field {name:?} is nested {depth} deep, the limit is {max}"
            )));
        }
        self.fields += 1;
        if self.fields > self.bounds.max_fields {
            let max = self.bounds.max_fields;
            return Err(limit(format!("the schema has more than {max} fields with nested ones")));
        }
        let shape = shape_of(field).map_err(|problem| {
            malformed(format!("field {name:?} is of no known type: {problem}"))
        })?;
        let children = field.children().map(|list| list.iter().collect::<Vec<_>>());
        let children: Vec<_> = children
            .unwrap_or_default()
            .into_iter()
            .map(|child| self.field(child, depth + 1))
            .collect::<Result<_, _>>()?;
        let wanted = match shape {
            Shape::List { .. } | Shape::ListView { .. } | Shape::FixedSizeList { .. } => Some(1),
            Shape::RunEndEncoded => Some(2),
            Shape::Struct | Shape::Union { .. } => None,
            _ => Some(0),
        };
        if wanted.is_some_and(|wanted| wanted != children.len()) {
            let has = children.len();
            let wanted = wanted.unwrap_or_default();
            return Err(malformed(format!("field {name:?} has {has} children, not {wanted}")));
        }
        let dictionary = match field.dictionary() {
            None => None,
            Some(encoding) => {
                // Indices without a type are 32 bits wide, as the format has it.
                let bits = encoding.indexType().map_or(Ok(32), width_of);
                let bits =
                    bits.map_err(|problem| malformed(format!("field {name:?}: {problem}")))?;
                Some(Dictionary { id: encoding.id(), index_bits: bits })
            }
        };
        let layout = Arc::new(Layout { name, shape, children, dictionary });
        if let Some(dictionary) = dictionary {
            self.dictionaries.entry(dictionary.id).or_insert_with(|| Arc::clone(&layout));
        }
        Ok(layout)
    }
}

fn shape_of(field: Field<'_>) -> Result<Shape, String> {
    let absent =
        || format!("its {} is missing", field.type_type().variant_name().unwrap_or("type"));
    let fixed = |bits| Ok(Shape::Fixed { bits });
    match field.type_type() {
        Type::Null => Ok(Shape::Null),
        Type::Bool => fixed(1),
        Type::Int => fixed(width_of(field.type_as_int().ok_or_else(absent)?)?),
        Type::FloatingPoint => {
            match field.type_as_floating_point().ok_or_else(absent)?.precision() {
                Precision::HALF => fixed(16),
                Precision::SINGLE => fixed(32),
                Precision::DOUBLE => fixed(64),
                other => Err(format!("floating point precision {}", other.0)),
            }
        }
        Type::Decimal => match field.type_as_decimal().ok_or_else(absent)?.bitWidth() {
            bits @ (32 | 64 | 128 | 256) => fixed(u64::from(bits.unsigned_abs())),
            bits => Err(format!("decimal of {bits} bits")),
        },
        Type::Date => match field.type_as_date().ok_or_else(absent)?.unit() {
            DateUnit::DAY => fixed(32),
            DateUnit::MILLISECOND => fixed(64),
            other => Err(format!("date unit {}", other.0)),
        },
        Type::Time => match field.type_as_time().ok_or_else(absent)?.bitWidth() {
            bits @ (32 | 64) => fixed(u64::from(bits.unsigned_abs())),
            bits => Err(format!("time of {bits} bits")),
        },
        Type::Timestamp | Type::Duration => fixed(64),
        Type::Interval => match field.type_as_interval().ok_or_else(absent)?.unit() {
            IntervalUnit::YEAR_MONTH => fixed(32),
            IntervalUnit::DAY_TIME => fixed(64),
            IntervalUnit::MONTH_DAY_NANO => fixed(128),
            other => Err(format!("interval unit {}", other.0)),
        },
        Type::FixedSizeBinary => {
            let bytes = field.type_as_fixed_size_binary().ok_or_else(absent)?.byteWidth();
            let bytes = u64::try_from(bytes).map_err(|_| format!("{bytes} bytes a value"))?;
            fixed(bytes * 8)
        }
        Type::Binary | Type::Utf8 => Ok(Shape::Variable { offset: 4 }),
        Type::LargeBinary | Type::LargeUtf8 => Ok(Shape::Variable { offset: 8 }),
        Type::BinaryView | Type::Utf8View => Ok(Shape::View),
        Type::List | Type::Map => Ok(Shape::List { offset: 4 }),
        Type::LargeList => Ok(Shape::List { offset: 8 }),
        Type::ListView => Ok(Shape::ListView { offset: 4 }),
        Type::LargeListView => Ok(Shape::ListView { offset: 8 }),
        Type::FixedSizeList => {
            let width = field.type_as_fixed_size_list().ok_or_else(absent)?.listSize();
            let width = u64::try_from(width).map_err(|_| format!("{width} values a list"))?;
            Ok(Shape::FixedSizeList { width })
        }
        Type::Struct_ => Ok(Shape::Struct),
        Type::Union => match field.type_as_union().ok_or_else(absent)?.mode() {
            UnionMode::Sparse => Ok(Shape::Union { dense: false }),
            UnionMode::Dense => Ok(Shape::Union { dense: true }),
            other => Err(format!("union mode {}", other.0)),
        },
        Type::RunEndEncoded => Ok(Shape::RunEndEncoded),
        other => Err(format!("type number {}", other.0)),
    }
}

fn width_of(int: Int<'_>) -> Result<u64, String> {
    match int.bitWidth() {
        bits @ (8 | 16 | 32 | 64) => Ok(u64::from(bits.unsigned_abs())),
        bits => Err(format!("integer of {bits} bits")),
    }
}
