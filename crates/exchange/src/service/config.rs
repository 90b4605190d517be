//! Settings that travel in plans: how to shuffle, and when to try again.

use sheaf_proto::exchange::v1 as proto;
use sheaf_retry::{Problem, RetryPolicy};

use super::codec::Compression;
use crate::shuffle::Error;
use crate::{Column, MAX_PARTITIONS, PartitionerOptions, Partitioning};

/// How the rows of a stage are shuffled: a `ShuffleConfig`, checked.
///
/// ```
/// use sheaf_exchange::Partitioning;
/// use sheaf_exchange::service::{Compression, ShuffleSettings};
/// use sheaf_proto::exchange::v1::ShuffleConfig;
///
/// let settings = ShuffleSettings {
///     compression: Compression::Zstd,
///     ..ShuffleSettings::new(Partitioning::hash(["customer"]), 16)
/// };
/// let travels = ShuffleConfig::try_from(&settings)?;
/// assert_eq!(ShuffleSettings::try_from(&travels)?.partitions, 16);
/// # Ok::<(), sheaf_exchange::shuffle::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ShuffleSettings {
    /// How rows are spread.
    pub partitioning: Partitioning,
    /// How many partitions.
    pub partitions: u32,
    /// How payloads are compressed.
    pub compression: Compression,
    /// Bytes at which a chunk is sealed.
    pub chunk_bytes: usize,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl ShuffleSettings {
    /// Chunks of 4 MiB without compression, [`RetryPolicy::TRANSFER`].
    pub fn new(partitioning: Partitioning, partitions: u32) -> Self {
        ShuffleSettings {
            partitioning,
            partitions,
            compression: Compression::None,
            chunk_bytes: PartitionerOptions::default().chunk_bytes,
            retry: RetryPolicy::TRANSFER,
        }
    }
}

impl TryFrom<&proto::ShuffleConfig> for ShuffleSettings {
    type Error = Error;

    /// # Errors
    /// [`Error::Argument`] with everything that is wrong.
    fn try_from(config: &proto::ShuffleConfig) -> Result<Self, Error> {
        let mut problems = Vec::new();
        let partitioning = partitioning(config).map_err(|text| problems.push(text));
        let is_single = matches!(partitioning, Ok(Partitioning::Single));
        let most = if is_single { 1 } else { MAX_PARTITIONS };
        if config.partitions == 0 || config.partitions as usize > most {
            problems.push(format!("partitions is {}, allowed are 1 to {most}", config.partitions));
        }
        let compression = Compression::from_proto(config.compression)
            .map_err(|error| problems.push(error.to_string()));
        let retry = config.retry.as_ref().map_or(Ok(RetryPolicy::TRANSFER), policy);
        let retry = retry.map_err(|found| {
            problems.extend(found.iter().map(|problem| format!("retry: {problem}")));
        });
        let default = PartitionerOptions::default().chunk_bytes;
        let chunk_bytes = match config.chunk_bytes as usize {
            0 => default,
            bytes if bytes <= super::MAX_PAYLOAD_BYTES => bytes,
            bytes => {
                let limit = super::MAX_PAYLOAD_BYTES;
                problems.push(format!("chunk_bytes is {bytes}, the limit is {limit}"));
                default
            }
        };
        match (partitioning, compression, retry) {
            (Ok(partitioning), Ok(compression), Ok(retry)) if problems.is_empty() => {
                let partitions = config.partitions;
                Ok(ShuffleSettings { partitioning, partitions, compression, chunk_bytes, retry })
            }
            _ => Err(Error::Argument(format!("shuffle config: {}", problems.join("; ")))),
        }
    }
}

fn partitioning(config: &proto::ShuffleConfig) -> Result<Partitioning, String> {
    use proto::PartitioningKind as Kind;
    let kind = Kind::try_from(config.partitioning).unwrap_or(Kind::Unspecified);
    let partitioning = match kind {
        Kind::Hash => {
            if config.key_columns.is_empty() {
                return Err("key_columns is empty, hash partitioning needs at least one".into());
            }
            let keys = config.key_columns.iter().cloned().map(Column::from).collect();
            return Ok(Partitioning::Hash { keys, seed: config.hash_seed });
        }
        Kind::RoundRobin => Partitioning::RoundRobin,
        Kind::Broadcast => Partitioning::Broadcast,
        Kind::Single => Partitioning::Single,
        Kind::Unspecified => {
            return Err(format!("partitioning {} is none of 1 to 4", config.partitioning));
        }
    };
    if !config.key_columns.is_empty() || config.hash_seed != 0 {
        let name = partitioning.name();
        return Err(format!("key_columns and hash_seed are of hash partitioning, not of {name}"));
    }
    Ok(partitioning)
}

impl TryFrom<&ShuffleSettings> for proto::ShuffleConfig {
    type Error = Error;

    /// # Errors
    /// [`Error::Argument`] for what does not travel: range and custom partitioning,
    /// key columns by index, chunks of 4 GiB.
    fn try_from(settings: &ShuffleSettings) -> Result<Self, Error> {
        use proto::PartitioningKind as Kind;
        let refuse = |text: String| Err(Error::Argument(format!("shuffle config: {text}")));
        let (kind, keys, seed) = match &settings.partitioning {
            Partitioning::Hash { keys, seed } => (Kind::Hash, &keys[..], *seed),
            Partitioning::RoundRobin => (Kind::RoundRobin, &[][..], 0),
            Partitioning::Broadcast => (Kind::Broadcast, &[][..], 0),
            Partitioning::Single => (Kind::Single, &[][..], 0),
            other => return refuse(format!("{} partitioning does not travel", other.name())),
        };
        let mut key_columns = Vec::new();
        for key in keys {
            match key {
                Column::Name(name) => key_columns.push(name.clone()),
                Column::Index(at) => return refuse(format!("key {at} has to be named to travel")),
            }
        }
        let Ok(chunk_bytes) = u32::try_from(settings.chunk_bytes) else {
            return refuse(format!("chunk_bytes is {}", settings.chunk_bytes));
        };
        Ok(proto::ShuffleConfig {
            partitioning: kind.into(),
            key_columns,
            hash_seed: seed,
            partitions: settings.partitions,
            compression: settings.compression.to_proto().into(),
            chunk_bytes,
            retry: Some(retry_config(&settings.retry)),
        })
    }
}

/// The policy of a `RetryConfig`.
///
/// # Errors
/// [`Error::Argument`] with everything that is wrong with it.
///
/// ```
/// use sheaf_exchange::service::{retry_config, retry_policy};
/// use sheaf_retry::RetryPolicy;
///
/// let travels = retry_config(&RetryPolicy::TRANSFER);
/// assert_eq!(retry_policy(&travels)?, RetryPolicy::TRANSFER);
/// # Ok::<(), sheaf_exchange::shuffle::Error>(())
/// ```
pub fn retry_policy(config: &proto::RetryConfig) -> Result<RetryPolicy, Error> {
    policy(config).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
        Error::Argument(format!("retry config: {}", problems.join("; ")))
    })
}

fn policy(config: &proto::RetryConfig) -> Result<RetryPolicy, Vec<Problem>> {
    let proto::RetryConfig { max_retries, base_ms, factor, cap_ms, jitter, deadline_ms } = *config;
    let policy = RetryPolicy { max_retries, base_ms, factor, cap_ms, jitter, deadline_ms };
    policy.validate()?;
    Ok(policy)
}

/// A policy as it travels.
pub fn retry_config(policy: &RetryPolicy) -> proto::RetryConfig {
    let RetryPolicy { max_retries, base_ms, factor, cap_ms, jitter, deadline_ms } = *policy;
    proto::RetryConfig { max_retries, base_ms, factor, cap_ms, jitter, deadline_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_travel_and_come_back() {
        let all = [
            ShuffleSettings {
                compression: Compression::Snappy,
                chunk_bytes: 1 << 20,
                retry: RetryPolicy { deadline_ms: Some(9), ..RetryPolicy::QUEUE },
                ..ShuffleSettings::new(
                    Partitioning::Hash { keys: vec!["a".into(), "b".into()], seed: 7 },
                    64,
                )
            },
            ShuffleSettings::new(Partitioning::RoundRobin, 3),
            ShuffleSettings::new(Partitioning::Broadcast, 2),
            ShuffleSettings::new(Partitioning::Single, 1),
        ];
        for settings in all {
            let travels = proto::ShuffleConfig::try_from(&settings).unwrap();
            let again = ShuffleSettings::try_from(&travels).unwrap();
            assert_eq!(format!("{again:?}"), format!("{settings:?}"));
        }
        for partitioning in [
            Partitioning::hash([0]),
            Partitioning::Custom(std::sync::Arc::new(|_, _| Ok(Vec::new()))),
        ] {
            let settings = ShuffleSettings::new(partitioning, 1);
            assert!(proto::ShuffleConfig::try_from(&settings).is_err());
        }
    }

    #[test]
    fn everything_that_is_wrong_with_a_config_is_said() {
        let config = proto::ShuffleConfig {
            partitioning: proto::PartitioningKind::Hash.into(),
            key_columns: Vec::new(),
            hash_seed: 0,
            partitions: 70_000,
            compression: 9,
            chunk_bytes: 64 << 20,
            retry: Some(proto::RetryConfig { factor: 0.5, jitter: 2.0, ..Default::default() }),
        };
        let error = ShuffleSettings::try_from(&config).unwrap_err().to_string();
        for part in ["key_columns", "70000", "compression 9", "chunk_bytes", "factor", "jitter"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let odd = proto::ShuffleConfig {
            partitioning: proto::PartitioningKind::Single.into(),
            key_columns: vec!["a".into()],
            partitions: 2,
            ..Default::default()
        };
        let error = ShuffleSettings::try_from(&odd).unwrap_err().to_string();
        assert!(error.contains("not of single"), "{error}");
        let default = proto::ShuffleConfig::default();
        assert!(ShuffleSettings::try_from(&default).unwrap_err().to_string().contains("1 to 4"));
    }
}
