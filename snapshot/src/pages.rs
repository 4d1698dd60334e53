//! The pages of a worker that are its own, and what becomes of each: copied back,
//! dropped, or left to the mending of its mapping.
//!
//! A page once dirtied stays private and is copied back from then on: a copy costs
//! a fraction of the fault that the next write would take. Now and then copies are
//! compared first, and what had not changed is dropped at the next rewind, so that
//! one heavy function does not make every later rewind heavy.

use std::io;

use crate::diff::Mend;
use crate::image::Image;
use crate::maps::{self, Backing, Mapping};
use crate::pagemap::PageScanner;
use crate::process::Process;
use crate::row::{Row, Taint};
use crate::sabotage::leaves_out;
use crate::span::{PAGE, Span};
use crate::stub::{OVERLAY_OFFSET, Program, SCRATCH_MARKS, SCRATCH_RESULTS};
use crate::tracer::Tracer;
use crate::worker::Worker;

/// Every so many rewinds, pages that did not change are found out and dropped.
pub(crate) const AGING_PERIOD: u64 = 4;

/// Pages that are copied back rather than dropped, at most: beyond it the copying
/// costs more than the faults it saves, and the memory would be the worker's own.
const HOT_PAGES: u64 = 8192;

/// A page that was dropped as unchanged. Many are written all the same (a reference
/// count goes up and comes down again), and then they come back by a fault that
/// costs more than many copies: each time it is left alone for twice as long.
#[derive(Clone, Copy)]
pub(crate) struct Spared {
    until: u64,
    period: u64,
}

/// Rewinds that such a page is left alone for, at most: so many copies cost more than the
/// fault, and those of a page that is written once in a thousand turns would never end.
const LONGEST_SPARED: u64 = 32;

/// Pages that are remembered as dropped; beyond it, memory counts for more.
const MAX_SPARED: usize = 32 * 1024;

pub(crate) struct PagePlan {
    pub(crate) pages: u64,
    pub(crate) tracked: Vec<u64>,
}

impl Worker {
    /// Decides for each own page whether it is copied back, zeroed or dropped.
    pub(crate) fn plan_pages(
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
                    if !aging && page >= marks && !leaves_out("pages:scratch-behind") {
                        push_page(&mut drops, page);
                    }
                    continue;
                }
                if is_passed_over(mapping, image, page) {
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
    pub(crate) fn age(
        &mut self,
        tracked: &[u64],
        image: &Image,
        tracer: &mut Tracer,
    ) -> Result<(), Taint> {
        let failed = |error: io::Error| Taint::new(Row::Pages, error.to_string());
        let mut marks = vec![0; tracked.len()];
        self.process
            .read_memory(image.annex.scratch.start + SCRATCH_RESULTS, &mut marks)
            .map_err(failed)?;
        if self.spared.len() > MAX_SPARED {
            self.spared.clear();
        }
        for (page, mark) in tracked.iter().zip(&marks) {
            if *mark != 0 || leaves_out("pages:aging") {
                continue;
            }
            let period = match self.spared.get(page) {
                Some(spared) if spared.until > self.rewinds => continue,
                Some(spared) => (spared.period * 2).min(LONGEST_SPARED),
                None => AGING_PERIOD * 2,
            };
            let until = self.rewinds + period;
            self.spared.insert(*page, Spared { until, period });
            self.cold.push(*page);
        }
        let mut wipe = Program::default();
        let scratch = image.annex.scratch;
        if !leaves_out("pages:scratch-when-aging") {
            wipe.zero(Row::Pages, scratch.start, scratch.len());
        }
        self.runner(image, tracer).run(&wipe)
    }
}

/// True if pages of this kind are to be left out.
fn is_passed_over(mapping: &Mapping, image: &Image, page: u64) -> bool {
    match mapping.backing {
        Backing::Stack => leaves_out("pages:of-the-stack"),
        _ if mapping.protection & libc::PROT_EXEC != 0 => leaves_out("pages:executable"),
        _ if !mapping.is_writable() => leaves_out("pages:read-only"),
        _ if image.offset_of(page).is_some() => leaves_out("pages:of-the-image"),
        _ => leaves_out("pages:anonymous"),
    }
}

fn push_page(spans: &mut Vec<Span>, page: u64) {
    match spans.last_mut() {
        Some(last) if last.end == page => last.end += PAGE,
        _ => spans.push(Span::new(page, page + PAGE)),
    }
}

/// Bytes of shared pages between private ones that do not end a walk.
const WALKED_FOR_NOTHING: u64 = 32 * PAGE;

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
            // Shared pages are walked for nothing, which is cheaper than another walk
            // as long as they are few.
            Some(_) if mapping.shared && mapping.span.len() <= WALKED_FOR_NOTHING => continue,
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
