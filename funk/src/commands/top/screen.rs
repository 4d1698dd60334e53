//! The terminal, while it shows nothing else.

use std::io::{self, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

use super::picture::Picture;
use crate::error::Error;

/// The other screen, and no cursor on it; and back.
const TAKE: &str = "\x1b[?1049h\x1b[?25l";
const GIVE_BACK: &str = "\x1b[?25h\x1b[?1049l";

/// To the first place; the rest of a line is cleared; the rest of the screen is.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K\r\n";
const REST: &str = "\x1b[J";

/// A terminal. What it showed before is there again when this is gone.
#[derive(Debug)]
pub(super) struct Screen {
    is_taken: bool,
}

impl Screen {
    /// If standard output is one.
    pub(super) fn of_terminal() -> Option<Self> {
        let is_terminal = io::stdout().is_terminal();
        is_terminal.then_some(Self { is_taken: false })
    }

    pub(super) fn take(mut self) -> Result<Self, Error> {
        self.is_taken = true;
        let mut out = io::stdout().lock();
        out.write_all(TAKE.as_bytes())?;
        out.flush()?;
        drop(out);
        Ok(self)
    }

    /// As much of it as there is room for.
    pub(super) fn show(&self, picture: &Picture) -> Result<(), Error> {
        let mut text = Vec::new();
        picture.write(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let mut out = io::stdout().lock();
        let (columns, rows) = match tcgetwinsize(&out) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => {
                (usize::from(size.ws_col), usize::from(size.ws_row))
            }
            _ => (80, 24),
        };
        out.write_all(fitted(&text, columns, rows).as_bytes())?;
        Ok(out.flush()?)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_taken {
            let mut out = io::stdout().lock();
            // There is nobody left to tell.
            let _ = out.write_all(GIVE_BACK.as_bytes());
            let _ = out.flush();
        }
    }
}

/// Cut to a screen's size, its last line left free, with what clears the rest.
fn fitted(text: &str, columns: usize, rows: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let room = rows.saturating_sub(1);
    let shown = if lines.len() > room {
        room.saturating_sub(1)
    } else {
        lines.len()
    };
    let mut screen = String::from(HOME);
    for line in &lines[..shown] {
        screen.extend(line.chars().take(columns));
        screen.push_str(END_OF_LINE);
    }
    if shown < lines.len() {
        let more = format!("… {} more lines", lines.len() - shown);
        screen.extend(more.chars().take(columns));
        screen.push_str(END_OF_LINE);
    }
    screen.push_str(REST);
    screen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_never_full() {
        let text = "first\nsecond\nthird\nfourth\n";
        let lines = |screen: &str| screen.matches(END_OF_LINE).count();
        let whole = fitted(text, 80, 24);
        assert_eq!(lines(&whole), 4);
        assert!(whole.ends_with(REST) && whole.starts_with(HOME));
        let cut = fitted(text, 3, 4);
        assert_eq!(lines(&cut), 3);
        assert!(cut.contains("fir\x1b") && !cut.contains("thi"), "{cut:?}");
        let cut = fitted(text, 80, 4);
        assert!(cut.contains("… 2 more lines"), "{cut:?}");
        assert_eq!(lines(&fitted(text, 80, 5)), 4);
        assert!(lines(&fitted(text, 80, 1)) <= 1);
    }
}
