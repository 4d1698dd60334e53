//! What pages are, beside what is in them.

use refunction_snapshot::Row;

use super::attributes::prctl;
use super::{Mutation, PAGE, Recorded, Refused, Rewound, ballast_page, call, map_over};
use crate::guest::{DROPPABLE, WIPED};

pub const ALL: &[Mutation] = &[
    Mutation::new("bind_memory_to_a_node", Refused(Row::MemoryAdvice), || {
        on_a_page(libc::SYS_mbind, [1, 0])
    }),
    Mutation::new("set_the_memory_policy", Refused(Row::MemoryAdvice), || {
        call(
            libc::SYS_set_mempolicy,
            [3, &raw const FIRST_NODE as i64, 64, 0],
        );
        0
    }),
    Mutation::new("name_a_home_node", Recorded, || {
        on_a_page(libc::SYS_set_mempolicy_home_node, [0, 0])
    }),
    Mutation::new("take_a_protection_key", Refused(Row::MemoryAdvice), || {
        call(libc::SYS_pkey_alloc, [0; 4]);
        0
    }),
    Mutation::new("free_a_protection_key", Refused(Row::MemoryAdvice), || {
        call(libc::SYS_pkey_free, [1, 0, 0, 0]);
        0
    }),
    Mutation::new("protect_by_a_key", Refused(Row::MemoryAdvice), || {
        on_a_page(libc::SYS_pkey_mprotect, [3, 0])
    }),
    Mutation::new("rearrange_a_file_mapping", Refused(Row::Mappings), || {
        on_a_page(libc::SYS_remap_file_pages, [0, 0])
    }),
    Mutation::new("do_without_huge_pages", Refused(Row::Attributes), || {
        prctl(libc::PR_SET_THP_DISABLE, [1, 0, 0])
    }),
    Mutation::new("write_to_wiped_areas", Rewound, write_to_wiped_areas),
    Mutation::new("have_an_area_wiped", Refused(Row::MemoryAdvice), || {
        on_a_page(libc::SYS_madvise, [libc::MADV_WIPEONFORK.into(), 0])
    }),
    Mutation::new("map_droppable_memory", Refused(Row::Mappings), || {
        let flags = libc::MAP_ANONYMOUS | MAP_DROPPABLE;
        call(libc::SYS_mmap, [0, PAGE as i64, 3, flags.into()]);
        0
    }),
    Mutation::new(
        "keep_a_wiped_area_from_the_wipe",
        Refused(Row::Mappings),
        || replace(WIPED.get()),
    )
    .known(INHERITED),
    Mutation::new("keep_droppable_memory", Refused(Row::Mappings), || {
        replace(DROPPABLE.get())
    })
    .known(INHERITED),
    Mutation::new(
        "move_a_wiped_area",
        Refused(Row::Mappings),
        move_a_wiped_area,
    ),
    Mutation::new("seal_a_mapping", Recorded, || {
        on_a_page(libc::SYS_mseal, [0, 0])
    }),
    Mutation::new("make_secret_memory", Recorded, || {
        call(libc::SYS_memfd_secret, [0; 4]);
        0
    }),
    Mutation::new("seal_the_image", Refused(Row::Descriptors), || {
        call(libc::SYS_fcntl, [3, libc::F_ADD_SEALS.into(), 0, 0]);
        0
    }),
];

/// A mapping list does not tell such an area from ordinary memory.
const INHERITED: &str = "forks inherit it from now on";

static FIRST_NODE: u64 = 1;

/// `MAP_DROPPABLE` (`linux/mman.h`, since 6.11).
pub const MAP_DROPPABLE: i32 = 0x08;

/// A call on one page of template memory, whose outcome does not matter.
fn on_a_page(number: libc::c_long, rest: [i64; 2]) -> i64 {
    call(
        number,
        [ballast_page() as i64, PAGE as i64, rest[0], rest[1]],
    );
    0
}

fn areas() -> impl Iterator<Item = *mut u8> {
    [WIPED.get(), DROPPABLE.get()]
        .into_iter()
        .flatten()
        .map(|area| *area as *mut u8)
}

fn write_to_wiped_areas() -> i64 {
    for area in areas() {
        // SAFETY: mapped by the template, one page, and used by nobody else.
        unsafe { area.write_bytes(0x77, PAGE) };
    }
    0
}

/// Puts ordinary memory in the place of an area that forks must not inherit.
fn replace(area: Option<&usize>) -> i64 {
    let Some(area) = area else {
        // A kernel that has no such areas has nothing to replace.
        return 0;
    };
    map_over(*area as *mut u8, libc::PROT_READ | libc::PROT_WRITE)
}

fn move_a_wiped_area() -> i64 {
    let area = *WIPED.get().expect("an area");
    let flags = i64::from(libc::MREMAP_MAYMOVE);
    call(
        libc::SYS_mremap,
        [area as i64, PAGE as i64, 16 * PAGE as i64, flags],
    );
    0
}

/// What stands in the areas that are to be wiped.
pub fn look() -> String {
    areas()
        // SAFETY: as above.
        .map(|area| unsafe { format!("{:#x}", area.read_volatile()) })
        .collect::<Vec<_>>()
        .join(",")
}
