//! A component from its start to its end.

mod begin;
mod describe;
mod finish;
mod loops;
mod parts;
mod processor;
mod signals;
mod sink;
mod source;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use sheaf_flight::{
    ChannelPool, Exposure, FlightRouter, Limits, Listener, Secret, Security, Server, ServerHandle,
};
use sheaf_pipeline::control::{ControlClient, Member, Standing};
use sheaf_pipeline::health::{HealthServer, Page, Pages};
use sheaf_pipeline::registry::{CONTROL_NAME, Kind, Metadata, Registration, incarnation};
use sheaf_pipeline::spec::Role;
use sheaf_proto::SharedTracer;
use sheaf_retry::{Code, Jitter, Retryable as _, SharedClock, SystemClock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::describe::describe;
pub use self::finish::{CLOSED, DONE, UNDRAINED, done_reason};
use self::loops::Ending;
use self::parts::Parts;
use self::signals::Signals;
use crate::assignment::{Assignment, TlsAssignment};
use crate::component::{AnyComponent, Start};
use crate::durable::Link;
use crate::error::ComponentError;
use crate::inlet::{self, Place};
use crate::options::Options;
use crate::outlet::{Outlets, Serving};
use crate::pace::Pace;
use crate::spans::Spans;
use crate::stats::{Phase, Stats};
use crate::wire::{EDGES, TAPS};

/// How long calls of readers may take to end when the component does.
const GRACE: std::time::Duration = std::time::Duration::from_secs(2);

/// Hosts a component at the place of its assignment, until all its inputs have ended or the
/// process is told to stop by SIGTERM or SIGINT.
///
/// It listens, registers, makes the component by `make`, and moves batches. At the end it has
/// told all senders what is done with, and has deregistered.
///
/// # Guarantees
/// - A batch is acknowledged to its sender only after the sink has said that it is written, or
///   after all that came of it was acknowledged further down.
/// - What is not acknowledged is sent again, to another process of the reader too.
/// - A source goes on after the last batch that all its readers have acknowledged.
/// - When another process has taken the place, this one ends and writes nothing more.
///
/// # Errors
/// Those of the assignment, of `make` and of the component; `stale_fence` where the place was
/// lost; those of the network while it begins. [`ComponentError::exit_code`] says whether it is
/// of use to start the process again.
pub async fn run<M, F>(assignment: Assignment, make: M) -> Result<(), ComponentError>
where
    M: FnOnce(Start) -> F,
    F: Future<Output = Result<AnyComponent, ComponentError>>,
{
    // Boxed: it is large, and whoever waits for it would be.
    Box::pin(Host::new(assignment).run(make)).await
}

/// [`run`] with more to say.
///
/// ```no_run
/// # use sheaf_dataflow::{AnyComponent, Assignment, ComponentError, Host, Start};
/// # async fn hosted(make: AnyComponent) -> Result<(), ComponentError> {
/// let assignment = Assignment::from_environment()?;
/// Host::new(assignment).run(async |_start: Start| Ok(make)).await
/// # }
/// ```
pub struct Host {
    assignment: Assignment,
    options: Options,
    stop: Option<CancellationToken>,
    tracer: Option<SharedTracer>,
    clock: SharedClock,
}

impl Host {
    /// A host with the default options, which signals of the process stop.
    pub fn new(assignment: Assignment) -> Self {
        let (options, clock) = (Options::default(), SystemClock::shared());
        Host { assignment, options, stop: None, tracer: None, clock }
    }

    /// With other options.
    #[must_use]
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Stopped by this token, and not by signals.
    #[must_use]
    pub fn stopped_by(mut self, stop: CancellationToken) -> Self {
        self.stop = Some(stop);
        self
    }

    /// With a span for each batch at its stage. Without a tracer, what a batch came with goes on
    /// with what comes of it, and nothing is recorded.
    #[must_use]
    pub fn traced_by(mut self, tracer: Option<SharedTracer>) -> Self {
        self.tracer = tracer;
        self
    }

    /// As [`run`].
    ///
    /// # Errors
    /// As there.
    pub async fn run<M, F>(self, make: M) -> Result<(), ComponentError>
    where
        M: FnOnce(Start) -> F,
        F: Future<Output = Result<AnyComponent, ComponentError>>,
    {
        let Host { assignment, options, stop, tracer, clock } = self;
        assignment.check()?;
        let signals = match stop {
            Some(token) => Signals::of(token),
            None => Signals::listen()?,
        };
        make_folder(&assignment.state_dir)?;
        let spans = Arc::new(Spans::new(&assignment, tracer));
        let hosted = Hosted::start(assignment, options, signals, spans, clock).await?;
        hosted.run(make).await
    }
}

/// A component that has its place.
struct Hosted {
    assignment: Assignment,
    options: Options,
    clock: SharedClock,
    signals: Signals,
    spans: Arc<Spans>,
    server: ServerHandle,
    _health: HealthServer,
    member: Member,
    control: ControlClient,
    pool: ChannelPool,
    pace: Pace,
    outlets: Outlets,
    places: Vec<Arc<Place>>,
    stats: Arc<Stats>,
    /// Where one of its edges is durable.
    link: Option<Arc<Link>>,
}

impl Hosted {
    async fn start(
        assignment: Assignment,
        options: Options,
        signals: Signals,
        spans: Arc<Spans>,
        clock: SharedClock,
    ) -> Result<Self, ComponentError> {
        let incarnation = incarnation(clock.now().as_millis());
        // Random as that is, and never 0, which stands for none.
        let epoch = Jitter::seed_of(incarnation.expose()) | 1;
        let outlets = Outlets::new(&assignment, &options, epoch, clock.clone())?;
        let places = inlet::places(&assignment);
        let durable = assignment.durable.as_ref().filter(|_| assignment.has_durable());
        let link = durable.map(|durable| Link::new(&assignment, durable, epoch, clock.clone()));
        let link = link.transpose()?.map(Arc::new);
        let stats = Arc::new(Stats::new(&assignment, &outlets.edges, &places));
        let server = serve(&assignment, &outlets, &clock).await?;
        let (health, paced) = serve_health(&assignment, &stats, &clock).await?;
        let config = assignment.tls.as_ref().map(TlsAssignment::client).unwrap_or_default();
        let pool = ChannelPool::new(config, clock.clone());
        let target = assignment.control.parse().map_err(|error: sheaf_flight::Error| {
            let text = format!("the control plane {:?}", assignment.control);
            ComponentError::new(Code::InvalidArgument, text).because(error)
        })?;
        let (of_control, options_) = (pool.only_for(CONTROL_NAME), options.control.clone());
        let control = ControlClient::new(of_control, target, options_, clock.clone());
        let registration = registration(&assignment, incarnation, &server, &health)?;
        let member = tokio::select! {
            biased;
            () = signals.stop.cancelled() => return Err(ComponentError::new(
                Code::Cancelled,
                "stopped before it was registered",
            )),
            joined = control.join(registration) => joined.map_err(|error| {
                let text = format!("{} cannot be registered", assignment.place);
                ComponentError::new(error.code(), text).because(error)
            })?,
        };
        let (place, fence) = (&assignment.place, member.fence());
        tracing::info!(place, fence, address = server.uri(), "registered");
        let hung = assignment.definition.health.timeout.0;
        let pace = Pace::new(member.pulse(), clock.clone(), hung);
        *paced.lock().unwrap_or_else(PoisonError::into_inner) = Some(pace.clone());
        Ok(Hosted {
            assignment,
            options,
            clock,
            signals,
            spans,
            server,
            _health: health,
            member,
            control,
            pool,
            pace,
            outlets,
            places,
            stats,
            link,
        })
    }

    async fn run<M, F>(self, make: M) -> Result<(), ComponentError>
    where
        M: FnOnce(Start) -> F,
        F: Future<Output = Result<AnyComponent, ComponentError>>,
    {
        let Hosted {
            assignment,
            options,
            clock,
            signals,
            spans,
            server,
            _health,
            member,
            control,
            pool,
            pace,
            outlets,
            places,
            stats,
            link,
        } = self;
        let own_clock = clock.clone();
        let parts = Parts {
            options,
            clock,
            stop: signals.stop.clone(),
            spans,
            control,
            pool,
            pace,
            outlets,
            places,
            stats: Arc::clone(&stats),
            fence: fence_of(&member),
            link: link.clone(),
        };
        let doomed = async {
            match &link {
                Some(link) => link.fate.failed().await,
                None => std::future::pending().await,
            }
        };
        let lost = lost(member.standing());
        // Boxed: it is large, and everything that waits for it would be.
        let work = Box::pin(parts.work(&assignment, make));
        // Whatever the component is doing is dropped where it is when its place is lost.
        let described = metadata(&assignment);
        let described = describe(member.describer(), described, Arc::clone(&stats), own_clock);
        let described = Box::pin(described);
        let result = tokio::select! {
            biased;
            why = lost => Err(has_lost(&assignment.place, &why)),
            error = doomed => Err(error),
            result = work => result,
            () = described => Err(ComponentError::new(Code::Internal, "it looks without end")),
        };
        let reason = reason(&result, assignment.pass);
        stats.set_phase(Phase::Leaving);
        let place = &assignment.place;
        tracing::info!(place, reason, "deregistering");
        let left = member.leave_with(&reason, Some(stats.totals())).await;
        if let Err(error) = left {
            tracing::warn!(place, %error, "not deregistered");
        }
        match &result {
            Ok(_) => drop(server.drain(GRACE).await),
            Err(_) => drop(server),
        }
        drop(_health);
        match result {
            Err(error) if !error.is_closed() => Err(error),
            _ => Ok(()),
        }
    }
}

fn has_lost(place: &str, why: &str) -> ComponentError {
    ComponentError::new(Code::StaleFence, format!("{place} has lost its place, and ends: {why}"))
}

/// Why it leaves.
fn reason(result: &Result<Ending, ComponentError>, pass: u64) -> String {
    match result {
        Ok(Ending::Ended) => done_reason(pass),
        Ok(Ending::Stopped) => "stopped".to_owned(),
        Ok(Ending::Undrained) => UNDRAINED.to_owned(),
        Err(error) if error.is_closed() => format!("{CLOSED}{}", error.chain()),
        Err(error) => format!("failed: {}", error.chain()),
    }
}

/// Why the place was lost, once it is.
async fn lost(mut standing: watch::Receiver<Standing>) -> String {
    loop {
        if let Standing::Lost { why } = &*standing.borrow_and_update() {
            return why.clone();
        }
        if standing.changed().await.is_err() {
            // It has left, and nobody can take it away any more.
            std::future::pending::<()>().await;
        }
    }
}

fn fence_of(member: &Member) -> Arc<dyn Fn() -> u64 + Send + Sync> {
    let fence = member.fence();
    Arc::new(move || fence)
}

fn make_folder(path: &Path) -> Result<(), ComponentError> {
    std::fs::create_dir_all(path).map_err(|error| {
        let text = format!("cannot make the state directory {}", path.display());
        ComponentError::new(error.code(), text).because(error)
    })
}

/// The port of the streams.
async fn serve(
    assignment: &Assignment,
    outlets: &Outlets,
    clock: &SharedClock,
) -> Result<ServerHandle, ComponentError> {
    let failed = |error: sheaf_flight::Error| {
        let text = format!("cannot serve streams on {}", assignment.listen);
        ComponentError::new(error.code(), text).because(error)
    };
    let token = Secret::new(assignment.data_token.as_str());
    let names = assignment.tls.as_ref().map(|_| assignment.run);
    let serving = Arc::new(Serving::new(token, names, &outlets.edges));
    let security = match &assignment.tls {
        Some(tls) => tls.streams(clock).map_err(failed)?,
        None => Security::none(),
    };
    // A reader takes its time where what it got fills its memory; one that is gone is found by
    // the keepalive of the connection.
    let day = std::time::Duration::from_secs(24 * 3600);
    let limits = Limits { get_idle_timeout: day, ..Limits::default() };
    let router = FlightRouter::builder()
        .handler(EDGES, Arc::clone(&serving) as _)
        .handler(TAPS, serving)
        .limits(limits)
        .clock(clock.clone())
        .build()
        .map_err(failed)?;
    // The assignment says where; who reads has to show the data token.
    let listener =
        Listener::bind(&assignment.listen, "listen", Exposure::Insecure).map_err(failed)?;
    Server::new(router).security(security).serve(listener).await.map_err(failed)
}

type Paced = Arc<Mutex<Option<Pace>>>;

/// The port for people and monitors.
async fn serve_health(
    assignment: &Assignment,
    stats: &Arc<Stats>,
    clock: &SharedClock,
) -> Result<(HealthServer, Paced), ComponentError> {
    let paced = Paced::default();
    let vitals = {
        let paced = Arc::clone(&paced);
        Arc::new(move || match &*paced.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(pace) => pace.vitals(),
            None => Ok(()),
        })
    };
    let stats = Arc::clone(stats);
    let pages: Pages = Arc::new(move |path| match path {
        "/stats" => Some(Page { content_type: "application/json", body: stats.json() }),
        "/metrics" => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            Some(Page { content_type, body: stats.metrics() })
        }
        _ => None,
    });
    let text = format!("cannot serve /health on {}", assignment.health_listen);
    let security = match &assignment.tls {
        Some(tls) => tls
            .health(clock)
            .map_err(|error| ComponentError::new(error.code(), text.as_str()).because(error))?,
        None => Security::none(),
    };
    let (address, clock) = (&assignment.health_listen, clock.clone());
    let bound = HealthServer::bind_secured(address, vitals, pages, security, clock);
    let health =
        bound.await.map_err(|error| ComponentError::new(error.code(), text).because(error))?;
    Ok((health, paced))
}

fn registration(
    assignment: &Assignment,
    incarnation: Secret,
    server: &ServerHandle,
    health: &HealthServer,
) -> Result<Registration, ComponentError> {
    let bound = server.local_addr();
    let host = match &assignment.advertise_host {
        Some(host) if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        Some(host) => host.clone(),
        None if bound.ip().is_unspecified() => {
            let text = format!(
                "it listens on {bound}, which is no address that others can call: the assignment \
                 needs an `advertiseHost`"
            );
            return Err(ComponentError::new(Code::InvalidArgument, text));
        }
        None if bound.is_ipv6() => format!("[{}]", bound.ip()),
        None => bound.ip().to_string(),
    };
    Ok(Registration {
        id: assignment.place.clone(),
        kind: match assignment.role {
            Role::Source => Kind::Source,
            Role::Processor => Kind::Processor,
            Role::Sink => Kind::Sink,
        },
        token: Secret::new(assignment.token.as_str()),
        incarnation,
        address: match &assignment.tls {
            Some(_) => format!("grpc+tls://{host}:{}", bound.port()),
            None => format!("grpc://{host}:{}", bound.port()),
        },
        health_endpoint: format!(":{}", health.local_addr().port()),
        endpoints: Vec::new(),
        metadata: metadata(assignment),
        load: None,
    })
}

/// What it says of itself before anything has gone through it.
fn metadata(assignment: &Assignment) -> Metadata {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Metadata { name: assignment.instance.clone(), version, ..Metadata::default() }
}
