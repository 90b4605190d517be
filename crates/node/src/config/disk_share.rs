//! How much of a disk something may take.

use std::path::Path;
use std::str::FromStr;

use sheaf_terminal::HumanBytes;

/// A size, or a share of what is free on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskShare {
    /// So many bytes.
    Bytes(u64),
    /// So many of a hundred parts of what is free.
    Percent(u8),
}

impl DiskShare {
    /// Bytes on the disk of a directory that is there; without a limit where what
    /// is free cannot be told.
    pub fn bytes_at(self, directory: &Path) -> u64 {
        match self {
            DiskShare::Bytes(bytes) => bytes,
            DiskShare::Percent(share) => match rustix::fs::statvfs(directory) {
                Ok(found) => {
                    let free = u128::from(found.f_bavail) * u128::from(found.f_frsize);
                    u64::try_from(free * u128::from(share) / 100).unwrap_or(u64::MAX)
                }
                Err(_) => u64::MAX,
            },
        }
    }
}

impl FromStr for DiskShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('%').map(str::parse::<u8>) {
            Some(Ok(share @ 0..=100)) => Ok(DiskShare::Percent(share)),
            Some(_) => {
                Err(format!("{text:?} is no share of the free disk: write 0% to 100%, or a size"))
            }
            None => text
                .parse::<HumanBytes>()
                .map(|bytes| DiskShare::Bytes(bytes.0))
                .map_err(|error| error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_what_is_free_and_a_size_is_itself() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let of = |text: &str| text.parse::<DiskShare>().unwrap().bytes_at(here);
        assert_eq!(of("3MiB"), 3 << 20);
        assert_eq!(of("0%"), 0);
        let (half, all) = (of("50%"), of("100%"));
        assert!(half > 0 && half < all, "{half} of {all}");
        for wrong in ["101%", "-1%", "many", "%"] {
            assert!(wrong.parse::<DiskShare>().is_err(), "{wrong}");
        }
    }
}
