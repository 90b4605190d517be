//! Whether one schema fits where another is expected: over Flight and gRPC the same.

use arrow_schema::{Field, Schema};
use sheaf_retry::Code;

use crate::shuffle::error::Error;

/// That data of one schema can be read as data of another: columns of the same
/// names and types in the same order, and nulls only where they are expected.
/// Metadata is not looked at.
///
/// # Errors
/// `failed_precondition`, naming the first column that does not fit.
///
/// ```
/// use arrow_schema::{DataType, Field, Schema};
/// use sheaf_exchange::shuffle::check_schema_compatibility;
///
/// let found = Schema::new(vec![Field::new("n", DataType::Int64, false)]);
/// let expected = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
/// assert!(check_schema_compatibility(&found, &expected).is_ok());
/// let error = check_schema_compatibility(&expected, &found).unwrap_err();
/// assert!(error.to_string().contains("null"), "{error}");
/// ```
pub fn check_schema_compatibility(found: &Schema, expected: &Schema) -> Result<(), Error> {
    let (has, wanted) = (found.fields().len(), expected.fields().len());
    let refuse = |text: String| {
        let text = format!("the schema does not fit: {text}");
        Err(Error::Flight(sheaf_flight::Error::new(Code::FailedPrecondition, text)))
    };
    if has != wanted {
        return refuse(format!("{has} columns, {wanted} are expected"));
    }
    for (at, (its, ours)) in found.fields().iter().zip(expected.fields()).enumerate() {
        if its.name() != ours.name() {
            let (its, ours) = (its.name(), ours.name());
            return refuse(format!("column {at} is {its:?}, {ours:?} is expected"));
        }
        if !is_contained(its, ours) {
            let name = its.name();
            if its.data_type() == ours.data_type() {
                return refuse(format!("column {name:?} may have nulls, none are expected"));
            }
            let (its, ours) = (its.data_type(), ours.data_type());
            return refuse(format!("column {name:?} is {its}, {ours} is expected"));
        }
    }
    Ok(())
}

/// Whether values of one field are values of the other. Names of fields inside
/// maps and lists are no part of their type.
fn is_contained(found: &Field, expected: &Field) -> bool {
    (expected.is_nullable() || !found.is_nullable())
        && (found.data_type() == expected.data_type()
            || found.data_type().equals_datatype(expected.data_type()))
}
