//! Files that a template has mapped to read and execute, mapped once more as shared and
//! read-only.
//!
//! As private mappings their pages could become a worker's own at any time: by
//! mprotect(2) there and back, or through `/proc/self/mem`. So every rewind would have to
//! look at each of them, and a runtime has tens of megabytes of code. Mapped shared from
//! a descriptor that was opened to read, the kernel lets nobody write to them, by no way
//! (mmap(2), `EACCES`), and there is nothing to look for.

use std::os::unix::fs::FileExt;

use crate::image::{ImageError, StoppedCalls, io_error};
use crate::maps::{self, Backing, Mapping};
use crate::process::Process;
use crate::span::Span;

/// Longer names stay mapped as they are.
const MAX_NAME: usize = 2048;

/// A mapping of a file, and another mapping of what has its name now.
struct Pair<'a> {
    was: &'a Mapping,
    /// Where it was mapped for a trial.
    trial: u64,
}

/// True if it is a file's whose pages are all still the file's, and nobody is meant to
/// write to it. `own` are the pages that are not.
pub(crate) fn is_text(mapping: &Mapping, own: &[Span]) -> bool {
    !mapping.shared
        && own.is_empty()
        && !mapping.is_writable()
        && mapping.protection != libc::PROT_NONE
        && matches!(mapping.backing, Backing::File { .. })
        // Others have been removed, or are written with escapes.
        && mapping.name.starts_with('/')
        && mapping.name.len() < MAX_NAME
        && !mapping.name.contains('\\')
}

/// Has a stopped process map these once more, as shared, where the name still leads to
/// the file. `room` is memory of its own to write a name to.
pub(crate) fn share(
    texts: &[&Mapping],
    process: &Process,
    calls: &mut StoppedCalls<'_>,
    room: Span,
) -> Result<(), ImageError> {
    const DOING: &str = "sharing the runtime's code";
    let mut pairs = Vec::with_capacity(texts.len());
    for was in texts {
        let Backing::File { offset, .. } = was.backing else {
            continue;
        };
        let mut name = was.name.clone().into_bytes();
        name.push(0);
        process
            .memory
            .write_all_at(&name, room.start)
            .map_err(io_error("writing a name for the template"))?;
        let opened = calls.call(
            DOING,
            libc::SYS_openat,
            [
                i64::from(libc::AT_FDCWD).cast_unsigned(),
                room.start,
                (libc::O_RDONLY | libc::O_CLOEXEC) as u64,
                0,
                0,
                0,
            ],
        );
        let Ok(descriptor) = opened else {
            // It may be gone, or not the template's to read.
            continue;
        };
        let length = was.span.len();
        let mapped = calls.call(
            DOING,
            libc::SYS_mmap,
            [
                0,
                length,
                was.protection as u64,
                libc::MAP_SHARED as u64,
                descriptor,
                offset,
            ],
        );
        calls.call(DOING, libc::SYS_close, [descriptor, 0, 0, 0, 0, 0])?;
        if let Ok(trial) = mapped {
            pairs.push(Pair { was, trial });
        }
    }
    let mut text = Vec::new();
    process
        .read_maps(&mut text)
        .map_err(io_error("reading the template's mappings"))?;
    let now = maps::parse(&text)?;
    for Pair { was, trial } in pairs {
        let length = was.span.len();
        if is_another(&now, trial, was) {
            calls.call(DOING, libc::SYS_munmap, [trial, length, 0, 0, 0, 0])?;
            continue;
        }
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let args = [trial, length, length, flags, was.span.start, 0];
        calls.call(DOING, libc::SYS_mremap, args)?;
    }
    let length = room.len();
    let args = [room.start, length, libc::MADV_DONTNEED as u64, 0, 0, 0];
    calls.call(DOING, libc::SYS_madvise, args)?;
    Ok(())
}

/// True if what is mapped at `trial` is not the file that it was mapped for: a name can
/// come to mean something else while a runtime runs.
fn is_another(now: &[Mapping], trial: u64, was: &Mapping) -> bool {
    let found = now.iter().find(|mapping| mapping.span.contains(trial));
    // Neighbours of one file may have become one mapping.
    found.is_none_or(|mapping| mapping.backing.advanced(trial - mapping.span.start) != was.backing)
}
