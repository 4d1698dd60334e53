//! What functions really do, each in a size of about a tenth of a millisecond and in one of
//! more than a millisecond.

use serde_json::{Value, json};

/// A function in Python.
pub struct Real {
    /// What it does.
    pub name: &'static str,
    /// Libraries that it imports and that its template has.
    pub imports: &'static str,
    /// Its source.
    pub code: &'static str,
    /// How much of it takes about a tenth of a millisecond, and how much more than one.
    pub sizes: [u64; 2],
}

impl Real {
    /// An argument for that much of it.
    #[must_use]
    pub fn argument(size: u64) -> Value {
        json!({"size": size})
    }
}

/// All of them.
pub const REAL: [Real; 6] = [
    Real {
        name: "JSON",
        imports: "json",
        code: include_str!("../functions/documents.py"),
        sizes: [20, 300],
    },
    Real {
        name: "regular expressions",
        imports: "re",
        code: include_str!("../functions/expressions.py"),
        sizes: [20, 400],
    },
    Real {
        name: "image resize",
        imports: "PIL.Image",
        code: include_str!("../functions/images.py"),
        sizes: [20, 120],
    },
    Real {
        name: "SQLite",
        imports: "sqlite3",
        code: include_str!("../functions/tables.py"),
        sizes: [1, 500],
    },
    Real {
        name: "numpy",
        imports: "numpy",
        code: include_str!("../functions/arrays.py"),
        sizes: [5_000, 60_000],
    },
    Real {
        name: "template",
        imports: "jinja2",
        code: include_str!("../functions/pages.py"),
        sizes: [8, 150],
    },
];
