//! A broker, what is produced to it, and a gateway that reads it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use sheaf_testkit::{FaultProxy, KafkaBroker, Process, Ready};

const GATEWAY: &str = env!("CARGO_BIN_EXE_sheaf-gateway");

/// How long anything may take that does take a while: the first member of a
/// group waits seconds to be let in.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with topics.
pub(crate) struct Kafka {
    pub(crate) broker: KafkaBroker,
}

impl Kafka {
    /// One of its own; `None` where there is none on this machine.
    pub(crate) fn start() -> Option<Self> {
        Some(Kafka { broker: KafkaBroker::start_own().unwrap()? })
    }

    /// One of its own behind a proxy.
    pub(crate) fn start_behind_proxy() -> Option<(Self, FaultProxy)> {
        let (broker, proxy) = KafkaBroker::start_behind_proxy().unwrap()?;
        Some((Kafka { broker }, proxy))
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.bootstrap());
        config
    }

    pub(crate) async fn create(&self, topic: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let created = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
        created.into_iter().for_each(|one| drop(one.unwrap()));
    }

    /// Sends these values, each to a partition with a key; all have arrived when
    /// it returns.
    pub(crate) fn produce<V: AsRef<[u8]>>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = (i32, String, Option<V>)>,
    ) {
        let mut config = self.config();
        config.set("linger.ms", "5").set("queue.buffering.max.messages", "1000000");
        let producer: BaseProducer = config.create().unwrap();
        for (partition, key, value) in messages {
            let mut record = BaseRecord::to(topic).partition(partition).key(key.as_bytes());
            record.payload = value.as_ref().map(AsRef::as_ref);
            while let Err((error, again)) = producer.send(record) {
                let is_full =
                    error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::QueueFull);
                assert!(is_full, "{error}");
                producer.poll(Duration::from_millis(10));
                record = again;
            }
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// A gateway that reads these topics.
    pub(crate) fn gateway(&self, topics: &str, arguments: &[&str]) -> Gateway {
        Gateway::start(self.broker.bootstrap(), topics, arguments)
    }
}

/// A gateway as a process.
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) ready: Ready,
}

impl Gateway {
    /// One that reads these brokers. They let a first member wait for others half as
    /// long as its session lasts.
    pub(crate) fn start(brokers: &str, topics: &str, arguments: &[&str]) -> Self {
        let mut process = Process::command(GATEWAY)
            .args(["serve", "--brokers", brokers, "--topics", topics, "--port", "0"])
            .args(["--kafka-option", "session.timeout.ms=6000"])
            .args(arguments)
            .spawn()
            .unwrap();
        let ready = process.wait_ready(PATIENCE).unwrap();
        Gateway { process, ready }
    }

    pub(crate) fn uri(&self) -> String {
        self.ready.url("flight").unwrap().to_owned()
    }

    /// A client that runs beside the test and prints JSON.
    pub(crate) fn client(&self, arguments: &[&str]) -> Process {
        let uri = self.uri();
        let first = ["client", "--server", &uri, "--output", "json"];
        Process::command(GATEWAY).args(first).args(arguments).spawn().unwrap()
    }

    /// All metrics; it was started with `--metrics --metrics-addr :0`.
    pub(crate) fn metrics(&self) -> String {
        let url = self.ready.url("metrics").unwrap();
        let host = url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// One number of them, 0 where it is not there; `name` is with its labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |number| number.parse().unwrap())
    }

    /// Rows of a topic as JSON objects; none where it has none yet.
    pub(crate) fn rows(&self, topic: &str, more: &[&str]) -> Vec<serde_json::Value> {
        let uri = self.uri();
        let mut arguments = vec!["client", "--server", &uri, "--topic", topic, "--output", "json"];
        arguments.extend(more);
        if !more.contains(&"--limit") {
            arguments.extend(["--limit", "1000000"]);
        }
        let (code, out, error) = run(&arguments);
        if code != Some(0) {
            eprintln!("{error}");
            return Vec::new();
        }
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What `sheaf-gateway` prints and ends with.
pub(crate) fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(GATEWAY).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
