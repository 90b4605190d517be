//! Which crate may use which: the table of the architecture.
//!
//! A crate may depend on the crates that its row names and on what those may
//! depend on, since it has them in its build anyway; on `retry` and `proto`,
//! which are at the bottom; and on nothing else. Dev-dependencies are free.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Finding;
use crate::workspace::Workspace;

/// One room of the house.
struct Room {
    /// The folder below `crates/`, without prefix.
    name: &'static str,
    level: u8,
    may_use: &'static [&'static str],
}

const fn room(name: &'static str, level: u8, may_use: &'static [&'static str]) -> Room {
    Room { name, level, may_use }
}

const ROOMS: [Room; 22] = [
    room("retry", 0, &[]),
    room("proto", 0, &[]),
    room("testkit", 0, &["retry"]),
    room("flight", 1, &["retry", "proto"]),
    room("coordinator", 1, &["retry", "proto"]),
    room("rpc", 2, &["coordinator", "flight"]),
    room("store", 2, &["flight"]),
    room("connectors", 2, &["flight"]),
    room("valkey", 2, &["coordinator"]),
    room("exchange", 2, &["flight", "store"]),
    room("raft-transport", 2, &["flight"]),
    room("raft", 2, &["coordinator", "rpc", "raft-transport"]),
    room("worker", 3, &["coordinator", "store", "exchange", "connectors"]),
    room("kafka", 3, &["coordinator", "store", "connectors"]),
    room("pipeline", 3, &["coordinator", "flight", "rpc"]),
    room("dataflow", 4, &["pipeline", "exchange", "flight", "coordinator", "rpc", "store"]),
    room("components", 4, &["dataflow", "pipeline", "worker", "connectors", "exchange", "kafka"]),
    room("drivers", 4, &["dataflow", "pipeline", "flight"]),
    room("console", 4, &["drivers", "flight", "pipeline", "coordinator"]),
    room("telemetry", 4, &["flight"]),
    room("cli", 4, &["flight"]),
    room(
        "node",
        4,
        &[
            "flight",
            "coordinator",
            "rpc",
            "store",
            "connectors",
            "valkey",
            "exchange",
            "raft-transport",
            "raft",
            "worker",
            "telemetry",
            "cli",
        ],
    ),
];

/// At the bottom of the house: open to every crate.
const GROUND: [&str; 2] = ["retry", "proto"];

/// Dependencies that are kept in one room: the reason why the room exists.
const HEAVY: [(&str, &[&str]); 10] = [
    ("redb", &["coordinator", "pipeline", "raft"]),
    ("fred", &["valkey"]),
    ("openraft", &["raft"]),
    ("rdkafka", &["kafka"]),
    ("object_store", &["connectors"]),
    ("adbc_driver_manager", &["connectors"]),
    ("bollard", &["drivers"]),
    ("kube", &["drivers"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("axum", &["console", "telemetry", "testkit"]),
];

/// Checks the manifests of all packages of the workspace.
pub(super) fn check(workspace: &Workspace, findings: &mut Vec<Finding>) {
    for package in workspace.packages() {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        let manifest =
            manifest.strip_prefix(&format!("{}/", workspace.root.display())).unwrap_or(manifest);
        let dependencies = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
        let text = std::fs::read_to_string(workspace.path(manifest)).unwrap_or_default();
        let mut problems = Vec::new();
        let used = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
        for dependency in used {
            let Some(name) = dependency["name"].as_str() else { continue };
            let internal = dependency["path"]
                .as_str()
                .and_then(|path| path.rsplit_once("/crates/"))
                .map(|(_, folder)| folder);
            let problem = match internal {
                Some(folder) => edge_problem(manifest, folder),
                None => heavy_problem(manifest, name),
            };
            problems.extend(problem.map(|(what, todo)| (line_of(&text, dependency), what, todo)));
        }
        if let Some(folder) = crate_folder(manifest)
            && !ROOMS.iter().any(|room| room.name == folder)
        {
            let what = format!("crate `{folder}` is not in the table of crates");
            problems.push((1, what, "add it to the table in xtask and ARCHITECTURE.md".into()));
        }
        findings.extend(
            problems.into_iter().map(|(line, what, todo)| Finding::new(manifest, line, what, todo)),
        );
    }
}

/// What is wrong with a package at `manifest` using the crate in `crates/<used>`.
fn edge_problem(manifest: &str, used: &str) -> Option<(String, String)> {
    let todo = || "turn the dependency round, or move what both need down".to_owned();
    // The comparisons run real servers, and nothing of them ships.
    if used == "testkit" && manifest == "benches/Cargo.toml" {
        return None;
    }
    if used == "testkit" {
        return Some((
            "`testkit` is a normal dependency".into(),
            "move it to [dev-dependencies]".into(),
        ));
    }
    if manifest.starts_with("xtask/") {
        return Some((format!("xtask uses `{used}`"), "keep xtask free of our crates".into()));
    }
    // Binaries, examples and benches stand above everything.
    let folder = crate_folder(manifest)?;
    let (from, to) = (find(folder)?, find(used)?);
    let reachable = GROUND.contains(&used) || closure(from).contains(used);
    if from.level == 3 && to.level == 3 {
        return Some((format!("`{folder}` uses `{used}`, both are roles (level 3)"), todo()));
    }
    if reachable && folder != used && !(from.level == 0 && GROUND.contains(&folder)) {
        return None;
    }
    Some((
        format!(
            "`{folder}` (level {}) may not use `{used}` (level {}), only {}",
            from.level,
            to.level,
            closure(from)
                .into_iter()
                .chain(GROUND)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
                .join(", ")
        ),
        todo(),
    ))
}

/// What is wrong with a package at `manifest` using the external crate `name`.
fn heavy_problem(manifest: &str, name: &str) -> Option<(String, String)> {
    let folder = crate_folder(manifest)?;
    let (_, rooms) = HEAVY.iter().find(|(heavy, _)| *heavy == name)?;
    (!rooms.contains(&folder)).then(|| {
        (
            format!("`{folder}` uses `{name}`"),
            format!("`{name}` is isolated in {}: go through it", rooms.join(", ")),
        )
    })
}

fn crate_folder(manifest: &str) -> Option<&str> {
    manifest.strip_prefix("crates/")?.strip_suffix("/Cargo.toml")
}

fn find(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

/// Everything that a room may use, directly or through what it may use.
fn closure(room: &Room) -> BTreeSet<&'static str> {
    let mut all = BTreeSet::new();
    let mut next: Vec<&'static str> = room.may_use.to_vec();
    while let Some(name) = next.pop() {
        if all.insert(name) {
            next.extend(find(name).map_or(&[][..], |room| room.may_use));
        }
    }
    all
}

/// The line of the manifest that names a dependency; 1 where it is written unusually.
fn line_of(manifest: &str, dependency: &Value) -> usize {
    let names = [&dependency["rename"], &dependency["name"]];
    let name = names.into_iter().find_map(Value::as_str).unwrap_or_default();
    manifest
        .lines()
        .position(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '.', '=']))
        })
        .map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::{ROOMS, closure, edge_problem, find, heavy_problem};

    fn allowed(from: &str, to: &str) -> bool {
        edge_problem(&format!("crates/{from}/Cargo.toml"), to).is_none()
    }

    #[test]
    fn the_table_has_no_upward_edge_and_no_cycle() {
        for room in &ROOMS {
            assert!(!closure(room).contains(room.name), "{} is in a cycle", room.name);
            for used in room.may_use {
                let used = find(used).unwrap();
                let sideways = matches!(room.level, 0 | 2 | 4);
                assert!(
                    used.level < room.level || (sideways && used.level == room.level),
                    "{} -> {}",
                    room.name,
                    used.name
                );
            }
        }
    }

    #[test]
    fn edges_point_down() {
        assert!(allowed("worker", "store"));
        assert!(allowed("worker", "flight"), "through store");
        assert!(allowed("cli", "retry"));
        assert!(!allowed("store", "coordinator"));
        assert!(!allowed("store", "connectors"));
        assert!(!allowed("flight", "store"));
        assert!(!allowed("retry", "proto"));
        assert!(!allowed("worker", "rpc"));
        assert!(!allowed("node", "pipeline"));
    }

    #[test]
    fn roles_never_use_each_other_and_nobody_ships_the_testkit() {
        assert!(!allowed("kafka", "worker"));
        assert!(!allowed("worker", "kafka"));
        assert!(edge_problem("bins/sheaf/Cargo.toml", "testkit").is_some());
        assert!(edge_problem("bins/sheaf/Cargo.toml", "node").is_none());
        assert!(edge_problem("xtask/Cargo.toml", "retry").is_some());
    }

    #[test]
    fn heavy_dependencies_stay_in_their_rooms() {
        assert!(heavy_problem("crates/store/Cargo.toml", "redb").is_some());
        assert!(heavy_problem("crates/coordinator/Cargo.toml", "redb").is_none());
        assert!(heavy_problem("crates/store/Cargo.toml", "bytes").is_none());
    }
}
