//! Being told when something in a directory changes, instead of looking again
//! and again.

use std::io;
use std::path::Path;

use inotify::{EventStream, Inotify, WatchMask};
use tokio_stream::StreamExt;

/// Bytes for events; their content does not matter, only that there are some.
const BUFFER_BYTES: usize = 4096;

/// A watch on one directory.
pub(crate) struct DirectoryWatch(EventStream<[u8; BUFFER_BYTES]>);

impl DirectoryWatch {
    /// Watches for entries that appear.
    pub(crate) fn arrivals(directory: &Path) -> io::Result<Self> {
        Self::new(directory, WatchMask::CREATE | WatchMask::MOVED_TO)
    }

    /// Watches for files that are written to.
    pub(crate) fn writes(directory: &Path) -> io::Result<Self> {
        Self::new(directory, WatchMask::MODIFY)
    }

    fn new(directory: &Path, what: WatchMask) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        inotify.watches().add(directory, what)?;
        inotify.into_event_stream([0; BUFFER_BYTES]).map(Self)
    }

    /// Waits for the next change since the watch began or this last returned.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        match self.0.next().await {
            Some(event) => event.map(drop),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
