//! The pages of a worker that are its own, and what becomes of each: copied back,
//! dropped, or left to the mending of its mapping.
//!
//! A page once dirtied stays private and is copied back from then on: a copy costs
//! a fraction of the fault that the next write would take. Now and then copies are
//! compared first, and what had not changed is dropped, so that one heavy function does
//! not make every later rewind heavy.
//!
//! So the pages that a rewind leaves are known, and the next one copies all of them back
//! without a look at which were written. As a written page is the worker's own, it then
//! has at least those; if the kernel counts no more than that, there are no others, and
//! the walk through the page tables that would look for them is spared.

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
const AGING_PERIOD: u64 = 16;

/// Rewinds until then, where many have come.
const SOON: u64 = 2;

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
const LONGEST_SPARED: u64 = 4 * AGING_PERIOD;

/// Pages that are remembered as dropped; beyond it, memory counts for more.
const MAX_SPARED: usize = 32 * 1024;

/// A page, and where in the worker its contents stand.
type Copied = (u64, u64);

/// The pages that are a worker's own after a rewind, beside those of the scratch area.
#[derive(Default)]
pub(crate) struct Known {
    /// Copied back, ascending; those of the overlay are not among them.
    pages: Vec<Copied>,
    /// Copies them back, the overlay too, and drops what is wiped.
    program: Program,
    /// How many own pages there are if they are all; nothing if that was not so.
    count: Option<u64>,
    /// How often in a row there were others.
    misses: u32,
    /// The rewind that is to look which of them changed.
    aging: u64,
    /// How many there were when that was last done.
    aged: usize,
    /// Those that came with many others since, ascending.
    flood: Vec<u64>,
}

impl Known {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self {
            aging: AGING_PERIOD,
            ..Self::default()
        }
    }
}

/// So many times in a row are others found before they are looked for at once: a runtime
/// with threads seldom writes to the same pages twice.
const MISSES: u32 = 3;

/// What a rewind looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// All own pages.
    All,
    /// The same, and which of them changed.
    Aging,
    /// Those that are not known, whose turn was before.
    Others,
}

#[derive(Default)]
pub(crate) struct PagePlan {
    pub(crate) pages: u64,
    /// What is copied back, ascending.
    copied: Vec<Copied>,
    /// The first of them, which are compared.
    tracked: usize,
}

impl Worker {
    /// Adds the copying of all known pages to the program, if those may be all own pages
    /// that there are; how many.
    pub(crate) fn copy_known(&self, program: &mut Program) -> Option<u64> {
        self.known.count?;
        if self.rewinds >= self.known.aging || self.known.misses >= MISSES {
            return None;
        }
        program.append(&self.known.program);
        Some((self.known.pages.len() + self.ready.overlay.len()) as u64)
    }

    /// True if the worker, whose known pages were copied back, has no others.
    pub(crate) fn has_no_others(&mut self, scanner: &PageScanner) -> bool {
        let expected = self.known.count;
        let has_none = expected.is_some() && self.count_own_pages(scanner) == expected
            || leaves_out("pages:counted");
        if has_none {
            self.known.misses = 0;
        }
        has_none
    }

    fn count_own_pages(&self, scanner: &PageScanner) -> Option<u64> {
        scanner.counter.as_ref()?.count(&self.process)
    }

    /// What this rewind has to look at, if not all of that is known.
    pub(crate) fn look(&self) -> Look {
        match self.rewinds >= self.known.aging {
            true => Look::Aging,
            false => Look::All,
        }
    }

    /// Decides for each own page whether it is copied back, zeroed or dropped.
    pub(crate) fn plan_pages(
        &self,
        image: &Image,
        mends: &[Mend<'_>],
        look: Look,
        program: &mut Program,
    ) -> PagePlan {
        let mut plan = PagePlan::default();
        let mut mappings = self.ready.mappings.iter().peekable();
        let mut remade = mends
            .iter()
            .filter_map(|mend| match mend {
                Mend::Remap(span, _) => Some(*span),
                _ => None,
            })
            .peekable();
        let marks = image.annex.scratch.start + SCRATCH_RESULTS;
        let is_known = |page: u64| {
            let known = || self.known.pages.binary_search_by_key(&page, |it| it.0);
            look == Look::Others && known().is_ok()
        };
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
                    if look != Look::Aging && page >= marks && !leaves_out("pages:scratch-behind") {
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
                if self.ready.overlay.binary_search(&page).is_ok() || is_known(page) {
                    continue;
                }
                let hot = mapping.is_writable() && (plan.copied.len() as u64) < HOT_PAGES;
                let from = match mapping.backing {
                    Backing::Anonymous | Backing::Stack => Some(image.zeros()),
                    Backing::File { .. } | Backing::Kernel => None,
                };
                let Some(from) = image.view_of(page).or(from).filter(|_| hot) else {
                    // Dropped, it shows the image's page, or its file, or zeros again.
                    push_page(&mut drops, page);
                    continue;
                };
                if look == Look::Aging && plan.tracked < SCRATCH_MARKS {
                    let mark = marks + plan.tracked as u64;
                    program.refresh(Row::Pages, page, from, PAGE, mark);
                    plan.tracked += 1;
                } else {
                    program.copy(Row::Pages, page, from, PAGE);
                }
                plan.copied.push((page, from));
            }
        }
        drop_pages(&drops, program);
        if look != Look::Others {
            self.copy_overlay(image, program);
        }
        plan
    }

    /// Adds the copying of all of the overlay, scanned or not: the function may have
    /// dropped a page.
    fn copy_overlay(&self, image: &Image, program: &mut Program) {
        let overlay_at = image.annex.table.start + OVERLAY_OFFSET;
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
    }

    /// Takes note of the pages that a rewind left, which are these and, of others, those
    /// that are known.
    pub(crate) fn get_to_know(
        &mut self,
        plan: PagePlan,
        look: Look,
        image: &Image,
        scanner: &PageScanner,
    ) {
        let mut known = std::mem::take(&mut self.known);
        let were_known = |it: &&Copied| known.pages.binary_search(it).is_ok();
        let new: Vec<u64> = (plan.copied.iter().filter(|it| !were_known(it)))
            .map(|(page, _)| *page)
            .collect();
        if look == Look::Others {
            known.misses += 1;
        } else if new.is_empty() {
            known.misses = 0;
        }
        if look == Look::Others {
            known.pages.extend(plan.copied);
            known.pages.sort_unstable();
        } else {
            known.pages = plan.copied;
        }
        let many = known.aged + known.aged / 2 + 64;
        match look {
            Look::Aging => {
                known.aged = known.pages.len();
                known.aging = self.rewinds + AGING_PERIOD;
                known.flood.clear();
            }
            _ if known.pages.len() > many => {
                known.aging = known.aging.min(self.rewinds + SOON);
                known.flood.extend(new);
                known.flood.sort_unstable();
            }
            _ => {}
        }
        known.program.clear();
        known.count = None;
        if scanner.counter.is_some() {
            for (page, from) in &known.pages {
                known.program.copy(Row::Pages, *page, *from, PAGE);
            }
            self.copy_overlay(image, &mut known.program);
            let is_there = |span: &&Span| {
                let mut mappings = self.ready.mappings.iter().map(|mapping| mapping.span);
                mappings.any(|it| it.start <= span.start && span.end <= it.end)
            };
            for span in image.wiped.iter().filter(is_there) {
                drop_pages(&[*span], &mut known.program);
            }
            let all = (known.pages.len() + self.ready.overlay.len()) as u64;
            let expected = all + SCRATCH_RESULTS / PAGE;
            known.count = (self.count_own_pages(scanner) == Some(expected)).then_some(expected);
        }
        self.known = known;
    }

    /// Drops those of the compared pages that had not changed, and clears the marks.
    pub(crate) fn age(
        &mut self,
        plan: &mut PagePlan,
        image: &Image,
        tracer: &mut Tracer,
    ) -> Result<(), Taint> {
        let failed = |error: io::Error| Taint::new(Row::Pages, error.to_string());
        let mut marks = vec![0; plan.tracked];
        let scratch = image.annex.scratch;
        let marked = scratch.start + SCRATCH_RESULTS;
        self.process
            .read_memory(marked, &mut marks)
            .map_err(failed)?;
        if self.spared.len() > MAX_SPARED {
            self.spared.clear();
        }
        let mut drops = Vec::new();
        let mut marks = marks.into_iter();
        plan.copied.retain(|(page, _)| {
            // Beyond those that were compared there are no marks.
            if marks.next() != Some(0) || leaves_out("pages:aging") {
                return true;
            }
            let period = match self.spared.get(page) {
                Some(spared) if spared.until > self.rewinds => return true,
                // A heavy function's, which may come again: then it pays for them again.
                _ if self.known.flood.binary_search(page).is_ok() => AGING_PERIOD,
                Some(spared) => (spared.period * 2).min(LONGEST_SPARED),
                None => AGING_PERIOD,
            };
            let until = self.rewinds + period;
            self.spared.insert(*page, Spared { until, period });
            push_page(&mut drops, *page);
            false
        });
        let mut program = Program::default();
        drop_pages(&drops, &mut program);
        if !leaves_out("pages:scratch-when-aging") {
            program.zero(Row::Pages, scratch.start, SCRATCH_RESULTS);
            drop_pages(&[Span::new(marked, scratch.end)], &mut program);
        }
        self.runner(image, tracer).run(&program)
    }
}

/// Adds the dropping of these pages.
fn drop_pages(spans: &[Span], program: &mut Program) {
    for span in spans {
        program.checked_call(
            Row::Pages,
            libc::SYS_madvise,
            &[span.start, span.len(), libc::MADV_DONTNEED as u64],
            0,
        );
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
            _ if mapping.backing == Backing::Kernel && *mapping.name != *"[vdso]" => continue,
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
