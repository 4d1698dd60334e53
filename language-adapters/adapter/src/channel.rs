//! The pipe between a worker and its supervisor: frames of a little-endian `u32`
//! length, a kind byte, and that many bytes of JSON.
//!
//! | to the worker | JSON | answer | JSON |
//! |---|---|---|---|
//! | `L` load | a [`Function`](refunction_protocol::Function) | `l` loaded | `null`, or an [`Exception`](crate::Exception) |
//! | `I` invoke | an [`Invocation`](crate::Invocation) | `v` value | the result |
//! | | | `x` exception | an [`Exception`](crate::Exception) |
//! | | | `h` head, then `p` pieces, then `e` end or `x` | a [`Head`](crate::Head); bytes, no JSON; nothing |
//! | | | `r` ready | a [`Runtime`](crate::Runtime) |
//!
//! An answer that comes in pieces begins with its head. A piece has at least one byte and at
//! most [`MOST_PIECE_BYTES`].
//!
//! A worker that is forked says nothing before it is asked. A runtime that becomes one
//! where it stands says once that it is ready, or `x` why it will not be, and waits to
//! read from then on.
//!
//! What a worker writes is a tenant's word: the supervisor bounds it, checks it,
//! and takes it only as the answer to what it asked.

use std::io::{self, Read, Write};

/// Bytes before a frame's payload.
pub const HEADER_BYTES: usize = 5;

/// Up to here a copy is cheaper than a second write; a pipe holds no more anyway.
const ONE_WRITE_BYTES: usize = 64 * 1024;

/// Bytes of one piece of an answer; what is longer is cut.
pub const MOST_PIECE_BYTES: usize = 64 * 1024;

/// Where a worker reads requests.
pub const REQUEST_FD: i32 = 3;

/// Where a worker writes answers.
pub const RESPONSE_FD: i32 = 4;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// To the worker: load a function.
    Load = b'L',
    /// To the worker: call it.
    Invoke = b'I',
    /// From the worker: the function was loaded, or not.
    Loaded = b'l',
    /// From the worker: the call's result.
    Value = b'v',
    /// From the worker: the call raised.
    Exception = b'x',
    /// From the worker: the call's result comes in pieces, and this is known before them.
    Head = b'h',
    /// From the worker: a piece of it.
    Piece = b'p',
    /// From the worker: there are no more.
    End = b'e',
    /// From a runtime that is to become a worker: it waits for its first request.
    Ready = b'r',
}

impl Kind {
    /// The kind that a byte names.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Load,
            Self::Invoke,
            Self::Loaded,
            Self::Value,
            Self::Exception,
            Self::Head,
            Self::Piece,
            Self::End,
            Self::Ready,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }

    /// True if the answer that it belongs to goes on after it.
    #[must_use]
    pub fn goes_on(self) -> bool {
        matches!(self, Self::Head | Self::Piece)
    }
}

/// The header of a frame with this payload length.
///
/// # Errors
/// The payload does not fit a `u32`.
pub fn header(kind: Kind, payload: usize) -> io::Result<[u8; HEADER_BYTES]> {
    let length = u32::try_from(payload)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the frame exceeds 4 GiB"))?;
    let [a, b, c, d] = length.to_le_bytes();
    Ok([a, b, c, d, kind as u8])
}

/// Writes one frame.
///
/// # Errors
/// The writer's.
pub fn write_frame(writer: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let header = header(kind, payload.len())?;
    if payload.len() > ONE_WRITE_BYTES {
        writer.write_all(&header)?;
        return writer.write_all(payload);
    }
    // One write for small frames: each is a system call and a possible wake-up.
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(payload);
    writer.write_all(&frame)
}

/// Reads one frame; `None` at the end of the stream.
///
/// # Errors
/// The reader's, or a kind byte that means nothing.
pub fn read_frame(reader: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut header = [0; HEADER_BYTES];
    let mut filled = 0;
    while filled < HEADER_BYTES {
        match reader.read(&mut header[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let [a, b, c, d, kind] = header;
    let kind = Kind::from_byte(kind).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of unknown kind {kind:#04x}"),
        )
    })?;
    let length = u32::from_le_bytes([a, b, c, d]);
    // A length is a claim: memory is taken as the bytes arrive.
    let mut payload = Vec::with_capacity((length as usize).min(ONE_WRITE_BYTES));
    let read = reader.take(length.into()).read_to_end(&mut payload)?;
    if read < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some((kind, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and is interrupted before each.
    struct Halting<'a> {
        bytes: &'a [u8],
        interrupted: bool,
    }

    impl Read for Halting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.interrupted = !self.interrupted;
            if self.interrupted {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = buffer.len().min(1);
            self.bytes.read(&mut buffer[..length])
        }
    }

    /// Counts its writes.
    #[derive(Default)]
    struct Counting {
        bytes: Vec<u8>,
        writes: usize,
    }

    impl Write for Counting {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.writes += 1;
            self.bytes.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn frames_come_back_as_they_were_written() {
        let large = vec![b'x'; ONE_WRITE_BYTES + 1];
        for kind in [
            Kind::Load,
            Kind::Invoke,
            Kind::Loaded,
            Kind::Value,
            Kind::Exception,
            Kind::Head,
            Kind::Piece,
            Kind::End,
        ] {
            for payload in [&b""[..], b"null", "\"ü\"".as_bytes(), &large] {
                let mut written = Vec::new();
                write_frame(&mut written, kind, payload).expect("a vector takes all");
                let mut reader = written.as_slice();
                let frame = read_frame(&mut reader).expect("a frame");
                assert_eq!(frame, Some((kind, payload.to_vec())));
                assert_eq!(read_frame(&mut reader).expect("the end"), None);
            }
        }
    }

    #[test]
    fn a_halting_reader_gives_the_same_frames() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Kind::Invoke, b"{}").expect("a vector takes all");
        write_frame(&mut bytes, Kind::Load, b"[1]").expect("a vector takes all");
        let mut reader = Halting {
            bytes: &bytes,
            interrupted: false,
        };
        let mut next = || read_frame(&mut reader).expect("a frame");
        assert_eq!(next(), Some((Kind::Invoke, b"{}".to_vec())));
        assert_eq!(next(), Some((Kind::Load, b"[1]".to_vec())));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_an_error() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Kind::Value, b"null").expect("a vector takes all");
        for end in 1..bytes.len() {
            let error = read_frame(&mut &bytes[..end]).expect_err("it is cut short");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end}");
        }
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let bytes = [0xff, 0xff, 0xff, 0xff, b'v', 1, 2, 3];
        let error = read_frame(&mut bytes.as_slice()).expect_err("it is cut short");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        let error = read_frame(&mut [0, 0, 0, 0, b'?'].as_slice()).expect_err("no such kind");
        assert_eq!(error.to_string(), "a frame of unknown kind 0x3f");
    }

    #[test]
    fn a_small_frame_is_one_write() {
        for (payload, writes) in [(ONE_WRITE_BYTES, 1), (ONE_WRITE_BYTES + 1, 2)] {
            let mut writer = Counting::default();
            write_frame(&mut writer, Kind::Value, &vec![b' '; payload]).expect("written");
            assert_eq!(writer.writes, writes);
            assert_eq!(writer.bytes.len(), HEADER_BYTES + payload);
        }
    }
}
