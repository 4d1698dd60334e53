//! Which modules a function's source imports as soon as it is loaded: read from its text,
//! because nothing of a tenant's runs before there is a worker for it.

/// The top-level names of what is imported by statements that stand in no block. Of
/// anything that is no Python something or nothing is found.
#[must_use]
pub fn imported(source: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for statement in statements(source) {
        for name in of_statement(&statement) {
            let is_new = !name.is_empty() && !names.iter().any(|known| known == name);
            if is_new && name.chars().all(|it| it == '_' || it.is_alphanumeric()) {
                names.push(name.to_owned());
            }
        }
    }
    names
}

fn of_statement(statement: &str) -> Vec<&str> {
    let mut words = statement.splitn(2, char::is_whitespace);
    let (Some(keyword), Some(rest)) = (words.next(), words.next()) else {
        return Vec::new();
    };
    let top = |dotted: &'_ str| -> usize { dotted.find('.').unwrap_or(dotted.len()) };
    let first_word = |text: &str| text.find(char::is_whitespace).unwrap_or(text.len());
    match keyword {
        "import" => rest
            .split(',')
            .map(|one| {
                let one = one.trim();
                let dotted = &one[..first_word(one)];
                &dotted[..top(dotted)]
            })
            .collect(),
        "from" => {
            let rest = rest.trim_start();
            let dotted = &rest[..first_word(rest)];
            // From a package of its own, where it begins with a dot.
            vec![&dotted[..top(dotted)]]
        }
        _ => Vec::new(),
    }
}

/// Statements that begin at the left edge, without texts and comments, each on one line.
fn statements(source: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut statement = String::new();
    let mut depth = 0_usize;
    let mut is_indented = false;
    let mut rest = source.trim_start_matches('\u{feff}');
    let mut is_at_start = true;
    while let Some(next) = rest.chars().next() {
        if is_at_start {
            is_at_start = false;
            is_indented = next == ' ' || next == '\t';
        }
        match next {
            '"' | '\'' => {
                rest = behind_text(rest);
                statement.push('"');
                continue;
            }
            '#' => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            '\\' if rest[1..].trim_start_matches('\r').starts_with('\n') => {
                statement.push(' ');
                rest = &rest[rest.find('\n').map_or(rest.len(), |at| at + 1)..];
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '\n' | ';' if depth == 0 => {
                let ended = std::mem::take(&mut statement);
                if !is_indented && !ended.trim().is_empty() {
                    all.push(ended.trim().to_owned());
                }
                is_at_start = next == '\n';
                rest = &rest[1..];
                continue;
            }
            _ => {}
        }
        statement.push(if next.is_whitespace() { ' ' } else { next });
        rest = &rest[next.len_utf8()..];
    }
    if !is_indented && !statement.trim().is_empty() {
        all.push(statement.trim().to_owned());
    }
    all
}

/// What follows the text that `rest` begins with.
fn behind_text(rest: &str) -> &str {
    let quote = &rest[..1];
    let long = quote.repeat(3);
    let (end, start) = if rest.starts_with(&long) {
        (long.as_str(), 3)
    } else {
        (quote, 1)
    };
    let mut at = start;
    while at < rest.len() {
        let here = &rest[at..];
        if here.starts_with(end) {
            return &here[end.len()..];
        }
        let mut characters = here.chars();
        let Some(character) = characters.next() else {
            break;
        };
        match character {
            '\\' => at += 1 + characters.next().map_or(0, char::len_utf8),
            // Only a long text goes on behind the end of its line.
            '\n' if end.len() == 1 => return here,
            _ => at += character.len_utf8(),
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::imported;

    #[test]
    fn statements_at_the_left_edge_count() {
        let source = "\
import json, numpy as np
import pandas.core.frame
from sqlalchemy.orm import (
    Session,  # import not_this
    relationship,
)
import os; import scipy
from . import sibling
from .near import thing
import \\
    django
x = 1; from yaml import load
if True:
    import indented
";
        let found = [
            "json",
            "numpy",
            "pandas",
            "sqlalchemy",
            "os",
            "scipy",
            "django",
            "yaml",
        ];
        assert_eq!(imported(source), found);
    }

    #[test]
    fn texts_and_comments_do_not() {
        let source = "'''\nimport a\n'''\n# import b\nx = \"\"\"\\\"\"\"\nimport c\n\"\"\"\ny = 'it\\'s'\nimport d\nz = [\nimport_e,\n]\nimportant = 1\n";
        assert_eq!(imported(source), ["d"]);
    }

    #[test]
    fn whatever_is_sent_is_read_to_its_end() {
        for source in [
            "",
            "import",
            "from",
            "import ,,",
            "'",
            "\"\"\"",
            "\\",
            "'\\",
            "import ü, 'a",
            "from  x",
            "\u{feff}import a",
            "import a\r\nimport b",
        ] {
            let found = imported(source);
            assert!(found.iter().all(|name| !name.is_empty()), "{source:?}");
        }
        assert_eq!(imported("\u{feff}import a\r\nimport b"), ["a", "b"]);
    }
}
