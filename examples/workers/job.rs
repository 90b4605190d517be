//! What an example does with its tables.

use arrow_array::RecordBatch;

use super::Error;

/// Tables that go to partitions, and what is made of each partition.
pub(crate) struct Job {
    pub(crate) name: &'static str,
    /// In the order in which a partition's rows of them are read.
    pub(crate) inputs: &'static [Input],
    /// For one partition.
    pub(crate) reducer: fn() -> Box<dyn Reducer>,
}

impl Job {
    /// The inputs that are sent.
    pub(crate) fn sent(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.inputs.len()).filter(|at| !matches!(self.inputs[*at].route, Route::Stay))
    }

    /// Whether each worker has one partition.
    pub(crate) fn one_each(&self) -> bool {
        self.inputs.iter().any(|input| !matches!(input.route, Route::Hash(_)))
    }
}

/// One table.
pub(crate) struct Input {
    /// The name of its file, without the extension.
    pub(crate) table: &'static str,
    /// Columns that are not wanted.
    pub(crate) without: &'static [&'static str],
    pub(crate) route: Route,
    /// What a worker makes of each batch before it is sent.
    pub(crate) before: fn(RecordBatch) -> Result<RecordBatch, Error>,
}

/// How the rows of a table get to partitions.
#[allow(dead_code, reason = "each example has some of them")]
pub(crate) enum Route {
    /// By the hash of these columns.
    Hash(&'static [&'static str]),
    /// All of them to each worker.
    Broadcast,
    /// Not at all: each worker has its share.
    Stay,
}

/// Nothing is made of a batch.
#[allow(dead_code, reason = "not of all examples")]
pub(crate) fn as_it_is(batch: RecordBatch) -> Result<RecordBatch, Error> {
    Ok(batch)
}

/// Makes the result of one partition.
pub(crate) trait Reducer: Send {
    /// Takes rows of an input, which come after all rows of the inputs before
    /// it; gives rows of the result.
    fn push(&mut self, input: usize, batch: &RecordBatch) -> Result<Option<RecordBatch>, Error>;

    /// The rows that are left.
    fn finish(&mut self) -> Result<Option<RecordBatch>, Error> {
        Ok(None)
    }
}
