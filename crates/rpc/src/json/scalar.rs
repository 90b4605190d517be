//! Times, fences and lists, as they stand in JSON.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::de::{self, IntoDeserializer, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sheaf_coordinator::Fence;
use sheaf_retry::Timestamp;

/// The last microsecond of the year 9999: RFC 3339 has no later year.
const LAST_MICROS: u64 = 253_402_300_799_999_999;

/// A time as RFC 3339 text in UTC with microseconds: `2026-11-21T03:19:06.000000Z`.
///
/// Any offset is understood on input. Times after the year 9999 read as its
/// last microsecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = i64::try_from(self.0.as_micros().min(LAST_MICROS)).unwrap_or(i64::MAX);
        let time = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or(DateTime::UNIX_EPOCH);
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rfc3339 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = DateTime::parse_from_rfc3339(&text).map_err(|error| {
            de::Error::custom(format!(
                "{text:?} is not an RFC 3339 time such as 2026-11-21T03:19:06.000000Z: {error}"
            ))
        })?;
        let micros = u64::try_from(time.timestamp_micros()).unwrap_or(0);
        Ok(Rfc3339(Timestamp::from_micros(micros)))
    }
}

/// A fencing token as a decimal string: `"18446744073709551615"`.
///
/// JavaScript and `jq` keep whole numbers only up to 2^53, and tokens are
/// larger: as a string none of their digits is lost. A JSON number is
/// understood on input as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FenceText(pub Fence);

impl Serialize for FenceText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FenceText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FenceVisitor)
    }
}

/// A number of which only the identity counts, as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Hex).map_err(de::Error::custom)
    }
}

struct FenceVisitor;

impl Visitor<'_> for FenceVisitor {
    type Value = FenceText;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fence: a string of decimal digits, as the claim gave it")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<FenceText, E> {
        Ok(FenceText(Fence(value)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<FenceText, E> {
        let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = plain.then(|| text.parse().ok()).flatten();
        let value = value.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))?;
        Ok(FenceText(Fence(value)))
    }
}

/// `"a"`, or `["a", "b"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        OneOrMany(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ManyVisitor(PhantomData))
    }
}

struct ManyVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ManyVisitor<T> {
    type Value = OneOrMany<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(text.into_deserializer()).map(|one| OneOrMany(vec![one]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        // Not reserved by a hint: the list grows with what really is there.
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(OneOrMany(list))
    }
}

/// Milliseconds, rounded up: a short duration does not become none.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_microseconds() {
        let time = Rfc3339(Timestamp::from_micros(1_795_231_146_000_007));
        let text = serde_json::to_string(&time).unwrap();
        assert_eq!(text, "\"2026-11-21T03:19:06.000007Z\"");
        assert_eq!(serde_json::from_str::<Rfc3339>(&text).unwrap(), time);
        let offset = "\"2026-11-21T05:19:06.000007+02:00\"";
        assert_eq!(serde_json::from_str::<Rfc3339>(offset).unwrap(), time);
        assert!(serde_json::from_str::<Rfc3339>("\"yesterday\"").is_err());
        assert_eq!(Rfc3339(Timestamp::EPOCH).to_string(), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn the_end_of_time_is_the_end_of_the_year_9999() {
        let last = Rfc3339(Timestamp::MAX);
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999999Z");
        let read: Rfc3339 = serde_json::from_str(&serde_json::to_string(&last).unwrap()).unwrap();
        assert_eq!(read.0.as_micros(), LAST_MICROS);
    }

    #[test]
    fn fences_are_strings_out_and_strings_or_numbers_in() {
        let fence = FenceText(Fence(u64::MAX));
        assert_eq!(serde_json::to_string(&fence).unwrap(), "\"18446744073709551615\"");
        for text in ["\"18446744073709551615\"", "18446744073709551615"] {
            assert_eq!(serde_json::from_str::<FenceText>(text).unwrap(), fence);
        }
        for text in ["\"\"", "\"+7\"", "\"7x\"", "-7", "7.5", "null", "\"18446744073709551616\""] {
            let error = serde_json::from_str::<FenceText>(text).unwrap_err().to_string();
            assert!(error.contains("decimal digits"), "{text}: {error}");
        }
    }

    #[test]
    fn one_or_many_states() {
        use sheaf_coordinator::State;
        let one: OneOrMany<State> = serde_json::from_str("\"failed\"").unwrap();
        assert_eq!(one.0, [State::Failed]);
        let two: OneOrMany<State> = serde_json::from_str("[\"failed\",\"expired\"]").unwrap();
        assert_eq!(two.0, [State::Failed, State::Expired]);
        let error = serde_json::from_str::<OneOrMany<State>>("\"done\"").unwrap_err().to_string();
        assert!(error.contains("done") && error.contains("completed"), "{error}");
    }
}
