//! CPU profiles of the running process.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use pprof::{Frames, ProfilerGuard, Report};
use prost::Message as _;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::profile_encoder::{Encoder, Frame};
use crate::profile_proto::{Profile, Sample};

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

fn encode(report: &Report) -> Profile {
    let mut encoder = Encoder::default();
    let samples = encoder.value_type("samples", "count");
    let cpu = encoder.value_type("cpu", "nanoseconds");
    let period = 1_000_000_000 / i64::from(FREQUENCY);
    for (frames, count) in &report.data {
        sample(&mut encoder, frames, i64::try_from(*count).unwrap_or(i64::MAX), period);
    }
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let began = report.timing.start_time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Profile {
        sample_type: vec![samples, cpu],
        period_type: Some(cpu),
        period,
        time_nanos: nanos(began),
        duration_nanos: nanos(report.timing.duration),
        ..encoder.finish()
    }
}

fn sample(encoder: &mut Encoder, frames: &Frames, count: i64, period: i64) {
    let stack = frames.frames.iter().map(|inlined| {
        let inlined = inlined.iter().map(|symbol| Frame {
            name: symbol.name(),
            system_name: symbol.sys_name().into_owned(),
            file: symbol.filename().into_owned(),
            line: symbol.lineno(),
        });
        encoder.location(inlined)
    });
    let location_id = stack.collect();
    let label = encoder.label("thread", &frames.thread_name_or_id());
    let value = vec![count, count.saturating_mul(period)];
    encoder.sample(Sample { location_id, value, label: vec![label] });
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
    use std::collections::HashMap;

    use pprof::Symbol;

    use super::*;
    use crate::profile_proto::Line;

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
