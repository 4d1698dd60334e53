//! The schema's versions, and the way from each to the next.

use std::path::Path;

use rusqlite::Connection;

use super::{StoreError, failed};

/// Stands in the file's head, so that another program's database is told from ours.
const APPLICATION: i32 = i32::from_be_bytes(*b"refn");

/// Each brings the version of its place to the next; none is ever changed once released.
const MIGRATIONS: [&str; 1] = [
    // Code has a row number of its own: large values and `WITHOUT ROWID` do not go together.
    "CREATE TABLE code (
        digest BLOB NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
        bytes BLOB NOT NULL
    ) STRICT;
    CREATE TABLE functions (
        name TEXT NOT NULL PRIMARY KEY,
        revision INTEGER NOT NULL UNIQUE,
        image TEXT NOT NULL,
        code BLOB NOT NULL REFERENCES code (digest),
        is_binary INTEGER NOT NULL,
        main TEXT,
        handler TEXT,
        env TEXT NOT NULL,
        deadline_ms INTEGER,
        memory_bytes INTEGER,
        max_concurrency INTEGER,
        keep_warm_s INTEGER,
        created_unix_ms INTEGER NOT NULL,
        updated_unix_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX functions_by_code ON functions (code);
    CREATE TABLE settings (
        key TEXT NOT NULL PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE counter (
        id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
        revision INTEGER NOT NULL
    ) STRICT;
    INSERT INTO counter (id, revision) VALUES (1, 0);",
];

/// Has the file be of the version that this program knows.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let doing = "reading the version of";
    let number = |name: &str| -> Result<i32, StoreError> {
        connection
            .pragma_query_value(None, name, |row| row.get(0))
            .map_err(failed(doing, path))
    };
    let (application, version) = (number("application_id")?, number("user_version")?);
    let is_empty: bool = connection
        .query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| {
            row.get(0)
        })
        .map_err(failed(doing, path))?;
    // A daemon that was killed at its very first start leaves an empty file.
    let is_new = is_empty && application == 0 && version == 0;
    if !is_new && application != APPLICATION {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
        });
    }
    let known = MIGRATIONS.len();
    let steps = usize::try_from(version)
        .ok()
        .and_then(|version| MIGRATIONS.get(version..))
        .ok_or_else(|| StoreError::Newer {
            path: path.to_owned(),
            found: version,
            known,
        })?;
    if steps.is_empty() {
        return Ok(());
    }
    let mut upgrade = || {
        let transaction = connection.transaction()?;
        for step in steps {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()
    };
    upgrade().map_err(failed("bringing up to date", path))
}
