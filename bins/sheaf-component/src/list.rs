//! `sheaf-component list`.

use sheaf_pipeline::spec::Role;
use sheaf_terminal::{Console, Failure, Table};

pub(crate) fn run(json: bool, console: &mut Console) -> Result<(), Failure> {
    let kinds = || {
        let of = |role: Role| role.kinds().iter().map(move |kind| (role, *kind));
        Role::ALL.into_iter().flat_map(of)
    };
    if json {
        let one = |(role, kind): (Role, &'static str)| {
            let is_there = sheaf_components::is_built_in(role, kind);
            serde_json::json!({"role": role.as_str(), "kind": kind, "builtIn": is_there})
        };
        return console.json(&kinds().map(one).collect::<Vec<_>>());
    }
    let mut table = Table::default().left("ROLE").left("KIND").left("IN THIS BUILD");
    for (role, kind) in kinds() {
        let is_there = sheaf_components::is_built_in(role, kind);
        table.row([role.as_str(), kind, if is_there { "yes" } else { "no" }]);
    }
    console.table(&table)
}
