//! Hashes of one column, by type; nulls are the caller's.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    BinaryType, BinaryViewType, ByteArrayType, ByteViewType, Float16Type, Int16Type, Int32Type,
    Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, LargeBinaryType, LargeUtf8Type,
    RunEndIndexType, StringViewType, Utf8Type,
};
use arrow_array::{Array, RunArray};
use arrow_buffer::{ArrowNativeType, ScalarBuffer, i256};
use arrow_schema::{ArrowError, DataType, IntervalUnit};

use super::{Hasher, join, nested, wide};

/// Writes the hash of each value to `out`; of null values, anything.
pub(super) fn hash(hasher: Hasher, array: &dyn Array, out: &mut [u64]) -> Result<(), ArrowError> {
    match array.data_type() {
        DataType::Null => out.fill(hasher.null()),
        DataType::Boolean => {
            let values = array.as_boolean().values().iter();
            fill(out, values.map(|value| hasher.number(u64::from(value))));
        }
        data_type if integer(data_type).is_some() => integers(hasher, array, out),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => floats(hasher, array, out),
        DataType::Decimal128(..) => {
            let values = native::<i128>(array);
            fill(out, values.iter().map(|value| wide(hasher, *value)));
        }
        DataType::Decimal256(..) => {
            let values = native::<i256>(array);
            fill(out, values.iter().map(|value| widest(hasher, *value)));
        }
        DataType::Interval(unit) => intervals(hasher, array, *unit, out),
        DataType::Utf8 => bytes::<Utf8Type>(hasher, array, out),
        DataType::LargeUtf8 => bytes::<LargeUtf8Type>(hasher, array, out),
        DataType::Binary => bytes::<BinaryType>(hasher, array, out),
        DataType::LargeBinary => bytes::<LargeBinaryType>(hasher, array, out),
        DataType::Utf8View => views::<StringViewType>(hasher, array, out),
        DataType::BinaryView => views::<BinaryViewType>(hasher, array, out),
        DataType::FixedSizeBinary(_) => {
            let values = array.as_fixed_size_binary();
            fill(out, (0..values.len()).map(|row| hasher.text(values.value(row))));
        }
        DataType::Dictionary(..) => return dictionary(hasher, array, out),
        DataType::RunEndEncoded(ends, _) => {
            return match ends.data_type() {
                DataType::Int16 => runs(hasher, array.as_run::<Int16Type>(), out),
                DataType::Int32 => runs(hasher, array.as_run::<Int32Type>(), out),
                _ => runs(hasher, array.as_run::<Int64Type>(), out),
            };
        }
        _ => return nested::hash(hasher, array, out),
    }
    Ok(())
}

fn fill(out: &mut [u64], hashes: impl Iterator<Item = u64>) {
    out.iter_mut().zip(hashes).for_each(|(out, hash)| *out = hash);
}

/// The values of an array of fixed width, whatever its logical type.
fn native<T: ArrowNativeType>(array: &dyn Array) -> ScalarBuffer<T> {
    let data = array.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

/// Width in bytes and whether there is a sign, of a type that is stored as an
/// integer of at most 64 bits.
fn integer(data_type: &DataType) -> Option<(u8, bool)> {
    use DataType::{
        Date32, Date64, Decimal32, Decimal64, Duration, Int8, Int16, Int32, Int64, Interval,
        Time32, Time64, Timestamp, UInt8, UInt16, UInt32, UInt64,
    };
    Some(match data_type {
        UInt8 => (1, false),
        UInt16 => (2, false),
        UInt32 => (4, false),
        UInt64 => (8, false),
        Int8 => (1, true),
        Int16 => (2, true),
        Int32 | Date32 | Time32(_) | Decimal32(..) | Interval(IntervalUnit::YearMonth) => (4, true),
        Int64 | Date64 | Time64(_) | Timestamp(..) | Duration(_) | Decimal64(..) => (8, true),
        _ => return None,
    })
}

fn integers(hasher: Hasher, array: &dyn Array, out: &mut [u64]) {
    fn of<T: ArrowNativeType>(
        hasher: Hasher,
        array: &dyn Array,
        out: &mut [u64],
        extend: impl Fn(T) -> u64,
    ) {
        let values = native::<T>(array);
        wide::map(&values, out, |value| hasher.number(extend(value)));
    }
    match integer(array.data_type()) {
        Some((1, false)) => of::<u8>(hasher, array, out, u64::from),
        Some((2, false)) => of::<u16>(hasher, array, out, u64::from),
        Some((4, false)) => of::<u32>(hasher, array, out, u64::from),
        Some((_, false)) => of::<u64>(hasher, array, out, |value| value),
        Some((1, true)) => of::<i8>(hasher, array, out, |value| i64::from(value).cast_unsigned()),
        Some((2, true)) => of::<i16>(hasher, array, out, |value| i64::from(value).cast_unsigned()),
        Some((4, true)) => of::<i32>(hasher, array, out, |value| i64::from(value).cast_unsigned()),
        Some(_) => of::<i64>(hasher, array, out, i64::cast_unsigned),
        None => {}
    }
}

fn floats(hasher: Hasher, array: &dyn Array, out: &mut [u64]) {
    match array.data_type() {
        DataType::Float16 => {
            let values = array.as_primitive::<Float16Type>().values().iter();
            fill(out, values.map(|value| float(hasher, value.to_f64())));
        }
        DataType::Float32 => {
            let values = native::<f32>(array);
            wide::map(&values, out, |value| float(hasher, f64::from(value)));
        }
        _ => {
            let values = native::<f64>(array);
            wide::map(&values, out, |value| float(hasher, value));
        }
    }
}

fn float(hasher: Hasher, value: f64) -> u64 {
    let bits = if value.is_nan() {
        0x7ff8_0000_0000_0000
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    };
    hasher.number(bits)
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half is meant")]
fn wide(hasher: Hasher, value: i128) -> u64 {
    match i64::try_from(value) {
        Ok(small) => hasher.number(small.cast_unsigned()),
        Err(_) => {
            let bits = value.cast_unsigned();
            join(hasher.number(bits as u64), hasher.number((bits >> 64) as u64))
        }
    }
}

fn widest(hasher: Hasher, value: i256) -> u64 {
    if let Some(small) = value.to_i128() {
        return wide(hasher, small);
    }
    let bytes = value.to_le_bytes();
    let (limbs, _) = bytes.as_chunks::<8>();
    let hashes = limbs.iter().map(|limb| hasher.number(u64::from_le_bytes(*limb)));
    hashes.reduce(join).unwrap_or_default()
}

fn intervals(hasher: Hasher, array: &dyn Array, unit: IntervalUnit, out: &mut [u64]) {
    let halves = |low: i32, high: i32| {
        u64::from(low.cast_unsigned()) | (u64::from(high.cast_unsigned()) << 32)
    };
    match unit {
        IntervalUnit::YearMonth => integers(hasher, array, out),
        IntervalUnit::DayTime => {
            let values = array.as_primitive::<IntervalDayTimeType>().values().iter();
            fill(out, values.map(|value| hasher.number(halves(value.days, value.milliseconds))));
        }
        IntervalUnit::MonthDayNano => {
            let values = array.as_primitive::<IntervalMonthDayNanoType>().values().iter();
            let hash = |months, days, nanoseconds: i64| {
                let first = hasher.number(halves(months, days));
                join(first, hasher.number(nanoseconds.cast_unsigned()))
            };
            fill(out, values.map(|value| hash(value.months, value.days, value.nanoseconds)));
        }
    }
}

fn bytes<T: ByteArrayType>(hasher: Hasher, array: &dyn Array, out: &mut [u64]) {
    let array = array.as_bytes::<T>();
    fill(out, (0..array.len()).map(|row| hasher.text(array.value(row).as_ref())));
}

fn views<T: ByteViewType>(hasher: Hasher, array: &dyn Array, out: &mut [u64]) {
    let array = array.as_byte_view::<T>();
    fill(out, (0..array.len()).map(|row| hasher.text(array.value(row).as_ref())));
}

/// Each value of a dictionary is hashed once, unless there are more of them
/// than rows.
fn dictionary(hasher: Hasher, array: &dyn Array, out: &mut [u64]) -> Result<(), ArrowError> {
    let dictionary = array.as_any_dictionary();
    if dictionary.values().len() > array.len() || dictionary.values().is_empty() {
        let plain = arrow_select::take::take(dictionary.values(), dictionary.keys(), None)?;
        fill(out, hasher.array(plain.as_ref())?.into_iter());
        return Ok(());
    }
    let values = hasher.array(dictionary.values().as_ref())?;
    // Keys of null rows may be anything; here they are within the values.
    fill(out, dictionary.normalized_keys().into_iter().map(|key| values[key]));
    Ok(())
}

fn runs<R: RunEndIndexType>(
    hasher: Hasher,
    array: &RunArray<R>,
    out: &mut [u64],
) -> Result<(), ArrowError> {
    let hashes = hasher.array(array.values_slice().as_ref())?;
    let mut from = 0;
    for (hash, end) in hashes.into_iter().zip(array.run_ends().sliced_values()) {
        out[from..end.as_usize()].fill(hash);
        from = end.as_usize();
    }
    Ok(())
}
