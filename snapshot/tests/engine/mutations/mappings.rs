//! The list of mappings, treated worse than a program would.

use std::arch::asm;
use std::os::fd::AsRawFd;

use libc::c_void;
use refunction_snapshot::Row;

use super::registers::call_answer_and_spin;
use super::{Mutation, PAGE, Refused, Rewound, ballast_page, call, map_over, must};
use crate::guest::BALLAST;

pub const ALL: &[Mutation] = &[
    Mutation::new(
        "cut_a_mapping_into_pieces",
        Refused(Row::Mappings),
        cut_a_mapping_into_pieces,
    ),
    Mutation::new(
        "shred_the_mapping_list",
        Refused(Row::Mappings),
        shred_the_mapping_list,
    ),
    Mutation::new(
        "shred_the_mapping_list_and_no_more",
        Refused(Row::Mappings),
        shred_the_mapping_list_and_no_more,
    ),
    Mutation::new(
        "replace_the_stack",
        Refused(Row::Mappings),
        replace_the_stack,
    ),
    Mutation::new(
        "replace_memory_by_unreserved",
        Refused(Row::Mappings),
        || {
            remap_the_image(ballast_page(), libc::MAP_NORESERVE);
            0
        },
    )
    .known("a mapping list does not show the nature of a mapping"),
    Mutation::new("map_five_thousand_times", Rewound, map_five_thousand_times),
    Mutation::staying("protect_the_whole_c_library", Rewound, || {
        let (start, end) = whole("libc.so.6");
        call_answer_and_spin(libc::SYS_mprotect, &[start, end - start, 0, 0])
    }),
    Mutation::staying("unmap_the_whole_c_library", Refused(Row::Mappings), || {
        let (start, end) = whole("libc.so.6");
        call_answer_and_spin(libc::SYS_munmap, &[start, end - start, 0, 0])
    }),
    Mutation::staying("protect_the_heap", Rewound, || {
        let (start, end) = whole("memfd:snapshot");
        call_answer_and_spin(
            libc::SYS_mprotect,
            &[start, (end - start).min(64 << 10), 0, 0],
        )
    }),
    Mutation::staying(
        "unmap_all_below_its_code",
        Refused(Row::Mappings),
        unmap_all_below_its_code,
    ),
    Mutation::staying(
        "unmap_all_but_its_code",
        Refused(Row::Mappings),
        unmap_all_but_its_code,
    ),
    Mutation::staying("move_the_stack", Refused(Row::Mappings), || {
        let (start, end) = whole("[stack]");
        let length = end - start;
        let room = map(length as usize, 0) as i64;
        let flags = i64::from(libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED);
        call_answer_and_spin(libc::SYS_mremap, &[start, length, length, flags, room])
    }),
    Mutation::staying("unmap_the_stack", Refused(Row::Mappings), || {
        let (start, end) = whole("[stack]");
        call_answer_and_spin(libc::SYS_munmap, &[start, end - start, 0, 0])
    }),
    Mutation::new("unmap_the_vdso", Refused(Row::Mappings), || {
        let (start, end) = whole("[vdso]");
        must(call(libc::SYS_munmap, [start, end - start, 0, 0]))
    }),
    Mutation::new(
        "unmap_the_clocks_of_the_vdso",
        Refused(Row::Mappings),
        || {
            let (start, end) = whole("[vvar]");
            must(call(libc::SYS_munmap, [start, end - start, 0, 0]))
        },
    ),
    Mutation::new("move_the_vdso", Refused(Row::Mappings), || {
        let (start, end) = whole("[vdso]");
        let room = map(1 << 20, 0);
        let flags = i64::from(libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED);
        // SAFETY: as in `call`; five arguments.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_mremap,
                start,
                end - start,
                end - start,
                flags,
                room,
            )
        };
        must(moved.min(0))
    }),
    Mutation::new(
        "map_a_file_over_its_memory",
        Rewound,
        map_a_file_over_its_memory,
    ),
    Mutation::new("duplicate_its_memory", Rewound, || {
        // An old length of nothing duplicates shared mappings only; of private ones
        // it is refused, or gives other memory.
        // SAFETY: as in `call`.
        unsafe { libc::mremap(ballast_page().cast(), 0, PAGE, libc::MREMAP_MAYMOVE) };
        0
    }),
    Mutation::new("swap_two_pages", Rewound, swap_two_pages),
];

/// From the first mapping with this in its line to the end of the last one.
fn whole(what: &str) -> (i64, i64) {
    let text = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let mut lines = text.lines().filter(|line| line.contains(what));
    let first = lines.next().expect("mapping");
    let last = lines.next_back().unwrap_or(first);
    let number = |line: &str, index| {
        let text = line.split(['-', ' ']).nth(index).expect("range");
        i64::from_str_radix(text, 16).expect("hex")
    };
    (number(first, 0), number(last, 1))
}

fn map(bytes: usize, protection: i32) -> *mut c_void {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: as in `call`.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    assert_ne!(at, libc::MAP_FAILED);
    at
}

/// By ordinary memory that holds the same and does not grow, while this thread sleeps.
fn replace_the_stack() -> i64 {
    let (start, end) = whole("[stack]");
    let replacement = std::thread::spawn(move || {
        // Between this thread's start and its sleep it still writes to its stack.
        while !is_first_thread_asleep() {
            std::thread::yield_now();
        }
        let bytes = (end - start) as usize;
        let copy = map(bytes, libc::PROT_READ | libc::PROT_WRITE);
        let stack = start as *mut c_void;
        // SAFETY: the same contents in the same place; whose stack it is waits.
        unsafe {
            std::ptr::copy_nonoverlapping(stack.cast::<u8>(), copy.cast(), bytes);
            let at = libc::mmap(
                stack,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            );
            assert_eq!(at, stack);
            std::ptr::copy_nonoverlapping(copy.cast(), stack.cast::<u8>(), bytes);
        }
    });
    replacement.join().expect("replaced");
    0
}

/// Whether the thread whose stack is `[stack]` waits for something (proc_pid_stat(5)).
fn is_first_thread_asleep() -> bool {
    let first = std::process::id();
    let stat = std::fs::read_to_string(format!("/proc/self/task/{first}/stat")).expect("stat");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    fields.starts_with('S')
}

/// Where in the image this page of the template stands.
fn offset_in_image(page: *mut u8) -> i64 {
    let text = std::fs::read_to_string("/proc/self/maps").expect("maps");
    let hex = |text: &str| i64::from_str_radix(text, 16).expect("hex");
    text.lines()
        .filter(|line| line.contains("memfd:snapshot") && line.contains("rw-p"))
        .find_map(|line| {
            let mut fields = line.split(['-', ' ']);
            let (start, end) = (hex(fields.next()?), hex(fields.next()?));
            // The rights have a dash of their own.
            let offset = hex(fields.nth(2)?);
            (start..end)
                .contains(&(page as i64))
                .then(|| offset + page as i64 - start)
        })
        .expect("a page of the template")
}

/// Maps a page of template memory anew, from where it came.
fn remap_the_image(page: *mut u8, flags: i32) {
    // SAFETY: the same contents in the same place.
    let at = unsafe {
        libc::mmap(
            page.cast(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED | flags,
            3,
            offset_in_image(page),
        )
    };
    assert_eq!(at, page.cast());
}

/// Every other whole page of the ballast.
fn every_other_page() -> impl Iterator<Item = *mut u8> {
    let ballast = BALLAST.lock().expect("ballast");
    let start = (ballast.as_ptr() as usize).next_multiple_of(PAGE);
    let end = ballast.as_ptr() as usize + ballast.len() - PAGE;
    (start..end).step_by(2 * PAGE).map(|page| page as *mut u8)
}

fn cut_a_mapping_into_pieces() -> i64 {
    for page in every_other_page() {
        map_over(page, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: just mapped.
        unsafe { page.write(1) };
    }
    0
}

/// Pieces that the kernel does not join again, because their nature differs.
fn shred_the_mapping_list_and_no_more() -> i64 {
    for page in every_other_page() {
        remap_the_image(page, libc::MAP_NORESERVE);
    }
    0
}

fn shred_the_mapping_list() -> i64 {
    map(PAGE, libc::PROT_READ);
    shred_the_mapping_list_and_no_more()
}

fn map_five_thousand_times() -> i64 {
    for _ in 0..5000 {
        // With a page between, so that neither they nor their removals are joined.
        let at = map(2 * PAGE, libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: just mapped.
        unsafe {
            at.cast::<u8>().write(1);
            libc::munmap(at.cast::<u8>().add(PAGE).cast(), PAGE);
        }
    }
    0
}

fn unmap_all_below_its_code() -> ! {
    let code = call_answer_and_spin as *const () as i64 & -(PAGE as i64);
    let lowest = 1 << 16;
    call_answer_and_spin(libc::SYS_munmap, &[lowest, code - lowest, 0, 0])
}

fn unmap_all_but_its_code() -> ! {
    // The kernel would miss this thread's area when it next writes there.
    super::unregister_rseq();
    let code = unmap_all_but_its_code as *const () as i64 & -(PAGE as i64);
    let after = code + 2 * PAGE as i64;
    let lowest = 1 << 16;
    // SAFETY: nothing is used any more but this code, which stays.
    unsafe {
        asm!(
            "syscall",
            "mov eax, {munmap}",
            "mov rdi, r12",
            "mov rsi, r13",
            "syscall",
            "mov eax, 1",
            "mov edi, 1",
            "mov edx, 2",
            "lea rsi, [rip + 4f]",
            "syscall",
            "2: jmp 2b",
            "4: .ascii \"0\\n\"",
            munmap = const libc::SYS_munmap,
            in("rax") libc::SYS_munmap,
            in("rdi") lowest,
            in("rsi") code - lowest,
            in("r12") after,
            in("r13") 0x7fff_ffff_f000 - after,
            options(noreturn),
        )
    }
}

fn map_a_file_over_its_memory() -> i64 {
    let file = std::fs::File::open("/proc/self/exe").expect("open");
    let at = ballast_page();
    // SAFETY: the ballast is looked at only after a rewind.
    let got = unsafe {
        libc::mmap(
            at.cast(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_FIXED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_eq!(got, at.cast());
    // SAFETY: just mapped.
    unsafe { at.write(0x77) };
    0
}

/// Two pages of one mapping, each where the other was, written first: their
/// contents are as private as before, and in the wrong place.
fn swap_two_pages() -> i64 {
    let one = ballast_page();
    // SAFETY: the ballast has a megabyte, and this is its middle.
    let other = unsafe { one.add(8 * PAGE) };
    let aside = map(PAGE, 0).cast::<u8>();
    let change_place = |from: *mut u8, to: *mut u8| {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: whole pages of this process's own.
        let got = unsafe { libc::mremap(from.cast(), PAGE, PAGE, flags, to) };
        assert_eq!(got, to.cast());
    };
    // SAFETY: the ballast is writable.
    unsafe {
        one.write(1);
        other.write(2);
    }
    change_place(one, aside);
    change_place(other, one);
    change_place(aside, other);
    0
}
