//! A newborn at its ready point: everything is read that a rewind goes back to.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;

use nix::unistd::{Gid, Pid, Uid};

use crate::deadline::Deadline;
use crate::descriptors::Descriptors;
use crate::image::{Image, reopen_to_read};
use crate::kernel_state::{self, KernelState, SEATS, ThreadState};
use crate::maps::{self, Mapping};
use crate::open;
use crate::pagemap::PageScanner;
use crate::pages::{Known, scan};
use crate::process::Process;
use crate::ptrace;
use crate::row::{Row, Taint};
use crate::runner::Runner;
use crate::sabotage::leaves_out;
use crate::sibling::{self, Memory, Sibling};
use crate::span::{PAGE, Span};
use crate::stack;
use crate::stub::{Constants, OVERLAY_BYTES, OVERLAY_OFFSET, Program, TABLE_BYTES};
use crate::threads::{ReadyRegisters, ReadyThread};
use crate::tracer::{TraceError, Tracer};
use crate::worker::{ReadyPoint, Worker};

/// Mappings more than at the ready point that mending may leave.
const EXTRA_PIECES: usize = 64;

/// Opens a table for a worker to come: one handle to write, one to give away.
pub(crate) fn create_table() -> io::Result<(File, File)> {
    let table = memfd::MemfdOptions::default()
        .create("table")
        .map_err(io::Error::other)?
        .into_file();
    table.set_len(TABLE_BYTES)?;
    let read_only = reopen_to_read(&table)?;
    Ok((table, read_only))
}

/// Why a newborn did not become a worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BirthError {
    #[error("{doing}: {cause}")]
    Io {
        doing: &'static str,
        cause: io::Error,
    },
    #[error(transparent)]
    Maps(#[from] maps::BadLine),
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("reading the worker's state failed: {0}")]
    State(Taint),
    #[error("the template uses a shadow stack, which cannot be put back")]
    ShadowStack,
    #[error("the worker wrote {0} MiB before its ready point, more than an overlay holds")]
    Overlay(u64),
}

impl From<ptrace::PtraceError> for BirthError {
    fn from(error: ptrace::PtraceError) -> Self {
        Self::Trace(error.into())
    }
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> BirthError {
    move |cause| BirthError::Io { doing, cause }
}

/// A process that stands at its ready point.
pub(crate) struct Candidate {
    pub(crate) process: Process,
    pub(crate) owner: (Uid, Gid),
    pub(crate) table: File,
    /// The image's descriptor inside it.
    pub(crate) image_number: RawFd,
    /// Its threads beside the main one.
    pub(crate) threads: Vec<Pid>,
}

impl Worker {
    /// Takes the snapshot of a worker that stands at its ready point.
    pub(crate) fn at_ready_point(
        candidate: Candidate,
        image: &Image,
        sibling: &Sibling,
        tracer: &mut Tracer,
        scanner: &mut PageScanner,
    ) -> Result<Self, BirthError> {
        let Candidate {
            process,
            owner,
            table,
            image_number,
            threads,
        } = candidate;
        let pid = process.pid;
        if threads
            .iter()
            .chain([&pid])
            .any(|tid| ptrace::has_shadow_stack(*tid))
        {
            return Err(BirthError::ShadowStack);
        }
        let registers = ReadyRegisters::of(pid)?;
        let rseq = ptrace::rseq_configuration(pid);

        let mut bytes = Vec::new();
        let mut runner = Runner {
            tracer: &mut *tracer,
            pid,
            registers: &registers.general,
            table: &table,
            image,
            bytes: &mut bytes,
        };
        let mut capturing = kernel_state::capturing(&image.annex);
        open::asking(0..=image_number, &image.annex, &mut capturing);
        runner.run(&capturing).map_err(BirthError::State)?;
        let mut constants = Constants::default();
        let mut kernel = KernelState::read(&process, &image.annex, &mut constants, rseq)
            .map_err(io_error("reading the worker's kernel state"))?;
        let extended = registers.extended.as_bytes();
        let extended = constants.add_extended(&image.annex, extended);
        kernel.after_pages.set_extended(Row::Registers, extended);
        let descriptors = Descriptors::capture(
            &process,
            0..=image_number,
            kernel.descriptor_limit(),
            owner,
            &image.annex,
            &mut constants,
        )
        .map_err(io_error("reading the worker's descriptors"))?;
        let threads = threads
            .iter()
            .enumerate()
            .map(|(number, tid)| {
                let mut registers = ReadyRegisters::of(*tid)?;
                let deadline = Deadline::of(
                    &process,
                    &mut registers.general,
                    &image.annex,
                    &mut constants,
                )
                .map_err(io_error("reading until when a thread waits"))?;
                let rseq = ptrace::rseq_configuration(*tid);
                let mut runner = Runner {
                    tracer: &mut *tracer,
                    pid: *tid,
                    registers: &registers.general,
                    table: &table,
                    image,
                    bytes: &mut bytes,
                };
                runner
                    .run(&kernel_state::capturing(&image.annex))
                    .map_err(BirthError::State)?;
                let state = ThreadState::read(
                    &process,
                    (*tid, number % SEATS),
                    &image.annex,
                    &mut constants,
                    rseq,
                )
                .map_err(io_error("reading a thread's kernel state"))?;
                Ok(ReadyThread {
                    tid: *tid,
                    registers,
                    deadline,
                    rseq,
                    state,
                })
            })
            .collect::<Result<Vec<_>, BirthError>>()?;
        constants
            .write(&table)
            .map_err(io_error("writing the worker's table"))?;

        let mut runner = Runner {
            tracer,
            pid,
            registers: &registers.general,
            table: &table,
            image,
            bytes: &mut bytes,
        };
        if let Some(masking) = kernel.masking() {
            runner.run(&masking).map_err(BirthError::State)?;
        }
        let mut maps_text = Vec::new();
        let expected = sibling
            .expected(&table, &image.annex)
            .map_err(io_error("looking at the worker's table"))?
            .filter(|it| {
                process.has_mappings(&it.mappings).unwrap_or(false)
                    || leaves_out("sibling:mappings")
            });
        let (mappings, expected_pages) = match expected {
            Some(Memory {
                mappings,
                own_pages,
            }) => (mappings, Some(own_pages)),
            None => {
                process
                    .read_maps(&mut maps_text)
                    .map_err(io_error("reading the worker's mappings"))?;
                (maps::parse(&maps_text)?, None)
            }
        };
        let mut stack = stack::growing(&mappings);
        let mut program = Program::default();
        sibling::touch(expected_pages.as_deref().unwrap_or_default(), &mut program);
        program.append(&stack);
        if runner.run(&program).is_err() {
            // It did not grow before any tenant came, and is not asked again.
            stack.clear();
        }
        let expected_pages =
            expected_pages.filter(|pages| sibling::are_all(pages, &process, scanner));
        let own_pages = match expected_pages {
            Some(pages) => pages,
            None => {
                let mut own_pages = Vec::new();
                scan(&process, scanner, &mappings, &mut own_pages)
                    .map_err(io_error("scanning the worker's pages"))?;
                sibling.was(&mappings, &own_pages, &process, scanner);
                own_pages
            }
        };
        let overlay = take_overlay(&process, &table, image, &mappings, &own_pages)?;

        let worker = Self {
            process,
            owner,
            table,
            image_number,
            ready: ReadyPoint {
                registers,
                threads,
                rseq,
                kernel,
                maps_text,
                pieces_allowed: mappings.len() + EXTRA_PIECES,
                mappings,
                stack,
                overlay,
            },
            descriptors,
            held: None,
            rewinds: 0,
            known: Known::new(),
            spared: HashMap::new(),
            program: Program::default(),
            bytes,
            own_pages,
        };
        worker.set_registers(|_| true)?;
        Ok(worker)
    }
}

/// The pages that are to be put back from the worker's table, where they stand from here on.
fn take_overlay(
    process: &Process,
    table: &File,
    image: &Image,
    mappings: &[Mapping],
    own_pages: &[Span],
) -> Result<Vec<u64>, BirthError> {
    let mut mappings = mappings.iter().peekable();
    let mut overlay: Vec<u64> = own_pages
        .iter()
        .flat_map(|span| span.page_addresses())
        .collect();
    overlay.retain(|page| {
        while mappings.next_if(|it| it.span.end <= *page).is_some() {}
        let mapping = mappings.peek().filter(|it| it.span.contains(*page));
        let is_wiped = image.is_wiped(*page) && !leaves_out("wiped:not-in-the-overlay");
        mapping.is_some_and(|it| !it.shared) && !is_wiped && !image.annex.scratch.contains(*page)
    });
    let bytes = overlay.len() as u64 * PAGE;
    if bytes > OVERLAY_BYTES {
        return Err(BirthError::Overlay(bytes >> 20));
    }
    let mut contents = vec![0; bytes as usize];
    process
        .read_pages(&overlay, &mut contents)
        .and_then(|()| table.write_all_at(&contents, OVERLAY_OFFSET))
        .map_err(io_error("taking the worker's overlay"))?;
    Ok(overlay)
}
