//! A worker: what it was at its ready point, and how it is brought back there.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;

use nix::unistd::{Gid, Pid, Uid};

use crate::arch::{self, Registers};
use crate::descriptors::Descriptors;
use crate::diff::{Mend, mends};
use crate::image::{Image, reopen_to_read};
use crate::kernel_state::{self, KernelState};
use crate::maps::{self, Backing, Mapping};
use crate::pagemap::PageScanner;
use crate::process::Process;
use crate::ptrace::{self, ExtendedState, RseqConfiguration};
use crate::report::{Refused, Rewound, Stopwatch};
use crate::row::{Row, Taint};
use crate::span::{PAGE, Span};
use crate::stub::{
    Constants, OVERLAY_BYTES, OVERLAY_OFFSET, Program, SCRATCH_MARKS, SCRATCH_RESULTS, TABLE_BYTES,
};
use crate::syscalls;
use crate::tracer::{Held, TraceError, Tracer};

/// All signals but the breakpoint's: nothing interrupts the stub.
const ALL_BUT_TRAP: u64 = !(1 << (libc::SIGTRAP - 1));

/// Every so many rewinds, pages that did not change are found out and dropped.
const AGING_PERIOD: u64 = 4;

/// Pages that are copied back rather than dropped, at most: beyond it the copying
/// costs more than the faults it saves, and the memory would be the worker's own.
const HOT_PAGES: u64 = 8192;

/// Mappings more than at the ready point that mending may leave.
const EXTRA_PIECES: usize = 64;

/// Children of a worker that one rewind reaps.
const MAX_CHILDREN: u32 = 4096;

/// A process that was forked from a template and can be put back.
pub struct Worker {
    pub(crate) process: Process,
    pub(crate) owner: (Uid, Gid),
    pub(crate) table: File,
    /// The image's descriptor inside the worker.
    image_number: RawFd,
    pub(crate) ready: ReadyPoint,
    pub(crate) descriptors: Descriptors,
    held: Option<Held>,
    rewinds: u64,
    /// Pages that the last aging found unchanged, ascending.
    cold: Vec<u64>,
    /// When a page that was dropped before may be dropped again.
    spared: HashMap<u64, Spared>,
    // Kept between rewinds so that one allocates nothing.
    program: Program,
    bytes: Vec<u8>,
    pub(crate) own_pages: Vec<Span>,
}

/// A page that was dropped as unchanged. Many are written all the same (a reference
/// count goes up and comes down again), and then they come back by a fault that
/// costs more than many copies: each time it is left alone for twice as long.
#[derive(Clone, Copy)]
struct Spared {
    until: u64,
    period: u64,
}

/// Pages that are remembered as dropped; beyond it, memory counts for more.
const MAX_SPARED: usize = 32 * 1024;

/// Everything a rewind goes back to, beside the image.
pub(crate) struct ReadyPoint {
    pub(crate) registers: Registers,
    pub(crate) extended: ExtendedState,
    pub(crate) signal_mask: u64,
    pub(crate) rseq: Option<RseqConfiguration>,
    pub(crate) kernel: KernelState,
    maps_text: Vec<u8>,
    pub(crate) mappings: Vec<Mapping>,
    /// Beyond this many, mending has cut the list to shreds, and a new worker is
    /// the better one.
    pieces_allowed: usize,
    /// Pages that the worker wrote before its ready point, ascending; the n-th
    /// one's contents are the n-th page of the table's overlay.
    pub(crate) overlay: Vec<u64>,
}

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

impl Worker {
    /// Takes the snapshot of a worker that stands at its ready point.
    pub(crate) fn at_ready_point(
        process: Process,
        owner: (Uid, Gid),
        table: File,
        image_number: RawFd,
        image: &Image,
        tracer: &mut Tracer,
        scanner: &mut PageScanner,
    ) -> Result<Self, BirthError> {
        let pid = process.pid;
        let registers = ptrace::registers(pid)?;
        let extended = ptrace::extended_state(pid)?;
        let signal_mask = ptrace::signal_mask(pid)?;
        let rseq = ptrace::rseq_configuration(pid);

        let mut bytes = Vec::new();
        let mut runner = Runner {
            tracer,
            pid,
            registers: &registers,
            table: &table,
            image,
            bytes: &mut bytes,
        };
        runner
            .run(&kernel_state::capturing(&image.annex))
            .map_err(BirthError::State)?;
        let mut constants = Constants::default();
        let kernel = KernelState::read(&process, &image.annex, &mut constants, rseq)
            .map_err(io_error("reading the worker's kernel state"))?;
        let descriptors = Descriptors::capture(&process, owner, &image.annex, &mut constants)
            .map_err(io_error("reading the worker's descriptors"))?;
        constants
            .write(&table)
            .map_err(io_error("writing the worker's table"))?;

        let mut maps_text = Vec::new();
        process
            .read_maps(&mut maps_text)
            .map_err(io_error("reading the worker's mappings"))?;
        let mappings = maps::parse(&maps_text)?;
        let mut own_pages = Vec::new();
        scan(&process, scanner, &mappings, &mut own_pages)
            .map_err(io_error("scanning the worker's pages"))?;
        let overlay = take_overlay(&process, &table, image, &mappings, &own_pages)?;

        ptrace::set_registers(pid, &registers)?;
        ptrace::set_extended_state(pid, &extended)?;
        ptrace::set_signal_mask(pid, signal_mask)?;
        Ok(Self {
            process,
            owner,
            table,
            image_number,
            ready: ReadyPoint {
                registers,
                extended,
                signal_mask,
                rseq,
                kernel,
                maps_text,
                pieces_allowed: mappings.len() + EXTRA_PIECES,
                mappings,
                overlay,
            },
            descriptors,
            held: None,
            rewinds: 0,
            cold: Vec::new(),
            spared: HashMap::new(),
            program: Program::default(),
            bytes,
            own_pages,
        })
    }

    /// The worker's process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Pages that were the worker's own at its ready point.
    #[must_use]
    pub fn overlay_pages(&self) -> usize {
        self.ready.overlay.len()
    }

    pub(crate) fn hold(&mut self, tracer: &mut Tracer) -> Result<(), Taint> {
        self.held = Some(tracer.hold(self.process.pid)?);
        Ok(())
    }

    /// Brings a held worker back to its ready point; it stays stopped.
    pub(crate) fn rewind(
        &mut self,
        image: &Image,
        tracer: &mut Tracer,
        scanner: &mut PageScanner,
        watch: &mut Stopwatch,
    ) -> Result<Rewound, Vec<Taint>> {
        let pid = self.process.pid;
        let held = self
            .held
            .take()
            .ok_or_else(|| vec![Taint::new(Row::Worker, "it was not held")])?;
        let evidence = tracer.take_evidence(pid);
        let mut taints = syscalls::taints(&evidence.recorded);
        if evidence.children > MAX_CHILDREN {
            taints.push(Taint::new(
                Row::Children,
                format!("it started {} processes", evidence.children),
            ));
        }
        if !taints.is_empty() {
            return Err(taints);
        }
        let one =
            |row: Row, error: &dyn std::fmt::Display| vec![Taint::new(row, error.to_string())];

        let mut program = std::mem::take(&mut self.program);
        program.clear();
        let now = if self
            .process
            .has_mappings(&self.ready.mappings)
            .unwrap_or(false)
        {
            None
        } else {
            self.read_mappings()
                .map_err(|error| one(Row::Mappings, &error))?
        };
        let mends = now
            .as_ref()
            .map(|now| mends(&self.ready.mappings, now))
            .unwrap_or_default();
        if mends.iter().any(|mend| touches_annex(mend, image)) {
            return Err(vec![Taint::new(
                Row::Mappings,
                "the engine's own mappings were changed",
            )]);
        }
        watch.lap("mappings");

        for tid in &held.threads {
            end_thread(tracer, pid, *tid, &self.ready.registers, image)
                .map_err(|error| one(Row::Threads, &error))?;
        }
        if !held.threads.is_empty() {
            watch.lap("threads");
        }

        let pending = ptrace::pending_signals(pid).map_err(|error| one(Row::Signals, &error))?;
        self.ready.kernel.drop_pending(&pending, &mut program);
        reap_children(evidence.children, &mut program);
        program.append(&self.ready.kernel.checks);
        let descriptors_closed = self
            .descriptors
            .mend(&self.process, self.owner, &mut program)
            .map_err(|taint| vec![taint])?;
        watch.lap("descriptors");

        self.own_pages.clear();
        scan(
            &self.process,
            scanner,
            &self.ready.mappings,
            &mut self.own_pages,
        )
        .map_err(|error| one(Row::Pages, &error))?;
        watch.lap("scan");

        let program_break = self.ready.kernel.program_break;
        if !mends.is_empty() {
            // Before the removals: the kernel refuses to move a break whose area is
            // gone. Growing it again leaves an anonymous mapping that is replaced.
            program.call(Row::Break, libc::SYS_brk, &[program_break]);
        }
        for mend in &mends {
            plan_mend(mend, image, self.image_number, &mut program).map_err(|taint| vec![taint])?;
        }
        program.checked_call(
            Row::Break,
            libc::SYS_brk,
            &[program_break],
            program_break.cast_signed(),
        );
        program.append(&self.ready.kernel.before_pages);
        let aging = self.rewinds % AGING_PERIOD == AGING_PERIOD - 1;
        let plan = self.plan_pages(image, &mends, aging, &mut program);
        program.append(&self.ready.kernel.after_pages);
        if !aging {
            program.zero(Row::Pages, image.annex.scratch.start, SCRATCH_RESULTS);
        }
        let mappings_mended = mends.len() as u32;
        watch.lap("plan");

        self.runner(image, tracer)
            .run(&program)
            .map_err(|taint| vec![taint])?;
        self.cold.clear();
        if aging {
            self.age(&plan.tracked, image, tracer)
                .map_err(|taint| vec![taint])?;
        }
        watch.lap("copy");

        if mappings_mended > 0 {
            self.accept_mappings()?;
            watch.lap("mappings again");
        }

        self.set_registers()
            .map_err(|error| one(Row::Registers, &error))?;
        watch.lap("registers");
        self.program = program;
        self.rewinds += 1;
        // What ending threads and copying set off is not the next tenant's doing.
        tracer.take_evidence(pid);
        Ok(Rewound {
            phases: watch.phases.clone(),
            dirty_pages: plan.pages,
            threads_ended: held.threads.len() as u32,
            processes_ended: held.processes_ended,
            mappings_mended,
            descriptors_closed,
        })
    }

    /// Looks at the mapping list once more after it was mended. It may be cut into
    /// more pieces than before (the kernel does not always join neighbours again),
    /// which then are what is expected from now on.
    fn accept_mappings(&mut self) -> Result<(), Vec<Taint>> {
        let refused = |detail: String| vec![Taint::new(Row::Mappings, detail)];
        let now = self
            .read_mappings()
            .map_err(|error| refused(error.to_string()))?;
        let Some(now) = now else { return Ok(()) };
        if let Some(left) = mends(&self.ready.mappings, &now).first() {
            return Err(refused(format!("mending left a difference: {left:?}")));
        }
        if now.len() > self.ready.pieces_allowed {
            return Err(refused(format!("{} pieces", now.len())));
        }
        std::mem::swap(&mut self.ready.maps_text, &mut self.bytes);
        self.ready.mappings = now;
        Ok(())
    }

    /// The mapping list as text; parsed if it differs from the ready point's.
    pub(crate) fn read_mappings(&mut self) -> io::Result<Option<Vec<Mapping>>> {
        self.process.read_maps(&mut self.bytes)?;
        if self.bytes == self.ready.maps_text {
            return Ok(None);
        }
        maps::parse(&self.bytes).map(Some).map_err(io::Error::other)
    }

    /// Everything of the main thread that ptrace itself can set.
    pub(crate) fn set_registers(&self) -> Result<(), TraceError> {
        let pid = self.process.pid;
        ptrace::set_registers(pid, &self.ready.registers)?;
        ptrace::set_extended_state(pid, &self.ready.extended)?;
        ptrace::set_signal_mask(pid, self.ready.signal_mask)?;
        Ok(())
    }

    /// What runs programs in this worker, with every signal but the breakpoint's
    /// held back.
    pub(crate) fn runner<'a>(&'a mut self, image: &'a Image, tracer: &'a mut Tracer) -> Runner<'a> {
        Runner {
            tracer,
            pid: self.process.pid,
            registers: &self.ready.registers,
            table: &self.table,
            image,
            bytes: &mut self.bytes,
        }
    }

    /// Decides for each own page whether it is copied back, zeroed or dropped.
    fn plan_pages(
        &self,
        image: &Image,
        mends: &[Mend<'_>],
        aging: bool,
        program: &mut Program,
    ) -> PagePlan {
        let mut plan = PagePlan {
            pages: 0,
            tracked: Vec::new(),
        };
        let overlay_at = image.annex.table.start + OVERLAY_OFFSET;
        let mut mappings = self.ready.mappings.iter().peekable();
        let mut remade = mends
            .iter()
            .filter_map(|mend| match mend {
                Mend::Remap(span, _) => Some(*span),
                _ => None,
            })
            .peekable();
        let marks = image.annex.scratch.start + SCRATCH_RESULTS;
        let mut copied = 0;
        let mut drops = Vec::new();
        for span in &self.own_pages {
            for page in span.page_addresses() {
                while mappings
                    .next_if(|mapping| mapping.span.end <= page)
                    .is_some()
                {}
                let Some(mapping) = mappings.peek().filter(|it| it.span.contains(page)) else {
                    // The mapping itself is not of the ready point: it went.
                    continue;
                };
                if mapping.shared {
                    continue;
                }
                if image.annex.scratch.contains(page) {
                    // Its first part is zeroed after use; the rest is used when
                    // ageing only, but a tenant may write there too.
                    if !aging && page >= marks {
                        push_page(&mut drops, page);
                    }
                    continue;
                }
                while remade.next_if(|span| span.end <= page).is_some() {}
                if remade.peek().is_some_and(|span| span.contains(page)) {
                    continue;
                }
                plan.pages += 1;
                if image.is_wiped(page) {
                    push_page(&mut drops, page);
                    continue;
                }
                if self.ready.overlay.binary_search(&page).is_ok() {
                    continue;
                }
                let hot = mapping.is_writable()
                    && copied < HOT_PAGES
                    && self.cold.binary_search(&page).is_err();
                let from = match mapping.backing {
                    Backing::Anonymous | Backing::Stack => Some(image.zeros()),
                    Backing::File { .. } | Backing::Kernel => None,
                };
                let Some(from) = image.view_of(page).or(from).filter(|_| hot) else {
                    // Dropped, it shows the image's page, or its file, or zeros again.
                    push_page(&mut drops, page);
                    continue;
                };
                copied += 1;
                if aging && plan.tracked.len() < SCRATCH_MARKS {
                    let mark = marks + plan.tracked.len() as u64;
                    program.refresh(Row::Pages, page, from, PAGE, mark);
                    plan.tracked.push(page);
                } else {
                    program.copy(Row::Pages, page, from, PAGE);
                }
            }
        }
        for span in drops {
            program.checked_call(
                Row::Pages,
                libc::SYS_madvise,
                &[span.start, span.len(), libc::MADV_DONTNEED as u64],
                0,
            );
        }
        // All of the overlay, scanned or not: the function may have dropped a page.
        let mut mappings = self.ready.mappings.iter().peekable();
        for (slot, page) in self.ready.overlay.iter().enumerate() {
            while mappings
                .next_if(|mapping| mapping.span.end <= *page)
                .is_some()
            {}
            let from = overlay_at + slot as u64 * PAGE;
            match mappings.peek() {
                Some(mapping) if !mapping.is_writable() => {
                    let protect = |program: &mut Program, protection: maps::Protection| {
                        program.checked_call(
                            Row::Pages,
                            libc::SYS_mprotect,
                            &[*page, PAGE, protection as u64],
                            0,
                        );
                    };
                    protect(program, libc::PROT_READ | libc::PROT_WRITE);
                    program.copy(Row::Pages, *page, from, PAGE);
                    protect(program, mapping.protection);
                }
                _ => program.copy(Row::Pages, *page, from, PAGE),
            }
        }
        plan
    }

    /// Notes which of the tracked pages had not changed, and clears the marks.
    fn age(&mut self, tracked: &[u64], image: &Image, tracer: &mut Tracer) -> Result<(), Taint> {
        let failed = |error: io::Error| Taint::new(Row::Pages, error.to_string());
        let mut marks = vec![0; tracked.len()];
        self.process
            .read_memory(image.annex.scratch.start + SCRATCH_RESULTS, &mut marks)
            .map_err(failed)?;
        if self.spared.len() > MAX_SPARED {
            self.spared.clear();
        }
        for (page, mark) in tracked.iter().zip(&marks) {
            if *mark != 0 {
                continue;
            }
            let period = match self.spared.get(page) {
                Some(spared) if spared.until > self.rewinds => continue,
                Some(spared) => spared.period * 2,
                None => AGING_PERIOD * 2,
            };
            let until = self.rewinds + period;
            self.spared.insert(*page, Spared { until, period });
            self.cold.push(*page);
        }
        let mut wipe = Program::default();
        let scratch = image.annex.scratch;
        wipe.zero(Row::Pages, scratch.start, scratch.len());
        self.runner(image, tracer).run(&wipe)
    }
}

struct PagePlan {
    pages: u64,
    tracked: Vec<u64>,
}

fn push_page(spans: &mut Vec<Span>, page: u64) {
    match spans.last_mut() {
        Some(last) if last.end == page => last.end += PAGE,
        _ => spans.push(Span::new(page, page + PAGE)),
    }
}

/// The worker's own pages, in every private mapping whatever its rights: rights
/// can be changed and changed back, and `/proc/self/mem` does not ask for them.
pub(crate) fn scan(
    process: &Process,
    scanner: &mut PageScanner,
    mappings: &[Mapping],
    found: &mut Vec<Span>,
) -> io::Result<()> {
    let mut range: Option<Span> = None;
    for mapping in mappings {
        let next = match range {
            // The vdso can be written to once it is made writable; its data cannot.
            _ if mapping.backing == Backing::Kernel && mapping.name != "[vdso]" => continue,
            // Shared pages are walked for nothing, and the view has many.
            _ if mapping.shared => None,
            // Unmapped space costs a walk nothing; a read of the file, everything.
            Some(range) if scanner.skips_holes() || range.end == mapping.span.start => {
                Some(Span::new(range.start, mapping.span.end))
            }
            _ => Some(mapping.span),
        };
        if let Some(done) = range
            && next.is_none_or(|next| next.start != done.start)
        {
            scanner.scan(&process.pagemap, done, found)?;
        }
        range = next;
    }
    match range {
        Some(range) => scanner.scan(&process.pagemap, range, found),
        None => Ok(()),
    }
}

fn take_overlay(
    process: &Process,
    table: &File,
    image: &Image,
    mappings: &[Mapping],
    own_pages: &[Span],
) -> Result<Vec<u64>, BirthError> {
    let mut overlay = Vec::new();
    let mut contents = vec![0; PAGE as usize];
    for page in own_pages.iter().flat_map(|span| span.page_addresses()) {
        let ours = mappings
            .iter()
            .any(|mapping| mapping.span.contains(page) && !mapping.shared);
        if !ours || image.is_wiped(page) || image.annex.scratch.contains(page) {
            continue;
        }
        let to = OVERLAY_OFFSET + overlay.len() as u64 * PAGE;
        if to + PAGE > OVERLAY_OFFSET + OVERLAY_BYTES {
            let pages: u64 = own_pages.iter().map(|span| span.pages()).sum();
            return Err(BirthError::Overlay((pages * PAGE) >> 20));
        }
        process
            .read_memory(page, &mut contents)
            .and_then(|()| table.write_all_at(&contents, to))
            .map_err(io_error("taking the worker's overlay"))?;
        overlay.push(page);
    }
    Ok(overlay)
}

fn touches_annex(mend: &Mend<'_>, image: &Image) -> bool {
    let (Mend::Unmap(span) | Mend::Remap(span, _) | Mend::Protect(span, _)) = mend;
    let annex = &image.annex;
    let code = Span::new(annex.code, annex.code + PAGE);
    [code, annex.view, annex.table, annex.scratch]
        .into_iter()
        .any(|own| !own.intersection(*span).is_empty())
}

fn plan_mend(
    mend: &Mend<'_>,
    image: &Image,
    image_descriptor: RawFd,
    program: &mut Program,
) -> Result<(), Taint> {
    match mend {
        Mend::Unmap(span) => program.checked_call(
            Row::Mappings,
            libc::SYS_munmap,
            &[span.start, span.len()],
            0,
        ),
        Mend::Protect(span, protection) => program.checked_call(
            Row::Mappings,
            libc::SYS_mprotect,
            &[span.start, span.len(), *protection as u64],
            0,
        ),
        Mend::Remap(span, was) => {
            if was.shared || matches!(was.backing, Backing::Stack | Backing::Kernel) {
                return Err(Taint::new(
                    Row::Mappings,
                    format!("{span} ({}) is gone or replaced", was.name),
                ));
            }
            let mut rest = *span;
            while !rest.is_empty() {
                let (piece, offset) = image.leading(rest);
                let (flags, descriptor, offset) = match (offset, &was.backing) {
                    (Some(offset), _) => (0, image_descriptor, offset),
                    (None, Backing::Anonymous) => (libc::MAP_ANONYMOUS, -1, 0),
                    (None, _) => {
                        return Err(Taint::new(
                            Row::Mappings,
                            format!("{piece} of {} is gone or replaced", was.name),
                        ));
                    }
                };
                program.checked_call(
                    Row::Mappings,
                    libc::SYS_mmap,
                    &[
                        piece.start,
                        piece.len(),
                        was.protection as u64,
                        (libc::MAP_PRIVATE | libc::MAP_FIXED | flags) as u64,
                        i64::from(descriptor).cast_unsigned(),
                        offset,
                    ],
                    piece.start.cast_signed(),
                );
                rest.start = piece.end;
            }
        }
    }
    Ok(())
}

/// Reaps what the worker started and [`Tracer::hold`] killed, or what had ended
/// unreaped before: the next tenant must have no children.
fn reap_children(children: u32, program: &mut Program) {
    if children == 0 {
        return;
    }
    let any = [u64::MAX, 0, (libc::WNOHANG | libc::__WALL) as u64, 0];
    for _ in 0..children {
        program.call(Row::Children, libc::SYS_wait4, &any);
    }
    program.checked_call(
        Row::Children,
        libc::SYS_wait4,
        &any,
        -i64::from(libc::ECHILD),
    );
}

fn end_thread(
    tracer: &mut Tracer,
    worker: Pid,
    tid: Pid,
    registers: &Registers,
    image: &Image,
) -> Result<(), TraceError> {
    ptrace::set_signal_mask(tid, u64::MAX)?;
    let exit = image.annex.code + arch::stub_exit_offset();
    // The segment registers and the like are the main thread's: as good as any.
    ptrace::set_registers(tid, &registers.entering(exit, 0))?;
    tracer.end_thread(worker, tid)
}

/// Runs programs in one stopped process.
pub(crate) struct Runner<'a> {
    tracer: &'a mut Tracer,
    pid: Pid,
    registers: &'a Registers,
    table: &'a File,
    image: &'a Image,
    bytes: &'a mut Vec<u8>,
}

impl Runner<'_> {
    pub(crate) fn run(&mut self, program: &Program) -> Result<(), Taint> {
        let failed = |doing: &str, error: &dyn std::fmt::Display| {
            Taint::new(Row::Worker, format!("{doing}: {error}"))
        };
        ptrace::set_signal_mask(self.pid, ALL_BUT_TRAP)
            .map_err(|error| failed("holding signals back", &error))?;
        let annex = &self.image.annex;
        let entry = self.registers.entering(annex.code, annex.table.start);
        for batch in 0..program.batches() {
            program
                .write_batch(batch, self.table, self.bytes)
                .map_err(|error| failed("writing the table", &error))?;
            ptrace::set_registers(self.pid, &entry)
                .map_err(|error| failed("entering the stub", &error))?;
            self.tracer
                .run_until_trap(self.pid, "running the stub")
                .map_err(|error| failed("running the stub", &error))?;
            let outcome = ptrace::registers(self.pid)
                .map_err(|error| failed("leaving the stub", &error))?
                .stub_outcome();
            // The addresses in it say what the last tenant touched.
            self.bytes.fill(0);
            self.table
                .write_all_at(self.bytes, 0)
                .map_err(|error| failed("clearing the table", &error))?;
            if outcome.failed {
                let (row, what) = program.failure(batch, annex, outcome.operation, outcome.value);
                return Err(Taint::new(row, what));
            }
        }
        Ok(())
    }
}

impl From<(Vec<Taint>, Stopwatch)> for Refused {
    fn from((taints, watch): (Vec<Taint>, Stopwatch)) -> Self {
        Self {
            taints,
            phases: watch.phases,
        }
    }
}
