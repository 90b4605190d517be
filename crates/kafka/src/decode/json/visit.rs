//! Looks at each message by itself, on the tape that arrow-json makes: what
//! is looked at and what is decoded is read by the same rules.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow_array::{ArrayRef, NullArray};
use arrow_json::ReaderBuilder;
use arrow_json::reader::{ArrayDecoder, Decoder, DecoderContext, DecoderFactory, Tape};
use arrow_schema::{ArrowError, DataType, Field, FieldRef};

use super::feed;
use crate::decode::{Rejected, Value};

/// How many messages are read before they are looked at: one that is not JSON
/// has as many read again at most.
const AT_ONCE: usize = 64;

/// Looks at messages in their order.
pub(super) trait Judge: Clone + Debug + Send + 'static {
    /// Whether the message at a position of the tape is good.
    fn judge(&mut self, tape: &Tape<'_>, at: u32) -> Result<(), String>;
}

/// Shows the judge each value that is JSON; returns the good ones and the
/// judge. The others are rejected.
pub(super) fn visit<'v, J: Judge>(
    values: &[Value<'v>],
    judge: J,
    rejected: &mut Vec<Rejected>,
) -> Result<(Vec<Value<'v>>, J), ArrowError> {
    let walker = Walker(Arc::new(Mutex::new(Court { judge, verdicts: Vec::new() })));
    let mut good = Vec::with_capacity(values.len());
    let mut decoder = walker.decoder()?;
    let mut pending: Vec<Value<'v>> = Vec::with_capacity(AT_ONCE);
    for value in values {
        let text = std::str::from_utf8(value.bytes).map_err(|e| e.to_string());
        let fed = text.and_then(|_| feed(&mut decoder, value.bytes, pending.len()));
        match fed {
            Ok(()) => pending.push(*value),
            Err(error) => {
                // The decoder is lost, and with it what it had read.
                decoder = walker.decoder()?;
                for (at, value) in pending.iter().enumerate() {
                    feed(&mut decoder, value.bytes, at).map_err(ArrowError::JsonError)?;
                }
                walker.pass(&mut decoder, &mut pending, &mut good, rejected)?;
                rejected.push(value.rejected(error));
            }
        }
        if pending.len() == AT_ONCE {
            walker.pass(&mut decoder, &mut pending, &mut good, rejected)?;
        }
    }
    walker.pass(&mut decoder, &mut pending, &mut good, rejected)?;
    let judge = walker.court().judge.clone();
    Ok((good, judge))
}

#[derive(Debug)]
struct Court<J> {
    judge: J,
    verdicts: Vec<Result<(), String>>,
}

/// Stands where arrow-json expects a decoder of columns.
#[derive(Clone, Debug)]
struct Walker<J>(Arc<Mutex<Court<J>>>);

impl<J: Judge> Walker<J> {
    fn court(&self) -> MutexGuard<'_, Court<J>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decoder(&self) -> Result<Decoder, ArrowError> {
        ReaderBuilder::new_with_field(Field::new("", DataType::Null, true))
            .with_batch_size(AT_ONCE + 1)
            .with_decoder_factory(Arc::new(self.clone()))
            .build_decoder()
    }

    fn pass<'v>(
        &self,
        decoder: &mut Decoder,
        pending: &mut Vec<Value<'v>>,
        good: &mut Vec<Value<'v>>,
        rejected: &mut Vec<Rejected>,
    ) -> Result<(), ArrowError> {
        decoder.flush()?;
        let verdicts = std::mem::take(&mut self.court().verdicts);
        for (value, verdict) in pending.drain(..).zip(verdicts) {
            match verdict {
                Ok(()) => good.push(value),
                Err(error) => rejected.push(value.rejected(error)),
            }
        }
        Ok(())
    }
}

impl<J: Judge> DecoderFactory for Walker<J> {
    fn make_default_decoder(
        &self,
        _context: &DecoderContext,
        _field: &FieldRef,
        _is_nullable: bool,
    ) -> Result<Option<Box<dyn ArrayDecoder>>, ArrowError> {
        Ok(Some(Box::new(self.clone())))
    }
}

impl<J: Judge> ArrayDecoder for Walker<J> {
    fn decode(&mut self, tape: &Tape<'_>, positions: &[u32]) -> Result<ArrayRef, ArrowError> {
        let mut court = self.court();
        for at in positions {
            let verdict = court.judge.judge(tape, *at);
            court.verdicts.push(verdict);
        }
        Ok(Arc::new(NullArray::new(positions.len())))
    }
}
