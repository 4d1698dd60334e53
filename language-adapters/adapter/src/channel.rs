//! The pipe between a worker and its supervisor: frames of a little-endian `u32`
//! length, a kind byte, and that many bytes of JSON.
//!
//! | to the worker | JSON | answer | JSON |
//! |---|---|---|---|
//! | `L` load | a [`Function`](refunction_protocol::Function) | `l` loaded | `null`, or an [`Exception`](crate::Exception) |
//! | `I` invoke | an [`Invocation`](crate::Invocation) | `v` value | the result |
//! | | | `x` exception | an [`Exception`](crate::Exception) |
//!
//! What a worker writes is a tenant's word: the supervisor bounds it, checks it,
//! and takes it only as the answer to what it asked.

use std::io::{self, Read, Write};

/// Bytes before a frame's payload.
pub const HEADER_BYTES: usize = 5;

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
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
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
    // One write for small frames: each is a system call and a possible wake-up.
    let mut frame = Vec::with_capacity(HEADER_BYTES + payload.len());
    frame.extend_from_slice(&header(kind, payload.len())?);
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
    let mut payload = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
    reader.read_exact(&mut payload)?;
    Ok(Some((kind, payload)))
}
