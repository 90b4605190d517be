//! Sums and means.

use std::sync::Arc;

use arrow_array::types::{
    Decimal128Type, Decimal256Type, DecimalType as _, Float64Type, Int64Type, UInt64Type,
};
use arrow_array::{
    ArrayRef, Decimal128Array, Decimal256Array, Float64Array, Int64Array, UInt64Array,
};
use arrow_buffer::i256;
use arrow_schema::{ArrowError, DataType};

use super::accumulator::{Accumulator, each};
use crate::processors::expression::cast;

/// The type of a sum of such values; none where they are no numbers.
pub(super) fn sum_type(input: &DataType) -> Option<DataType> {
    Some(match input {
        DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
        DataType::Decimal256(_, scale) => DataType::Decimal256(76, *scale),
        _ if input.is_unsigned_integer() => DataType::UInt64,
        _ if input.is_signed_integer() => DataType::Int64,
        _ => return None,
    })
}

/// The sum of such values.
pub(super) fn sum(input: &DataType) -> Box<dyn Accumulator> {
    match sum_type(input) {
        Some(DataType::Float64) => Box::new(Floats::default()),
        Some(output @ (DataType::Decimal128(..) | DataType::Decimal256(..))) => {
            Box::new(Decimals { sums: Vec::new(), output, overflowed: false })
        }
        output => {
            let is_unsigned = output == Some(DataType::UInt64);
            Box::new(Integers { sums: Vec::new(), is_unsigned })
        }
    }
}

/// Whole numbers, with 128 bits: no number of rows makes them overflow.
struct Integers {
    sums: Vec<Option<i128>>,
    is_unsigned: bool,
}

fn add_integers(
    sums: &mut [Option<i128>],
    is_unsigned: bool,
    ids: &[u32],
    column: &ArrayRef,
) -> Result<(), ArrowError> {
    let mut add = |group: usize, value: i128| {
        let sum = &mut sums[group];
        *sum = Some(sum.unwrap_or_default() + value);
    };
    match is_unsigned {
        true => {
            let wide = cast(column, &DataType::UInt64)?;
            each::<UInt64Type>(ids, &wide, |group, value| add(group, value.into()));
        }
        false => {
            let wide = cast(column, &DataType::Int64)?;
            each::<Int64Type>(ids, &wide, |group, value| add(group, value.into()));
        }
    }
    Ok(())
}

impl Accumulator for Integers {
    fn add(
        &mut self,
        ids: &[u32],
        groups: usize,
        column: Option<&ArrayRef>,
    ) -> Result<(), ArrowError> {
        self.sums.resize(groups, None);
        let Some(column) = column else { return Ok(()) };
        add_integers(&mut self.sums, self.is_unsigned, ids, column)
    }

    fn finish(&self) -> Result<ArrayRef, String> {
        fn narrowed<T: TryFrom<i128>>(sums: &[Option<i128>]) -> Result<Vec<Option<T>>, String> {
            let narrow = |sum: &Option<i128>| match sum {
                Some(sum) => T::try_from(*sum).map(Some).map_err(|_| {
                    format!("the sum {sum} does not fit into 64 bits; sum up decimals, or floats")
                }),
                None => Ok(None),
            };
            sums.iter().map(narrow).collect()
        }
        Ok(match self.is_unsigned {
            true => Arc::new(UInt64Array::from(narrowed::<u64>(&self.sums)?)),
            false => Arc::new(Int64Array::from(narrowed::<i64>(&self.sums)?)),
        })
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Option<i128>>()
    }
}

#[derive(Default)]
struct Floats(Vec<Option<f64>>);

impl Accumulator for Floats {
    fn add(
        &mut self,
        ids: &[u32],
        groups: usize,
        column: Option<&ArrayRef>,
    ) -> Result<(), ArrowError> {
        self.0.resize(groups, None);
        let Some(column) = column else { return Ok(()) };
        let wide = cast(column, &DataType::Float64)?;
        each::<Float64Type>(ids, &wide, |group, value| {
            let sum = &mut self.0[group];
            *sum = Some(sum.unwrap_or_default() + value);
        });
        Ok(())
    }

    fn finish(&self) -> Result<ArrayRef, String> {
        Ok(Arc::new(Float64Array::from(self.0.clone())))
    }

    fn size(&self) -> usize {
        self.0.capacity() * size_of::<Option<f64>>()
    }
}

/// Decimals, with 256 bits.
struct Decimals {
    sums: Vec<Option<i256>>,
    output: DataType,
    overflowed: bool,
}

impl Accumulator for Decimals {
    fn add(
        &mut self,
        ids: &[u32],
        groups: usize,
        column: Option<&ArrayRef>,
    ) -> Result<(), ArrowError> {
        self.sums.resize(groups, None);
        let Some(column) = column else { return Ok(()) };
        let Self { sums, overflowed, .. } = self;
        let mut add = |group: usize, value: i256| {
            let sum = &mut sums[group];
            let total = sum.unwrap_or_default().checked_add(value);
            *overflowed |= total.is_none();
            *sum = total.or(*sum);
        };
        match column.data_type() {
            DataType::Decimal128(..) => each::<Decimal128Type>(ids, column, |group, value| {
                add(group, i256::from_i128(value));
            }),
            _ => each::<Decimal256Type>(ids, column, add),
        }
        Ok(())
    }

    fn finish(&self) -> Result<ArrayRef, String> {
        let large = || format!("a sum does not fit into {}; sum up floats instead", self.output);
        if self.overflowed {
            return Err(large());
        }
        match self.output {
            DataType::Decimal128(precision, scale) => {
                let narrow = |sum: &Option<i256>| match sum {
                    Some(sum) => sum.to_i128().map(Some).ok_or_else(large),
                    None => Ok(None),
                };
                let sums = self.sums.iter().map(narrow).collect::<Result<Vec<_>, _>>()?;
                for sum in sums.iter().flatten() {
                    Decimal128Type::validate_decimal_precision(*sum, precision, scale)
                        .map_err(|_| large())?;
                }
                let array = Decimal128Array::from(sums).with_precision_and_scale(precision, scale);
                array.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
            }
            DataType::Decimal256(precision, scale) => {
                for sum in self.sums.iter().flatten() {
                    Decimal256Type::validate_decimal_precision(*sum, precision, scale)
                        .map_err(|_| large())?;
                }
                let array = Decimal256Array::from(self.sums.clone());
                let array = array.with_precision_and_scale(precision, scale);
                array.map(|array| Arc::new(array) as ArrayRef).map_err(|error| error.to_string())
            }
            ref other => Err(format!("{other} is no decimal")),
        }
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Option<i256>>()
    }
}

/// Means: exact sums of whole numbers, and floats of everything else.
pub(super) enum Mean {
    Integers { sums: Vec<Option<i128>>, counts: Vec<u64>, is_unsigned: bool },
    Floats { sums: Vec<f64>, counts: Vec<u64> },
}

impl Mean {
    pub(super) fn new(input: &DataType) -> Self {
        match input.is_integer() {
            true => Mean::Integers {
                sums: Vec::new(),
                counts: Vec::new(),
                is_unsigned: input.is_unsigned_integer(),
            },
            false => Mean::Floats { sums: Vec::new(), counts: Vec::new() },
        }
    }
}

impl Accumulator for Mean {
    fn add(
        &mut self,
        ids: &[u32],
        groups: usize,
        column: Option<&ArrayRef>,
    ) -> Result<(), ArrowError> {
        let Some(column) = column else { return Ok(()) };
        match self {
            Mean::Integers { sums, counts, is_unsigned } => {
                sums.resize(groups, None);
                counts.resize(groups, 0);
                let nulls = arrow_array::Array::logical_nulls(column);
                for (row, id) in ids.iter().enumerate() {
                    let valid = nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
                    counts[*id as usize] += u64::from(valid);
                }
                add_integers(sums, *is_unsigned, ids, column)
            }
            Mean::Floats { sums, counts } => {
                sums.resize(groups, 0.0);
                counts.resize(groups, 0);
                let wide = cast(column, &DataType::Float64)?;
                each::<Float64Type>(ids, &wide, |group, value| {
                    sums[group] += value;
                    counts[group] += 1;
                });
                Ok(())
            }
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a mean is a float")]
    fn finish(&self) -> Result<ArrayRef, String> {
        let means: Float64Array = match self {
            Mean::Integers { sums, counts, .. } => {
                let mean =
                    |(sum, count): (&Option<i128>, &u64)| sum.map(|sum| sum as f64 / *count as f64);
                sums.iter().zip(counts).map(mean).collect()
            }
            Mean::Floats { sums, counts } => {
                let mean = |(sum, count): (&f64, &u64)| (*count > 0).then(|| sum / *count as f64);
                sums.iter().zip(counts).map(mean).collect()
            }
        };
        Ok(Arc::new(means))
    }

    fn size(&self) -> usize {
        match self {
            Mean::Integers { sums, counts, .. } => {
                sums.capacity() * size_of::<Option<i128>>() + counts.capacity() * 8
            }
            Mean::Floats { sums, counts } => (sums.capacity() + counts.capacity()) * 8,
        }
    }
}
