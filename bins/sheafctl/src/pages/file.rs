//! The pages of the program's file that nothing has written to: its code and its constants.

use std::ffi::c_void;
use std::ops::Range;
use std::{fs, io, ptr};

use rustix::mm::{Advice, madvise};

/// Where they are: that does not change.
#[derive(Debug)]
pub(super) struct Pages(Vec<Range<usize>>);

impl Pages {
    /// Those of this process.
    ///
    /// # Errors
    /// Where the system does not say what is mapped.
    pub(super) fn find() -> io::Result<Self> {
        let own = fs::read_link("/proc/self/exe")?;
        let maps = fs::read_to_string("/proc/self/smaps")?;
        Ok(Pages(unwritten(&maps, &own.to_string_lossy())))
    }

    /// Unmaps them. What is needed next is mapped again from the file, which the system still
    /// has: that takes microseconds.
    ///
    /// # Errors
    /// Where the system does not do it.
    pub(super) fn give_back(&self) -> io::Result<()> {
        // A debugger writes into the code where it is to stop.
        if !fs::read_to_string("/proc/self/status")?.contains("TracerPid:\t0\n") {
            return Ok(());
        }
        self.0.iter().cloned().try_for_each(give_back)
    }
}

#[allow(unsafe_code, reason = "the system has no other way to be told")]
fn give_back(pages: Range<usize>) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut::<c_void>(pages.start);
    // SAFETY: these pages cannot be written to and are the file's own: the loader had written
    // what it writes before they were looked for, and nothing here patches itself. What is read
    // from there is the same before and after.
    unsafe { madvise(start, pages.len(), Advice::LinuxDontNeed) }.map_err(io::Error::from)
}

/// The addresses of `smaps` that are of this file and that cannot be, nor have been written to.
fn unwritten(smaps: &str, file: &str) -> Vec<Range<usize>> {
    let (mut all, mut last) = (Vec::new(), None);
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Anonymous:") {
            all.extend(last.take().filter(|_| size.trim() == "0 kB"));
        } else if is_first(line) {
            last = read_only(line, file);
        }
    }
    all
}

/// Whether this is the first line of a mapping.
fn is_first(line: &str) -> bool {
    line.split(' ').next().is_some_and(|word| word.contains('-'))
}

/// The addresses of the first line of a mapping, where it is of this file and only to be read.
fn read_only(line: &str, file: &str) -> Option<Range<usize>> {
    let mut words = line.splitn(6, ' ');
    let (addresses, rights) = (words.next()?, words.next()?);
    let name = words.nth(3)?.trim_start();
    if !matches!(rights, "r-xp" | "r--p") || name != file {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "7f00-7f10 r-xp 00001000 fe:00 123                      /usr/bin/a b\n\
                       Size:   64 kB\nRss:   64 kB\nAnonymous:         0 kB\n\
                       VmFlags: rd ex mr mw me\n";

    #[test]
    fn only_what_cannot_have_been_written_to_is_found() {
        let found = |maps: &str| {
            let all = unwritten(maps, "/usr/bin/a b").into_iter();
            all.map(|pages| format!("{:x}", pages.start)).collect::<Vec<_>>()
        };
        assert_eq!(unwritten(OWN, "/usr/bin/a b").first(), Some(&(0x7f00..0x7f10)));
        assert_eq!(found(OWN), ["7f00"]);
        assert_eq!(found(&OWN.replace("r-xp", "r--p")), ["7f00"]);
        assert!(found(&OWN.replace("r-xp", "rw-p")).is_empty());
        assert!(found(&OWN.replace("a b", "c")).is_empty());
        assert!(found(&OWN.replace("   0 kB", "   4 kB")).is_empty(), "the loader wrote to it");
        let other = OWN.replace("7f00-7f10", "8000-8010");
        let both = OWN.replace("   0 kB", "   4 kB") + &other;
        assert_eq!(found(&both), ["8000"]);
        assert!(found("7f00-7f10 r-xp 00000000 00:00 0\nAnonymous: 0 kB").is_empty());
        assert!(found("").is_empty());
    }

    #[test]
    fn code_runs_as_before_when_it_was_given_back() {
        let mapped = || {
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let own = fs::read_link("/proc/self/exe").unwrap();
            let (mut is_own, mut all) = (false, 0);
            for line in maps.lines() {
                if let Some(size) = line.strip_prefix("Rss:").filter(|_| is_own) {
                    all += size.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
                } else if is_first(line) {
                    is_own = read_only(line, &own.to_string_lossy()).is_some();
                }
            }
            all
        };
        let text: String = (0..1_000).map(|n| n.to_string()).collect();
        let before = mapped();
        let pages = Pages::find().unwrap();
        assert!(pages.0.len() > 1, "code and constants: {pages:?}");
        pages.give_back().unwrap();
        let after = mapped();
        assert!(after < before, "{after} of {before} kB");
        assert_eq!((0..1_000).map(|n| n.to_string()).collect::<String>(), text);
    }
}
