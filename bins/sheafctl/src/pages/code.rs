//! The pages of the program that are code.

use std::ffi::c_void;
use std::ops::Range;
use std::{fs, io, ptr};

use rustix::mm::{Advice, madvise};

/// Unmaps the pages of the program's code. What runs next is mapped again from the file,
/// which the system still has: that takes microseconds.
///
/// # Errors
/// Where the system does not say what is mapped, or does not do it.
pub(super) fn give_back() -> io::Result<()> {
    // A debugger has written into the code where it is to stop.
    if !fs::read_to_string("/proc/self/status")?.contains("TracerPid:\t0\n") {
        return Ok(());
    }
    let own = fs::read_link("/proc/self/exe")?;
    let maps = fs::read_to_string("/proc/self/maps")?;
    for pages in maps.lines().filter_map(|line| code(line, &own.to_string_lossy())) {
        give_back_pages(pages)?;
    }
    Ok(())
}

#[allow(unsafe_code, reason = "the system has no other way to be told")]
fn give_back_pages(pages: Range<usize>) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut::<c_void>(pages.start);
    // SAFETY: these pages are the file's own, without relocations in the code, and nothing
    // here patches itself: what is read from there is the same before and after.
    unsafe { madvise(start, pages.len(), Advice::LinuxDontNeed) }.map_err(io::Error::from)
}

/// The addresses of a line of `maps`, where they are code of this file.
fn code(line: &str, file: &str) -> Option<Range<usize>> {
    let mut words = line.splitn(6, ' ');
    let (addresses, rights) = (words.next()?, words.next()?);
    let name = words.nth(3)?.trim_start();
    if rights != "r-xp" || name != file {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    Some(address(start)?..address(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_file_is_found() {
        let found = |line: &str| code(line, "/usr/bin/a b");
        let own = "7f00-7f10 r-xp 00001000 fe:00 123                      /usr/bin/a b";
        assert_eq!(found(own), Some(0x7f00..0x7f10));
        assert_eq!(found(&own.replace("r-xp", "r--p")), None, "it has been written to");
        assert_eq!(found(&own.replace("a b", "c")), None);
        assert_eq!(found("7f00-7f10 r-xp 00000000 00:00 0"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn code_runs_as_before_when_it_was_given_back() {
        let mapped = || {
            let maps = fs::read_to_string("/proc/self/smaps").unwrap();
            let own = fs::read_link("/proc/self/exe").unwrap();
            let mut lines =
                maps.lines().skip_while(|line| code(line, &own.to_string_lossy()).is_none());
            let rss = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            rss.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let text: String = (0..1_000).map(|n| n.to_string()).collect();
        let before = mapped();
        give_back().unwrap();
        let after = mapped();
        assert!(after < before, "{after} of {before} kB");
        assert_eq!((0..1_000).map(|n| n.to_string()).collect::<String>(), text);
    }
}
