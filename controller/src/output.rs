//! What a container's init prints outside the control channel: two files that
//! containerd's shim appends to, read as they grow and cut when they are long.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use refunction_protocol::Lines;
use tracing::warn;

use crate::logs::{LogRing, Source};
use crate::watch::DirectoryWatch;

/// Bytes that one file may reach before it is cut to nothing. The shim appends,
/// so it goes on at the new end.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Bytes of one line that are kept.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// Reads one container's output files into its log.
#[derive(Debug)]
pub(crate) struct Output {
    directory: PathBuf,
    files: Mutex<[Tail; 2]>,
    logs: Arc<LogRing>,
}

#[derive(Debug)]
struct Tail {
    path: PathBuf,
    offset: u64,
    lines: Lines,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            lines: Lines::with_limit(MAX_LINE_BYTES),
        }
    }

    fn read(&mut self, logs: &LogRing) -> io::Result<()> {
        let mut file = match File::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            self.offset += read as u64;
            self.lines.feed(&buffer[..read]);
            while let Some(line) = self.lines.next_line() {
                match line {
                    Ok(line) => {
                        let text = String::from_utf8_lossy(&line).into_owned();
                        logs.push(Source::Supervisor, None, text, false);
                    }
                    Err(_) => {
                        let text = format!("[a line of more than {MAX_LINE_BYTES} bytes]");
                        logs.push(Source::Supervisor, None, text, true);
                    }
                }
            }
        }
        if self.offset > MAX_FILE_BYTES {
            OpenOptions::new()
                .write(true)
                .open(&self.path)?
                .set_len(0)?;
            self.offset = 0;
        }
        Ok(())
    }
}

impl Output {
    /// The files in a directory of their own.
    pub(crate) fn new(directory: &Path, logs: Arc<LogRing>) -> Self {
        Self {
            directory: directory.to_owned(),
            files: Mutex::new(["stdout", "stderr"].map(|name| Tail::new(directory.join(name)))),
            logs,
        }
    }

    /// Where the shim shall write, as it takes it: descriptors 1 and 2.
    pub(crate) fn urls(&self) -> [String; 2] {
        ["stdout", "stderr"].map(|name| format!("file://{}", self.directory.join(name).display()))
    }

    /// Reads what is there.
    pub(crate) fn read(&self) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for file in files.iter_mut() {
            if let Err(error) = file.read(&self.logs) {
                warn!(file = %file.path.display(), %error, "cannot read a container's output");
            }
        }
    }

    /// Reads what is left after the init's end, an unfinished line too.
    pub(crate) fn finish(&self) {
        self.read();
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for file in files.iter_mut().filter(|file| file.lines.pending() > 0) {
            file.lines.feed(b"\n");
            if let Some(Ok(line)) = file.lines.next_line() {
                let text = String::from_utf8_lossy(&line).into_owned();
                self.logs.push(Source::Supervisor, None, text, false);
            }
        }
    }

    /// Reads what comes, until the task is aborted.
    pub(crate) async fn follow(&self) {
        let mut watch = match DirectoryWatch::writes(&self.directory) {
            Ok(watch) => watch,
            Err(error) => {
                warn!(%error, "cannot watch a container's output");
                return;
            }
        };
        loop {
            self.read();
            if watch.changed().await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_are_read_once_and_a_long_file_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Arc::new(LogRing::default());
        let output = Output::new(directory.path(), Arc::clone(&logs));
        output.read();
        let path = directory.path().join("stderr");
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(b"one\ntw").unwrap();
        output.read();
        file.write_all(b"o\n").unwrap();
        output.read();
        assert_eq!(logs.last_words(9), ["one", "two"]);
        for _ in 0..20_000 {
            file.write_all(&[b'x'; 100]).unwrap();
            file.write_all(b"\n").unwrap();
        }
        output.read();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        file.write_all(b"after\n").unwrap();
        output.read();
        assert_eq!(logs.last_words(1), ["after"]);
    }
}
