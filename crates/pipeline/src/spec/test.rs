//! Unit tests in the file: rows in, and the rows that are to come out.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One row: a value for each column.
pub type Row = Map<String, Value>;

/// A test of a pipeline, or of a part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Test {
    /// What it shows.
    #[schemars(length(min = 1))]
    pub name: String,
    /// For each component named, the rows that it is taken to send; it is not
    /// run itself.
    #[schemars(extend("minProperties" = 1))]
    pub inputs: BTreeMap<String, Vec<Row>>,
    /// For each processor named, the rows that it must send; for each sink, the
    /// rows that must reach it.
    #[schemars(extend("minProperties" = 1))]
    pub outputs: BTreeMap<String, Vec<Row>>,
    /// Whether the rows may come in any order.
    #[serde(default)]
    pub any_order: bool,
}
