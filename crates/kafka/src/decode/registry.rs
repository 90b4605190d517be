//! What is known about the schemas of the registry, and the decoders that
//! were made of them.

use std::collections::{BTreeMap, BTreeSet};

use super::avro::Avro;
use super::framing;
use super::options::ValueSchema;
use super::protobuf::Protobuf;
use super::{Rejected, Value};
use crate::format::Format;

/// Ids that one stream may name. Noise with a zero byte in front names any;
/// those that were refused are forgotten when the room is used up.
pub(super) const MAX_SCHEMAS: usize = 4_096;

/// What a registered schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RegisteredKind {
    /// Avro, the registry's default.
    Avro,
    /// Protobuf.
    Protobuf,
    /// JSON Schema. The columns come from the values; the schema itself is
    /// not read, and values are not checked against it.
    Json,
}

/// A schema as a registry gives it.
#[derive(Clone, Debug)]
pub struct RegisteredSchema {
    /// What it is written in.
    pub kind: RegisteredKind,
    /// Its text.
    pub text: String,
    /// The name and the text of each schema that it refers to, directly or
    /// not. For Protobuf the name is the path of the import.
    pub references: Vec<(String, String)>,
}

/// The number of the schema of values that name none. Registries give others.
pub(super) const OWN: u32 = u32::MAX;

/// What is known about a schema id.
#[derive(Debug)]
pub(super) enum Known {
    Avro(Box<Avro>),
    Protobuf(Box<Protobuf>),
    Json,
    /// It cannot be used, for this reason.
    Refused(String),
}

impl Known {
    /// The format of the values that have it.
    pub(super) fn format(&self) -> Option<Format> {
        match self {
            Known::Avro(_) => Some(Format::Avro),
            Known::Protobuf(_) => Some(Format::Protobuf),
            Known::Json => Some(Format::Json),
            Known::Refused(_) => None,
        }
    }
}

/// All ids that are known.
#[derive(Debug, Default)]
pub(super) struct Registry {
    known: BTreeMap<u32, Known>,
    /// Values that name these were rejected.
    doubted: BTreeSet<u32>,
    /// There is nobody to ask.
    is_absent: bool,
    /// Which message of it values are that name no schema.
    own: Option<Vec<usize>>,
}

impl Registry {
    pub(super) fn get(&self, id: u32) -> Option<&Known> {
        self.known.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Known> {
        self.known.get_mut(&id)
    }

    /// From now on values are those of this schema, and name none themselves; their
    /// format.
    pub(super) fn take_own(&mut self, values: &ValueSchema) -> Result<Format, String> {
        let ValueSchema { schema, message } = values;
        let (known, path) = match (schema.kind, message) {
            (RegisteredKind::Avro, None) => {
                (Known::Avro(Box::new(Avro::compile(schema)?)), Vec::new())
            }
            (RegisteredKind::Protobuf, message) => {
                let protobuf = Protobuf::compile(schema)?;
                let path = protobuf.path_of(message.as_deref())?;
                (Known::Protobuf(Box::new(protobuf)), path)
            }
            (RegisteredKind::Avro, Some(name)) => {
                return Err(format!("a schema of Avro has no message {name}"));
            }
            (RegisteredKind::Json, _) => {
                return Err("JSON Schema does not say how to read values".to_owned());
            }
        };
        let format = known.format().ok_or("it has no format")?;
        self.known.insert(OWN, known);
        self.own = Some(path);
        Ok(format)
    }

    /// Which message all values are, where they name no schema.
    pub(super) fn own(&self) -> Option<&[usize]> {
        self.own.as_deref()
    }

    /// From now on no id is asked for.
    pub(super) fn set_absent(&mut self) {
        self.is_absent = true;
    }

    pub(super) fn is_absent(&self) -> bool {
        self.is_absent
    }

    /// Whether it is to be asked for.
    pub(super) fn lacks(&self, id: u32) -> bool {
        !self.is_absent && !self.known.contains_key(&id)
    }

    pub(super) fn learn(&mut self, id: u32, schema: &RegisteredSchema) {
        let compiled = match schema.kind {
            RegisteredKind::Avro => Avro::compile(schema).map(|avro| Known::Avro(Box::new(avro))),
            RegisteredKind::Protobuf => {
                Protobuf::compile(schema).map(|protobuf| Known::Protobuf(Box::new(protobuf)))
            }
            RegisteredKind::Json => Ok(Known::Json),
        };
        self.known.insert(id, compiled.unwrap_or_else(Known::Refused));
    }

    pub(super) fn refuse(&mut self, id: u32, reason: String) {
        self.known.insert(id, Known::Refused(reason));
    }

    /// A value that names this schema was rejected: it, or the schema, is wrong.
    pub(super) fn doubt(&mut self, id: u32) {
        // Why a refused one is no use is known.
        if self.known.get(&id).is_some_and(|known| known.format().is_some()) {
            self.doubted.insert(id);
        }
    }

    /// Has all that were refused asked for again.
    pub(super) fn forget_all_refused(&mut self) {
        self.known.retain(|_, known| !matches!(known, Known::Refused(_)));
    }

    /// Some of the schemas that may be wrong, which are not doubted any more.
    pub(super) fn take_doubted(&mut self, most: usize) -> Vec<u32> {
        let taken: Vec<u32> = self.doubted.iter().copied().take(most).collect();
        self.doubted.retain(|id| !taken.contains(id));
        taken
    }

    /// Why a value of a stream without a format is no row.
    pub(super) fn undecided(&self, value: &Value<'_>) -> Rejected {
        match framing::schema_id(value.bytes).and_then(|id| Some((id, self.get(id)?))) {
            Some((id, Known::Refused(reason))) => value.rejected(format!("schema {id}: {reason}")),
            _ => value.rejected("most messages before it name schemas that cannot be had"),
        }
    }

    /// Makes room after messages were decoded; not before, or they would be
    /// asked for without end.
    pub(super) fn forget_refused(&mut self) {
        if self.known.len() >= MAX_SCHEMAS {
            self.forget_all_refused();
        }
    }

    /// The ids of these values that are not known, as many as there is room for.
    pub(super) fn unknown(&self, values: &[Value<'_>]) -> Vec<u32> {
        if self.own.is_some() {
            return Vec::new();
        }
        let mut unknown = Vec::new();
        let mut last = None;
        for id in values.iter().filter_map(|value| framing::schema_id(value.bytes)) {
            if last != Some(id) && self.lacks(id) {
                unknown.push(id);
            }
            last = Some(id);
        }
        unknown.sort_unstable();
        unknown.dedup();
        unknown.truncate(MAX_SCHEMAS.saturating_sub(self.known.len()));
        unknown
    }
}
