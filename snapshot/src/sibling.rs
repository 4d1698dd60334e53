//! What the workers of a template have in common at their ready points: they are forked from
//! the same memory and do the same there. So a newborn is only asked whether it is as the one
//! before it was, which takes a fraction of finding out how it is.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::maps::{Backing, Mapping};
use crate::pagemap::PageScanner;
use crate::process::Process;
use crate::row::Row;
use crate::sabotage::leaves_out;
use crate::span::Span;
use crate::stub::{Annex, Program};

/// The worker that was last found to be otherwise than the one before it.
#[derive(Default)]
pub(crate) struct Sibling(RefCell<Option<Box<Memory>>>);

/// The memory of a worker at its ready point.
#[derive(Clone)]
pub(crate) struct Memory {
    pub(crate) mappings: Vec<Mapping>,
    /// Its own pages, all of them in private mappings that can be written to.
    pub(crate) own_pages: Vec<Span>,
}

impl Sibling {
    /// What a newborn with this table has if it is as its sibling was. Nothing if there was
    /// none, or none that can be asked for.
    ///
    /// # Errors
    /// The table cannot be looked at.
    pub(crate) fn expected(&self, table: &File, annex: &Annex) -> io::Result<Option<Memory>> {
        let mut expected = self.0.borrow().as_deref().cloned();
        let mappings = expected.iter_mut().flat_map(|it| &mut it.mappings);
        for mapping in mappings.filter(|it| it.span == annex.table) {
            if let Backing::File { inode, .. } = &mut mapping.backing {
                *inode = table.metadata()?.ino();
            }
        }
        Ok(expected)
    }

    /// Writes the pages that a newborn is to have into its table, for [`fault_in`].
    ///
    /// # Errors
    /// The table cannot be written to.
    pub(crate) fn announce(&self, table: &File, annex: &Annex) -> io::Result<()> {
        let sibling = self.0.borrow();
        let pages = sibling.iter().flat_map(|it| &it.own_pages);
        let pages = pages.filter(|it| !annex.scratch.contains(it.start));
        let words = pages
            .flat_map(|it| [it.start, it.len()])
            .take(MOST_ANNOUNCED);
        let bytes: Vec<u8> = words.chain([0]).flat_map(u64::to_ne_bytes).collect();
        table.write_all_at(&bytes, 0)
    }

    /// Takes note of how one was.
    pub(crate) fn was(
        &self,
        mappings: &[Mapping],
        own_pages: &[Span],
        process: &Process,
        scanner: &PageScanner,
    ) {
        let can_be_asked =
            can_all_be_written(own_pages, mappings) && are_all(own_pages, process, scanner);
        self.0.replace(can_be_asked.then(|| {
            Box::new(Memory {
                mappings: mappings.to_vec(),
                own_pages: own_pages.to_vec(),
            })
        }));
    }
}

/// Words that are announced at most: the first program clears as much of the table.
const MOST_ANNOUNCED: usize = 512;

/// In the newborn: has those pages become its own, which takes less time than to write to them
/// one after the other (madvise(2), `MADV_POPULATE_WRITE`, since Linux 5.14).
pub(crate) fn fault_in(table: u64) {
    let words = (table as *const u64).cast::<[u64; 2]>();
    for index in 0..MOST_ANNOUNCED / 2 {
        // SAFETY: the table was mapped there, is larger, and nobody writes to it meanwhile.
        let [start, length] = unsafe { words.add(index).read() };
        if start == 0 {
            break;
        }
        // SAFETY: leaves contents as they are.
        unsafe {
            libc::madvise(
                start as *mut libc::c_void,
                length as usize,
                libc::MADV_POPULATE_WRITE,
            )
        };
    }
}

/// Adds what has a process own each of these pages, if it did not, with what is in it.
pub(crate) fn touch(pages: &[Span], program: &mut Program) {
    for page in pages.iter().flat_map(|span| span.page_addresses()) {
        program.copy(Row::Pages, page, page, 1);
    }
}

/// True if a process that owns these pages owns no others.
pub(crate) fn are_all(pages: &[Span], process: &Process, scanner: &PageScanner) -> bool {
    let expected = pages.iter().map(|span| span.pages()).sum();
    let counter = scanner.counter.as_ref();
    counter.is_some_and(|it| it.count(process) == Some(expected) || leaves_out("sibling:pages"))
}

fn can_all_be_written(pages: &[Span], mappings: &[Mapping]) -> bool {
    let mut mappings = mappings.iter().peekable();
    let mut pages = pages.iter().flat_map(|span| span.page_addresses());
    pages.all(|page| {
        while mappings.next_if(|it| it.span.end <= page).is_some() {}
        let mapping = mappings.peek().filter(|it| it.span.contains(page));
        mapping.is_some_and(|it| it.is_writable() && !it.shared)
    })
}
