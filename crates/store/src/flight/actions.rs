//! The store's own actions, JSON in and out.

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_flight::{ActionHandler, CallContext, Error, Need, Right, invalid};
use sheaf_proto::BatchId;
use sheaf_retry::Code;

use super::NAMESPACE;
use crate::store::Store;

/// Serves `StoreStats`, `DeleteBatch`, `PinBatch` and `UnpinBatch`.
///
/// `StoreStats {}` answers [`Stats`](crate::Stats); the others take
/// `{"batch_id": ID}` and answer `{"batch_id": ID, "deleted": true}`, or
/// `"pinned"` with `true` or `false`.
#[derive(Clone, Debug)]
pub struct StoreActions {
    store: Store,
}

impl StoreActions {
    /// Actions on this store.
    pub fn new(store: Store) -> Self {
        StoreActions { store }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    batch_id: BatchId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn read<'a, T: Deserialize<'a>>(action: &str, body: &'a [u8]) -> Result<T, Error> {
    let body = match body.trim_ascii().first() {
        None => b"{}",
        // serde would take a list for a structure without names as well.
        Some(b'[') => {
            let text = format!("{action}: the body is a JSON list where an object is wanted");
            return Err(invalid(text));
        }
        Some(_) => body,
    };
    serde_json::from_slice(body).map_err(|error| invalid(format!("{action}: {error}")))
}

fn answer(value: &impl Serialize) -> Result<Vec<Bytes>, Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::new(Code::Internal, format!("no answer: {error}")))?;
    Ok(vec![Bytes::from(bytes)])
}

#[async_trait]
impl ActionHandler for StoreActions {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("StoreStats", "How full the store is"),
            ("DeleteBatch", "Deletes a payload: {\"batch_id\"}"),
            ("PinBatch", "Keeps a payload whatever its age: {\"batch_id\"}"),
            ("UnpinBatch", "Lets a payload expire again: {\"batch_id\"}"),
        ]
    }

    fn needs(&self, action: &str) -> Need {
        let right = if action == "StoreStats" { Right::Read } else { Right::Change };
        Need::One(NAMESPACE, right)
    }

    async fn call(
        &self,
        _context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, Error> {
        if action == "StoreStats" {
            let Nothing {} = read(action, &body)?;
            return answer(&self.store.stats());
        }
        let known = ["DeleteBatch", "PinBatch", "UnpinBatch"];
        if !known.contains(&action) {
            return Err(Error::new(Code::Unimplemented, format!("no action {action:?}")));
        }
        let Named { batch_id } = read(action, &body)?;
        match action {
            "DeleteBatch" => {
                self.store.delete(&batch_id).await?;
                answer(&serde_json::json!({ "batch_id": batch_id, "deleted": true }))
            }
            "PinBatch" => {
                self.store.pin(&batch_id).await?;
                answer(&serde_json::json!({ "batch_id": batch_id, "pinned": true }))
            }
            _ => {
                self.store.unpin(&batch_id).await?;
                answer(&serde_json::json!({ "batch_id": batch_id, "pinned": false }))
            }
        }
    }
}
