//! Rows that a table refuses: a column has another type there, a constraint does
//! not hold, a key is taken.
//!
//! What has to hold:
//! - They are dead letters in the database, with the bytes of their messages, in
//!   the transaction that moves the position behind them; they are not in the
//!   stream of dead letters, whose rows are further on by then.
//! - All other rows are in their tables, those of a partition in their order.
//! - Where the database refuses a dead letter too, nothing is passed over: reading
//!   stops, and no offset from there on is committed.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_ord::sort::sort_to_indices;
use arrow_select::concat::concat_batches;
use arrow_select::filter::filter_record_batch;
use arrow_select::take::take_record_batch;
use sheaf_connectors::Error as DatabaseError;
use sheaf_retry::{Code, Retryable as _};

use super::{Converted, Writer};
use crate::convert::dead;
use crate::decode::Rejected;
use crate::error::Error;
use crate::gateway::DEAD_LETTERS;
use crate::sink::TopicRows;
use crate::stream::{offsets, rows_from_offset};

/// What was not written, all or a part of which is why.
pub(super) type Refusal = (Vec<Converted>, DatabaseError);

/// An error that may be due to what was to be written, not to the database; every
/// other one comes back.
pub(super) fn of_rows(error: Error) -> Result<DatabaseError, Error> {
    match error {
        Error::Persist(error)
            if matches!(
                error.code(),
                Code::InvalidArgument
                    | Code::MalformedData
                    | Code::LimitExceeded
                    | Code::AlreadyExists
            ) =>
        {
            Ok(error)
        }
        other => Err(other),
    }
}

impl Writer {
    /// Has all written that the tables take: what is refused together is written
    /// in halves, until what is left is one message.
    pub(super) async fn write(&self, batch: Vec<Converted>) -> Result<(), Error> {
        // What comes first is at the end.
        let mut left = vec![batch];
        while let Some(batch) = left.pop() {
            let Some((mut batch, error)) = self.write_whole(batch).await? else { continue };
            if batch.len() > 1 {
                left.push(batch.split_off(batch.len() / 2));
                left.push(batch);
                continue;
            }
            let Some(one) = batch.pop() else { continue };
            let one = match &error {
                DatabaseError::Unsupported { column, .. } => {
                    match self.without_column(one, column, &error)? {
                        Ok(rest) => {
                            left.push(vec![rest]);
                            continue;
                        }
                        Err(one) => one,
                    }
                }
                _ => one,
            };
            match one.halves() {
                Some((first, second)) => left.extend([vec![second], vec![first]]),
                None => self.bury(one, error).await?,
            }
        }
        Ok(())
    }

    /// Writes a dead letter in place of a message's rows, if these are refused once
    /// more: what was in the way may have passed.
    async fn bury(&self, one: Converted, error: DatabaseError) -> Result<(), Error> {
        let Some((again, _)) = self.write_whole(vec![one]).await? else { return Ok(()) };
        for one in again {
            let refused = one.offsets(|_| true);
            if refused.is_empty() {
                return Err(error.into());
            }
            let letters = self.with_letters(one, &refused, None, &error)?;
            if let Some((_, error)) = self.write_whole(vec![letters]).await? {
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// The same without a column that has no place in the table, and with dead letters
    /// for the messages that have something in it. Comes back as it is where there is
    /// no such column.
    fn without_column(
        &self,
        one: Converted,
        column: &str,
        error: &DatabaseError,
    ) -> Result<Result<Converted, Converted>, Error> {
        let Some(rows) = &one.rows.rows else { return Ok(Err(one)) };
        let schema = rows.schema();
        let find = |is_it: &dyn Fn(&str) -> bool| {
            schema.fields().iter().position(|field| is_it(field.name()))
        };
        let place = find(&|name| name == column)
            .or_else(|| find(&|name| name.eq_ignore_ascii_case(column)));
        let Some(place) = place else { return Ok(Err(one)) };
        let nulls = rows.column(place).logical_nulls();
        let is_filled = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        let refused = one.offsets(is_filled);
        let known = offsets(rows).map_or(&[][..], |known| known.values());
        let is_kept: Vec<bool> = known.iter().map(|offset| !refused.contains(offset)).collect();
        let mut kept = filter_record_batch(rows, &is_kept.into())
            .map_err(|source| Error::Arrow { operation: "leave rows out", source })?;
        kept.remove_column(place);
        self.with_letters(one, &refused, Some(kept), error).map(Ok)
    }

    /// With these rows of the topic alone, and dead letters for what is refused.
    fn with_letters(
        &self,
        one: Converted,
        refused: &BTreeSet<i64>,
        kept: Option<RecordBatch>,
        error: &DatabaseError,
    ) -> Result<Converted, Error> {
        let (topic, partition) = (Arc::clone(&one.rows.of.topic), one.rows.of.partition);
        let mut rows = TopicRows { rows: kept.filter(|rows| rows.num_rows() > 0), ..one.rows };
        if !refused.is_empty() {
            let count = refused.len();
            let cause = super::why(error);
            tracing::warn!(error = cause, %topic, partition, count, "refused rows are dead letters");
            self.streams.get(&topic)?.metrics().dead_letters.inc_by(count as u64);
            let error = said(error);
            let messages = one.messages.iter().enumerate();
            let rejected = messages.filter(|(_, message)| refused.contains(&message.offset()));
            let rejected: Vec<_> =
                rejected.map(|(index, _)| Rejected { index, error: error.clone() }).collect();
            let most = dead::most_bytes(&*self.streams.get(&format!("{topic}{DEAD_LETTERS}"))?);
            let letters = dead::letters((&topic, partition), &one.messages, &rejected, most)?;
            rows.dead_letters = Some(match rows.dead_letters.take() {
                None => letters,
                Some(before) => in_order(&before, &letters)?,
            });
        }
        Ok(Converted { rows, ..one })
    }
}

/// Dead letters of both, by their offsets.
fn in_order(one: &RecordBatch, other: &RecordBatch) -> Result<RecordBatch, Error> {
    let failed = |source| Error::Arrow { operation: "bring dead letters into order", source };
    let all = concat_batches(one.schema_ref(), [one, other]).map_err(failed)?;
    let Some(known) = offsets(&all) else { return Ok(all) };
    let order = sort_to_indices(known, None, None).map_err(failed)?;
    take_record_batch(&all, &order).map_err(failed)
}

/// What an error says, and what caused it.
fn said(error: &DatabaseError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |said, cause| format!("{said}: {cause}"))
}

impl Converted {
    /// Of the rows of its topic, those of which this is true.
    fn offsets(&self, is_one: impl Fn(usize) -> bool) -> BTreeSet<i64> {
        let known = self.rows.rows.iter().filter_map(offsets);
        let all = known.flat_map(|known| known.values().iter().copied().enumerate());
        all.filter(|(row, _)| is_one(*row)).map(|(_, offset)| offset).collect()
    }

    /// Its first and its second messages; `None` where there is one only.
    fn halves(&self) -> Option<(Converted, Converted)> {
        let known = self.rows.by_stream().filter_map(|(_, rows)| offsets(rows));
        let all: BTreeSet<i64> = known.flat_map(|known| known.values().to_vec()).collect();
        let middle = *all.iter().nth(all.len() / 2).filter(|_| all.len() > 1)?;
        let second = self.rows.clone().beyond(middle);
        let before = |rows: &RecordBatch| {
            let later = rows_from_offset(rows, middle).num_rows();
            Some(rows.slice(0, rows.num_rows() - later)).filter(|rows| rows.num_rows() > 0)
        };
        let first = TopicRows {
            of: self.rows.of.clone(),
            rows: self.rows.rows.as_ref().and_then(before),
            dead_letters: self.rows.dead_letters.as_ref().and_then(before),
            end: middle,
        };
        let part = |rows, is_last| Converted {
            span: self.span.clone(),
            rows,
            messages: Arc::clone(&self.messages),
            is_last,
        };
        Some((part(first, false), part(second, self.is_last)))
    }
}
