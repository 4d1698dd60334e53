//! Being told when a file below a folder changes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;

use inotify::{Event, EventMask, EventStream, Inotify, WatchDescriptor, WatchMask};
use tokio_stream::{Stream, StreamExt};

const BUFFER_BYTES: usize = 16 * 1024;

/// What others keep beside functions: it changes by itself, or is large.
const NOT_WATCHED: [&str; 3] = ["__pycache__", "node_modules", "venv"];

/// A watch on a folder and all folders in it.
pub(crate) struct TreeWatch {
    events: EventStream<[u8; BUFFER_BYTES]>,
    directories: HashMap<WatchDescriptor, PathBuf>,
}

impl TreeWatch {
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let events = Inotify::init()?.into_event_stream([0; BUFFER_BYTES])?;
        let mut watch = Self {
            events,
            directories: HashMap::new(),
        };
        watch.add(root)?;
        Ok(watch)
    }

    /// Waits for the next change since the watch began or this last returned, takes all that
    /// came with it, and gives the last of the files.
    pub(crate) async fn changed(&mut self) -> io::Result<PathBuf> {
        loop {
            let event = match self.events.next().await {
                Some(event) => event?,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            if let Some(mut changed) = self.take(event)? {
                while let Some(event) = self.waiting().await {
                    changed = self.take(event?)?.unwrap_or(changed);
                }
                return Ok(changed);
            }
        }
    }

    /// An event that is there already.
    async fn waiting(&mut self) -> Option<io::Result<Event<std::ffi::OsString>>> {
        poll_fn(
            |context| match Pin::new(&mut self.events).poll_next(context) {
                Poll::Ready(event) => Poll::Ready(event),
                Poll::Pending => Poll::Ready(None),
            },
        )
        .await
    }

    fn take(&mut self, event: Event<std::ffi::OsString>) -> io::Result<Option<PathBuf>> {
        if event.mask.contains(EventMask::IGNORED) {
            self.directories.remove(&event.wd);
            return Ok(None);
        }
        // Some were lost: anything may have changed.
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return Ok(Some(PathBuf::from("many files")));
        }
        let (Some(directory), Some(name)) = (self.directories.get(&event.wd), event.name) else {
            return Ok(None);
        };
        if is_of_no_interest(&name) {
            return Ok(None);
        }
        let path = directory.join(&name);
        if !event.mask.contains(EventMask::ISDIR) {
            // One that is only made is not written yet; a link is whole at once.
            let is_whole = !event.mask.contains(EventMask::CREATE) || path.is_symlink();
            return Ok(is_whole.then_some(path));
        }
        if event
            .mask
            .intersects(EventMask::CREATE | EventMask::MOVED_TO)
        {
            self.add(&path)?;
        }
        Ok(Some(path))
    }

    fn add(&mut self, root: &Path) -> io::Result<()> {
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::ONLYDIR
            | WatchMask::DONT_FOLLOW;
        let mut waiting = vec![root.to_owned()];
        while let Some(directory) = waiting.pop() {
            match self.events.watches().add(&directory, mask) {
                Ok(watch) => self.directories.insert(watch, directory.clone()),
                // It has gone meanwhile, which is a change of its own.
                Err(error) if error.kind() == io::ErrorKind::NotFound && directory != root => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            // After the watch: what is made in it from now on is told.
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            let below = entries.flatten().filter(|entry| {
                entry.file_type().is_ok_and(|kind| kind.is_dir())
                    && !is_of_no_interest(&entry.file_name())
            });
            waiting.extend(below.map(|entry| entry.path()));
        }
        Ok(())
    }
}

/// What is hidden belongs to editors and version control, and so do copies of theirs.
fn is_of_no_interest(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || name.ends_with('~') || NOT_WATCHED.contains(&name.as_ref())
}
