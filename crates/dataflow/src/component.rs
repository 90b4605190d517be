//! What a component implements.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sheaf_retry::Code;

use crate::error::ComponentError;

/// What a component is given when it is made.
#[derive(Clone, Debug)]
pub struct Start {
    /// The pipeline.
    pub pipeline: String,
    /// The component, as the file calls it.
    pub component: String,
    /// What the file says under `config`.
    pub config: Map<String, Value>,
    /// Which of its instances this is, from 0.
    pub instance: u32,
    /// How many instances there are.
    pub replicas: u32,
    /// A directory of its own that outlives its process. It exists.
    pub state_dir: PathBuf,
    /// Of a source: the last offset that was acknowledged, of this run of the pipeline or of
    /// an earlier one that was broken off.
    pub offset: Option<Bytes>,
}

impl Start {
    /// What the file says under `config`, as the component's own type.
    ///
    /// # Errors
    /// `invalid_argument` where it is not of that form: it is no use to start the component
    /// again.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, ComponentError> {
        serde_json::from_value(Value::Object(self.config.clone())).map_err(|error| {
            let text = format!("`config` of {} is not what it has to be", self.component);
            ComponentError::new(Code::InvalidArgument, text).because(error)
        })
    }
}

/// A batch that a source made.
#[derive(Clone, Debug)]
pub struct Made {
    /// The rows.
    pub batch: RecordBatch,
    /// Where to go on after this batch, in the source's own words: at most 64 KiB.
    pub offset: Bytes,
}

/// A batch that came in.
#[derive(Clone, Debug)]
pub struct Received {
    /// The rows.
    pub batch: RecordBatch,
    /// The component that sent it.
    pub from: Arc<str>,
    /// Which instance of that.
    pub from_instance: u32,
    /// Which process of the sender sent it: another one counts anew. The same for as long as
    /// the sender lives; of no meaning over a durable edge.
    pub epoch: u64,
    /// The number that the sender gave it, ascending per stream. A batch that is sent again by
    /// the same process has the number that it had. Over a durable edge batches are numbered as they come in,
    /// and [`Received::lease`] is what tells them apart.
    pub sequence: u64,
    /// Over a durable edge: what the batch is called, and the proof that this process may
    /// write it.
    pub lease: Option<BatchLease>,
}

/// What a sink commits a batch by that came over a durable edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchLease {
    /// The identifier of the batch: the same whenever it comes, also in another run.
    pub id: Arc<str>,
    /// The fencing token of the lease under which it came: a later one is greater.
    pub fence: u64,
}

/// What became of batches that came in.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What goes on, in this order.
    pub batches: Vec<RecordBatch>,
    /// How many of the batches that were given to this processor since it was made are done
    /// with, counted in the order in which they were given: whatever is to come of them has
    /// come out, with these batches or before. Only they are acknowledged to who sent them, as
    /// soon as all that read this processor have acknowledged what came of them.
    pub done: u64,
}

/// Makes batches.
#[async_trait]
pub trait Source: Send {
    /// The next batch, as soon as there is one; `None` at the end. The future may be dropped
    /// and asked for again: nothing is lost by that.
    ///
    /// # Errors
    /// A transient one is tried again after a pause; any other ends the component.
    async fn next(&mut self) -> Result<Option<Made>, ComponentError>;

    /// Every batch up to this offset has been taken by all that read this source.
    ///
    /// The offset is kept for the next [`Start`] by whoever runs the source; this is for
    /// sources that tell somebody else, such as a broker. It is told when the next batch is
    /// there, or at once where [`Source::wants_acknowledgements`] says so.
    ///
    /// # Errors
    /// As of [`Source::next`].
    async fn acknowledged(&mut self, offset: &Bytes) -> Result<(), ComponentError> {
        let _ = offset;
        Ok(())
    }

    /// Whether [`Source::next`] is dropped for each offset that can be told, and asked for
    /// again: for sources that take their time until there is something, and nothing to begin.
    fn wants_acknowledgements(&self) -> bool {
        false
    }
}

/// Makes batches of batches.
#[async_trait]
pub trait Processor: Send {
    /// The streams that will send to it, each a component and its instance. Told once, before
    /// anything else; whoever does not tell says that they are not known.
    ///
    /// # Errors
    /// As of [`Processor::process`].
    async fn begin(&mut self, streams: &[(Arc<str>, u32)]) -> Result<(), ComponentError> {
        let _ = streams;
        Ok(())
    }

    /// A stream has ended: no batch of it will come. Of the last one, [`Processor::end`] may
    /// be all that is told.
    ///
    /// # Errors
    /// As of [`Processor::process`].
    async fn stream_ended(
        &mut self,
        from: &Arc<str>,
        from_instance: u32,
    ) -> Result<Option<Outcome>, ComponentError> {
        let _ = (from, from_instance);
        Ok(None)
    }

    /// What it has counted since it was made, for statistics: a name such as `late_rows`, and
    /// how many.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Takes a batch, and gives what comes of it.
    ///
    /// # Errors
    /// A transient one is tried again with the same batch, which therefore must not be half
    /// taken; any other ends the component.
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError>;

    /// Gives what is due without a batch, such as a window whose time is over. Asked about
    /// ten times a second.
    ///
    /// # Errors
    /// As of [`Processor::process`].
    async fn tick(&mut self) -> Result<Option<Outcome>, ComponentError> {
        Ok(None)
    }

    /// All inputs have ended: gives the rest.
    ///
    /// # Errors
    /// As of [`Processor::process`].
    async fn end(&mut self) -> Result<Outcome, ComponentError>;
}

/// Takes batches.
#[async_trait]
pub trait Sink: Send {
    /// Takes a batch, and answers how many of the batches given since it was made are written
    /// for good, in the order in which they were given.
    ///
    /// # Errors
    /// A transient one is tried again with the same batch, which therefore must not be half
    /// taken; any other ends the component.
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError>;

    /// Writes all that was given; asked where no batch has come for a while, and before a stop.
    /// Answers as [`Sink::write`] does.
    ///
    /// # Errors
    /// As of [`Sink::write`].
    async fn flush(&mut self) -> Result<u64, ComponentError>;

    /// All inputs have ended, and everything was flushed: closes what is open.
    ///
    /// # Errors
    /// As of [`Sink::write`].
    async fn end(&mut self) -> Result<(), ComponentError> {
        Ok(())
    }
}

/// A component of any role.
pub enum AnyComponent {
    /// Makes batches.
    Source(Box<dyn Source>),
    /// Makes batches of batches.
    Processor(Box<dyn Processor>),
    /// Takes batches.
    Sink(Box<dyn Sink>),
}

impl AnyComponent {
    /// What it is to a pipeline.
    pub fn role(&self) -> sheaf_pipeline::spec::Role {
        use sheaf_pipeline::spec::Role;
        match self {
            AnyComponent::Source(_) => Role::Source,
            AnyComponent::Processor(_) => Role::Processor,
            AnyComponent::Sink(_) => Role::Sink,
        }
    }
}
