//! What a function prints, as lines: always read, never held without bound.

use refunction_protocol::Stream;

/// Bytes of one line that are kept.
pub(crate) const MAX_LINE: usize = 64 * 1024;

/// Bytes of lines that are kept for one request.
pub(crate) const MAX_REQUEST: usize = 1024 * 1024;

/// What a line counts beside its bytes: each is a message of its own.
const LINE_COST: usize = 32;

/// A line, and whether something of it is missing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) text: String,
    pub(crate) truncated: bool,
}

/// Cuts one stream into lines.
pub(crate) struct LineCutter {
    pub(crate) stream: Stream,
    partial: Vec<u8>,
    overflowed: bool,
    kept: usize,
    /// The request's share is used up, and its last line said so.
    silenced: bool,
}

impl LineCutter {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            partial: Vec::new(),
            overflowed: false,
            kept: 0,
            silenced: false,
        }
    }

    /// Takes in what was read, and gives the lines that it ended.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], lines: &mut Vec<Line>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.keep(&bytes[..end]);
            self.end_line(lines);
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// Ends the request: an unfinished line is a line, and the next request has a
    /// share of its own.
    pub(crate) fn end_request(&mut self, lines: &mut Vec<Line>) {
        if !self.partial.is_empty() || self.overflowed {
            self.end_line(lines);
        }
        self.kept = 0;
        self.silenced = false;
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_LINE - self.partial.len();
        self.partial
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.overflowed |= bytes.len() > room;
    }

    fn end_line(&mut self, lines: &mut Vec<Line>) {
        let bytes = std::mem::take(&mut self.partial);
        let mut truncated = std::mem::take(&mut self.overflowed);
        if self.silenced {
            return;
        }
        self.kept += bytes.len() + LINE_COST;
        if self.kept > MAX_REQUEST {
            self.silenced = true;
            truncated = true;
        }
        let text = bytes.strip_suffix(b"\r").unwrap_or(&bytes);
        lines.push(Line {
            text: String::from_utf8_lossy(text).into_owned(),
            truncated,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> Vec<Line> {
        let mut cutter = LineCutter::new(Stream::Stdout);
        let mut lines = Vec::new();
        for piece in pieces {
            cutter.feed(piece, &mut lines);
        }
        cutter.end_request(&mut lines);
        lines
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_come_whole_whatever_the_reads_were() {
        let lines = cut(&[b"on", b"e\ntwo\r\n", b"\nthree"]);
        assert_eq!(texts(&lines), ["one", "two", "", "three"]);
        assert!(lines.iter().all(|line| !line.truncated));
    }

    #[test]
    fn a_long_line_is_cut_and_marked() {
        let long = vec![b'x'; MAX_LINE + 1];
        let lines = cut(&[&long, b"yy\nshort\n"]);
        assert_eq!(lines[0].text.len(), MAX_LINE);
        assert!(lines[0].truncated);
        assert_eq!(lines[1].text, "short");
        assert!(!lines[1].truncated);
    }

    #[test]
    fn a_flood_ends_with_a_mark() {
        let line = [b'x'; 1024];
        let mut flood = Vec::new();
        for _ in 0..3000 {
            flood.extend_from_slice(&line);
            flood.push(b'\n');
        }
        let lines = cut(&[&flood]);
        assert!(lines.len() < 1100);
        assert!(lines.last().unwrap().truncated);
    }

    #[test]
    fn a_flood_of_empty_lines_ends_early() {
        let lines = cut(&[&vec![b'\n'; MAX_REQUEST]]);
        assert!(lines.len() <= MAX_REQUEST / LINE_COST + 1);
        assert!(lines.last().unwrap().truncated);
    }

    #[test]
    fn bytes_that_are_not_text_are_replaced() {
        assert_eq!(texts(&cut(&[b"a\xffb\n"])), ["a\u{fffd}b"]);
    }
}
