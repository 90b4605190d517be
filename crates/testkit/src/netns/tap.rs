//! An interface whose packets this process carries.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use tokio::io::unix::AsyncFd;

/// What makes such interfaces.
pub(super) const DEVICE: &str = "/dev/net/tun";

/// `TUNSETIFF`.
const SET_INTERFACE: Opcode = opcode::write::<i32>(b'T', 202);
/// `IFF_TAP` and `IFF_NO_PI`: Ethernet frames, and nothing before them.
const FRAMES: u16 = 0x0002 | 0x1000;

/// `struct ifreq`: a name, and the flags where it may have an address.
#[repr(C, align(8))]
struct Request {
    name: [u8; 16],
    flags: u16,
    unused: [u8; 22],
}

/// Makes an interface of this name, which is there as long as this is open, in whatever
/// namespace it is moved to. What is sent over it is read here, a frame at a time, and
/// what is written here it receives; neither waits.
pub(super) fn open(name: &str) -> io::Result<OwnedFd> {
    let mut request = Request { name: [0; 16], flags: FRAMES, unused: [0; 22] };
    // With a zero behind it.
    if name.len() >= request.name.len() {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let device = rustix::fs::open(DEVICE, flags, Mode::empty())?;
    #[allow(unsafe_code, reason = "no safe function makes these interfaces")]
    // SAFETY: the kernel reads and writes a `struct ifreq`, whose size and layout this has,
    // and forgets where it was.
    unsafe {
        ioctl(&device, Updater::<SET_INTERFACE, Request>::new(&mut request))?;
    }
    Ok(device)
}

/// Has the runtime say when there is something to read.
#[allow(unsafe_code, reason = "no safe function takes a descriptor of this kind")]
pub(super) fn watch(device: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: what owns a descriptor keeps it open, and has no other one.
    Ok(unsafe { AsyncFd::register(device) }?)
}

const _: () = assert!(size_of::<Request>() == 40);
