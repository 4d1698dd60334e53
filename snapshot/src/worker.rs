//! A worker: what it was at its ready point, and how it is brought back there.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::RawFd;

use nix::unistd::{Gid, Pid, Uid};

use crate::arch::{self, Registers};
use crate::descriptors::Descriptors;
use crate::diff::mends;
use crate::image::Image;
use crate::kernel_state::{self, KernelState};
use crate::maps::{self, Mapping};
use crate::mend::{plan_mend, touches_annex};
use crate::pagemap::PageScanner;
use crate::pages::{Known, Look, PagePlan, Spared, scan};
use crate::process::Process;
use crate::ptrace::{self, RseqConfiguration};
use crate::report::{Refused, Rewound, Stopwatch, Work};
use crate::row::{Row, Taint};
use crate::runner::Runner;
use crate::sabotage::leaves_out;
use crate::span::Span;
use crate::stub::{Program, SCRATCH_RESULTS};
use crate::syscalls;
use crate::threads::{self, ReadyRegisters, ReadyThread, missing};
use crate::tracer::{Held, Noted, TraceError, Tracer};

/// Children of a worker that one rewind reaps.
const MAX_CHILDREN: u32 = 4096;

/// A process that was forked from a template and can be put back.
pub struct Worker {
    pub(crate) process: Process,
    pub(crate) owner: (Uid, Gid),
    pub(crate) table: File,
    /// The image's descriptor inside the worker.
    pub(crate) image_number: RawFd,
    pub(crate) ready: ReadyPoint,
    pub(crate) descriptors: Descriptors,
    pub(crate) held: Option<Held>,
    pub(crate) rewinds: u64,
    /// The pages that the last rewind left.
    pub(crate) known: Known,
    /// When a page that was dropped before may be dropped again.
    pub(crate) spared: HashMap<u64, Spared>,
    // Kept between rewinds so that one allocates nothing.
    pub(crate) program: Program,
    pub(crate) bytes: Vec<u8>,
    pub(crate) own_pages: Vec<Span>,
}

/// Everything a rewind goes back to, beside the image.
pub(crate) struct ReadyPoint {
    pub(crate) registers: ReadyRegisters,
    /// Beside the main one.
    pub(crate) threads: Vec<ReadyThread>,
    pub(crate) rseq: Option<RseqConfiguration>,
    pub(crate) kernel: KernelState,
    pub(crate) maps_text: Vec<u8>,
    pub(crate) mappings: Vec<Mapping>,
    /// Beyond this many, mending has cut the list to shreds, and a new worker is
    /// the better one.
    pub(crate) pieces_allowed: usize,
    /// Tries whether the stack grows.
    pub(crate) stack: Program,
    /// Pages that the worker wrote before its ready point, ascending; the n-th
    /// one's contents are the n-th page of the table's overlay.
    pub(crate) overlay: Vec<u64>,
}

impl Worker {
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
        if leaves_out("recorded:all") {
            taints.clear();
        }
        if evidence.children > MAX_CHILDREN && !leaves_out("children:too-many") {
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
            || leaves_out("mappings:compared")
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

        let missing = missing(&self.ready.threads, &held.threads_of_snapshot);
        if !missing.is_empty() && !leaves_out("threads:of-the-snapshot") {
            return Err(missing);
        }
        for tid in held.threads.iter().filter(|_| !leaves_out("threads:end")) {
            end_thread(tracer, pid, *tid, &self.ready.registers.general, image)
                .map_err(|error| one(Row::Threads, &error))?;
        }
        if !held.threads.is_empty() {
            watch.lap("threads");
        }

        let mut pending =
            ptrace::pending_signals(pid).map_err(|error| one(Row::Signals, &error))?;
        let sleeps = |thread: &&ReadyThread| tracer.is_asleep(thread.tid);
        let asleep: Vec<&ReadyThread> = self.ready.threads.iter().filter(sleeps).collect();
        if asleep.is_empty() {
            for thread in &self.ready.threads {
                pending.extend(
                    ptrace::pending_signals(thread.tid)
                        .map_err(|error| one(Row::Signals, &error))?,
                );
            }
        } else if evidence.noted.thread_signals && !leaves_out("sleepers:pending") {
            // The kernel tells what waits for a thread only when that is stopped.
            pending.extend(kernel_state::signals().map(|signal| signal as i32));
        }
        let noted = evidence.noted;
        let kernel = &self.ready.kernel;
        let dispositions = kernel.drop_pending(&pending, noted, &mut program);
        reap_children(evidence.children, &mut program);
        kernel.check_limits(noted, &mut program);
        kernel.check_standing(noted, &mut program);
        for thread in asleep
            .into_iter()
            .filter(|_| noted.standing && !leaves_out("sleepers:scheduling"))
        {
            program.append(&thread.state.from_outside);
        }
        let descriptors_closed = self
            .descriptors
            .mend(&self.process, noted, &mut program)
            .map_err(|taint| vec![taint])?;
        watch.lap("descriptors");

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
        program.append(&self.ready.stack);
        program.append(&self.ready.kernel.before_pages);
        let mut look = self.look();
        let are_known = match mends.is_empty() {
            true => self.copy_known(&mut program),
            false => None,
        };
        let mut plan = PagePlan::default();
        if are_known.is_none() {
            find_own_pages(
                &self.process,
                scanner,
                &self.ready.mappings,
                &mut self.own_pages,
            )?;
            watch.lap("scan");
            plan = self.plan_pages(image, &mends, look, &mut program);
        }
        self.ready
            .kernel
            .put_dispositions_back(dispositions, &mut program);
        program.append(&self.ready.kernel.after_pages);
        self.ready.kernel.put_attributes_back(noted, &mut program);
        if look != Look::Aging {
            program.zero(Row::Pages, image.annex.scratch.start, SCRATCH_RESULTS);
        }
        #[cfg(feature = "sabotage")]
        crate::sabotage::leave_out(&mut program, &image.annex);
        let mappings_mended = mends.len() as u32;
        let are_mappings_otherwise = now.is_some();
        let mut work = Work::default();
        program.add_work(&mut work);
        watch.lap("plan");

        self.runner(image, tracer)
            .run(&program)
            .map_err(|taint| vec![taint])?;
        watch.lap("copy");
        let has_others = are_known.is_some() && !self.has_no_others(scanner);
        if are_known.is_some() {
            watch.lap("count");
        }
        if has_others {
            look = Look::Others;
            find_own_pages(
                &self.process,
                scanner,
                &self.ready.mappings,
                &mut self.own_pages,
            )?;
            program.clear();
            program.append(&self.ready.kernel.before_pages);
            plan = self.plan_pages(image, &[], look, &mut program);
            program.append(&self.ready.kernel.after_pages);
            #[cfg(feature = "sabotage")]
            crate::sabotage::leave_out(&mut program, &image.annex);
            program.add_work(&mut work);
            self.runner(image, tracer)
                .run(&program)
                .map_err(|taint| vec![taint])?;
            watch.lap("others");
        }
        let dirty_pages = match are_known {
            Some(known) if !has_others => known,
            _ => plan.pages,
        };
        if look == Look::Aging {
            self.age(&mut plan, image, tracer)
                .map_err(|taint| vec![taint])?;
        }
        if are_known.is_none() || has_others {
            self.get_to_know(plan, look, image, scanner);
            watch.lap("known");
        }
        self.descriptors
            .check_epoll()
            .map_err(|taint| vec![taint])?;
        self.put_threads_back(noted, image, tracer)
            .map_err(|taint| vec![taint])?;
        if !self.ready.threads.is_empty() {
            watch.lap("each thread");
        }

        if are_mappings_otherwise && !leaves_out("mappings:pieces") {
            self.accept_mappings()?;
            watch.lap("mappings again");
        }

        self.put_registers_back(|tid| !tracer.is_asleep(tid))
            .map_err(|error| one(Row::Registers, &error))?;
        if !leaves_out("pages:peak") {
            self.process
                .reset_peak()
                .map_err(|error| one(Row::Pages, &error))?;
        }
        watch.lap("registers");
        self.program = program;
        self.rewinds += 1;
        // What ending threads and copying set off is not the next tenant's doing.
        tracer.take_evidence(pid);
        Ok(Rewound {
            phases: watch.phases.clone(),
            dirty_pages,
            threads_ended: held.threads.len() as u32,
            processes_ended: held.processes_ended,
            mappings_mended,
            descriptors_closed,
            work,
        })
    }

    /// Has every thread but the main one put back what only it can.
    fn put_threads_back(
        &mut self,
        noted: Noted,
        image: &Image,
        tracer: &mut Tracer,
    ) -> Result<(), Taint> {
        threads::put_back(
            self.process.pid,
            (&self.ready.threads, noted),
            &self.table,
            image,
            tracer,
            &mut self.bytes,
        )
    }

    /// Looks at a mapping list once more that was not what it was. It may be cut into
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

    /// Everything of its threads that ptrace itself can set; beside the main one, of those
    /// that are `stopped`.
    pub(crate) fn set_registers(&self, stopped: impl Fn(Pid) -> bool) -> Result<(), TraceError> {
        self.ready.registers.set(self.process.pid)?;
        self.set_registers_of_others(stopped)
    }

    /// The same after a program that gave the main thread its extended registers.
    fn put_registers_back(&self, stopped: impl Fn(Pid) -> bool) -> Result<(), TraceError> {
        self.ready.registers.set_but_extended(self.process.pid)?;
        self.set_registers_of_others(stopped)
    }

    fn set_registers_of_others(&self, stopped: impl Fn(Pid) -> bool) -> Result<(), TraceError> {
        for thread in self.ready.threads.iter().filter(|it| stopped(it.tid)) {
            thread.registers.set(thread.tid)?;
        }
        Ok(())
    }

    /// What runs programs in this worker, with every signal but the breakpoint's
    /// held back.
    pub(crate) fn runner<'a>(&'a mut self, image: &'a Image, tracer: &'a mut Tracer) -> Runner<'a> {
        Runner {
            tracer,
            pid: self.process.pid,
            registers: &self.ready.registers.general,
            table: &self.table,
            image,
            bytes: &mut self.bytes,
        }
    }
}

fn find_own_pages(
    process: &Process,
    scanner: &mut PageScanner,
    mappings: &[Mapping],
    found: &mut Vec<Span>,
) -> Result<(), Vec<Taint>> {
    found.clear();
    scan(process, scanner, mappings, found)
        .map_err(|error| vec![Taint::new(Row::Pages, error.to_string())])
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

impl From<(Vec<Taint>, Stopwatch)> for Refused {
    fn from((taints, watch): (Vec<Taint>, Stopwatch)) -> Self {
        Self {
            taints,
            phases: watch.phases,
        }
    }
}
