//! Which pages of a process are its own: present, or swapped, and not a file's.
//!
//! Under a private mapping of a memfd a page that was never written *is* the
//! file's page; the first write replaces it by an anonymous copy. So "mine" and
//! "written since the snapshot, or copied back since" are one and the same.
//!
//! Two ways lead there. `PAGEMAP_SCAN` (since 6.7, admin-guide/mm/pagemap.rst)
//! walks page tables and answers with regions. It merges neighbours *across*
//! mappings: callers must intersect with the mapping list. Before 6.7 the pagemap
//! file gives a word a page: bit 63 present, 62 swapped, 61 file or shared.
//! Soft-dirty bits would be narrower, but many kernels accept the request to
//! clear them and do nothing.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::own_pages::PageCounter;
use crate::span::{PAGE, Span};

/// How to find a worker's own pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scan {
    /// `PAGEMAP_SCAN` where the kernel has it, the pagemap file elsewhere.
    #[default]
    Auto,
    /// `PAGEMAP_SCAN` only.
    Ioctl,
    /// The pagemap file only.
    File,
}

const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const FILE_OR_SHARED: u64 = 1 << 61;

const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
/// The shared page of zeros that a read of untouched memory shows: nobody's own.
const PAGE_IS_PFNZERO: u64 = 1 << 5;

/// `struct pm_scan_arg` (`linux/fs.h`).
#[repr(C)]
#[derive(Default)]
struct ScanArgs {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` (`linux/fs.h`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

/// `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::c_ulong = 0xc060_6610;

const REGIONS: usize = 1024;

/// Answers which pages of one process are its own.
pub struct PageScanner {
    by_ioctl: bool,
    /// Own pages need not be looked for where as many are there as are known.
    pub(crate) counter: Option<PageCounter>,
    regions: Vec<Region>,
    words: Vec<u8>,
}

impl PageScanner {
    /// Settles the way once, by asking the kernel about this very process.
    ///
    /// # Errors
    /// The scan was asked for by name and the kernel does not have it.
    pub fn new(scan: Scan) -> io::Result<Self> {
        let by_ioctl = match scan {
            Scan::File => false,
            Scan::Ioctl | Scan::Auto => {
                let probed = File::open("/proc/self/pagemap").and_then(|pagemap| {
                    ioctl_scan(
                        &pagemap,
                        Span::new(PAGE, 2 * PAGE),
                        &mut [Region::default()],
                    )
                });
                match (scan, probed) {
                    (_, Ok(_)) => true,
                    (Scan::Ioctl, Err(error)) => return Err(error),
                    (_, Err(_)) => false,
                }
            }
        };
        Ok(Self {
            by_ioctl,
            counter: PageCounter::new(),
            regions: vec![Region::default(); REGIONS],
            words: Vec::new(),
        })
    }

    /// Adds to `found` the spans of own pages in `range`, ascending. Spans may
    /// cross mappings, and the process must do nothing meanwhile.
    ///
    /// # Errors
    /// The pagemap could not be read.
    pub fn scan(&mut self, pagemap: &File, range: Span, found: &mut Vec<Span>) -> io::Result<()> {
        if self.by_ioctl {
            self.scan_by_ioctl(pagemap, range, found)
        } else {
            self.scan_by_file(pagemap, range, found)
        }
    }

    /// True if one scan may span unmapped space at no cost worth mentioning.
    pub(crate) fn skips_holes(&self) -> bool {
        self.by_ioctl
    }

    fn scan_by_ioctl(
        &mut self,
        pagemap: &File,
        range: Span,
        found: &mut Vec<Span>,
    ) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (regions, walked_to) =
                ioctl_scan(pagemap, Span::new(at, range.end), &mut self.regions)?;
            for region in &self.regions[..regions] {
                push(found, Span::new(region.start, region.end));
            }
            // A full vector ends the walk early; so may nothing else.
            if walked_to <= at {
                return Err(io::Error::other("PAGEMAP_SCAN made no progress"));
            }
            at = walked_to;
        }
        Ok(())
    }

    fn scan_by_file(
        &mut self,
        pagemap: &File,
        range: Span,
        found: &mut Vec<Span>,
    ) -> io::Result<()> {
        const CHUNK_PAGES: u64 = 32 * 1024;
        let mut at = range.start;
        while at < range.end {
            let pages = (range.end - at).div_ceil(PAGE).min(CHUNK_PAGES);
            self.words.resize(pages as usize * 8, 0);
            pagemap.read_exact_at(&mut self.words, at / PAGE * 8)?;
            for (index, word) in self.words.chunks_exact(8).enumerate() {
                let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
                if word & (PRESENT | SWAPPED) != 0 && word & FILE_OR_SHARED == 0 {
                    let start = at + index as u64 * PAGE;
                    push(found, Span::new(start, start + PAGE));
                }
            }
            at += pages * PAGE;
        }
        Ok(())
    }
}

fn ioctl_scan(pagemap: &File, range: Span, regions: &mut [Region]) -> io::Result<(usize, u64)> {
    let mut args = ScanArgs {
        size: size_of::<ScanArgs>() as u64,
        start: range.start,
        end: range.end,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        category_inverted: PAGE_IS_FILE | PAGE_IS_PFNZERO,
        category_mask: PAGE_IS_FILE | PAGE_IS_PFNZERO,
        category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
        // One category for all, so that neighbours come as one region.
        return_mask: PAGE_IS_FILE,
        ..ScanArgs::default()
    };
    // SAFETY: the argument block has the size it names, and `vec` has room for
    // `vec_len` regions; both outlive the call.
    let filled = unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut args) };
    if filled < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((filled as usize, args.walk_end))
}

fn push(found: &mut Vec<Span>, span: Span) {
    match found.last_mut() {
        Some(last) if last.end == span.start => last.end = span.end,
        _ => found.push(span),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::io::AsFd;

    use super::*;

    /// A private mapping of a file with pages 1, 2 and 5 of eight written.
    fn some_written() -> Span {
        let file = memfd::MemfdOptions::default().create("scan").unwrap();
        file.as_file().set_len(8 * PAGE).unwrap();
        // SAFETY: a fresh mapping; only its own bytes are written.
        unsafe {
            let at = nix::sys::mman::mmap(
                None,
                8.try_into()
                    .map(|n: std::num::NonZeroUsize| {
                        n.saturating_mul((PAGE as usize).try_into().unwrap())
                    })
                    .unwrap(),
                nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE,
                nix::sys::mman::MapFlags::MAP_PRIVATE,
                file.as_file().as_fd(),
                0,
            )
            .unwrap();
            let base = at.as_ptr().cast::<u8>();
            // A read makes a page present without making it ours.
            std::ptr::read_volatile(base);
            for page in [1, 2, 5] {
                base.add(page * PAGE as usize).write_volatile(1);
            }
            Span::new(base as u64, base as u64 + 8 * PAGE)
        }
    }

    fn written_by(scan: Scan) {
        let span = some_written();
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        let mut found = Vec::new();
        PageScanner::new(scan)
            .unwrap()
            .scan(&pagemap, span, &mut found)
            .unwrap();
        let page = |from: u64, to: u64| Span::new(span.start + from * PAGE, span.start + to * PAGE);
        assert_eq!(found, [page(1, 3), page(5, 6)]);
    }

    #[test]
    fn the_pagemap_file_shows_written_pages() {
        written_by(Scan::File);
    }

    #[test]
    fn the_scan_call_shows_written_pages() {
        if PageScanner::new(Scan::Ioctl).is_err() {
            eprintln!("not run: this kernel has no PAGEMAP_SCAN (6.7)");
            return;
        }
        written_by(Scan::Ioctl);
    }
}
