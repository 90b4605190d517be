//! What containers wrote, as lines with their times.

use std::collections::HashMap;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerSummary;
use bollard::query_parameters::LogsOptionsBuilder;
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use sheaf_retry::Timestamp;

use super::names;
use crate::{LaunchId, LogLine};

/// Letters of a line; the rest is cut off.
const MAX_LINE: usize = 16 << 10;

/// The newest container of each of these places.
pub(super) fn newest(containers: &[ContainerSummary], places: &[String]) -> Vec<LaunchId> {
    let mut newest: HashMap<&str, LaunchId> = HashMap::new();
    for id in containers.iter().filter_map(|one| names::launch(one.labels.as_ref()?)) {
        let Some(place) = places.iter().find(|place| **place == id.place) else { continue };
        let known = newest.entry(place).or_insert_with(|| id.clone());
        if known.attempt < id.attempt {
            *known = id;
        }
    }
    let mut newest: Vec<LaunchId> = newest.into_values().collect();
    newest.sort();
    newest
}

/// The last `tail` lines of each, in the order of their times, and with `follow` what comes
/// then, for as long as the containers are there.
pub(super) async fn lines(
    engine: &Docker,
    ids: Vec<LaunchId>,
    tail: usize,
    follow: bool,
) -> Result<BoxStream<'static, LogLine>, Error> {
    let tail = tail.to_string();
    let mut last = Vec::new();
    for id in &ids {
        let options = options().tail(&tail).build();
        let parts = engine.logs(&names::container(id), Some(options));
        let parts: Vec<LogOutput> = parts.try_collect().await?;
        last.extend(parts.iter().filter_map(|part| line(id, part)));
    }
    last.sort_by_key(|line| line.at);
    let last = stream::iter(last);
    if !follow {
        return Ok(last.boxed());
    }
    let followed = ids.into_iter().map(|id| {
        let options = options().tail("0").follow(true).build();
        let parts = engine.logs(&names::container(&id), Some(options));
        // A container that is removed meanwhile has no more lines.
        let parts = parts.take_while(|part| std::future::ready(part.is_ok()));
        let of = move |part: Result<LogOutput, Error>| part.ok().and_then(|part| line(&id, &part));
        parts.filter_map(move |part| std::future::ready(of(part))).boxed()
    });
    let followed: Vec<BoxStream<'static, LogLine>> = followed.collect();
    Ok(last.chain(stream::select_all(followed)).boxed())
}

fn options() -> LogsOptionsBuilder {
    LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true)
}

/// A line with the time in front of it, as the engine gives them one by one.
fn line(id: &LaunchId, part: &LogOutput) -> Option<LogLine> {
    let is_error = matches!(part, LogOutput::StdErr { .. });
    let text = String::from_utf8_lossy(part.as_ref()).into_owned();
    let (at, text) = text.split_once(' ')?;
    let text: String = text.trim_end_matches(['\n', '\r']).chars().take(MAX_LINE).collect();
    let instance = id.place.split_once(':').map_or("", |(_, instance)| instance).to_owned();
    Some(LogLine { at: time(at)?, instance, is_error, text })
}

/// `2026-01-31T12:34:56.789012345Z`, to the microsecond.
fn time(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut clock = clock.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    // Days since 1970, counted in years that begin in March: the leap day is the last one.
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let from_march = (month + 9) % 12;
    let leaps = year / 4 - year / 100 + year / 400;
    let days = (365 * year + leaps + (153 * from_march + 2) / 5 + day).checked_sub(719_469)?;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_micros(seconds.checked_mul(1_000_000)? + micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_microsecond() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:01.5Z", 1_500_000),
            ("2000-02-29T12:00:00.000001999Z", 951_825_600_000_001),
            ("2024-12-31T23:59:59.999999Z", 1_735_689_599_999_999),
            ("2026-03-01T00:00:00Z", 1_772_323_200_000_000),
        ] {
            assert_eq!(time(text), Some(Timestamp::from_micros(micros)), "{text}");
        }
        assert_eq!((time("yesterday"), time("2024-12-31 23:59:59")), (None, None));
    }
}
