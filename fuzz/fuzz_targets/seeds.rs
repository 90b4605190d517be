//! Writes the seeds and the dictionaries of all targets: `seeds FOLDER`.

use std::path::Path;
use std::{env, io};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).ok_or_else(|| io::Error::other("which folder?"))?;
    sheaf_fuzz::write_seeds(Path::new(&folder))
}
