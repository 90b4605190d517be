//! Finds the messages that cannot be decoded among many that can.
//!
//! A decoder that failed is worth nothing any more: arrow-avro fails the good
//! message after a cut one, and arrow-avro and arrow-json lose good rows from
//! before the bad one when they are flushed. So what was decoded together
//! with a bad message is decoded again without it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::decode::Error;
use crate::decode::{Rejected, Value};

/// As many attempts may fail without a position before messages are tried one
/// by one: halving pays for a few bad ones, not for a thousand.
const HALVINGS: usize = 64;

/// Why an attempt failed, and at which of its values where that is known.
/// The values before a known position were read without complaint.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) at: Option<usize>,
    pub(crate) error: String,
}

impl Fault {
    pub(crate) fn at(position: usize, error: impl ToString) -> Self {
        Fault { at: Some(position), error: error.to_string() }
    }

    pub(crate) fn somewhere(error: impl ToString) -> Self {
        Fault { at: None, error: error.to_string() }
    }
}

/// Has a decoder's panic be a fault: it would take the consumer of all partitions with
/// it. Nothing that the decoder had may be used after it.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(Fault::somewhere("the decoder panicked")))
}

/// The outcome of `attempt` on all values that it can decode, and which those
/// are; none where there are none. The others are rejected.
///
/// `attempt` must not let one call influence the next, also where it panics.
///
/// # Errors
/// [`Error::Inconsistent`]: what is good one by one fails together.
pub(crate) fn sieve<'v, T>(
    values: &[Value<'v>],
    rejected: &mut Vec<Rejected>,
    mut attempt: impl FnMut(&[Value<'v>]) -> Result<T, Fault>,
) -> Result<Option<(T, Vec<u32>)>, Error> {
    let mut attempt = |values: &[Value<'v>]| guarded(|| attempt(values));
    let indices = |values: &[Value<'_>]| values.iter().map(|value| value.index).collect();
    if values.is_empty() {
        return Ok(None);
    }
    let fault = match attempt(values) {
        Ok(whole) => return Ok(Some((whole, indices(values)))),
        Err(fault) => fault,
    };
    let mut bad = search(values, fault, &mut attempt);
    bad.sort_unstable_by_key(|(at, _)| *at);
    let mut next_bad = bad.into_iter().peekable();
    let mut good = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        match next_bad.next_if(|(bad, _)| *bad == at) {
            Some((_, error)) => rejected.push(value.rejected(error)),
            None => good.push(*value),
        }
    }
    if good.is_empty() {
        return Ok(None);
    }
    match attempt(&good) {
        Ok(rest) => Ok(Some((rest, indices(&good)))),
        Err(fault) => Err(Error::Inconsistent { count: good.len(), problem: fault.error }),
    }
}

/// The positions of all bad values, with what is wrong with each.
fn search<'v, T>(
    values: &[Value<'v>],
    fault: Fault,
    attempt: &mut impl FnMut(&[Value<'v>]) -> Result<T, Fault>,
) -> Vec<(usize, String)> {
    let mut bad = Vec::new();
    let mut halvings = 0;
    let mut open = vec![(0, values.len(), Some(fault))];
    while let Some((from, to, fault)) = open.pop() {
        let fault = match fault {
            Some(fault) => fault,
            None if from == to => continue,
            None if halvings > HALVINGS && to - from > 1 => {
                open.extend((from..to).map(|at| (at, at + 1, None)));
                continue;
            }
            None => match attempt(&values[from..to]) {
                Ok(_) => continue,
                Err(fault) => fault,
            },
        };
        match fault.at.map(|at| from + at).filter(|at| *at < to) {
            Some(at) => {
                bad.push((at, fault.error));
                open.extend([(from, at, None), (at + 1, to, None)]);
            }
            None if to - from == 1 => bad.push((from, fault.error)),
            None => {
                halvings += 1;
                let middle = from.midpoint(to);
                open.extend([(from, middle, None), (middle, to, None)]);
            }
        }
    }
    bad
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sieves `count` values of which these are bad; returns how many values
    /// were looked at.
    fn work(count: u32, bad: &[u32], positional: bool) -> usize {
        let values: Vec<_> = (0..count).map(|index| Value { index, bytes: &[] }).collect();
        let mut rejected = Vec::new();
        let mut seen = 0;
        let outcome = sieve(&values, &mut rejected, |values| {
            let at = values.iter().position(|value| bad.contains(&value.index));
            seen += at.filter(|_| positional).map_or(values.len(), |at| at + 1);
            match at {
                None => Ok(values.len()),
                Some(at) if positional => Err(Fault::at(at, "bad")),
                Some(_) => Err(Fault::somewhere("bad")),
            }
        })
        .unwrap();
        let found: Vec<_> = rejected.iter().map(|rejected| rejected.index).collect();
        assert_eq!(found, bad.iter().map(|bad| *bad as usize).collect::<Vec<_>>());
        let good = count as usize - bad.len();
        assert_eq!(outcome.as_ref().map_or(0, |(decoded, _)| *decoded), good);
        let rows = outcome.map_or(Vec::new(), |(_, rows)| rows);
        let expected: Vec<u32> = (0..count).filter(|index| !bad.contains(index)).collect();
        assert_eq!(rows, expected);
        seen
    }

    #[test]
    fn a_few_bad_ones_cost_a_few_passes() {
        assert_eq!(work(8_192, &[], false), 8_192);
        for bad in [0, 1, 4_000, 8_191] {
            assert!(work(8_192, &[bad], false) <= 4 * 8_192);
            assert!(work(8_192, &[bad], true) <= 3 * 8_192);
        }
        assert!(work(8_192, &[0, 4_000, 8_191], false) <= 8 * 8_192);
    }

    #[test]
    fn many_bad_ones_cost_a_bounded_number_of_passes() {
        let every = |step: usize| (0..8_192).step_by(step).collect::<Vec<u32>>();
        for step in [1, 2, 10, 100] {
            assert!(work(8_192, &every(step), false) <= 12 * 8_192, "{step}");
            assert!(work(8_192, &every(step), true) <= 4 * 8_192, "{step}");
        }
    }

    #[test]
    fn what_fails_only_together_is_an_error() {
        let values: Vec<_> = (0..4).map(|index| Value { index, bytes: &[] }).collect();
        let error = sieve(&values, &mut Vec::new(), |values| match values.len() {
            1 => Ok(()),
            _ => Err(Fault::somewhere("too many")),
        })
        .unwrap_err();
        assert!(matches!(error, Error::Inconsistent { count: 4, .. }), "{error}");
    }

    #[test]
    fn a_decoder_that_panics_costs_the_message_alone() {
        let values: Vec<_> = (0..50).map(|index| Value { index, bytes: &[] }).collect();
        let mut rejected = Vec::new();
        let attempt = |values: &[Value<'_>]| {
            assert!(values.iter().all(|value| value.index != 33), "this panic is meant to be");
            Ok(values.len())
        };
        let (count, rows) = sieve(&values, &mut rejected, attempt).unwrap().unwrap();
        assert_eq!((count, rows.len(), rejected.len()), (49, 49, 1));
        assert_eq!((rejected[0].index, rejected[0].error.as_str()), (33, "the decoder panicked"));
    }
}
