//! Tickets: what is accepted prints as something that reads as the same.

use sheaf_flight::fuzzing;
use sheaf_store::{NAMESPACE, Ticket};

use super::support::refused;

/// What tickets are made of.
pub(crate) const WORDS: &[&str] = &[
    "batches/",
    "topics/",
    "shuffle/",
    "?",
    "&",
    "=",
    ",",
    "%2C",
    "%",
    "%ff",
    "columns=",
    "offset=",
    "limit=",
    "from_message=",
    "18446744073709551615",
    "18446744073709551616",
];

/// Tickets of all forms.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "batches/a",
        "batches/orders:1?columns=id,net%2Cprice&limit=10",
        "batches/a?columns=&offset=&limit=&from_message=",
        "batches/a:b?columns=x,%C3%A4%26&offset=3&limit=0",
        "batches/%61?from_message=18446744073709551615",
        "topics/t?offset=1",
        "shuffle/s/1/2",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Routes, reads, prints and reads again.
pub(crate) fn run(data: &[u8]) -> bool {
    let (namespace, text) = match fuzzing::ticket(data) {
        Ok(routed) => routed,
        Err(error) => {
            refused(&error);
            return false;
        }
    };
    assert!(text.starts_with(namespace) && !namespace.is_empty());
    match text.parse::<Ticket>() {
        Ok(ticket) => {
            assert_eq!(namespace, NAMESPACE, "a ticket of another namespace is read");
            let printed = ticket.to_string();
            assert_eq!(printed.parse().ok(), Some(ticket), "printed as {printed:?}");
            true
        }
        Err(error) => {
            refused(&error);
            false
        }
    }
}
