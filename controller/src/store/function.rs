//! What is kept of a named function, and what it may be.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use refunction_protocol::{Command, Limits, MAX_LINE_BYTES};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::StoreError;

/// Characters of a function's name, or of a setting's.
const MOST_NAME: usize = 64;

/// Characters of an image's name, an entry's, a handler's.
const MOST_WORD: usize = 512;

/// Bytes of a function's variables, names and values together.
pub const MOST_ENVIRONMENT_BYTES: usize = 16 * 1024;

/// Milliseconds that a call may take: a week. More is a mistake in the unit.
const MOST_DEADLINE_MS: u64 = 7 * 24 * 3600 * 1000;

/// Seconds that a container may be kept for a function: a year, for the same reason.
const MOST_KEEP_WARM_S: u64 = 365 * 24 * 3600;

/// Bytes of memory: more than any host has, and still a number of SQLite's.
const MOST_MEMORY_BYTES: u64 = 1 << 50;

/// What code is known by: the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// As it stands in the store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(to, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, to)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not of the form sha256:<64 hexadecimal digits>");
        let hex = text.strip_prefix("sha256:").ok_or_else(wrong)?;
        if hex.len() != 64 || !hex.bytes().all(|it| it.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What its author says of a function, beside its name and its code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The image whose containers run it.
    pub image: String,
    /// True if the code is a zip archive, false if it is source text.
    #[serde(default)]
    pub binary: bool,
    /// The entry: a function's name, called as `main(args)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<String>,
    /// The entry as `module.function`, called as `handler(event, context)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
    /// Its environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Milliseconds a call may take unless it names its own deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Bytes of memory that a container for it has; the pool's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Calls of it that may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Seconds for which an idle container keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_warm_s: Option<u64>,
}

impl Definition {
    /// What a supervisor is sent to load it; `code` is the code itself.
    #[must_use]
    pub fn to_load(&self, code: &[u8]) -> refunction_protocol::Function {
        refunction_protocol::Function {
            code: if self.binary {
                STANDARD.encode(code)
            } else {
                // It was checked when it was put.
                String::from_utf8_lossy(code).into_owned()
            },
            binary: self.binary,
            main: self.main.clone(),
            handler: self.handler.clone(),
            env: self.env.clone(),
            limits: Limits {
                deadline_ms: self.deadline_ms,
            },
            // Those that its source shows.
            libraries: None,
        }
    }

    /// Refuses what no container could load, before anybody waits for one.
    pub(super) fn check(&self, code: &[u8]) -> Result<(), StoreError> {
        let refuse = |reason: String| Err(StoreError::Invalid(reason));
        for (what, word) in [
            ("image", Some(&self.image)),
            ("main", self.main.as_ref()),
            ("handler", self.handler.as_ref()),
        ] {
            let Some(word) = word else { continue };
            if word.is_empty()
                || word.chars().count() > MOST_WORD
                || word.contains(char::is_control)
            {
                return refuse(format!(
                    "{word:?} cannot be {what:?}: it takes 1 to {MOST_WORD} printable characters"
                ));
            }
        }
        let mut taken = 0;
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return refuse(format!(
                    "{name:?} cannot be the name of an environment variable"
                ));
            }
            if value.contains('\0') {
                return refuse(format!("the environment variable {name} holds a NUL"));
            }
            taken += name.len() + value.len();
        }
        if taken > MOST_ENVIRONMENT_BYTES {
            return refuse(format!(
                "the environment variables take {taken} bytes; the limit is {MOST_ENVIRONMENT_BYTES}"
            ));
        }
        for (what, number, most) in [
            ("deadline_ms", self.deadline_ms, MOST_DEADLINE_MS),
            ("memory_bytes", self.memory_bytes, MOST_MEMORY_BYTES),
            (
                "max_concurrency",
                self.max_concurrency.map(u64::from),
                u32::MAX.into(),
            ),
        ] {
            if number.is_some_and(|number| number == 0 || number > most) {
                return refuse(format!("{what} is a number from 1 to {most}"));
            }
        }
        if self.keep_warm_s.is_some_and(|it| it > MOST_KEEP_WARM_S) {
            return refuse(format!(
                "keep_warm_s is a number from 0 to {MOST_KEEP_WARM_S}"
            ));
        }
        if !self.binary
            && let Err(error) = std::str::from_utf8(code)
        {
            return refuse(format!(
                "the code is neither a binary nor UTF-8 text: {error}"
            ));
        }
        self.check_size(code)
    }

    /// A supervisor takes a function as one line.
    fn check_size(&self, code: &[u8]) -> Result<(), StoreError> {
        let too_large = StoreError::TooLarge { bytes: code.len() };
        if code.len() > MAX_LINE_BYTES {
            return Err(too_large);
        }
        let line = Command::Function(Box::new(self.to_load(code))).to_line();
        // Without the line's end.
        if line.len() - 1 > MAX_LINE_BYTES {
            return Err(too_large);
        }
        Ok(())
    }
}

/// A function as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What its author says of it.
    #[serde(flatten)]
    pub definition: Definition,
    /// Its code; [`Store::code`](super::Store::code) has the bytes. Whoever reads this as JSON
    /// and puts it back is not to deploy the digest.
    #[serde(rename = "code_digest")]
    pub code: Digest,
    /// Grows with each change of any function: no two states of a name ever have the same,
    /// not even if it was deleted in between.
    pub revision: u64,
    /// Milliseconds since the Unix epoch.
    pub created_unix_ms: i64,
    /// Milliseconds since the Unix epoch.
    pub updated_unix_ms: i64,
}

/// Refuses a name that could not stand in a path, a header, a metric and a log line.
///
/// # Errors
/// Says what a name is.
pub fn check_name(name: &str) -> Result<(), StoreError> {
    let mut bytes = name.bytes();
    let fits = name.len() <= MOST_NAME
        && bytes.next().is_some_and(|it| it.is_ascii_alphanumeric())
        && bytes.all(|it| it.is_ascii_alphanumeric() || matches!(it, b'_' | b'.' | b'-'));
    if fits {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "{name:?} cannot be a name: it takes 1 to {MOST_NAME} letters, digits, dots, dashes and underscores, the first a letter or a digit"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(definition: &Definition, code: &[u8]) -> String {
        match definition.check(code) {
            Ok(()) => panic!("it was taken"),
            Err(error) => error.to_string(),
        }
    }

    fn python() -> Definition {
        Definition {
            image: "refunction/python".into(),
            ..Definition::default()
        }
    }

    #[test]
    fn names_can_stand_anywhere() {
        let longest = "x".repeat(MOST_NAME);
        for name in ["a", "0", "Hello-World_2.py", &longest] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
        let longer = "x".repeat(MOST_NAME + 1);
        for name in [
            "", ".", "-a", "_a", "a/b", "a b", "ä", "a\n", "a\0", &longer,
        ] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"def main(args): return args");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        let short = &digest.to_string()[..70];
        let multibyte = format!("sha256:{}", "ä".repeat(32));
        for wrong in ["", "sha256:", short, &multibyte, "md5:00"] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_no_container_could_load_is_refused_by_its_name() {
        let with = |change: fn(&mut Definition)| {
            let mut definition = python();
            change(&mut definition);
            refused(&definition, b"x")
        };
        assert!(python().check(b"x").is_ok());
        assert!(with(|it| it.image.clear()).contains("image"));
        assert!(with(|it| it.main = Some("a\nb".into())).contains("main"));
        assert!(with(|it| it.handler = Some(String::new())).contains("handler"));
        assert!(with(|it| it.deadline_ms = Some(0)).contains("deadline_ms"));
        assert!(with(|it| it.memory_bytes = Some(u64::MAX)).contains("memory_bytes"));
        assert!(with(|it| it.max_concurrency = Some(0)).contains("max_concurrency"));
        assert!(with(|it| it.keep_warm_s = Some(u64::MAX)).contains("keep_warm_s"));
        for name in ["", "a=b", "a\0b"] {
            let mut definition = python();
            definition.env.insert(name.into(), "value".into());
            assert!(refused(&definition, b"x").contains("environment"));
        }
        assert!(with(|it| drop(it.env.insert("A".into(), "\0".into()))).contains("NUL"));
        let long = "x".repeat(MOST_ENVIRONMENT_BYTES);
        let mut definition = python();
        definition.env.insert("A".into(), long[1..].into());
        assert!(definition.check(b"x").is_ok());
        definition.env.insert("A".into(), long);
        assert!(refused(&definition, b"x").contains("limit"));
    }

    #[test]
    fn source_is_text_and_a_binary_need_not_be() {
        assert!(refused(&python(), b"\xff").contains("UTF-8"));
        let archive = Definition {
            binary: true,
            ..python()
        };
        assert!(archive.check(b"\xff").is_ok());
        assert_eq!(archive.to_load(b"\xff").code, "/w==");
    }

    #[test]
    fn code_is_as_large_as_a_supervisor_takes() {
        // What is left when the message without code is taken off.
        let room = |definition: &Definition| {
            let bare = Command::Function(Box::new(definition.to_load(b""))).to_line();
            MAX_LINE_BYTES - (bare.len() - 1)
        };
        let mut code = vec![b'x'; room(&python())];
        assert!(python().check(&code).is_ok());
        code.push(b'x');
        assert!(matches!(
            python().check(&code),
            Err(StoreError::TooLarge { .. })
        ));
        // Each of these takes six bytes on the line.
        let escaped = vec![1; room(&python()) / 6 + 1];
        assert!(matches!(
            python().check(&escaped),
            Err(StoreError::TooLarge { .. })
        ));
        let archive = Definition {
            binary: true,
            ..python()
        };
        let mut code = vec![0; room(&archive) / 4 * 3];
        assert!(archive.check(&code).is_ok());
        code.push(0);
        assert!(archive.check(&code).is_err());
    }
}
