//! A line of text with a file descriptor beside it.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Room for one descriptor.
const ROOM: usize = rustix::cmsg_space!(ScmRights(1));

/// Sends a line, which is short enough for the socket to take whole, and a
/// descriptor with its first byte.
pub(super) fn send(
    socket: impl AsFd,
    line: &[u8],
    descriptor: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut beside = SendAncillaryBuffer::new(&mut room);
    let descriptors = descriptor.as_slice();
    if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    let sent = sendmsg(socket, &[IoSlice::new(line)], &mut beside, SendFlags::NOSIGNAL)?;
    if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Some bytes of a line; a descriptor that comes with them goes to `descriptor`.
pub(super) fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    descriptor: &mut Option<File>,
) -> io::Result<usize> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut beside = RecvAncillaryBuffer::new(&mut room);
    let mut slices = [IoSliceMut::new(bytes)];
    // Programs that this one starts must not get it.
    let received = recvmsg(socket, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            for one in descriptors {
                *descriptor = Some(File::from(one));
            }
        }
    }
    Ok(received.bytes)
}
