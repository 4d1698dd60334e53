//! Workers of one template that are not as those before them: what the engine knows of one
//! does not hold for the next.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use refunction_snapshot::{Scan, inside};

use crate::guest;
use crate::host::Host;

/// Tells this program to become their template.
pub const TEMPLATE: &str = "--template-of-siblings";

const PAGE: usize = 4096;

/// Pages of the template's: a worker writes to one of two before its ready point, and has a
/// third one or unmaps it. There is a page between each two of these.
static PAGES: OnceLock<usize> = OnceLock::new();
const WRITTEN: [usize; 2] = [0, 2];
const UNMAPPED: usize = 4;

/// How the worker of this process is.
struct Kind {
    writes_to: usize,
    unmaps: bool,
}

impl Kind {
    fn of(process: u32) -> Self {
        Self {
            writes_to: (process % 2) as usize,
            unmaps: process % 4 >= 2,
        }
    }
}

/// Each case's name, and what it does.
pub const ALL: &[(&str, fn())] = &[("workers_that_are_not_alike", workers_that_are_not_alike)];

fn page(index: usize) -> *mut libc::c_void {
    (PAGES.get().expect("made by the template") + index * PAGE) as *mut _
}

/// Becomes the template, and its workers.
pub fn template() -> ! {
    let template = inside::Template::adopt().expect("adopted by the engine");
    let pages = map(std::ptr::null_mut(), 5 * PAGE, 0);
    PAGES.set(pages as usize).expect("set once");
    // SAFETY: new memory.
    unsafe { pages.cast::<u8>().write_bytes(0x11, 5 * PAGE) };
    let Ok(inside::Born::Worker(newborn)) = template.serve(b"guest") else {
        // The host is done with it.
        std::process::exit(0)
    };
    guest::privileges();
    let kind = Kind::of(std::process::id());
    // SAFETY: a page of the template's.
    unsafe { page(WRITTEN[kind.writes_to]).cast::<u8>().write(0x22) };
    if kind.unmaps {
        unmap();
    }
    inside::ready_point();
    guest::serve_newborn(newborn)
}

/// Private memory that can be written to.
fn map(at: *mut libc::c_void, length: usize, flags: libc::c_int) -> *mut libc::c_void {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: new memory, or where this template's workers have nothing of worth.
    let at = unsafe { libc::mmap(at, length, 3, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    at
}

fn unmap() {
    // SAFETY: nobody uses it.
    assert_eq!(unsafe { libc::munmap(page(UNMAPPED), PAGE) }, 0);
}

/// What a worker does when asked; runs in the worker.
pub fn act(what: &str) -> Option<String> {
    Some(match what {
        "kind" => kind(),
        "be_of_no_kind" => {
            for index in WRITTEN {
                // SAFETY: a page of the template's.
                unsafe { page(index).cast::<u8>().write(0x99) };
            }
            match Kind::of(std::process::id()).unmaps {
                true => drop(map(page(UNMAPPED), PAGE, libc::MAP_FIXED)),
                false => unmap(),
            }
            "done".into()
        }
        _ => return None,
    })
}

fn kind() -> String {
    // SAFETY: pages of the template's.
    let written = WRITTEN.map(|index| unsafe { page(index).cast::<u8>().read_volatile() });
    // SAFETY: does nothing but to fail where nothing is mapped (msync(2)).
    let is_mapped = unsafe { libc::msync(page(UNMAPPED), PAGE, libc::MS_ASYNC) } == 0;
    format!("{written:x?} {is_mapped}")
}

/// Each after one like itself, after one that wrote to another page, and after one with other
/// mappings.
fn workers_that_are_not_alike() {
    const MOST: u32 = 1000;
    const DIFFERENCES: [u32; 3] = [0, 1, 2];
    let mut host = Host::of_template(Scan::Auto, TEMPLATE);
    let mut before: Option<u32> = None;
    let mut seen = BTreeSet::new();
    for turn in 0..MOST {
        let process = host.pid().as_raw().unsigned_abs();
        let kind = Kind::of(process);
        let mut written = [0x11; 2];
        written[kind.writes_to] = 0x22;
        let expected = format!("{written:x?} {}", !kind.unmaps);
        for _ in 0..2 {
            assert_eq!(host.ask("kind"), expected, "{process} after {before:?}");
            host.rewind().expect("rewound after a look");
            assert_eq!(host.ask("be_of_no_kind"), "done");
            assert_ne!(host.ask("kind"), expected, "the look does not see it");
            host.rewind().expect("rewound");
        }
        let difference = before.map(|before| (before ^ process) % 4);
        let difference = difference.filter(|it| DIFFERENCES.contains(it));
        seen.extend(difference.map(|difference| (process % 4, difference)));
        if seen.len() == 4 * DIFFERENCES.len() {
            return;
        }
        before = Some(process);
        let wanted = DIFFERENCES
            .into_iter()
            .find(|it| !seen.contains(&((process ^ it) % 4, *it)));
        let next = process ^ wanted.unwrap_or(turn % 4);
        // Use up numbers until then.
        for _ in 0..next.wrapping_sub(process + 1) % 4 {
            std::thread::spawn(|| ()).join().expect("a thread");
        }
        host.replace_worker();
    }
    panic!("of {MOST} workers there were only {seen:?}");
}
