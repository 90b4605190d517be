//! Expressions, row by row: what the vectorised ones have to agree with.

use sheaf_pipeline::spec::{Literal, Operator, Term};

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
}

/// Overflow, or division by zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

pub(crate) type Row = Vec<(&'static str, Value)>;

pub(crate) fn evaluate(term: &Term, row: &Row) -> Result<Value, Failed> {
    Ok(match term {
        Term::Column(name) => {
            row.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap()
        }
        Term::Literal(literal) => constant(literal),
        Term::Negative(term) => match evaluate(term, row)? {
            Value::Integer(value) => Value::Integer(narrow(-narrow(value)?)?),
            Value::Float(value) => Value::Float(-value),
            other => other,
        },
        Term::Not(term) => {
            truth(evaluate(term, row)?).map_or(Value::Null, |value| Value::Bool(!value))
        }
        Term::Binary(left, Operator::And, right) => connect(left, right, row, true)?,
        Term::Binary(left, Operator::Or, right) => connect(left, right, row, false)?,
        Term::Binary(left, operator, right) => {
            let (left, right) = (evaluate(left, row)?, evaluate(right, row)?);
            match operator.is_arithmetic() {
                true => compute(left, *operator, right)?,
                false => compare(&left, *operator, &right),
            }
        }
        Term::IsNull { term, negated } => {
            Value::Bool((evaluate(term, row)? == Value::Null) != *negated)
        }
        Term::In { term, list, negated } => {
            let value = evaluate(term, row)?;
            let equal = |literal| truth(compare(&value, Operator::Equal, &constant(literal)));
            let answers: Vec<_> = list.iter().map(equal).collect();
            match (answers.contains(&Some(true)), answers.contains(&None)) {
                (true, _) => Value::Bool(!negated),
                (false, true) => Value::Null,
                (false, false) => Value::Bool(*negated),
            }
        }
        Term::Like { term, pattern, negated } => match evaluate(term, row)? {
            Value::Text(text) => {
                let (text, pattern): (Vec<_>, Vec<_>) =
                    (text.chars().collect(), pattern.chars().collect());
                Value::Bool(like(&text, &pattern) != *negated)
            }
            _ => Value::Null,
        },
    })
}

fn constant(literal: &Literal) -> Value {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Integer(value) => Value::Integer(i128::from(*value)),
        Literal::Number(value) => Value::Float(*value),
        Literal::Text(value) => Value::Text(value.clone()),
    }
}

fn truth(value: Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(value),
        _ => None,
    }
}

fn connect(left: &Term, right: &Term, row: &Row, both: bool) -> Result<Value, Failed> {
    let left = truth(evaluate(left, row)?);
    if left == Some(!both) {
        return Ok(Value::Bool(!both));
    }
    let right = truth(evaluate(right, row)?);
    Ok(match (left, right) {
        (_, Some(right)) if right != both => Value::Bool(right),
        (Some(_), Some(_)) => Value::Bool(both),
        _ => Value::Null,
    })
}

fn narrow(value: i128) -> Result<i128, Failed> {
    i64::try_from(value).map(i128::from).map_err(|_| Failed)
}

fn float(value: &Value) -> f64 {
    match value {
        Value::Integer(value) => *value as f64,
        Value::Float(value) => *value,
        other => panic!("{other:?} is no number"),
    }
}

fn compute(left: Value, operator: Operator, right: Value) -> Result<Value, Failed> {
    if left == Value::Null || right == Value::Null {
        return Ok(Value::Null);
    }
    if let (Value::Integer(left), Value::Integer(right)) = (&left, &right) {
        let (left, right) = (narrow(*left)?, narrow(*right)?);
        return Ok(Value::Integer(narrow(match operator {
            Operator::Plus => left + right,
            Operator::Minus => left - right,
            Operator::Times => left * right,
            Operator::Divide => left.checked_div(right).ok_or(Failed)?,
            _ => left.checked_rem(right).ok_or(Failed)?,
        })?));
    }
    let (left, right) = (float(&left), float(&right));
    Ok(Value::Float(match operator {
        Operator::Plus => left + right,
        Operator::Minus => left - right,
        Operator::Times => left * right,
        Operator::Divide => left / right,
        _ => left % right,
    }))
}

fn compare(left: &Value, operator: Operator, right: &Value) -> Value {
    use std::cmp::Ordering::{Equal, Greater, Less};

    let order = match (left, right) {
        (Value::Null, _) | (_, Value::Null) => return Value::Null,
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::Text(left), Value::Text(right)) => left.cmp(right),
        (Value::Integer(left), Value::Integer(right)) => left.cmp(right),
        _ => {
            let (left, right) = (float(left), float(right));
            match (left.is_nan(), right.is_nan()) {
                (true, true) => Equal,
                (true, false) => Greater,
                (false, true) => Less,
                _ => left.partial_cmp(&right).unwrap(),
            }
        }
    };
    Value::Bool(match operator {
        Operator::Equal => order == Equal,
        Operator::NotEqual => order != Equal,
        Operator::Less => order == Less,
        Operator::LessOrEqual => order != Greater,
        Operator::Greater => order == Greater,
        _ => order != Less,
    })
}

fn like(text: &[char], pattern: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('%', rest)) => (0..=text.len()).any(|skip| like(&text[skip..], rest)),
        Some((one, rest)) => text
            .split_first()
            .is_some_and(|(first, text)| (*one == '_' || one == first) && like(text, rest)),
    }
}
