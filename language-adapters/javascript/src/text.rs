//! Bytes and text, for `TextDecoder`, `atob` and `btoa`: the encodings of the web that need
//! no tables.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// What a decoder made of some bytes.
pub(crate) struct Decoded {
    pub(crate) text: String,
    /// How many of the bytes are in the text; the others begin a character.
    pub(crate) used: usize,
    /// Something stood for nothing, and U+FFFD stands for it.
    pub(crate) malformed: bool,
}

/// An encoding by one of its labels (<https://encoding.spec.whatwg.org/#names-and-labels>).
pub(crate) fn encoding(label: &str) -> Option<&'static str> {
    Some(match label.trim().to_ascii_lowercase().as_str() {
        "utf-8" | "utf8" | "unicode-1-1-utf-8" | "unicode11utf8" | "unicode20utf8"
        | "x-unicode20utf8" => "utf-8",
        "utf-16le" | "utf-16" | "ucs-2" | "csunicode" | "iso-10646-ucs-2" | "unicode"
        | "unicodefeff" => "utf-16le",
        "utf-16be" | "unicodefffe" => "utf-16be",
        "windows-1252" | "ascii" | "us-ascii" | "latin1" | "l1" | "iso-8859-1" | "iso8859-1"
        | "iso88591" | "iso_8859-1" | "cp1252" | "cp819" | "x-cp1252" | "ibm819"
        | "ansi_x3.4-1968" | "csisolatin1" | "iso-ir-100" | "iso_8859-1:1987" => "windows-1252",
        _ => return None,
    })
}

/// Decodes; bytes at the end that only begin a character are left, unless no more come.
pub(crate) fn decode(encoding: &str, bytes: &[u8], is_last: bool) -> Decoded {
    match encoding {
        "utf-16le" => utf16(bytes, is_last, u16::from_le_bytes),
        "utf-16be" => utf16(bytes, is_last, u16::from_be_bytes),
        "windows-1252" => Decoded {
            text: bytes.iter().map(|byte| windows_1252(*byte)).collect(),
            used: bytes.len(),
            malformed: false,
        },
        _ => utf8(bytes, is_last),
    }
}

fn utf8(bytes: &[u8], is_last: bool) -> Decoded {
    let mut used = bytes.len();
    if !is_last
        && let Some(chunk) = bytes.utf8_chunks().last()
        && !chunk.invalid().is_empty()
        && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none())
    {
        used -= chunk.invalid().len();
    }
    let text = String::from_utf8_lossy(&bytes[..used]);
    Decoded {
        malformed: matches!(text, std::borrow::Cow::Owned(_)),
        text: text.into_owned(),
        used,
    }
}

fn utf16(bytes: &[u8], is_last: bool, unit: fn([u8; 2]) -> u16) -> Decoded {
    let mut units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| unit([pair[0], pair[1]]))
        .collect();
    let mut malformed = false;
    if is_last {
        malformed = bytes.len() % 2 == 1;
    } else if units
        .last()
        .is_some_and(|unit| (0xd800..0xdc00).contains(unit))
    {
        units.pop();
    }
    let used = if is_last {
        bytes.len()
    } else {
        units.len() * 2
    };
    let mut text: String = char::decode_utf16(units)
        .map(|character| {
            character.unwrap_or_else(|_| {
                malformed = true;
                char::REPLACEMENT_CHARACTER
            })
        })
        .collect();
    if is_last && bytes.len() % 2 == 1 {
        text.push(char::REPLACEMENT_CHARACTER);
    }
    Decoded {
        text,
        used,
        malformed,
    }
}

/// What Latin-1 has as controls, Windows uses.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// As <https://infra.spec.whatwg.org/#forgiving-base64-decode> has it.
const FORGIVING: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// The bytes that a text in base64 stands for, each as a character.
pub(crate) fn from_base64(text: &str) -> Option<String> {
    let packed: String = text
        .chars()
        .filter(|c| !matches!(c, '\t' | '\n' | '\x0c' | '\r' | ' '))
        .collect();
    let mut packed = packed.as_str();
    if packed.len().is_multiple_of(4) {
        packed = packed.strip_suffix('=').unwrap_or(packed);
        packed = packed.strip_suffix('=').unwrap_or(packed);
    }
    let bytes = FORGIVING.decode(packed).ok()?;
    Some(bytes.into_iter().map(char::from).collect())
}

/// Characters that are bytes as base64; `None` if one is none.
pub(crate) fn to_base64(text: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
    Some(base64::engine::general_purpose::STANDARD.encode(bytes?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes at once, and cut in two at each place.
    fn in_pieces(encoding: &str, bytes: &[u8]) -> String {
        let whole = decode(encoding, bytes, true);
        assert_eq!(whole.used, bytes.len());
        for cut in 0..=bytes.len() {
            let first = decode(encoding, &bytes[..cut], false);
            let rest = decode(encoding, &bytes[first.used..], true);
            assert_eq!(
                first.text + &rest.text,
                whole.text,
                "{encoding} cut at {cut}"
            );
        }
        whole.text
    }

    #[test]
    fn a_stream_gives_what_the_whole_gives() {
        assert_eq!(in_pieces("utf-8", "aü☃𝄞z".as_bytes()), "aü☃𝄞z");
        let units: Vec<u16> = "aü☃𝄞z".encode_utf16().collect();
        let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        assert_eq!(in_pieces("utf-16le", &little), "aü☃𝄞z");
        assert_eq!(in_pieces("utf-16be", &big), "aü☃𝄞z");
        assert_eq!(in_pieces("windows-1252", b"\x80\xfc"), "€ü");
    }

    #[test]
    fn what_stands_for_nothing_is_noticed() {
        for (encoding, bytes) in [
            ("utf-8", &b"a\xff"[..]),
            ("utf-8", b"a\xe2\x98"),
            ("utf-16le", b"a\0\0\xd8"),
            ("utf-16le", b"a\0b"),
        ] {
            let decoded = decode(encoding, bytes, true);
            assert!(decoded.malformed, "{encoding} {bytes:?}");
            assert!(decoded.text.starts_with("a\u{fffd}"), "{:?}", decoded.text);
        }
        assert!(!decode("utf-8", "a\u{fffd}".as_bytes(), true).malformed);
    }

    #[test]
    fn labels_are_the_webs() {
        assert_eq!(encoding(" UTF8 "), Some("utf-8"));
        assert_eq!(encoding("latin1"), Some("windows-1252"));
        assert_eq!(encoding("shift_jis"), None);
    }
}
