//! One handler of an adapter's left out on purpose, to see which test notices
//! (docs/mutants.md). Without the feature `sabotage` nothing can be.

#[cfg(feature = "sabotage")]
pub use chosen::{altered, choose, leaves_out};

/// What can be left out: its name, and how its row of docs/restore.md begins.
pub type Handler = (&'static str, &'static str);

/// A handler that is in the text of an adapter's half in its own language: what stands there,
/// once, and what stands there without the handler.
pub struct Lines {
    /// Its name.
    pub handler: &'static str,
    /// What stands there.
    pub with: &'static str,
    /// What stands there instead.
    pub without: &'static str,
}

/// True if this handler, which is one of these, is the one to be left out.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn leaves_out(_handlers: &[Handler], _handler: &str) -> bool {
    false
}

/// A text of an adapter's without the handler that was chosen.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn altered<'a>(text: &'a str, _lines: &[Lines]) -> std::borrow::Cow<'a, str> {
    std::borrow::Cow::Borrowed(text)
}

#[cfg(feature = "sabotage")]
mod chosen {
    use std::borrow::Cow;
    use std::sync::OnceLock;

    use super::{Handler, Lines};

    static CHOSEN: OnceLock<fn(&str) -> bool> = OnceLock::new();

    /// Has this say which handler is left out, instead of the environment.
    pub fn choose(is_chosen: fn(&str) -> bool) {
        CHOSEN.get_or_init(|| is_chosen);
    }

    fn is_in_environment(handler: &str) -> bool {
        let chosen = std::env::var("REFUNCTION_SABOTAGE").unwrap_or_default();
        chosen.split('@').next() == Some(handler)
    }

    fn is_chosen(handler: &str) -> bool {
        CHOSEN.get_or_init(|| is_in_environment)(handler)
    }

    /// See the other one.
    ///
    /// # Panics
    /// The list has not got it: it would never be tried.
    #[must_use]
    pub fn leaves_out(handlers: &[Handler], handler: &str) -> bool {
        let is_listed = handlers.iter().any(|(name, _)| *name == handler);
        assert!(is_listed, "no list has the handler {handler}");
        is_chosen(handler)
    }

    /// See the other one.
    ///
    /// # Panics
    /// The lines of a handler are not there as they are given.
    #[must_use]
    pub fn altered<'a>(text: &'a str, lines: &[Lines]) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for it in lines {
            assert_eq!(text.matches(it.with).count(), 1, "{}", it.handler);
            if is_chosen(it.handler) {
                text = Cow::Owned(text.replace(it.with, it.without));
            }
        }
        text
    }
}
