//! The store itself, one call after the other; every change is one transaction.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior};

use super::function::{Definition, Digest, Function, check_name};
use super::{Change, Condition, Page, Put, StoreError, failed, schema};
use crate::logs::unix_ms;

/// How long the store may be another's at the start: a killed daemon takes a moment to be
/// gone.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that the log beside the database keeps when it is begun anew.
const LOG_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes of the disk that code leaves free: on one that is full to the last byte nothing
/// could be deleted either, since that, too, is written down first.
const RESERVE_BYTES: u64 = 512 * 1024;

/// Functions on a page.
const MOST_LISTED: usize = 1000;

/// Bytes of a setting as JSON.
const MOST_SETTING_BYTES: usize = 64 * 1024;

const COLUMNS: &str = "name, revision, image, code, is_binary, main, handler, env, deadline_ms, \
    memory_bytes, max_concurrency, keep_warm_s, created_unix_ms, updated_unix_ms";

/// An open store.
#[derive(Debug)]
pub(super) struct Tables {
    connection: Connection,
    path: PathBuf,
}

impl Tables {
    /// Opens it, and makes it if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = |source| StoreError::File {
            path: path.to_owned(),
            source,
        };
        // Functions' variables hold secrets; SQLite gives its other files the same mode.
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(path)
            .map_err(file)?;
        let opening = failed("opening", path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(&opening)?;
        let prepare = || {
            connection.busy_timeout(LOCK_PATIENCE)?;
            // Two daemons over one store would each miss what the other is told. The kernel
            // lets go of the lock when its holder dies.
            connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
            // Asked before anything is written: a foreign file stays as it is.
            connection.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0))?;
            connection.pragma_update(None, "foreign_keys", true)?;
            connection.pragma_update(None, "trusted_schema", false)
        };
        prepare().map_err(&opening)?;
        schema::migrate(&mut connection, path)?;
        let prepare = || {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // FULL, not NORMAL, with which a deployment that was acknowledged could be lost
            // when the power fails: there are few, and each can wait for the disk.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
            // Small tables only. Code is as large as it is, and checked when it is read.
            ["functions", "settings", "counter"]
                .iter()
                .find_map(|table| {
                    let sql = format!("PRAGMA quick_check({table})");
                    let found = connection.query_row(&sql, [], |row| row.get::<_, String>(0));
                    (found.as_deref() != Ok("ok")).then_some(found)
                })
                .transpose()
        };
        match prepare().map_err(&opening)? {
            None => Ok(Self {
                connection,
                path: path.to_owned(),
            }),
            Some(what) => Err(StoreError::Damaged {
                path: path.to_owned(),
                what,
            }),
        }
    }

    fn damaged(&self, what: impl Into<String>) -> StoreError {
        StoreError::Damaged {
            path: self.path.clone(),
            what: what.into(),
        }
    }

    /// Carries out a change, whole or not at all.
    fn change<T>(
        &mut self,
        doing: &'static str,
        steps: impl FnOnce(&Transaction<'_>) -> Result<T, Stop>,
    ) -> Result<T, StoreError> {
        let run = || {
            let transaction = self
                .connection
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = steps(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        let result = run().map_err(|stop| match stop {
            Stop::Refused(error) => error,
            Stop::Failed(error) => failed(doing, &self.path)(error),
        });
        if matches!(result, Err(StoreError::NoSpace { .. })) {
            // What it had written so far would go on taking the room.
            self.shorten();
        }
        result
    }

    /// Brings the log's content into the database, and gives its room back. It is no harm if
    /// that fails: both are read together.
    fn shorten(&self) {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let done = self.connection.query_row(sql, [], |_| Ok(()));
        if let Err(error) = done {
            tracing::debug!(%error, "the store's log stays as long as it is");
        }
    }

    /// Code is written to the log, and from there to the database, which has room of its own
    /// where others were deleted.
    fn check_room(&self, code_bytes: usize) -> Result<(), StoreError> {
        let Ok(disk) = statvfs(&self.path) else {
            // Then it will be seen.
            return Ok(());
        };
        let number = |name: &str| -> Result<u64, StoreError> {
            self.connection
                .pragma_query_value(None, name, |row| row.get(0))
                .map_err(failed("measuring", &self.path))
        };
        let own = number("freelist_count")? * number("page_size")?;
        let code_bytes = code_bytes as u64;
        let wanted = code_bytes + code_bytes.saturating_sub(own) + RESERVE_BYTES;
        if disk.blocks_available() * disk.fragment_size() < wanted {
            return Err(StoreError::NoSpace {
                path: self.path.clone(),
            });
        }
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        name: &str,
        definition: Definition,
        code: &[u8],
        condition: Condition,
    ) -> Result<Put, StoreError> {
        check_name(name)?;
        definition.check(code)?;
        let digest = Digest::of(code);
        let env = serde_json::to_string(&definition.env)
            .map_err(|error| StoreError::Invalid(error.to_string()))?;
        // The log is then only what this writes: should the disk be full, all of it can go.
        self.shorten();
        self.check_room(code.len())?;
        self.change("storing a function in", |transaction| {
            let before = find(transaction, name)?;
            condition.check(name, before.as_ref())?;
            // Also if it is there: damaged code is mended by putting it once more.
            transaction.execute(
                "INSERT INTO code (digest, bytes) VALUES (?1, ?2) ON CONFLICT (digest)
                 DO UPDATE SET bytes = excluded.bytes WHERE bytes IS NOT excluded.bytes",
                (digest.as_bytes(), code),
            )?;
            if let Some(function) = before
                .as_ref()
                .filter(|it| it.definition == definition && it.code == digest)
            {
                return Ok(Put {
                    function: function.clone(),
                    change: Change::Unchanged,
                });
            }
            let revision: i64 = transaction.query_row(
                "UPDATE counter SET revision = revision + 1 RETURNING revision",
                [],
                |row| row.get(0),
            )?;
            let now = unix_ms();
            let created = before.as_ref().map_or(now, |it| it.created_unix_ms);
            let stored = transaction.query_row(
                &format!(
                    "INSERT OR REPLACE INTO functions ({COLUMNS}) VALUES
                     (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
                     RETURNING {COLUMNS}"
                ),
                (
                    name,
                    revision,
                    &definition.image,
                    digest.as_bytes(),
                    definition.binary,
                    &definition.main,
                    &definition.handler,
                    env,
                    definition.deadline_ms,
                    definition.memory_bytes,
                    definition.max_concurrency,
                    definition.keep_warm_s,
                    created,
                    now,
                ),
                function,
            )?;
            let change = match before {
                None => Change::Created,
                Some(before) => {
                    forget(transaction, before.code)?;
                    Change::Updated
                }
            };
            Ok(Put {
                function: stored,
                change,
            })
        })
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Function>, StoreError> {
        find(&self.connection, name).map_err(failed("reading a function of", &self.path))
    }

    pub(super) fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let limit = limit.clamp(1, MOST_LISTED);
        let read = || {
            // One more than asked for, to see whether there are more.
            let sql =
                format!("SELECT {COLUMNS} FROM functions WHERE name > ?1 ORDER BY name LIMIT ?2");
            let mut statement = self.connection.prepare(&sql)?;
            // No name is empty.
            let rows = statement.query_map((after.unwrap_or(""), limit + 1), function)?;
            rows.collect::<Result<Vec<_>, _>>()
        };
        let mut functions = read().map_err(failed("listing the functions of", &self.path))?;
        let is_more = functions.len() > limit;
        functions.truncate(limit);
        Ok(Page {
            next: functions
                .last()
                .filter(|_| is_more)
                .map(|last| last.name.clone()),
            functions,
        })
    }

    pub(super) fn delete(
        &mut self,
        name: &str,
        condition: Condition,
    ) -> Result<Option<Function>, StoreError> {
        self.change("deleting a function of", |transaction| {
            let before = find(transaction, name)?;
            condition.check(name, before.as_ref())?;
            if let Some(before) = &before {
                transaction.execute("DELETE FROM functions WHERE name = ?1", [name])?;
                forget(transaction, before.code)?;
            }
            Ok(before)
        })
    }

    pub(super) fn code(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = "SELECT bytes FROM code WHERE digest = ?1";
        let bytes: Option<Vec<u8>> = self
            .connection
            .query_row(sql, [digest.as_bytes()], |row| row.get(0))
            .optional()
            .map_err(failed("reading code of", &self.path))?;
        if let Some(bytes) = &bytes {
            let found = Digest::of(bytes);
            if found != digest {
                return Err(self.damaged(format!(
                    "the code {digest} has become {found}; deploying it once more mends it"
                )));
            }
        }
        Ok(bytes)
    }

    pub(super) fn setting(&self, key: &str) -> Result<Option<serde_json::Value>, StoreError> {
        let sql = "SELECT value FROM settings WHERE key = ?1";
        let text: Option<String> = self
            .connection
            .query_row(sql, [key], |row| row.get(0))
            .optional()
            .map_err(failed("reading a setting of", &self.path))?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| self.damaged(format!("the setting {key:?} is not JSON: {error}")))
    }

    pub(super) fn put_setting(
        &mut self,
        key: &str,
        value: &serde_json::Value,
    ) -> Result<(), StoreError> {
        check_name(key)?;
        let text = value.to_string();
        if text.len() > MOST_SETTING_BYTES {
            return Err(StoreError::Invalid(format!(
                "the setting {key:?} takes {} bytes; the limit is {MOST_SETTING_BYTES}",
                text.len()
            )));
        }
        self.change("storing a setting in", |transaction| {
            transaction.execute(
                "INSERT OR REPLACE INTO settings (key, value) VALUES (?1, ?2)",
                (key, text),
            )?;
            Ok(())
        })
    }
}

/// Why a change was not made.
enum Stop {
    Refused(StoreError),
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Function>> {
    connection
        .prepare(&format!("SELECT {COLUMNS} FROM functions WHERE name = ?1"))?
        .query_row([name], function)
        .optional()
}

/// Removes code that no function has any more.
fn forget(transaction: &Transaction<'_>, code: Digest) -> rusqlite::Result<()> {
    transaction.execute(
        "DELETE FROM code WHERE digest = ?1
         AND NOT EXISTS (SELECT 1 FROM functions WHERE functions.code = ?1)",
        [code.as_bytes()],
    )?;
    Ok(())
}

/// A row of [`COLUMNS`].
fn function(row: &Row<'_>) -> rusqlite::Result<Function> {
    let env: String = row.get("env")?;
    let env = serde_json::from_str(&env).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, error.into())
    })?;
    Ok(Function {
        name: row.get("name")?,
        definition: Definition {
            image: row.get("image")?,
            binary: row.get("is_binary")?,
            main: row.get("main")?,
            handler: row.get("handler")?,
            env,
            deadline_ms: row.get("deadline_ms")?,
            memory_bytes: row.get("memory_bytes")?,
            max_concurrency: row.get("max_concurrency")?,
            keep_warm_s: row.get("keep_warm_s")?,
        },
        code: Digest::from_bytes(row.get("code")?),
        revision: row.get("revision")?,
        created_unix_ms: row.get("created_unix_ms")?,
        updated_unix_ms: row.get("updated_unix_ms")?,
    })
}
