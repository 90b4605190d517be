//! Traces over OTLP, where the standard variables of OpenTelemetry ask for them.

#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "otlp")]
mod sampler;

use sheaf_proto::SharedTracer;
use sheaf_retry::SharedClock;

use crate::Error;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";

/// Where traces go, and which.
///
/// The rest the SDK of OpenTelemetry reads by itself: `OTEL_SERVICE_NAME`,
/// `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_EXPORTER_OTLP_HEADERS` and `_TIMEOUT`, `OTEL_BSP_*`, and
/// `OTEL_SPAN_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TraceOptions {
    /// What the service is called where the environment does not say.
    pub service: String,
    /// The collector, such as `http://127.0.0.1:4317`; without it there are no traces.
    pub endpoint: Option<String>,
    /// `grpc`, which is the one that there is.
    pub protocol: Option<String>,
    /// `OTEL_TRACES_SAMPLER`; `parentbased_always_on` where it is not set.
    pub sampler: Option<String>,
    /// `OTEL_TRACES_SAMPLER_ARG`: the share that is sampled, where the sampler asks for one.
    pub sampler_argument: Option<String>,
}

impl TraceOptions {
    /// What the environment says. With `OTEL_SDK_DISABLED=true` or `OTEL_TRACES_EXPORTER=none`
    /// it asks for no traces.
    #[allow(clippy::disallowed_methods, reason = "variables that the SDK reads too")]
    pub fn from_environment(service: &str) -> Self {
        TraceOptions::from_variables(service, |name| std::env::var(name).ok())
    }

    /// What these variables say.
    pub fn from_variables(service: &str, get: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let is = |name: &str, what: &str| get(name).is_some_and(|value| value.trim() == what);
        let is_off = get("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"))
            || is("OTEL_TRACES_EXPORTER", "none");
        let endpoint = get(TRACES_ENDPOINT).or_else(|| get(ENDPOINT));
        TraceOptions {
            service: service.to_owned(),
            endpoint: endpoint.filter(|_| !is_off),
            protocol: get(TRACES_PROTOCOL).or_else(|| get(PROTOCOL)),
            sampler: get("OTEL_TRACES_SAMPLER"),
            sampler_argument: get("OTEL_TRACES_SAMPLER_ARG"),
        }
    }
}

/// The traces of this process. Dropped at its end, it sends what is not sent yet, within three
/// seconds.
#[derive(Debug, Default)]
#[must_use = "traces end when it is dropped"]
pub struct Traces {
    #[cfg(feature = "otlp")]
    sending: Option<otlp::Sending>,
}

impl Traces {
    /// Who records spans, where traces are asked for: for those who do the work.
    pub fn tracer(&self) -> Option<SharedTracer> {
        #[cfg(feature = "otlp")]
        return self.sending.as_ref().map(otlp::Sending::tracer);
        #[cfg(not(feature = "otlp"))]
        None
    }
}

/// Sends traces from now on, where the options name a collector. Call it after
/// [`init_logs`](crate::init_logs), in `main`; libraries never do.
///
/// A collector that does not answer is told of once in the log. Spans that it does not take are
/// lost; 2,048 of them wait at most, and nothing ever waits for them.
///
/// A build without the feature `otlp` says once in its log that it has no traces.
///
/// # Errors
/// [`Error::TraceVariable`] and [`Error::Collector`] for options that cannot be used,
/// [`Error::TraceThread`] where there is no thread to be had.
pub fn init_traces(options: &TraceOptions, clock: &SharedClock) -> Result<Traces, Error> {
    let Some(endpoint) = &options.endpoint else { return Ok(Traces::default()) };
    #[cfg(feature = "otlp")]
    {
        let sending = otlp::Sending::start(options, endpoint, clock.clone())?;
        Ok(Traces { sending: Some(sending) })
    }
    #[cfg(not(feature = "otlp"))]
    {
        let _ = clock;
        say_none(endpoint);
        Ok(Traces::default())
    }
}

/// What a program says of a collector that it was built without.
#[cfg(any(test, not(feature = "otlp")))]
fn say_none(endpoint: &str) {
    tracing::warn!(
        endpoint,
        "{ENDPOINT} names a collector, and this program sends no traces: it was built without the \
         feature `otlp`"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LogOptions;
    use crate::logs::tests::logged;

    fn options(variables: &[(&str, &str)]) -> TraceOptions {
        let get = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        TraceOptions::from_variables("sheaf", get)
    }

    #[test]
    fn only_an_endpoint_asks_for_traces() {
        let plain = options(&[("OTEL_SERVICE_NAME", "mine"), (ENDPOINT, " ")]);
        assert_eq!(plain, TraceOptions { service: "sheaf".into(), ..TraceOptions::default() });
        let both = options(&[(ENDPOINT, "http://a:1"), (TRACES_ENDPOINT, "http://b:2")]);
        assert_eq!(both.endpoint.as_deref(), Some("http://b:2"));
        for off in [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_TRACES_EXPORTER", "none")] {
            assert_eq!(options(&[(ENDPOINT, "http://a:1"), off]).endpoint, None, "{off:?}");
        }
    }

    #[test]
    fn a_program_without_the_feature_says_so() {
        let line = logged(&LogOptions::default(), || say_none("http://a:1"));
        for part in ["WARN", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1", "feature `otlp`"] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn without_an_endpoint_nothing_records() {
        let clock = sheaf_retry::SystemClock::shared();
        let traces = init_traces(&options(&[]), &clock).unwrap();
        assert!(traces.tracer().is_none());
    }
}
