//! Where the consoles of a folder say that they are.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long another server of this folder may take to be found there.
const KNOCK: Duration = Duration::from_millis(100);

/// The file in which the console of the control plane at `control` says where it is.
pub(crate) fn console_file(folder: &Path, control: &str) -> PathBuf {
    folder.join(control.replace([':', '[', ']', '/'], "_"))
}

/// Removes what servers have left that were killed: nobody listens there any more.
pub(super) fn forget(folder: &Path) {
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        let address = text.trim().trim_start_matches("http://").parse::<SocketAddr>();
        let there =
            address.is_ok_and(|address| TcpStream::connect_timeout(&address, KNOCK).is_ok());
        if !there {
            drop(std::fs::remove_file(file.path()));
        }
    }
}
