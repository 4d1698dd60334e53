//! Why a container ended, in a sentence a person can act on.

use std::fmt;

/// How a container's init ended, and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// How its init ended.
    pub status: Exit,
    /// The kernel killed it for memory.
    pub out_of_memory: bool,
    /// The most bytes that the container ever held.
    pub peak_bytes: Option<u64>,
    /// The bytes it might hold.
    pub limit_bytes: u64,
    /// The last lines that it printed itself.
    pub last_words: Vec<String>,
}

/// How a container's init ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With this code, 128 + n after signal n.
    Code(u32),
    /// Somebody removed the container.
    Removed,
    /// Nobody knows: it and its shim were gone when this daemon came.
    Unknown,
}

impl Ended {
    pub(super) fn removed() -> Self {
        Self {
            status: Exit::Removed,
            out_of_memory: false,
            peak_bytes: None,
            limit_bytes: 0,
            last_words: Vec::new(),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Exit::Removed => write!(f, "it was removed")?,
            Exit::Unknown => write!(
                f,
                "it no longer runs, and containerd does not know why; the host may have been restarted"
            )?,
            Exit::Code(_) if self.out_of_memory => {
                let limit = self.limit_bytes / (1024 * 1024);
                write!(f, "out of memory: it reached its limit of {limit} MiB")?;
                if let Some(peak) = self.peak_bytes {
                    write!(f, " (peak {} MiB)", peak.div_ceil(1024 * 1024))?;
                }
            }
            Exit::Code(status @ 129..=192) => {
                let signal = status - 128;
                let name = i32::try_from(signal)
                    .ok()
                    .and_then(|signal| nix::sys::signal::Signal::try_from(signal).ok());
                match name {
                    Some(name) => write!(f, "its init was killed by {name}")?,
                    None => write!(f, "its init was killed by signal {signal}")?,
                }
            }
            Exit::Code(126) => write!(f, "exit code 126: its entry point cannot be executed")?,
            Exit::Code(127) => write!(f, "exit code 127: its entry point was not found")?,
            Exit::Code(status) => write!(f, "its init exited with code {status}")?,
        }
        if !self.last_words.is_empty() {
            write!(f, "; its last words: {}", brief(&self.last_words))?;
        }
        Ok(())
    }
}

/// Characters of one line that stand in a sentence; all are in the log.
const MAX_LINE: usize = 200;

/// Lines as part of a sentence.
pub(super) fn brief(lines: &[String]) -> String {
    let cut = |line: &String| match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.clone(),
    };
    lines.iter().map(cut).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(status: u32) -> Ended {
        Ended {
            status: Exit::Code(status),
            ..Ended::removed()
        }
    }

    #[test]
    fn every_end_names_its_cause() {
        assert_eq!(ended(3).to_string(), "its init exited with code 3");
        assert_eq!(ended(139).to_string(), "its init was killed by SIGSEGV");
        let memory = Ended {
            out_of_memory: true,
            limit_bytes: 256 << 20,
            peak_bytes: Some(256 << 20),
            last_words: vec!["a".into(), "b".into()],
            ..ended(137)
        };
        assert_eq!(
            memory.to_string(),
            "out of memory: it reached its limit of 256 MiB (peak 256 MiB); its last words: a | b"
        );
    }
}
