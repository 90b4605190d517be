//! A wrong, missing or expired token or certificate is refused on every port;
//! with TLS on, nothing readable crosses the wire.

mod calls;
mod capture;
mod certificates;
mod doctor;
pub(crate) mod files;
mod rights;
mod secrets;
mod tokens;
