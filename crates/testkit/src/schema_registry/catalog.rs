//! What is registered: subjects, versions, ids.
//!
//! # Source
//! Confluent, "Schema Registry API reference", for the rules and error codes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The language of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SchemaKind {
    /// Avro; what a schema is when nothing is said.
    #[default]
    Avro,
    /// Protocol Buffers.
    Protobuf,
    /// JSON Schema.
    Json,
}

impl SchemaKind {
    fn is_avro(&self) -> bool {
        *self == SchemaKind::Avro
    }
}

/// A schema that another one imports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// The name by which it is imported: of a type, or of a `.proto` file.
    pub name: String,
    /// Where it is registered.
    pub subject: String,
    /// Under which version.
    pub version: u32,
}

/// A schema as it is registered and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredSchema {
    /// Its text.
    pub schema: String,
    /// Its language.
    #[serde(default, rename = "schemaType", skip_serializing_if = "SchemaKind::is_avro")]
    pub kind: SchemaKind,
    /// What it imports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    /// The compiled `FileDescriptorProto`, for `?format=serialized`: it cannot
    /// be compiled here.
    #[serde(skip)]
    pub serialized: Option<Vec<u8>>,
}

impl RegisteredSchema {
    /// An Avro schema.
    pub fn avro(schema: impl Into<String>) -> Self {
        Self::new(SchemaKind::Avro, schema)
    }

    /// A `.proto` file.
    pub fn protobuf(schema: impl Into<String>) -> Self {
        Self::new(SchemaKind::Protobuf, schema)
    }

    /// A JSON Schema.
    pub fn json(schema: impl Into<String>) -> Self {
        Self::new(SchemaKind::Json, schema)
    }

    fn new(kind: SchemaKind, schema: impl Into<String>) -> Self {
        RegisteredSchema { schema: schema.into(), kind, references: Vec::new(), serialized: None }
    }

    /// Imports a version of another subject under a name.
    #[must_use]
    pub fn referring(mut self, name: &str, subject: &str, version: u32) -> Self {
        let reference = Reference { name: name.into(), subject: subject.into(), version };
        self.references.push(reference);
        self
    }

    /// Sets what `?format=serialized` gives.
    #[must_use]
    pub fn compiled(mut self, descriptor: impl Into<Vec<u8>>) -> Self {
        self.serialized = Some(descriptor.into());
        self
    }

    /// Whether it is the same text in the same sense.
    fn same(&self, other: &Self) -> bool {
        (self.kind, &self.schema, &self.references)
            == (other.kind, &other.schema, &other.references)
    }
}

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: u32,
    pub(super) message: String,
}

impl Refusal {
    fn new(code: u32, message: impl Into<String>) -> Self {
        // Their first three digits are the status of HTTP.
        let status = u16::try_from(code / 100).unwrap_or(500);
        Refusal { status, code, message: message.into() }
    }

    pub(super) fn invalid(why: impl std::fmt::Display) -> Self {
        Self::new(42201, format!("Invalid schema: {why}"))
    }
}

/// A version of a subject.
#[derive(Debug)]
pub(super) struct Version<'a> {
    pub(super) subject: &'a str,
    pub(super) version: u32,
    pub(super) id: u32,
    pub(super) schema: &'a RegisteredSchema,
}

/// Every schema once; its id is its place, from 1.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    schemas: Vec<RegisteredSchema>,
    /// The ids of a subject by version, from 1.
    subjects: BTreeMap<String, Vec<u32>>,
}

impl Catalog {
    /// A schema that is known keeps its id, and its version in its subject.
    pub(super) fn register(
        &mut self,
        subject: &str,
        schema: RegisteredSchema,
    ) -> Result<u32, Refusal> {
        if schema.kind != SchemaKind::Protobuf {
            serde_json::from_str::<serde_json::Value>(&schema.schema).map_err(Refusal::invalid)?;
        }
        for Reference { name, subject, version } in &schema.references {
            if self.version(subject, &version.to_string()).is_err() {
                return Err(Refusal::invalid(format!("{name}: no {subject} version {version}")));
            }
        }
        let id = match self.schemas.iter().position(|known| known.same(&schema)) {
            Some(place) => place + 1,
            None => {
                self.schemas.push(schema);
                self.schemas.len()
            }
        };
        let id = u32::try_from(id).map_err(Refusal::invalid)?;
        let versions = self.subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&id) {
            versions.push(id);
        }
        Ok(id)
    }

    pub(super) fn subjects(&self) -> Vec<&str> {
        self.subjects.keys().map(String::as_str).collect()
    }

    pub(super) fn schema(&self, id: u32) -> Result<&RegisteredSchema, Refusal> {
        let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        place
            .and_then(|place| self.schemas.get(place))
            .ok_or_else(|| Refusal::new(40403, "Schema not found"))
    }

    /// Where a schema is registered.
    pub(super) fn versions_of(&self, id: u32) -> Result<Vec<Version<'_>>, Refusal> {
        self.schema(id)?;
        let subjects = self.subjects.keys();
        let all = subjects.filter_map(|subject| self.versions(subject).ok()).flatten();
        Ok(all.filter(|version| version.id == id).collect())
    }

    pub(super) fn versions(&self, subject: &str) -> Result<Vec<Version<'_>>, Refusal> {
        let not_found = || Refusal::new(40401, format!("Subject '{subject}' not found."));
        let (subject, ids) = self.subjects.get_key_value(subject).ok_or_else(not_found)?;
        (1..)
            .zip(ids)
            .map(|(version, &id)| Ok(Version { subject, version, id, schema: self.schema(id)? }))
            .collect()
    }

    /// By number, or `latest`.
    pub(super) fn version(&self, subject: &str, version: &str) -> Result<Version<'_>, Refusal> {
        let mut versions = self.versions(subject)?;
        let latest = matches!(version, "latest" | "-1");
        let number = if latest { versions.len().to_string() } else { version.to_owned() };
        match number.parse::<u32>() {
            Ok(number @ 1..) => {
                let found = versions.iter().position(|version| version.version == number);
                let missing = || Refusal::new(40402, format!("Version {number} not found."));
                found.map(|place| versions.swap_remove(place)).ok_or_else(missing)
            }
            _ => Err(Refusal::new(
                42202,
                format!("The specified version '{version}' is not a valid version id."),
            )),
        }
    }

    /// The version under which a subject has this schema.
    pub(super) fn lookup(
        &self,
        subject: &str,
        schema: &RegisteredSchema,
    ) -> Result<Version<'_>, Refusal> {
        let mut versions = self.versions(subject)?.into_iter();
        let found = versions.find(|version| version.schema.same(schema));
        found.ok_or_else(|| Refusal::new(40403, "Schema not found"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_schemas_and_versions_of_subjects() {
        let mut catalog = Catalog::default();
        let (text, number) = (RegisteredSchema::avro("\"string\""), RegisteredSchema::avro("1"));
        assert_eq!(catalog.register("a", text.clone()), Ok(1));
        assert_eq!(catalog.register("a", number.clone()), Ok(2));
        assert_eq!(catalog.register("a", text.clone()), Ok(1));
        assert_eq!(catalog.register("b", number.clone()), Ok(2));
        // The same text in another language is another schema.
        assert_eq!(catalog.register("b", RegisteredSchema::json("1")), Ok(3));

        assert_eq!(catalog.version("a", "latest").unwrap().id, 2);
        assert_eq!(catalog.version("b", "1").unwrap().id, 2);
        assert_eq!(catalog.lookup("b", &number).unwrap().version, 1);
        assert_eq!(catalog.lookup("b", &text).unwrap_err().code, 40403);
        let places: Vec<_> = catalog.versions_of(2).unwrap();
        let places: Vec<_> = places.iter().map(|found| (found.subject, found.version)).collect();
        assert_eq!(places, [("a", 2), ("b", 1)]);
    }

    #[test]
    fn refusals_have_the_codes_that_clients_know() {
        let mut catalog = Catalog::default();
        catalog.register("a", RegisteredSchema::avro("1")).unwrap();
        assert_eq!(catalog.schema(0).unwrap_err().code, 40403);
        assert_eq!(catalog.schema(2).unwrap_err().code, 40403);
        assert_eq!(catalog.version("b", "1").unwrap_err().code, 40401);
        assert_eq!(catalog.version("a", "2").unwrap_err().code, 40402);
        assert_eq!(catalog.version("a", "0").unwrap_err().code, 42202);
        let dangling = RegisteredSchema::protobuf("import \"b.proto\";").referring("b", "b", 1);
        let refusal = catalog.register("a", dangling).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (422, 42201));
        assert_eq!(catalog.register("a", RegisteredSchema::avro("{")).unwrap_err().code, 42201);
    }
}
