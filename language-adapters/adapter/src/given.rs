//! What a tenant says of its function beside the code, read the same for every runtime.

use std::collections::BTreeMap;

use refunction_protocol::Function;

use crate::Exception;

/// True if this is the function that the container's command names, as it was imported
/// into the template.
#[must_use]
pub fn is_imported(function: &Function, imported: &str) -> bool {
    !function.binary
        && function.code.trim().is_empty()
        && function.handler.as_deref() == Some(imported)
}

/// A handler's module and function.
///
/// # Errors
/// It is not of the form `module.function`.
pub fn split_handler(handler: &str) -> Result<(&str, &str), Exception> {
    handler
        .rsplit_once('.')
        .filter(|(module, function)| {
            !function.is_empty()
                && !function.contains('/')
                && !handler.contains('\0')
                && !module.is_empty()
                && module.split(['.', '/']).all(|part| !part.is_empty())
        })
        .ok_or_else(|| {
            Exception::refusal(
                "EntryNotFound",
                format!("the handler {handler:?} is not of the form module.function"),
            )
        })
}

/// Refuses variables that no environment can hold.
///
/// # Errors
/// Names the variable.
pub fn check_environment(environment: &BTreeMap<String, String>) -> Result<(), Exception> {
    for (name, value) in environment {
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("{name:?} cannot be the name of an environment variable");
            return Err(Exception::refusal("BadEnvironment", message));
        }
        if value.contains('\0') {
            let message = format!("the environment variable {name} holds a NUL");
            return Err(Exception::refusal("BadEnvironment", message));
        }
    }
    Ok(())
}

/// Names for a message, the first of many.
#[must_use]
pub fn listing(names: &[&str]) -> String {
    const MOST: usize = 20;
    if names.is_empty() {
        return "nothing".into();
    }
    let shown = names[..names.len().min(MOST)].join(", ");
    match names.len().checked_sub(MOST) {
        Some(more @ 1..) => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_are_a_module_and_a_function() {
        for (handler, expected) in [
            ("app.run", Some(("app", "run"))),
            ("src/app.run", Some(("src/app", "run"))),
            ("src.app.run", Some(("src.app", "run"))),
            ("run", None),
            (".run", None),
            ("app.", None),
            ("../app.run", None),
            ("app/run", None),
            ("a\0.run", None),
        ] {
            assert_eq!(split_handler(handler).ok(), expected, "{handler:?}");
        }
    }

    #[test]
    fn variables_that_cannot_be_are_named() {
        for (name, value, word) in [
            ("", "x", "\"\""),
            ("A=B", "x", "A=B"),
            ("A", "x\0", "A holds a NUL"),
        ] {
            let environment = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let refused = check_environment(&environment).expect_err("it cannot be set");
            assert!(refused.message.contains(word), "{}", refused.message);
        }
        let fine = BTreeMap::from([("A".to_owned(), String::new())]);
        assert_eq!(check_environment(&fine), Ok(()));
    }

    #[test]
    fn many_names_are_cut() {
        assert_eq!(listing(&[]), "nothing");
        assert_eq!(listing(&["a", "b"]), "a, b");
        assert!(listing(&["a"; 22]).ends_with("a, a and 2 more"));
    }
}
