//! Registration, and what scripts refuse.

use fred::prelude::Value;
use sheaf_coordinator::limits::{self, MAX_DEPENDENCIES, MAX_ITEMS, at_most};
use sheaf_coordinator::migration::Phase;
use sheaf_coordinator::{BatchSpec, Error, Position, Registered, State};
use sheaf_retry::Code;

use crate::coordinator::Shared;
use crate::error::unexpected;
use crate::link::Refusal;
use crate::pack;
use crate::script::LAYOUT;
use crate::unpack;
use crate::work::{MAX_SHARED, bytes, list, number};

impl Shared {
    /// Registers batches, with others that come at the same time.
    pub(crate) async fn register(&self, specs: Vec<BatchSpec>) -> Result<Vec<Registered>, Error> {
        at_most("batches", specs.len(), MAX_ITEMS)?;
        specs.iter().try_for_each(limits::spec)?;
        let depends = specs.iter().map(|spec| spec.depends_on.len()).sum();
        at_most("depends_on", depends, MAX_DEPENDENCIES)?;
        let size = specs.len();
        if size > MAX_SHARED || size == 0 {
            return self.register_all(&specs.iter().collect::<Vec<_>>()).await;
        }
        self.entering.call(specs, size).await
    }

    /// Registers the batches of several calls at once.
    pub(crate) async fn register_calls(
        &self,
        calls: &[Vec<BatchSpec>],
    ) -> Result<Vec<Vec<Registered>>, Error> {
        let specs: Vec<&BatchSpec> = calls.iter().flatten().collect();
        let mut all = self.register_all(&specs).await?.into_iter();
        Ok(calls.iter().map(|call| all.by_ref().take(call.len()).collect()).collect())
    }

    async fn register_all(&self, specs: &[&BatchSpec]) -> Result<Vec<Registered>, Error> {
        let arguments = pack::register(self.link.prefix(), specs, self.settings.smallest_block)?;
        let answer = self.link.call(&self.link.library().register, arguments, true).await?;
        let mut answer = answer.map_err(|refusal| self.refused(&refusal, specs))?;
        let run = self.noted(&mut answer).run;
        let values = match answer.next() {
            // All are new, and have places one after the other.
            Some(Value::Integer(base)) => {
                let base = u64::try_from(base).map_err(|_| unexpected("register"))?;
                let registered: Vec<Registered> = specs
                    .iter()
                    .zip(base..)
                    .map(|(spec, sequence)| Registered {
                        id: spec.id.clone(),
                        state: State::Pending,
                        created: true,
                        position: Position { run, sequence },
                    })
                    .collect();
                self.metrics.registered(&registered);
                return Ok(registered);
            }
            values => list(values),
        };
        if values.len() != specs.len() * 4 {
            return Err(unexpected("register"));
        }
        let mut registered = Vec::with_capacity(specs.len());
        let mut values = values.into_iter();
        for spec in specs {
            let mut next = || values.next().ok_or_else(|| unexpected("register"));
            let alias = bytes(next()?);
            let id = if alias.is_empty() {
                spec.id.clone()
            } else {
                unpack::id(&alias).map_err(|_| unexpected("register"))?
            };
            let state = unpack::state(number(&next()?)).ok_or_else(|| unexpected("register"))?;
            let created = number(&next()?) == 1;
            let position = Position { run, sequence: number(&next()?) };
            registered.push(Registered { id, state, created, position });
        }
        self.metrics.registered(&registered);
        Ok(registered)
    }

    /// What a script refused before it changed anything.
    pub(crate) fn refused(&self, refusal: &Refusal, specs: &[&BatchSpec]) -> Error {
        let over = |problem: String| Error::Unavailable { problem, code: Code::Overloaded };
        match refusal.word.as_str() {
            "newer" => Error::Backend {
                operation: format!(
                    "use {}: a newer version ({}) of this program keeps its batches there, this \
                     one knows {LAYOUT}; upgrade it",
                    self.settings.address,
                    refusal.text(0),
                ),
                code: Code::FormatNewer,
                source: None,
            },
            "moving" => {
                let phase = Phase::decode(&refusal.bytes(0)).ok();
                let name = crate::endpoint::name(&self.settings);
                let known = phase.and_then(|phase| phase.refusal(&name));
                known.unwrap_or_else(|| unexpected("read what is being moved"))
            }
            "draining" => Error::Draining { queue: refusal.text(0) },
            "over" if refusal.text(0) == "queues" => Error::Limit {
                field: "queues",
                actual: refusal.number(1),
                limit: refusal.number(2),
            },
            "over" => over(format!(
                "holds {} {}, over its limit of {}",
                refusal.text(1),
                refusal.text(0),
                refusal.text(2)
            )),
            "bytes" => {
                Error::Limit { field: "bytes", actual: refusal.number(0), limit: refusal.number(1) }
            }
            "full" => {
                let name = refusal.text(0);
                let holder = if name.is_empty() {
                    "the coordinator".to_owned()
                } else {
                    format!("queue {name:?}")
                };
                let (live, more) = (refusal.number(1), refusal.number(2));
                Error::Full { holder, live, more, limit: refusal.number(3) }
            }
            "parent" => Error::Precondition {
                id: refusal.text(0),
                problem: format!(
                    "depends on {}, which is not registered; register it first or in the same call",
                    refusal.text(1)
                ),
            },
            "circle" => Error::Invalid {
                field: "depends_on",
                problem: format!(
                    "batch {} would wait for itself, directly or through others",
                    refusal.text(0)
                ),
            },
            "conflict" => conflict(refusal, specs).unwrap_or_else(|| unexpected("register")),
            _ => unexpected("call"),
        }
    }
}

/// Which field of a batch is another than asked for.
fn conflict(refusal: &Refusal, specs: &[&BatchSpec]) -> Option<Error> {
    let at = refusal.details.first().map(number)?;
    let asked = specs.get(usize::try_from(at).ok()?)?;
    let raw = refusal.details.get(1).cloned().map(bytes).unwrap_or_default();
    if raw.is_empty() {
        let earlier = specs.iter().find(|spec| spec.id == asked.id)?;
        return earlier.conflict(asked);
    }
    unpack::record(&asked.id, &raw, &[], 0).ok()?.spec.conflict(asked)
}
