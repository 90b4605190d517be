//! The times of rows, in microseconds since 1970.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Date64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use arrow_array::{Array, PrimitiveArray, RecordBatch, types::ArrowPrimitiveType};
use arrow_schema::{DataType, TimeUnit};
use sheaf_dataflow::ComponentError;

use crate::processors::failure;

/// Times are closer to 1970 than this, so that sums of them fit.
pub(super) const LIMIT: i64 = i64::MAX / 8;

/// The times of the rows; none where the column is null.
pub(super) fn of(batch: &RecordBatch, column: &str) -> Result<Vec<Option<i64>>, ComponentError> {
    let place = failure::column("window", column, batch.schema_ref())?;
    let array = batch.column(place);
    let times = match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            read::<TimestampSecondType>(array, |value| value.checked_mul(1_000_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            read::<TimestampMillisecondType>(array, |value| value.checked_mul(1_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            read::<TimestampMicrosecondType>(array, Some)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            read::<TimestampNanosecondType>(array, |value| Some(value.div_euclid(1_000)))
        }
        DataType::Date32 => {
            read::<Date32Type>(array, |days| i64::from(days).checked_mul(86_400_000_000))
        }
        DataType::Date64 => read::<Date64Type>(array, |value| value.checked_mul(1_000)),
        other => {
            return Err(failure::configuration(format!(
                "window: column `{column}` is of type {other}; a window goes by a timestamp or a \
                 date"
            )));
        }
    };
    times.map_err(|row| {
        let row = row + 1;
        failure::rows(format!("window: column `{column}`, row {row}: the time is out of range"))
    })
}

/// The values in microseconds, or the row whose value is none.
fn read<T: ArrowPrimitiveType>(
    array: &dyn Array,
    micros: impl Fn(T::Native) -> Option<i64>,
) -> Result<Vec<Option<i64>>, usize> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    let read = |(row, value): (usize, Option<T::Native>)| match value {
        None => Ok(None),
        Some(value) => match micros(value) {
            Some(time) if (-LIMIT..LIMIT).contains(&time) => Ok(Some(time)),
            _ => Err(row),
        },
    };
    array.iter().enumerate().map(read).collect()
}
