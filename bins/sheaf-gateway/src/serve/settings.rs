//! From flags to what the gateway is started with.

use sheaf_kafka::{
    ConsumerOptions, DecoderOptions, From, GatewayOptions, RegistryOptions, StreamOptions,
};
use sheaf_retry::Code;
use sheaf_terminal::Failure;

use super::args::ServeArgs;
use super::persist::Persist;
use super::register::RegisterArgs;
use super::schemas;
use super::security::ServerSecurityArgs;
use super::words::begin;

/// What flags come to.
pub(super) struct Settings {
    pub(super) gateway: GatewayOptions,
    pub(super) flight: String,
    pub(super) metrics: Option<String>,
    pub(super) pprof: Option<String>,
    pub(super) metrics_namespace: String,
    pub(super) memory: u64,
    pub(super) security: ServerSecurityArgs,
    pub(super) persist: Option<Persist>,
    pub(super) register: RegisterArgs,
    pub(super) registry: Option<RegistryOptions>,
}

/// Bytes of all topics and calls together at least, where no flag says so.
const LEAST_MEMORY: u64 = 512_000_000;

impl ServeArgs {
    /// Checks what no single flag tells.
    pub(super) fn resolve(self) -> Result<Settings, Failure> {
        let mut problems = Vec::new();
        let topics: Vec<String> = self.topics.iter().map(|topic| topic.trim().to_owned()).collect();
        if topics.iter().any(String::is_empty) {
            problems.push("--topics: a name between two commas is empty".to_owned());
        }
        if self.batch_size == 0 {
            problems.push("--batch-size is 0, a batch has one row at least".to_owned());
        }
        if self.buffer_limit.0 < 1 << 20 {
            problems.push(format!("--buffer-limit is {}, at least 1MiB", self.buffer_limit));
        }
        let start = begin(&self.start).unwrap_or_else(|problem| {
            problems.push(problem);
            From::default()
        });
        let persist = self.persist.resolve(self.buffer_limit.0, &mut problems);
        let registry = self.registry.resolve(&mut problems);
        let mut decoder = DecoderOptions { format: self.format, ..DecoderOptions::default() };
        let decoders = schemas::resolve(&self.schema, (&topics, &mut decoder), &mut problems);
        if !problems.is_empty() {
            return Err(Failure::new(Code::InvalidArgument, problems.join("; "))
                .help("see `sheaf-gateway serve --help` for every flag and its default"));
        }
        let limit = self.buffer_limit.0;
        let memory = limit.saturating_mul(2 * topics.len() as u64).max(LEAST_MEMORY);
        let bind = if self.bind.contains(':') { format!("[{}]", self.bind) } else { self.bind };
        let at = |address: &str| match address.strip_prefix(':') {
            Some(port) => format!("{bind}:{port}"),
            None => address.to_owned(),
        };
        let mut consumer = ConsumerOptions::new(self.brokers, topics, self.group);
        (consumer.start, consumer.librdkafka) = (start, self.kafka_option);
        consumer.batch_size = self.batch_size as usize;
        // Several chunks are under way at once.
        let most = usize::try_from(limit / 8).unwrap_or(usize::MAX);
        consumer.batch_bytes = consumer.batch_bytes.min(most);
        let stream = StreamOptions { limit_bytes: limit, ttl: self.ttl.0, when_full: self.full };
        Ok(Settings {
            gateway: GatewayOptions {
                consumer,
                decoder,
                decoders,
                registry: None,
                stream,
                sink: None,
            },
            flight: format!("{bind}:{}", self.port),
            metrics: self.metrics.then(|| at(&self.metrics_addr)),
            pprof: self.pprof.then(|| at(&self.pprof_addr)),
            metrics_namespace: self.metrics_namespace,
            memory: self.memory_limit.map_or(memory, |limit| limit.0),
            security: self.security,
            persist,
            register: self.register,
            registry,
        })
    }
}
