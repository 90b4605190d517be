//! Who may talk to a server, and that nobody else can read it: TLS and bearer
//! tokens, from files that are looked at again while the server runs.
//!
//! What has to hold:
//! - No token and no key is ever shown: not in `Debug`, errors or logs.
//! - A file that cannot be used never replaces one that could; the error names
//!   the file and is logged once.
//! - A token that was taken out or has expired ends the calls that it opened,
//!   one [`RELOAD_INTERVAL`] later at most; so does a right that was taken back,
//!   but only the calls that needed it.

mod accept;
mod certificates;
mod clients;
mod der;
mod explain;
mod facts;
mod file;
mod grant;
mod logins;
mod rights;
mod secret;
mod server;
mod tls_files;
mod token_file;
mod token_words;
mod tokens;

pub use accept::{Protocol, SecureStream};
pub(crate) use certificates::client_config;
pub(crate) use der::alternative_names;
pub(crate) use explain::explain;
pub use facts::{CertificateFacts, TokenFacts, read_certificate};
pub use file::read_secret_file;
pub(crate) use grant::CallSlot;
pub use grant::Grant;
pub(crate) use logins::{BASE64, TOKEN_HEADER};
pub use logins::{Logins, Passwords};
pub use rights::{Need, Right};
pub use secret::Secret;
pub use server::{RELOAD_INTERVAL, Security, SecurityFiles};
pub use tls_files::TlsFiles;
pub(crate) use token_file::{first_usable, read as read_tokens};
