//! Numbers as people write them: durations, sizes, shares of a processor.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sheaf_retry::{HumanBytes, HumanDuration};

/// The format keyword of durations in the schema.
pub(crate) const DURATION_FORMAT: &str = "sheaf-duration";
/// The format keyword of sizes in the schema.
pub(crate) const SIZE_FORMAT: &str = "sheaf-size";
/// The format keyword of shares of a processor in the schema.
pub(crate) const CPU_FORMAT: &str = "sheaf-cpu";

/// A duration, written `250ms`, `5s` or `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    pub(crate) const fn from_secs(seconds: u64) -> Self {
        Duration(std::time::Duration::from_secs(seconds))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HumanDuration(self.0).fmt(f)
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        HumanDuration::from_str(&text).map(|human| Duration(human.0)).map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": DURATION_FORMAT,
            "pattern": r"^\s*(0|([0-9]+(\.[0-9]+)?(d|h|m|s|ms|us))+)\s*$",
        })
    }
}

/// A size, written `64KB`, `100MB` or `1.5GiB`; a number alone is bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HumanBytes(self.0).fmt(f)
    }
}

impl Serialize for Size {
    /// As a number: people's units are rounded.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

/// Either a number or a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText<N> {
    Number(N),
    Text(String),
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::<u64>::deserialize(deserializer)? {
            NumberOrText::Number(bytes) => Ok(Size(bytes)),
            NumberOrText::Text(text) => {
                HumanBytes::from_str(&text).map(|human| Size(human.0)).map_err(de::Error::custom)
            }
        }
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"],
            "format": SIZE_FORMAT,
            "minimum": 0,
            "pattern": r"^\s*[0-9]+(\.[0-9]{1,9})?\s*([kKmMgGtT][iI]?)?[bB]?\s*$",
        })
    }
}

/// A share of a processor: `0.5` or `500m` is half of one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cpu {
    /// Thousandths of a core.
    pub millicores: u32,
}

/// The most cores that a component may ask for.
const MAX_CORES: f64 = 4096.0;

impl Cpu {
    fn from_cores(cores: f64) -> Option<Self> {
        let millicores = (cores * 1000.0).round();
        let allowed = (1.0..=MAX_CORES * 1000.0).contains(&millicores);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range has been checked"
        )]
        allowed.then_some(Cpu { millicores: millicores as u32 })
    }
}

/// The text is no share of a processor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a share of a processor: write cores, such as 0.5 or 2, or 500m")]
pub struct CpuError {
    /// What was given, cut at 64 characters.
    pub text: String,
}

impl FromStr for Cpu {
    type Err = CpuError;

    /// # Errors
    /// [`CpuError`] for anything else, for less than `1m` and for more than 4,096 cores.
    fn from_str(text: &str) -> Result<Self, CpuError> {
        let trimmed = text.trim();
        let (number, factor) = match trimmed.strip_suffix('m') {
            Some(number) => (number, 0.001),
            None => (trimmed, 1.0),
        };
        let plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
        let cores = number.parse::<f64>().ok().filter(|_| plain);
        cores
            .and_then(|cores| Cpu::from_cores(cores * factor))
            .ok_or_else(|| CpuError { text: text.chars().take(64).collect() })
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}m", self.millicores)
    }
}

impl Serialize for Cpu {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match NumberOrText::<f64>::deserialize(deserializer)? {
            NumberOrText::Number(cores) => cores.to_string(),
            NumberOrText::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Cpu {
    fn schema_name() -> Cow<'static, str> {
        "Cpu".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "number"],
            "format": CPU_FORMAT,
            "minimum": 0.001,
            "maximum": MAX_CORES,
            "pattern": r"^\s*[0-9]+(\.[0-9]+)?m?\s*$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_a_processor_are_cores_or_thousandths() {
        for (text, millicores) in [("0.5", 500), ("500m", 500), ("2", 2000), ("1m", 1)] {
            assert_eq!(text.parse(), Ok(Cpu { millicores }), "{text}");
        }
        for text in ["", "m", "-1", "0", "0.0001", "1e3", "inf", "NaN", "half", "5000"] {
            assert!(text.parse::<Cpu>().is_err(), "{text}");
        }
    }

    #[test]
    fn units_are_written_as_they_are_read() {
        let read = |text: &str| serde_json::from_str::<(Duration, Size, Cpu)>(text).unwrap();
        let first = read(r#"["1m30s", "1.5 GiB", 0.25]"#);
        assert_eq!(read(&serde_json::to_string(&first).unwrap()), first);
        assert_eq!(first.1, Size(1_610_612_736));
    }
}
