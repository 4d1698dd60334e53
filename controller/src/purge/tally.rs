//! What was done, told as it is done.

use std::fmt::Display;
use std::io::Write;

/// What was removed, and what was not.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) is_dry: bool,
    /// Control groups of containers that were removed. What was making one of them may have
    /// gone on for a moment, and have made the group anew.
    pub(super) groups: Vec<String>,
    done: u32,
    left: u32,
}

impl Tally {
    pub(super) fn new(is_dry: bool) -> Self {
        Self {
            is_dry,
            groups: Vec::new(),
            done: 0,
            left: 0,
        }
    }

    /// How much is left.
    pub(super) fn left(&self) -> u32 {
        self.left
    }

    /// Does it, unless only what would be done is asked for, and says so.
    pub(super) async fn remove<E: Display>(
        &mut self,
        what: impl Display,
        removing: impl Future<Output = Result<(), E>>,
    ) {
        if self.is_dry {
            self.done += 1;
            return say(format_args!("would remove {what}"));
        }
        match removing.await {
            Ok(()) => {
                self.done += 1;
                say(format_args!("removed {what}"));
            }
            Err(error) => self.leave(format_args!("{what}: {error}")),
        }
    }

    /// Something is left that should not be.
    pub(super) fn leave(&mut self, what: impl Display) {
        self.left += 1;
        eprintln!("refunctiond: left {what}");
    }

    /// Something is left as it is, and rightly so.
    pub(super) fn spare(&self, what: impl Display) {
        let left = if self.is_dry { "would leave" } else { "left" };
        say(format_args!("{left} {what}"));
    }

    /// The last line.
    pub(super) fn close(&self) {
        match (self.is_dry, self.done) {
            (_, 0) if self.left == 0 => say("nothing of refunction's is here"),
            (true, _) => say("nothing was changed"),
            (false, _) if self.left == 0 => say("nothing of refunction's is left"),
            (false, _) => {}
        }
    }
}

/// Whoever does not read it has the exit code.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
