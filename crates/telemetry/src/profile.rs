//! CPU profiles of the running process.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use pprof::{Frames, ProfilerGuard, Report, Symbol};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::profile_proto::{Function, Label, Line, Location, Profile, Sample, ValueType};

/// How long a profile takes where nothing is said.
pub const DEFAULT_PROFILE_SECONDS: u64 = 10;

/// The longest profile: samples are kept in memory until it ends.
pub const MAX_PROFILE_SECONDS: u64 = 60;

/// Samples per second of CPU time; a prime, so as not to beat in time with timers.
const FREQUENCY: i32 = 97;

/// Signals and timers belong to the whole process, hence one profile at a time in it.
static BUSY: AtomicBool = AtomicBool::new(false);

struct Turn;

impl Turn {
    fn take() -> Result<Self, Error> {
        match BUSY.swap(true, Ordering::AcqRel) {
            true => Err(Error::ProfileBusy),
            false => Ok(Turn),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, Ordering::Release);
    }
}

/// How a profile is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProfileFormat {
    /// `profile.proto`, not compressed: `go tool pprof` and its like.
    Pprof,
    /// One stack a line, root first, for flame graphs.
    Folded,
}

/// Samples this process for `seconds` and encodes what was seen.
pub(crate) async fn cpu_profile(
    seconds: u64,
    format: ProfileFormat,
    shutdown: &CancellationToken,
) -> Result<Vec<u8>, Error> {
    if !(1..=MAX_PROFILE_SECONDS).contains(&seconds) {
        return Err(Error::ProfileSeconds { asked: seconds, limit: MAX_PROFILE_SECONDS });
    }
    let turn = Turn::take()?;
    let guard = ProfilerGuard::new(FREQUENCY).map_err(Error::Profiler)?;
    tokio::select! {
        () = shutdown.cancelled() => return Err(Error::ProfileCut),
        () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
    }
    // Symbols are looked up in the binary: milliseconds to seconds of work.
    let encoded = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let report = guard.report().build().map_err(Error::Profiler)?;
        drop(guard);
        Ok(match format {
            ProfileFormat::Pprof => encode(&report).encode_to_vec(),
            ProfileFormat::Folded => folded(&report).into_bytes(),
        })
    });
    encoded.await.map_err(|_| Error::ProfileCut)?
}

/// The string table of a profile: each text once, 0 is the empty one.
struct Strings {
    index: HashMap<String, i64>,
    table: Vec<String>,
}

impl Strings {
    fn new() -> Self {
        Strings { index: HashMap::from([(String::new(), 0)]), table: vec![String::new()] }
    }

    fn put(&mut self, text: &str) -> i64 {
        if let Some(&known) = self.index.get(text) {
            return known;
        }
        let next = i64::try_from(self.table.len()).unwrap_or(i64::MAX);
        self.table.push(text.to_owned());
        self.index.insert(text.to_owned(), next);
        next
    }
}

struct Encoder {
    strings: Strings,
    functions: HashMap<(i64, i64), u64>,
    profile: Profile,
}

impl Encoder {
    /// The number of a function, which is its position and begins at 1.
    fn function(&mut self, symbol: &Symbol) -> u64 {
        let name = self.strings.put(&symbol.name());
        let filename = self.strings.put(&symbol.filename());
        let system_name = self.strings.put(&symbol.sys_name());
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, filename)).or_insert(next);
        if id == next {
            self.profile.function.push(Function { id, name, system_name, filename });
        }
        id
    }

    fn location(&mut self, inlined: &[Symbol]) -> u64 {
        let line = inlined
            .iter()
            .map(|symbol| Line {
                function_id: self.function(symbol),
                line: i64::from(symbol.lineno()),
            })
            .collect::<Vec<_>>();
        let id = self.profile.location.len() as u64 + 1;
        self.profile.location.push(Location { id, line });
        id
    }

    fn sample(&mut self, frames: &Frames, count: i64, period: i64) {
        let location_id = frames.frames.iter().map(|inlined| self.location(inlined)).collect();
        let label = Label {
            key: self.strings.put("thread"),
            str: self.strings.put(&frames.thread_name_or_id()),
        };
        let value = vec![count, count.saturating_mul(period)];
        self.profile.sample.push(Sample { location_id, value, label: vec![label] });
    }
}

fn encode(report: &Report) -> Profile {
    let mut encoder =
        Encoder { strings: Strings::new(), functions: HashMap::new(), profile: Profile::default() };
    let mut kind = |name, unit| ValueType {
        r#type: encoder.strings.put(name),
        unit: encoder.strings.put(unit),
    };
    let (samples, cpu) = (kind("samples", "count"), kind("cpu", "nanoseconds"));
    let period = 1_000_000_000 / i64::from(FREQUENCY);
    for (frames, count) in &report.data {
        encoder.sample(frames, i64::try_from(*count).unwrap_or(i64::MAX), period);
    }
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let began = report.timing.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Profile {
        sample_type: vec![samples, cpu],
        period_type: Some(cpu),
        period,
        time_nanos: nanos(began),
        duration_nanos: nanos(report.timing.duration),
        string_table: encoder.strings.table,
        ..encoder.profile
    }
}

fn folded(report: &Report) -> String {
    let mut text = String::new();
    for (frames, count) in &report.data {
        let mut line = frames.thread_name_or_id();
        for symbol in frames.frames.iter().rev().flat_map(|inlined| inlined.iter().rev()) {
            line.push(';');
            line.push_str(&symbol.name().replace(';', ":"));
        }
        let written = writeln!(text, "{line} {count}");
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(name: &str, line: u32) -> Symbol {
        let name = Some(name.as_bytes().to_vec());
        Symbol { name, addr: None, lineno: Some(line), filename: Some("lib.rs".into()) }
    }

    fn report() -> Report {
        let frames = Frames {
            // Leaf first; the leaf has a call inlined into it.
            frames: vec![vec![symbol("inner", 3), symbol("leaf", 7)], vec![symbol("main", 1)]],
            thread_name: "worker".to_owned(),
            thread_id: 1,
            sample_timestamp: UNIX_EPOCH,
        };
        // The type of the timing has no public name.
        let mut report = Report { data: HashMap::from([(frames, 4)]), timing: Default::default() };
        report.timing.start_time = UNIX_EPOCH + Duration::from_secs(5);
        report.timing.duration = Duration::from_secs(2);
        report
    }

    #[test]
    fn a_profile_refers_to_what_it_contains() {
        let bytes = encode(&report()).encode_to_vec();
        let profile = Profile::decode(bytes.as_slice()).unwrap();
        let text = |index: i64| profile.string_table[usize::try_from(index).unwrap()].as_str();
        assert_eq!(text(0), "");
        assert_eq!(text(profile.sample_type[1].unit), "nanoseconds");
        assert_eq!((profile.time_nanos, profile.duration_nanos), (5_000_000_000, 2_000_000_000));
        let sample = &profile.sample[0];
        assert_eq!(sample.value, [4, 4 * profile.period]);
        assert_eq!(text(sample.label[0].str), "worker");
        let names: Vec<Vec<&str>> = sample
            .location_id
            .iter()
            .map(|id| profile.location.iter().find(|location| location.id == *id).unwrap())
            .map(|location| {
                let function = |line: &Line| {
                    profile.function.iter().find(|f| f.id == line.function_id).unwrap()
                };
                location.line.iter().map(|line| text(function(line).name)).collect()
            })
            .collect();
        assert_eq!(names, [vec!["inner", "leaf"], vec!["main"]]);
    }

    #[test]
    fn folded_lines_begin_at_the_root() {
        assert_eq!(folded(&report()), "worker;main;leaf;inner 4\n");
    }

    #[tokio::test]
    async fn seconds_are_bounded() {
        for asked in [0, MAX_PROFILE_SECONDS + 1, u64::MAX] {
            let token = CancellationToken::new();
            let refused = cpu_profile(asked, ProfileFormat::Pprof, &token).await;
            assert!(matches!(refused, Err(Error::ProfileSeconds { .. })), "{asked}");
        }
    }
}
