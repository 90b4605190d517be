//! Whether two registrations of one identifier are the same batch.

use crate::contract::Error;
use crate::limits;
use crate::model::BatchSpec;

/// Where the value of a field is cut in an error, bytes.
const SHOWN_BYTES: usize = 300;

impl BatchSpec {
    /// The error for `asked`, registered where `self` is: `None` where both
    /// are the same batch.
    ///
    /// Compared is what names content and place: queue, tenant, partition key,
    /// parents, rows, bytes, checksum and fingerprint. How to run it (priority,
    /// retries, delay, expiry), where copies are, and traces may differ between
    /// two calls for one batch: the first one stands, and places are added.
    pub fn conflict(&self, asked: &BatchSpec) -> Option<Error> {
        fn differs<T: PartialEq + std::fmt::Debug>(one: &T, other: &T) -> Option<(String, String)> {
            (one != other).then(|| (shown(one), shown(other)))
        }
        let queue = |spec: &BatchSpec| limits::queue(&spec.queue).unwrap_or(&spec.queue).to_owned();
        let ids =
            |spec: &BatchSpec| spec.parents.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (one, other) = (self, asked);
        let parents =
            (one.parents != other.parents).then(|| (shown(&ids(one)), shown(&ids(other))));
        [
            ("queue", differs(&queue(one), &queue(other))),
            ("tenant", differs(&one.tenant, &other.tenant)),
            ("partition_key", differs(&one.partition_key, &other.partition_key)),
            ("parents", parents),
            ("rows", differs(&one.rows, &other.rows)),
            ("bytes", differs(&one.bytes, &other.bytes)),
            ("checksum", differs(&one.checksum, &other.checksum)),
            ("schema_fingerprint", differs(&one.schema_fingerprint, &other.schema_fingerprint)),
        ]
        .into_iter()
        .find_map(|(field, values)| {
            let (registered, asked) = values?;
            Some(Error::Conflict { id: other.id.to_string(), field, registered, asked })
        })
    }
}

/// A value for an error, cut where it is long.
fn shown(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let cut = limits::cut(&text, SHOWN_BYTES);
    if cut.len() < text.len() { format!("{cut}…") } else { text }
}
