//! The topics that are read.

use std::fmt;

use serde_json::Value;
use sheaf_testkit::{RegisteredSchema, SchemaRegistry};

use super::{Setup, Side};

/// What the messages of a topic are; it is called so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Topic {
    pub(super) format: &'static str,
    /// Of 1 KB instead of 200 bytes.
    pub(super) is_large: bool,
}

const fn topic(format: &'static str, is_large: bool) -> Topic {
    Topic { format, is_large }
}

pub(super) const TOPICS: [Topic; 6] = [
    topic("json", false),
    topic("avro", false),
    topic("protobuf", false),
    topic("json", true),
    topic("avro", true),
    topic("protobuf", true),
];

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = if self.is_large { "_1k" } else { "" };
        write!(f, "{}{size}", self.format)
    }
}

impl Topic {
    /// The ways that Python has.
    pub(super) fn ways(self) -> &'static [&'static str] {
        match self.format {
            "json" => &["pyarrow", "orjson"],
            "avro" => &["fastavro"],
            _ => &[],
        }
    }

    /// Whether it is read on all cores too.
    pub(super) fn is_read_on_all_cores(self) -> bool {
        self.format != "protobuf" && !self.is_large
    }

    /// The same with what it will hold.
    pub(super) fn filled(self, setup: &Setup) -> Filled {
        let count =
            if self.is_large { setup.size(250_000, 4_000) } else { setup.size(1_000_000, 8_000) };
        let bytes = if self.is_large { "1000" } else { "200" };
        Filled { topic: self, count, bytes, schema: None, schema_id: "0".to_owned() }
    }
}

/// A topic that is in the broker.
#[derive(Debug)]
pub(super) struct Filled {
    pub(super) topic: Topic,
    pub(super) count: u64,
    bytes: &'static str,
    /// As the registry has it.
    pub(super) schema: Option<String>,
    schema_id: String,
}

impl Filled {
    /// The arguments that say what its values are.
    pub(super) fn values(&self) -> Vec<&str> {
        let (format, bytes) = (self.topic.format, self.bytes);
        vec!["--format", format, "--bytes", bytes, "--schema-id", &self.schema_id]
    }

    /// Takes and registers the schema that a load tells; JSON has none.
    pub(super) fn set_schema(&mut self, told: &Value, registry: &SchemaRegistry) {
        let Some(text) = told["schema"].as_str().map(str::to_owned) else { return };
        self.schema = Some(text.clone());
        let schema = match self.topic.format {
            "avro" => RegisteredSchema::avro(text),
            _ => RegisteredSchema::protobuf(text),
        };
        let subject = format!("{}-value", self.topic);
        self.schema_id = registry.register(&subject, schema).to_string();
    }

    /// Who reads it.
    pub(super) fn sides(&self) -> Vec<Side> {
        let mut sides = vec![Side::Raw { one_core: true }, Side::Ours { one_core: true }];
        sides.extend(self.topic.ways().iter().map(|way| Side::Python(way)));
        if self.topic.is_read_on_all_cores() {
            sides.extend([Side::Raw { one_core: false }, Side::Ours { one_core: false }]);
        }
        sides
    }
}
