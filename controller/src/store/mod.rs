//! What refunctiond remembers: functions, their code, and settings.
//!
//! One SQLite file below the root directory. [`Store`] hands each call to a thread of its
//! own, which carries it out in [`tables`]: a caller that is dropped meanwhile loses its
//! answer, not the change. Whatever kills the daemon, a change is there whole or not at all,
//! and one that was answered is there.

mod function;
mod schema;
mod tables;

use std::fmt;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

pub use function::{Definition, Digest, Function, MOST_ENVIRONMENT_BYTES, check_name};
use tables::Tables;

/// The file's name below the root directory.
const FILE: &str = "refunction.db";

/// Calls that wait for the thread; more wait to be handed over.
const MOST_WAITING: usize = 64;

/// Why something is not stored, or not found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It could not be used by anybody.
    #[error("{0}")]
    Invalid(String),
    /// No supervisor would take it.
    #[error(
        "the code is too large: {bytes} bytes, and {} on its way to a container at most",
        refunction_protocol::MAX_LINE_BYTES
    )]
    TooLarge {
        /// What it has.
        bytes: usize,
    },
    /// Somebody else changed it.
    #[error("the function {name:?} {}", found_instead(*found))]
    Conflict {
        /// Which.
        name: String,
        /// The revision that it has; None if there is no such function.
        found: Option<u64>,
    },
    /// The disk is full. What was there before still is.
    #[error("there is no room for it on the disk of {}", path.display())]
    NoSpace {
        /// The store.
        path: PathBuf,
    },
    /// Two daemons would each miss what the other is told.
    #[error("another refunctiond has {} open; stop it, or give this one a --root-dir of its own", path.display())]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// A later refunctiond wrote it.
    #[error("{} has schema version {found}, and this refunctiond knows versions up to {known}: install the one that wrote it, or a later one", path.display())]
    Newer {
        /// The store.
        path: PathBuf,
        /// The version that it has.
        found: i32,
        /// The last version that is known.
        known: usize,
    },
    /// It is another program's.
    #[error("{} is another program's database; move it away, or give refunctiond another --root-dir", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It does not hold what was written.
    #[error("{} is damaged: {what}. It is left as it is; bring it back from a copy, or move it away to begin with an empty one", path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// It cannot be opened or made.
    #[error("opening {}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite cannot.
    #[error("{doing} {}: {source}", path.display())]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// The store.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// It was closed.
    #[error("the store is closed")]
    Closed,
}

fn found_instead(found: Option<u64>) -> String {
    found.map_or_else(
        || "is not there".into(),
        |revision| format!("has changed meanwhile: it has revision {revision}"),
    )
}

/// What an error of SQLite's is here.
fn failed(doing: &'static str, path: &Path) -> impl Fn(rusqlite::Error) -> StoreError {
    let path = path.to_owned();
    move |source| {
        let path = path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::NoSpace { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged {
                path,
                what: source.to_string(),
            },
            // Without a code of SQLite's a row does not hold what it is to hold.
            None => StoreError::Damaged {
                path,
                what: source.to_string(),
            },
            Some(_) => StoreError::Sqlite {
                doing,
                path,
                source,
            },
        }
    }
}

/// What a change depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// There is no such function yet.
    Absent,
    /// There is one, whichever.
    Present,
    /// It has this revision.
    Revision(u64),
}

impl Condition {
    fn check(self, name: &str, found: Option<&Function>) -> Result<(), StoreError> {
        let holds = match self {
            Self::None => true,
            Self::Absent => found.is_none(),
            Self::Present => found.is_some(),
            Self::Revision(revision) => found.is_some_and(|it| it.revision == revision),
        };
        if holds {
            return Ok(());
        }
        Err(StoreError::Conflict {
            name: name.to_owned(),
            found: found.map(|it| it.revision),
        })
    }
}

/// What became of a function that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// As it is stored now.
    pub function: Function,
    /// What was changed.
    pub change: Change,
}

/// What a put changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// There was none of that name.
    Created,
    /// It has another revision now.
    Updated,
    /// It was the same already, and has the revision that it had.
    Unchanged,
}

/// Some functions in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// These.
    pub functions: Vec<Function>,
    /// Where to go on, if there are more.
    pub next: Option<String>,
}

type Job = Box<dyn FnOnce(&mut Tables) + Send>;

enum Message {
    Do(Job),
    Close(oneshot::Sender<()>),
}

/// The open store; clones are the same.
#[derive(Clone)]
pub struct Store {
    thread: mpsc::Sender<Message>,
}

impl fmt::Debug for Store {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("Store")
    }
}

impl Store {
    /// Opens the store below this directory; both are made if they are not there.
    ///
    /// # Errors
    /// It is not there and cannot be made, is in use, damaged, another program's, or of a
    /// later version. Nothing is changed then.
    pub async fn open(root: &Path) -> Result<Self, StoreError> {
        let root = root.to_owned();
        let (thread, mut messages) = mpsc::channel(MOST_WAITING);
        let (sender, opened) = oneshot::channel();
        let work = move || {
            let mut tables = match open(&root) {
                Ok(tables) => tables,
                Err(error) => return drop(sender.send(Err(error))),
            };
            if sender.send(Ok(())).is_err() {
                return;
            }
            while let Some(message) = messages.blocking_recv() {
                match message {
                    Message::Do(job) => job(&mut tables),
                    Message::Close(closed) => {
                        drop(tables);
                        // Who asked need not wait for it.
                        let _ = closed.send(());
                        return;
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("store".into())
            .spawn(work)
            .map_err(|source| StoreError::File {
                path: FILE.into(),
                source,
            })?;
        opened.await.map_err(|_| StoreError::Closed)??;
        Ok(Self { thread })
    }

    /// True if there is one below this root directory.
    pub(crate) fn is_at(root: &Path) -> bool {
        root.join(FILE).exists()
    }

    /// The files that there may be of one: its own, and `SQLite`'s beside it.
    pub(crate) fn files(root: &Path) -> Vec<PathBuf> {
        ["", "-wal", "-shm", "-journal"]
            .map(|end| root.join(format!("{FILE}{end}")))
            .into()
    }

    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Tables) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, done) = oneshot::channel();
        let job = Box::new(move |tables: &mut Tables| {
            // Who asked may have left.
            let _ = sender.send(job(tables));
        });
        self.thread
            .send(Message::Do(job))
            .await
            .map_err(|_| StoreError::Closed)?;
        done.await.map_err(|_| StoreError::Closed)?
    }

    /// Stores a function under a name, in the place of the one that is there. `code` is source
    /// text, or a zip archive if the definition says binary.
    ///
    /// # Errors
    /// No container could load it, the condition does not hold, or it cannot be written: then
    /// nothing has changed.
    pub async fn put(
        &self,
        name: &str,
        definition: Definition,
        code: Vec<u8>,
        condition: Condition,
    ) -> Result<Put, StoreError> {
        let name = name.to_owned();
        self.run(move |tables| tables.put(&name, definition, &code, condition))
            .await
    }

    /// The function of this name.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn get(&self, name: &str) -> Result<Option<Function>, StoreError> {
        let name = name.to_owned();
        self.run(move |tables| tables.get(&name)).await
    }

    /// Functions in the order of their names, from after this one on: at least one if there is
    /// one, at most a thousand.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn list(&self, after: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let after = after.map(str::to_owned);
        self.run(move |tables| tables.list(after.as_deref(), limit))
            .await
    }

    /// Deletes the function of this name, and its code if no other has it. It is answered, if
    /// there was one.
    ///
    /// # Errors
    /// The condition does not hold, or it cannot be written: then nothing has changed.
    pub async fn delete(
        &self,
        name: &str,
        condition: Condition,
    ) -> Result<Option<Function>, StoreError> {
        let name = name.to_owned();
        self.run(move |tables| tables.delete(&name, condition))
            .await
    }

    /// The bytes of a function's code, or None if no function has it any more.
    ///
    /// # Errors
    /// They cannot be read, or are others than were stored.
    pub async fn code(&self, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(move |tables| tables.code(digest)).await
    }

    /// A setting, if it was ever made.
    ///
    /// # Errors
    /// It cannot be read, or is not of this type.
    pub async fn setting<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let of = key.to_owned();
        let value = self.run(move |tables| tables.setting(&of)).await?;
        value
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| {
                StoreError::Invalid(format!("the setting {key:?} is not as expected: {error}"))
            })
    }

    /// Makes a setting; any value that is JSON.
    ///
    /// # Errors
    /// It is no JSON, too large, or cannot be written.
    pub async fn put_setting<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        let key = key.to_owned();
        let value = serde_json::to_value(value)
            .map_err(|error| StoreError::Invalid(format!("the setting {key:?}: {error}")))?;
        self.run(move |tables| tables.put_setting(&key, &value))
            .await
    }

    /// Closes it when all that was asked before is done; what is asked later finds it closed.
    /// Without this it is closed some time after its last clone was dropped.
    pub async fn close(&self) {
        let (sender, closed) = oneshot::channel();
        if self.thread.send(Message::Close(sender)).await.is_ok() {
            // An error says that it is closed already.
            let _ = closed.await;
        }
    }
}

fn open(root: &Path) -> Result<Tables, StoreError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(root)
        .map_err(|source| StoreError::File {
            path: root.to_owned(),
            source,
        })?;
    Tables::open(&root.join(FILE))
}
