//! A component of one's own, from its first line to its exit code.

use std::io::Write as _;
use std::process::ExitCode;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use sheaf_proto::SharedTracer;
use sheaf_retry::{Code, Retryable as _};
use tokio_util::sync::CancellationToken;

use crate::assignment::Assignment;
use crate::component::{AnyComponent, Processor, Sink, Source, Start};
use crate::error::ComponentError;
use crate::host::Host;
use crate::options::Options;

type Make = Box<dyn FnOnce(Start) -> LocalBoxFuture<'static, Result<AnyComponent, ComponentError>>>;

/// The process of a component: made from what the pipeline's file says of it, registered, fed,
/// drained when it is told to stop, flushed and deregistered.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// use sheaf_dataflow::{Component, ComponentError, Outcome, Processor, Received};
///
/// /// Passes on every batch as it is.
/// struct Same {
///     done: u64,
/// }
///
/// #[async_trait::async_trait]
/// impl Processor for Same {
///     async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
///         self.done += 1;
///         Ok(Outcome { batches: vec![received.batch.clone()], done: self.done })
///     }
///
///     async fn end(&mut self) -> Result<Outcome, ComponentError> {
///         Ok(Outcome { batches: Vec::new(), done: self.done })
///     }
/// }
///
/// fn main() -> ExitCode {
///     Component::processor(async |_start| Ok(Same { done: 0 })).main()
/// }
/// ```
///
/// The pipeline names the program as `command`. The control plane starts it with the variable
/// `SHEAF_ASSIGNMENT` and ends it with SIGTERM. It has all that built-in components have: health,
/// metrics, statistics, `tap`, TLS, replicas, and durable edges, which its file allows by
/// `durableEdges: true`.
pub struct Component {
    make: Make,
    options: Options,
    stop: Option<CancellationToken>,
    tracer: Option<SharedTracer>,
}

impl Component {
    /// One that makes batches.
    pub fn source<S, F>(make: impl FnOnce(Start) -> F + 'static) -> Self
    where
        S: Source + 'static,
        F: Future<Output = Result<S, ComponentError>> + 'static,
    {
        Self::of(make, |made| AnyComponent::Source(Box::new(made)))
    }

    /// One that makes batches of batches.
    pub fn processor<P, F>(make: impl FnOnce(Start) -> F + 'static) -> Self
    where
        P: Processor + 'static,
        F: Future<Output = Result<P, ComponentError>> + 'static,
    {
        Self::of(make, |made| AnyComponent::Processor(Box::new(made)))
    }

    /// One that takes batches.
    pub fn sink<S, F>(make: impl FnOnce(Start) -> F + 'static) -> Self
    where
        S: Sink + 'static,
        F: Future<Output = Result<S, ComponentError>> + 'static,
    {
        Self::of(make, |made| AnyComponent::Sink(Box::new(made)))
    }

    fn of<T, F>(make: impl FnOnce(Start) -> F + 'static, wrap: fn(T) -> AnyComponent) -> Self
    where
        T: 'static,
        F: Future<Output = Result<T, ComponentError>> + 'static,
    {
        Component {
            make: Box::new(move |start| make(start).map(move |made| made.map(wrap)).boxed_local()),
            options: Options::default(),
            stop: None,
            tracer: None,
        }
    }

    /// With other options.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Stopped by this token, and not by SIGTERM and SIGINT.
    #[must_use]
    pub fn stopped_by(mut self, stop: CancellationToken) -> Self {
        self.stop = Some(stop);
        self
    }

    /// With a span for each batch.
    #[must_use]
    pub fn traced_by(mut self, tracer: SharedTracer) -> Self {
        self.tracer = Some(tracer);
        self
    }

    /// Takes the place that the environment variable `SHEAF_ASSIGNMENT` names, until all is done
    /// or it is told to stop. The guarantees are those of [`run`](crate::run).
    ///
    /// # Errors
    /// As of [`run`](crate::run), and `invalid_argument` where there is no assignment.
    pub async fn run(self) -> Result<(), ComponentError> {
        self.run_at(Assignment::from_environment()?).await
    }

    /// [`Component::run`] at a place that is given.
    ///
    /// # Errors
    /// As of [`run`](crate::run).
    pub async fn run_at(self, assignment: Assignment) -> Result<(), ComponentError> {
        let Component { make, options, stop, tracer } = self;
        let host = Host::new(assignment).options(options).traced_by(tracer);
        let host = match stop {
            Some(stop) => host.stopped_by(stop),
            None => host,
        };
        Box::pin(host.run(make)).await
    }

    /// [`Component::run`] as all that a process does: on a runtime of its own, with what goes
    /// wrong as a text on standard error. The exit code says whether it is of use to start the
    /// process again ([`exit_code`](crate::exit_code)).
    ///
    /// Nothing is logged unless a subscriber of `tracing` was installed before.
    pub fn main(self) -> ExitCode {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let result = match runtime {
            Ok(runtime) => {
                let result = runtime.block_on(self.run());
                // What a source waits for on another thread is not to hold up the end.
                runtime.shutdown_background();
                result
            }
            Err(error) => {
                let text = "the threads of this process cannot be started";
                Err(ComponentError::new(Code::Io, text).because(error))
            }
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let text = format!("error[{}]: {}\n", error.code().as_str(), error.chain());
                // Nobody is left to be told where even that cannot be written.
                drop(std::io::stderr().write_all(text.as_bytes()));
                ExitCode::from(error.exit_code())
            }
        }
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Component").field("options", &self.options).finish_non_exhaustive()
    }
}
