//! Conditions on rows, as in SQL's WHERE.

mod evaluate;
mod lexer;
mod parser;

use std::str::FromStr;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_schema::Schema;

use crate::error::Error;
pub(crate) use evaluate::unknown_column;

/// Characters of a condition at most.
const MAX_TEXT: usize = 16 << 10;
/// Parentheses and NOTs within each other at most.
const MAX_DEPTH: usize = 64;

/// A condition on the rows of a stream.
///
/// ```
/// use sheaf_kafka::Filter;
///
/// let filter: Filter = "level IN ('warn', 'error') AND NOT (latency_ms < 250)".parse()?;
/// assert!("level = ".parse::<Filter>().is_err());
/// # let _ = filter;
/// # Ok::<(), sheaf_kafka::Error>(())
/// ```
///
/// `=`, `!=`, `<>`, `<`, `<=`, `>`, `>=`, `IS [NOT] NULL`, `[NOT] IN (…)`,
/// `[NOT] LIKE '…'`, `AND`, `OR`, `NOT` and parentheses. A column stands on the
/// left and a constant on the right; names with other characters than letters,
/// digits, `_` and `-` stand in double quotes, text in single ones. A constant is read as the
/// type of its column: times are RFC 3339. A row is kept where the condition is
/// true; compared with NULL, it is not.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    condition: Condition,
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Compare { column: String, comparison: Comparison, value: Literal },
    IsNull { column: String },
    In { column: String, values: Vec<Literal> },
    Like { column: String, pattern: String },
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Integer(i64),
    Number(f64),
    Text(String),
    Boolean(bool),
}

impl FromStr for Filter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_TEXT {
            let length = text.len();
            let why = format!("a condition of {length} bytes, at most {MAX_TEXT} are allowed");
            return Err(Error::Invalid(why));
        }
        let condition = lexer::tokens(text).and_then(parser::parse);
        condition
            .map(|condition| Filter { condition })
            .map_err(|why| Error::Invalid(format!("condition {text:?}: {why}")))
    }
}

impl Filter {
    /// Whether it can be asked of rows with these columns.
    ///
    /// # Errors
    /// Where it names a column that is not there, or compares one with what has
    /// another type.
    pub fn check(&self, schema: &Schema) -> Result<(), Error> {
        self.mask(&RecordBatch::new_empty(schema.clone().into())).map(drop)
    }

    /// Which rows to keep; null where it cannot be told.
    ///
    /// # Errors
    /// As [`Filter::check`].
    pub fn mask(&self, rows: &RecordBatch) -> Result<BooleanArray, Error> {
        evaluate::evaluate(&self.condition, rows)
    }

    /// The rows of which it is true.
    ///
    /// # Errors
    /// As [`Filter::check`].
    pub fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let mask = self.mask(rows)?;
        arrow_select::filter::filter_record_batch(rows, &mask)
            .map_err(|source| Error::Arrow { operation: "filter rows", source })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::cast::AsArray as _;
    use arrow_array::types::Int64Type;
    use arrow_array::{
        ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
        TimestampMillisecondArray,
    };

    use super::*;

    fn rows() -> RecordBatch {
        let times = TimestampMillisecondArray::from(vec![Some(0), Some(1_000), None, Some(3_000)]);
        let columns: [(&str, ArrayRef); 6] = [
            ("n", Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3), None]))),
            ("x", Arc::new(Float64Array::from(vec![0.5, 1.5, 2.5, 3.5]))),
            ("the name", Arc::new(StringArray::from(vec!["anna", "bert", "o'neil", "%"]))),
            ("ok", Arc::new(BooleanArray::from(vec![true, false, true, false]))),
            ("_timestamp", Arc::new(times.with_timezone("UTC"))),
            ("_key", Arc::new(BinaryArray::from_vec(vec![b"a", b"b", b"c", b"d"]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true)))
            .unwrap()
    }

    fn kept(text: &str) -> Vec<i64> {
        let rows = text.parse::<Filter>().unwrap().apply(&rows()).unwrap();
        let numbers = rows.column(0).as_primitive::<Int64Type>().clone();
        numbers.iter().map(|number| number.unwrap_or(4)).collect()
    }

    #[test]
    fn rows_are_kept_of_which_the_condition_is_true() {
        for (text, expected) in [
            ("n = 2", &[2][..]),
            ("n != 2", &[1, 3]),
            ("n <> 2 OR n IS NULL", &[1, 3, 4]),
            ("n is not null and x >= 1.5", &[2, 3]),
            ("n < 2.5", &[1, 2]),
            ("n > -1", &[1, 2, 3]),
            ("x <= 1", &[1]),
            ("NOT (n = 1 OR n = 2)", &[3]),
            ("\"the name\" = 'o''neil'", &[3]),
            ("\"the name\" LIKE '%e%'", &[2, 3]),
            ("\"the name\" NOT LIKE '%e%'", &[1, 4]),
            ("n IN (1, 3)", &[1, 3]),
            ("n NOT IN (1, 3)", &[2]),
            ("ok", &[1, 3]),
            ("NOT ok AND ok = false", &[2, 4]),
            ("_timestamp >= '1970-01-01T00:00:01Z'", &[2, 4]),
            ("_key = 'c'", &[3]),
            ("n = 1 OR n = 2 AND x > 100", &[1]),
        ] {
            assert_eq!(kept(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_asked_says_why() {
        let deep = format!("{}ok{}", "(".repeat(100), ")".repeat(100));
        for (text, why) in [
            ("", "a column"),
            ("n =", "a constant"),
            ("n = 1 2", "ends"),
            ("n = 'x", "quote"),
            ("(n = 1", ")"),
            ("n ! 1", "!"),
            ("n IN ()", "a constant"),
            ("n = 99999999999999999999", "number"),
            (deep.as_str(), "64"),
        ] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
        // As long as it may be, and no deeper than one of them.
        let long = vec!["ok"; 2_000].join(" OR ");
        assert_eq!(long.parse::<Filter>().unwrap().apply(&rows()).unwrap().num_rows(), 2);
        let schema = rows().schema();
        for (text, why) in [
            ("m = 1", "no column \"m\""),
            ("n = 'x'", "n"),
            ("n", "true cannot be read"),
            ("_timestamp > 'soon'", "_timestamp"),
            ("n LIKE 'a'", "text"),
        ] {
            let filter: Filter = text.parse().unwrap();
            let error = filter.check(&schema).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
