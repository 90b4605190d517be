//! What a component keeps on disk.

use sheaf_pipeline::plan::Edge;
use sheaf_pipeline::spec::{
    Component, ProcessorConfig, ReferenceTable, Role, SinkConfig, SourceConfig,
};

use super::settings::Settings;

/// The volume of a component that keeps something: its bytes. `None` where nothing is lost
/// with its pod.
///
/// A source keeps its offset, a spilling edge what waits, and a sink of local files its files.
/// What others send is kept by who sent it until it is acknowledged.
pub(crate) fn volume_bytes<'a>(
    settings: &Settings,
    (role, definition): (Role, &Component),
    out: impl Iterator<Item = &'a Edge>,
) -> Option<u64> {
    let spilled = out.filter_map(|edge| edge.spill_limit_bytes);
    let spilled = spilled
        .fold(None, |sum: Option<u64>, limit| Some(sum.unwrap_or_default().saturating_add(limit)));
    let keeps = role == Role::Source || spilled.is_some() || writes_locally(role, definition);
    keeps.then(|| settings.state_size_bytes.saturating_add(spilled.unwrap_or_default()))
}

fn writes_locally(role: Role, definition: &Component) -> bool {
    match (role, definition.sink()) {
        (Role::Sink, Ok(Some(SinkConfig::File(sink)))) => is_local(&sink.path),
        // A database in a file is one that its driver is given no server of.
        (Role::Sink, Ok(Some(SinkConfig::Adbc(sink)))) => {
            matches!(sink.database.driver.as_str(), "duckdb" | "sqlite")
        }
        // Of a component of one's own nothing is known.
        (Role::Sink, Ok(None)) => true,
        _ => false,
    }
}

fn is_local(path: &str) -> bool {
    path.split_once("://").is_none_or(|(scheme, _)| scheme == "file")
}

/// Whether a component speaks to systems that are no part of the pipeline.
pub(crate) fn speaks_to_others(role: Role, definition: &Component) -> bool {
    if definition.kind.is_none() {
        return true;
    }
    match role {
        Role::Source => match definition.source() {
            Ok(Some(SourceConfig::Generate(_))) => false,
            Ok(Some(SourceConfig::File(source))) => !is_local(&source.path),
            _ => true,
        },
        Role::Processor => match definition.processor() {
            Ok(Some(ProcessorConfig::Exec(_))) => true,
            Ok(Some(ProcessorConfig::Enrich(enrich))) => match enrich.reference {
                ReferenceTable::File(file) => !is_local(&file.path),
                ReferenceTable::Adbc(_) => true,
            },
            Ok(Some(_)) => false,
            _ => true,
        },
        Role::Sink => match definition.sink() {
            Ok(Some(SinkConfig::Stdout(_))) => false,
            Ok(Some(SinkConfig::File(sink))) => !is_local(&sink.path),
            _ => true,
        },
    }
}
