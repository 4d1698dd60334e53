//! Which handler is left out, and the note that it was.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::handlers::is_named;

/// A handler's name, and after an `@` the file that is to say that it was asked for.
const VARIABLE: &str = "REFUNCTION_SABOTAGE";

struct Chosen {
    handler: String,
    note: Option<PathBuf>,
}

static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
static NOTED: AtomicBool = AtomicBool::new(false);

/// Chooses for this process, whatever its environment says; the first choice counts.
pub fn choose(what: &str) {
    CHOSEN.get_or_init(|| parse(what));
}

fn parse(what: &str) -> Option<Chosen> {
    let (handler, note) = what.split_once('@').unwrap_or((what, ""));
    (!handler.is_empty()).then(|| Chosen {
        handler: handler.to_owned(),
        note: (!note.is_empty()).then(|| note.into()),
    })
}

/// True if this handler, of the engine or of whoever uses it, is to be left out; then
/// a note says that somebody asked. One that nobody asks for has no test to pass.
pub fn is_chosen(handler: &str) -> bool {
    let chosen = CHOSEN.get_or_init(|| parse(&std::env::var(VARIABLE).unwrap_or_default()));
    let Some(chosen) = chosen.as_ref().filter(|it| it.handler == handler) else {
        return false;
    };
    if let Some(note) = &chosen.note
        && !NOTED.swap(true, Ordering::Relaxed)
    {
        // A worker may ask that can write nowhere; another process asks too, then.
        let _ = File::options()
            .append(true)
            .open(note)
            .and_then(|mut note| note.write_all(b"asked\n"));
    }
    true
}

/// True if this handler of the engine's is to be left out.
///
/// # Panics
/// No list has it: it would never be tried.
pub(crate) fn leaves_out(handler: &str) -> bool {
    // Without a list made for it: workers ask too, and their memory is looked at.
    assert!(is_named(handler), "no list has the handler {handler}");
    is_chosen(handler)
}
