//! `/proc/<pid>/maps` (proc_pid_maps(5)), read fast.
//!
//! The text is compared before it is parsed: a worker that mapped nothing shows
//! the same bytes as at its ready point, and then there is nothing to look at.

use std::sync::Arc;

use crate::span::Span;

/// Access rights, as `PROT_READ | PROT_WRITE | PROT_EXEC`.
pub(crate) type Protection = libc::c_int;

/// What stands behind a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Backing {
    /// Nothing: zero pages. The kernel's pet names (`[heap]`, `[anon:…]`) move
    /// with the break and are not part of it.
    Anonymous,
    /// The main stack, which grows by itself.
    Stack,
    /// A file at an offset; a memfd too.
    File {
        device: (u32, u32),
        inode: u64,
        offset: u64,
    },
    /// The kernel's own: vdso, vvar, vsyscall.
    Kernel,
}

impl Backing {
    /// The same backing, `by` bytes further in.
    pub(crate) fn advanced(&self, by: u64) -> Self {
        match self {
            Self::File {
                device,
                inode,
                offset,
            } => Self::File {
                device: *device,
                inode: *inode,
                offset: offset + by,
            },
            other => other.clone(),
        }
    }
}

/// One line of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) span: Span,
    pub(crate) protection: Protection,
    pub(crate) shared: bool,
    pub(crate) backing: Backing,
    pub(crate) name: Arc<str>,
}

impl Mapping {
    /// True if what was never written in it reads as zeros.
    pub(crate) fn is_anonymous(&self) -> bool {
        matches!(self.backing, Backing::Anonymous | Backing::Stack)
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.protection & libc::PROT_WRITE != 0
    }
}

/// A line that is not as proc_pid_maps(5) says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the mapping list cannot be read: {line:?}")]
pub(crate) struct BadLine {
    line: String,
}

/// Reads every line.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<Mapping>, BadLine> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse_line(line).ok_or_else(|| BadLine {
                line: String::from_utf8_lossy(line).into_owned(),
            })
        })
        .collect()
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut cursor = Cursor(line);
    let start = cursor.hex(b'-')?;
    let end = cursor.hex(b' ')?;
    let flags = cursor.take(5)?;
    let offset = cursor.hex(b' ')?;
    let major = u32::try_from(cursor.hex(b':')?).ok()?;
    let minor = u32::try_from(cursor.hex(b' ')?).ok()?;
    let inode = cursor.decimal()?;
    let name = cursor.0.trim_ascii_start();
    if start >= end || start % crate::span::PAGE != 0 || end % crate::span::PAGE != 0 {
        return None;
    }
    let right = |at: usize, letter: u8, bit| if flags[at] == letter { bit } else { 0 };
    let backing = match name {
        b"[stack]" => Backing::Stack,
        // The vsyscall page is outside every process; vvar may have siblings.
        _ if name.starts_with(b"[v") => Backing::Kernel,
        _ if inode == 0 => Backing::Anonymous,
        _ => Backing::File {
            device: (major, minor),
            inode,
            offset,
        },
    };
    Some(Mapping {
        span: Span { start, end },
        protection: right(0, b'r', libc::PROT_READ)
            | right(1, b'w', libc::PROT_WRITE)
            | right(2, b'x', libc::PROT_EXEC),
        shared: flags[3] == b's',
        backing,
        name: String::from_utf8_lossy(name).into(),
    })
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn hex(&mut self, end: u8) -> Option<u64> {
        let mut value = 0u64;
        for (at, byte) in self.0.iter().enumerate() {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ if *byte == end && at > 0 => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                _ => return None,
            };
            value = value.checked_mul(16)? + u64::from(digit);
        }
        None
    }

    fn decimal(&mut self) -> Option<u64> {
        let digits = self
            .0
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        std::str::from_utf8(self.take(digits)?).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_kind_of_line() {
        let text = b"\
55d0c0a000-55d0c0b000 r-xp 00001000 fe:00 131 /usr/bin/with a space\n\
55d0c0b000-55d0c0d000 rw-p 00000000 00:00 0                          [heap]\n\
7f00000000-7f00001000 rw-s 00002000 00:01 77 /memfd:image (deleted)\n\
7ffd000000-7ffd021000 rw-p 00000000 00:00 0                          [stack]\n\
7ffd0fe000-7ffd100000 r-xp 00000000 00:00 0                          [vdso]\n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
        let all = parse(text).unwrap();
        assert_eq!(all.len(), 6);
        assert_eq!(&*all[0].name, "/usr/bin/with a space");
        assert_eq!(all[0].protection, libc::PROT_READ | libc::PROT_EXEC);
        assert_eq!(
            all[0].backing,
            Backing::File {
                device: (0xfe, 0),
                inode: 131,
                offset: 0x1000
            }
        );
        assert_eq!(all[1].backing, Backing::Anonymous);
        assert!(all[2].shared && all[2].is_writable());
        assert_eq!(all[3].backing, Backing::Stack);
        assert_eq!(all[4].backing, Backing::Kernel);
        assert_eq!(all[5].backing, Backing::Kernel);
    }

    #[test]
    fn the_own_list_is_readable() {
        let text = std::fs::read("/proc/self/maps").unwrap();
        let lines = text.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(parse(&text).unwrap().len(), lines);
    }

    #[test]
    fn nonsense_is_named() {
        let error = parse(b"zz-10 rw-p 0 00:00 0\n").unwrap_err();
        assert!(error.to_string().contains("zz-10"));
    }
}
