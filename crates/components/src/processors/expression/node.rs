//! An expression with its types, over a batch.

use std::sync::Arc;

use arrow_arith::boolean::{and_kleene, is_not_null, is_null, not, or_kleene};
use arrow_arith::numeric::{add, div, mul, neg, rem, sub};
use arrow_array::cast::AsArray as _;
use arrow_array::{Array, ArrayRef, BooleanArray, Datum, RecordBatch, UInt32Array};
use arrow_ord::cmp::{eq, gt, gt_eq, lt, lt_eq, neq};
use arrow_schema::{ArrowError, DataType};
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take;
use arrow_string::like::{like, nlike};
use sheaf_pipeline::spec::Operator;

use super::list::List;
use super::literal::cast;
use super::types::canonical;

/// A part of an expression whose types fit.
pub(super) enum Node {
    Column(usize),
    Constant(ArrayRef),
    Cast {
        node: Box<Node>,
        data_type: DataType,
        can_fail: bool,
    },
    /// Floats with one zero and one NaN.
    Canonical(Box<Node>),
    Negative {
        node: Box<Node>,
        can_fail: bool,
    },
    Not(Box<Node>),
    Both(Box<Node>, Box<Node>),
    Either(Box<Node>, Box<Node>),
    Compare(Box<Node>, Operator, Box<Node>),
    Compute {
        left: Box<Node>,
        operator: Operator,
        right: Box<Node>,
        can_fail: bool,
    },
    IsNull {
        node: Box<Node>,
        negated: bool,
    },
    In {
        node: Box<Node>,
        list: List,
        negated: bool,
    },
    Like {
        node: Box<Node>,
        pattern: ArrayRef,
        negated: bool,
    },
}

/// What it comes to.
#[derive(Clone)]
pub(super) enum Value {
    /// A value for each row.
    Rows(ArrayRef),
    /// One value for all of them.
    One(ArrayRef),
}

impl Datum for Value {
    fn get(&self) -> (&dyn Array, bool) {
        match self {
            Value::Rows(array) => (array.as_ref(), false),
            Value::One(array) => (array.as_ref(), true),
        }
    }
}

impl Value {
    fn array(&self) -> &ArrayRef {
        match self {
            Value::Rows(array) | Value::One(array) => array,
        }
    }

    /// Another value of as many rows.
    fn with(&self, array: ArrayRef) -> Self {
        match self {
            Value::Rows(_) => Value::Rows(array),
            Value::One(_) => Value::One(array),
        }
    }

    /// A value for each of so many rows.
    pub(super) fn into_rows(self, rows: usize) -> Result<ArrayRef, ArrowError> {
        match self {
            Value::Rows(array) => Ok(array),
            Value::One(array) => take(&array, &UInt32Array::from(vec![0; rows]), None),
        }
    }

    fn booleans(self, rows: usize) -> Result<BooleanArray, ArrowError> {
        Ok(self.into_rows(rows)?.as_boolean().clone())
    }
}

/// What comes of two values.
fn of_two(left: &Value, right: &Value, array: ArrayRef) -> Value {
    match (left, right) {
        (Value::One(_), Value::One(_)) => Value::One(array),
        _ => Value::Rows(array),
    }
}

impl Node {
    pub(super) fn evaluate(&self, batch: &RecordBatch) -> Result<Value, ArrowError> {
        match self {
            Node::Column(place) => Ok(Value::Rows(Arc::clone(batch.column(*place)))),
            Node::Constant(array) => Ok(Value::One(Arc::clone(array))),
            Node::Cast { node, data_type, .. } => {
                let value = node.evaluate(batch)?;
                Ok(value.with(cast(value.array(), data_type)?))
            }
            Node::Canonical(node) => {
                let value = node.evaluate(batch)?;
                Ok(value.with(canonical(Arc::clone(value.array()))))
            }
            Node::Negative { node, .. } => {
                let value = node.evaluate(batch)?;
                Ok(value.with(neg(value.array())?))
            }
            Node::Not(node) => {
                let value = node.evaluate(batch)?;
                Ok(value.with(Arc::new(not(value.array().as_boolean())?)))
            }
            Node::Both(left, right) => joined(batch, left, right, true),
            Node::Either(left, right) => joined(batch, left, right, false),
            Node::Compare(left, operator, right) => {
                let (left, right) = (left.evaluate(batch)?, right.evaluate(batch)?);
                let compared = compare(*operator, &left, &right)?;
                Ok(of_two(&left, &right, Arc::new(compared)))
            }
            Node::Compute { left, operator, right, .. } => {
                let (left, right) = (left.evaluate(batch)?, right.evaluate(batch)?);
                let computed = compute(*operator, &left, &right)?;
                Ok(of_two(&left, &right, computed))
            }
            Node::IsNull { node, negated } => {
                let value = node.evaluate(batch)?;
                let kernel = if *negated { is_not_null } else { is_null };
                Ok(value.with(Arc::new(kernel(value.array())?)))
            }
            Node::In { node, list, negated } => {
                let value = node.evaluate(batch)?;
                let found = list.contains(value.array())?;
                let found = if *negated { not(&found)? } else { found };
                Ok(value.with(Arc::new(found)))
            }
            Node::Like { node, pattern, negated } => {
                let value = node.evaluate(batch)?;
                let kernel = if *negated { nlike } else { like };
                let matched = kernel(&value, &Value::One(Arc::clone(pattern)))?;
                Ok(value.with(Arc::new(matched)))
            }
        }
    }

    /// Whether it may fail for some rows: overflow, division by zero.
    fn can_fail(&self) -> bool {
        match self {
            Node::Column(_) | Node::Constant(_) => false,
            Node::Negative { node, can_fail } | Node::Cast { node, can_fail, .. } => {
                *can_fail || node.can_fail()
            }
            Node::Compute { left, right, can_fail, .. } => {
                *can_fail || left.can_fail() || right.can_fail()
            }
            Node::Canonical(node) | Node::Not(node) => node.can_fail(),
            Node::IsNull { node, .. } | Node::In { node, .. } | Node::Like { node, .. } => {
                node.can_fail()
            }
            Node::Both(left, right) | Node::Either(left, right) | Node::Compare(left, _, right) => {
                left.can_fail() || right.can_fail()
            }
        }
    }
}

/// `and`, or `or`; where the right side may fail it is computed only for rows for which the
/// left one leaves it open.
fn joined(batch: &RecordBatch, left: &Node, right: &Node, both: bool) -> Result<Value, ArrowError> {
    let kernel = if both { and_kleene } else { or_kleene };
    let rows = batch.num_rows();
    let left = left.evaluate(batch)?;
    if let Value::One(settled) = &left {
        let settled = settled.as_boolean();
        if settled.is_valid(0) && settled.value(0) != both {
            return Ok(left);
        }
    } else if right.can_fail() {
        let left = left.booleans(rows)?;
        let right = where_open(batch, &left, right, both)?;
        return Ok(Value::Rows(Arc::new(kernel(&left, &right)?)));
    }
    let right = right.evaluate(batch)?;
    if let (Value::One(left), Value::One(right)) = (&left, &right) {
        return Ok(Value::One(Arc::new(kernel(left.as_boolean(), right.as_boolean())?)));
    }
    Ok(Value::Rows(Arc::new(kernel(&left.booleans(rows)?, &right.booleans(rows)?)?)))
}

/// The right side, and null in its place where the left one is enough: then it changes
/// nothing.
fn where_open(
    batch: &RecordBatch,
    left: &BooleanArray,
    right: &Node,
    both: bool,
) -> Result<BooleanArray, ArrowError> {
    let rows = batch.num_rows();
    let settled = if both { left.false_count() } else { left.true_count() };
    if settled == 0 {
        return right.evaluate(batch)?.booleans(rows);
    }
    let is_open = |row: usize| left.is_null(row) || left.value(row) == both;
    let open: BooleanArray = (0..rows).map(|row| Some(is_open(row))).collect();
    let asked = filter_record_batch(batch, &open)?;
    if asked.num_rows() == 0 {
        return Ok(BooleanArray::new_null(rows));
    }
    let answers = right.evaluate(&asked)?.booleans(asked.num_rows())?;
    let mut next = 0;
    let places: UInt32Array = (0..rows)
        .map(|row| {
            is_open(row).then(|| {
                next += 1;
                next - 1
            })
        })
        .collect();
    Ok(take(&answers, &places, None)?.as_boolean().clone())
}

fn compare(operator: Operator, left: &Value, right: &Value) -> Result<BooleanArray, ArrowError> {
    match operator {
        Operator::Equal => eq(left, right),
        Operator::NotEqual => neq(left, right),
        Operator::Less => lt(left, right),
        Operator::LessOrEqual => lt_eq(left, right),
        Operator::Greater => gt(left, right),
        Operator::GreaterOrEqual => gt_eq(left, right),
        other => Err(ArrowError::InvalidArgumentError(format!("{other:?} compares nothing"))),
    }
}

/// Arithmetic; also on no rows at all, to learn the type of the result.
pub(super) fn compute(
    operator: Operator,
    left: &dyn Datum,
    right: &dyn Datum,
) -> Result<ArrayRef, ArrowError> {
    match operator {
        Operator::Plus => add(left, right),
        Operator::Minus => sub(left, right),
        Operator::Times => mul(left, right),
        Operator::Divide => div(left, right),
        Operator::Remainder => rem(left, right),
        other => Err(ArrowError::InvalidArgumentError(format!("{other:?} computes nothing"))),
    }
}
