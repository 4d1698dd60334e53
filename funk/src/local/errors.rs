//! What a supervisor, and a function that it imports, say on standard error.

use std::io::{self, Write};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::sync::watch;

/// What the supervisor's own lines begin with.
const ITS_OWN: &[u8] = b"refunction-supervisor: ";

/// Bytes of its last words that are kept.
const MOST: usize = 256 * 1024;

/// Passes on what comes, to its end. Until the supervisor is `started` its own words, and
/// what follows them, are kept back: if it does not start they are the reason, which is
/// given back, and whoever hears it says it.
pub(super) async fn pass_on(
    stream: impl AsyncRead + Unpin,
    mut started: watch::Receiver<bool>,
) -> String {
    let mut lines = BufReader::new(stream);
    let mut kept = Vec::new();
    let mut is_started = false;
    let mut line = Vec::new();
    loop {
        let read = tokio::select! {
            biased;
            changed = started.wait_for(|it| *it), if !is_started => {
                is_started = true;
                // Whoever would say so is gone otherwise, and wants the rest.
                if changed.is_ok() {
                    write(&std::mem::take(&mut kept));
                }
                continue;
            }
            // What was read of a line before another branch came stays in it.
            read = lines.read_until(b'\n', &mut line) => read,
        };
        if !matches!(read, Ok(1..)) {
            break;
        }
        let is_kept = !*started.borrow() && (!kept.is_empty() || line.starts_with(ITS_OWN));
        if is_kept && kept.len() < MOST {
            kept.extend_from_slice(&line);
        } else if !is_kept {
            write(&line);
        }
        line.clear();
    }
    let text = String::from_utf8_lossy(&kept);
    let own = String::from_utf8_lossy(ITS_OWN);
    text.trim_end().replace(&*own, "")
}

fn write(bytes: &[u8]) {
    // Without anybody who reads it there is nobody to tell.
    let _ = io::stderr().write_all(bytes);
}
