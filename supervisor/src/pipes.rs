//! The four pipes between the supervisor and one worker. What comes out of them is
//! a tenant's word: it is bounded, checked, and never waited for.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, pipe2};
use refunction_adapter::channel::{self, HEADER_BYTES, Kind};
use refunction_protocol::Stream;
use refunction_snapshot::unread_bytes;

use crate::logs::{Line, LineCutter};
use crate::sabotage::leaves_out;

/// Bytes that a response may have.
pub(crate) const MAX_RESPONSE: usize = 32 * 1024 * 1024;

/// Bytes read at a time.
const CHUNK: usize = 64 * 1024;

/// What a worker sent that is no frame it may send.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("it sent a frame of unknown kind {0:#04x}")]
    Kind(u8),
    #[error("it announced a response of {0} bytes, more than the {MAX_RESPONSE} allowed")]
    TooLong(usize),
    #[error("it closed its response pipe")]
    Closed,
}

/// The supervisor's ends.
pub(crate) struct Pipes {
    request: File,
    /// The pipe of the requests, open for nothing: whoever reads from it keeps the
    /// worker's end of it from being the last.
    unread: OwnedFd,
    response: File,
    logs: [Log; 2],
    outgoing: Vec<u8>,
    sent: usize,
    incoming: Vec<u8>,
    /// How much of that was taken.
    taken: usize,
    /// Where everything is read to first: to clear as much for each answer takes longer than
    /// most answers do.
    buffer: Box<[u8]>,
}

/// What a worker prints on one of its streams.
struct Log {
    pipe: File,
    cutter: LineCutter,
    /// Nobody is left who could print: the pipe would be readable for good.
    is_closed: bool,
}

impl Log {
    fn new(pipe: OwnedFd, stream: Stream) -> Self {
        Self {
            pipe: pipe.into(),
            cutter: LineCutter::new(stream),
            is_closed: false,
        }
    }
}

/// The worker's ends, in the order of their numbers.
pub(crate) struct WorkerEnds([OwnedFd; 5]);

impl WorkerEnds {
    pub(crate) fn as_fds(&self) -> [BorrowedFd<'_>; 5] {
        self.0.each_ref().map(AsFd::as_fd)
    }
}

impl Pipes {
    /// Opens them for a worker of this user.
    pub(crate) fn open((uid, gid): (Uid, Gid)) -> io::Result<(Self, WorkerEnds)> {
        let null = File::open("/dev/null")?;
        let (request_out, request_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (response_out, response_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (stdout_out, stdout_in) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_out, stderr_in) = pipe2(OFlag::O_CLOEXEC)?;
        for end in [&request_in, &response_out, &stdout_out, &stderr_out] {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        for log in [&stdout_in, &stderr_in] {
            // So that it can open /dev/stdout and /dev/stderr.
            fchown(log, Some(uid), Some(gid))?;
        }
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let pipes = Self {
            request: request_in.into(),
            unread: open(&itself(&request_out), flags, Mode::empty())?,
            response: response_out.into(),
            logs: [
                Log::new(stdout_out, Stream::Stdout),
                Log::new(stderr_out, Stream::Stderr),
            ],
            outgoing: Vec::new(),
            sent: 0,
            incoming: Vec::new(),
            taken: 0,
            buffer: vec![0; CHUNK].into(),
        };
        let ends = WorkerEnds([null.into(), stdout_in, stderr_in, request_out, response_in]);
        Ok((pipes, ends))
    }

    /// Where there is room for more of a request.
    pub(crate) fn request(&self) -> BorrowedFd<'_> {
        self.request.as_fd()
    }

    pub(crate) fn response(&self) -> BorrowedFd<'_> {
        self.response.as_fd()
    }

    /// The streams from which something can still come.
    pub(crate) fn logs(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let open = self.logs.iter().filter(|log| !log.is_closed);
        open.map(|log| log.pipe.as_fd())
    }

    /// True if part of a request waits for room.
    pub(crate) fn is_sending(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    /// Starts sending a frame; what came before it is nobody's answer.
    pub(crate) fn send(&mut self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        self.forget_incoming();
        self.outgoing.clear();
        self.sent = 0;
        self.outgoing
            .extend_from_slice(&channel::header(kind, payload.len())?);
        self.outgoing.extend_from_slice(payload);
        self.send_more()
    }

    /// Sends what there is room for. A worker that closed its end is found out by
    /// what it does next.
    pub(crate) fn send_more(&mut self) -> io::Result<()> {
        while self.is_sending() {
            match self.request.write(&self.outgoing[self.sent..]) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                    self.sent = self.outgoing.len();
                }
                Err(error) => return Err(error),
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        Ok(())
    }

    fn forget_incoming(&mut self) {
        self.incoming.clear();
        self.taken = 0;
    }

    /// Reads what there is of the answer; its next frame, once that is whole.
    pub(crate) fn receive(&mut self) -> Result<Option<(Kind, Vec<u8>)>, BadFrame> {
        loop {
            if let Some(frame) = self.whole_frame()? {
                return Ok(Some(frame));
            }
            self.incoming.drain(..self.taken);
            self.taken = 0;
            match self.response.read(&mut self.buffer) {
                Ok(0) => return Err(BadFrame::Closed),
                Ok(got) => self.incoming.extend_from_slice(&self.buffer[..got]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(_) => return Err(BadFrame::Closed),
            }
        }
    }

    fn whole_frame(&mut self) -> Result<Option<(Kind, Vec<u8>)>, BadFrame> {
        let incoming = &self.incoming[self.taken..];
        let Some(header) = incoming.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let [a, b, c, d, kind] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let kind = Kind::from_byte(kind).ok_or(BadFrame::Kind(kind))?;
        if length > MAX_RESPONSE {
            return Err(BadFrame::TooLong(length));
        }
        let end = HEADER_BYTES + length;
        if incoming.len() < end {
            return Ok(None);
        }
        if kind.goes_on() {
            let payload = incoming[HEADER_BYTES..end].to_vec();
            self.taken += end;
            return Ok(Some((kind, payload)));
        }
        let mut payload = std::mem::take(&mut self.incoming);
        let start = std::mem::take(&mut self.taken);
        // What follows the last frame answers nothing.
        payload.truncate(start + end);
        payload.drain(..start + HEADER_BYTES);
        Ok(Some((kind, payload)))
    }

    /// Reads what was printed until now.
    pub(crate) fn read_logs(&mut self, lines: &mut Vec<(Stream, Line)>) {
        let buffer = &mut self.buffer;
        for Log {
            pipe,
            cutter,
            is_closed,
        } in &mut self.logs
        {
            // Bounded: a writer as fast as this reader must not keep it here.
            for _ in 0..64 {
                match pipe.read(buffer) {
                    Ok(0) => {
                        *is_closed = true;
                        break;
                    }
                    Ok(got) => {
                        let mut cut = Vec::new();
                        cutter.feed(&buffer[..got], &mut cut);
                        lines.extend(cut.into_iter().map(|line| (cutter.stream, line)));
                        if got < buffer.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // Nothing more, or nobody to write any.
                    Err(_) => break,
                }
            }
        }
    }

    /// Ends every unfinished line.
    pub(crate) fn end_lines(&mut self, lines: &mut Vec<(Stream, Line)>) {
        for Log { cutter, .. } in &mut self.logs {
            let mut cut = Vec::new();
            cutter.end_request(&mut cut);
            lines.extend(cut.into_iter().map(|line| (cutter.stream, line)));
        }
    }

    /// Empties everything that a stopped worker left in its pipes, and what it did not
    /// read of a request.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        let [stdout, stderr] = &mut self.logs;
        for (pipe, handler) in [
            (&mut self.response, "pipes:response"),
            (&mut stdout.pipe, "pipes:standard-output"),
            (&mut stderr.pipe, "pipes:standard-error"),
        ] {
            if !leaves_out(handler) {
                empty(pipe)?;
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        if unread_bytes(self.request.as_fd())? > 0 && !leaves_out("pipes:request") {
            // A description of its own: the worker's end blocks.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            empty(&mut open(&itself(&self.unread), flags, Mode::empty())?.into())?;
        }
        if !leaves_out("pipes:part-of-a-line") {
            self.end_lines(&mut Vec::new());
        }
        if !leaves_out("pipes:part-of-an-answer") {
            self.forget_incoming();
        }
        Ok(())
    }
}

fn empty(pipe: &mut File) -> io::Result<()> {
    let mut buffer = [0; CHUNK];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A path that opens what this descriptor is open on.
fn itself(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}
