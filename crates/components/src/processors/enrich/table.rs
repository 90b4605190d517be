//! A reference table with an index.

use std::hash::{BuildHasher as _, RandomState};
use std::iter::successors;

use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_cast::{CastOptions, cast_with_options};
use arrow_row::{Row, RowConverter, Rows, SortField};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::concat::concat_batches;
use hashbrown::HashTable;
use sheaf_dataflow::ComponentError;
use sheaf_pipeline::spec::EnrichProcessor;
use twox_hash::XxHash3_64;

use crate::processors::expression::{canonical, cast, unpacked};
use crate::processors::failure;

/// No further row.
const NONE: u32 = u32::MAX;

/// A reference table with an index.
pub(super) struct Table {
    /// The columns that are added.
    columns: RecordBatch,
    /// The columns that are to be equal, and their types.
    names: Vec<String>,
    types: Vec<DataType>,
    converter: RowConverter,
    keys: Rows,
    /// The first row of each key.
    first: HashTable<u32>,
    /// The next row of the same key.
    next: Vec<u32>,
    seed: u64,
}

/// What rows match.
pub(super) struct Lookup<'a> {
    table: &'a Table,
    /// For each row the first one of the table.
    first: Vec<u32>,
}

impl Table {
    pub(super) fn new(
        config: &EnrichProcessor,
        batches: &[RecordBatch],
    ) -> Result<Self, ComponentError> {
        let wrong = failure::arrow("enrich");
        let Some(schema) = batches.first().map(RecordBatch::schema) else {
            return Err(failure::rows(
                "enrich: the reference table has no rows, and its columns are not known by that; \
                 check its path or its query",
            ));
        };
        let all = concat_batches(&schema, batches).map_err(&wrong)?;
        let place = |name: &String| failure::column("enrich: reference table", name, &schema);
        let on = config.on.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let added = match config.columns.is_empty() {
            true => (0..all.num_columns()).filter(|place| !on.contains(place)).collect(),
            false => config.columns.iter().map(place).collect::<Result<Vec<_>, _>>()?,
        };
        let types: Vec<_> =
            on.iter().map(|place| unpacked(schema.field(*place).data_type())).collect();
        let fields = types.iter().cloned().map(SortField::new).collect();
        let converter = RowConverter::new(fields).map_err(&wrong)?;
        let keys = on.iter().zip(&types);
        let keys = keys.map(|(place, own)| cast(all.column(*place), own).map(canonical));
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(&wrong)?;
        let nulls = nulls(&keys);
        let mut table = Table {
            columns: all.project(&added).map_err(&wrong)?,
            names: config.on.clone(),
            types,
            keys: converter.convert_columns(&keys).map_err(&wrong)?,
            converter,
            first: HashTable::new(),
            next: vec![NONE; all.num_rows()],
            seed: RandomState::new().hash_one(0),
        };
        table.index(nulls.as_ref())?;
        Ok(table)
    }

    /// From the last row to the first, so that each finds those that come after it.
    fn index(&mut self, nulls: Option<&NullBuffer>) -> Result<(), ComponentError> {
        let rows = u32::try_from(self.next.len()).ok().filter(|rows| *rows < NONE);
        let rows = rows.ok_or_else(|| failure::limit("enrich: the reference table is too long"))?;
        let Self { keys, first, next, seed, .. } = self;
        for row in (0..rows).rev() {
            if nulls.is_some_and(|nulls| nulls.is_null(row as usize)) {
                continue;
            }
            let key = keys.row(row as usize);
            let hash = XxHash3_64::oneshot_with_seed(*seed, key.data());
            match first.find_mut(hash, |other| keys.row(*other as usize) == key) {
                Some(head) => {
                    next[row as usize] = *head;
                    *head = row;
                }
                None => {
                    let hash_of = |row: &u32| {
                        XxHash3_64::oneshot_with_seed(*seed, keys.row(*row as usize).data())
                    };
                    first.insert_unique(hash, row, hash_of);
                }
            }
        }
        Ok(())
    }

    pub(super) fn rows(&self) -> usize {
        self.columns.num_rows()
    }

    /// The columns that are added, as a schema.
    pub(super) fn added(&self) -> SchemaRef {
        self.columns.schema()
    }

    pub(super) fn columns(&self) -> &[ArrayRef] {
        self.columns.columns()
    }

    /// Whether values of this type can be looked up in the column.
    pub(super) fn fits(&self, name: &str, data_type: &DataType) -> Result<(), ComponentError> {
        let place = self.names.iter().position(|own| own == name);
        let Some(own) = place.and_then(|place| self.types.get(place)) else { return Ok(()) };
        let data_type = unpacked(data_type);
        let is_text = |data_type: &DataType| {
            matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        };
        let both = |is: &dyn Fn(&DataType) -> bool| is(own) && is(&data_type);
        if *own == data_type || both(&DataType::is_integer) || both(&is_text) {
            return Ok(());
        }
        Err(failure::configuration(format!(
            "enrich: column `{name}` is of type {data_type} in the rows and of type {own} in the \
             reference table; make them the same with a `project` before"
        )))
    }

    /// What these keys match. Numbers that do not fit into the column of the table match
    /// nothing.
    pub(super) fn lookup(&self, keys: &[ArrayRef]) -> Result<Lookup<'_>, ComponentError> {
        let wrong = failure::arrow("enrich");
        let rows = keys.first().map_or(0, |key| key.len());
        let safe = CastOptions { safe: true, ..CastOptions::default() };
        let fitted = keys.iter().zip(&self.types);
        let fitted = fitted.map(|(key, own)| cast_with_options(key, own, &safe).map(canonical));
        let fitted = fitted.collect::<Result<Vec<_>, _>>().map_err(&wrong)?;
        let nulls = nulls(&fitted);
        let own = self.converter.convert_columns(&fitted).map_err(&wrong)?;
        let find = |row: usize| match nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            true => NONE,
            false => self.find(own.row(row)),
        };
        Ok(Lookup { table: self, first: (0..rows).map(find).collect() })
    }

    fn find(&self, key: Row<'_>) -> u32 {
        let hash = XxHash3_64::oneshot_with_seed(self.seed, key.data());
        let found = self.first.find(hash, |row| self.keys.row(*row as usize) == key);
        found.copied().unwrap_or(NONE)
    }
}

impl Lookup<'_> {
    /// The rows of the table that a row matches, in their order.
    pub(super) fn matches(&self, row: u32) -> impl Iterator<Item = u32> + '_ {
        let known = |row: u32| (row != NONE).then_some(row);
        let next = move |row: &u32| known(self.table.next[*row as usize]);
        successors(known(self.first[row as usize]), next)
    }

    pub(super) fn is_matched(&self, row: u32) -> bool {
        self.first[row as usize] != NONE
    }
}

/// Where any of the keys is null.
fn nulls(keys: &[ArrayRef]) -> Option<NullBuffer> {
    keys.iter()
        .fold(None, |nulls, key| NullBuffer::union(nulls.as_ref(), key.logical_nulls().as_ref()))
}
