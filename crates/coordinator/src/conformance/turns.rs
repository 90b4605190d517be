//! The order in which the model gives out the batches of one queue.

use std::collections::BTreeMap;

/// A pending batch: name, priority, tenant, order of registration.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) name: String,
    pub(super) priority: i32,
    pub(super) tenant: String,
    pub(super) order: usize,
}

/// Most of all, and of one tenant, with what each has already.
pub(super) struct Room {
    pub(super) all: usize,
    pub(super) of_tenant: usize,
    pub(super) leased: BTreeMap<String, usize>,
}

/// By priority; then round by round one of each tenant, beginning after the
/// one that was served last; each tenant's oldest first.
pub(super) fn in_turn(
    mut ready: Vec<Ready>,
    turns: &BTreeMap<i32, String>,
    mut room: Room,
) -> Vec<Ready> {
    ready.sort_by_key(|one| one.order);
    let mut priorities: Vec<i32> = ready.iter().map(|one| one.priority).collect();
    priorities.sort_unstable();
    priorities.dedup();
    let mut given = Vec::new();
    for priority in priorities.into_iter().rev() {
        let mut tenants: Vec<String> = ready
            .iter()
            .filter(|one| one.priority == priority)
            .map(|one| one.tenant.clone())
            .collect();
        tenants.sort();
        tenants.dedup();
        if let Some(turn) = turns.get(&priority) {
            let at = tenants.iter().position(|tenant| tenant > turn).unwrap_or(0);
            tenants.rotate_left(at);
        }
        loop {
            let before = given.len();
            for tenant in &tenants {
                let leased = room.leased.entry(tenant.clone()).or_default();
                let next =
                    ready.iter().position(|one| one.priority == priority && one.tenant == *tenant);
                if let Some(next) = next.filter(|_| *leased < room.of_tenant) {
                    *leased += 1;
                    given.push(ready.remove(next));
                }
            }
            if given.len() == before {
                break;
            }
        }
    }
    given.truncate(room.all);
    given
}
