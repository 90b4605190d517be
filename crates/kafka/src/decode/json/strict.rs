//! Keeps arrow-json from changing numbers: it reads 1.5 into an integer
//! column as 1, and takes texts for numbers.

use arrow_array::ArrayRef;
use arrow_json::reader::{ArrayDecoder, DecoderContext, DecoderFactory, Tape, TapeElement};
use arrow_schema::{ArrowError, DataType, FieldRef};

use super::number;

/// Checks each number before arrow-json reads it.
#[derive(Debug)]
pub(super) enum Strict {
    /// The columns are inferred, so each value must be what was inferred.
    Inferred,
    /// The columns are given: texts may stand for numbers, as `1.0` may for 1.
    Given,
}

impl DecoderFactory for Strict {
    fn make_default_decoder(
        &self,
        context: &DecoderContext,
        field: &FieldRef,
        is_nullable: bool,
    ) -> Result<Option<Box<dyn ArrayDecoder>>, ArrowError> {
        let of = field.data_type();
        let rule: fn(&str) -> bool = match (self, of) {
            (Strict::Inferred, DataType::Int64) => number::fits_integer,
            (Strict::Inferred, DataType::Float64) => number::fits_float,
            (Strict::Given, of) if of.is_integer() => number::is_whole,
            _ => return Ok(None),
        };
        let inner = context.make_builtin_decoder(field, is_nullable)?;
        let texts = matches!(self, Strict::Given);
        Ok(Some(Box::new(Checked { inner, rule, texts, of: of.clone() })))
    }
}

struct Checked {
    inner: Box<dyn ArrayDecoder>,
    rule: fn(&str) -> bool,
    texts: bool,
    of: DataType,
}

impl ArrayDecoder for Checked {
    fn decode(&mut self, tape: &Tape<'_>, positions: &[u32]) -> Result<ArrayRef, ArrowError> {
        for position in positions {
            let text = match tape.get(*position) {
                TapeElement::Number(text) => tape.get_string(text),
                TapeElement::String(text) if !self.texts => {
                    let text = tape.get_string(text);
                    return Err(ArrowError::JsonError(format!("\"{text}\" is not {}", self.of)));
                }
                _ => continue,
            };
            if !(self.rule)(text) {
                return Err(ArrowError::JsonError(format!("{text} does not fit into {}", self.of)));
            }
        }
        self.inner.decode(tape, positions)
    }
}
