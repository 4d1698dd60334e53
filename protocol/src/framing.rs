//! Lines out of a byte stream, with a bound on what an unfinished one may hold.

use serde::Serialize;

/// Bytes that one message may have: Lambda's payload limit of 6 MiB as JSON text
/// in the worst case (every byte escaped as `\u00XX`), and the envelope.
pub const MAX_LINE_BYTES: usize = 6 * 6 * 1024 * 1024 + 64 * 1024;

/// Room that is kept for the next message; a long one's is given back.
const KEPT_BYTES: usize = 64 * 1024;

/// A message exceeded the limit; its bytes up to the next newline are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message is longer than {limit} bytes")]
pub struct LineTooLong {
    /// The limit that was in force.
    pub limit: usize,
}

/// Cuts a byte stream into lines; feed it what was read, take lines until none.
///
/// Invariant: `start <= scanned <= buffer.len()`, and `buffer[start..scanned]` has no
/// newline.
#[derive(Debug)]
pub struct Lines {
    buffer: Vec<u8>,
    // Of the line that comes next; what is before it was taken.
    start: usize,
    scanned: usize,
    limit: usize,
    // An over-long line was reported; its remaining bytes are not kept.
    discarding: bool,
}

impl Default for Lines {
    fn default() -> Self {
        Self::with_limit(MAX_LINE_BYTES)
    }
}

impl Lines {
    /// A reader that refuses lines of more than `limit` bytes.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            scanned: 0,
            limit,
            discarding: false,
        }
    }

    /// Takes in what was read.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes held of a line that has not ended.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The next whole line without its end (`\n`, or `\r\n`), if there is one.
    ///
    /// # Errors
    /// [`LineTooLong`], once for each over-long line.
    pub fn next_line(&mut self) -> Option<Result<Vec<u8>, LineTooLong>> {
        loop {
            let found = self.buffer[self.scanned..]
                .iter()
                .position(|byte| *byte == b'\n');
            let Some(offset) = found else {
                // Once for all the lines that were fed, however short they are.
                self.buffer.drain(..self.start);
                self.buffer.shrink_to(KEPT_BYTES);
                self.start = 0;
                self.scanned = self.buffer.len();
                // The newline that makes this part of the end may be still to come.
                let end = usize::from(self.buffer.last() == Some(&b'\r'));
                if self.discarding {
                    self.buffer.clear();
                    self.scanned = 0;
                } else if self.buffer.len() - end > self.limit {
                    self.buffer = Vec::new();
                    self.scanned = 0;
                    self.discarding = true;
                    return Some(Err(LineTooLong { limit: self.limit }));
                }
                return None;
            };
            let end = self.scanned + offset;
            let mut line = self.buffer[self.start..end].to_vec();
            self.start = end + 1;
            self.scanned = self.start;
            if std::mem::take(&mut self.discarding) {
                continue;
            }
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            if line.len() > self.limit {
                return Some(Err(LineTooLong { limit: self.limit }));
            }
            return Some(Ok(line));
        }
    }
}

/// One message as a line. A raw value inside may span lines as its author wrote
/// it; between JSON tokens a newline means nothing, and inside a string it cannot
/// stand unescaped, so blanking every one keeps the value and the framing.
pub(crate) fn line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("plain data always serializes");
    for byte in &mut line {
        if *byte == b'\n' || *byte == b'\r' {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}
