//! Bytes to and from a supervisor's socket. Both directions by themselves: who waits for room
//! in it is woken up by every message that the other side takes, so that is only done where
//! there is none.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for what comes.
pub(super) struct Reader {
    socket: AsyncFd<UnixStream>,
}

impl Reader {
    /// Of a socket that does not block.
    pub(super) fn of(socket: UnixStream) -> io::Result<Self> {
        let socket = watch(socket, Interest::READABLE)?;
        Ok(Self { socket })
    }

    /// Reads once; 0 is the end.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.socket.readable().await?;
            let Ok(read) = ready.try_io(|socket| socket.get_ref().read(buffer)) else {
                continue;
            };
            if matches!(read, Ok(read) if read < buffer.len()) {
                // There was no more, and what comes is told of (epoll(7), question 9).
                ready.clear_ready();
            }
            return read;
        }
    }
}

/// Writes all of it.
pub(super) async fn write_all(mut socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let writer = watch(socket.try_clone()?, Interest::WRITABLE)?;
                writer.writable().await?.retain_ready();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Watches a descriptor that std has, and keeps, for as long as this does.
#[expect(
    deprecated,
    reason = "what takes its place is unsafe, for descriptors that somebody else may close"
)]
fn watch<T: AsRawFd + Into<OwnedFd>>(socket: T, what: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, what)
}
