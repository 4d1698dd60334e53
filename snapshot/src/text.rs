//! Files that a template has mapped to read and execute, mapped once more as shared and
//! read-only.
//!
//! As private mappings their pages could become a worker's own at any time: by
//! mprotect(2) there and back, or through `/proc/self/mem`. So every rewind would have to
//! look at each of them, and a runtime has tens of megabytes of code. Mapped shared from
//! a descriptor that was opened to read, the kernel lets nobody write to them, by no way
//! (mmap(2), `EACCES`), and there is nothing to look for. A library's constants and code
//! become one mapping by the way, where there were three to compare at each rewind.

use std::os::unix::fs::FileExt;

use crate::image::{ImageError, StoppedCalls, io_error};
use crate::maps::{self, Backing, Mapping, Protection};
use crate::process::Process;
use crate::span::Span;

/// Longer names stay mapped as they are.
const MAX_NAME: usize = 2048;

/// Texts that lie next to each other as they do in their file, to be mapped as one.
struct Run<'a> {
    first: &'a Mapping,
    span: Span,
    protection: Protection,
    /// Where it was mapped for a trial.
    trial: u64,
}

impl Run<'_> {
    /// Has `next` be of it, if it is what follows in the file. Constants that code is next
    /// to can be executed then, as they could before linkers laid them out by themselves; a
    /// tenant, who runs what it likes, is no mightier for it.
    fn takes(&mut self, next: &Mapping) -> bool {
        let distance = self.span.len();
        let together = self.protection | next.protection;
        let joins = self.span.end == next.span.start
            && self.first.name == next.name
            && self.first.backing.advanced(distance) == next.backing
            && (together & libc::PROT_EXEC != 0 || self.protection == next.protection);
        if joins {
            self.span.end = next.span.end;
            self.protection = together;
        }
        joins
    }
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
    let mut runs: Vec<Run<'_>> = Vec::with_capacity(texts.len());
    for text in texts {
        if !runs.last_mut().is_some_and(|run| run.takes(text)) {
            runs.push(Run {
                first: text,
                span: text.span,
                protection: text.protection,
                trial: 0,
            });
        }
    }
    let mut tried = Vec::with_capacity(runs.len());
    for mut run in runs {
        let Backing::File { offset, .. } = run.first.backing else {
            continue;
        };
        let mut name = run.first.name.as_bytes().to_vec();
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
        let mapped = calls.call(
            DOING,
            libc::SYS_mmap,
            [
                0,
                run.span.len(),
                run.protection as u64,
                libc::MAP_SHARED as u64,
                descriptor,
                offset,
            ],
        );
        calls.call(DOING, libc::SYS_close, [descriptor, 0, 0, 0, 0, 0])?;
        if let Ok(trial) = mapped {
            run.trial = trial;
            tried.push(run);
        }
    }
    let mut text = Vec::new();
    process
        .read_maps(&mut text)
        .map_err(io_error("reading the template's mappings"))?;
    let now = maps::parse(&text)?;
    for run in tried {
        let length = run.span.len();
        if is_another(&now, &run) {
            calls.call(DOING, libc::SYS_munmap, [run.trial, length, 0, 0, 0, 0])?;
            continue;
        }
        let flags = (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64;
        let args = [run.trial, length, length, flags, run.span.start, 0];
        calls.call(DOING, libc::SYS_mremap, args)?;
    }
    let length = room.len();
    let args = [room.start, length, libc::MADV_DONTNEED as u64, 0, 0, 0];
    calls.call(DOING, libc::SYS_madvise, args)?;
    Ok(())
}

/// True if what is mapped for a trial is not the file that it was mapped for: a name can
/// come to mean something else while a runtime runs.
fn is_another(now: &[Mapping], run: &Run<'_>) -> bool {
    let found = now.iter().find(|mapping| mapping.span.contains(run.trial));
    // Neighbours of one file may have become one mapping.
    found.is_none_or(|mapping| {
        mapping.backing.advanced(run.trial - mapping.span.start) != run.first.backing
    })
}
