//! Inputs that are a text or an object: read by hand, so that an error names
//! the field inside, which serde's untagged enums do not.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sheaf_proto::BatchId;
use sheaf_retry::Code;

use super::spec::SpecInput;
use super::work::{ErrorInput, OutputInput};

impl<'de> Deserialize<'de> for OutputInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OutputVisitor)
    }
}

struct OutputVisitor;

impl<'de> Visitor<'de> for OutputVisitor {
    type Value = OutputInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch id, or an object as RegisterBatch takes it")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OutputInput, E> {
        let id = BatchId::try_new(text).map_err(E::custom)?;
        Ok(OutputInput(SpecInput::new(id)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OutputInput, A::Error> {
        SpecInput::deserialize(MapAccessDeserializer::new(map)).map(OutputInput)
    }
}

impl<'de> Deserialize<'de> for ErrorInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ErrorVisitor)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ErrorFields {
    #[serde(default)]
    code: Option<Code>,
    message: String,
    #[serde(default)]
    permanent: bool,
}

struct ErrorVisitor;

impl<'de> Visitor<'de> for ErrorVisitor {
    type Value = ErrorInput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or an object with code, message and permanent")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ErrorInput, E> {
        let (code, message) = (Code::ProcessorFailed, text.to_owned());
        Ok(ErrorInput { code, message, permanent: false })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ErrorInput, A::Error> {
        let fields = ErrorFields::deserialize(MapAccessDeserializer::new(map))?;
        let code = fields.code.unwrap_or(Code::ProcessorFailed);
        Ok(ErrorInput { code, message: fields.message, permanent: fields.permanent })
    }
}
