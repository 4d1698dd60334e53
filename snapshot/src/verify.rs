//! A second look at a worker that was just rewound, by other means than the rewind
//! used: every page of its own is read and compared, everything is listed anew.
//!
//! A page that is not the worker's own is the sealed image's or a file's, and cannot
//! differ. A difference is a bug of the engine, or a state that its table misses.

use std::io;
use std::os::unix::fs::FileExt;

use crate::image::Image;
use crate::kernel_state;
use crate::maps::Mapping;
use crate::pagemap::PageScanner;
use crate::pages::scan;
use crate::ptrace;
use crate::row::{Row, Taint};
use crate::runner::Runner;
use crate::span::{PAGE, Span};
use crate::stub::{OVERLAY_OFFSET, Program, SCRATCH_RESULTS};
use crate::threads::ReadyRegisters;
use crate::tracer::Tracer;
use crate::worker::Worker;

/// Pages that are read and compared in one go.
const AT_ONCE: usize = 64;

impl Worker {
    /// Every difference between a rewound, still stopped worker and its ready
    /// point. Its registers are as they were when this returns.
    pub(crate) fn differences(
        &mut self,
        image: &Image,
        tracer: &mut Tracer,
        scanner: &mut PageScanner,
    ) -> Vec<Taint> {
        let mut taints = Vec::new();
        let mut look = |row: Row, found: io::Result<Vec<Taint>>| match found {
            Ok(found) => taints.extend(found),
            Err(error) => taints.push(Taint::new(row, format!("it cannot be verified: {error}"))),
        };
        look(Row::Threads, self.wake_differences(tracer));
        look(Row::Registers, self.register_differences());
        look(Row::Threads, self.thread_differences());
        look(
            Row::Descriptors,
            self.descriptors.differences(&self.process, self.owner),
        );
        look(Row::Mappings, self.mapping_differences());
        // Before the stub runs again, which uses the scratch area.
        look(Row::Pages, self.page_differences(image, scanner));
        look(Row::Worker, self.kernel_differences(image, tracer));
        taints
    }

    /// Stops those that were left asleep, and looks whether they were.
    fn wake_differences(&self, tracer: &mut Tracer) -> io::Result<Vec<Taint>> {
        let asleep: Vec<_> = self
            .ready
            .threads
            .iter()
            .filter(|thread| tracer.is_asleep(thread.tid))
            .collect();
        let tids: Vec<_> = asleep.iter().map(|thread| thread.tid).collect();
        tracer.wake(self.pid(), &tids).map_err(io::Error::other)?;
        // They left the call that they had been stepped into, and are to stop once more
        // for that.
        for tid in &tids {
            let pending = ptrace::pending_signals(*tid).map_err(io::Error::other)?;
            if pending.contains(&libc::SIGTRAP) {
                tracer
                    .run_until_traps(self.pid(), &[*tid], "waking a thread")
                    .map_err(io::Error::other)?;
            }
        }
        let mut taints = Vec::new();
        for thread in asleep {
            let found = ReadyRegisters::of(thread.tid).map_err(io::Error::other)?;
            if let Some(what) = thread.registers.moved_since(&found) {
                let detail = format!("thread {} did not sleep: {what}", thread.tid);
                taints.push(Taint::new(Row::Threads, detail));
            }
            thread.registers.set(thread.tid).map_err(io::Error::other)?;
        }
        Ok(taints)
    }

    fn register_differences(&self) -> io::Result<Vec<Taint>> {
        let pid = self.pid();
        let ready = &self.ready;
        let threads = ready
            .threads
            .iter()
            .map(|thread| (thread.tid, &thread.registers, thread.rseq));
        let mut taints = Vec::new();
        for (tid, registers, rseq) in threads.chain([(pid, &ready.registers, ready.rseq)]) {
            taints.extend(registers.differences(tid).map_err(io::Error::other)?);
            if ptrace::rseq_configuration(tid) != rseq {
                taints.push(Taint::new(Row::ThreadAreas, "rseq is registered otherwise"));
            }
        }
        Ok(taints)
    }

    fn thread_differences(&self) -> io::Result<Vec<Taint>> {
        let pid = self.pid();
        let mut taints = Vec::new();
        let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?.count();
        if threads != 1 + self.ready.threads.len() {
            taints.push(Taint::new(Row::Threads, format!("there are {threads}")));
        }
        // Only with CONFIG_PROC_CHILDREN, and CONFIG_POSIX_TIMERS below.
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        if let Ok(children) = children
            && !children.is_empty()
        {
            taints.push(Taint::new(Row::Children, format!("{children}are there")));
        }
        if let Ok(timers) = std::fs::read_to_string(format!("/proc/{pid}/timers"))
            && !timers.is_empty()
        {
            taints.push(Taint::new(Row::Timers, timers));
        }
        Ok(taints)
    }

    fn mapping_differences(&mut self) -> io::Result<Vec<Taint>> {
        Ok(match self.read_mappings()? {
            None => Vec::new(),
            Some(now) => crate::diff::mends(&self.ready.mappings, &now)
                .iter()
                .map(|mend| Taint::new(Row::Mappings, format!("{mend:?}")))
                .collect(),
        })
    }

    fn page_differences(
        &mut self,
        image: &Image,
        scanner: &mut PageScanner,
    ) -> io::Result<Vec<Taint>> {
        let mut taints = Vec::new();
        self.own_pages.clear();
        scan(
            &self.process,
            scanner,
            &self.ready.mappings,
            &mut self.own_pages,
        )?;
        let mut pages: Vec<u64> = self
            .own_pages
            .iter()
            .flat_map(|span| span.page_addresses())
            .chain(self.ready.overlay.iter().copied())
            .collect();
        pages.sort_unstable();
        pages.dedup();
        let (mut now, mut then) = (Vec::new(), Vec::new());
        let mut rest = pages.as_slice();
        while let [first, ..] = *rest {
            let mappings = &self.ready.mappings;
            let below = mappings.partition_point(|mapping| mapping.span.end <= first);
            let mapping = mappings.get(below).filter(|it| it.span.contains(first));
            let Some(mapping) = mapping.filter(|mapping| !mapping.shared) else {
                rest = &rest[1..];
                continue;
            };
            let neighbours = rest
                .iter()
                .zip((first..mapping.span.end).step_by(PAGE as usize))
                .take(AT_ONCE)
                .take_while(|(page, expected)| **page == *expected)
                .count();
            rest = &rest[neighbours..];
            let span = Span::new(first, first + neighbours as u64 * PAGE);
            then.clear();
            then.resize(span.len() as usize, 0);
            self.read_then(image, mapping, span, &mut then, &mut taints)?;
            now.resize(then.len(), 0);
            self.process.read_memory(span.start, &mut now)?;
            // Whole stretches first: a search byte by byte takes twenty times as long.
            if now == then {
                continue;
            }
            let bytes = now.iter().zip(&then).zip(span.start..);
            let differing = bytes
                .filter(|((now, then), at)| now != then && !self.is_kernels_own(*at))
                .map(|(_, at)| at);
            let mut last = None;
            for at in differing {
                // One for each page says enough.
                if last.replace(at / PAGE) != Some(at / PAGE) {
                    let detail = format!("{at:#x} in {:?} differs", mapping.name);
                    taints.push(Taint::new(Row::Pages, detail));
                }
            }
        }
        Ok(taints)
    }

    /// What stood in this part of a mapping at the ready point, into zeros.
    fn read_then(
        &self,
        image: &Image,
        mapping: &Mapping,
        span: Span,
        then: &mut [u8],
        taints: &mut Vec<Taint>,
    ) -> io::Result<()> {
        let overlay = &self.ready.overlay;
        let within = |part: Span| {
            let from = (part.start - span.start) as usize;
            from..from + part.len() as usize
        };
        let mut rest = span;
        while !rest.is_empty() {
            let (piece, offset) = image.leading(rest);
            rest.start = piece.end;
            if let Some(offset) = offset {
                image.read(offset, &mut then[within(piece)])?;
            } else if !mapping.is_anonymous() {
                for page in piece.page_addresses() {
                    if overlay.binary_search(&page).is_err() {
                        let detail = format!("{page:#x} in {} is the worker's own", mapping.name);
                        taints.push(Taint::new(Row::Pages, detail));
                    }
                }
            }
        }
        let first = overlay.partition_point(|page| *page < span.start);
        for (slot, page) in overlay.iter().enumerate().skip(first) {
            if !span.contains(*page) {
                break;
            }
            let part = Span::new(*page, page + PAGE);
            self.table
                .read_exact_at(&mut then[within(part)], OVERLAY_OFFSET + slot as u64 * PAGE)?;
        }
        Ok(())
    }

    /// The words of the rseq area that the kernel writes by itself.
    fn is_kernels_own(&self, address: u64) -> bool {
        let others = self.ready.threads.iter().map(|thread| thread.rseq);
        others
            .chain([self.ready.rseq])
            .flatten()
            .any(|rseq| (rseq.pointer..rseq.pointer + u64::from(rseq.size)).contains(&address))
    }

    fn kernel_differences(&mut self, image: &Image, tracer: &mut Tracer) -> io::Result<Vec<Taint>> {
        let mut runner = self.runner(image, tracer);
        let program = kernel_state::capturing(&image.annex);
        if let Err(taint) = runner.run(&program) {
            return Ok(vec![taint]);
        }
        let mut taints = self.ready.kernel.differences(&self.process, &image.annex)?;
        for thread in &self.ready.threads {
            let mut runner = Runner {
                tracer: &mut *tracer,
                pid: thread.tid,
                registers: &thread.registers.general,
                table: &self.table,
                image,
                bytes: &mut self.bytes,
            };
            if let Err(taint) = runner.run(&program) {
                return Ok(vec![taint]);
            }
            taints.extend(thread.state.differences(&self.process, &image.annex)?);
        }
        if let Some(masking) = self.ready.kernel.masking() {
            taints.extend(self.runner(image, tracer).run(&masking).err());
        }
        let mut wipe = Program::default();
        let scratch = image.annex.scratch;
        // No more than was written: the rest is to stay untouched.
        wipe.zero(Row::Pages, scratch.start, SCRATCH_RESULTS);
        if let Err(taint) = self.runner(image, tracer).run(&wipe) {
            return Ok(vec![taint]);
        }
        self.set_registers(|_| true).map_err(io::Error::other)?;
        Ok(taints)
    }
}
