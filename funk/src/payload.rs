//! What goes to a function: its code, and the JSON it is called with.

use std::io::{self, Read};
use std::path::Path;

use base64::Engine as _;
use serde_json::value::RawValue;

use crate::error::Error;

/// Reads a request: JSON itself, `@FILE`, or `-` for standard input. It is checked
/// here, so that a slip is found before anything is sent, and kept as it was written.
pub(crate) fn request(text: &str) -> Result<String, Error> {
    let (json, origin) = match text {
        "-" => (standard_input()?, "standard input".to_owned()),
        _ => match text.strip_prefix('@') {
            Some(path) => {
                let bytes = std::fs::read(path)
                    .map_err(|error| Error::file("reading", Path::new(path), &error))?;
                (bytes, path.to_owned())
            }
            None => (text.as_bytes().to_vec(), "the request".to_owned()),
        },
    };
    let json = String::from_utf8(json)
        .map_err(|error| Error::Usage(format!("{origin} is not UTF-8 text: {error}")))?;
    match serde_json::from_str::<&RawValue>(&json) {
        Ok(_) => Ok(json),
        Err(error) => Err(Error::Usage(format!(
            "{origin} is not JSON: {error}{}",
            pointer(&json, error.line(), error.column())
        ))),
    }
}

/// The line that is wrong, and a mark under the place.
fn pointer(json: &str, line: usize, column: usize) -> String {
    let Some(text) = line.checked_sub(1).and_then(|line| json.lines().nth(line)) else {
        return String::new();
    };
    if text.chars().count() > 120 {
        return String::new();
    }
    // The column counts bytes, the terminal characters.
    let before = text
        .as_bytes()
        .get(..column.saturating_sub(1))
        .unwrap_or(text.as_bytes());
    let blanks = String::from_utf8_lossy(before).chars().count();
    format!("\n  {text}\n  {}^", " ".repeat(blanks))
}

/// A function's code, ready to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// Source text, or a base64 zip.
    pub(crate) text: String,
    /// It is the latter.
    pub(crate) binary: bool,
}

impl Code {
    /// Source text, or the archive itself.
    pub(crate) fn into_bytes(self) -> Result<Vec<u8>, Error> {
        if !self.binary {
            return Ok(self.text.into_bytes());
        }
        base64::engine::general_purpose::STANDARD
            .decode(self.text)
            .map_err(|error| Error::Here(format!("the archive: {error}")))
    }
}

/// Reads a function: a file, `-` for standard input, or the source itself.
pub(crate) fn code(given: &str, binary: bool) -> Result<Code, Error> {
    if given == "-" {
        return from_bytes(standard_input()?, binary, "standard input");
    }
    match std::fs::read(given) {
        Ok(bytes) => from_bytes(bytes, binary, given),
        Err(error) if looks_like_a_file(given) => {
            Err(Error::file("reading", Path::new(given), &error))
        }
        Err(_) if binary => Err(Error::Usage(format!(
            "there is no archive {given:?}; --binary takes a file or -"
        ))),
        Err(_) => Ok(Code {
            text: given.to_owned(),
            binary: false,
        }),
    }
}

/// Reads a function from a file and nothing else.
pub(crate) fn code_of_file(file: &Path) -> Result<Code, Error> {
    let bytes = std::fs::read(file).map_err(|error| Error::file("reading", file, &error))?;
    from_bytes(bytes, false, &file.display().to_string())
}

/// Source text has blanks or brackets; a name that has neither was meant as a file.
fn looks_like_a_file(given: &str) -> bool {
    given.len() < 4096 && !given.contains(|c: char| c.is_whitespace() || "()=;{}'\"".contains(c))
}

fn from_bytes(bytes: Vec<u8>, binary: bool, origin: &str) -> Result<Code, Error> {
    // The first bytes of an archive, and of a class of Java's, whatever the file is called.
    const MAGIC: [&[u8]; 3] = [b"PK\x03\x04", b"PK\x05\x06", b"\xca\xfe\xba\xbe"];
    if binary || MAGIC.iter().any(|magic| bytes.starts_with(magic)) {
        return Ok(Code {
            text: base64::engine::general_purpose::STANDARD.encode(bytes),
            binary: true,
        });
    }
    String::from_utf8(bytes)
        .map(|text| Code {
            text,
            binary: false,
        })
        .map_err(|_| {
            Error::Usage(format!(
                "{origin} is neither source text in UTF-8, nor a zip archive, nor a class file"
            ))
        })
}

fn standard_input() -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .map_err(|error| Error::Here(format!("reading standard input: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_kept_as_it_was_written() {
        for json in [
            "123456789012345678901234567890",
            "1.10",
            " { \"a\" : 1e400 } ",
            "\"ü\"",
            "null",
        ] {
            assert_eq!(request(json).unwrap(), json);
        }
    }

    #[test]
    fn a_slip_is_shown_where_it_is() {
        let error = request("{\"a\": 1,}").unwrap_err();
        assert_eq!(error.exit(), crate::error::Exit::Usage);
        let text = error.to_string();
        assert!(text.contains("line 1 column 9"), "{text}");
        assert!(text.ends_with("\n  {\"a\": 1,}\n          ^"), "{text}");
        assert!(request("").is_err());
        assert!(request("{} {}").is_err());
        assert!(
            request("@/nonexistent.json")
                .unwrap_err()
                .to_string()
                .contains("nonexistent")
        );
    }

    #[test]
    fn code_is_a_file_or_itself() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("f.py");
        std::fs::write(&source, "def main(a): return a").unwrap();
        let zip = directory.path().join("f.bin");
        std::fs::write(&zip, b"PK\x03\x04rest").unwrap();
        let read = |given: &str| code(given, false);
        assert!(!read(source.to_str().unwrap()).unwrap().binary);
        let archive = read(zip.to_str().unwrap()).unwrap();
        assert_eq!(
            (archive.text.as_str(), archive.binary),
            ("UEsDBHJlc3Q=", true)
        );
        let itself = "def main(a):\n  return a";
        assert_eq!(read(itself).unwrap().text, itself);
        assert!(read("missing.py").is_err());
        std::fs::write(&zip, [0xff, 0xfe]).unwrap();
        assert!(read(zip.to_str().unwrap()).is_err());
        assert!(code(zip.to_str().unwrap(), true).unwrap().binary);
    }
}
