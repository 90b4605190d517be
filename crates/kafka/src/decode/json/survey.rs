//! Which columns the messages need, and which messages cannot have them.

use arrow_json::reader::Tape;
use arrow_schema::{ArrowError, FieldRef, Fields};

use super::shape;
use super::visit::{Judge, visit};
use crate::decode::{Rejected, Value};
use crate::schema::{StreamSchema, widen, widen_fields};

/// Types that one column is proposed with at most.
const MAX_PROPOSALS: usize = 8;

/// The values that can be decoded under the columns returned with them; the
/// others are rejected. When nothing is known yet, the first `sample` values
/// vote on the types: one bad message must not have all others rejected.
pub(super) fn survey<'v>(
    values: &[Value<'v>],
    schema: &StreamSchema,
    sample: usize,
    rejected: &mut Vec<Rejected>,
) -> Result<(Vec<Value<'v>>, Fields), ArrowError> {
    let mut elected = Fields::empty();
    if schema.version() == 0 {
        let sample = &values[..values.len().min(sample)];
        let (_, ballot) = visit(sample, Ballot::default(), &mut Vec::new())?;
        elected = ballot.elected();
    }
    let fields = schema.fields().clone();
    let columns = Columns { schema: schema.clone(), elected, fields };
    let (good, columns) = visit(values, columns, rejected)?;
    Ok((good, columns.fields))
}

/// What the messages so far need.
#[derive(Clone, Debug)]
struct Columns {
    schema: StreamSchema,
    elected: Fields,
    fields: Fields,
}

impl Judge for Columns {
    fn judge(&mut self, tape: &Tape<'_>, at: u32) -> Result<(), String> {
        if shape::object_fits(tape, at, &self.fields) {
            return Ok(());
        }
        let object = shape::object(tape, at, 0)?;
        let wide = self.schema.widened(&self.fields, &object)?;
        widen_fields(&self.elected, &object, "")?;
        if !shape::object_fits(tape, at, &wide) {
            return Err("an integer has no exact form in a column of Float64".to_owned());
        }
        self.fields = wide;
        Ok(())
    }
}

/// Counts the votes of a sample.
#[derive(Clone, Debug, Default)]
struct Ballot {
    columns: Vec<Vec<(FieldRef, usize)>>,
}

impl Ballot {
    fn elected(&self) -> Fields {
        let most = |proposals: &Vec<(FieldRef, usize)>| {
            // The first of those with the most votes.
            proposals.iter().rev().max_by_key(|(_, votes)| *votes).map(|(field, _)| field.clone())
        };
        self.columns.iter().filter_map(most).collect()
    }

    fn vote(&mut self, field: &FieldRef) {
        let name = field.name();
        let known = self.columns.iter_mut().find(|proposals| proposals[0].0.name() == name);
        let Some(proposals) = known else {
            self.columns.push(vec![(field.clone(), 1)]);
            return;
        };
        for (proposed, votes) in proposals.iter_mut() {
            if let Ok(of) = widen(proposed.data_type(), field.data_type(), name) {
                *proposed = proposed.as_ref().clone().with_data_type(of).into();
                *votes += 1;
                return;
            }
        }
        if proposals.len() < MAX_PROPOSALS {
            proposals.push((field.clone(), 1));
        }
    }
}

impl Judge for Ballot {
    fn judge(&mut self, tape: &Tape<'_>, at: u32) -> Result<(), String> {
        shape::object(tape, at, 0)?.iter().for_each(|field| self.vote(field));
        Ok(())
    }
}
