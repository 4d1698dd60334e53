//! What the engine and the processes that it makes say to each other: messages on a socket
//! between the two, with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
    recvmsg, sendmsg, socketpair,
};

/// Descriptors that a worker may be given.
pub(crate) const MAX_DESCRIPTORS: usize = 8;

/// First byte of a message from the engine: the image's memfd comes with it, and the socket
/// through which workers are given their descriptors.
pub(crate) const IMAGE: u8 = b'I';
/// Fork: 8 bytes of table address. The worker is given its standard streams, which stay open
/// across an exec, and then its other descriptors, the image's memfd, and its table.
pub(crate) const FORK: u8 = b'F';
/// Fork a process that is to become a template itself: what is asked of it. In a message of
/// their own come the other end of its conversation, the memfd for its image, and such a socket
/// for its workers.
pub(crate) const GROW: u8 = b'G';
/// All that is said where descriptors come.
pub(crate) const GIVEN: u8 = b'D';
/// Take these descriptors, from 0 on, with the image's memfd and the table behind them,
/// and become a runtime.
pub(crate) const PLACE: u8 = b'P';
/// First byte of a message to the engine: ready. The image's number in this
/// process follows (4 bytes), then what the caller says of itself.
pub(crate) const READY: u8 = b'R';
/// Not to be: why.
pub(crate) const FAILED: u8 = b'E';

/// Longest message either way.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// Bytes that may be asked of a process that is to become a template: the template reads
/// them to its stack, and every page that it writes to is copied by each fork.
pub(crate) const MAX_ASKED: usize = 1024;

/// The two ends of a conversation.
pub(crate) fn conversation() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC,
    )?)
}

/// Sends one message with descriptors.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    parts: &[&[u8]],
    descriptors: &[RawFd],
) -> io::Result<()> {
    let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let rights = [ControlMessage::ScmRights(descriptors)];
    let control = if descriptors.is_empty() {
        &rights[..0]
    } else {
        &rights[..]
    };
    sendmsg::<()>(
        socket.as_raw_fd(),
        &parts,
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one message that no descriptors come with; its length.
pub(crate) fn hear(socket: BorrowedFd<'_>, message: &mut [u8]) -> io::Result<usize> {
    loop {
        match recv(socket.as_raw_fd(), message, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Receives whatever descriptors are still to be received, and closes them.
pub(crate) fn take_back(socket: BorrowedFd<'_>) {
    let mut room = [0; 1];
    // Those that come with what is received like this are closed by the kernel.
    while recv(socket.as_raw_fd(), &mut room, MsgFlags::MSG_DONTWAIT).is_ok_and(|it| it > 0) {}
}

/// Receives one message: its length, and the descriptors that came with it.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    message: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut descriptors = Vec::new();
    let length = receive_more(socket, message, &mut descriptors, OnExec::Close)?;
    Ok((length, descriptors))
}

/// What becomes of a descriptor when its process runs another program.
#[derive(Clone, Copy)]
pub(crate) enum OnExec {
    Stay,
    Close,
}

/// Receives one message, and adds the descriptors that came with it; its length.
pub(crate) fn receive_more(
    socket: BorrowedFd<'_>,
    message: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    on_exec: OnExec,
) -> io::Result<usize> {
    let mut room = cmsg_space!([RawFd; MAX_DESCRIPTORS + 2]);
    let mut parts = [IoSliceMut::new(message)];
    let flags = match on_exec {
        OnExec::Stay => MsgFlags::empty(),
        OnExec::Close => MsgFlags::MSG_CMSG_CLOEXEC,
    };
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    for control in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel just made these descriptors for us.
            descriptors.extend(
                numbers
                    .into_iter()
                    .map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
            );
        }
    }
    Ok(received.bytes)
}
