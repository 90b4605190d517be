//! The place of frames in their session.

use super::{Ends, Frame, Kind, Reason};
use crate::Error;

/// What the next frame of a session has to be: none may be missing, come again
/// or be of another session.
#[derive(Debug)]
pub(crate) struct Order {
    /// As the frames that come have them.
    ends: Ends,
    session: u64,
    next: u64,
    kind: Kind,
}

impl Order {
    pub(crate) fn new(ends: Ends, session: u64, kind: Kind) -> Self {
        Order { ends, session, next: 0, kind }
    }

    /// Counts a frame; `kind` is what it may be besides what the session is of.
    ///
    /// # Errors
    /// [`Reason::Cluster`], [`Reason::Node`], [`Reason::Sequence`],
    /// [`Reason::Malformed`].
    pub(crate) fn accept(&mut self, frame: &Frame) -> Result<(), Error> {
        frame.check(self.ends)?;
        let header = &frame.header;
        if header.kind != self.kind {
            let text = format!("{:?} where {:?} comes", header.kind, self.kind);
            return Err(Error::frame(Reason::Malformed, text));
        }
        if header.session != self.session {
            let text = format!("it is of session {}, not {}", header.session, self.session);
            return Err(Error::frame(Reason::Sequence, text));
        }
        if header.sequence != self.next {
            let what = if header.sequence < self.next { "comes again" } else { "comes too early" };
            let text = format!("packet {} {what}, {} is next", header.sequence, self.next);
            return Err(Error::frame(Reason::Sequence, text));
        }
        self.next += u64::from(header.packets);
        Ok(())
    }

    /// From now on frames of this kind come.
    pub(crate) fn turn(&mut self, kind: Kind) {
        self.kind = kind;
    }
}
