//! What is cut out of a stream must not depend on how the stream was cut by reads.

use std::io::{self, ErrorKind, Read, Write};

use nix::unistd::{Gid, Uid};
use refunction_adapter::channel::{read_frame, write_frame};
use refunction_protocol::{LineTooLong, Lines, Stream};

use crate::logs::{Line, LineCutter, MAX_LINE, MAX_REQUEST};
use crate::pipes::{BadFrame, MAX_RESPONSE, Pipes};

/// The stream in pieces of uneven length; the first byte says which.
fn pieces(input: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let Some((first, stream)) = input.split_first() else {
        return (Vec::new(), input);
    };
    let mut pieces = Vec::new();
    let mut rest = stream;
    let mut length = usize::from(*first);
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.len().min(1 + length % 23));
        pieces.push(piece);
        rest = more;
        length += 7;
    }
    (pieces, stream)
}

/// Lines of the control channel, with a limit that the first byte gives.
pub fn lines(input: &[u8]) {
    let Some((limit, input)) = input.split_first() else {
        return;
    };
    let limit = usize::from(*limit);
    let (pieces, stream) = pieces(input);
    let mut reader = Lines::with_limit(limit);
    let mut found = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        while let Some(line) = reader.next_line() {
            found.push(line);
        }
        // A carriage return may yet turn out to belong to the end.
        assert!(reader.pending() <= limit + 1, "{}", reader.pending());
    }
    let (whole, rest) = match stream.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => (&stream[..end], &stream[end + 1..]),
        None => (&stream[..0], stream),
    };
    let mut expected: Vec<_> = whole
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .map(|line| match line.len() <= limit {
            true => Ok(line.to_vec()),
            false => Err(LineTooLong { limit }),
        })
        .collect();
    if rest.len() == stream.len() {
        // Nothing has ended, but `split` gives one empty piece of nothing.
        expected.clear();
    }
    if found.len() > expected.len() {
        // Of what has not ended only this can be said, and only if it is true.
        assert_eq!(found.pop(), Some(Err(LineTooLong { limit })));
        assert!(rest.len() > limit);
    } else {
        assert!(rest.len() <= limit + 1);
    }
    assert_eq!(found, expected);
}

/// Gives its pieces one by one, and is interrupted before each.
struct Halting<'a> {
    pieces: std::vec::IntoIter<&'a [u8]>,
    now: &'a [u8],
    interrupted: bool,
}

impl Read for Halting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(ErrorKind::Interrupted.into());
        }
        if self.now.is_empty() {
            self.now = self.pieces.next().unwrap_or_default();
        }
        self.now.read(buffer)
    }
}

/// Frames, as a worker reads them.
pub fn frames(input: &[u8]) {
    let (pieces, mut stream) = pieces(input);
    let mut halting = Halting {
        pieces: pieces.into_iter(),
        now: &[],
        interrupted: false,
    };
    loop {
        let before = stream;
        let whole = read_frame(&mut stream);
        let pieced = read_frame(&mut halting);
        match (whole, pieced) {
            (Ok(Some(frame)), Ok(pieced)) => {
                let mut written = Vec::new();
                write_frame(&mut written, frame.0, &frame.1).expect("a vector takes all");
                assert_eq!(written, before[..before.len() - stream.len()]);
                assert_eq!(pieced, Some(frame));
            }
            (Ok(None), Ok(None)) => {
                assert!(before.is_empty());
                return;
            }
            (Err(whole), Err(pieced)) => {
                assert_eq!(whole.to_string(), pieced.to_string());
                return;
            }
            (whole, pieced) => panic!("{whole:?} at once, {pieced:?} in pieces"),
        }
    }
}

/// Frames, as the supervisor reads them out of a real pipe: a tenant writes there.
pub fn answers(input: &[u8]) {
    // Less than a pipe holds, or writing would wait for ever.
    let (pieces, stream) = pieces(&input[..input.len().min(4096)]);
    let owner = (Uid::effective(), Gid::effective());
    let (mut pipes, ends) = Pipes::open(owner).expect("pipes");
    let mut worker: std::fs::File = ends.as_fds()[4]
        .try_clone_to_owned()
        .expect("a descriptor")
        .into();
    drop(ends);
    let mut found = Ok(None);
    for piece in pieces {
        worker.write_all(piece).expect("a pipe with room");
        found = pipes.receive();
        if !matches!(found, Ok(None)) {
            break;
        }
    }
    let claimed = stream
        .first_chunk::<4>()
        .map_or(0, |it| u32::from_le_bytes(*it) as usize);
    match (read_frame(&mut &*stream), &found) {
        (Ok(Some(expected)), Ok(Some(found))) => assert_eq!(*found, expected),
        (Ok(None), Ok(None)) => {}
        (Err(error), Err(BadFrame::Kind(kind))) => {
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert_eq!(stream[4], *kind);
        }
        (Err(error), Err(BadFrame::TooLong(length))) => {
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert!(*length == claimed && claimed > MAX_RESPONSE);
        }
        // The rest is still to come.
        (Err(error), Ok(None)) => {
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert!(stream.len() < 5 || claimed <= MAX_RESPONSE);
        }
        (expected, found) => panic!("{found:?} instead of {expected:?}"),
    }
    if matches!(found, Ok(None)) {
        drop(worker);
        assert!(matches!(pipes.receive(), Err(BadFrame::Closed)));
    }
}

/// What a function prints, near the limits: the first byte says how many bytes of the
/// line are left, the second how many long lines came before.
pub fn logs(input: &[u8]) {
    let Some(([left, before], input)) = input.split_first_chunk() else {
        return;
    };
    let mut printed = vec![b'x'; MAX_LINE - 1];
    printed.push(b'\n');
    let mut printed = printed.repeat(usize::from(*before) % (MAX_REQUEST / MAX_LINE + 2));
    if *left > 0 {
        printed.resize(printed.len() + MAX_LINE - usize::from(*left), b'x');
    }
    let (pieces, stream) = pieces(input);
    let mut in_pieces = LineCutter::new(Stream::Stdout);
    let mut whole = LineCutter::new(Stream::Stdout);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    in_pieces.feed(&printed, &mut found);
    for piece in pieces {
        in_pieces.feed(piece, &mut found);
    }
    printed.extend_from_slice(stream);
    whole.feed(&printed, &mut expected);
    in_pieces.end_request(&mut found);
    whole.end_request(&mut expected);
    assert_eq!(found, expected);
    is_bounded(&found);
    // The next request starts with nothing of this one's.
    let before = found.len();
    in_pieces.feed(b"next\n", &mut found);
    let next = Line {
        text: "next".into(),
        truncated: false,
    };
    assert_eq!(found[before..], [next]);
}

fn is_bounded(lines: &[Line]) {
    // What is no text is replaced by three bytes.
    let bytes: usize = lines.iter().map(|line| line.text.len()).sum();
    assert!(bytes <= 3 * (MAX_REQUEST + MAX_LINE));
    assert!(lines.len() <= MAX_REQUEST + 1);
    assert!(lines.iter().all(|line| line.text.len() <= 3 * MAX_LINE));
    assert!(lines.iter().all(|line| !line.text.contains('\n')));
}
