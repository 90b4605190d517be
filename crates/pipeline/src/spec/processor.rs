//! The configurations of the built-in processors.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::expression::Expression;
use super::forms::VARIABLE;
use super::shared::{Database, FileFormat, Storage, Window, half_a_minute};
use super::units::{Duration, Size};

/// What a built-in processor is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "config", rename_all = "lowercase")]
pub enum ProcessorConfig {
    /// Keeps some rows.
    Filter(FilterProcessor),
    /// Chooses and computes columns.
    Project(ProjectProcessor),
    /// Counts and sums up.
    Aggregate(AggregateProcessor),
    /// Joins with a reference table.
    Enrich(EnrichProcessor),
    /// Runs a program.
    Exec(ExecProcessor),
    /// Brings several inputs together.
    Merge(MergeProcessor),
    /// Runs a query.
    Sql(SqlProcessor),
}

/// Keeps the rows for which a condition is true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilterProcessor {
    /// The condition.
    #[serde(rename = "where")]
    pub condition: Expression,
}

/// Chooses and computes columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProjectProcessor {
    /// The columns that rows are to have, in this order.
    #[schemars(length(min = 1, max = 4_096))]
    pub columns: Vec<ProjectedColumn>,
}

/// A column that stays, or one that is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ProjectedColumn {
    /// A column that stays as it is.
    Kept(String),
    /// A column that is computed.
    Computed(ComputedColumn),
}

/// A column that is computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub struct ComputedColumn {
    /// The name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What its values are.
    pub value: Expression,
}

/// Counts and sums up groups of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AggregateProcessor {
    /// The columns whose equal values make a group; none of them for one group.
    #[serde(default)]
    pub group_by: Vec<String>,
    /// What is computed of each group.
    #[schemars(length(min = 1))]
    pub aggregates: Vec<Aggregate>,
    /// Which rows are taken together.
    #[serde(default)]
    pub window: Window,
}

/// One number of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Aggregate {
    /// The column that holds it.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What it is.
    pub function: AggregateFunction,
    /// The column that it is computed of; only `count` does without.
    #[serde(default)]
    pub column: Option<String>,
}

/// What is computed of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum AggregateFunction {
    /// Rows; of a column, its values that are not null.
    Count,
    /// The sum.
    Sum,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// The mean.
    Mean,
}

/// Adds columns of a reference table to the rows that match it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnrichProcessor {
    /// The table.
    pub reference: ReferenceTable,
    /// The columns that are to be equal, named alike on both sides.
    #[schemars(length(min = 1))]
    pub on: Vec<String>,
    /// The columns to add; all others of the table by default.
    #[serde(default)]
    pub columns: Vec<String>,
    /// What becomes of rows without a match.
    #[serde(default)]
    pub unmatched: Unmatched,
    /// The pause after which the table is read again.
    #[serde(default)]
    #[schemars(extend("x-minimum" = "10ms"))]
    pub refresh: Option<Duration>,
}

/// Where a reference table is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub enum ReferenceTable {
    /// In a file.
    File(ReferenceFile),
    /// In a database.
    Adbc(ReferenceQuery),
}

/// A reference table in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReferenceFile {
    /// The file.
    #[schemars(length(min = 1))]
    pub path: String,
    /// Its format, where the name does not say it.
    #[serde(default)]
    pub format: Option<FileFormat>,
    /// Where it is, if it is no local one.
    #[serde(default)]
    pub storage: Storage,
}

/// A reference table in a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReferenceQuery {
    /// The database.
    pub database: Database,
    /// The query that gives the table.
    #[schemars(length(min = 1))]
    pub query: String,
}

/// What becomes of rows without a match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Unmatched {
    /// They stay, with nulls.
    #[default]
    Keep,
    /// They go.
    Drop,
}

/// Hands batches to a program: an Arrow IPC stream in, another one out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecProcessor {
    /// The program and its arguments.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub command: Vec<String>,
    /// How long one batch may take.
    #[serde(default = "half_a_minute")]
    #[schemars(extend("x-minimum" = "1ms"))]
    pub timeout: Duration,
    /// The most that it may answer to one batch.
    #[serde(default = "output_limit")]
    pub max_output: Size,
}

fn output_limit() -> Size {
    Size(1_000_000_000)
}

/// Brings several inputs together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MergeProcessor {
    /// A column by which every input is in order and the output is to be;
    /// without it batches go on as they come.
    pub order_by: Option<String>,
}

/// Runs a query over the rows of a batch or of a window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SqlProcessor {
    /// The query; the rows are the table that `table` names.
    #[schemars(length(min = 1))]
    pub query: String,
    /// What the query calls the rows.
    #[serde(default = "input_table")]
    #[schemars(regex(pattern = VARIABLE))]
    pub table: String,
    /// Which rows are taken together.
    #[serde(default)]
    pub window: Window,
    /// The ADBC driver that runs it: `duckdb`, or the path of a library.
    #[serde(default = "duckdb")]
    #[schemars(length(min = 1))]
    pub driver: String,
}

fn input_table() -> String {
    "input".to_owned()
}

fn duckdb() -> String {
    "duckdb".to_owned()
}
