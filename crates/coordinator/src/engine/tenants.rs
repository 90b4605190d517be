//! Names of tenants, each kept once.

use std::collections::HashMap;
use std::sync::Arc;

struct Tenant {
    name: Arc<str>,
    batches: u32,
}

/// Tenants by number; a number is free again when no batch has it.
pub(super) struct Tenants {
    all: Vec<Tenant>,
    free: Vec<u32>,
    numbers: HashMap<Arc<str>, u32>,
}

impl Default for Tenants {
    /// Number 0 is nobody, for good.
    fn default() -> Self {
        let nobody: Arc<str> = Arc::from("");
        Tenants {
            all: vec![Tenant { name: Arc::clone(&nobody), batches: 1 }],
            free: Vec::new(),
            numbers: HashMap::from([(nobody, 0)]),
        }
    }
}

impl Tenants {
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    pub(super) fn name(&self, number: u32) -> &Arc<str> {
        &self.all[number as usize].name
    }

    /// One batch more of that tenant.
    pub(super) fn add(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        if let Some(number) = self.find(name) {
            self.all[number as usize].batches += 1;
            return number;
        }
        let name: Arc<str> = name.into();
        let tenant = Tenant { name: Arc::clone(&name), batches: 1 };
        let number = match self.free.pop() {
            Some(number) => {
                self.all[number as usize] = tenant;
                number
            }
            None => {
                self.all.push(tenant);
                // There are no more of them than batches.
                u32::try_from(self.all.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.numbers.insert(name, number);
        number
    }

    /// One batch less.
    pub(super) fn remove(&mut self, number: u32) {
        if number == 0 {
            return;
        }
        let tenant = &mut self.all[number as usize];
        tenant.batches -= 1;
        if tenant.batches == 0 {
            self.numbers.remove(&tenant.name);
            self.free.push(number);
        }
    }
}
