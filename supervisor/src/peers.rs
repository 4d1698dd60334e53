//! Who drives the supervisor: one peer on stdin and stdout, or any number on a
//! Unix socket. Nothing a peer sends or fails to read can hold the others up.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use refunction_protocol::{Lines, Report};

/// Which peer.
pub(crate) type PeerId = u64;

/// Bytes that a peer may leave unread before it is no longer read from, and its
/// log lines are no longer kept for it.
const MAX_UNREAD: usize = 8 * 1024 * 1024;

/// Bytes that a peer took and that are kept before they are dropped.
const TAKEN: usize = 1024 * 1024;

/// Bytes written at a time to a descriptor that may block: poll(2) promises no
/// more.
const PIPE_BUF: usize = 4096;

enum Stream {
    Standard { input: File, output: File },
    Socket(UnixStream),
}

/// One conversation.
pub(crate) struct Peer {
    stream: Stream,
    lines: Lines,
    /// Where is read to, cleared once.
    buffer: Box<[u8]>,
    outgoing: Vec<u8>,
    sent: usize,
    /// Nothing more comes from it; what it asked is still answered.
    pub(crate) ended: bool,
    /// Nothing more reaches it.
    gone: bool,
    pub(crate) greeted: bool,
}

impl Peer {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            lines: Lines::default(),
            buffer: vec![0; 64 * 1024].into(),
            outgoing: Vec::new(),
            sent: 0,
            ended: false,
            gone: false,
            greeted: false,
        }
    }

    pub(crate) fn input(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Standard { input, .. } => input.as_fd(),
            Stream::Socket(socket) => socket.as_fd(),
        }
    }

    pub(crate) fn output(&self) -> BorrowedFd<'_> {
        match &self.stream {
            Stream::Standard { output, .. } => output.as_fd(),
            Stream::Socket(socket) => socket.as_fd(),
        }
    }

    pub(crate) fn wants_reading(&self) -> bool {
        !self.ended && self.unread() < MAX_UNREAD
    }

    pub(crate) fn wants_writing(&self) -> bool {
        !self.gone && self.unread() > 0
    }

    fn unread(&self) -> usize {
        self.outgoing.len() - self.sent
    }

    /// Reads once; the lines are then to be [taken](Self::next_line).
    pub(crate) fn read(&mut self) {
        let got = match &mut self.stream {
            Stream::Standard { input, .. } => input.read(&mut self.buffer),
            Stream::Socket(socket) => socket.read(&mut self.buffer),
        };
        match got {
            Ok(0) => self.ended = true,
            Ok(got) => self.lines.feed(&self.buffer[..got]),
            Err(error) if is_passing(&error) => {}
            Err(_) => self.ended = true,
        }
        if self.ended && self.lines.pending() > 0 {
            // A last line that nobody ended is a line.
            self.lines.feed(b"\n");
        }
    }

    pub(crate) fn next_line(
        &mut self,
    ) -> Option<Result<Vec<u8>, refunction_protocol::LineTooLong>> {
        self.lines.next_line()
    }

    /// Takes a message for the peer, and sends what can be sent.
    pub(crate) fn tell(&mut self, report: &Report) {
        if self.gone || (matches!(report, Report::Log(_)) && self.unread() > MAX_UNREAD) {
            return;
        }
        if self.sent >= TAKEN {
            // A peer that is always a little behind would keep all that it ever took.
            self.outgoing.drain(..self.sent);
            self.sent = 0;
        }
        self.outgoing.extend_from_slice(&report.to_line());
        if matches!(self.stream, Stream::Socket(_)) {
            self.write();
        }
    }

    /// Writes what there is room for; on stdout only when poll said so.
    pub(crate) fn write(&mut self) {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            let (written, once) = match &mut self.stream {
                Stream::Standard { output, .. } => {
                    (output.write(&rest[..rest.len().min(PIPE_BUF)]), true)
                }
                Stream::Socket(socket) => (socket.write(rest), false),
            };
            match written {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
            if once && self.sent < self.outgoing.len() {
                return;
            }
        }
        self.outgoing.clear();
        self.sent = 0;
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

/// All conversations.
pub(crate) struct Peers {
    listener: Option<(UnixListener, PathBuf)>,
    peers: BTreeMap<PeerId, Peer>,
    next: PeerId,
}

impl Peers {
    /// One peer, on stdin and stdout.
    pub(crate) fn on_standard_streams() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?.into();
        let output = io::stdout().as_fd().try_clone_to_owned()?.into();
        Ok(Self {
            listener: None,
            peers: [(0, Peer::new(Stream::Standard { input, output }))].into(),
            next: 1,
        })
    }

    /// Nobody: what is asked for comes another way.
    pub(crate) fn none() -> Self {
        Self {
            listener: None,
            peers: BTreeMap::new(),
            next: 0,
        }
    }

    /// Whoever connects to this socket, which only this process's user may do.
    pub(crate) fn on_socket(path: &Path) -> io::Result<Self> {
        // Left by a container that was killed; one that lives has its own directory.
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            listener: Some((listener, path.to_owned())),
            peers: BTreeMap::new(),
            next: 0,
        })
    }

    pub(crate) fn listener(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(|(listener, _)| listener.as_fd())
    }

    /// Takes up every conversation that waits.
    pub(crate) fn accept(&mut self) {
        let Some((listener, _)) = &self.listener else {
            return;
        };
        while let Ok((socket, _)) = listener.accept() {
            if socket.set_nonblocking(true).is_ok() {
                self.peers
                    .insert(self.next, Peer::new(Stream::Socket(socket)));
                self.next += 1;
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (PeerId, &Peer)> {
        self.peers.iter().map(|(id, peer)| (*id, peer))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut Peer)> {
        self.peers.iter_mut().map(|(id, peer)| (*id, peer))
    }

    /// Tells one peer, or nobody if it left.
    pub(crate) fn tell(&mut self, id: PeerId, report: &Report) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.tell(report);
        }
    }

    /// Bytes that a peer has not taken yet; none of one that left.
    pub(crate) fn unread(&self, id: PeerId) -> usize {
        let peer = self.peers.get(&id).filter(|peer| !peer.gone);
        peer.map_or(0, Peer::unread)
    }

    /// Forgets peers that left and have nothing coming.
    pub(crate) fn forget_gone(&mut self, has_work: impl Fn(PeerId) -> bool) {
        let on_socket = self.listener.is_some();
        self.peers.retain(|id, peer| {
            let is_owed = peer.wants_writing() || has_work(*id);
            !on_socket || !peer.gone && (!peer.ended || is_owed)
        });
    }

    /// True if the only peer there can be has said all it will.
    pub(crate) fn is_over(&self) -> bool {
        self.listener.is_none()
            && !self.peers.is_empty()
            && self.peers.values().all(|peer| peer.ended)
    }

    /// Writes until everything is out or `deadline` passes.
    pub(crate) fn flush(&mut self, mut wait: impl FnMut(&Self) -> bool) {
        while self.peers.values().any(Peer::wants_writing) && wait(self) {
            for peer in self.peers.values_mut().filter(|peer| peer.wants_writing()) {
                peer.write();
            }
        }
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.listener {
            // The directory may be gone already.
            let _ = fs::remove_file(path);
        }
    }
}
