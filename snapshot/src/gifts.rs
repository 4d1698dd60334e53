//! What a worker is given by the engine: its descriptors.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use crate::message::{self, GIVEN};

/// Where the workers of a template find their descriptors. The template itself does not touch
/// these: to have them, and to close them, would be calls that are noted, and memory written to.
pub(crate) struct Gifts {
    engine: OwnedFd,
    /// What the template is to have, for those.
    pub(crate) workers: OwnedFd,
}

impl Gifts {
    pub(crate) fn new() -> io::Result<Self> {
        let (engine, workers) = message::conversation()?;
        Ok(Self { engine, workers })
    }

    /// Has the next worker find these, in messages of their own.
    pub(crate) fn give(&self, descriptors: &[&[RawFd]]) -> io::Result<()> {
        (descriptors.iter())
            .try_for_each(|it| message::send(self.engine.as_fd(), &[&[GIVEN]], it))
            .inspect_err(|_| self.take_back())
    }

    /// Has nobody find what one that did not come about left there.
    pub(crate) fn take_back(&self) {
        message::take_back(self.workers.as_fd());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    use nix::errno::Errno;
    use nix::sys::socket::{MsgFlags, recv};
    use nix::unistd::pipe;

    use super::*;

    #[test]
    fn what_is_taken_back_is_nobodys() {
        let gifts = Gifts::new().expect("sockets");
        let (reader, writer) = pipe().expect("a pipe");
        gifts.give(&[&[writer.as_raw_fd()], &[]]).expect("given");
        drop(writer);
        gifts.take_back();
        let left = recv(gifts.workers.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT);
        assert_eq!(left, Err(Errno::EAGAIN));
        // It is closed: the pipe has come to its end.
        assert_eq!(File::from(reader).read(&mut [0]).expect("read"), 0);
    }
}
