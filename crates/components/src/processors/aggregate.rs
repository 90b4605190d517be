//! Counts and sums up groups of rows.
//!
//! The result has a row for each group of a window, in the order in which the groups first
//! came: of windows of time `window_start` and `window_end` first, then the columns of the
//! group, then what was computed.
//!
//! | of | `sum` | `mean` | `min`, `max` |
//! |---|---|---|---|
//! | whole numbers with a sign | Int64 | Float64 | their own type |
//! | those without | UInt64 | Float64 | their own type |
//! | floating-point numbers | Float64 | Float64 | their own type |
//! | decimals | a decimal of all digits | Float64 | their own type |
//! | text, binary, times, booleans | | | their own type |
//!
//! `count` is an Int64. Null values do not count; a group without others has null, and 0 as
//! its count. In a group -0 is 0, and NaN is equal to itself; null is a group of its own.

mod accumulator;
mod extreme;
mod groups;
mod numbers;

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow_row::{RowConverter, SortField};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::{Aggregate, AggregateFunction, AggregateProcessor, Window};

use super::each::PerSchema;
use super::expression::{canonical, cast, unpacked};
use super::failure;
use super::window::{Fold, Memory, Share, Span};
use accumulator::Accumulator;
use groups::Groups;

/// The first two columns of windows of time.
const BOUNDS: [&str; 2] = ["window_start", "window_end"];

/// Counts and sums up groups of rows.
pub(super) struct Aggregation {
    config: AggregateProcessor,
    plan: Option<Arc<Plan>>,
    /// Where the columns of `plan` are.
    places: PerSchema<Places>,
    memory: Memory,
    has_bounds: bool,
}

/// What the first rows have settled.
struct Plan {
    /// None for one group.
    keys: Option<RowConverter>,
    key_types: Vec<DataType>,
    /// The types that are computed of; none where rows are counted.
    inputs: Vec<Option<DataType>>,
    schema: SchemaRef,
}

struct Places {
    keys: Vec<usize>,
    inputs: Vec<Option<usize>>,
}

/// The groups of a window.
pub(super) struct State {
    groups: Groups,
    accumulators: Vec<Box<dyn Accumulator>>,
    share: Share,
}

impl Aggregation {
    pub(super) fn new(config: &AggregateProcessor) -> Result<Self, ComponentError> {
        let has_bounds = matches!(config.window, Window::Time(_));
        let bounds = BOUNDS.iter().copied().filter(|_| has_bounds);
        let groups = config.group_by.iter().map(String::as_str);
        let computed = config.aggregates.iter().map(|aggregate| aggregate.name.as_str());
        let mut names: Vec<&str> = Vec::new();
        for name in bounds.chain(groups).chain(computed) {
            if names.contains(&name) {
                let text = format!("aggregate: two columns are called `{name}`; rename one");
                return Err(failure::configuration(text));
            }
            names.push(name);
        }
        for aggregate in &config.aggregates {
            if aggregate.column.is_none() && aggregate.function != AggregateFunction::Count {
                let text = format!("aggregate `{}`: name the column that it is of", aggregate.name);
                return Err(failure::configuration(text));
            }
        }
        Ok(Aggregation {
            config: config.clone(),
            plan: None,
            places: PerSchema::new(),
            memory: Memory::default(),
            has_bounds,
        })
    }
}

impl Plan {
    fn new(
        config: &AggregateProcessor,
        has_bounds: bool,
        schema: &Schema,
        places: &Places,
    ) -> Result<Self, ComponentError> {
        let types = |place: &usize| unpacked(schema.field(*place).data_type());
        let key_types: Vec<DataType> = places.keys.iter().map(types).collect();
        let bound = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let mut fields: Vec<Field> = match has_bounds {
            true => BOUNDS.iter().map(|name| Field::new(*name, bound.clone(), false)).collect(),
            false => Vec::new(),
        };
        for (name, data_type) in config.group_by.iter().zip(&key_types) {
            fields.push(Field::new(name, data_type.clone(), true));
        }
        let mut inputs = Vec::new();
        for (aggregate, place) in config.aggregates.iter().zip(&places.inputs) {
            let input = place.map(|place| unpacked(schema.field(place).data_type()));
            let output = accumulator::output(aggregate, input.as_ref())?;
            let nullable = aggregate.function != AggregateFunction::Count;
            fields.push(Field::new(&aggregate.name, output, nullable));
            inputs.push(input);
        }
        let keys = match key_types.is_empty() {
            true => None,
            false => {
                let fields = key_types.iter().cloned().map(SortField::new).collect();
                let converter = RowConverter::new(fields);
                Some(converter.map_err(|error| {
                    failure::configuration(format!("aggregate: groupBy: {error}"))
                })?)
            }
        };
        Ok(Plan { keys, key_types, inputs, schema: Arc::new(Schema::new(fields)) })
    }

    /// Rows that come later are of the types of the first ones.
    fn fits(
        &self,
        config: &AggregateProcessor,
        schema: &Schema,
        places: &Places,
    ) -> Result<(), ComponentError> {
        let keys = places.keys.iter().zip(&self.key_types).zip(&config.group_by);
        let inputs = places.inputs.iter().zip(&self.inputs).zip(&config.aggregates);
        let inputs = inputs.filter_map(|((place, known), aggregate)| {
            Some(((place.as_ref()?, known.as_ref()?), aggregate.column.as_ref()?))
        });
        for ((place, known), name) in keys.chain(inputs) {
            let found = unpacked(schema.field(*place).data_type());
            if found != *known {
                return Err(failure::configuration(format!(
                    "aggregate: column `{name}` is of type {found} and was of type {known} \
                     before; make them the same with a `project` before"
                )));
            }
        }
        Ok(())
    }
}

fn places(config: &AggregateProcessor, schema: &Schema) -> Result<Places, ComponentError> {
    let group = |name: &String| failure::column("aggregate", name, schema);
    let input = |aggregate: &Aggregate| {
        let column = aggregate.column.as_ref();
        column.map(|name| failure::column("aggregate", name, schema)).transpose()
    };
    Ok(Places {
        keys: config.group_by.iter().map(group).collect::<Result<_, _>>()?,
        inputs: config.aggregates.iter().map(input).collect::<Result<_, _>>()?,
    })
}

impl Plan {
    fn state(&self, config: &AggregateProcessor, memory: &Memory) -> State {
        let accumulators = config.aggregates.iter().zip(&self.inputs);
        let accumulators = accumulators
            .map(|(aggregate, input)| accumulator::new(aggregate.function, input.as_ref()));
        State {
            groups: Groups::new(self.keys.as_ref()),
            accumulators: accumulators.collect(),
            share: memory.share(),
        }
    }
}

#[async_trait]
impl Fold for Aggregation {
    /// None where the first rows have not come: nobody asks before.
    type State = Option<State>;

    fn check(&mut self, batch: &RecordBatch) -> Result<(), ComponentError> {
        let (config, plan, has_bounds) = (&self.config, &mut self.plan, self.has_bounds);
        self.places.get(batch.schema_ref(), |schema| {
            let places = places(config, schema)?;
            match plan {
                Some(plan) => plan.fits(config, schema, &places)?,
                None => *plan = Some(Arc::new(Plan::new(config, has_bounds, schema, &places)?)),
            }
            Ok(places)
        })?;
        Ok(())
    }

    fn empty(&self) -> Option<State> {
        self.plan.as_ref().map(|plan| plan.state(&self.config, &self.memory))
    }

    fn add(
        &mut self,
        state: &mut Option<State>,
        batch: &RecordBatch,
    ) -> Result<(), ComponentError> {
        self.check(batch)?;
        let (Some(plan), Some(state)) = (&self.plan, state) else { return Ok(()) };
        let places = self.places.get(batch.schema_ref(), |schema| places(&self.config, schema))?;
        let wrong = failure::arrow("aggregate");
        let column = |place: usize, data_type: &DataType| cast(batch.column(place), data_type);
        let keys = places.keys.iter().zip(&plan.key_types);
        let keys = keys.map(|(place, known)| column(*place, known).map(canonical));
        let keys = keys.collect::<Result<Vec<ArrayRef>, _>>().map_err(&wrong)?;
        let ids = state.groups.ids(plan.keys.as_ref(), &keys, batch.num_rows())?;
        let groups = state.groups.len();
        let inputs = places.inputs.iter().zip(&plan.inputs);
        let mut bytes = state.groups.size();
        for (accumulator, (place, known)) in state.accumulators.iter_mut().zip(inputs) {
            let input = place.as_ref().zip(known.as_ref());
            let input = input.map(|(place, known)| column(*place, known)).transpose();
            accumulator.add(&ids, groups, input.map_err(&wrong)?.as_ref()).map_err(&wrong)?;
            bytes += accumulator.size();
        }
        state.share.set(bytes)
    }

    async fn finish(
        &mut self,
        state: &Option<State>,
        span: Option<Span>,
    ) -> Result<Vec<RecordBatch>, ComponentError> {
        let (Some(plan), Some(state)) = (&self.plan, state) else { return Ok(Vec::new()) };
        let rows = state.groups.len();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(plan.schema.fields().len());
        if let Some(span) = span.filter(|_| self.has_bounds) {
            for bound in [span.start, span.end] {
                let bound = TimestampMicrosecondArray::from(vec![bound; rows]);
                columns.push(Arc::new(bound.with_timezone("UTC")));
            }
        }
        columns.extend(state.groups.keys(plan.keys.as_ref())?);
        for (accumulator, aggregate) in state.accumulators.iter().zip(&self.config.aggregates) {
            let computed = accumulator.finish();
            columns.push(computed.map_err(|error| {
                failure::rows(format!("aggregate `{}`: {error}", aggregate.name))
            })?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&plan.schema), columns, &options)
            .map(|batch| vec![batch])
            .map_err(failure::arrow("aggregate"))
    }
}
