//! Between libFuzzer and a target.
//!
//! The hook of libfuzzer-sys ends the process at every panic. Ours remembers
//! it: the decoder contains the panics of arrow-rs on purpose, and those are no
//! findings. What comes out of a target is one.

use std::backtrace::Backtrace;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, Once, PoisonError};
use std::{fs, io};

use crate::targets::TARGETS;

/// Panics of one input that are kept to be shown.
const KEPT: usize = 4;

static INSTALL: Once = Once::new();
static PANICS: Mutex<Vec<(String, Backtrace)>> = Mutex::new(Vec::new());

/// Runs the target of this name on one input; ends the process where it panics.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    INSTALL.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let mut panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
            if panics.len() < KEPT {
                // Resolved only when it is printed.
                panics.push((info.to_string(), Backtrace::force_capture()));
            }
        }));
    });
    PANICS.lock().unwrap_or_else(PoisonError::into_inner).clear();
    if catch_unwind(AssertUnwindSafe(|| (target.run)(data))).is_ok() {
        return;
    }
    let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
    for (text, trace) in panics {
        eprintln!("{name}: {text}\n{trace}");
    }
    std::process::abort();
}

/// Writes `FOLDER/TARGET/seed-NUMBER` and the dictionary `FOLDER/TARGET.dict`
/// of each target.
///
/// # Errors
/// Where a file cannot be written.
pub fn write_seeds(folder: &Path) -> io::Result<()> {
    for target in TARGETS {
        let seeds = folder.join(target.name);
        fs::create_dir_all(&seeds)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(seeds.join(format!("seed-{number:03}")), seed)?;
        }
        let words = target.words.iter().map(|word| {
            let bytes: String = word.bytes().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("\"{bytes}\"\n")
        });
        fs::write(folder.join(format!("{}.dict", target.name)), words.collect::<String>())?;
    }
    Ok(())
}
