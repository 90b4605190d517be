//! Names and addresses that no other process of this machine uses meanwhile.

use std::fs::{File, TryLockError};
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::Error;

/// Networks at a time on one machine.
const PLACES: u8 = 200;

/// The last byte of the test's own address; nodes count from 1.
const HOST: u8 = 254;

/// A number that is ours as long as its file is locked, which ends with the process in
/// whatever way: what a dead one left under its names is known to be nobody's.
#[derive(Debug)]
pub(super) struct Place {
    number: u8,
    _lock: File,
}

impl Place {
    pub(super) fn take() -> Result<Self, Error> {
        for number in 0..PLACES {
            let path = format!("/run/sheaf-testkit-network-{number}.lock");
            let lock = File::create(&path).map_err(Error::io(format!("create {path}")))?;
            match lock.try_lock() {
                Ok(()) => return Ok(Place { number, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => {
                    return Err(Error::io(format!("lock {path}"))(error));
                }
            }
        }
        let what = format!("make a network beside {PLACES} others");
        Err(Error::io(what)(io::ErrorKind::AddrInUse.into()))
    }

    pub(super) fn namespace(&self, node: usize) -> String {
        format!("sheaf{}-{node}", self.number)
    }

    pub(super) fn hub(&self) -> String {
        format!("sheaf{}-hub", self.number)
    }

    /// The test's own interface.
    pub(super) fn link(&self) -> String {
        format!("sheaf{}", self.number)
    }

    /// What both ends of the line of a node are called before they are in their places.
    pub(super) fn ends(&self, node: usize) -> [String; 2] {
        ["a", "b"].map(|end| format!("sheaf{}-{end}{node}", self.number))
    }

    /// Of a node, or of the test behind the last one.
    pub(super) fn addr(&self, node: usize) -> Ipv4Addr {
        let last = u8::try_from(node + 1).unwrap_or(HOST);
        super::test_addr(self.number, last)
    }
}

pub(super) fn exists(namespace: &str) -> bool {
    Path::new("/run/netns").join(namespace).exists()
}
