//! The template's memory as a sealed memfd, and the template remapped onto it.
//!
//! Afterwards a clean page *is* the image's page, shared by the template and all
//! its workers, and a fork copies no pages: what a fork costs no longer depends on
//! how much memory the template has.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use nix::unistd::Pid;

use crate::arch::{self, PARKED_SYSCALL, Registers};
use crate::maps::{self, Backing, Mapping};
use crate::pagemap::PageScanner;
use crate::process::Process;
use crate::ptrace;
use crate::sabotage::leaves_out;
use crate::span::{PAGE, Span};
use crate::stub::{Annex, SCRATCH_BYTES, TABLE_BYTES};
use crate::text;
use crate::tracer::{TraceError, Tracer};

/// Why a process could not be frozen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    #[error("{doing}: {cause}")]
    Io {
        doing: &'static str,
        cause: io::Error,
    },
    #[error("{doing} in the template failed: {cause}")]
    Call {
        doing: &'static str,
        cause: io::Error,
    },
    #[error(transparent)]
    Maps(#[from] maps::BadLine),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("the template has a {what} at {span}, which its workers would share")]
    Shared { what: String, span: Span },
}

impl From<ptrace::PtraceError> for ImageError {
    fn from(error: ptrace::PtraceError) -> Self {
        Self::Trace(error.into())
    }
}

pub(crate) fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> ImageError {
    move |cause| ImageError::Io { doing, cause }
}

/// A stretch of the template's address space that the image backs.
#[derive(Debug, Clone, Copy)]
struct Segment {
    span: Span,
    offset: u64,
}

/// A frozen template's memory.
pub(crate) struct Image {
    file: File,
    /// Ascending, disjoint.
    segments: Vec<Segment>,
    /// Areas whose contents must never be copied, only dropped: the kernel empties
    /// them on fork itself (`MADV_WIPEONFORK`), or may do so any time
    /// (`MAP_DROPPABLE`, where the vDSO's getrandom keeps its state).
    pub(crate) wiped: Vec<Span>,
    pub(crate) annex: Annex,
    bytes: u64,
}

/// How a mapping of an image begins in the mapping list.
const IMAGE_NAME: &str = "/memfd:snapshot";

/// Before the template's memory: the stub's code, and a page of zeros.
const HEAD: u64 = 2 * PAGE;

/// Gaps between private pages of one mapping that are not worth a mapping more.
const GAP: u64 = 256 * PAGE;

/// Untouched pages at an end of a mapping that are not worth one: behind a library's data there
/// are its zeros, and what lies side by side is one mapping. More of them are room that workers
/// write to, and there a page of the image's would be made for each that they do.
const EDGE: u64 = 4 * PAGE;

impl Image {
    /// An empty memfd that will hold the image; the template must have it open
    /// before it is frozen.
    pub(crate) fn create() -> io::Result<File> {
        let file = memfd::MemfdOptions::default()
            .allow_sealing(true)
            .create("snapshot")
            .map_err(io::Error::other)?
            .into_file();
        let code = arch::stub_code();
        file.write_all_at(code, 0)?;
        file.set_len(HEAD)?;
        Ok(file)
    }

    /// Freezes a stopped process. `descriptor` is the image's number inside it.
    pub(crate) fn freeze(
        file: File,
        process: &Process,
        scanner: &mut PageScanner,
        mut calls: StoppedCalls<'_>,
        descriptor: RawFd,
    ) -> Result<Self, ImageError> {
        let mut text = Vec::new();
        process
            .read_maps(&mut text)
            .map_err(io_error("reading the template's mappings"))?;
        let mappings = maps::parse(&text)?;
        let flags = VmFlags::read(process.pid).map_err(io_error("reading the template's smaps"))?;
        let mut segments = Vec::new();
        let mut texts = Vec::new();
        let mut wiped = Vec::new();
        let mut offset = HEAD;
        for mapping in &mappings {
            if mapping.shared && !mapping.is_writable() {
                // A file that everybody reads, such as a locale archive.
                continue;
            }
            if mapping.shared && !leaves_out("image:no-shared-memory") {
                return Err(ImageError::Shared {
                    what: format!("shared mapping of {:?}", mapping.name),
                    span: mapping.span,
                });
            }
            if flags.is_wiped(mapping.span) && !leaves_out("wiped:not-in-the-image") {
                wiped.push(mapping.span);
                continue;
            }
            if matches!(mapping.backing, Backing::Stack | Backing::Kernel) {
                continue;
            }
            if !mapping.shared && mapping.name.starts_with(IMAGE_NAME) {
                // Of the template that this one was forked from: it is to need nothing of
                // that one's, and mapping by mapping most pages are others by now.
                let span = mapping.span;
                segments.push(Segment { span, offset });
                offset += span.len();
                continue;
            }
            let mut own = Vec::new();
            scanner
                .scan(&process.pagemap, mapping.span, &mut own)
                .map_err(io_error("scanning the template's pages"))?;
            if text::is_text(mapping, &own) && !leaves_out("image:shares-code") {
                texts.push(mapping);
            }
            for span in worth_backing(mapping, &own) {
                segments.push(Segment { span, offset });
                offset += span.len();
            }
        }
        let bytes = offset - HEAD;
        file.set_len(offset).map_err(io_error("sizing the image"))?;
        for segment in &segments {
            fill(&file, process, segment).map_err(io_error("copying the template's memory"))?;
        }
        if !leaves_out("image:sealed") {
            seal(&file).map_err(io_error("sealing the image"))?;
        }

        let annex = calls.map_annex(descriptor, offset)?;
        text::share(&texts, process, &mut calls, annex.scratch)?;
        for segment in &segments {
            let protection = mappings
                .iter()
                .find(|mapping| mapping.span.contains(segment.span.start))
                .map_or(libc::PROT_NONE, |mapping| mapping.protection);
            calls.map(
                "mapping the image",
                segment.span.start,
                segment.span.len(),
                protection,
                libc::MAP_PRIVATE | libc::MAP_FIXED,
                descriptor,
                segment.offset,
            )?;
        }
        calls.finish()?;
        Ok(Self {
            file,
            segments,
            wiped,
            annex,
            bytes,
        })
    }

    /// A description of the image for one worker alone: what it does to its offset,
    /// flags or locks is nobody else's.
    pub(crate) fn open_for_worker(&self) -> io::Result<File> {
        reopen_to_read(&self.file)
    }

    /// Bytes of memory that it takes: pages of zeros take none.
    pub(crate) fn held(&self) -> u64 {
        self.file
            .metadata()
            .map_or(self.bytes, |it| it.blocks() * 512)
    }

    /// Bytes of template memory in the image.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads the image itself.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    /// Where in the image this address's contents are, if there.
    pub(crate) fn offset_of(&self, address: u64) -> Option<u64> {
        let after = self
            .segments
            .partition_point(|segment| segment.span.start <= address);
        let segment = self.segments[..after].last()?;
        segment
            .span
            .contains(address)
            .then(|| segment.offset + (address - segment.span.start))
    }

    /// Where the tracee can read this address's contents, if the image has them.
    pub(crate) fn view_of(&self, address: u64) -> Option<u64> {
        Some(self.annex.view.start + self.offset_of(address)?)
    }

    /// Where the tracee can read a page of zeros.
    pub(crate) fn zeros(&self) -> u64 {
        self.annex.view.start + PAGE
    }

    /// The part of `span` at its start that is either wholly in the image, with
    /// the offset, or wholly outside it.
    pub(crate) fn leading(&self, span: Span) -> (Span, Option<u64>) {
        let after = self
            .segments
            .partition_point(|segment| segment.span.start <= span.start);
        if let Some(segment) = self.segments[..after].last()
            && segment.span.contains(span.start)
        {
            let end = segment.span.end.min(span.end);
            let offset = segment.offset + (span.start - segment.span.start);
            return (Span::new(span.start, end), Some(offset));
        }
        let end = self
            .segments
            .get(after)
            .map_or(span.end, |next| next.span.start.min(span.end));
        (Span::new(span.start, end), None)
    }

    pub(crate) fn is_wiped(&self, address: u64) -> bool {
        self.wiped.iter().any(|span| span.contains(address))
    }
}

/// A new, read-only description of a memfd. What is mapped from it can never be
/// made writable.
pub(crate) fn reopen_to_read(memfd: &File) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", memfd.as_raw_fd()))
}

/// The stretches of a private mapping that hold pages of its own, which are these.
fn worth_backing(mapping: &Mapping, own: &[Span]) -> Vec<Span> {
    let Some((first, last)) = own.first().zip(own.last()) else {
        return Vec::new();
    };
    if matches!(mapping.backing, Backing::File { .. }) {
        // The rest of a library's data may still be written to: one piece.
        return vec![mapping.span];
    }
    let mut pieces = vec![*first];
    for span in own {
        let piece = pieces.len() - 1;
        if span.start <= pieces[piece].end + GAP {
            pieces[piece].end = span.end;
        } else {
            pieces.push(*span);
        }
    }
    debug_assert_eq!(pieces.last().map(|span| span.end), Some(last.end));
    if first.start - mapping.span.start <= EDGE {
        pieces[0].start = mapping.span.start;
    }
    if mapping.span.end - last.end <= EDGE
        && let Some(piece) = pieces.last_mut()
    {
        piece.end = mapping.span.end;
    }
    pieces
}

fn fill(file: &File, process: &Process, segment: &Segment) -> io::Result<()> {
    const CHUNK: u64 = 1 << 20;
    let mut buffer = vec![0; CHUNK as usize];
    let mut at = segment.span.start;
    while at < segment.span.end {
        let length = (segment.span.end - at).min(CHUNK) as usize;
        let chunk = &mut buffer[..length];
        process.read_memory(at, chunk)?;
        // Pages of zeros stay holes: a runtime's reserve is mostly that.
        for (index, page) in chunk.chunks(PAGE as usize).enumerate() {
            if page.iter().any(|byte| *byte != 0) {
                let to = segment.offset + (at - segment.span.start) + index as u64 * PAGE;
                file.write_all_at(page, to)?;
            }
        }
        at += length as u64;
    }
    Ok(())
}

/// How often sealing is tried. Each attempt waits 150 ms in the kernel (`LAST_SCAN`
/// of mm/memfd.c) for whoever holds a page just written: reclaim, compaction and
/// migration do so for moments, and on a busy machine for longer.
const SEALING_ATTEMPTS: usize = 16;

/// Makes a memfd's contents and size final.
fn seal(file: &File) -> io::Result<()> {
    use memfd::FileSeal::{SealGrow, SealSeal, SealShrink, SealWrite};
    let sealed = memfd::Memfd::try_from_file(file.try_clone()?)
        .map_err(|_| io::Error::other("the image is not a memfd"))?;
    let mut more = 1..SEALING_ATTEMPTS;
    loop {
        return match sealed.add_seals(&[SealWrite, SealGrow, SealShrink, SealSeal]) {
            Err(memfd::Error::AddSeals(cause)) => {
                if cause.raw_os_error() == Some(libc::EBUSY) && more.next().is_some() {
                    continue;
                }
                Err(cause)
            }
            other => other.map_err(io::Error::other),
        };
    }
}

/// System calls in a stopped process, one stop each.
pub(crate) struct StoppedCalls<'a> {
    tracer: &'a mut Tracer,
    pid: Pid,
    stopped: Registers,
    /// Where a `syscall` instruction is.
    at: u64,
}

impl<'a> StoppedCalls<'a> {
    /// In a process that parked itself.
    pub(crate) fn parked(tracer: &'a mut Tracer, pid: Pid) -> Result<Self, ImageError> {
        let stopped = ptrace::registers(pid)?;
        Ok(Self {
            at: stopped.instruction() + PARKED_SYSCALL,
            stopped,
            tracer,
            pid,
        })
    }

    /// In a process whose main thread, with these registers, is about to make a call.
    pub(crate) fn before_call(tracer: &'a mut Tracer, pid: Pid, registers: Registers) -> Self {
        Self {
            at: registers.instruction(),
            stopped: registers,
            tracer,
            pid,
        }
    }

    pub(crate) fn call(
        &mut self,
        doing: &'static str,
        number: libc::c_long,
        args: [u64; 6],
    ) -> Result<u64, ImageError> {
        ptrace::set_registers(self.pid, &self.stopped.calling(self.at, number, args))?;
        self.tracer.step(self.pid, doing)?;
        let returned = ptrace::registers(self.pid)?.returned();
        if (-4095..0).contains(&returned) {
            return Err(ImageError::Call {
                doing,
                cause: io::Error::from_raw_os_error((-returned) as i32),
            });
        }
        Ok(returned.cast_unsigned())
    }

    #[allow(clippy::too_many_arguments)] // mmap's own six, and a word for the error.
    fn map(
        &mut self,
        doing: &'static str,
        address: u64,
        length: u64,
        protection: libc::c_int,
        flags: libc::c_int,
        descriptor: RawFd,
        offset: u64,
    ) -> Result<u64, ImageError> {
        self.call(
            doing,
            libc::SYS_mmap,
            [
                address,
                length,
                protection as u64,
                flags as u64,
                i64::from(descriptor).cast_unsigned(),
                offset,
            ],
        )
    }

    fn map_annex(&mut self, descriptor: RawFd, image_bytes: u64) -> Result<Annex, ImageError> {
        let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let read = libc::PROT_READ;
        let doing = "mapping the engine's room";
        let code = self.map(
            doing,
            0,
            PAGE,
            read | libc::PROT_EXEC,
            libc::MAP_SHARED,
            descriptor,
            0,
        )?;
        let view = self.map(doing, 0, image_bytes, read, libc::MAP_SHARED, descriptor, 0)?;
        let table = self.map(
            doing,
            0,
            TABLE_BYTES,
            libc::PROT_NONE,
            anonymous | libc::MAP_NORESERVE,
            -1,
            0,
        )?;
        let scratch = self.map(
            doing,
            0,
            SCRATCH_BYTES,
            read | libc::PROT_WRITE,
            anonymous,
            -1,
            0,
        )?;
        Ok(Annex {
            code,
            view: Span::new(view, view + image_bytes),
            table: Span::new(table, table + TABLE_BYTES),
            scratch: Span::new(scratch, scratch + SCRATCH_BYTES),
        })
    }

    /// Maps a worker's table, which the process has open under this number, into the
    /// room for it, and closes the number.
    pub(crate) fn map_table(&mut self, annex: &Annex, table: RawFd) -> Result<(), ImageError> {
        self.map(
            "mapping the table",
            annex.table.start,
            TABLE_BYTES,
            libc::PROT_READ,
            libc::MAP_SHARED | libc::MAP_FIXED,
            table,
            0,
        )?;
        let number = i64::from(table).cast_unsigned();
        self.call(
            "closing the table",
            libc::SYS_close,
            [number, 0, 0, 0, 0, 0],
        )?;
        Ok(())
    }

    fn finish(self) -> Result<(), ImageError> {
        Ok(ptrace::set_registers(self.pid, &self.stopped)?)
    }
}

/// Mapping flags that only smaps shows (proc_pid_smaps(5), VmFlags).
struct VmFlags(Vec<Span>);

impl VmFlags {
    fn read(pid: Pid) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps"))?;
        let mut wiped = Vec::new();
        let mut current = None;
        for line in text.lines() {
            if let Some(flags) = line.strip_prefix("VmFlags:") {
                let is_wiped = flags
                    .split_ascii_whitespace()
                    .any(|flag| flag == "wf" || flag == "dp");
                if let (true, Some(span)) = (is_wiped, current) {
                    wiped.push(span);
                }
            } else if let Some((start, end)) = line
                .split_ascii_whitespace()
                .next()
                .and_then(|range| range.split_once('-'))
                && let (Ok(start), Ok(end)) =
                    (u64::from_str_radix(start, 16), u64::from_str_radix(end, 16))
            {
                current = Some(Span::new(start, end));
            }
        }
        Ok(Self(wiped))
    }

    fn is_wiped(&self, span: Span) -> bool {
        self.0.contains(&span)
    }
}
