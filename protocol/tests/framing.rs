//! The framing, against every way in which a stream may be cut.

use proptest::prelude::*;
use refunction_protocol::{LineTooLong, Lines};

fn all(lines: &mut Lines) -> Vec<Result<Vec<u8>, LineTooLong>> {
    std::iter::from_fn(|| lines.next_line()).collect()
}

proptest! {
    #[test]
    fn lines_do_not_depend_on_how_the_stream_was_cut(
        lines in prop::collection::vec("[a-z ]{0,40}", 0..20),
        cuts in prop::collection::vec(1usize..17, 1..40),
    ) {
        let stream: Vec<u8> = lines.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let mut reader = Lines::with_limit(64);
        let mut found = Vec::new();
        let mut rest = stream.as_slice();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            reader.feed(now);
            found.extend(all(&mut reader));
            rest = later;
        }
        let expected: Vec<_> = lines.iter().map(|line| Ok(line.clone().into_bytes())).collect();
        prop_assert_eq!(found, expected);
        prop_assert_eq!(reader.pending(), 0);
    }

    #[test]
    fn an_over_long_line_costs_one_error_and_no_memory(
        length in 65usize..5000,
        chunk in 1usize..700,
    ) {
        let mut reader = Lines::with_limit(64);
        let mut found = Vec::new();
        let mut stream = vec![b'x'; length];
        stream.extend_from_slice(b"\nnext\n");
        for part in stream.chunks(chunk) {
            reader.feed(part);
            found.extend(all(&mut reader));
            prop_assert!(reader.pending() <= 64);
        }
        prop_assert_eq!(found, vec![Err(LineTooLong { limit: 64 }), Ok(b"next".to_vec())]);
    }
}

#[test]
fn a_carriage_return_belongs_to_the_line_end() {
    let mut reader = Lines::default();
    reader.feed(b"a\r\nb\rc\n");
    assert_eq!(all(&mut reader), [Ok(b"a".to_vec()), Ok(b"b\rc".to_vec())]);
}

#[test]
fn a_line_of_the_limit_may_be_cut_before_its_end() {
    let mut reader = Lines::with_limit(4);
    let mut found = Vec::new();
    for part in [&b"abcd\r"[..], b"\n", b"abcd", b"\r\n", b"abcd\r", b"e\n"] {
        reader.feed(part);
        found.extend(all(&mut reader));
    }
    let line = Ok(b"abcd".to_vec());
    assert_eq!(found, [line.clone(), line, Err(LineTooLong { limit: 4 })]);
}
