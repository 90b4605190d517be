//! From what a host has taken up to the loop of its component.

use std::sync::Arc;

use sheaf_flight::{ChannelPool, Secret};
use sheaf_pipeline::control::ControlClient;
use sheaf_pipeline::spec::Role;
use sheaf_retry::{Code, SharedClock};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::begin::Begun;
use super::finish::{Finish, done_reason};
use super::loops::{Ending, Failures, Loop};
use super::processor::ProcessorLoop;
use super::sink::SinkLoop;
use super::source::{Offsets, SourceLoop};
use crate::assignment::Assignment;
use crate::component::{AnyComponent, Start};
use crate::durable::{Link, Settler};
use crate::error::ComponentError;
use crate::inlet::{self, Common, Durable, Inlets, Place};
use crate::ledger::Ledger;
use crate::offset::OffsetFile;
use crate::options::Options;
use crate::outlet::Outlets;
use crate::pace::Pace;
use crate::spans::{Causes, Spans};
use crate::stats::{Phase, Stats};

/// What a loop is made of.
pub(super) struct Parts {
    pub(super) options: Options,
    pub(super) clock: SharedClock,
    pub(super) stop: CancellationToken,
    pub(super) spans: Arc<Spans>,
    pub(super) control: ControlClient,
    pub(super) pool: ChannelPool,
    pub(super) pace: Pace,
    pub(super) outlets: Outlets,
    pub(super) places: Vec<Arc<Place>>,
    pub(super) stats: Arc<Stats>,
    pub(super) fence: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(super) link: Option<Arc<Link>>,
}

impl Parts {
    pub(super) async fn work<M, F>(
        mut self,
        assignment: &Assignment,
        make: M,
    ) -> Result<Ending, ComponentError>
    where
        M: FnOnce(Start) -> F,
        F: Future<Output = Result<AnyComponent, ComponentError>>,
    {
        let file = OffsetFile::new(&assignment.state_dir);
        let offset = match assignment.role {
            Role::Source => file.read()?.start(assignment.pass),
            Role::Processor | Role::Sink => None,
        };
        let begun = Box::pin(self.begin(assignment, offset)).await?;
        let Some(Begun { offset, settler, _tasks }) = begun else {
            return Ok(Ending::Ended);
        };
        let start = Start {
            pipeline: assignment.pipeline.clone(),
            component: assignment.definition.id.clone(),
            config: assignment.definition.config.clone(),
            instance: assignment.index,
            replicas: assignment.replicas,
            state_dir: assignment.state_dir.clone(),
            offset: offset.clone(),
        };
        let component = make(start).await?;
        self.stats.set_phase(Phase::Running);
        let base = self.base(assignment);
        let (control, streams) = (self.control.clone(), self.outlets.streams.clone());
        let finish = Finish::new(control, self.clock.clone(), assignment.pass, streams);
        match (assignment.role, component) {
            (Role::Source, AnyComponent::Source(source)) => {
                let every = self.options.offset_every;
                let offsets = Offsets::new(file, assignment.pass, every, offset);
                let outlets = self.outlets;
                SourceLoop { base, source, outlets, offsets, finish }.run().await
            }
            (Role::Processor, AnyComponent::Processor(processor)) => {
                let stats = Arc::clone(&self.stats);
                let (inlets, outlets) = self.inlets(assignment, settler);
                let ledger = Ledger::default();
                let causes = Causes::default();
                let ticks = Failures::default();
                ProcessorLoop {
                    base,
                    processor,
                    inlets,
                    outlets,
                    ledger,
                    causes,
                    finish,
                    stats,
                    ticks,
                }
                .run()
                .await
            }
            (Role::Sink, AnyComponent::Sink(sink)) => {
                let (inlets, _) = self.inlets(assignment, settler);
                SinkLoop { base, sink, inlets, written: 0 }.run().await
            }
            (role, made) => {
                let (place, made) = (&assignment.place, made.role());
                let text = format!("{place} is to be a {role}, and a {made} was made");
                Err(ComponentError::new(Code::InvalidArgument, text))
            }
        }
    }

    /// What the loops of all roles are given.
    fn base(&self, assignment: &Assignment) -> Loop {
        Loop {
            pace: self.pace.clone(),
            clock: self.clock.clone(),
            stop: self.stop.clone(),
            stopped_at: std::sync::OnceLock::new(),
            drain: assignment.definition.drain.0,
            instance: assignment.place.clone(),
            spans: Arc::clone(&self.spans),
            stats: Arc::clone(&self.stats),
        }
    }

    /// Begins to read.
    fn inlets(self, assignment: &Assignment, settler: Option<Arc<Settler>>) -> (Inlets, Outlets) {
        let room_units = inlet::room_units(self.options.received_bytes);
        let common = Common {
            control: self.control,
            pool: self.pool,
            token: Secret::new(assignment.data_token.as_str()),
            names: assignment.tls.as_ref().map(|_| assignment.run),
            fence: self.fence,
            done: done_reason(assignment.pass),
            clock: self.clock,
            room: Arc::new(Semaphore::new(room_units as usize)),
            room_units,
            quit: CancellationToken::new(),
        };
        let credits = assignment
            .inputs
            .iter()
            .map(|input| u64::from(input.edge.credits).saturating_mul(input.from.len() as u64));
        let replicas = assignment.replicas;
        let durable = self.link.map(|link| Durable { link, settler, replicas });
        (Inlets::start(self.places, credits.sum(), common, durable), self.outlets)
    }
}
