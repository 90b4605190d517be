//! The values of one column that is made up.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, TimeUnit};
use serde_json::Value;
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::{GeneratedColumn, Generator};
use sheaf_retry::Timestamp;

use crate::failure::refused;

/// A column.
pub(super) struct Values {
    name: String,
    maker: Maker,
}

enum Maker {
    Sequence,
    Now,
    /// The first, and how many there are.
    Integers(i64, u64),
    Numbers(f64, f64),
    Choice(Choices),
    Constant(Choices, Option<ArrayRef>),
}

/// Values of one type, null among them.
enum Choices {
    Booleans(Vec<Option<bool>>),
    Integers(Vec<Option<i64>>),
    Numbers(Vec<Option<f64>>),
    Texts(Vec<Option<String>>),
}

impl Values {
    pub(super) fn of(column: &GeneratedColumn) -> Result<Self, ComponentError> {
        let name = &column.name;
        let maker = match &column.values {
            Generator::Sequence => Maker::Sequence,
            Generator::Now => Maker::Now,
            Generator::Integers(first, last) => {
                let span = i128::from(*last) - i128::from(*first) + 1;
                // All 2^64 of them are one more than fits.
                let span = u64::try_from(span.min(i128::from(u64::MAX))).unwrap_or(0);
                if span == 0 {
                    return Err(empty(name, first, last));
                }
                Maker::Integers(*first, span)
            }
            Generator::Numbers(first, last) => {
                if !(first <= last && (last - first).is_finite()) {
                    return Err(empty(name, first, last));
                }
                Maker::Numbers(*first, *last)
            }
            Generator::Choice(values) => Maker::Choice(Choices::of(name, values)?),
            Generator::Constant(value) => {
                Maker::Constant(Choices::of(name, std::slice::from_ref(value))?, None)
            }
        };
        Ok(Values { name: name.clone(), maker })
    }

    pub(super) fn field(&self) -> Field {
        let (data_type, nullable) = match &self.maker {
            Maker::Sequence | Maker::Integers(..) => (DataType::Int64, false),
            Maker::Now => (DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
            Maker::Numbers(..) => (DataType::Float64, false),
            Maker::Choice(choices) | Maker::Constant(choices, _) => choices.data_type(),
        };
        Field::new(&self.name, data_type, nullable)
    }

    /// The values of these rows.
    pub(super) fn rows(
        &mut self,
        seed: u64,
        place: u64,
        rows: Range<u64>,
        now: Timestamp,
    ) -> ArrayRef {
        // Columns of equal kinds differ.
        let key = mix(seed ^ mix(place.wrapping_add(1)));
        let count = usize::try_from(rows.end - rows.start).unwrap_or(usize::MAX);
        let random = rows.clone().map(|row| mix(key ^ mix(row)));
        match &mut self.maker {
            Maker::Sequence => Arc::new(Int64Array::from_iter_values(rows.map(u64::cast_signed))),
            Maker::Now => {
                let micros = now.as_micros().cast_signed();
                let all = std::iter::repeat_n(micros, count);
                Arc::new(TimestampMicrosecondArray::from_iter_values(all).with_timezone("UTC"))
            }
            Maker::Integers(first, span) => {
                let (first, span) = (*first, *span);
                let value = |random| first.wrapping_add(below(random, span).cast_signed());
                Arc::new(Int64Array::from_iter_values(random.map(value)))
            }
            Maker::Numbers(first, last) => {
                let (first, span) = (*first, *last - *first);
                let value = |random| first + span * unit(random);
                Arc::new(Float64Array::from_iter_values(random.map(value)))
            }
            Maker::Choice(choices) => choices.pick(random, count),
            Maker::Constant(choices, made) => match made {
                Some(made) if made.len() >= count => made.slice(0, count),
                made => Arc::clone(made.insert(choices.pick(std::iter::repeat_n(0, count), count))),
            },
        }
    }
}

impl Choices {
    fn of(column: &str, values: &[Value]) -> Result<Self, ComponentError> {
        let all =
            |test: fn(&Value) -> bool| values.iter().all(|value| value.is_null() || test(value));
        if values.iter().all(Value::is_null) {
            let text = format!("column {column}: there is no value but null, so it has no type");
            return Err(refused(text));
        }
        if all(Value::is_boolean) {
            return Ok(Choices::Booleans(values.iter().map(Value::as_bool).collect()));
        }
        if all(Value::is_i64) {
            return Ok(Choices::Integers(values.iter().map(Value::as_i64).collect()));
        }
        if all(Value::is_number) {
            return Ok(Choices::Numbers(values.iter().map(Value::as_f64).collect()));
        }
        if all(Value::is_string) {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            return Ok(Choices::Texts(values.iter().map(text).collect()));
        }
        Err(refused(format!(
            "column {column}: the values are to be of one type: texts, numbers, or true and false"
        )))
    }

    fn data_type(&self) -> (DataType, bool) {
        match self {
            Choices::Booleans(values) => (DataType::Boolean, values.contains(&None)),
            Choices::Integers(values) => (DataType::Int64, values.contains(&None)),
            Choices::Numbers(values) => (DataType::Float64, values.contains(&None)),
            Choices::Texts(values) => (DataType::Utf8, values.contains(&None)),
        }
    }

    fn pick(&self, random: impl Iterator<Item = u64>, count: usize) -> ArrayRef {
        fn one<'a, T>(values: &'a [T]) -> impl Fn(u64) -> &'a T {
            |random| {
                let place = below(random, values.len() as u64);
                &values[usize::try_from(place).unwrap_or(0)]
            }
        }
        match self {
            Choices::Booleans(values) => {
                Arc::new(random.map(one(values)).copied().collect::<BooleanArray>())
            }
            Choices::Integers(values) => {
                Arc::new(random.map(one(values)).copied().collect::<Int64Array>())
            }
            Choices::Numbers(values) => {
                Arc::new(random.map(one(values)).copied().collect::<Float64Array>())
            }
            Choices::Texts(values) => {
                let mut builder = StringBuilder::with_capacity(count, count.saturating_mul(8));
                for value in random.map(one(values)) {
                    builder.append_option(value.as_deref());
                }
                let array: StringArray = builder.finish();
                Arc::new(array)
            }
        }
    }
}

fn empty(column: &str, first: &impl ToString, last: &impl ToString) -> ComponentError {
    let (first, last) = (first.to_string(), last.to_string());
    refused(format!(
        "column {column}: there is nothing from {first} to {last}; write the less first"
    ))
}

/// A number below the limit, all about equally likely.
fn below(random: u64, limit: u64) -> u64 {
    let wide = u128::from(random) * u128::from(limit);
    u64::try_from(wide >> 64).unwrap_or(0)
}

/// A number from 0 up to 1, with the 53 bits that it can have.
#[allow(clippy::cast_precision_loss, reason = "53 bits are left")]
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// Spreads the bits of a number over all of it, one to one.
///
/// # Source
/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
