//! The type that a JSON value has, and whether it fits into another.
//!
//! Both agree with what arrow-json accepts under [`Strict`](super::strict):
//! a message must not be good in one batch and bad in another.

use std::sync::Arc;

use arrow_json::reader::{Tape, TapeElement};
use arrow_schema::{DataType, Field, FieldRef, Fields};

use super::number;
use crate::schema::widen;

/// How deep objects and lists may be nested.
const MAX_DEPTH: usize = 32;

/// Whether the value at a position fits into a column of this type.
pub(super) fn fits(tape: &Tape<'_>, at: u32, of: &DataType) -> bool {
    match (tape.get(at), of) {
        (TapeElement::Null, _) => true,
        (TapeElement::True | TapeElement::False, DataType::Boolean) => true,
        (TapeElement::String(_), DataType::Utf8) => true,
        (TapeElement::Number(text), DataType::Int64) => number::fits_integer(tape.get_string(text)),
        (TapeElement::Number(text), DataType::Float64) => number::fits_float(tape.get_string(text)),
        (TapeElement::StartList(end), DataType::List(item)) => {
            elements(tape, at, end).all(|at| fits(tape, at, item.data_type()))
        }
        (TapeElement::StartObject(_), DataType::Struct(fields)) => object_fits(tape, at, fields),
        _ => false,
    }
}

/// Whether an object has only these columns, and their values fit.
pub(super) fn object_fits(tape: &Tape<'_>, at: u32, fields: &Fields) -> bool {
    let TapeElement::StartObject(end) = tape.get(at) else { return false };
    // Of a name that comes twice the last value counts, as in arrow-json.
    let mut values = vec![None; fields.len()];
    for (name, value) in members(tape, at, end) {
        match fields.find(name) {
            Some((at, _)) => values[at] = Some(value),
            None => return false,
        }
    }
    let mut pairs = values.iter().zip(fields);
    pairs.all(|(value, field)| value.is_none_or(|at| fits(tape, at, field.data_type())))
}

/// The columns of an object.
pub(super) fn object(tape: &Tape<'_>, at: u32, depth: usize) -> Result<Fields, String> {
    let TapeElement::StartObject(end) = tape.get(at) else {
        return Err("not a JSON object".to_owned());
    };
    let mut fields: Vec<FieldRef> = Vec::new();
    for (name, value) in members(tape, at, end) {
        let of = infer(tape, value, depth + 1).map_err(|e| format!("{name}: {e}"))?;
        let field = Arc::new(Field::new(name, of, true));
        match fields.iter_mut().find(|known| known.name() == name) {
            Some(known) => *known = field,
            None => fields.push(field),
        }
    }
    Ok(fields.into())
}

fn infer(tape: &Tape<'_>, at: u32, depth: usize) -> Result<DataType, String> {
    if depth > MAX_DEPTH {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    Ok(match tape.get(at) {
        TapeElement::Null => DataType::Null,
        TapeElement::True | TapeElement::False => DataType::Boolean,
        TapeElement::String(_) => DataType::Utf8,
        TapeElement::Number(text) => {
            let text = tape.get_string(text);
            match (number::fits_integer(text), number::fits_float(text)) {
                (true, _) => DataType::Int64,
                (false, true) => DataType::Float64,
                (false, false) if number::is_number(text) => {
                    return Err(format!("{text} has no exact 64-bit form; give a schema"));
                }
                (false, false) => return Err(format!("{text} is not a number")),
            }
        }
        TapeElement::StartList(end) => {
            let item = elements(tape, at, end).try_fold(DataType::Null, |of, at| {
                let next = infer(tape, at, depth + 1)?;
                widen(&of, &next, "[]")
            })?;
            DataType::new_list(item, true)
        }
        TapeElement::StartObject(_) => DataType::Struct(object(tape, at, depth)?),
        other => return Err(format!("unexpected {other:?}")),
    })
}

/// The positions of the elements of a list.
fn elements(tape: &Tape<'_>, at: u32, end: u32) -> impl Iterator<Item = u32> {
    let mut next = at + 1;
    std::iter::from_fn(move || {
        let here = next;
        (here < end).then_some(())?;
        next = tape.next(here, "an element").ok()?;
        Some(here)
    })
}

/// The names and the positions of the values of an object.
fn members<'t>(tape: &Tape<'t>, at: u32, end: u32) -> impl Iterator<Item = (&'t str, u32)> {
    let mut next = at + 1;
    std::iter::from_fn(move || {
        let here = next;
        (here < end).then_some(())?;
        let TapeElement::String(name) = tape.get(here) else { return None };
        next = tape.next(here + 1, "a value").ok()?;
        Some((tape.get_string(name), here + 1))
    })
}
