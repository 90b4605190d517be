//! What tells whether a component has to be started anew.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use twox_hash::XxHash3_128;

use crate::spec::{Component, Role};

/// A hash of everything that a process of a component sees: what it runs, its
/// configuration, environment, resources and ports.
///
/// Not in it: inputs and replicas, which change streams and not processes, and
/// how the component is supervised. Equal over versions of Sheaf as long as the
/// file says the same. A default of `config` that is written out counts as a
/// change: it is kept as it stands, so that new defaults do not change hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DefinitionHash(u128);

/// Goes into each hash: to be raised when the text below means something else.
const VERSION: u8 = 1;

impl DefinitionHash {
    pub(super) fn of(role: Role, component: &Component) -> Self {
        let seen = json!({
            "version": VERSION,
            "id": component.id,
            "role": role,
            "kind": component.kind,
            "image": component.image,
            "command": component.command,
            "config": component.config,
            "environment": component.environment,
            "resources": component.resources,
            "health": { "port": component.health.port, "path": component.health.path,
                "interval": component.health.interval },
            "port": component.port,
            "transactional": component.transactional,
        });
        let mut text = String::new();
        canonical(&seen, &mut text);
        DefinitionHash(XxHash3_128::oneshot(text.as_bytes()))
    }
}

/// JSON with its keys in order, whatever map the values came in.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            text.push('{');
            for key in keys {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                canonical(&map[key], text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(list) => {
            text.push('[');
            for item in list {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        plain => text.push_str(&plain.to_string()),
    }
}

impl fmt::Display for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for DefinitionHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
