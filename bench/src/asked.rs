//! What a benchmark is asked to measure, and how much of it.

use crate::Failure;

/// The arguments of a benchmark: names of what it measures, all if there is none, and
/// `--quick`.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    names: Vec<String>,
    /// Few samples of everything: enough to see that it works, not to quote.
    pub is_quick: bool,
}

impl Asked {
    /// What this program was started with; `known` are the names that there are.
    ///
    /// # Errors
    /// A name is not known.
    pub fn of_arguments(known: &[&str]) -> Result<Self, Failure> {
        Self::of(std::env::args().skip(1), known)
    }

    /// What these arguments say.
    ///
    /// # Errors
    /// A name is not known.
    pub fn of(arguments: impl Iterator<Item = String>, known: &[&str]) -> Result<Self, Failure> {
        let (options, names): (Vec<_>, Vec<_>) =
            arguments.partition(|argument| argument.starts_with("--"));
        if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
            let known = known.join(", ");
            return Err(
                format!("there is nothing to measure called {name:?}, only {known}").into(),
            );
        }
        Ok(Self {
            names,
            is_quick: options.iter().any(|option| option == "--quick"),
        })
    }

    /// True if this is to be measured.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|it| it == name)
    }

    /// The one, or the other where little time is to be taken.
    #[must_use]
    pub fn either<T>(&self, usual: T, quick: T) -> T {
        if self.is_quick { quick } else { usual }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(arguments: &[&str]) -> Result<Asked, Failure> {
        Asked::of(arguments.iter().map(ToString::to_string), &["12", "pages"])
    }

    #[test]
    fn without_a_name_everything_is_measured() {
        let asked = asked(&["--bench"]).expect("no name is wrong");
        assert!(asked.includes("12") && asked.includes("pages"));
        assert_eq!(asked.either(50, 2), 50);
    }

    #[test]
    fn with_a_name_only_that_is() {
        let asked = asked(&["--bench", "--quick", "pages"]).expect("it is known");
        assert!(!asked.includes("12") && asked.includes("pages"));
        assert_eq!(asked.either(50, 2), 2);
    }

    #[test]
    fn a_name_that_nobody_knows_is_named() {
        let error = asked(&["13"]).expect_err("it is not known").to_string();
        assert!(
            error.contains("\"13\"") && error.contains("12, pages"),
            "{error}"
        );
    }
}
